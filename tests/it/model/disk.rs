//! The directory of the model: a log of which a part is only in the page cache, and a checkpoint.

use std::collections::VecDeque;

use forebay::buffer::checkpoint::{Checkpoint, Mark};
use forebay::pipeline::start::recover::LogState;
use forebay::position::{FrameNo, Position, Transaction};

use super::random::Random;
use super::stream::Line;

/// A frame. An injected one has no position.
#[derive(Clone, Debug)]
pub struct Stored {
    pub number: FrameNo,
    pub position: Option<Position>,
    pub transaction: Option<Transaction>,
    /// Keys and lines.
    pub records: Vec<(String, Vec<u8>)>,
    /// Which changes are in it; for the checks.
    pub lines: Vec<Line>,
    pub damaged: bool,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    pub frames: VecDeque<Stored>,
    pub fsynced: FrameNo,
    pub checkpoint: Option<Checkpoint>,
}

impl Disk {
    /// The last frame of the log, at least `watermark`.
    pub fn end(&self) -> FrameNo {
        self.frames.back().map_or(FrameNo(0), |frame| frame.number)
    }

    pub fn frame(&self, number: FrameNo) -> Option<&Stored> {
        let first = self.frames.front()?.number;
        self.frames.get(usize::try_from(number.0.checked_sub(first.0)?).ok()?)
    }

    /// The last readable frame in a row from `watermark` on.
    pub fn state(&self) -> LogState {
        let any = !self.frames.is_empty();
        let Some(checkpoint) = &self.checkpoint else {
            return LogState { good: Mark::default(), damage: None, any, seen: None };
        };
        let mut named = self.frames.iter().rev().filter(|frame| !frame.damaged);
        let seen = named.find_map(|frame| Some((frame.position?.epoch, frame.transaction?)));
        let mut good = checkpoint.watermark;
        while good.frame < checkpoint.durable.frame {
            match self.frame(good.frame.next()) {
                Some(frame) if !frame.damaged => {
                    good = Mark { frame: frame.number, position: frame.position.or(good.position) };
                }
                Some(_) => return LogState { good, damage: Some("bad checksum".into()), any, seen },
                None => return LogState { good, damage: Some("missing".into()), any, seen },
            }
        }
        LogState { good, damage: None, any, seen }
    }

    /// Recovery cuts here and fsyncs.
    pub fn cut(&mut self, after: FrameNo) {
        while self.frames.back().is_some_and(|frame| frame.number > after) {
            self.frames.pop_back();
        }
        if self.end() < after {
            // Everything up to `after` is published, and the end of the log has gone with the page cache.
            self.frames.clear();
        }
        self.fsynced = after;
    }

    /// Only what was fsynced is certain to be there; of the rest a piece may be, whole or not.
    pub fn power_cut(&mut self, random: &mut Random) {
        let loose = self.end().0.saturating_sub(self.fsynced.0);
        let kept = FrameNo(self.fsynced.0 + random.below(loose + 1));
        while self.frames.back().is_some_and(|frame| frame.number > kept) {
            self.frames.pop_back();
        }
        if kept > self.fsynced
            && random.one_in(2)
            && let Some(last) = self.frames.back_mut()
        {
            last.damaged = true;
        }
    }

    /// Deletes what is wholly published, by segments, that is not always all of it.
    pub fn reclaim(&mut self, watermark: FrameNo, random: &mut Random) {
        let keep = random.below(3);
        while self.frames.len() > 1
            && self.frames.front().is_some_and(|frame| frame.number.0 + keep <= watermark.0)
        {
            self.frames.pop_front();
        }
    }
}
