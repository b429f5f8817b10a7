//! Who must leave a reader, so that the others go on. Pure.
//!
//! A reader **stands** when its window is half full, what may leave is not kept waiting by the line, and `watermark` has not moved over
//! a quarter of it for a second. Half full, because then the others have not been kept waiting yet: what fills the second half
//! meanwhile is theirs. Then lanes are looked at by what they had in the window when it was last seen to move:
//!
//! - **old**: something of that is unfinished, in the oldest quarter. These hold `watermark`.
//! - **free**: nothing of that is unfinished. These would gain, unless they wait for a shard that holds others back.
//!
//! Old lanes that wait for their shard (it takes nothing, or no more than it gets) leave if an eighth of all is free: a
//! whole shard may be in trouble, and of two shards one is half of all. Old lanes without such an excuse have slow keys. They leave
//! if they are the exception: at most an eighth of all, or no more than those that have finished something beyond them.
//! A backlog in which every key is as slow as the other stays together, and so does a stream that is overloaded as a
//! whole: no lane would gain.
//!
//! Behind the main lanes come into trouble one by one, and those that waited there are few. So lanes of which nothing is taken leave
//! there if anybody else waits, however few, see [`refused_leavers`].
//!
//! Where nothing was taken since the start, by anyone, no lane is known to gain; but those that would may be beyond a window that is
//! full of others' records. So lanes leave there too, after half a minute.

use std::time::Duration;

use tokio::time::Instant;

use super::reader::Reader;
use super::types::ReaderId;
use super::window::State;
use crate::position::FrameNo;
use crate::sink::sections::{PerSection, Section, Sections};
use crate::sink::shards::{Place, Shards};

/// How long a window must have stood before anybody is sent away: longer than a healthy window needs to pass.
pub(super) const STUCK_AFTER: Duration = Duration::from_secs(1);
/// The same behind the main: there lanes may be in the pause that an earlier trouble has left them, and no other lane has begun to wait.
pub(super) const AFTER_CATCH_UP: Duration = Duration::from_secs(6);
/// How often that is doubled at most where lanes are pushed from one reader into the next.
const PUSHED_MAX: u32 = 5;
/// The same where nothing was taken since the start, by anyone: no lane is known to gain, but perhaps one would that a
/// window full of others' records hides.
const STUCK_AFTER_UNKNOWN: Duration = Duration::from_secs(30);
/// A shard that has refused something within this time holds back what waits for it, whether there are tokens now or not.
pub(super) const LATELY: Duration = Duration::from_secs(5);
/// The part of a window that must be used.
pub(super) const USED: usize = 2;
/// The part of a window that `watermark` passes in [`STUCK_AFTER`] where no lane is stuck; and where the oldest records are.
pub(super) const QUARTER: u64 = 4;
/// The part of all lanes that must gain, and that slow keys may be.
const EIGHTH: usize = 8;

/// What a lane has in a window.
#[derive(Clone, Copy, Debug, Default)]
struct Lane {
    /// Its first unfinished record.
    first: Option<FrameNo>,
    /// Whether it has finished something that `watermark` has not passed.
    worked: bool,
}

/// How long a reader of these lanes must have stood.
pub(super) fn patience(reader: &Reader, owned: &[Section], shards: &Shards) -> Duration {
    // What this process has not seen being taken may have been taken before it started.
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

/// The lanes that a reader that stands should be rid of; `then` is where its head was when it was last seen to move, and `refused`
/// says of which lanes nothing at all is taken.
pub(super) fn leavers(
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
        slow.retain(|place| reader.paced.is_waiting(*place) || shards.has_refused(*place, LATELY, now));
        slow
    };
    // Of a lane that has nothing here, a refusal is old news: nothing was sent since that could have been taken.
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

/// Behind the main, where the lanes of a shard come into trouble one by one: those of which nothing is taken, if there is any other
/// that has nothing in the window. However few those others are, and whatever shard they are still believed to be in, they
/// would wait for ever.
pub(super) fn refused_leavers(
    reader: &Reader,
    then: FrameNo,
    owned: &[Section],
    refused: impl Fn(Section) -> bool,
) -> Option<Vec<Section>> {
    let all = look(reader);
    let first = |of: Section| all[of].first;
    let unfinished = |of: Section| first(of).is_some_and(|first| first <= then);
    let waits = owned.iter().any(|of| !unfinished(*of) && !refused(*of));
    let stuck: Vec<Section> = owned.iter().copied().filter(|of| unfinished(*of) && refused(*of)).collect();
    (waits && !stuck.is_empty()).then_some(stuck)
}

fn look(reader: &Reader) -> PerSection<Lane> {
    let mut all = PerSection::all(Lane::default());
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
