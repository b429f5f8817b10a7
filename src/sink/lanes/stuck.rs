//! Decides which sections must leave a reader, so that the others continue. Does no I/O.
//!
//! A reader **is stuck** when its window is half full, the connection does not delay its ready records, and
//! the watermark has not moved over a quarter of the window for a second. At half full, the other sections do
//! not wait yet, because their records still fit into the second half. Then each section is judged by the
//! records that it had in the window when the window was last seen to move:
//!
//! - **old**: one of them is unfinished, in the oldest quarter. These sections hold the watermark back.
//! - **free**: all of them are finished. These sections would gain, unless they wait for a shard that holds
//!   others back.
//!
//! Old sections that wait for their shard (it accepts nothing, or less than arrives) leave if an eighth of
//! all sections is free. A whole shard may have a problem, and one of two shards is half of all sections.
//! Other old sections have slow keys. They leave if they are the exception: at most an eighth of all
//! sections, or no more than those that have finished a record beyond the watermark. A backlog in which all
//! keys are equally slow stays together. So does a stream that is overloaded as a whole, because no section
//! would gain.
//!
//! In a catch-up reader, the sections of a shard fail one after the other, and only few sections wait for
//! them. So sections that accept nothing leave it if any other section waits, however few: see
//! [`rejected_sections_to_detach`].
//!
//! If nothing was accepted since the start, no section is known to gain, but one may gain whose records are
//! beyond a window full of others' records. So sections leave in this case too, after half a minute.

use std::time::Duration;

use tokio::time::Instant;

use super::reader::Reader;
use super::types::ReaderId;
use super::window::State;
use crate::position::FrameNo;
use crate::sink::sections::{PerSection, Section, Sections};
use crate::sink::shards::{Place, Shards};

/// How long a window must be stuck before sections leave. A healthy window moves in less time.
pub(super) const STUCK_AFTER: Duration = Duration::from_secs(1);
/// The same for a catch-up reader. There a section may still pause because of an earlier problem, and no
/// other section waits yet.
pub(super) const AFTER_CATCH_UP: Duration = Duration::from_secs(6);
/// Most doublings of that time, if sections are pushed from one reader into the next.
const PUSHED_MAX: u32 = 5;
/// The same if nothing was accepted since the start.
pub(super) const STUCK_AFTER_UNKNOWN: Duration = Duration::from_secs(30);
/// A shard that has throttled within this time holds back the records that wait for it, whether it has tokens
/// now or not.
pub(super) const RECENTLY: Duration = Duration::from_secs(5);
/// A window must be filled to this fraction (1/2).
pub(super) const USED: usize = 2;
/// The fraction of a window (1/4) that the watermark passes within [`STUCK_AFTER`] if no section is stuck.
/// The oldest records are in the same fraction.
pub(super) const QUARTER: u64 = 4;
/// The fraction of all sections (1/8) that must gain, and that may have slow keys.
const EIGHTH: usize = 8;

/// The records of a section in a window.
#[derive(Clone, Copy, Debug, Default)]
struct SectionRecords {
    /// Frame of the first unfinished record.
    first: Option<FrameNo>,
    /// Whether a record is finished that the watermark has not passed.
    worked: bool,
}

/// How long a reader of these sections must have been stuck.
pub(super) fn patience(reader: &Reader, owned: &[Section], shards: &Shards) -> Duration {
    // Records that were accepted before this process started count too.
    let watermark = reader.watermark().frame;
    let ahead = |section: &Section| reader.finished.of(*section).after().is_some_and(|at| at > watermark);
    if !shards.is_any_known() && !owned.iter().any(ahead) {
        STUCK_AFTER_UNKNOWN
    } else if reader.id == ReaderId::MAIN {
        STUCK_AFTER
    } else {
        AFTER_CATCH_UP * (1 << reader.watch.pushed.min(PUSHED_MAX))
    }
}

/// The sections that should leave a stuck reader. `then` is the head of its window when it was last seen to
/// move. `refused` returns whether no record of a section is accepted.
pub(super) fn sections_to_detach(
    reader: &Reader,
    (then, now): (FrameNo, Instant),
    owned: &[Section],
    (sections, shards): (&Sections, &Shards),
    refused: impl Fn(Section) -> bool,
) -> Option<Vec<Section>> {
    let all = look(reader);
    let lane = |section: Section| all[section];
    let place = |section: Section| shards.of_range(sections.range(section));
    let unfinished = |of: Section| lane(of).first.is_some_and(|first| first <= then);
    let slow: Vec<Place> = {
        let mut slow: Vec<Place> =
            owned.iter().filter(|of| unfinished(**of)).filter_map(|of| place(*of)).collect();
        slow.sort_unstable();
        slow.dedup();
        slow.retain(|place| reader.paced.is_waiting(*place) || shards.has_refused(*place, RECENTLY, now));
        slow
    };
    // If a rejected section has no unfinished record here, its rejection is old: no record was sent since
    // that could have been accepted.
    let waits =
        |of: Section| unfinished(of) && refused(of) || place(of).is_some_and(|place| slow.contains(&place));
    let is_free = |of: Section| !unfinished(of) && !waits(of);
    let quarter = FrameNo(reader.watermark().frame.0 + reader.window.frames() / QUARTER + 1).min(then);
    let is_old = |of: Section| lane(of).first.is_some_and(|first| first <= quarter);

    let free = owned.iter().filter(|of| is_free(**of)).count();
    let worked = owned.iter().filter(|of| is_free(**of) && lane(**of).worked).count();
    if free == 0 {
        return None;
    }
    let old = owned.iter().copied().filter(|of| is_old(*of));
    let (shard, keys): (Vec<Section>, Vec<Section>) = old.partition(|of| waits(*of));
    let few = keys.len() <= worked || keys.len() * EIGHTH <= owned.len();
    if !shard.is_empty() && free * EIGHTH >= owned.len() {
        Some(shard)
    } else {
        (!keys.is_empty() && few).then_some(keys)
    }
}

/// The sections that should leave a catch-up reader, in which the sections of a shard fail one after the
/// other: those that accept nothing, if any other section has nothing unfinished in the window. However few
/// the others are, and whatever shard is assumed to serve them, they would wait forever. `refused` returns
/// whether no record of a section is accepted; `by_shard` returns whether that is so for another reason than
/// a single key. Newer records of a rejected key must be tried, to find out whether it still is rejected.
pub(super) fn rejected_sections_to_detach(
    reader: &Reader,
    then: FrameNo,
    owned: &[Section],
    (refused, by_shard): (impl Fn(Section) -> bool, impl Fn(Section) -> bool),
) -> Option<Vec<Section>> {
    let all = look(reader);
    let first = |of: Section| all[of].first;
    let unfinished = |of: Section| first(of).is_some_and(|first| first <= then);
    let waits = owned.iter().any(|of| !unfinished(*of) && !by_shard(*of));
    let stuck: Vec<Section> = owned.iter().copied().filter(|of| unfinished(*of) && refused(*of)).collect();
    (waits && !stuck.is_empty()).then_some(stuck)
}

fn look(reader: &Reader) -> PerSection<SectionRecords> {
    let mut all = PerSection::all(SectionRecords::default());
    for entry in reader.window.iter() {
        let lane = &mut all[entry.section];
        if !matches!(entry.state, State::Done(_)) {
            lane.first.get_or_insert(entry.frame);
        } else if !reader.finished.of(entry.section).excludes(entry.frame) {
            lane.worked = true;
        }
    }
    all
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod walk;
