//! Unfinished records that an attempt without a response may have stored.
//!
//! Such a record must not become a dead letter only because of its size: it would be in the stream and in the
//! dead-letter file. A reader knows this for the records in its window. This set has all of them, so that
//! nothing is forgotten when a section is read again.

use std::collections::HashSet;

use super::suspects::RecordId;
use crate::position::FrameNo;

/// Most records stored individually. There are more only if requests fail again and again while lanes are
/// detached.
const RECORDS_MAX: usize = 1 << 16;

/// The set of these records.
#[derive(Debug, Default)]
pub(super) struct Unacknowledged {
    records: HashSet<RecordId>,
    /// If there were too many: every record up to this frame counts as a member.
    up_to: FrameNo,
}

impl Unacknowledged {
    /// Adds a record that may or may not have been stored.
    pub(super) fn note(&mut self, id: RecordId) {
        if self.records.len() >= RECORDS_MAX {
            self.up_to = self.records.drain().map(|(frame, _)| frame).fold(self.up_to, FrameNo::max);
        }
        self.records.insert(id);
    }

    /// Removes a finished record.
    pub(super) fn forget(&mut self, id: RecordId) {
        self.records.remove(&id);
    }

    /// Whether an unfinished record may have been stored.
    pub(super) fn has(&self, id: RecordId) -> bool {
        id.0 <= self.up_to || (!self.records.is_empty() && self.records.contains(&id))
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_known_until_finished_and_bounded() {
        let mut all = Unacknowledged::default();
        let first = (FrameNo(3), 1);
        all.note(first);
        assert!(all.has(first) && !all.has((FrameNo(3), 0)));
        all.forget(first);
        assert!(!all.has(first));
        (1..=RECORDS_MAX as u64).for_each(|frame| all.note((FrameNo(frame), 0)));
        assert!(!all.has((FrameNo(7), 1)));
        all.note((FrameNo(100_000), 0));
        assert_eq!(all.records.len(), 1);
        assert!(all.has((FrameNo(7), 1)), "when there are too many, none of them is forgotten");
        assert!(!all.has((FrameNo(RECORDS_MAX as u64 + 1), 0)) && all.has((FrameNo(100_000), 0)));
    }
}
