//! Counts what was received while several readers read the log.
//!
//! A single reader counts the records that its watermark passes. With several readers, no watermark passes
//! exactly the frames that all of them have finished. So the *audit* reads the log once more, behind the last
//! of them. Each frame is counted as received once: by the main up to where the audit begins, by the audit
//! until the main is the only reader again, then by the main. Outcomes are counted by the readers that
//! finished the records.

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
