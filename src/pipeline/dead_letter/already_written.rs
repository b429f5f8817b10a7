//! Events that the dead-letter file has already, although the checkpoint does not count them as finished yet.
//!
//! After a crash between the two writes, the log delivers them again. An event in the file stays there until it is retried, even
//! if the stream would accept it now. Otherwise a discarded event could be published.

use std::collections::{BTreeMap, HashMap};

use crate::buffer::checkpoint::Mark;
use crate::buffer::disk::{Directory, DiskError};
use crate::buffer::frame::{FrameHead, FrameKind};
use crate::dead_letter::entry::{holds_event, sequence_of};
use crate::dead_letter::line_at;
use crate::dead_letter::overview::{self, EventPlace};
use crate::position::{FrameNo, Position};

/// Letters of records beyond the watermark.
#[derive(Debug, Default)]
pub struct AlreadyWritten {
    /// `None`: nothing was read.
    directory: Option<Directory>,
    /// Where the line of a change's event begins in the file, by the event's `sequence`. Its frame may have another number when
    /// it comes again: what was not durable is received anew. Its place in the frame is not its ordinal either: dead letters of
    /// rules that failed follow the events.
    changes: BTreeMap<(Position, u16), u64>,
    /// The same for events that a retry brought; their frame is in the checkpoint.
    injected: HashMap<(FrameNo, u16), u64>,
    /// Lines of those that have come again.
    seen: HashMap<(FrameNo, u16), u64>,
}

impl AlreadyWritten {
    /// What the file has, from the line at `from` on, of what comes after `watermark`. A letter that publishing is halted before
    /// is not finished.
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

    /// Whether the file has this event of the log.
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

    /// Where the line begins of an event that [has](Self::has) come again.
    pub fn offset(&self, frame: FrameNo, part: u16) -> Option<u64> {
        self.seen.get(&(frame, part)).copied()
    }

    /// Whether the line at an offset is of this event. A position and a frame's number may have been given again, after
    /// damage or an adoption, to other content.
    fn is_of(&self, offset: u64, event: &[u8]) -> bool {
        // What cannot be read is sent: a repeat at most.
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

    /// The letter of a large event: it was the third of its change, and the second record of its frame, followed by a rule's
    /// dead letter.
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
            // Received anew, after something else; and after the watermark has passed its old number.
            (mark(9, 1), frame(12, change, 2), 1, &line, true),
            (mark(10, 1), frame(11, change, 2), 1, &line, true),
            // Others of its change, and others that say so.
            (mark(9, 1), frame(10, change, 2), 0, &other, false),
            (mark(9, 1), frame(10, change, 3), 1, &line, false),
            // Finished.
            (mark(10, 2), frame(11, change, 2), 1, &line, false),
            // A retry is to be sent, unless it was that frame that brought it.
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
