//! Which keys the service has refused since it last took something of them.
//!
//! One key, or one shard, that is refused for hours is not an outage of the stream: that is one only if something is refused
//! of which nothing was refused before. Records are forgotten when a lane is read again; keys are not.

use std::collections::BTreeSet;

use crate::event::KeyHash;

/// Keys that are known. More are refused only in an outage, or of one shard.
const KEYS_MAX: usize = 1024;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct RefusedKeys {
    keys: BTreeSet<KeyHash>,
    /// Since the last acceptance a key was refused that is none of these, and whose shard took something until then.
    news: bool,
}

impl RefusedKeys {
    /// A record of this key was refused; whether its shard is known to take nothing.
    pub(super) fn refused(&mut self, key: KeyHash, by_shard: bool) {
        let is_new = if self.keys.len() < KEYS_MAX { self.keys.insert(key) } else { !self.contains(key) };
        self.news |= is_new && !by_shard;
    }

    /// The service took a record of this key.
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

    /// How many are refused.
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
