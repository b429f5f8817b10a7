//! Keys of which the service has rejected a record since it last accepted one.
//!
//! If one key or one shard is rejected for hours, that is not an outage of the stream. It is one only if
//! something is rejected that was accepted before. Records are forgotten when a section is read again; keys
//! are not.

use std::collections::BTreeSet;

use crate::event::KeyHash;

/// Most keys that are known. More are rejected only in an outage, or by one shard.
const KEYS_MAX: usize = 1024;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct RefusedKeys {
    keys: BTreeSet<KeyHash>,
    /// Since the last acceptance a key was rejected that was not known, and whose shard accepted records
    /// until then.
    news: bool,
}

impl RefusedKeys {
    /// A record of this key was rejected; `by_shard`: its shard is known to accept nothing.
    pub(super) fn refused(&mut self, key: KeyHash, by_shard: bool) {
        let is_new = if self.keys.len() < KEYS_MAX { self.keys.insert(key) } else { !self.contains(key) };
        self.news |= is_new && !by_shard;
    }

    /// The service accepted a record of this key.
    pub(super) fn accepted(&mut self, key: KeyHash) {
        self.news = false;
        self.forget(key);
    }

    /// The key's record is finished otherwise.
    pub(super) fn forget(&mut self, key: KeyHash) {
        if !self.keys.is_empty() {
            self.keys.remove(&key);
        }
    }

    pub(super) fn contains(&self, key: KeyHash) -> bool {
        self.keys.contains(&key)
    }

    /// Whether the last news is a refusal.
    pub(super) const fn has_news(&self) -> bool {
        self.news
    }

    /// How many keys are known.
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusal_of_known_key_or_shard_is_no_news() {
        let (one, other) = (KeyHash(1), KeyHash(2));
        let mut keys = RefusedKeys::default();
        keys.refused(one, false);
        assert!(keys.has_news());
        keys.accepted(other);
        keys.refused(one, false);
        assert!(!keys.has_news() && keys.contains(one), "still the same key");
        keys.refused(other, true);
        assert!(!keys.has_news() && keys.len() == 2, "its shard takes nothing");
        keys.accepted(other);
        keys.refused(other, false);
        assert!(keys.has_news(), "it was taken in between");
        keys.accepted(one);
        keys.forget(other);
        assert_eq!((keys.len(), keys.has_news()), (0, false));
    }

    #[test]
    fn known_keys_are_bounded() {
        let mut keys = RefusedKeys::default();
        (0..2_000).for_each(|n| keys.refused(KeyHash(n), false));
        assert_eq!(keys.len(), KEYS_MAX);
        keys.accepted(KeyHash(0));
        keys.refused(KeyHash(1), false);
        assert!(!keys.has_news());
    }
}
