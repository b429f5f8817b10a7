//! The records between the watermark and the read head, in the order of the log: a ring of frames and a ring
//! of records.
//!
//! Invariants: frames are numbered without gaps; a record's number is its place in the ring; what the
//! watermark has passed is removed from both; a finished record holds no bytes.

use std::collections::VecDeque;

use bytes::Bytes;

use super::counts::TypeId;
use super::types::{Frame, Outcome};
use super::unacknowledged::Unacknowledged;
use crate::buffer::checkpoint::Mark;
use crate::event::{KeyHash, RecordKind};
use crate::position::{FrameNo, Position, Transaction};
use crate::sink::Outgoing;
use crate::sink::sections::Section;

/// There is no next record.
pub(super) const NONE: u64 = u64::MAX;

/// The state of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It waits for an earlier record of its key.
    Queued,
    /// It is the first of its key. It may be sent, unless its section is paused.
    Ready,
    /// It is in a request in flight.
    Sent,
    /// It is in the record of an earlier event of its key, which is [`Sent`](Self::Sent).
    Packed,
    /// It is the first of its key, and its request failed as a whole. It is sent again only with other
    /// suspects.
    Suspect,
    /// It is the first of its key, and must be quarantined.
    Dead,
    /// It is being quarantined.
    Quarantining,
    /// It is finished.
    Done(Outcome),
}

#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "facts that do not depend on one another")]
pub(super) struct Entry {
    pub(super) key: Bytes,
    pub(super) line: Bytes,
    pub(super) hash: KeyHash,
    pub(super) section: Section,
    pub(super) frame: FrameNo,
    /// Its index in the frame.
    pub(super) part: u16,
    /// Number of the next record of this key.
    pub(super) next: u64,
    pub(super) event_type: TypeId,
    pub(super) kind: RecordKind,
    pub(super) state: State,
    /// Whether an attempt without a response may have stored it. Then it is not quarantined only because of
    /// its size: it would be in both places.
    pub(super) unacknowledged: bool,
    /// Whether the service has rejected it, for throughput or because of an internal failure.
    pub(super) was_rejected: bool,
    /// Whether there is evidence that it can never be accepted.
    pub(super) undeliverable: bool,
    /// Whether it is a dead letter that did not wait for the previous one of its key.
    pub(super) early: bool,
    pub(super) counted: CountedBy,
}

/// Where the outcome of a record is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CountedBy {
    /// In the reader that has it.
    This,
    /// In another reader, or it was counted before.
    Another,
}

/// Largest record that may be a control, in bytes of data and key.
const CONTROL_MAX: usize = 64 << 10;

impl Entry {
    /// A copy for use as a control, unless it is large.
    pub(super) fn control(&self) -> Option<Outgoing> {
        (self.size() <= CONTROL_MAX).then(|| Outgoing {
            key: Bytes::copy_from_slice(&self.key),
            data: Bytes::copy_from_slice(&self.line),
        })
    }

    /// Bytes of key and data, as the destination counts them.
    pub(super) fn size(&self) -> usize {
        self.key.len() + self.line.len()
    }

    /// Passes on that it may have been stored, when it leaves its window unfinished.
    pub(super) fn leave_unacknowledged(&mut self, all: &mut Unacknowledged) {
        if std::mem::take(&mut self.unacknowledged) && matches!(self.state, State::Done(_)) {
            all.forget((self.frame, self.part));
        }
    }

    /// Whether it exceeds this limit, so that it must not be sent.
    pub(super) fn is_too_large(&self, limit: usize) -> bool {
        self.size() > limit && !self.unacknowledged
    }
}

#[derive(Debug)]
struct Slot {
    /// Position of the change in this frame, or of the last one before it.
    position: Option<Position>,
    transaction: Option<Transaction>,
    first: u64,
    records: u32,
    unfinished: u32,
    weight: usize,
}

/// The window of one reader.
#[derive(Debug)]
pub(super) struct Window {
    frames: VecDeque<Slot>,
    entries: VecDeque<Entry>,
    /// Number of the first record in `entries`.
    first: u64,
    watermark: Mark,
    watermark_transaction: Option<Transaction>,
    head_position: Option<Position>,
    head_transaction: Option<Transaction>,
    weight: usize,
}

impl Window {
    pub(super) fn new(watermark: Mark, transaction: Option<Transaction>) -> Self {
        Self {
            frames: VecDeque::new(),
            entries: VecDeque::new(),
            first: 0,
            watermark,
            watermark_transaction: transaction,
            head_position: watermark.position,
            head_transaction: transaction,
            weight: 0,
        }
    }

    pub(super) fn watermark(&self) -> Mark {
        self.watermark
    }

    /// Sets the position and transaction at the watermark, which are known from elsewhere.
    pub(super) fn know_watermark(&mut self, watermark: Mark, transaction: Option<Transaction>) {
        assert_eq!(watermark.frame, self.watermark.frame, "its records were not read yet");
        (self.watermark, self.watermark_transaction) =
            (watermark, transaction.or(self.watermark_transaction));
        self.head_position = self.head_position.or(watermark.position);
    }

    /// The transaction of the oldest unfinished frame.
    pub(super) fn oldest_transaction(&self) -> Option<Transaction> {
        self.frames.front()?.transaction
    }

    /// Frames between the watermark and the head.
    pub(super) fn frames(&self) -> u64 {
        self.frames.len() as u64
    }

    pub(super) fn watermark_transaction(&self) -> Option<Transaction> {
        self.watermark_transaction
    }

    pub(super) fn head(&self) -> FrameNo {
        FrameNo(self.watermark.frame.0 + self.frames.len() as u64)
    }

    /// Bytes of log between the watermark and the head, and the memory of the rings.
    pub(super) fn weight(&self) -> usize {
        self.weight
    }

    pub(super) fn first(&self) -> u64 {
        self.first
    }

    pub(super) fn next_seq(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    /// Begins a frame. Its records follow by [`push`](Self::push).
    pub(super) fn begin(&mut self, frame: &Frame) {
        assert_eq!(frame.number, self.head().next(), "frames are admitted in order and without gaps");
        self.head_position = frame.position.or(self.head_position);
        self.head_transaction = frame.transaction.or(self.head_transaction);
        let weight = frame.bytes + size_of::<Slot>();
        self.weight += weight;
        self.frames.push_back(Slot {
            position: self.head_position,
            transaction: self.head_transaction,
            first: self.next_seq(),
            records: 0,
            unfinished: 0,
            weight,
        });
    }

    /// Adds a record to the last frame.
    pub(super) fn push(&mut self, entry: Entry) {
        if let Some(slot) = self.frames.back_mut() {
            slot.records += 1;
            slot.unfinished += u32::from(!matches!(entry.state, State::Done(_)));
            slot.weight += size_of::<Entry>();
            self.weight += size_of::<Entry>();
            self.entries.push_back(entry);
        }
    }

    pub(super) fn entry(&self, seq: u64) -> Option<&Entry> {
        self.entries.get(usize::try_from(seq.checked_sub(self.first)?).ok()?)
    }

    pub(super) fn entry_mut(&mut self, seq: u64) -> Option<&mut Entry> {
        self.entries.get_mut(usize::try_from(seq.checked_sub(self.first)?).ok()?)
    }

    /// The number of a record, by its frame and its index there.
    pub(super) fn seq_of(&self, frame: FrameNo, part: u16) -> Option<u64> {
        let slot = self.slot(frame)?;
        (u32::from(part) < slot.records).then(|| slot.first + u64::from(part))
    }

    /// Marks a record as finished and drops its bytes. Returns its key, and the number of the next record of
    /// that key.
    pub(super) fn finish(&mut self, seq: u64, outcome: Outcome) -> Option<(KeyHash, u64)> {
        let entry = self.entry_mut(seq)?;
        entry.state = State::Done(outcome);
        (entry.key, entry.line) = (Bytes::new(), Bytes::new());
        let (hash, next, frame) = (entry.hash, entry.next, entry.frame);
        if let Some(slot) = self.slot_mut(frame) {
            slot.unfinished -= 1;
        }
        Some((hash, next))
    }

    /// Moves the watermark over the finished frames at its end of the window. `passed` receives each record
    /// that leaves.
    pub(super) fn advance(&mut self, mut passed: impl FnMut(&mut Entry, Outcome)) {
        while let Some(slot) = self.frames.pop_front_if(|slot| slot.unfinished == 0) {
            for mut entry in self.entries.drain(..slot.records as usize) {
                if let State::Done(outcome) = entry.state {
                    passed(&mut entry, outcome);
                }
            }
            self.first += u64::from(slot.records);
            self.weight -= slot.weight;
            // A window that begins in the middle of the log learns its position from the first change.
            self.watermark = Mark {
                frame: self.watermark.frame.next(),
                position: slot.position.or(self.watermark.position),
            };
            self.watermark_transaction = slot.transaction.or(self.watermark_transaction);
        }
    }

    /// The records in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }

    /// The records in order, to change them.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.entries.iter_mut()
    }

    /// The last transaction up to a frame of the window.
    pub(super) fn transaction_at(&self, frame: FrameNo) -> Option<Transaction> {
        if frame <= self.watermark.frame { self.watermark_transaction } else { self.slot(frame)?.transaction }
    }

    /// When the change of a frame in the window was committed. An injected frame has the time of the change
    /// before it; `None` if there is none.
    pub(super) fn committed_at(&self, frame: FrameNo) -> Option<i64> {
        self.slot(frame)?.transaction.map(|transaction| transaction.time)
    }

    fn slot(&self, frame: FrameNo) -> Option<&Slot> {
        self.frames.get(usize::try_from(frame.0.checked_sub(self.watermark.frame.0 + 1)?).ok()?)
    }

    fn slot_mut(&mut self, frame: FrameNo) -> Option<&mut Slot> {
        self.frames.get_mut(usize::try_from(frame.0.checked_sub(self.watermark.frame.0 + 1)?).ok()?)
    }
}
