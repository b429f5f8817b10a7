//! A point of progress, and the report of the publish loop.

use crate::buffer::checkpoint::{LanePart, Mark, Totals};
use crate::buffer::tail::Tail;
use crate::position::{FrameNo, Transaction};

/// A point of progress: a frame, and the last change up to it with its transaction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reached {
    /// Frame and position.
    pub mark: Mark,
    /// The transaction of that change; `None` before the first change.
    pub transaction: Option<Transaction>,
}

impl From<Tail> for Reached {
    fn from(tail: Tail) -> Self {
        Self { mark: tail.mark(), transaction: tail.transaction }
    }
}

/// A report of the publish loop. All fields are absolute, except the event counts, which are added up.
#[derive(Clone, Debug, Default)]
pub struct Published {
    /// Everything up to here is published.
    pub watermark: Reached,
    /// The frame up to which all records of a lane are published, if beyond the watermark.
    pub lanes: Vec<(u8, FrameNo)>,
    /// Parts of lanes published beyond their lane's progress.
    pub lane_parts: Vec<LanePart>,
    /// Single records published beyond their lane's progress.
    pub acknowledged: Vec<(FrameNo, u16)>,
    /// The highest transaction of this epoch with a published record.
    pub highest: Option<Transaction>,
    /// Counts of records that have left the windows since the last report: those that the progress covers,
    /// and those that the watermark has passed.
    pub event_counts: Vec<(String, Totals)>,
    /// Counts of records that are still in the windows although the progress covers them.
    pub counts_ahead: Vec<(String, Totals)>,
    /// Whether the event counts so far include records beyond the watermark.
    pub counted_beyond_watermark: bool,
    /// Detached lanes that hold the watermark back; `None` if there are none.
    pub behind: Option<Behind>,
}

impl Published {
    /// The last frame beyond the watermark with any published record.
    pub(super) fn ahead(&self) -> Option<FrameNo> {
        let lanes = self.lanes.iter().map(|(_, frame)| *frame);
        let parts = self.lane_parts.iter().map(|part| part.frame);
        let frames = lanes.chain(parts).chain(self.acknowledged.iter().map(|(frame, _)| *frame));
        frames.max().filter(|frame| *frame > self.watermark.mark.frame)
    }
}

/// Detached lanes, in the form shown to people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Behind {
    /// Ranges of lanes, such as `0-63`.
    pub lanes: String,
    /// The shard that acknowledged their last records; `None` if this process has seen no acknowledgement.
    pub shard: Option<String>,
}
