//! Decides which sections of the hash get a reader of their own, and when the main serves them again.
//!
//! - **Detach**: a reader's window stands, and some sections would gain if others left: the sections that
//!   hold its oldest unfinished records leave, see [`stuck`]. First they are *held* until nothing of them is
//!   in flight. Then a catch-up reader (a new one, or one in the same trouble, see `leave`) reads for them
//!   from where they stand, and the window gives their records back. Sections can leave a catch-up reader in
//!   the same way.
//! - **Hand-over**: a catch-up reader that has read up to the main's window, and that finishes within a
//!   second what it reads, hands over at the main's head H: it finishes everything up to H, while the main
//!   holds what comes after. Then the main serves the sections again, and the reader is removed. See
//!   `hand_over`.
//!
//! Invariants: of each section at most one reader sends at any time, and the other side of a change sends
//! nothing before everything before it is finished; the main always serves a section; sections leave one
//! reader at a time.

mod hand_over;
mod in_the_way;
mod leave;
mod separate;

use std::time::Duration;

use tokio::time::Instant;

use self::in_the_way::InTheWay;
use super::counts::EventCounts;
use super::detaching::Detaching;
use super::dispatch::Dispatch;
use super::reader::Rules;
use super::readers::Readers;
use super::stuck;
use super::types::{Change, ReaderId};
use crate::position::FrameNo;
use crate::sink::sections::Section;

/// How often readers are looked at.
const REBALANCE_EVERY: Duration = Duration::from_millis(250);
/// After so long without a look nothing could be sent meanwhile: what was seen before says nothing of any
/// section.
const SEEN_WITHIN: Duration = Duration::from_secs(5);
/// See the module.
#[derive(Debug, Default)]
pub(super) struct Isolation {
    detaching: Option<Detaching>,
    changes: Vec<Change>,
    /// When the readers were last looked at.
    rebalanced: Option<Instant>,
}

impl Isolation {
    /// Decides who leaves and who comes back, at most four times a second. Whether there are
    /// [changes](Self::take_changes).
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
            self.look(readers, dispatch, counts, now);
        }
        !self.changes.is_empty()
    }

    fn look(
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
                reader.watch.handing = reader.watch.handing.map(|_| now);
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

    /// These sections of a reader get another one, as soon as nothing of them is in flight.
    pub(super) fn detach(&mut self, readers: &mut Readers, id: ReaderId, sections: Vec<Section>) {
        if let Some(reader) = readers.get_mut(id) {
            reader.hold(&sections);
        }
        self.detaching = Some(Detaching::new(id, sections));
    }

    /// The sections on their way out of a reader, to be divided with all others.
    pub(super) const fn detaching(&mut self) -> Option<&mut Detaching> {
        self.detaching.as_mut()
    }

    /// The changes since this was last called.
    pub(super) fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    /// Moves the watermarks over what is finished, and ends hand-overs that have come to their end.
    pub(super) fn advance(&mut self, readers: &mut Readers, counts: &mut EventCounts, rules: Rules<'_>) {
        readers.advance(counts);
        self.finish_hand_overs(readers, counts, rules);
    }

    /// The sections that should leave a reader, if its window stands because of them.
    fn stuck(
        readers: &mut Readers,
        dispatch: &mut Dispatch,
        id: ReaderId,
        now: Instant,
        passed: Duration,
    ) -> Option<Vec<Section>> {
        let reader = readers.get(id).filter(|reader| reader.until.is_none())?;
        let catch_up = id != ReaderId::MAIN;
        let in_the_way = InTheWay::of(readers, dispatch, reader);
        let (used, able) = (
            readers.is_used(reader, stuck::USED),
            in_the_way.is_some() || (dispatch.is_gate_open() && dispatch.is_line_free(reader)),
        );
        // A request that fails as a whole says nothing of a section: the clock stands while nothing can be
        // sent. At the main it begins anew: what waited there will pass first.
        let (standing, kept) = (used && able, used && (able || catch_up));
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
        let patience = in_the_way.as_ref().map_or(patience, |keys| keys.patience(patience));
        if let Some(keys) = in_the_way {
            let due = stood >= patience;
            let leaving = due.then(|| keys.leavers(readers, &mut dispatch.pauses, (id, full.2))).flatten();
            if let Some(reader) = readers.get_mut(id) {
                reader.watch.full = Some(if due { (now, watermark, head) } else { full });
            }
            return leaving;
        }
        let sections = &readers.sections;
        let refused = |section| dispatch.is_refused(sections, section);
        let known = (sections, &dispatch.shards);
        let leavers = || stuck::leavers(reader, (full.2, now), &owned, known, refused);
        let by_shard = |section| dispatch.is_refused_by_shard(sections, section);
        let others = || stuck::refused_leavers(reader, full.2, &owned, (refused, by_shard));
        let look = standing && (stood >= patience || catch_up);
        let found = look.then(|| {
            let first = catch_up
                .then(others)
                .flatten()
                .map(|sections| (sections, stuck::AFTER_CATCH_UP.min(patience)));
            first.or_else(|| leavers().map(|sections| (sections, patience)))
        });
        let found = found.flatten();
        // While no section would gain, none is kept waiting.
        let full = if look && found.is_none() { (now, watermark, head) } else { full };
        if let Some(reader) = readers.get_mut(id) {
            reader.watch.full = kept.then_some(full);
        }
        found.filter(|(_, patience)| stood >= *patience).map(|(sections, _)| sections)
    }
}
