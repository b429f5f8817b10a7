//! Who stands where: received, held, published, settled. Pure: the keeper does the I/O around it.
//!
//! - *received*: appended to the log, up to `tail`.
//! - *held*: fsynced in the log *and* noted in the checkpoint.
//! - *published*: accepted by the stream *and* written in the checkpoint.
//! - *settled*: published or held (with `confirm_after = "never"`: published).
//!
//! A `Marker` says which LSN may be confirmed once a frame is settled. Markers belong to one connection: what another
//! connection delivered is never confirmed on this one. [`Ledger::prepare`] makes the next checkpoint, with `told` raised
//! to what is about to be confirmed; only [`Ledger::written`], called after its fsync, gives out the [`Settled`].

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::config::ConfirmAfter;
use crate::position::{FrameNo, Lsn, Transaction};

use super::checkpoint::{Checkpoint, Injection, Mark, Retry, StreamIdentity, Totals};
use super::dead_letter::LetterId;
use super::log::Tail;

/// Proof that everything received before this LSN on this connection is settled and that the checkpoint says so. Only the
/// buffer makes one, so that confirming too early does not compile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled {
    lsn: Lsn,
    connection: u64,
}

impl Settled {
    /// What may be confirmed.
    pub const fn lsn(&self) -> Lsn {
        self.lsn
    }

    /// The connection that delivered it; on another one it means nothing.
    pub const fn connection(&self) -> u64 {
        self.connection
    }
}

/// How far something has come: a frame, and the change and transaction at or before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reached {
    /// Frame and position.
    pub mark: Mark,
    /// The transaction of that change, if there was one.
    pub transaction: Option<Transaction>,
}

impl From<Tail> for Reached {
    fn from(tail: Tail) -> Self {
        Self { mark: tail.mark(), transaction: tail.transaction }
    }
}

/// Once this frame is settled, this LSN may be confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Marker {
    frame: FrameNo,
    lsn: Lsn,
}

/// What the publish loop reports. All of it is the state now, except the books, which are added.
#[derive(Clone, Debug, Default)]
pub struct Published {
    /// Everything up to here is published.
    pub low: Reached,
    /// Per lane, what is published beyond low.
    pub lanes: Vec<(u8, FrameNo)>,
    /// Single records published beyond their lane's progress.
    pub answered: Vec<(FrameNo, u16)>,
    /// The highest transaction of which any record is published; of this epoch.
    pub highest: Option<Transaction>,
    /// What low has passed since the last report, per event type.
    pub books: Vec<(String, Totals)>,
    /// Who holds low back, if some cannot keep up with the others.
    pub behind: Option<Behind>,
}

/// Lanes that are fed apart because they cannot keep up; for a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Behind {
    /// Such as `0-63`.
    pub lanes: String,
    /// The shard that took the last records of them, if this process knows of one.
    pub shard: Option<String>,
}

/// Markers kept at most. Beyond it every second one is forgotten, which only makes confirms coarser.
const MARKERS_MAX: usize = 4_096;

/// Event types with books of their own: they must fit into the checkpoint's slot. A database with more has the rest in one
/// book.
const BOOKS_MAX: usize = 4_096;

/// The book of the types beyond [`BOOKS_MAX`].
const OTHER_TYPES: &str = "(other types)";

/// How finely the age of the tail is known, as a fraction of `confirm_after`.
const AGE_STEPS: u32 = 32;

/// The account of the buffer.
#[derive(Debug)]
pub struct Ledger {
    confirm_after: ConfirmAfter,
    /// What the checkpoint file says.
    written: Checkpoint,
    tail: Reached,
    synced: Reached,
    published: Published,
    books: BTreeMap<String, Totals>,
    stream: Option<StreamIdentity>,
    timeline: u32,
    injected: Vec<(FrameNo, Injection)>,
    /// Retries that are not in the checkpoint yet.
    asked: Vec<Retry>,
    /// Settled retries of which the dead-letter file says so too.
    closed: Vec<LetterId>,
    markers: VecDeque<Marker>,
    connection: u64,
    /// When the tail stood where, oldest first.
    ages: VecDeque<(Instant, FrameNo)>,
}

impl Ledger {
    /// Goes on from a checkpoint, after recovery has cut the log to `tail`.
    pub fn new(written: Checkpoint, confirm_after: ConfirmAfter) -> Self {
        let reached = |mark| Reached { mark, transaction: None };
        let tail = if written.held.frame > written.low.frame { written.held } else { written.low };
        Self {
            confirm_after,
            tail: reached(tail),
            synced: reached(written.held),
            published: Published {
                low: reached(written.low),
                lanes: written.lanes.clone(),
                answered: written.answered.clone(),
                highest: None,
                books: Vec::new(),
                behind: None,
            },
            books: written.books.clone(),
            stream: written.identity.stream.clone(),
            timeline: written.identity.timeline,
            injected: in_the_log(&written, tail.frame),
            asked: Vec::new(),
            closed: Vec::new(),
            markers: VecDeque::new(),
            connection: 0,
            ages: VecDeque::new(),
            written,
        }
    }

    /// What the checkpoint file says.
    pub const fn checkpoint(&self) -> &Checkpoint {
        &self.written
    }

    /// The last frame received.
    pub const fn tail(&self) -> Reached {
        self.tail
    }

    /// Everything up to it is published.
    pub const fn low(&self) -> Reached {
        self.published.low
    }

    /// Where a publish attempt begins.
    pub const fn published(&self) -> &Published {
        &self.published
    }

    /// The books, with what is not in the checkpoint yet.
    pub const fn books(&self) -> &BTreeMap<String, Totals> {
        &self.books
    }

    /// The stream events go to, once it is known.
    pub const fn stream(&self) -> Option<&StreamIdentity> {
        self.stream.as_ref()
    }

    /// The highest transaction that must be in the server's history: of the checkpoint, or of this process's own tail.
    pub fn tip(&self) -> Option<Transaction> {
        highest(self.written.tip, self.tail.transaction)
    }

    /// The checkpoint as this process would write it, had it to: with the tip of its own tail and the timeline of its last
    /// connection. What a reconnect is judged by: judged by an older timeline, a server that was promoted once looks as if
    /// it had left what this process has received since.
    #[must_use]
    pub fn known(&self) -> Checkpoint {
        let mut known = self.written.clone();
        known.tip = self.tip();
        known.identity.timeline = self.timeline;
        known
    }

    /// Begins a new connection: what others delivered is no longer confirmed. Returns its number.
    pub fn connect(&mut self, timeline: u32) -> u64 {
        self.timeline = timeline;
        self.markers.clear();
        self.connection += 1;
        self.connection
    }

    /// Notes that the server of this connection is on another timeline now: a connection to a standby outlives its promotion,
    /// and what it delivers from then on belongs to the new timeline. Unnoticed, the next start is refused for nothing.
    pub const fn promoted(&mut self, timeline: u32) {
        self.timeline = timeline;
    }

    /// Notes that the log has grown to `tail`.
    pub fn received(&mut self, tail: Reached) {
        debug_assert!(tail.mark.frame >= self.tail.mark.frame, "the tail went back");
        let tail = self.of_epoch(tail);
        self.tail = Reached { transaction: tail.transaction.or(self.tail.transaction), ..tail };
    }

    /// Everything this connection delivered before `lsn` is in frames up to `frame` (which may still be staged).
    pub fn mark(&mut self, frame: FrameNo, lsn: Lsn) {
        if let Some(last) = self.markers.back_mut() {
            if lsn <= last.lsn {
                return;
            }
            if last.frame == frame {
                last.lsn = lsn;
                return;
            }
        }
        if self.markers.len() >= MARKERS_MAX {
            let mut keep = false;
            self.markers.retain(|_| {
                keep = !keep;
                keep
            });
        }
        self.markers.push_back(Marker { frame, lsn });
    }

    /// Notes that an injection was appended as this frame; its source stays in the checkpoint until the frame is settled.
    pub fn injected(&mut self, frame: FrameNo, injection: Injection) {
        self.injected.push((frame, injection));
    }

    /// Injections that the checkpoint still has and that are not in the log yet.
    pub fn to_inject(&self) -> Vec<Injection> {
        self.written.injections.iter().filter(|injection| self.is_due(injection)).cloned().collect()
    }

    /// Whether [`to_inject`](Self::to_inject) would give anything. Asked at every transaction's end: what is in the log is
    /// among what is not settled, so that counting is enough.
    pub fn has_to_inject(&self) -> bool {
        let unsettled = self.written.injections.iter().filter(|injection| settled(injection).is_none());
        unsettled.count() > self.injected.len()
    }

    fn is_due(&self, injection: &Injection) -> bool {
        let settled = matches!(injection, Injection::Retry(retry) if retry.settled);
        !settled && !self.injected.iter().any(|(_, other)| other.is(injection))
    }

    /// Asks for a dead letter to be published after all. It is injected once the checkpoint says so.
    pub fn retry(&mut self, retry: Retry) {
        if self.retrying(&retry.letter).is_none() {
            self.asked.push(retry);
        }
    }

    /// The retry of a letter, as far as it has come, and whether the checkpoint knows of it.
    pub fn retrying(&self, letter: &LetterId) -> Option<(&Retry, bool)> {
        let durable = self.retries().find(|retry| retry.letter == *letter).map(|retry| (retry, true));
        durable
            .or_else(|| self.asked.iter().find(|retry| retry.letter == *letter).map(|retry| (retry, false)))
    }

    /// The retries in the checkpoint.
    pub fn retries(&self) -> impl Iterator<Item = &Retry> {
        self.written.injections.iter().filter_map(|injection| match injection {
            Injection::Retry(retry) => Some(retry),
            Injection::Gap { .. } => None,
        })
    }

    /// How many retries are not closed.
    pub fn retries_open(&self) -> usize {
        self.retries().count() + self.asked.len()
    }

    /// Whether this frame brings a dead letter again.
    pub fn brings_retry(&self, frame: FrameNo) -> bool {
        self.injected
            .iter()
            .any(|(other, injection)| *other == frame && matches!(injection, Injection::Retry(_)))
    }

    /// Notes that the dead-letter file says what became of a settled retry: the checkpoint may forget it.
    pub fn close(&mut self, letter: LetterId) {
        if !self.closed.contains(&letter) {
            self.closed.push(letter);
        }
    }

    /// What the publish loop has reached.
    pub fn publish(&mut self, mut report: Published) {
        debug_assert!(report.low.mark.frame >= self.published.low.mark.frame, "low went back");
        for (event_type, totals) in std::mem::take(&mut report.books) {
            let known = self.books.len() < BOOKS_MAX || self.books.contains_key(&event_type);
            let sum = self.books.entry(if known { event_type } else { OTHER_TYPES.to_owned() }).or_default();
            sum.published += totals.published;
            sum.quarantined += totals.quarantined;
        }
        report.highest = highest(report.highest, self.published.highest);
        report.low = self.of_epoch(report.low);
        report.low.transaction = report.low.transaction.or(self.published.low.transaction);
        self.published = report;
    }

    /// Notes which stream answers.
    pub fn meet_stream(&mut self, stream: StreamIdentity) {
        self.stream = Some(stream);
    }

    /// Whether something has waited long enough that the log must be fsynced now.
    pub fn wants_sync(&mut self, now: Instant) -> bool {
        let ConfirmAfter::Waited(after) = self.confirm_after else { return false };
        let unsettled = |frame: FrameNo| frame > self.published.low.mark.frame.max(self.synced.mark.frame);
        if after.is_zero() {
            return unsettled(self.tail.mark.frame);
        }
        // Progress of single lanes counts after a crash as far as the log is held: else everybody's events would be repeated.
        let ahead = self.published.lanes.iter().map(|(_, frame)| *frame).max();
        let apart = self.published.behind.is_some() && ahead.is_some_and(unsettled);
        let due =
            self.ages.iter().take_while(|(since, _)| now.duration_since(*since) >= after).last().copied();
        let waited_too_long = due.is_some_and(|(_, frame)| unsettled(frame));
        self.note_age(now, after);
        waited_too_long || apart
    }

    fn note_age(&mut self, now: Instant, after: Duration) {
        while self.ages.get(1).is_some_and(|(since, _)| now.duration_since(*since) >= after) {
            self.ages.pop_front();
        }
        let finely_enough =
            self.ages.back().is_some_and(|(since, _)| now.duration_since(*since) < after / AGE_STEPS);
        if !finely_enough {
            self.ages.push_back((now, self.tail.mark.frame));
        }
    }

    /// Notes that the log is fsynced up to `tail`, as [`Ledger::tail`] said before the fsync.
    pub fn synced(&mut self, tail: Reached) {
        if tail.mark.frame > self.synced.mark.frame {
            self.synced = self.of_epoch(tail);
        }
    }

    /// The next checkpoint, if it differs from the written one.
    pub fn prepare(&self) -> Option<Checkpoint> {
        let low = self.published.low;
        let mut next = self.written.clone();
        next.low = low.mark;
        if self.synced.mark.frame > next.held.frame {
            next.held = self.synced.mark;
        }
        next.tip = [low.transaction, self.published.highest, self.synced.transaction]
            .into_iter()
            .fold(self.written.tip, highest);
        next.lanes.clone_from(&self.published.lanes);
        next.answered.clone_from(&self.published.answered);
        next.books.clone_from(&self.books);
        next.identity.stream.clone_from(&self.stream);
        next.identity.timeline = self.timeline;
        let settled = self.settled_frame(&next);
        // Not only held: damage in what is held may be cut, and Postgres sends changes again, but no injections.
        let next_low = next.low.frame;
        next.injections.extend(self.asked.iter().cloned().map(Injection::Retry));
        next.injections.retain_mut(|injection| {
            let appended =
                self.injected.iter().find(|(_, other)| other.is(injection)).map(|(frame, _)| *frame);
            match injection {
                Injection::Gap { .. } => appended.is_none_or(|frame| frame > next_low),
                Injection::Retry(retry) if retry.settled => !self.closed.contains(&retry.letter),
                Injection::Retry(retry) => {
                    retry.frame = appended.filter(|frame| *frame <= next.held.frame.max(next_low));
                    retry.settled = appended.is_some_and(|frame| frame <= next_low);
                    if retry.settled {
                        move_books(&mut next.books, &retry.event_type);
                    }
                    true
                }
            }
        });
        if let Some(lsn) = self.confirmable(settled) {
            next.told = next.told.max(lsn);
        }
        (next != self.written).then_some(next)
    }

    /// Notes that this checkpoint is fsynced, and says what may be confirmed now.
    pub fn written(&mut self, checkpoint: Checkpoint) -> Option<Settled> {
        for retry in checkpoint.injections.iter().filter_map(settled) {
            if !self.retries().any(|before| before.settled && before.letter == retry.letter) {
                move_books(&mut self.books, &retry.event_type);
            }
        }
        self.injected.retain(|(_, injection)| {
            checkpoint.injections.iter().any(|kept| kept.is(injection) && settled(kept).is_none())
        });
        self.asked.retain(|asked| {
            !checkpoint.injections.iter().any(|kept| kept.is(&Injection::Retry(asked.clone())))
        });
        self.written = checkpoint;
        let closed = std::mem::take(&mut self.closed);
        self.closed = closed.into_iter().filter(|letter| self.retrying(letter).is_some()).collect();
        // What came since `prepare` is not in the checkpoint yet: only what it names, and only up to its `told`. A marker may
        // have moved beyond that meanwhile (a keepalive); everything before it is settled none the less. To wait for one
        // that stands still would confirm nothing while others write all the time.
        let settled = self.settled_frame(&self.written);
        while self.markers.get(1).is_some_and(|next| next.frame <= settled) {
            self.markers.pop_front();
        }
        let lsn = self.markers.front().filter(|first| first.frame <= settled)?.lsn.min(self.written.told);
        Some(Settled { lsn, connection: self.connection })
    }

    /// Without the transaction, if it is of an earlier epoch: that was another history, and its LSNs mean nothing now.
    fn of_epoch(&self, reached: Reached) -> Reached {
        let now = reached.mark.position.is_some_and(|position| position.epoch == self.written.epoch);
        Reached { transaction: reached.transaction.filter(|_| now), ..reached }
    }

    fn settled_frame(&self, checkpoint: &Checkpoint) -> FrameNo {
        match self.confirm_after {
            ConfirmAfter::Never => checkpoint.low.frame,
            ConfirmAfter::Waited(_) => checkpoint.low.frame.max(checkpoint.held.frame),
        }
    }

    fn confirmable(&self, settled: FrameNo) -> Option<Lsn> {
        self.markers.iter().take_while(|marker| marker.frame <= settled).last().map(|marker| marker.lsn)
    }
}

/// What a restart finds in the log of what was injected.
fn in_the_log(written: &Checkpoint, tail: FrameNo) -> Vec<(FrameNo, Injection)> {
    let found = written.injections.iter().filter(|injection| settled(injection).is_none());
    found
        .filter_map(|injection| Some((injection.frame().filter(|frame| *frame <= tail)?, injection.clone())))
        .collect()
}

/// The retry, if `low` has passed it.
fn settled(injection: &Injection) -> Option<&Retry> {
    match injection {
        Injection::Retry(retry) if retry.settled => Some(retry),
        Injection::Retry(_) | Injection::Gap { .. } => None,
    }
}

/// A dead letter has been retried: what became of it is counted like any record, so that it is no longer what it was.
fn move_books(books: &mut BTreeMap<String, Totals>, event_type: &str) {
    let name = if books.contains_key(event_type) { event_type } else { OTHER_TYPES };
    if let Some(totals) = books.get_mut(name) {
        totals.quarantined = totals.quarantined.saturating_sub(1);
    }
}

/// The ledger, shared by the two loops and the keeper. The lock is held for a few assignments, never across I/O.
#[derive(Clone, Debug)]
pub struct SharedLedger(Arc<Mutex<Ledger>>);

impl SharedLedger {
    /// Shares a ledger.
    pub fn new(ledger: Ledger) -> Self {
        Self(Arc::new(Mutex::new(ledger)))
    }

    /// Locks it. A panic elsewhere ends the process (`panic = "abort"`), so a poisoned lock is only met in tests.
    pub fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The transaction that committed later; LSNs of one epoch only.
pub fn highest(one: Option<Transaction>, other: Option<Transaction>) -> Option<Transaction> {
    match (one, other) {
        (Some(one), Some(other)) => Some(if other.commit > one.commit { other } else { one }),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests;
