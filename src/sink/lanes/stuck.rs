//! Who must leave a feed, so that the others go on. Pure.
//!
//! A feed **stands** when its window is half full, what may leave is not kept waiting by the line, and `low` has not moved over
//! a quarter of it for a second. Half full, because then the others have not been kept waiting yet: what fills the second half
//! meanwhile is theirs. Then lanes are looked at by what they had in the window when it was last seen to move:
//!
//! - **old**: something of that is unfinished, in the oldest quarter. These hold `low`.
//! - **free**: nothing of that is unfinished. These would gain, unless they wait for a shard that holds others back.
//!
//! Old lanes that wait for their shard (it takes nothing, or no more than it gets) leave if an eighth of all is free: a
//! whole shard may be in trouble, and of two shards one is half of all. Old lanes without such an excuse have slow keys. They leave
//! if they are the exception: at most an eighth of all, or no more than those that have finished something beyond them.
//! A backlog in which every key is as slow as the other stays together, and so does a stream that is overloaded as a
//! whole: nobody would gain.
//!
//! Behind the front lanes come into trouble one by one, and those that waited there are few. So lanes of which nothing is taken leave
//! there if anybody else waits, however few, see [`refused_leavers`].
//!
//! Where nothing was taken since the start, by anyone, nobody is known to gain; but those who would may stand behind a window that is
//! full of others' records. So lanes leave there too, after half a minute.

use std::time::Duration;

use tokio::time::Instant;

use super::feed::{Feed, FeedId, LANES};
use super::window::State;
use crate::position::FrameNo;
use crate::sink::shards::{Place, Shards};

/// How long a window must have stood before anybody is sent away: longer than a healthy window needs to pass.
pub(super) const STUCK_AFTER: Duration = Duration::from_secs(1);
/// The same behind the front: there lanes may be in the pause that an earlier trouble has left them, and nobody new waits.
pub(super) const AFTER_REAR: Duration = Duration::from_secs(6);
/// How often that is doubled at most where lanes are pushed from one feed into the next.
const PUSHED_MAX: u32 = 5;
/// The same where nothing was taken since the start, by anyone: nobody is known to gain, but perhaps somebody would, whom a
/// window full of others' records keeps from being seen.
const STUCK_AFTER_UNKNOWN: Duration = Duration::from_secs(30);
/// A shard that has refused something within this time holds back what waits for it, whether there are tokens now or not.
const LATELY: Duration = Duration::from_secs(5);
/// The part of a window that must be used.
pub(super) const USED: usize = 2;
/// The part of a window that `low` passes in [`STUCK_AFTER`] where nobody is stuck; and where the oldest records are.
pub(super) const QUARTER: u64 = 4;
/// The part of all lanes that must gain, and that slow keys may be.
const EIGHTH: usize = 8;

/// What a lane has in a window.
#[derive(Clone, Copy, Debug, Default)]
struct Lane {
    /// Its first unfinished record.
    first: Option<FrameNo>,
    /// Whether it has finished something that `low` has not passed.
    worked: bool,
}

/// How long a feed of these lanes must have stood.
pub(super) fn patience(feed: &Feed, owned: &[u8], shards: &Shards) -> Duration {
    // What this process has not seen being taken may have been taken before it started.
    let ahead = |lane: &u8| feed.finished.lane(*lane) > feed.low().frame;
    if !shards.is_any_known() && !owned.iter().any(ahead) {
        STUCK_AFTER_UNKNOWN
    } else if feed.id == FeedId::FRONT {
        STUCK_AFTER
    } else {
        AFTER_REAR * (1 << feed.watch.pushed.min(PUSHED_MAX))
    }
}

/// The lanes that a feed that stands should be rid of; `then` is where its head was when it was last seen to move, and `refused`
/// says of which lanes nothing at all is taken.
pub(super) fn leavers(
    feed: &Feed,
    (then, now): (FrameNo, Instant),
    owned: &[u8],
    shards: &Shards,
    refused: impl Fn(u8) -> bool,
) -> Option<Vec<u8>> {
    let lanes = look(feed);
    let lane = |lane: u8| lanes.get(usize::from(lane)).copied().unwrap_or_default();
    let places = shards.places();
    let place = |lane: u8| places.get(usize::from(lane)).copied().flatten();
    let unfinished = |of: u8| lane(of).first.is_some_and(|first| first <= then);
    let slow: Vec<Place> = {
        let mut slow: Vec<Place> =
            owned.iter().filter(|lane| unfinished(**lane)).filter_map(|lane| place(*lane)).collect();
        slow.sort_unstable();
        slow.dedup();
        slow.retain(|place| feed.paced.is_waiting(*place) || shards.has_refused(*place, LATELY, now));
        slow
    };
    // Of a lane that has nothing here, a refusal is old news: nothing was sent since that could have been taken.
    let waits = |lane: u8| {
        unfinished(lane) && refused(lane) || place(lane).is_some_and(|place| slow.contains(&place))
    };
    let is_free = |lane: u8| !unfinished(lane) && !waits(lane);
    let quarter = FrameNo(feed.low().frame.0 + feed.window.frames() / QUARTER + 1).min(then);
    let is_old = |of: u8| lane(of).first.is_some_and(|first| first <= quarter);

    let free = owned.iter().filter(|lane| is_free(**lane)).count();
    let worked = owned.iter().filter(|of| is_free(**of) && lane(**of).worked).count();
    if free == 0 {
        return None;
    }
    let old = owned.iter().copied().filter(|lane| is_old(*lane));
    let (shard, keys): (Vec<u8>, Vec<u8>) = old.partition(|lane| waits(*lane));
    let few = keys.len() <= worked || keys.len() * EIGHTH <= owned.len();
    if !shard.is_empty() && free * EIGHTH >= owned.len() {
        Some(shard)
    } else {
        (!keys.is_empty() && few).then_some(keys)
    }
}

/// Behind the front, where the lanes of a shard come into trouble one by one: those of which nothing is taken, if there is any other
/// that has nothing in the window. However few those others are, and whatever shard they are still believed to be in, they
/// would wait for ever.
pub(super) fn refused_leavers(
    feed: &Feed,
    then: FrameNo,
    owned: &[u8],
    refused: impl Fn(u8) -> bool,
) -> Option<Vec<u8>> {
    let lanes = look(feed);
    let first = |of: u8| lanes.get(usize::from(of)).and_then(|lane| lane.first);
    let unfinished = |of: u8| first(of).is_some_and(|first| first <= then);
    let waits = owned.iter().any(|lane| !unfinished(*lane) && !refused(*lane));
    let stuck: Vec<u8> = owned.iter().copied().filter(|lane| unfinished(*lane) && refused(*lane)).collect();
    (waits && !stuck.is_empty()).then_some(stuck)
}

fn look(feed: &Feed) -> [Lane; LANES] {
    let mut lanes = [Lane::default(); LANES];
    for (_, entry) in feed.window.iter() {
        if let Some(lane) = lanes.get_mut(usize::from(entry.hash.lane())) {
            if !matches!(entry.state, State::Done(_)) {
                lane.first.get_or_insert(entry.frame);
            } else if feed.finished.lane(entry.hash.lane()) < entry.frame {
                lane.worked = true;
            }
        }
    }
    lanes
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod walk;
