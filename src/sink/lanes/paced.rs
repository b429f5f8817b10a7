//! Ready records of shards with a rate in force, in one queue for each of these shards, so that a shard
//! without tokens delays no other shard. The oldest record that may be sent is first, whichever queue it is
//! in.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use tokio::time::Instant;

use super::ready::ReadySet;
use crate::sink::pacing::Waiting;
use crate::sink::rate::Amount;
use crate::sink::shards::{Place, Shards};

#[derive(Debug, Default)]
struct Queue {
    set: ReadySet,
    records: usize,
    bytes: usize,
}

impl Queue {
    #[expect(clippy::cast_precision_loss, reason = "counts of a window are far below 2^52")]
    fn amount(&self) -> Amount {
        [self.records as f64, self.bytes as f64]
    }
}

/// All queues, by the shard's place.
#[derive(Debug, Default)]
pub(super) struct Paced {
    queues: Vec<Queue>,
    /// Places of queues that are not empty.
    used: Vec<Place>,
    /// The oldest record of each shard that has tokens. At most one per shard.
    due: BinaryHeap<Reverse<(u64, Place)>>,
    open: Waiting,
}

impl Paced {
    /// Adds a record. `first` is the window's first one.
    pub(super) fn push(&mut self, (place, seq): (Place, u64), size: usize, first: u64) {
        if self.queues.len() <= place.index() {
            self.queues.resize_with(place.index() + 1, Queue::default);
        }
        let Some(queue) = self.queues.get_mut(place.index()) else { return };
        queue.set.advance(first);
        queue.set.insert(seq);
        if queue.records == 0 && !self.used.contains(&place) {
            self.used.push(place);
        }
        queue.records += 1;
        queue.bytes += size;
    }

    /// Adds the tokens up to now, and determines which shards may send. Returns places whose shard has no
    /// rate any more.
    pub(super) fn begin(&mut self, shards: &mut Shards, now: Instant) -> Vec<Place> {
        self.due.clear();
        self.open = Waiting::default();
        let mut loose = Vec::new();
        let queues = &mut self.queues;
        self.used.retain(|place| queues.get(place.index()).is_some_and(|queue| queue.records > 0));
        for place in &self.used {
            let Some(queue) = queues.get_mut(place.index()) else { continue };
            if !shards.advance(*place, now) {
                loose.push(*place);
                continue;
            }
            let Some(rate) = shards.rate(*place) else { continue };
            if rate.may_start(queue.amount(), now)
                && let Some(seq) = queue.set.oldest()
            {
                let [records, bytes] = rate.room(queue.amount()).map(whole);
                self.open.records += records;
                self.open.bytes += bytes;
                self.due.push(Reverse((seq, *place)));
            }
        }
        loose
    }

    /// Empties a queue and returns its records, oldest first.
    pub(super) fn drain(&mut self, place: Place) -> Vec<u64> {
        let Some(queue) = self.queues.get_mut(place.index()) else { return Vec::new() };
        let mut set = std::mem::take(queue).set;
        std::iter::from_fn(|| set.oldest().inspect(|seq| set.remove(*seq))).collect()
    }

    /// Records and bytes that may be sent, as determined by [`begin`](Self::begin).
    pub(super) fn open(&self) -> Waiting {
        self.open
    }

    /// The oldest record that may be sent.
    pub(super) fn oldest(&self) -> Option<(u64, Place)> {
        self.due.peek().map(|Reverse(oldest)| *oldest)
    }

    /// Removes the record that [`oldest`](Self::oldest) returned from the choice. With `more`, the next
    /// record of its shard may be sent.
    pub(super) fn next(&mut self, more: bool) {
        let Some(Reverse((_, place))) = self.due.pop() else { return };
        let queue = self.queues.get_mut(place.index()).filter(|_| more);
        if let Some(seq) = queue.and_then(|queue| queue.set.oldest()) {
            self.due.push(Reverse((seq, place)));
        }
    }

    /// Removes a record, whichever queue it is in.
    pub(super) fn remove(&mut self, seq: u64, size: usize) {
        let queues = &mut self.queues;
        let holder = self
            .used
            .iter()
            .find(|place| queues.get(place.index()).is_some_and(|queue| queue.set.contains(seq)));
        if let Some(queue) = holder.and_then(|place| queues.get_mut(place.index())) {
            queue.set.remove(seq);
            queue.records = queue.records.saturating_sub(1);
            queue.bytes = queue.bytes.saturating_sub(size);
        }
    }

    /// Whether records wait for a shard's tokens.
    pub(super) fn is_waiting(&self, place: Place) -> bool {
        self.queues.get(place.index()).is_some_and(|queue| queue.records > 0)
    }

    /// When each shard without tokens may have some again.
    pub(super) fn starts(&self, shards: &Shards, now: Instant) -> impl Iterator<Item = Instant> {
        self.used.iter().filter_map(move |place| {
            let queue = self.queues.get(place.index()).filter(|queue| queue.records > 0)?;
            Some(shards.rate_of(*place)?.next_start(queue.amount(), now))
        })
    }

    /// Frees the memory below the window's first record.
    pub(super) fn advance(&mut self, first: u64) {
        for place in &self.used {
            if let Some(queue) = self.queues.get_mut(place.index()) {
                queue.set.advance(first);
            }
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts of a window, never negative"
)]
fn whole(amount: f64) -> usize {
    amount.max(0.0) as usize
}
