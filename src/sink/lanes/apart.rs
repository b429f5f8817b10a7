//! Lanes that cannot keep up are fed apart from the others, and brought back when they can.
//!
//! - **Detach**: a feed's window stands, and some lanes would gain if others left: the lanes that hold its oldest unfinished
//!   records leave, see [`stuck`]. First they are *held* until nothing of them is out,
//!   then a feed of their own (or one in the same trouble, see [`leaving`](super::leaving)) reads for them from where they stand, and
//!   the window gives their records back. A feed that was so made may be divided in the same way.
//! - **Hand-over**: a feed behind the front whose reader has come into the front's window, and that finishes within a second
//!   what it reads, hands over at the front's head H: it finishes everything up to H, while the front holds what comes after.
//!   Then the front serves the lanes again and the feed is gone. If that takes too long, or fills the front, it is called off
//!   and tried again later.
//!
//! Invariants: of each lane at most one feed sends at any time, and the other side of a change sends nothing before everything
//! before is finished; the front always serves a lane; there are at most [`FEEDS_MAX`] feeds, and their windows together
//! stay within the limit.

use std::time::Duration;

use tokio::time::Instant;

use super::Lanes;
use super::audit::Audit;
use super::feed::{Feed, FeedId, LANES};
use super::leaving::Leaving;
use super::progress::{ELSEWHERE, Finished, Start};
use super::stuck::{self, STUCK_AFTER};
use super::window::Window;
use crate::buffer::checkpoint::Mark;
use crate::position::FrameNo;

/// The front, and three that are behind: each costs a window, and three shards in different trouble at once are rare.
pub(super) const FEEDS_MAX: usize = 4;
/// A feed behind the front has this part of the memory: enough log for a second of a shard.
const REAR_PART: usize = 8;
/// How often feeds are looked at.
const TEND_EVERY: Duration = Duration::from_millis(250);
/// After so long without a look nothing could be sent meanwhile: what was seen before says nothing of any lane.
const SEEN_WITHIN: Duration = Duration::from_secs(5);
/// A hand-over that takes longer is called off: the front holds records meanwhile.
const HAND_OVER_WITHIN: Duration = Duration::from_secs(10);
/// A hand-over that takes less is not called off because the front is full for a moment.
const HAND_OVER_AT_LEAST: Duration = Duration::from_secs(1);
/// First and longest pause before a hand-over that was called off is tried again.
const AGAIN_FIRST: Duration = Duration::from_secs(5);
const AGAIN_CAP: Duration = Duration::from_mins(1);
/// At the start, lanes that lie a window of frames of this many bytes behind the next better one are fed apart from the
/// beginning.
const START_FRAME: usize = 1024;

/// What a feed was seen to do.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Watch {
    /// Since when the window has been half full and hardly moved, where `low` stood then, and the head.
    pub(super) full: Option<(Instant, FrameNo, FrameNo)>,
    /// When it was looked at for speed, and where the head stood then.
    pace: Option<(Instant, FrameNo)>,
    /// Since when it hands over.
    handing: Option<Instant>,
    /// How often a hand-over was called off, and until when none is tried.
    called_off: u32,
    not_before: Option<Instant>,
    /// Whether it was made for lanes that are refused.
    pub(super) refused: bool,
    /// How often it began again for lanes that were pushed out of another one behind the front: it pushes ever more slowly.
    pub(super) pushed: u32,
}

impl Watch {
    /// Of a feed that begins again further back; perhaps for lanes that were pushed out of another one behind the front.
    pub(super) fn again(self, pushed: bool) -> Self {
        Self { full: None, pace: None, pushed: self.pushed + u32::from(pushed), ..self }
    }
}

/// What has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// These lanes are behind the others now, by so many frames.
    Detached {
        /// The lanes, in order.
        lanes: Vec<u8>,
        /// Frames that the others have read beyond them.
        behind: u64,
        /// The shard that took the last records of them, if any were taken.
        shard: Option<String>,
    },
    /// These lanes are with the others again.
    Back {
        /// The lanes, in order.
        lanes: Vec<u8>,
    },
}

/// How far lanes are behind that are fed apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lag {
    /// How many lanes.
    pub lanes: usize,
    /// Frames that the others have read beyond the last of them.
    pub frames: u64,
    /// When their oldest unfinished change was committed, microseconds since the Unix epoch; `None` if nothing of theirs is read
    /// and unfinished.
    pub oldest: Option<i64>,
}

impl Lanes {
    /// Looks after the feeds: who leaves, who comes back. To be called when [`fill`](Self::fill) has just given nothing, so that
    /// what is ready then could not be sent; it looks four times a second. Whether there is something to
    /// [tell](Self::take_changes), and then perhaps to read and to send.
    pub fn tend(&mut self, now: Instant) -> bool {
        self.leave(now);
        let due = self.tended.is_none_or(|last| now.duration_since(last) >= TEND_EVERY);
        if due {
            self.look(now);
        }
        !self.changes.is_empty()
    }

    fn look(&mut self, now: Instant) {
        let last = self.tended.replace(now);
        let passed = last.map_or(Duration::ZERO, |last| now.duration_since(last));
        if last.is_some_and(|last| now.duration_since(last) >= SEEN_WITHIN) {
            for feed in &mut self.feeds {
                (feed.watch.full, feed.watch.pace) = (None, None);
                feed.watch.handing = feed.watch.handing.map(|_| now);
            }
        }
        self.watch_hand_overs(now);
        let ids: Vec<FeedId> = self.feeds.iter().map(|feed| feed.id).collect();
        for id in ids {
            if self.leaving.is_none()
                && let Some(lanes) = self.stuck(id, now, passed)
            {
                self.feed_mut(id, |feed| feed.hold(&lanes));
                self.leaving = Some(Leaving::new(id, lanes));
            }
        }
        self.leave(now);
    }

    /// What has changed since this was last asked.
    pub fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    /// The feeds that read the log, the front first, and [`FeedId::BOOKS`] last.
    pub fn feeds(&self) -> Vec<FeedId> {
        let feeds = self.feeds.iter().map(|feed| feed.id);
        feeds.chain(self.audit.map(|_| FeedId::BOOKS)).collect()
    }

    /// After which frame a feed reads on, and up to which, if it has room; `None` if it wants nothing now.
    pub fn wants(&self, id: FeedId) -> Option<(FrameNo, FrameNo)> {
        if id == FeedId::BOOKS {
            let after = self.audit?.low.frame;
            let low = self.feeds.iter().map(|feed| feed.low().frame).min()?;
            return (low > after).then_some((after, low));
        }
        let feed = self.feeds.iter().find(|feed| feed.id == id)?;
        let head = feed.window.head();
        let until = match feed.until {
            Some(until) => until,
            None if id == FeedId::FRONT => FrameNo(u64::MAX),
            None => self.front().window.head(),
        };
        (!self.is_full(feed) && head < until).then_some((head, until))
    }

    fn is_full(&self, feed: &Feed) -> bool {
        self.is_used(feed, 1)
    }

    /// Whether this part of a feed's window is in use.
    fn is_used(&self, feed: &Feed, part: usize) -> bool {
        let rear = self.limits.window_bytes / REAR_PART;
        let limit = match feed.id {
            FeedId::FRONT => self.limits.window_bytes - rear * (self.feeds.len() - 1),
            _ => rear,
        };
        feed.window.weight() >= (limit / part).max(1)
    }

    /// How far lanes are behind that are fed apart.
    pub fn behind(&self) -> Lag {
        let lanes = self.owner.iter().filter(|owner| **owner != FeedId::FRONT).count();
        let head = self.front().window.head().0;
        let rear = || self.feeds.iter().skip(1);
        let frames = rear().map(|feed| head.saturating_sub(feed.low().frame.0)).max().unwrap_or_default();
        let oldest = rear().filter_map(|feed| feed.window.oldest_transaction()).map(|of| of.time).min();
        Lag { lanes, frames, oldest }
    }

    /// Which lanes are behind, and the shards that took the last records of them, for a message.
    pub fn behind_whom(&self) -> Option<(Vec<u8>, Option<String>)> {
        let lanes: Vec<u8> = (0..=u8::MAX)
            .zip(&*self.owner)
            .filter(|(_, owner)| **owner != FeedId::FRONT)
            .map(|(lane, _)| lane)
            .collect();
        let shard = self.shard_of(&lanes);
        (!lanes.is_empty()).then_some((lanes, shard))
    }

    /// Whether nothing of the lane is taken at all: neither from it, nor from its shard.
    pub(super) fn is_refused(&self, lane: u8) -> bool {
        self.pauses.is_refused(lane) || self.shards.refuses(lane)
    }

    pub(super) fn shard_of(&self, lanes: &[u8]) -> Option<String> {
        lanes.iter().filter_map(|lane| self.shards.of_lane(*lane)).max().map(str::to_owned)
    }

    pub(super) fn lanes_of(&self, id: FeedId) -> Vec<u8> {
        (0..=u8::MAX).zip(&*self.owner).filter(|(_, owner)| **owner == id).map(|(lane, _)| lane).collect()
    }

    pub(super) fn set_owner(&mut self, lanes: &[u8], id: FeedId) {
        for lane in lanes {
            if let Some(owner) = self.owner.get_mut(usize::from(*lane)) {
                *owner = id;
            }
        }
    }

    pub(super) fn feed_mut<T>(&mut self, id: FeedId, act: impl FnOnce(&mut Feed) -> T) -> Option<T> {
        self.feeds.iter_mut().find(|feed| feed.id == id).map(act)
    }

    /// The lanes that a feed should be rid of, if it stands because of them.
    fn stuck(&mut self, id: FeedId, now: Instant, passed: Duration) -> Option<Vec<u8>> {
        let feed = self.feeds.iter().find(|feed| feed.id == id && feed.until.is_none())?;
        let rear = id != FeedId::FRONT;
        let (used, able) = (self.is_used(feed, stuck::USED), self.gate.is_open() && self.line_is_free(feed));
        // A request that fails as a whole says nothing of a lane: the clock stands while nothing can be sent. At the front it begins
        // anew: what waited there will pass first.
        let (standing, kept) = (used && able, used && (able || rear));
        let (low, head) = (feed.low().frame, feed.window.head());
        let moved = |before: FrameNo| (low.0 - before.0) * stuck::QUARTER > feed.window.frames();
        let full = match feed.watch.full {
            Some((since, low, head)) if kept && !moved(low) => {
                (if able { since } else { (since + passed).min(now) }, low, head)
            }
            _ => (now, low, head),
        };
        let owned = self.lanes_of(id);
        let stood = now.duration_since(full.0);
        let patience = stuck::patience(feed, &owned, &self.shards);
        let refused = |lane| self.is_refused(lane);
        let leavers = || stuck::leavers(feed, (full.2, now), &owned, &self.shards, refused);
        let others = || stuck::refused_leavers(feed, full.2, &owned, refused);
        let look = standing && (stood >= patience || rear);
        let found = look.then(|| {
            let first = rear.then(others).flatten().map(|lanes| (lanes, stuck::AFTER_REAR.min(patience)));
            first.or_else(|| leavers().map(|lanes| (lanes, patience)))
        });
        let found = found.flatten();
        // While nobody would gain, nobody is kept waiting.
        let full = if look && found.is_none() { (now, low, head) } else { full };
        self.feed_mut(id, |feed| feed.watch.full = kept.then_some(full));
        found.filter(|(_, patience)| stood >= *patience).map(|(lanes, _)| lanes)
    }

    /// Whether what a feed may send leaves at once.
    fn line_is_free(&self, feed: &Feed) -> bool {
        self.flight.is_free(&self.limits, self.gate.budget(), feed.waiting)
    }

    pub(super) fn add_feed(&mut self, low: Mark, finished: Finished) -> FeedId {
        self.last_feed += 1;
        let id = FeedId(self.last_feed);
        self.feeds.push(Feed::new(id, Window::new(low, None), finished));
        id
    }

    pub(super) fn begin_audit(&mut self) {
        if self.audit.is_none() {
            let front = self.front();
            self.audit = Some(Audit { low: front.low(), transaction: front.window.low_transaction() });
        }
    }

    /// Begins hand-overs that will come to an end, and calls off those that do not.
    fn watch_hand_overs(&mut self, now: Instant) {
        let front = self.front();
        let (front_low, head) = (front.low().frame, front.window.head());
        let front_stands = self.is_full(front) && front.waiting.records == 0;
        let ids: Vec<FeedId> = self.feeds.iter().skip(1).map(|feed| feed.id).collect();
        for id in ids {
            let leaving = self.leaving.as_ref().is_some_and(|leaving| leaving.needs(id));
            let Some(feed) = self.feeds.iter_mut().find(|feed| feed.id == id) else { continue };
            if let Some(since) = feed.watch.handing {
                let took = now.duration_since(since);
                if took >= HAND_OVER_WITHIN || (front_stands && took >= HAND_OVER_AT_LEAST) {
                    self.call_off(id, now);
                }
                continue;
            }
            let low = feed.low().frame;
            let keeps_up = match feed.watch.pace {
                Some((at, _)) if now.duration_since(at) < STUCK_AFTER => continue,
                pace => pace.is_some_and(|(_, head)| low >= head),
            };
            feed.watch.pace = Some((now, feed.window.head()));
            let near = feed.window.head() >= front_low;
            if near && keeps_up && !leaving && feed.watch.not_before.is_none_or(|at| at <= now) {
                feed.watch.handing = Some(now);
                feed.until = Some(head);
                self.front_takes(id, head);
            }
        }
        self.finish_hand_overs();
    }

    /// The front holds what comes after `head` of a feed's lanes.
    fn front_takes(&mut self, id: FeedId, head: FrameNo) {
        let lanes = self.lanes_of(id);
        self.feed_mut(FeedId::FRONT, |front| {
            for lane in &lanes {
                front.finished.set(*lane, head);
            }
            front.hold(&lanes);
        });
    }

    fn call_off(&mut self, id: FeedId, now: Instant) {
        let lanes = self.lanes_of(id);
        let limit = self.limits.max_record_size;
        self.feed_mut(FeedId::FRONT, |front| front.give_away(&lanes, limit));
        self.feed_mut(id, |feed| {
            let pause = AGAIN_FIRST.saturating_mul(1 << feed.watch.called_off.min(8)).min(AGAIN_CAP);
            feed.until = None;
            feed.watch.handing = None;
            feed.watch.called_off += 1;
            feed.watch.not_before = Some(now + pause);
        });
    }

    /// The front serves the lanes of feeds that have finished everything up to where they hand over.
    pub(super) fn finish_hand_overs(&mut self) {
        while let Some(feed) = self.feeds.iter().find(|feed| feed.until == Some(feed.low().frame)) {
            let id = feed.id;
            let lanes = self.lanes_of(id);
            self.feeds.retain(|feed| feed.id != id);
            self.set_owner(&lanes, FeedId::FRONT);
            let rules = super::Rules::new(&self.limits, &self.pauses, &self.shards);
            if let Some(front) = self.feeds.first_mut() {
                front.let_go(&lanes, rules);
            }
            self.changes.push(Change::Back { lanes });
        }
        let alone = self.feeds.len() == 1;
        let front_low = self.front().low().frame;
        if let Some(audit) = self.audit.filter(|audit| alone && audit.low.frame == front_low) {
            self.feed_mut(FeedId::FRONT, |front| front.window.know_low(audit.low, audit.transaction));
            self.audit = None;
        }
    }

    /// Divides the lanes of a start among feeds: those far behind are apart from the beginning.
    pub(super) fn begin(&mut self, start: &Start) {
        let reached = start.reached();
        let gap = (self.limits.window_bytes / START_FRAME).max(1) as u64;
        let groups = groups(&reached, gap);
        for (nth, group) in groups.iter().enumerate() {
            let of = |lane: u8| group.contains(&lane);
            let own = std::array::from_fn(|index| {
                let lane = u8::try_from(index).unwrap_or_default();
                if of(lane) { reached.get(index).copied().unwrap_or_default() } else { ELSEWHERE }
            });
            let frame = own.iter().copied().min().unwrap_or_default();
            // One feed alone also counts: it begins where counting ended.
            let low = if groups.len() == 1 || frame == start.low.frame {
                start.low
            } else {
                Mark { frame, position: None }
            };
            let finished = Finished::new(&own, start.answered());
            if nth == 0 {
                self.feeds.push(Feed::new(FeedId::FRONT, Window::new(low, None), finished));
            } else {
                let id = self.add_feed(low, finished);
                self.set_owner(group, id);
            }
        }
        if groups.len() > 1 {
            self.audit = Some(Audit { low: start.low, transaction: None });
        }
    }
}

/// Lanes that go together at a start, those that are furthest first. Divided where the distance is large; of more distances
/// than feeds, at the largest.
fn groups(reached: &[FrameNo; LANES], least: u64) -> Vec<Vec<u8>> {
    let mut order: Vec<(FrameNo, u8)> = reached.iter().copied().zip(0..=u8::MAX).collect();
    order.sort_unstable_by(|one, other| other.cmp(one));
    let gaps = order.windows(2).zip(1..).filter_map(|(pair, at)| match pair {
        [ahead, behind] => Some((ahead.0.0 - behind.0.0, at)),
        _ => None,
    });
    let mut gaps: Vec<(u64, usize)> = gaps.filter(|(gap, _)| *gap >= least).collect();
    gaps.sort_unstable_by(|one, other| other.cmp(one));
    gaps.truncate(FEEDS_MAX - 1);
    let mut cuts: Vec<usize> = gaps.into_iter().map(|(_, at)| at).collect();
    cuts.sort_unstable();
    let mut groups = vec![Vec::new()];
    for (index, (_, lane)) in order.into_iter().enumerate() {
        if cuts.contains(&index) {
            groups.push(Vec::new());
        }
        if let Some(group) = groups.last_mut() {
            group.push(lane);
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_start_apart_where_the_distance_is_large() {
        let start = |lanes: &[(usize, u64)]| {
            let mut reached = [FrameNo(100_000); LANES];
            for (lane, frame) in lanes {
                reached[*lane] = FrameNo(*frame);
            }
            groups(&reached, 16_384).into_iter().skip(1).collect::<Vec<_>>()
        };
        for (what, lanes, expected) in [
            ("all alike", vec![], vec![]),
            ("near", vec![(3, 90_000)], vec![]),
            ("one far behind", vec![(3, 50_000)], vec![vec![3]]),
            ("two together", vec![(3, 50_000), (4, 50_001)], vec![vec![4, 3]]),
            ("two apart", vec![(3, 50_000), (4, 10_000)], vec![vec![3], vec![4]]),
            (
                "more than there are feeds: of equal distances those behind",
                vec![(1, 80_000), (2, 50_000), (3, 30_000), (4, 10_000)],
                vec![vec![2], vec![3], vec![4]],
            ),
        ] {
            assert_eq!(start(&lanes), expected, "{what}");
        }
    }
}
