//! Events that are already in the dead-letter file although the checkpoint does not count them as finished.
//!
//! The process may die between writing the letter and writing the checkpoint. The log then delivers the event
//! again. An event in the file stays there until it is retried, even if the stream would accept it now.
//! Otherwise a discarded event could be published.

use std::collections::{BTreeMap, HashMap};

use crate::buffer::checkpoint::Mark;
use crate::buffer::disk::{Directory, DiskError};
use crate::buffer::frame::{FrameHead, FrameKind};
use crate::dead_letter::entry::{holds_event, sequence_of};
use crate::dead_letter::line_at;
use crate::dead_letter::overview::{self, EventPlace};
use crate::position::{FrameNo, Position};

/// Dead letters of records beyond the watermark.
#[derive(Debug, Default)]
pub struct AlreadyWritten {
    /// The buffer directory; `None` until the file is read.
    directory: Option<Directory>,
    /// Offset of the line in the dead-letter file, by the event's `sequence`. The frame number cannot be the
    /// key: an event that was not durable is received again and may get another number. Neither can its index
    /// in the frame, because dead letters of failed rules follow the events there.
    changes: BTreeMap<(Position, u16), u64>,
    /// Offset of the line, by frame, for events that a retry injected. Their frame is in the checkpoint.
    injected: HashMap<(FrameNo, u16), u64>,
    /// Offset of the line, for events that the log has delivered again.
    seen: HashMap<(FrameNo, u16), u64>,
}

impl AlreadyWritten {
    /// Reads the dead-letter file from offset `from`, and keeps the events beyond `watermark`. An event that
    /// halts publishing is not finished, so it is not included.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read(directory: &Directory, from: u64, watermark: &Mark) -> Result<Self, DiskError> {
        let is_later = |of: Position| watermark.position.is_none_or(|watermark| of > watermark);
        let mut found = Self { directory: Some(directory.clone()), ..Self::default() };
        let wanted = |event: &EventPlace| event.frame > watermark.frame || is_later(event.sequence.0);
        for event in overview::finished_events(directory, from, wanted)? {
            if is_later(event.sequence.0) {
                found.changes.insert(event.sequence, event.offset);
            }
            if event.frame > watermark.frame {
                found.injected.insert((event.frame, event.part), event.offset);
            }
        }
        Ok(found)
    }

    /// Whether the dead-letter file has this event of the log.
    pub fn has(&mut self, frame: &FrameHead, part: u16, line: &[u8]) -> bool {
        let place = (frame.number, part);
        let offset = match frame.kind {
            FrameKind::Change => {
                let of_change = (frame.position, 0)..=(frame.position, u16::MAX);
                if self.changes.range(of_change).next().is_none() {
                    return false;
                }
                sequence_of(line).and_then(|sequence| self.changes.get(&sequence))
            }
            FrameKind::Injected => self.injected.get(&place),
        };
        let Some(offset) = offset.copied().filter(|offset| self.is_of(*offset, line)) else { return false };
        self.seen.insert(place, offset);
        true
    }

    /// Offset of the line of an event for which [`has`](Self::has) returned true.
    pub fn offset(&self, frame: FrameNo, part: u16) -> Option<u64> {
        self.seen.get(&(frame, part)).copied()
    }

    /// Whether the line at `offset` is about this event. After damage or an adoption, the same position or
    /// frame number may belong to another event.
    fn is_of(&self, offset: u64, event: &[u8]) -> bool {
        // If the line cannot be read, the event is sent. At worst it is a repeat.
        let Some(directory) = &self.directory else { return false };
        line_at(directory, offset).is_ok_and(|line| holds_event(&line, event))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dead_letter::DeadLetterFile;
    use crate::event::Origin;
    use crate::position::{CommitSeq, Transaction};

    fn event(sequence: &str) -> String {
        format!("{{\"id\":\"e\",\"sequence\":\"{sequence}\",\"data\":{{}}}}")
    }

    /// The dead letter of a large event. The event was the third of its change and the second record of its
    /// frame, before the dead letter of a failed rule.
    fn write(folder: &Directory) {
        let mut file = DeadLetterFile::open(folder).unwrap();
        let event = event("00000000000000000009000000020002");
        let line = format!(
            "{{\"id\":\"0123456789ab\",\"frame\":10,\"part\":1,\"type\":\"t.v1\",\"key\":\"k\",\"reason\":\"r\",\"event\":{event}}}\n"
        );
        file.append(line.as_bytes()).unwrap();
    }

    fn frame(number: u64, kind: FrameKind, index: u32) -> FrameHead {
        let position = Position { epoch: 0, commit: CommitSeq::new(9), index };
        FrameHead {
            number: FrameNo(number),
            kind,
            origin: Origin::Live,
            position,
            transaction: Transaction::default(),
        }
    }

    #[test]
    fn quarantined_event_is_recognised_by_its_sequence() {
        let folder = tempfile::tempdir().unwrap();
        let directory = Directory::open(folder.path()).unwrap();
        write(&directory);
        let mark = |frame, index| Mark {
            frame: FrameNo(frame),
            position: Some(Position { epoch: 0, commit: CommitSeq::new(9), index }),
        };
        let line = event("00000000000000000009000000020002") + "\n";
        let other = event("00000000000000000009000000020001") + "\n";
        let (change, injected) = (FrameKind::Change, FrameKind::Injected);
        for (watermark, head, part, line, expected) in [
            (mark(9, 1), frame(10, change, 2), 1, &line, true),
            // Received again in another frame, also after the watermark has passed the old frame number.
            (mark(9, 1), frame(12, change, 2), 1, &line, true),
            (mark(10, 1), frame(11, change, 2), 1, &line, true),
            // Another event of the same change, and another event with the same `sequence`.
            (mark(9, 1), frame(10, change, 2), 0, &other, false),
            (mark(9, 1), frame(10, change, 3), 1, &line, false),
            // Below the watermark: finished.
            (mark(10, 2), frame(11, change, 2), 1, &line, false),
            // An event of a retry is sent, unless the same frame delivered it.
            (mark(9, 1), frame(11, injected, 2), 0, &line, false),
            (mark(9, 1), frame(10, injected, 2), 1, &line, true),
        ] {
            let mut found = AlreadyWritten::read(&directory, 0, &watermark).unwrap();
            assert_eq!(
                found.has(&head, part, line.as_bytes()),
                expected,
                "{watermark:?} {head:?} {part} {line}"
            );
            assert_eq!(found.offset(head.number, part).is_some(), expected);
        }
    }
}
