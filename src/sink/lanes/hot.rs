//! The keys with the most accepted records: a sketch of bounded size (Misra and Gries, "Finding repeated
//! elements").
//!
//! A key with more than a `KEYS_MAX`th of the events is always included. Its count is too low by at most that
//! many. Counts are halved from time to time, so that they describe the last minutes. A record costs one
//! look-up in a map.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use crate::event::{KeyHash, PassthroughHasher};

/// Number of counters.
const KEYS_MAX: usize = 128;
/// From this count on, the text of a key is stored. Most keys occur only once.
const NAMED_FROM: u64 = 8;
/// Most bytes of a key that are stored.
const NAME_MAX: usize = 64;
/// After this time the counts are halved.
const HALVED_AFTER: Duration = Duration::from_mins(2);

/// A frequent key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HotKey {
    /// Hash of the key.
    pub hash: KeyHash,
    /// The beginning of the key's text.
    pub text: String,
    /// Approximate number of its events in the last minutes.
    pub events: u64,
}

#[derive(Debug, Default)]
struct Counter {
    events: u64,
    text: Option<Box<[u8]>>,
}

/// The sketch.
#[derive(Debug, Default)]
pub(super) struct HotKeys {
    counters: HashMap<KeyHash, Counter, BuildHasherDefault<PassthroughHasher>>,
    /// All events, halved together with the counters.
    total: u64,
    halved: Option<Instant>,
}

impl HotKeys {
    /// Counts accepted events of a key.
    pub(super) fn accepted(&mut self, hash: KeyHash, key: &Bytes, events: usize) {
        let events = events as u64;
        self.total += events;
        if let Some(counter) = self.counters.get_mut(&hash) {
            counter.events += events;
            if counter.text.is_none() && counter.events >= NAMED_FROM {
                counter.text = Some(key.get(..key.len().min(NAME_MAX)).unwrap_or_default().into());
            }
            return;
        }
        if self.counters.len() < KEYS_MAX {
            self.counters.insert(hash, Counter { events, text: None });
            return;
        }
        // Such a step lowers all counters, but only by as many events as it adds, so on average it is cheap.
        let least =
            self.counters.values().map(|counter| counter.events).min().unwrap_or_default().min(events);
        self.counters.retain(|_, counter| {
            counter.events -= least;
            counter.events > 0
        });
        if events > least {
            self.counters.insert(hash, Counter { events: events - least, text: None });
        }
    }

    /// The most frequent keys, at most `most`, and the number of all events counted.
    pub(super) fn hottest(&mut self, most: usize, now: Instant) -> (Vec<HotKey>, u64) {
        if now.saturating_duration_since(*self.halved.get_or_insert(now)) >= HALVED_AFTER {
            self.halved = Some(now);
            self.total /= 2;
            self.counters.retain(|_, counter| {
                counter.events /= 2;
                counter.events > 0
            });
        }
        let hot = |(hash, counter): (&KeyHash, &Counter)| {
            let text = String::from_utf8_lossy(counter.text.as_ref()?).into_owned();
            Some(HotKey { hash: *hash, text, events: counter.events })
        };
        let mut keys: Vec<HotKey> = self.counters.iter().filter_map(hot).collect();
        keys.sort_unstable_by_key(|key| (std::cmp::Reverse(key.events), key.hash.0));
        keys.truncate(most);
        (keys, self.total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heavy_key_is_found_among_many_light_ones() {
        let mut hot = HotKeys::default();
        let now = Instant::now();
        for n in 0..100_000_u64 {
            let light = format!("light {n}");
            hot.accepted(KeyHash::of(&light), &Bytes::from(light), 1);
            if n % 4 == 0 {
                hot.accepted(KeyHash::of("heavy"), &Bytes::from_static(b"heavy"), 1);
            }
        }
        assert!(hot.counters.len() <= KEYS_MAX);
        let (keys, total) = hot.hottest(1, now);
        assert_eq!((keys.len(), keys[0].text.as_str(), total), (1, "heavy", 125_000));
        let (most, least) = (25_000, 25_000 - 125_000 / KEYS_MAX as u64);
        assert!((least..=most).contains(&keys[0].events), "{keys:?}");
        // The count of a key without new events decreases.
        let mut later = now;
        for _ in 0..20 {
            later += HALVED_AFTER;
            hot.hottest(1, later);
        }
        assert_eq!(hot.hottest(1, later), (Vec::new(), 0));
    }

    #[test]
    fn key_text_is_bounded() {
        let mut hot = HotKeys::default();
        let long = "ä".repeat(1_000);
        hot.accepted(KeyHash(1), &Bytes::from(long.clone()), 5);
        assert_eq!(hot.hottest(9, Instant::now()).0, []);
        hot.accepted(KeyHash(1), &Bytes::from(long), 5);
        assert_eq!(hot.hottest(9, Instant::now()).0[0].text, "ä".repeat(NAME_MAX / 2));
    }
}
