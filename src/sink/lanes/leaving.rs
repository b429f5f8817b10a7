//! Lanes on their way out of a feed, and who reads for them from then on.
//!
//! One that has not read beyond where they stand just reads for them too. One that has, in the same trouble and only by its
//! window, *begins again* where they stand: the lanes of one shard come into sight one by one, and would else take all feeds
//! there may be. Where there cannot be another feed, any one begins again, rather one in which nobody gets anything done: somebody must
//! wait for the lanes of which nothing is taken, but not those who were held back by them so far.
//!
//! Invariants: a feed begins again only when nothing of it is out, and never below the lowest of all feeds; what its lanes have
//! finished stays finished.

use std::cmp::Reverse;

use tokio::time::Instant;

use super::Lanes;
use super::apart::{Change, FEEDS_MAX};
use super::feed::{Feed, FeedId, LANES, Rules};
use super::progress::{ELSEWHERE, Finished, beyond, reached};
use super::window::State;
use crate::buffer::checkpoint::Mark;
use crate::position::FrameNo;

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Leaving {
    feed: FeedId,
    lanes: Vec<u8>,
    /// The feed that is to begin again for them.
    with: Option<FeedId>,
}

impl Leaving {
    pub(super) const fn new(feed: FeedId, lanes: Vec<u8>) -> Self {
        Self { feed, lanes, with: None }
    }

    /// Whether this feed has a part in it.
    pub(super) fn needs(&self, id: FeedId) -> bool {
        self.feed == id || self.with == Some(id)
    }
}

/// Where lanes find room.
#[derive(Clone, Copy, Debug)]
enum Room {
    In(FeedId),
    /// In one that has to begin again.
    Again(FeedId),
}

impl Lanes {
    /// Moves lanes on their way out, once nothing of them is out.
    pub(super) fn leave(&mut self, now: Instant) {
        let Some(Leaving { feed: id, lanes, with }) = self.leaving.clone() else { return };
        let Some(feed) = self.feed(id) else {
            self.leaving = None;
            return;
        };
        let others = with.map(|with| (with, self.lanes_of(with)));
        let with_is_idle = || {
            let (with, others) = others.as_ref()?;
            Some(self.feed(*with)?.is_idle(others))
        };
        if !feed.is_idle(&lanes) || with_is_idle() == Some(false) {
            return;
        }
        let all = reached(feed);
        let of = |lane: u8| lanes.contains(&lane);
        let base =
            (0..=u8::MAX).zip(all).filter(|(lane, _)| of(*lane)).map(|(_, at)| at).min().unwrap_or_default();
        let room = match with {
            Some(with) => self.begin_again(with, base, id != FeedId::FRONT).map(Room::In),
            None => self.room_for((id, &lanes), base),
        };
        match room {
            None => {
                self.leaving = None;
                self.stay(id, &lanes, now);
            }
            Some(Room::Again(with)) => {
                let others = self.lanes_of(with);
                self.feed_mut(with, |feed| feed.hold(&others));
                self.leaving = Some(Leaving { feed: id, lanes, with: Some(with) });
                self.leave(now);
            }
            Some(Room::In(to)) => {
                self.leaving = None;
                self.hand_to(id, to, lanes);
            }
        }
    }

    fn feed(&self, id: FeedId) -> Option<&Feed> {
        self.feeds.iter().find(|feed| feed.id == id)
    }

    /// There is no room for them anywhere.
    fn stay(&mut self, id: FeedId, lanes: &[u8], now: Instant) {
        let rules = Rules::new(&self.limits, &self.pauses, &self.shards);
        if let Some(feed) = self.feeds.iter_mut().find(|feed| feed.id == id) {
            feed.let_go(lanes, rules);
            feed.watch.full = Some((now, feed.low().frame, feed.window.head()));
        }
    }

    fn hand_to(&mut self, id: FeedId, to: FeedId, lanes: Vec<u8>) {
        let Some(feed) = self.feed(id) else { return };
        let all = reached(feed);
        let of = |lane: u8| lanes.contains(&lane);
        let mut answered: Vec<_> = beyond(feed, &all, of).collect();
        answered.extend(feed.finished.answered());
        let of_each: Vec<(u8, FrameNo)> = (0..=u8::MAX).zip(all).filter(|(lane, _)| of(*lane)).collect();
        let limit = self.limits.max_record_size;
        self.feed_mut(id, |feed| {
            feed.give_away(&lanes, limit);
            feed.watch.full = None;
        });
        self.feed_mut(to, |feed| {
            for (lane, at) in &of_each {
                feed.finished.set(*lane, *at);
            }
            feed.finished.add(answered);
        });
        self.set_owner(&lanes, to);
        let base = of_each.iter().map(|(_, at)| *at).min().unwrap_or_default();
        let behind = self.front().window.head().0.saturating_sub(base.0);
        let shard = self.shard_of(&lanes);
        self.changes.push(Change::Detached { lanes, behind, shard });
        self.advance();
    }

    /// A feed for these lanes of another one, which stand at `base`.
    fn room_for(&mut self, (from, lanes): (FeedId, &[u8]), base: FrameNo) -> Option<Room> {
        let refused = lanes.iter().all(|lane| self.is_refused(*lane));
        let crowded = self.feeds.len() >= FEEDS_MAX;
        let alike = |feed: &Feed| refused && feed.watch.refused;
        let may = |feed: &&Feed| {
            let rear = feed.id != FeedId::FRONT && feed.id != from && feed.until.is_none();
            rear && (crowded || alike(feed))
        };
        let others = || self.feeds.iter().filter(may);
        let behind = others().filter(|feed| feed.window.head() <= base).max_by_key(|feed| feed.window.head());
        if let Some(feed) = behind {
            return Some(Room::In(feed.id));
        }
        let around = |feed: &Feed| feed.low().frame <= base;
        // From the front or a mixed feed into one of refused lanes, and not back. Between others only where somebody gains for sure:
        // those in trouble would only push each other about.
        let source = self.feed(from)?;
        let sure = from == FeedId::FRONT || works(source, lanes);
        let may_wait = |feed: &Feed| crowded && (sure || alike(feed) && !source.watch.refused);
        let again = others().filter(|feed| around(feed) || may_wait(feed)).max_by_key(|feed| {
            let far = feed.low().frame.0.abs_diff(base.0);
            (feed.watch.refused == refused, !works(feed, &[]), around(feed), Reverse(far))
        });
        if let Some(feed) = again {
            return Some(Room::Again(feed.id));
        }
        if crowded {
            return None;
        }
        self.begin_audit();
        let id = self
            .add_feed(Mark { frame: base, position: None }, Finished::new(&[ELSEWHERE; LANES], [].into()));
        self.feed_mut(id, |feed| feed.watch.refused = refused);
        Some(Room::In(id))
    }

    /// A feed of which nothing is out reads once more, from `base` or where its own lanes stand; perhaps for lanes that were pushed
    /// out of another one behind the front. Gives its new name.
    fn begin_again(&mut self, id: FeedId, base: FrameNo, pushed: bool) -> Option<FeedId> {
        let lanes = self.lanes_of(id);
        let at = self.feeds.iter().position(|feed| feed.id == id)?;
        let old = self.feeds.remove(at);
        let of = |lane: u8| lanes.contains(&lane);
        let all = reached(&old);
        let own = std::array::from_fn(|index| {
            let lane = u8::try_from(index).unwrap_or_default();
            all.get(index).copied().filter(|_| of(lane)).unwrap_or(ELSEWHERE)
        });
        let answered = beyond(&old, &all, of).chain(old.finished.answered().iter().copied()).collect();
        old.window.iter().for_each(|(_, entry)| self.books.forget(entry.event_type));
        let frame = own.iter().copied().min().unwrap_or(base).min(base);
        let again = self.add_feed(Mark { frame, position: None }, Finished::new(&own, answered));
        self.feed_mut(again, |feed| feed.watch = old.watch.again(pushed));
        self.set_owner(&lanes, again);
        Some(again)
    }
}

/// Whether a lane of this feed, other than these, has finished something that `low` has not passed.
fn works(feed: &Feed, except: &[u8]) -> bool {
    feed.window.iter().any(|(_, entry)| {
        let lane = entry.hash.lane();
        let done = matches!(entry.state, State::Done(_));
        done && feed.finished.lane(lane) < entry.frame && !except.contains(&lane)
    })
}
