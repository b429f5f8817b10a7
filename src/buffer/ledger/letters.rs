//! The offset from which a start must read the dead-letter file: the line of the first letter whose record is
//! beyond the watermark. Letters before that line are finished, so a start does not take longer as the file
//! grows.

use std::collections::VecDeque;

use crate::buffer::checkpoint::Mark;
use crate::position::{FrameNo, Position};

/// Most offsets in memory. Beyond that, the last one stands for all later letters too, so a start reads more
/// than it must.
const OFFSETS_MAX: usize = 256;

/// Lines of letters that the watermark has not passed, in the order of the file. If a later line has an
/// earlier record, the entry of the earlier line covers both, so that the records ascend too.
#[derive(Debug, Default)]
pub(super) struct LetterOffsets {
    lines: VecDeque<(u64, Mark)>,
    end: u64,
}

impl LetterOffsets {
    /// Starts with all letters before offset `end` finished.
    pub(super) const fn starting_at(end: u64) -> Self {
        Self { lines: VecDeque::new(), end }
    }

    /// Notes the line from `offset` to `end`: the letter of a record in this frame, at this position.
    pub(super) fn written(&mut self, offset: u64, end: u64, frame: FrameNo, position: Option<Position>) {
        self.end = end;
        let full = self.lines.len() >= OFFSETS_MAX;
        if let Some((_, last)) = self.lines.back_mut()
            && (full || (last.frame >= frame && last.position >= position))
        {
            *last = Mark { frame: last.frame.max(frame), position: last.position.max(position) };
            return;
        }
        let before = self.lines.back().map(|(_, mark)| *mark).unwrap_or_default();
        let mark = Mark { frame: frame.max(before.frame), position: position.max(before.position) };
        self.lines.push_back((offset, mark));
    }

    /// Removes the letters that a watermark has passed.
    pub(super) fn passed(&mut self, watermark: &Mark) {
        while self.lines.front().is_some_and(|(_, record)| is_passed(record, watermark)) {
            self.lines.pop_front();
        }
    }

    /// Offset of the first line that a start with this watermark must read.
    pub(super) fn first_beyond(&self, watermark: &Mark) -> u64 {
        let first = self.lines.iter().find(|(_, record)| !is_passed(record, watermark));
        first.map_or(self.end, |(offset, _)| *offset)
    }
}

/// Whether the watermark has passed a record. A change that is received again gets another frame number, so
/// both frame and position must be passed.
fn is_passed(record: &Mark, watermark: &Mark) -> bool {
    record.frame <= watermark.frame && record.position <= watermark.position
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::position::CommitSeq;

    fn at(commit: u64) -> Position {
        Position { epoch: 0, commit: CommitSeq::new(commit), index: 0 }
    }

    fn mark(frame: u64, commit: u64) -> Mark {
        Mark { frame: FrameNo(frame), position: Some(at(commit)) }
    }

    #[test]
    fn reading_starts_at_first_letter_beyond_watermark() {
        let mut offsets = LetterOffsets::starting_at(100);
        assert_eq!(offsets.first_beyond(&mark(0, 0)), 100);
        for (offset, frame, commit) in
            [(100, 5, 50), (110, 9, 90), (120, 3, 30), (130, 10, 40), (140, 12, 95)]
        {
            offsets.written(offset, offset + 10, FrameNo(frame), Some(at(commit)));
        }
        for (frame, commit, from) in [
            (4, 40, 100),
            (5, 50, 110),
            (8, 80, 110),
            (9, 90, 130),
            // After a crash the frame number was assigned again; the position decides.
            (12, 94, 140),
            (12, 95, 150),
        ] {
            assert_eq!(offsets.first_beyond(&mark(frame, commit)), from, "{frame}");
        }
        offsets.passed(&mark(9, 90));
        assert_eq!(offsets.first_beyond(&mark(9, 90)), 130);
    }

    #[test]
    fn number_of_kept_offsets_is_bounded() {
        let mut offsets = LetterOffsets::default();
        let last = OFFSETS_MAX as u64 * 3;
        for nth in 1..=last {
            offsets.written(nth * 10, nth * 10 + 10, FrameNo(nth), Some(at(nth)));
        }
        assert_eq!(offsets.lines.len(), OFFSETS_MAX);
        assert_eq!(offsets.first_beyond(&mark(last - 1, last - 1)), OFFSETS_MAX as u64 * 10);
        assert_eq!(offsets.first_beyond(&mark(last, last)), last * 10 + 10);
    }
}
