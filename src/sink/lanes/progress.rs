//! What is published beyond `low`: found before a restart, and found out for the next one.
//!
//! A lane's progress is the last frame up to which all of its records are finished. It says nothing of other lanes, and
//! nothing beyond the read head unless a checkpoint said so.

use std::collections::HashSet;

use super::window::{State, Window};
use crate::buffer::checkpoint::Mark;
use crate::position::{FrameNo, Transaction};

const LANES: usize = 256;

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

/// What was finished before this start.
#[derive(Debug)]
pub(super) struct Finished {
    lanes: Box<[FrameNo]>,
    answered: HashSet<(FrameNo, u16)>,
    named: FrameNo,
    tip: Option<Transaction>,
}

impl Finished {
    pub(super) fn new(start: &Start) -> Self {
        let mut lanes = vec![start.low.frame; LANES];
        for (lane, frame) in &start.lanes {
            if let Some(progress) = lanes.get_mut(usize::from(*lane)) {
                *progress = (*frame).max(*progress);
            }
        }
        let answered: HashSet<_> =
            start.answered.iter().copied().filter(|(frame, _)| *frame > start.low.frame).collect();
        let highest = answered.iter().map(|(frame, _)| *frame).chain(lanes.iter().copied()).max();
        Self {
            lanes: lanes.into(),
            named: highest.unwrap_or_default().max(start.low.frame),
            answered,
            tip: start.tip,
        }
    }

    /// Whether this record was finished before the start. To be asked once of each record.
    pub(super) fn has(&mut self, lane: u8, frame: FrameNo, part: u16) -> bool {
        self.lane(lane) >= frame || (!self.answered.is_empty() && self.answered.remove(&(frame, part)))
    }

    fn lane(&self, lane: u8) -> FrameNo {
        self.lanes.get(usize::from(lane)).copied().unwrap_or_default()
    }

    /// What is finished now, by these and by the window.
    pub(super) fn progress(&self, window: &Window, detail: Detail) -> Progress {
        let (low, head) = (window.low(), window.head());
        let mut reached: Vec<FrameNo> = vec![head; LANES];
        for (_, entry) in window.iter() {
            if let Some(frame) = reached.get_mut(usize::from(entry.hash.lane()))
                && !matches!(entry.state, State::Done(_))
            {
                *frame = FrameNo(entry.frame.0 - 1).min(*frame);
            }
        }
        for (frame, before) in reached.iter_mut().zip(&*self.lanes) {
            *frame = (*frame).max(*before);
        }
        let reached_by = |lane: u8| reached.get(usize::from(lane)).copied().unwrap_or_default();
        let mut answered = Vec::new();
        if detail == Detail::Records {
            let done = window.iter().filter(|(_, entry)| matches!(entry.state, State::Done(_)));
            let beyond = done.filter(|(_, entry)| entry.frame > reached_by(entry.hash.lane()));
            answered.extend(beyond.map(|(part, entry)| (entry.frame, part)));
            answered.extend(&self.answered);
            answered.sort_unstable();
        }
        let lanes: Vec<_> =
            (0..=u8::MAX).zip(reached.iter().copied()).filter(|(_, frame)| *frame > low.frame).collect();
        let frames = lanes.iter().map(|(_, frame)| *frame).chain(answered.iter().map(|(frame, _)| *frame));
        let named = frames.max().unwrap_or(low.frame);
        let read = if self.named > head { None } else { window.transaction_at(named) };
        let low_transaction = window.low_transaction();
        Progress { low, low_transaction, lanes, answered, tip: read.or(self.tip) }
    }
}
