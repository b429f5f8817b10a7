//! Decides which sections of the hash range get a reader of their own, and when the main reader serves them
//! again.
//!
//! - **Detach**: a reader's window does not move, and some sections would gain if others left. Then the
//!   sections with the oldest unfinished records leave: see [`stuck`]. First they are *suspended* until none
//!   of their records is in flight. Then a catch-up reader (a new one, or one with the same problem, see
//!   `leave`) continues from their progress, and their records are removed from the window. Sections leave a
//!   catch-up reader in the same way.
//! - **Hand-over**: a catch-up reader has reached the window of the main reader, and finishes within a second
//!   what it reads. It hands over at the head H of the main reader: it finishes everything up to H, while the
//!   main reader suspends the sections. Then the main reader serves them again, and the catch-up reader is
//!   removed. See `hand_over`.
//!
//! Invariants: at most one reader sends the records of a section at any time; a reader that takes over a
//! section sends none of its records before everything earlier is finished; the main reader always serves a
//! section; sections leave one reader at a time.

mod blocking_keys;
mod hand_over;
mod leave;
mod separate;

use std::time::Duration;

use tokio::time::Instant;

use self::blocking_keys::BlockingKeys;
use super::counts::EventCounts;
use super::detaching::Detaching;
use super::dispatch::Dispatch;
use super::reader::Rules;
use super::readers::Readers;
use super::stuck;
use super::types::{Change, ReaderId};
use crate::position::FrameNo;
use crate::sink::sections::Section;

/// How often readers are observed.
const REBALANCE_EVERY: Duration = Duration::from_millis(250);
/// If the last observation is older than this, it is dropped: nothing could be sent in the meantime, so it
/// says nothing about any section.
const SEEN_WITHIN: Duration = Duration::from_secs(5);
/// The state of detaching and handing over.
#[derive(Debug, Default)]
pub(super) struct Isolation {
    detaching: Option<Detaching>,
    changes: Vec<Change>,
    /// When the readers were last observed.
    rebalanced: Option<Instant>,
}

impl Isolation {
    /// Decides which sections leave a reader and which return, at most four times a second. Returns whether
    /// there are [changes](Self::take_changes).
    pub(super) fn rebalance(
        &mut self,
        readers: &mut Readers,
        dispatch: &mut Dispatch,
        counts: &mut EventCounts,
        now: Instant,
    ) -> bool {
        self.leave(readers, dispatch, counts, now);
        let due = self.rebalanced.is_none_or(|last| now.duration_since(last) >= REBALANCE_EVERY);
        if due {
            self.observe(readers, dispatch, counts, now);
        }
        !self.changes.is_empty()
    }

    fn observe(
        &mut self,
        readers: &mut Readers,
        dispatch: &mut Dispatch,
        counts: &mut EventCounts,
        now: Instant,
    ) {
        let last = self.rebalanced.replace(now);
        let passed = last.map_or(Duration::ZERO, |last| now.duration_since(last));
        if last.is_some_and(|last| now.duration_since(last) >= SEEN_WITHIN) {
            for reader in readers.iter_mut() {
                (reader.watch.full, reader.watch.pace) = (None, None);
                reader.watch.handing_over = reader.watch.handing_over.map(|_| now);
            }
        }
        self.merge_sections(readers, dispatch);
        self.watch_hand_overs(readers, counts, dispatch.rules(), now);
        let ids: Vec<ReaderId> = readers.iter().map(|reader| reader.id).collect();
        for id in ids {
            if self.detaching.is_some() {
                continue;
            }
            Self::separate_slow(readers, dispatch, id, now);
            if let Some(sections) = Self::stuck(readers, dispatch, id, now, passed) {
                self.detach(readers, id, sections);
            }
        }
        self.leave(readers, dispatch, counts, now);
    }

    /// Begins to move these sections of a reader to another one. The move happens once none of their records
    /// is in flight.
    pub(super) fn detach(&mut self, readers: &mut Readers, id: ReaderId, sections: Vec<Section>) {
        if let Some(reader) = readers.get_mut(id) {
            reader.suspend_sections(&sections);
        }
        self.detaching = Some(Detaching::new(id, sections));
    }

    /// The sections that are leaving a reader. When sections are divided, these must be too.
    pub(super) const fn detaching(&mut self) -> Option<&mut Detaching> {
        self.detaching.as_mut()
    }

    /// The changes since the last call.
    pub(super) fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    /// Moves the watermarks over finished frames, and completes hand-overs.
    pub(super) fn advance(&mut self, readers: &mut Readers, counts: &mut EventCounts, rules: Rules<'_>) {
        readers.advance(counts);
        self.finish_hand_overs(readers, counts, rules);
    }

    /// The sections that should leave a reader, if they keep its window from moving.
    fn stuck(
        readers: &mut Readers,
        dispatch: &mut Dispatch,
        id: ReaderId,
        now: Instant,
        passed: Duration,
    ) -> Option<Vec<Section>> {
        let reader = readers.get(id).filter(|reader| reader.until.is_none())?;
        let catch_up = id != ReaderId::MAIN;
        let blocking_keys = BlockingKeys::of(readers, dispatch, reader);
        let (used, able) = (
            readers.is_used(reader, stuck::USED),
            blocking_keys.is_some() || (dispatch.is_gate_open() && dispatch.has_bandwidth(reader)),
        );
        // A request that fails as a whole says nothing about a section, so time in which nothing can be sent
        // does not count. For the main reader the time restarts, because its waiting records are sent first.
        let (is_stuck, kept) = (used && able, used && (able || catch_up));
        let (watermark, head) = (reader.watermark().frame, reader.window.head());
        let moved = |before: FrameNo| (watermark.0 - before.0) * stuck::QUARTER > reader.window.frames();
        let full = match reader.watch.full {
            Some((since, watermark, head)) if kept && !moved(watermark) => {
                (if able { since } else { (since + passed).min(now) }, watermark, head)
            }
            _ => (now, watermark, head),
        };
        let owned = readers.sections_of(id);
        let stood = now.duration_since(full.0);
        let patience = stuck::patience(reader, &owned, &dispatch.shards);
        let patience = blocking_keys.as_ref().map_or(patience, |keys| keys.patience(patience));
        if let Some(keys) = blocking_keys {
            let due = stood >= patience;
            let leaving =
                due.then(|| keys.sections_to_detach(readers, &mut dispatch.pauses, (id, full.2))).flatten();
            if let Some(reader) = readers.get_mut(id) {
                reader.watch.full = Some(if due { (now, watermark, head) } else { full });
            }
            return leaving;
        }
        let sections = &readers.sections;
        let refused = |section| dispatch.is_refused(sections, section);
        let known = (sections, &dispatch.shards);
        let sections_to_detach = || stuck::sections_to_detach(reader, (full.2, now), &owned, known, refused);
        let by_shard = |section| dispatch.is_refused_by_shard(sections, section);
        let others = || stuck::rejected_sections_to_detach(reader, full.2, &owned, (refused, by_shard));
        let look = is_stuck && (stood >= patience || catch_up);
        let found = look.then(|| {
            let first = catch_up
                .then(others)
                .flatten()
                .map(|sections| (sections, stuck::AFTER_CATCH_UP.min(patience)));
            first.or_else(|| sections_to_detach().map(|sections| (sections, patience)))
        });
        let found = found.flatten();
        // While no section would gain, the waiting time restarts.
        let full = if look && found.is_none() { (now, watermark, head) } else { full };
        if let Some(reader) = readers.get_mut(id) {
            reader.watch.full = kept.then_some(full);
        }
        found.filter(|(_, patience)| stood >= *patience).map(|(sections, _)| sections)
    }
}
