//! Counts what was received while several readers read the log.
//!
//! A reader alone counts what its own `watermark` passes. Of several, none passes every frame that all have finished: then the
//! log is read once more, behind the last of them. So each frame is received once: by the
//! main up to where the audit begins, by the audit up to where the main is alone again, by the main from there.
//! What became of the records is counted by the readers that finished them.

use super::counts::EventCounts;
use super::types::{Admission, Frame};
use crate::buffer::checkpoint::Mark;
use crate::position::Transaction;

/// See the module.
#[derive(Clone, Copy, Debug)]
pub(super) struct Audit {
    /// Everything up to here is finished and counted.
    pub(super) watermark: Mark,
    /// The transaction at or before it.
    pub(super) transaction: Option<Transaction>,
}

impl Audit {
    /// Counts the next frame.
    pub(super) fn count<'a>(
        &mut self,
        frame: &Frame,
        records: impl IntoIterator<Item = Admission<'a>>,
        counts: &mut EventCounts,
    ) {
        assert_eq!(frame.number, self.watermark.frame.next(), "frames are counted in order and without gaps");
        for record in records {
            let id = counts.open(record.event_type);
            counts.receive(id);
            counts.leave(id);
        }
        self.watermark = Mark { frame: frame.number, position: frame.position.or(self.watermark.position) };
        self.transaction = frame.transaction.or(self.transaction);
    }
}
