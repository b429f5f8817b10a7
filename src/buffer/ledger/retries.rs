//! Dead letters in the ledger: retries in progress, and the offset from which the dead-letter file must be
//! read.

use super::Ledger;
use crate::buffer::checkpoint::{Injection, Retry};
use crate::letter_id::LetterId;
use crate::position::{FrameNo, Position};

impl Ledger {
    /// Requests the retry of a dead letter. It is injected once the checkpoint has it.
    pub fn retry(&mut self, retry: Retry) {
        if self.retrying(&retry.letter).is_none() {
            self.requested.push(retry);
        }
    }

    /// The retry of a letter, and whether the checkpoint contains it.
    pub fn retrying(&self, letter: &LetterId) -> Option<(&Retry, bool)> {
        let durable = self.retries().find(|retry| retry.letter == *letter).map(|retry| (retry, true));
        durable.or_else(|| {
            self.requested.iter().find(|retry| retry.letter == *letter).map(|retry| (retry, false))
        })
    }

    /// The retries in the checkpoint.
    pub fn retries(&self) -> impl Iterator<Item = &Retry> {
        self.written.injections.iter().filter_map(|injection| match injection {
            Injection::Retry(retry) => Some(retry),
            Injection::Gap { .. } | Injection::Lag(_) => None,
        })
    }

    /// Number of retries that are not closed.
    pub fn retries_open(&self) -> usize {
        self.retries().count() + self.requested.len()
    }

    /// Whether this frame contains a retried dead letter.
    pub fn brings_retry(&self, frame: FrameNo) -> bool {
        self.injected
            .iter()
            .any(|(other, injection)| *other == frame && matches!(injection, Injection::Retry(_)))
    }

    /// Notes that the dead-letter file has the result of a settled retry, so that the checkpoint can drop it.
    pub fn close(&mut self, letter: LetterId) {
        if !self.closed.contains(&letter) {
            self.closed.push(letter);
        }
    }

    /// Notes the line from `offset` to `end` of the dead-letter file: the letter of a record in this frame,
    /// at this position. Call it before the record counts as finished.
    pub fn letter_written(&mut self, offset: u64, end: u64, frame: FrameNo, position: Option<Position>) {
        self.letters.written(offset, end, frame, position);
    }

    /// Offset of the first line of the dead-letter file whose record is not published yet. All lines before
    /// it are finished.
    pub fn letters_from(&self) -> u64 {
        self.letters.first_beyond(&self.watermark().mark)
    }
}
