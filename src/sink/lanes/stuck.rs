//! Which sections must leave a reader, so that the others continue. Pure.
//!
//! A reader **stands** when its window is half full, the line does not delay what may leave, and the
//! watermark has not moved over a quarter of the window for a second. Half full, because then the other
//! sections do not wait yet: their records fill the second half meanwhile. Then each section is judged by the
//! records that it had in the window when the window was last seen to move:
//!
//! - **old**: one of them is unfinished, in the oldest quarter. These sections hold the watermark.
//! - **free**: all of them are finished. These sections would gain, unless they wait for a shard that holds
//!   others back.
//!
//! Old sections that wait for their shard (it accepts nothing, or less than arrives) leave if an eighth of
//! all is free: a whole shard may be in trouble, and one of two shards is half of all. Other old sections
//! have slow keys. They leave if they are the exception: at most an eighth of all, or no more than those that
//! have finished something beyond them. A backlog in which all keys are equally slow stays together, and so
//! does a stream that is overloaded as a whole: no section would gain.
//!
//! Sections of a catch-up reader come into trouble one by one, and only few wait for them. So sections of
//! which nothing is accepted leave it if any other section waits, however few, see [`rejected_sections_to_detach`].
//!
//! If nothing was accepted since the start, no section is known to gain. But those that would may be beyond a
//! window that is full of others' records. So sections leave then too, after half a minute.

use std::time::Duration;

use tokio::time::Instant;

use super::reader::Reader;
use super::types::ReaderId;
use super::window::State;
use crate::position::FrameNo;
use crate::sink::sections::{PerSection, Section, Sections};
use crate::sink::shards::{Place, Shards};

/// How long a window must have stood before sections leave: longer than a healthy window needs to pass.
pub(super) const STUCK_AFTER: Duration = Duration::from_secs(1);
/// The same for a catch-up reader: there a section may still pause because of earlier trouble, and no other
/// one waits yet.
pub(super) const AFTER_CATCH_UP: Duration = Duration::from_secs(6);
/// How often that is doubled at most, where sections are pushed from one reader into the next.
const PUSHED_MAX: u32 = 5;
/// The same if nothing was accepted since the start: no section is known to gain, but perhaps one would that
/// is beyond a window full of others' records.
pub(super) const STUCK_AFTER_UNKNOWN: Duration = Duration::from_secs(30);
/// A shard that has throttled within this time holds back what waits for it, whether there are tokens now or
/// not.
pub(super) const RECENTLY: Duration = Duration::from_secs(5);
/// The part of a window that must be used.
pub(super) const USED: usize = 2;
/// The part of a window that the watermark passes in [`STUCK_AFTER`] if no section is stuck; and where the
/// oldest records are.
pub(super) const QUARTER: u64 = 4;
/// The part of all sections that must gain, and that slow keys may be.
const EIGHTH: usize = 8;

/// The records of a section in a window.
#[derive(Clone, Copy, Debug, Default)]
struct SectionRecords {
    /// Frame of the first unfinished one.
    first: Option<FrameNo>,
    /// Whether one is finished that the watermark has not passed.
    worked: bool,
}

/// How long a reader of these sections must have stood.
pub(super) fn patience(reader: &Reader, owned: &[Section], shards: &Shards) -> Duration {
    // What was accepted before this process started counts too.
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

/// The sections that should leave a reader that stands. `then` is where its head was when it was last seen to
/// move, and `refused` says of which sections nothing at all is accepted.
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
    // A rejection of a section that has nothing here is old: nothing was sent since that could have been
    // accepted.
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

/// The sections that should leave a catch-up reader, where the sections of a shard come into trouble one by
/// one: those of which nothing is accepted, if any other one has nothing in the window. However few those
/// others are, and whatever shard is still assumed to serve them, they would wait forever. `refused` says of
/// which sections nothing is accepted; `by_shard`, of which it is not because of one key: what comes of a
/// refused key must be tried to find out whether it still is.
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
