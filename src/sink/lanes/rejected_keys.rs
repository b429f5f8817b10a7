//! Keys with a rejected record since the service last accepted one of their records.
//!
//! One key or one shard that is rejected for hours is not an outage of the stream. It is an outage only if
//! something is rejected that was accepted before. When a section is read again, its records are forgotten,
//! but these keys are not.

use std::collections::BTreeSet;

use crate::event::KeyHash;

/// Most keys remembered. More are rejected only in an outage, or by a whole shard.
const KEYS_MAX: usize = 1024;

/// The bounded set of these keys.
#[derive(Debug, Default)]
pub(super) struct RejectedKeys {
    keys: BTreeSet<KeyHash>,
    /// Whether, since the last acceptance, a key was rejected that is not in the set, and whose shard had
    /// accepted records until then.
    new_rejection: bool,
}

impl RejectedKeys {
    /// Notes that a record of this key was rejected. `by_shard`: its shard is known to accept nothing.
    pub(super) fn note_rejected(&mut self, key: KeyHash, by_shard: bool) {
        let is_new = if self.keys.len() < KEYS_MAX { self.keys.insert(key) } else { !self.contains(key) };
        self.new_rejection |= is_new && !by_shard;
    }

    /// Notes that the service accepted a record of this key.
    pub(super) fn note_accepted(&mut self, key: KeyHash) {
        self.new_rejection = false;
        self.forget(key);
    }

    /// Removes a key whose record was finished in another way.
    pub(super) fn forget(&mut self, key: KeyHash) {
        if !self.keys.is_empty() {
            self.keys.remove(&key);
        }
    }

    pub(super) fn contains(&self, key: KeyHash) -> bool {
        self.keys.contains(&key)
    }

    /// Whether the last event was a new rejection.
    pub(super) const fn has_new_rejection(&self) -> bool {
        self.new_rejection
    }

    /// Number of keys in the set.
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
        let mut keys = RejectedKeys::default();
        keys.note_rejected(one, false);
        assert!(keys.has_new_rejection());
        keys.note_accepted(other);
        keys.note_rejected(one, false);
        assert!(!keys.has_new_rejection() && keys.contains(one), "still the same key");
        keys.note_rejected(other, true);
        assert!(!keys.has_new_rejection() && keys.len() == 2, "its shard takes nothing");
        keys.note_accepted(other);
        keys.note_rejected(other, false);
        assert!(keys.has_new_rejection(), "it was taken in between");
        keys.note_accepted(one);
        keys.forget(other);
        assert_eq!((keys.len(), keys.has_new_rejection()), (0, false));
    }

    #[test]
    fn known_keys_are_bounded() {
        let mut keys = RejectedKeys::default();
        (0..2_000).for_each(|n| keys.note_rejected(KeyHash(n), false));
        assert_eq!(keys.len(), KEYS_MAX);
        keys.note_accepted(KeyHash(0));
        keys.note_rejected(KeyHash(1), false);
        assert!(!keys.has_new_rejection());
    }
}
