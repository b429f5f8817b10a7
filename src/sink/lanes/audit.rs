//! Counts received events while several readers read the log.
//!
//! A single reader counts the records that its watermark passes. With several readers, no watermark passes
//! exactly the frames that all of them have finished. So the *audit* reads the log once more, behind the
//! slowest reader. Each frame counts as received once: by the main reader before the audit begins, by the
//! audit until the main reader is the only one again, then by the main reader. Outcomes are counted by the
//! readers that finish the records.

use super::counts::EventCounts;
use super::types::{Admission, Frame};
use crate::buffer::checkpoint::Mark;
use crate::position::Transaction;

/// The position of the audit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Audit {
    /// Everything up to this frame is finished and counted.
    pub(super) watermark: Mark,
    /// The last transaction up to the watermark.
    pub(super) transaction: Option<Transaction>,
}

impl Audit {
    /// Counts the records of the next frame.
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
