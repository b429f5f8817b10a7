//! The readers of the log: their positions, and which of them serves each section.
//!
//! This module knows nothing about requests and time, or about why a section changes its reader.
//!
//! Invariants: the main reader is the first one and always exists; each section has one owner among the
//! readers; their windows together stay within `window_bytes`; while there is more than one reader, the audit
//! counts received events.

use std::sync::Arc;

use super::audit::Audit;
use super::begin::{groups, least_distance};
use super::counts::{EventCounts, HandedOver};
use super::finished::{Finished, Served, Start};
use super::progress::{self, Detail, Origin, Progress, lowest, reached};
use super::reader::{Reader, Rules};
use super::ticket::Sent;
use super::types::{Admission, Frame, Lag, ReaderId};
use super::unacknowledged::Unacknowledged;
use super::window::{CountedBy, Entry, State, Window};
use crate::buffer::checkpoint::{Mark, Totals};
use crate::position::{FrameNo, Transaction};
use crate::sink::Outgoing;
use crate::sink::pacing::Waiting;
use crate::sink::sections::{PerSection, Section, Sections};

/// The main reader and three catch-up readers. Each needs a window, and three shards with different problems
/// at once are rare.
pub(super) const READERS_MAX: usize = 4;
/// A catch-up reader has an 8th of the memory: enough for a second of one shard's log.
const CATCH_UP_PART: usize = 8;

/// All readers, and the sections that each serves.
#[derive(Debug)]
pub(super) struct Readers {
    /// The main reader is first.
    all: Vec<Reader>,
    /// Number of the newest reader.
    last: u64,
    pub(super) sections: Sections,
    /// The reader that serves each section.
    owner: PerSection<ReaderId>,
    /// The audit, while there is more than one reader.
    audit: Option<Audit>,
    unacknowledged: Unacknowledged,
    /// What was known at the start.
    origin: Origin,
    /// Bytes of log that all windows may span together.
    window_bytes: usize,
    /// The reader that is first in the next request.
    turn: usize,
}

impl Readers {
    /// The readers of a start: usually only the main reader. Sections that are far behind are detached from
    /// the beginning.
    pub(super) fn new(start: &Start, window_bytes: usize) -> Self {
        let (sections, reached) = start.reached();
        let order = sections.iter().map(|section| (reached[section], section)).collect();
        let groups = groups(order, least_distance(window_bytes), READERS_MAX);
        let mut readers = Self {
            all: Vec::new(),
            last: ReaderId::MAIN.0,
            sections,
            owner: PerSection::all(ReaderId::MAIN),
            audit: None,
            unacknowledged: Unacknowledged::default(),
            origin: Origin::new(start),
            window_bytes,
            turn: 0,
        };
        for (nth, group) in groups.iter().enumerate() {
            let mut own = PerSection::all(Served::Elsewhere);
            for (at, section) in group {
                own[*section] = Served::After(*at);
            }
            let frame = lowest(&own, |_| true).unwrap_or(start.watermark.frame);
            // A single reader also counts received events, beginning where counting ended.
            let watermark = if groups.len() == 1 || frame == start.watermark.frame {
                start.watermark
            } else {
                Mark { frame, position: None }
            };
            let finished = Finished::new(own, start.acknowledged());
            if nth == 0 {
                readers.all.push(Reader::new(ReaderId::MAIN, Window::new(watermark, None), finished));
            } else {
                let id = readers.add(watermark, finished);
                let group: Vec<Section> = group.iter().map(|(_, section)| *section).collect();
                readers.set_owner(&group, id);
            }
        }
        readers.all.iter_mut().for_each(|reader| reader.from_start = true);
        if groups.len() > 1 {
            readers.audit = Some(Audit { watermark: start.watermark, transaction: None });
        }
        readers
    }

    /// A copy of one of the last published records, for use as a control; `None` if there was none, or only
    /// large ones.
    pub(super) fn last_published(&self) -> Option<&Outgoing> {
        self.all.iter().find_map(|reader| reader.last_published.as_ref())
    }

    pub(super) fn main(&self) -> &Reader {
        self.all.first().expect("there is always a main reader")
    }

    pub(super) fn main_mut(&mut self) -> &mut Reader {
        self.all.first_mut().expect("there is always a main reader")
    }

    pub(super) fn get(&self, id: ReaderId) -> Option<&Reader> {
        self.all.iter().find(|reader| reader.id == id)
    }

    pub(super) fn get_mut(&mut self, id: ReaderId) -> Option<&mut Reader> {
        self.all.iter_mut().find(|reader| reader.id == id)
    }

    /// The record that a ticket refers to, as long as its reader exists.
    pub(super) fn entry(&self, sent: &Sent) -> Option<&Entry> {
        self.get(sent.reader)?.window.entry(sent.seq)
    }

    /// All readers, the main reader first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Reader> {
        self.all.iter()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Reader> {
        self.all.iter_mut()
    }

    /// The catch-up readers.
    pub(super) fn catching_up(&self) -> impl Iterator<Item = &Reader> {
        self.all.iter().skip(1)
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// Everything that reads the log: the main reader first, [`ReaderId::AUDIT`] last.
    pub(super) fn ids(&self) -> Vec<ReaderId> {
        let readers = self.all.iter().map(|reader| reader.id);
        readers.chain(self.audit.map(|_| ReaderId::AUDIT)).collect()
    }

    /// Adds a reader, which serves no section yet.
    pub(super) fn add(&mut self, watermark: Mark, finished: Finished) -> ReaderId {
        self.last += 1;
        let id = ReaderId(self.last);
        self.all.push(Reader::new(id, Window::new(watermark, None), finished));
        id
    }

    pub(super) fn remove(&mut self, id: ReaderId) -> Option<Reader> {
        let at = self.all.iter().position(|reader| reader.id == id)?;
        Some(self.all.remove(at))
    }

    /// The reader that serves a section.
    pub(super) fn owner(&self, section: Section) -> ReaderId {
        self.owner[section]
    }

    pub(super) fn set_owner(&mut self, sections: &[Section], id: ReaderId) {
        for section in sections {
            self.owner[*section] = id;
        }
    }

    /// The sections that a reader serves.
    pub(super) fn sections_of(&self, id: ReaderId) -> Vec<Section> {
        self.sections.iter().filter(|section| self.owner[*section] == id).collect()
    }

    /// The sections that catch-up readers serve.
    pub(super) fn detached(&self) -> impl Iterator<Item = Section> {
        self.sections.iter().filter(|section| self.owner[*section] != ReaderId::MAIN)
    }

    /// Admits the records of the next frame to a reader or the audit. Does nothing if the reader no longer
    /// exists.
    pub(super) fn admit<'a>(
        &mut self,
        id: ReaderId,
        frame: &Frame,
        records: impl IntoIterator<Item = Admission<'a>>,
        counts: &mut EventCounts,
        rules: Rules<'_>,
    ) {
        if let Some(audit) = self.audit.as_mut().filter(|_| id == ReaderId::AUDIT) {
            audit.count(frame, records, counts);
        } else if let Some(reader) = self.all.iter_mut().find(|reader| reader.id == id) {
            reader.admit(frame, records, counts, &self.sections, &self.unacknowledged, rules);
        }
    }

    /// The frames that a reader wants next, as (after, up to); `None` if its window is full or nothing is
    /// left.
    pub(super) fn wants(&self, id: ReaderId) -> Option<(FrameNo, FrameNo)> {
        if id == ReaderId::AUDIT {
            let after = self.audit?.watermark.frame;
            let watermark = self.all.iter().map(|reader| reader.watermark().frame).min()?;
            return (watermark > after).then_some((after, watermark));
        }
        let reader = self.get(id)?;
        let head = reader.window.head();
        let until = match reader.until {
            Some(until) => until,
            None if id == ReaderId::MAIN => FrameNo(u64::MAX),
            None => self.main().window.head(),
        };
        (!self.is_full(reader) && head < until).then_some((head, until))
    }

    pub(super) fn is_full(&self, reader: &Reader) -> bool {
        self.is_used(reader, 1)
    }

    /// Whether a reader's window is filled up to this fraction (1/`part`).
    pub(super) fn is_used(&self, reader: &Reader, part: usize) -> bool {
        let catch_up = self.window_bytes / CATCH_UP_PART;
        let limit = match reader.id {
            ReaderId::MAIN => self.window_bytes - catch_up * (self.all.len() - 1),
            _ => catch_up,
        };
        reader.window.weight() >= (limit / part).max(1)
    }

    /// Records and bytes that wait to be sent; those of catch-up readers only if they may send.
    pub(super) fn waiting(&self, catch_up_may_send: bool) -> Waiting {
        let readers = if catch_up_may_send { self.all.len() } else { 1 };
        self.all.iter().take(readers).fold(Waiting::default(), |sum, reader| sum.and(reader.waiting()))
    }

    /// The matching readers, in the order in which they fill the next request. They take turns at being
    /// first.
    pub(super) fn in_turn(&mut self, matches: impl Fn(&Reader) -> bool) -> Vec<&mut Reader> {
        self.turn = self.turn.wrapping_add(1);
        let first = self.turn % self.all.len();
        let (before, after) = self.all.split_at_mut(first);
        after.iter_mut().chain(before).filter(|reader| matches(reader)).collect()
    }

    /// Keeps the same reader first for the next request.
    pub(super) fn repeat_turn(&mut self) {
        self.turn = self.turn.wrapping_sub(1);
    }

    /// Returns a dead letter to its queue, because the dead-letter file has no space.
    pub(super) fn put_back(&mut self, frame: FrameNo, part: u16) {
        for reader in &mut self.all {
            if let Some(seq) = reader.quarantining(frame, part) {
                reader.put_back(seq);
            }
        }
    }

    /// The same, and the service's earlier responses to the record no longer count.
    pub(super) fn send_again(&mut self, frame: FrameNo, part: u16) {
        for reader in &mut self.all {
            if let Some(seq) = reader.quarantining(frame, part) {
                reader.put_back(seq);
                if let Some(entry) = reader.window.entry_mut(seq) {
                    entry.undeliverable = false;
                }
            }
        }
    }

    /// Makes suspects of records whose request failed as a whole. With `stored`, it may have stored them.
    pub(super) fn suspect(&mut self, sent: &[Sent], stored: bool) {
        for one in sent {
            if let Some(reader) = self.all.iter_mut().find(|reader| reader.id == one.reader) {
                reader.suspect(one.seq, stored.then_some(&mut self.unacknowledged));
            }
        }
    }

    /// Removes the records of these sections from a reader: see [`Reader::withdraw_sections`].
    pub(super) fn withdraw_sections(&mut self, id: ReaderId, sections: &[Section]) {
        if let Some(reader) = self.all.iter_mut().find(|reader| reader.id == id) {
            reader.withdraw_sections(sections, &mut self.unacknowledged);
        }
    }

    /// Removes the records of a reader that no longer exists from the counts.
    pub(super) fn empty(&mut self, mut reader: Reader, counts: &mut EventCounts) {
        for entry in reader.window.iter_mut() {
            counts.leave(entry.event_type);
            entry.leave_unacknowledged(&mut self.unacknowledged);
        }
    }

    /// Divides a section in everything that readers store. Both halves belong to the reader of the whole.
    /// `None` if it cannot be divided: see [`Sections::divide`].
    pub(super) fn divide(&mut self, section: Section, from: u64) -> Option<Section> {
        let upper = self.sections.divide(section, from)?;
        self.owner[upper] = self.owner[section];
        self.all.iter_mut().for_each(|reader| reader.divide(section, (upper, from)));
        Some(upper)
    }

    /// Whether two sections may be merged, as far as readers know.
    pub(super) fn may_merge(&self, lower: Section, upper: Section) -> bool {
        self.owner[lower] == self.owner[upper] && self.all.iter().all(|reader| reader.may_merge(lower, upper))
    }

    /// Merges two sections that [may](Self::may_merge) be merged.
    pub(super) fn merge(&mut self, lower: Section, upper: Section) {
        self.all.iter_mut().for_each(|reader| reader.merge(lower, upper));
        self.owner[upper] = ReaderId::MAIN;
        self.sections.merge(lower, upper);
    }

    /// Moves each reader's watermark over finished frames, and counts their records.
    pub(super) fn advance(&mut self, counts: &mut EventCounts) {
        let Self { all, owner, unacknowledged, audit, .. } = self;
        for reader in all {
            let id = reader.id;
            reader.advance(|entry, outcome| {
                let (event_type, frame) = (entry.event_type, entry.frame);
                entry.leave_unacknowledged(unacknowledged);
                if audit.is_none() {
                    counts.receive(event_type);
                }
                if entry.counted == CountedBy::This && owner[entry.section] != id {
                    counts.hand_over(HandedOver { hash: entry.hash, event_type, outcome, frame });
                    return;
                }
                if entry.counted == CountedBy::This {
                    counts.settle(event_type, outcome, frame);
                }
                counts.leave(event_type);
            });
        }
    }

    /// Counts per event type of records in the windows that progress covers. Each call returns all of them.
    /// Iterates over the windows.
    pub(super) fn counts_ahead(&self, counts: &mut EventCounts) -> Vec<(Arc<str>, Totals)> {
        counts.begin_ahead();
        for reader in &self.all {
            let reached = reached(reader);
            let own = reader.window.iter().filter(|entry| entry.counted == CountedBy::This);
            for entry in own.filter(|entry| self.owner[entry.section] == reader.id) {
                if let State::Done(outcome) = entry.state
                    && reached[entry.section].excludes(entry.frame)
                {
                    counts.count_ahead(entry.event_type, outcome);
                }
            }
        }
        counts.ahead()
    }

    /// Lets the audit count received events from the main reader's watermark on, if it does not yet.
    pub(super) fn begin_audit(&mut self) {
        if self.audit.is_none() {
            let main = self.main();
            self.audit =
                Some(Audit { watermark: main.watermark(), transaction: main.window.watermark_transaction() });
        }
    }

    /// Lets the main reader count again, if it is the only reader and the audit has reached its watermark.
    pub(super) fn end_audit(&mut self) {
        let main_watermark = self.main().watermark().frame;
        let alone = self.all.len() == 1;
        if let Some(audit) = self.audit.filter(|audit| alone && audit.watermark.frame == main_watermark) {
            self.main_mut().window.know_watermark(audit.watermark, audit.transaction);
            self.audit = None;
        }
    }

    /// The watermark: all readers have finished everything up to this frame.
    pub(super) fn watermark(&self) -> Mark {
        self.audit.map_or_else(|| self.main().watermark(), |audit| audit.watermark)
    }

    /// The last transaction up to the watermark; `None` if none was read since the start.
    pub(super) fn watermark_transaction(&self) -> Option<Transaction> {
        self.audit.map_or_else(|| self.main().window.watermark_transaction(), |audit| audit.transaction)
    }

    /// Bytes of log in all windows, and the memory that they need for it.
    pub(super) fn weight(&self) -> usize {
        self.all.iter().map(|reader| reader.window.weight()).sum()
    }

    /// The progress for a checkpoint. Iterates over the windows.
    pub(super) fn progress(&self, detail: Detail) -> Progress {
        let watermark = (self.watermark(), self.watermark_transaction());
        progress::progress(&self.all, (&self.sections, &self.owner), watermark, self.origin, detail)
    }

    /// How far detached lanes lag behind.
    pub(super) fn lag(&self) -> Lag {
        let lanes = self.sections.lanes(self.detached()).len();
        let head = self.main().window.head().0;
        let frames = self.catching_up().map(|reader| head.saturating_sub(reader.watermark().frame.0)).max();
        let oldest = self.catching_up().filter_map(|reader| reader.window.oldest_transaction());
        Lag { lanes, frames: frames.unwrap_or_default(), oldest: oldest.map(|of| of.time).min() }
    }

    /// When the oldest unfinished change was committed, microseconds since the Unix epoch; `None` if every
    /// admitted record is finished.
    pub(super) fn oldest(&self) -> Option<i64> {
        self.all.iter().filter_map(|reader| reader.window.oldest_transaction()).map(|of| of.time).min()
    }

    #[cfg(test)]
    pub(super) const fn unacknowledged(&self) -> &Unacknowledged {
        &self.unacknowledged
    }
}
