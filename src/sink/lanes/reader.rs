//! One reader: its window on the log, and the state of the records in the sections that it serves.
//!
//! This module knows nothing about requests. A record in a section of another reader keeps its place in its
//! frame, costs no bytes and counts as finished here.
//!
//! Invariants: of each key, only the first unfinished record is ready, in flight or a dead letter; a section
//! that is paused or suspended has no ready record, only parked ones, except those that `fill` has not
//! handled yet.

use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasherDefault;

use bytes::Bytes;
use tokio::time::Instant;

use super::counts::EventCounts;
use super::finished::{Finished, RecordStatus, Served};
use super::paced::Paced;
use super::ready::ReadySet;
use super::types::{Admission, DeadLetter, DeadReason, Frame, Outcome, ReaderId};
use super::unacknowledged::Unacknowledged;
use super::watch::Watch;
use super::window::{CountedBy, Entry, NONE, State, Window};
use crate::buffer::checkpoint::Mark;
use crate::event::{KeyHash, PassthroughHasher, RecordKind};
use crate::position::FrameNo;
use crate::sink::Outgoing;
use crate::sink::pacing::{Limits, Waiting};
use crate::sink::sections::{PerSection, Section, Sections};
use crate::sink::shards::{Place, Shards};
use crate::sink::throttle::Pauses;

/// What decides whether a record may be sent, besides its key.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules<'a> {
    pub(super) max_record_size: usize,
    pub(super) pauses: &'a Pauses,
    pub(super) shards: &'a Shards,
}

impl<'a> Rules<'a> {
    pub(super) fn new(limits: &Limits, pauses: &'a Pauses, shards: &'a Shards) -> Self {
        Self { max_record_size: limits.max_record_size, pauses, shards }
    }
}

/// A window on the log, and its records by what they wait for.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) id: ReaderId,
    pub(super) window: Window,
    pub(super) finished: Finished,
    /// The last unfinished record of each key.
    tails: HashMap<KeyHash, u64, BuildHasherDefault<PassthroughHasher>>,
    pub(super) ready: ReadySet,
    /// Ready records and bytes of shards without a rate.
    pub(super) waiting: Waiting,
    /// Ready records of shards with a rate in force.
    pub(super) paced: Paced,
    /// Ready records of sections that are paused or suspended.
    parked: PerSection<Vec<u64>>,
    /// Sections whose records this reader does not send for now.
    suspended: PerSection<bool>,
    pub(super) dead: VecDeque<u64>,
    /// Number of records of each section that are in a request or being quarantined.
    in_flight: PerSection<u32>,
    /// The last frame of these sections that this reader serves, during a hand-over. The main reader serves
    /// the later ones.
    pub(super) until: Option<FrameNo>,
    pub(super) watch: Watch,
    /// A copy of one of the last published records, for use as a control. It is a copy because it outlives
    /// the window.
    pub(super) last_published: Option<Outgoing>,
    /// Whether that copy was made at the start.
    pub(super) from_start: bool,
}

impl Reader {
    pub(super) fn new(id: ReaderId, window: Window, finished: Finished) -> Self {
        Self {
            id,
            window,
            finished,
            tails: HashMap::default(),
            ready: ReadySet::default(),
            waiting: Waiting::default(),
            paced: Paced::default(),
            parked: PerSection::default(),
            suspended: PerSection::default(),
            dead: VecDeque::new(),
            in_flight: PerSection::default(),
            until: None,
            watch: Watch::default(),
            last_published: None,
            from_start: false,
        }
    }

    /// Adds the records of the next frame to the window.
    pub(super) fn admit<'a>(
        &mut self,
        frame: &Frame,
        records: impl IntoIterator<Item = Admission<'a>>,
        counts: &mut EventCounts,
        sections: &Sections,
        unacknowledged: &Unacknowledged,
        rules: Rules<'_>,
    ) {
        self.window.begin(frame);
        let is_of_epoch = frame.transaction.is_some();
        let mut parts = 0..=u16::MAX;
        for record in records {
            let part = parts.next().expect("the log counts the records of a frame in 16 bits");
            let section = sections.of(record.hash);
            let status = self.finished.take_status(section, frame.number, part);
            let event_type = counts.open(record.event_type);
            let Admission { kind, hash, key, line, .. } = record;
            let frame = frame.number;
            let entry = Entry {
                key,
                line,
                hash,
                section,
                frame,
                part,
                next: NONE,
                event_type,
                kind,
                state: State::Queued,
                unacknowledged: status != RecordStatus::Passed && unacknowledged.has((frame, part)),
                was_rejected: false,
                undeliverable: false,
                early: false,
                counted: if status == RecordStatus::Passed { CountedBy::Another } else { CountedBy::This },
            };
            if self.is_control(&entry, status, is_of_epoch) {
                self.last_published = entry.control();
            }
            self.push(entry, status, rules);
        }
    }

    fn push(&mut self, mut entry: Entry, status: RecordStatus, rules: Rules<'_>) {
        let outcome = match status {
            RecordStatus::Unfinished => None,
            RecordStatus::Passed => Some(Outcome::Published),
            // A record that an earlier process has written to the dead-letter file is a dead letter here too.
            RecordStatus::Acknowledged(outcome) => Some(outcome.unwrap_or(match entry.kind {
                RecordKind::DeadLetter => Outcome::Quarantined,
                RecordKind::Event => Outcome::Published,
            })),
        };
        if let Some(outcome) = outcome {
            entry.state = State::Done(outcome);
            (entry.key, entry.line) = (Bytes::new(), Bytes::new());
            self.window.push(entry);
            return;
        }
        let (hash, seq) = (entry.hash, self.window.next_seq());
        self.window.push(entry);
        match self.tails.insert(hash, seq) {
            Some(tail) => {
                if let Some(before) = self.window.entry_mut(tail) {
                    before.next = seq;
                }
            }
            None => self.make_ready(seq, rules),
        }
    }

    /// Makes a record ready that is the first of its key, or may be sent again.
    pub(super) fn make_ready(&mut self, seq: u64, rules: Rules<'_>) {
        let Some(entry) = self.window.entry_mut(seq) else { return };
        let (size, hash, section) = (entry.size(), entry.hash, entry.section);
        entry.state = State::Ready;
        let suspended = self.suspended[section];
        let dead = entry.kind == RecordKind::DeadLetter
            || entry.undeliverable
            || entry.is_too_large(rules.max_record_size);
        if dead && !suspended {
            entry.state = State::Dead;
            self.dead.push_back(seq);
            return;
        }
        if suspended || rules.pauses.is_paused(section) {
            self.parked[section].push(seq);
            return;
        }
        if let Some(place) = rules.shards.limited(hash) {
            self.paced.push((place, seq), size, self.window.first());
            return;
        }
        self.ready.insert(seq);
        self.waiting.records += 1;
        self.waiting.bytes += size;
    }

    /// Records and bytes that may be sent, as far as their shards have tokens.
    pub(super) fn waiting(&self) -> Waiting {
        self.waiting.and(self.paced.open())
    }

    /// The oldest record that may be sent, and its shard if that has a rate in force.
    pub(super) fn oldest(&mut self) -> Option<(u64, Option<Place>)> {
        let paced = self.paced.oldest().map(|(seq, place)| (seq, Some(place)));
        let free = self.ready.oldest().map(|seq| (seq, None));
        [paced, free].into_iter().flatten().min()
    }

    /// Determines which shards have tokens, and makes records ready whose shard has no rate any more.
    pub(super) fn pace(&mut self, limits: &Limits, pauses: &Pauses, shards: &mut Shards, now: Instant) {
        for place in self.paced.begin(shards, now) {
            for seq in self.paced.drain(place) {
                self.make_ready(seq, Rules::new(limits, pauses, shards));
            }
        }
    }

    /// Removes a record from its queue, because it may not be sent any more.
    pub(super) fn remove_ready(&mut self, seq: u64, size: usize) {
        if !self.ready.contains(seq) {
            self.paced.remove(seq, size);
            return;
        }
        self.ready.remove(seq);
        self.waiting.records -= 1;
        self.waiting.bytes -= size;
    }

    /// Moves a record from its queue into a request.
    pub(super) fn send(&mut self, seq: u64, size: usize) {
        self.remove_ready(seq, size);
        self.begin_flight(seq, State::Sent);
    }

    /// Notes that a record is in flight: in a request, or on its way to the dead-letter file.
    pub(super) fn begin_flight(&mut self, seq: u64, state: State) {
        let Some(entry) = self.window.entry_mut(seq) else { return };
        entry.state = state;
        self.in_flight[entry.section] += 1;
    }

    /// Notes that a record is no longer in flight.
    pub(super) fn end_flight(&mut self, seq: u64) {
        if let Some(entry) = self.window.entry(seq) {
            self.in_flight[entry.section] -= 1;
        }
    }

    /// Finishes a record that was [in flight](Self::begin_flight), and the events packed into it. The next
    /// record of its key becomes ready. Returns whether the key has another unfinished record.
    pub(super) fn finish(&mut self, mut seq: u64, outcome: Outcome, rules: Rules<'_>) -> bool {
        self.end_flight(seq);
        if self.window.entry(seq).is_some_and(|entry| entry.early) {
            // The record before it is unfinished. When it is finished, the next one becomes ready.
            self.window.finish(seq, outcome);
            return true;
        }
        let Some((hash, mut next)) = self.window.finish(seq, outcome) else { return false };
        while next != NONE {
            seq = next;
            let Some(entry) = self.window.entry_mut(seq) else { return false };
            entry.early = false;
            next = entry.next;
            match entry.state {
                State::Packed => drop(self.window.finish(seq, outcome)),
                // A dead letter that was written before its turn.
                State::Done(_) => {}
                State::Queued => {
                    self.make_ready(seq, rules);
                    return true;
                }
                _ => return true,
            }
        }
        self.tails.remove(&hash);
        false
    }

    /// The next record for the dead-letter file: see
    /// [`Lanes::next_dead_letter`](super::Lanes::next_dead_letter).
    pub(super) fn next_dead_letter(&mut self, counts: &EventCounts, rules: Rules<'_>) -> Option<DeadLetter> {
        let limit = rules.max_record_size;
        loop {
            let seq = self.dead.pop_front()?;
            let Some(entry) = self.window.entry(seq).filter(|entry| entry.state == State::Dead) else {
                continue;
            };
            let (size, section) = (entry.size(), entry.section);
            if self.is_suspended(section) {
                self.make_ready(seq, rules);
                continue;
            }
            let reason = match entry.kind {
                RecordKind::DeadLetter => DeadReason::Untranslated,
                RecordKind::Event if entry.undeliverable => DeadReason::Rejected,
                RecordKind::Event if entry.is_too_large(limit) => DeadReason::TooLarge { size, limit },
                RecordKind::Event => {
                    // The size limit was raised since.
                    self.make_ready(seq, rules);
                    continue;
                }
            };
            let (frame, part, event_type) = (entry.frame, entry.part, counts.name(entry.event_type));
            let (key, line) = (entry.key.clone(), entry.line.clone());
            self.begin_flight(seq, State::Quarantining);
            self.queue_next_dead_letter(seq);
            return Some(DeadLetter { frame, part, reason, response: None, event_type, key, line });
        }
    }

    /// Queues a dead letter behind one that is being written. It need not wait, because both go into one
    /// file, in the order in which they are returned. An event that is only too large waits, because the
    /// limit may be raised.
    fn queue_next_dead_letter(&mut self, seq: u64) {
        let Some(next) = self.window.entry(seq).map(|entry| entry.next).filter(|next| *next != NONE) else {
            return;
        };
        if let Some(entry) = self.window.entry_mut(next)
            && entry.kind == RecordKind::DeadLetter
            && entry.state == State::Queued
        {
            (entry.state, entry.early) = (State::Dead, true);
            self.dead.push_back(next);
        }
    }

    /// The number of this record, if it is being written to the dead-letter file.
    pub(super) fn quarantining(&self, frame: FrameNo, part: u16) -> Option<u64> {
        let seq = self.window.seq_of(frame, part)?;
        self.window.entry(seq).is_some_and(|entry| entry.state == State::Quarantining).then_some(seq)
    }

    /// Makes a record a suspect, because its request failed as a whole. With `stored`, an attempt may have
    /// stored it.
    pub(super) fn suspect(&mut self, seq: u64, stored: Option<&mut Unacknowledged>) {
        self.end_flight(seq);
        if let Some(stored) = stored {
            self.mark_unacknowledged(seq, stored);
        }
        self.unpack(seq);
        if let Some(entry) = self.window.entry_mut(seq) {
            entry.state = State::Suspect;
        }
    }

    /// Returns a dead letter to its queue.
    pub(super) fn put_back(&mut self, seq: u64) {
        self.end_flight(seq);
        if let Some(entry) = self.window.entry_mut(seq) {
            entry.state = State::Dead;
            self.dead.push_front(seq);
        }
    }

    /// Makes the parked records of a section ready: its pause is over, or it was resumed.
    pub(super) fn unpark(&mut self, section: Section, rules: Rules<'_>) {
        let mut parked = std::mem::take(&mut self.parked[section]);
        // Dead letters of one key may have been parked in another order.
        parked.sort_unstable();
        for seq in parked {
            self.make_ready(seq, rules);
        }
    }

    pub(super) fn is_suspended(&self, section: Section) -> bool {
        self.suspended[section]
    }

    /// Moves the watermark over finished frames.
    pub(super) fn advance(&mut self, mut passed: impl FnMut(&mut Entry, Outcome)) {
        self.window.advance(&mut passed);
        self.ready.advance(self.window.first());
        self.paced.advance(self.window.first());
    }

    /// Sends no records of these sections until [`resume_sections`](Self::resume_sections).
    pub(super) fn suspend_sections(&mut self, sections: &[Section]) {
        for section in sections {
            self.suspended[*section] = true;
        }
    }

    /// Sends records of these sections again.
    pub(super) fn resume_sections(&mut self, sections: &[Section], rules: Rules<'_>) {
        for section in sections {
            self.suspended[*section] = false;
        }
        for section in sections {
            self.unpark(*section, rules);
        }
    }

    /// Whether no record of these sections is in flight.
    pub(super) fn is_idle(&self, sections: &[Section]) -> bool {
        sections.iter().all(|section| self.in_flight[*section] == 0)
    }

    /// Counts the outcomes up to the progress of these sections. Another reader serves them from there.
    pub(super) fn settle_counts(
        &mut self,
        counts: &mut EventCounts,
        reached: &PerSection<Served>,
        of: impl Fn(Section) -> bool,
    ) {
        for entry in self.window.iter_mut().filter(|entry| of(entry.section)) {
            if let State::Done(outcome) = entry.state
                && entry.counted == CountedBy::This
                && reached[entry.section].excludes(entry.frame)
            {
                counts.settle(entry.event_type, outcome, entry.frame);
                entry.counted = CountedBy::Another;
            }
        }
    }

    /// Removes the records of these sections, also for frames beyond the head: another reader serves and
    /// counts them from now on. None of them may be in flight.
    pub(super) fn withdraw_sections(&mut self, sections: &[Section], unacknowledged: &mut Unacknowledged) {
        debug_assert!(self.is_idle(sections), "records in flight cannot be withdrawn");
        for seq in self.window.first()..self.window.next_seq() {
            let Some(entry) = self.window.entry_mut(seq) else { continue };
            if !sections.contains(&entry.section) {
                continue;
            }
            entry.counted = CountedBy::Another;
            entry.leave_unacknowledged(unacknowledged);
            let (size, state) = (entry.size(), entry.state);
            if matches!(state, State::Done(_)) {
                continue;
            }
            if state == State::Ready {
                self.remove_ready(seq, size);
            }
            if let Some((hash, _)) = self.window.finish(seq, Outcome::Published) {
                self.tails.remove(&hash);
            }
        }
        for section in sections {
            self.parked[*section].clear();
            self.finished.set(*section, Served::Elsewhere);
            self.suspended[*section] = false;
        }
    }

    /// Divides a section: each of its records here belongs to one of the halves.
    pub(super) fn divide(&mut self, section: Section, (upper, from): (Section, u64)) {
        let mut moved = 0;
        for entry in self.window.iter_mut().filter(|entry| entry.section == section && entry.hash.0 >= from) {
            entry.section = upper;
            moved += u32::from(matches!(entry.state, State::Sent | State::Quarantining));
        }
        self.in_flight[section] -= moved;
        self.in_flight[upper] = moved;
        self.suspended[upper] = self.suspended[section];
        self.finished.set(upper, self.finished.of(section));
        let (window, parked) = (&self.window, std::mem::take(&mut self.parked[section]));
        let is_upper = |seq: &u64| window.entry(*seq).is_some_and(|entry| entry.section == upper);
        (self.parked[upper], self.parked[section]) = parked.into_iter().partition(is_upper);
    }

    /// Whether two sections may be merged here: no unfinished or unread record would be treated differently,
    /// and no record beyond the progress of both was counted before.
    pub(super) fn may_merge(&self, lower: Section, upper: Section) -> bool {
        let served = match (self.finished.of(lower), self.finished.of(upper)) {
            (Served::After(one), Served::After(other)) => {
                one == other || self.watermark().frame >= one.max(other)
            }
            (one, other) => one == other,
        };
        served && self.suspended[lower] == self.suspended[upper]
    }

    /// Merges two sections that [may](Self::may_merge) be merged into the lower one.
    pub(super) fn merge(&mut self, lower: Section, upper: Section) {
        for entry in self.window.iter_mut().filter(|entry| entry.section == upper) {
            entry.section = lower;
        }
        self.in_flight[lower] += std::mem::take(&mut self.in_flight[upper]);
        let mut parked = std::mem::take(&mut self.parked[upper]);
        self.parked[lower].append(&mut parked);
        self.suspended[upper] = false;
        let finished = self.finished.of(lower).min(self.finished.of(upper));
        self.finished.set(lower, finished);
        self.finished.set(upper, Served::Elsewhere);
    }

    pub(super) fn watermark(&self) -> Mark {
        self.window.watermark()
    }
}
