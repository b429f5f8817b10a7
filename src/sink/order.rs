//! Checks at run time that the destination numbers the records of a key in the order in which it accepted
//! them. No AWS document guarantees that for `PutRecords`.
//!
//! A record is sent only after the previous record of its key was acknowledged, so its sequence number must
//! be higher: consumers read a shard's records by ascending number. AWS documents this only for another
//! operation. Numbers of different shards are not compared. After a reshard the key is in another shard, and
//! consumers that read parent shards first see the right order.
//!
//! Memory: one number for each key that has an accepted record and another one in the window. Cost: nothing
//! for a key whose events come one at a time; otherwise one look-up, and the number's text is stored.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::hash::BuildHasherDefault;

use crate::event::{KeyHash, PassthroughHasher};

/// Shard and sequence number of an accepted record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its shard.
    pub shard: String,
    /// Its sequence number: decimal, and longer than any integer.
    pub sequence: String,
}

/// A later record of a key did not get a higher number than an earlier one in the same shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fall {
    /// The shard of both.
    pub shard: String,
    /// Sequence number of the earlier record.
    pub before: String,
    /// Sequence number of the later record.
    pub after: String,
}

/// The last sequence number of each key that has more to send.
#[derive(Debug, Default)]
pub struct OrderCheck {
    last: HashMap<KeyHash, Place, BuildHasherDefault<PassthroughHasher>>,
}

impl OrderCheck {
    /// Checks the number of an accepted record. `more`: the key has further records in the window.
    pub fn accepted(&mut self, key: KeyHash, place: Place, more: bool) -> Option<Fall> {
        if self.last.is_empty() && !more {
            return None;
        }
        let fall = self.last.get(&key).and_then(|before| fall(before, &place));
        if more {
            self.last.insert(key, place);
        } else {
            self.last.remove(&key);
        }
        fall
    }

    /// Removes a key that has no more records in the window.
    pub fn forget(&mut self, key: KeyHash) {
        if !self.last.is_empty() {
            self.last.remove(&key);
        }
    }

    /// Number of keys with a stored sequence number.
    pub fn len(&self) -> usize {
        self.last.len()
    }

    /// Whether no key has a stored sequence number.
    pub fn is_empty(&self) -> bool {
        self.last.is_empty()
    }
}

fn fall(before: &Place, after: &Place) -> Option<Fall> {
    // If one of them is not a number, the order is unknown.
    let rises = compare(&before.sequence, &after.sequence).is_none_or(Ordering::is_lt);
    (!rises && before.shard == after.shard).then(|| Fall {
        shard: after.shard.clone(),
        before: before.sequence.clone(),
        after: after.sequence.clone(),
    })
}

/// Compares two decimal numbers of any length; `None` if one of them is not a number.
fn compare(one: &str, other: &str) -> Option<Ordering> {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(one) || !digits(other) {
        return None;
    }
    let (one, other) = (one.trim_start_matches('0'), other.trim_start_matches('0'));
    Some(one.len().cmp(&other.len()).then_with(|| one.cmp(other)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: KeyHash = KeyHash(7);

    fn place(shard: &str, sequence: &str) -> Place {
        Place { shard: shard.to_owned(), sequence: sequence.to_owned() }
    }

    #[test]
    fn sequence_numbers_of_any_length_compare_numerically() {
        const LONG: &str = "49590338271490256608559692538361571095921575989136588898";
        for (one, other, expected) in [
            ("9", "10", Some(Ordering::Less)),
            ("0010", "9", Some(Ordering::Greater)),
            ("007", "7", Some(Ordering::Equal)),
            ("0", "000", Some(Ordering::Equal)),
            (LONG, "49590338271490256608559692538361571095921575989136588899", Some(Ordering::Less)),
            (LONG, LONG, Some(Ordering::Equal)),
            (LONG, "5", Some(Ordering::Greater)),
            ("", "1", None),
            ("1", "-2", None),
            ("1", "0x2", None),
        ] {
            assert_eq!(compare(one, other), expected, "{one} {other}");
            assert_eq!(compare(other, one), expected.map(Ordering::reverse), "{other} {one}");
        }
    }

    #[test]
    fn falling_sequence_number_is_found_per_shard() {
        for (before, after, found) in [
            (("s0", "10"), ("s0", "11"), false),
            (("s0", "10"), ("s0", "9"), true),
            (("s0", "10"), ("s0", "10"), true),
            (("s0", "10"), ("s2", "9"), false),
            (("s0", "10"), ("s0", "none"), false),
            (("s0", "none"), ("s0", "9"), false),
        ] {
            for more in [true, false] {
                let mut order = OrderCheck::default();
                assert_eq!(order.accepted(KEY, place(before.0, before.1), true), None);
                assert_eq!(order.accepted(KeyHash(8), place("s0", "99"), true), None, "another key");
                let fall = order.accepted(KEY, place(after.0, after.1), more);
                assert_eq!(fall.is_some(), found, "{before:?} {after:?}");
                if let Some(Fall { shard, before: one, after: other }) = fall {
                    assert_eq!((&*shard, &*one, &*other), (after.0, before.1, after.1));
                }
            }
        }
    }

    #[test]
    fn only_keys_with_waiting_records_are_remembered() {
        let mut order = OrderCheck::default();
        for key in 0..1000 {
            order.accepted(KeyHash(key), place("s0", "5"), false);
        }
        assert!(order.is_empty());
        for key in 0..10 {
            order.accepted(KeyHash(key), place("s0", "5"), true);
        }
        assert_eq!(order.len(), 10);
        for key in 0..5 {
            order.accepted(KeyHash(key), place("s0", "6"), false);
            order.forget(KeyHash(key + 5));
        }
        assert!(order.is_empty());
        assert_eq!(order.accepted(KEY, place("s0", "1"), true), None, "what is forgotten is not compared");
    }
}
