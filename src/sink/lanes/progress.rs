//! What is published beyond `low`: found before a restart, and found out for the next one.
//!
//! A lane's progress is the last frame up to which all of its records are finished. It says nothing of other lanes, and
//! nothing beyond the read head unless a checkpoint said so.

use std::collections::HashSet;

use super::feed::{Feed, FeedId, LANES};
use super::window::State;
use crate::buffer::checkpoint::Mark;
use crate::position::{FrameNo, Transaction};

/// Single records that a checkpoint names at most: about 20 bytes each in its slot of 2 MiB. What is left out is sent again.
const ANSWERED_MAX: usize = 40_000;

/// Progress of a lane that another feed serves: nothing of it is ever this one's affair.
pub(super) const ELSEWHERE: FrameNo = FrameNo(u64::MAX);

/// Where to begin: what the checkpoint says, cut to the log.
#[derive(Clone, Debug, Default)]
pub struct Start {
    /// Everything up to this frame is published.
    pub low: Mark,
    /// The checkpoint's tip: at least the transaction that the lanes below name.
    pub tip: Option<Transaction>,
    /// Lanes published beyond `low`.
    pub lanes: Vec<(u8, FrameNo)>,
    /// Single records published beyond their lanes' progress.
    pub answered: Vec<(FrameNo, u16)>,
}

impl Start {
    /// What each lane has reached.
    pub(super) fn reached(&self) -> [FrameNo; LANES] {
        let mut lanes = [self.low.frame; LANES];
        for (lane, frame) in &self.lanes {
            if let Some(progress) = lanes.get_mut(usize::from(*lane)) {
                *progress = (*frame).max(*progress);
            }
        }
        lanes
    }

    /// Single records that are finished.
    pub(super) fn answered(&self) -> HashSet<(FrameNo, u16)> {
        self.answered.iter().copied().filter(|(frame, _)| *frame > self.low.frame).collect()
    }
}

/// What a checkpoint needs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Everything up to this frame is finished.
    pub low: Mark,
    /// The last transaction at or before `low`; `None` if none was read since the start.
    pub low_transaction: Option<Transaction>,
    /// Lanes finished beyond `low`, and up to where.
    pub lanes: Vec<(u8, FrameNo)>,
    /// Records finished beyond their lanes' progress, in order, if they were asked for.
    pub answered: Vec<(FrameNo, u16)>,
    /// The highest transaction that anything above names; that of the start, if nothing higher was read.
    pub tip: Option<Transaction>,
}

/// How much [`Lanes::progress`](super::Lanes::progress) tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// Whole frames per lane: for the checkpoint of every second.
    Lanes,
    /// Single records as well: for a clean stop, so that nothing is sent twice.
    Records,
}

/// What was finished before a feed read it, and what is not its affair.
#[derive(Debug)]
pub(super) struct Finished {
    lanes: Box<[FrameNo]>,
    answered: HashSet<(FrameNo, u16)>,
}

impl Finished {
    /// Each lane up to a frame, and single records.
    pub(super) fn new(lanes: &[FrameNo; LANES], answered: HashSet<(FrameNo, u16)>) -> Self {
        Self { lanes: (*lanes).into(), answered }
    }

    /// Whether this record is finished, or another feed's. To be asked once of each record.
    pub(super) fn has(&mut self, lane: u8, frame: FrameNo, part: u16) -> bool {
        let single = !self.answered.is_empty() && self.answered.remove(&(frame, part));
        single || self.lane(lane) >= frame
    }

    pub(super) fn lane(&self, lane: u8) -> FrameNo {
        self.lanes.get(usize::from(lane)).copied().unwrap_or(ELSEWHERE)
    }

    /// Up to here the lane's records are finished, or another feed's.
    pub(super) fn set(&mut self, lane: u8, frame: FrameNo) {
        if let Some(progress) = self.lanes.get_mut(usize::from(lane)) {
            *progress = frame;
        }
    }

    /// Single records of frames that were not read yet.
    pub(super) fn answered(&self) -> &HashSet<(FrameNo, u16)> {
        &self.answered
    }

    pub(super) fn add(&mut self, answered: impl IntoIterator<Item = (FrameNo, u16)>) {
        self.answered.extend(answered);
    }
}

/// What was known at the start, of frames that may not have been read since.
#[derive(Clone, Copy, Debug)]
pub(super) struct Origin {
    pub(super) named: FrameNo,
    pub(super) tip: Option<Transaction>,
}

impl Origin {
    pub(super) fn new(start: &Start) -> Self {
        let lanes = start.lanes.iter().map(|(_, frame)| *frame);
        let named = lanes.chain(start.answered.iter().map(|(frame, _)| *frame)).max();
        Self { named: named.unwrap_or_default().max(start.low.frame), tip: start.tip }
    }
}

/// What each lane has reached in a feed: up to there everything of it is finished, if the feed serves it.
pub(super) fn reached(feed: &Feed) -> [FrameNo; LANES] {
    let mut reached = [feed.window.head(); LANES];
    for (_, entry) in feed.window.iter() {
        if let Some(frame) = reached.get_mut(usize::from(entry.hash.lane()))
            && !matches!(entry.state, State::Done(_))
        {
            *frame = FrameNo(entry.frame.0 - 1).min(*frame);
        }
    }
    for (lane, frame) in (0..=u8::MAX).zip(&mut reached) {
        *frame = (*frame).max(feed.finished.lane(lane));
    }
    reached
}

/// Records of some lanes that are finished beyond what their lanes have reached.
pub(super) fn beyond<'a>(
    feed: &'a Feed,
    reached: &'a [FrameNo; LANES],
    of: impl Fn(u8) -> bool + 'a,
) -> impl Iterator<Item = (FrameNo, u16)> + 'a {
    let done = feed.window.iter().filter(|(_, entry)| matches!(entry.state, State::Done(_)));
    done.filter(move |(_, entry)| {
        let lane = entry.hash.lane();
        of(lane) && reached.get(usize::from(lane)).is_some_and(|reached| entry.frame > *reached)
    })
    .map(|(part, entry)| (entry.frame, part))
}

/// What all feeds together have finished; `owner` says which feed tells of which lane.
pub(super) fn progress(
    feeds: &[Feed],
    owner: &[FeedId],
    (low, low_transaction): (Mark, Option<Transaction>),
    origin: Origin,
    detail: Detail,
) -> Progress {
    let mut lanes = Vec::new();
    let mut answered = Vec::new();
    for feed in feeds {
        let owns = |lane: u8| owner.get(usize::from(lane)) == Some(&feed.id);
        let reached = reached(feed);
        let beyond_low = (0..=u8::MAX).zip(reached).filter(|(lane, at)| owns(*lane) && *at > low.frame);
        lanes.extend(beyond_low);
        if detail == Detail::Records {
            answered.extend(beyond(feed, &reached, owns));
            answered.extend(feed.finished.answered());
        }
    }
    lanes.sort_unstable();
    answered.sort_unstable();
    answered.dedup();
    answered.retain(|(frame, _)| *frame > low.frame);
    answered.truncate(ANSWERED_MAX);
    let frames = lanes.iter().map(|(_, frame)| *frame).chain(answered.iter().map(|(frame, _)| *frame));
    let named = frames.max().unwrap_or(low.frame);
    let front = feeds.first().filter(|front| origin.named <= front.window.head());
    let read = front.and_then(|front| front.window.transaction_at(named));
    Progress { low, low_transaction, lanes, answered, tip: read.or(origin.tip) }
}
