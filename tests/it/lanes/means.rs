//! What the model is made with: numbers by chance, records of them, and bytes that say how many of them live.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use forebay::event::{KeyHash, RecordKind};
use forebay::position::{CommitSeq, Transaction};
use forebay::sink::lanes::{Start, Ticket};

use super::counts::Counts;

/// Frame and part.
pub(super) type Id = (u64, u16);

pub(super) struct Out {
    pub(super) ticket: Ticket,
    /// Of each record.
    pub(super) ids: Vec<Vec<Id>>,
}

/// What was written to the checkpoint: progress, and the counts with it.
pub(super) struct Saved {
    pub(super) start: Start,
    pub(super) counts: Counts,
}

/// Draws numbers.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }

    /// All bits by chance.
    pub(super) fn hash(&mut self) -> u64 {
        self.below(1 << 31) << 33 | self.below(1 << 31) << 2 | self.below(4)
    }

    pub(super) fn percent(&mut self, n: u64) -> bool {
        self.below(100) < n
    }
}

/// Bytes that are counted as long as they live.
pub(super) struct Counted(pub(super) Vec<u8>, pub(super) Arc<AtomicUsize>);

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.1.fetch_sub(self.0.len(), Ordering::Relaxed);
    }
}

/// A record of the log.
pub(super) struct Written {
    pub(super) kind: RecordKind,
    pub(super) hash: KeyHash,
    pub(super) key: String,
    pub(super) line: String,
}

/// Every fifth frame is injected.
pub(super) fn transaction(frame: u64) -> Option<Transaction> {
    let xid = u32::try_from(frame / 3).unwrap();
    (frame % 5 != 4).then(|| Transaction { commit: CommitSeq::new(u64::from(xid) * 16 + 8), xid, time: 0 })
}

/// A record by chance, of one of so many keys or of the hot one.
pub(super) fn written(random: &mut Random, keys: u64, frame: u64, part: u16) -> Written {
    let key = if random.percent(30) { "hot".to_owned() } else { format!("k{}", random.below(keys)) };
    let kind = if random.percent(4) { RecordKind::DeadLetter } else { RecordKind::Event };
    let filling = if random.percent(3) { 700 } else { usize::try_from(random.below(200)).unwrap() };
    let hash = KeyHash::of(&key);
    Written { kind, hash, key, line: format!("{frame} {part} {}\n", "x".repeat(filling)) }
}

/// What a line says of itself.
pub(super) fn id_of(line: &[u8]) -> (u64, u16) {
    let mut words = std::str::from_utf8(line).unwrap().split(' ');
    (words.next().unwrap().parse().unwrap(), words.next().unwrap().parse().unwrap())
}
