//! Decides where sections are divided before any of them is detached, and when they are merged again.
//!
//! Before sections leave because of a slow shard, the lanes at both of its ends are divided, so that hashes
//! of the neighbouring shards do not leave with it. A key with a record that fails alone becomes a section of
//! its own too, so that it never delays another key. Neighbours are merged when their readers, progress and
//! pauses are equal, and neither has a rate in force.

use tokio::time::Instant;

use super::Isolation;
use crate::event::KeyHash;
use crate::sink::lanes::dispatch::Dispatch;
use crate::sink::lanes::divide::Divider;
use crate::sink::lanes::readers::Readers;
use crate::sink::lanes::stuck;
use crate::sink::lanes::types::ReaderId;
use crate::sink::lanes::window::{Entry, State};
use crate::sink::sections::Section;
use crate::sink::shards::{Place, Shards};

impl Isolation {
    /// Divides lanes around the sections that a reader waits for, because they may have to leave it. Nothing
    /// is being detached at that time.
    pub(super) fn separate_slow(readers: &mut Readers, dispatch: &mut Dispatch, id: ReaderId, now: Instant) {
        let Some(reader) = readers.get(id) else { return };
        if !readers.is_used(reader, stuck::USED) {
            return;
        }
        let waits = |place: &Place| {
            reader.paced.is_waiting(*place) || dispatch.shards.has_refused(*place, stuck::RECENTLY, now)
        };
        let slow: Vec<Place> = dispatch.shards.all_limited().into_iter().filter(waits).collect();
        let ranges = slow.into_iter().filter_map(|place| dispatch.shards.range(place));
        for (first, last) in ranges {
            Divider::new(readers, &mut dispatch.pauses, None).divide_around(first, last);
        }
        separate_rejected(readers, dispatch, id);
        // A key whose record fails alone becomes a section of its own.
        let of_reader = |key: &KeyHash| readers.owner(readers.sections.of(*key)) == id;
        let mut keys: Vec<KeyHash> = dispatch.suspects.keys_with_evidence().filter(of_reader).collect();
        // Sorted, so that each run with the same responses makes the same decisions.
        keys.sort_unstable();
        for key in keys {
            Divider::new(readers, &mut dispatch.pauses, None).divide_around_key(key);
        }
    }

    /// Merges neighbouring sections that no longer differ.
    pub(super) fn merge_sections(&self, readers: &mut Readers, dispatch: &mut Dispatch) {
        // In descending order, so that merging does not affect the pairs that follow.
        for (lower, upper) in readers.sections.neighbours().into_iter().rev() {
            let calm = self.is_calm(readers, dispatch, lower) && self.is_calm(readers, dispatch, upper);
            if calm && readers.may_merge(lower, upper) {
                readers.merge(lower, upper);
                dispatch.pauses.merge(lower, upper);
            }
        }
    }

    /// Whether a section has no problem and is not leaving its reader.
    fn is_calm(&self, readers: &Readers, dispatch: &Dispatch, section: Section) -> bool {
        let range = readers.sections.range(section);
        let place = dispatch.shards.of_range(range);
        !self.detaching.as_ref().is_some_and(|detaching| detaching.moves(section))
            && dispatch.pauses.is_clear(section)
            && !place.is_some_and(|place| dispatch.shards.is_limited(place))
            && !dispatch.suspects.has_evidence_within(range)
    }
}

/// Limits a rejected section that lies beside the known range of a shard to the range from its first to its
/// last rejected hash. Hashes outside may belong to the other shard, and are tried.
fn separate_rejected(readers: &mut Readers, dispatch: &mut Dispatch, id: ReaderId) {
    let between = |section: &Section| {
        dispatch.is_refused(&readers.sections, *section)
            && is_between_shards(readers, &dispatch.shards, *section)
    };
    let sections: Vec<Section> = readers.sections_of(id).into_iter().filter(between).collect();
    for section in sections {
        let Some((first, last)) = rejected_within(readers, id, section) else { continue };
        let (lowest, highest) = readers.sections.range(section);
        Divider::new(readers, &mut dispatch.pauses, None).divide_around(first, last);
        for hash in [lowest, highest] {
            let beside = readers.sections.of(KeyHash(hash));
            if beside != readers.sections.of(KeyHash(first)) {
                dispatch.pauses.forgive(beside);
            }
        }
    }
}

/// Whether the section is between the known ranges of two shards, and in a lane of one of them or the next
/// lane.
fn is_between_shards(readers: &Readers, shards: &Shards, section: Section) -> bool {
    let range = readers.sections.range(section);
    if shards.is_known(range) {
        return false;
    }
    let (first, last) = shards.around(KeyHash(range.0));
    let lane = readers.sections.lane(section);
    let near = |hash: u64| KeyHash(hash).lane().abs_diff(lane) <= 1;
    (first > 0 && near(first - 1)) || last.checked_add(1).is_some_and(near)
}

/// The first and the last hash in a section with a waiting record that was rejected.
fn rejected_within(readers: &Readers, id: ReaderId, section: Section) -> Option<(u64, u64)> {
    let reader = readers.get(id)?;
    let rejected = |entry: &&Entry| {
        entry.section == section && entry.was_rejected && !matches!(entry.state, State::Done(_))
    };
    let hashes = || reader.window.iter().filter(rejected).map(|entry| entry.hash.0);
    Some((hashes().min()?, hashes().max()?))
}
