//! The records between the watermark and the read head, in log order: a ring of frames beside a ring of
//! records.
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

/// No next record.
pub(super) const NONE: u64 = u64::MAX;

/// Where a record stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// An earlier record of its key is unfinished.
    Queued,
    /// First of its key: may be sent, unless its lane pauses.
    Ready,
    /// In a request in flight.
    Sent,
    /// In the record of an earlier one of its key, which is [`Sent`](Self::Sent).
    Packed,
    /// First of its key; its request failed as a whole, and it leaves again only with other suspects.
    Suspect,
    /// First of its key, and to be quarantined.
    Dead,
    /// Being quarantined.
    Quarantining,
    /// Finished.
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
    /// Its ordinal in the frame.
    pub(super) part: u16,
    /// Number of the next record of this key.
    pub(super) next: u64,
    pub(super) event_type: TypeId,
    pub(super) kind: RecordKind,
    pub(super) state: State,
    /// Whether an attempt without a response may have stored it: then its size alone does not make it a dead
    /// letter, because it would be in both places.
    pub(super) unacknowledged: bool,
    /// Whether the service has rejected it, for throughput or because of an internal failure.
    pub(super) was_rejected: bool,
    /// Whether there is evidence that it cannot leave.
    pub(super) undeliverable: bool,
    /// Whether it is a dead letter that did not wait for the one before it of its key.
    pub(super) early: bool,
    pub(super) counted: CountedBy,
}

/// Who counts what becomes of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CountedBy {
    /// The reader that has it.
    This,
    /// Another one; or it was counted before.
    Another,
}

/// Largest record that is sent once more as a control, data and key.
const CONTROL_MAX: usize = 64 << 10;

impl Entry {
    /// A copy, unless it is large.
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

    /// It leaves its window: if it is finished, it is known whether it was stored.
    pub(super) fn leave_unacknowledged(&mut self, all: &mut Unacknowledged) {
        if std::mem::take(&mut self.unacknowledged) && matches!(self.state, State::Done(_)) {
            all.forget((self.frame, self.part));
        }
    }

    /// Whether it must not be sent, by this limit.
    pub(super) fn is_too_large(&self, limit: usize) -> bool {
        self.size() > limit && !self.unacknowledged
    }
}

#[derive(Debug)]
struct Slot {
    /// Of this frame, or of the last one before it that had any.
    position: Option<Position>,
    transaction: Option<Transaction>,
    first: u64,
    records: u32,
    unfinished: u32,
    weight: usize,
}

/// The ring.
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

    /// Sets what is known elsewhere of the frame at the watermark.
    pub(super) fn know_watermark(&mut self, watermark: Mark, transaction: Option<Transaction>) {
        assert_eq!(watermark.frame, self.watermark.frame, "of this frame nothing was asked");
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

    /// Bytes of log, and of these rings, between the watermark and the head.
    pub(super) fn weight(&self) -> usize {
        self.weight
    }

    pub(super) fn first(&self) -> u64 {
        self.first
    }

    pub(super) fn next_seq(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    /// Begins a frame; its records follow by [`push`](Self::push).
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

    /// Adds a record to the frame begun last.
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

    /// The number of a record by its frame and its ordinal there.
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

    /// Moves the watermark over the finished frames at its end of the window; `passed` gets each record that
    /// leaves.
    pub(super) fn advance(&mut self, mut passed: impl FnMut(&mut Entry, Outcome)) {
        while let Some(slot) = self.frames.pop_front_if(|slot| slot.unfinished == 0) {
            for mut entry in self.entries.drain(..slot.records as usize) {
                if let State::Done(outcome) = entry.state {
                    passed(&mut entry, outcome);
                }
            }
            self.first += u64::from(slot.records);
            self.weight -= slot.weight;
            // A window that begins in the middle of the log learns its position with the first change.
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

    /// The last transaction at or before a frame of the window.
    pub(super) fn transaction_at(&self, frame: FrameNo) -> Option<Transaction> {
        if frame <= self.watermark.frame { self.watermark_transaction } else { self.slot(frame)?.transaction }
    }

    /// When the change of a frame of the window was committed; `None` if it is injected and nothing came before it.
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
