//! Counts what everybody has finished while several feeds read the log.
//!
//! A feed alone counts what its own `low` passes. Of several, none knows what the others have finished: then the log is
//! read once more, behind the last of them, and what was finished is counted there. So each frame is counted once: by the
//! front up to where the audit begins, by the audit up to where the front is alone again, by the front from there.

use super::Frame;
use super::Outcome;
use super::books::Books;
use super::feed::{Rules, outcome_unseen};
use super::nouns::Admission;
use crate::buffer::checkpoint::Mark;
use crate::position::Transaction;

/// See the module.
#[derive(Clone, Copy, Debug)]
pub(super) struct Audit {
    /// Everything up to here is finished and counted.
    pub(super) low: Mark,
    /// The transaction at or before it.
    pub(super) transaction: Option<Transaction>,
}

impl Audit {
    /// Counts the next frame.
    pub(super) fn count<'a>(
        &mut self,
        frame: &Frame,
        records: impl IntoIterator<Item = Admission<'a>>,
        books: &mut Books,
        rules: Rules<'_>,
    ) {
        assert_eq!(frame.number, self.low.frame.next(), "frames are counted in order and without gaps");
        for record in records {
            let id = books.open(record.event_type);
            let size = record.key.len() + record.line.len();
            let outcome = outcome_unseen(record.kind, size, rules.max_record_size);
            books.close(id, outcome == Outcome::Quarantined);
        }
        self.low = Mark { frame: frame.number, position: frame.position.or(self.low.position) };
        self.transaction = frame.transaction.or(self.transaction);
    }
}
