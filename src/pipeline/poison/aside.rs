//! Events of the log that the dead-letter file has, though the checkpoint does not say yet that they are finished.
//!
//! A kill between the two brings them again. What the file has was decided: it stays there until a person retries it, also if
//! the stream would take it by now. Otherwise an event that was discarded would leave all the same.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::PathBuf;

use super::Letters;
use crate::buffer::checkpoint::Mark;
use crate::buffer::dead_letter::index::{Index, State};
use crate::buffer::dead_letter::{line_at, position_of_sequence};
use crate::buffer::frame::{FrameHead, FrameKind};
use crate::position::{FrameNo, Position};

/// See the module.
#[derive(Debug, Default)]
pub struct PutAside {
    directory: PathBuf,
    /// Where the line of a change's event begins in the file, by the event's `sequence`. Its frame may have another number when
    /// it comes again: what was not held yet is received anew. Nor is its place in the frame its ordinal: dead letters of
    /// rules that failed stand behind the events.
    changes: BTreeMap<(Position, u16), u64>,
    /// The same for events that a retry brought; their frame is in the checkpoint.
    injected: HashMap<(FrameNo, u16), u64>,
    /// Lines of those that have come again.
    met: HashMap<(FrameNo, u16), u64>,
}

impl PutAside {
    /// What the file has of what comes after `low`. What publishing stands before is not put aside yet.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read(letters: &Letters, low: &Mark) -> io::Result<Self> {
        let is_later = |of: Position| low.position.is_none_or(|low| of > low);
        let index = Index::read_where(&letters.path(), |place| {
            place.sequence.is_some_and(|(position, _)| place.frame > low.frame || is_later(position))
        })?;
        let mut aside = Self { directory: letters.directory().clone(), ..Self::default() };
        let decided = index.letters().filter(|letter| letter.state != State::Standing);
        for place in decided.flat_map(|letter| &letter.places) {
            let Some(sequence) = place.sequence else { continue };
            if is_later(sequence.0) {
                aside.changes.insert(sequence, place.offset);
            }
            if place.frame > low.frame {
                aside.injected.insert((place.frame, place.part), place.offset);
            }
        }
        Ok(aside)
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
        self.met.insert(place, offset);
        true
    }

    /// The line in the file of an event that [has](Self::has) come again.
    pub fn entry(&self, frame: FrameNo, part: u16) -> Option<io::Result<Vec<u8>>> {
        self.met.get(&(frame, part)).map(|offset| line_at(&self.directory, *offset))
    }

    /// Whether the line at an offset is of this event. A position and a frame's number may have been given again, after
    /// damage or an adoption, to other content.
    fn is_of(&self, offset: u64, event: &[u8]) -> bool {
        let event = event.strip_suffix(b"\n").unwrap_or(event);
        // What cannot be read is sent: a repeat at most.
        line_at(&self.directory, offset).is_ok_and(|line| {
            let before = line.strip_suffix(b"}\n").and_then(|line| line.strip_suffix(event));
            before.is_some_and(|before| before.ends_with(b",\"event\":"))
        })
    }
}

/// What an event says of its place.
fn sequence_of(line: &[u8]) -> Option<(Position, u16)> {
    #[derive(serde::Deserialize)]
    struct Event {
        sequence: String,
    }
    position_of_sequence(&serde_json::from_slice::<Event>(line).ok()?.sequence)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::position::{Lsn, Transaction};

    fn event(sequence: &str) -> String {
        format!("{{\"id\":\"e\",\"sequence\":\"{sequence}\",\"data\":{{}}}}")
    }

    /// The letter of a large event: it was the third of its change, and stood second in its frame, behind which a rule's dead
    /// letter stands.
    fn letters(folder: &std::path::Path) -> Letters {
        let letters = Letters::open(folder.to_owned()).unwrap();
        let event = event("00000000000000000009000000020002");
        let line = format!(
            "{{\"id\":\"0123456789ab\",\"frame\":10,\"part\":1,\"type\":\"t.v1\",\"key\":\"k\",\"reason\":\"r\",\"event\":{event}}}\n"
        );
        letters.append(line.as_bytes()).unwrap();
        letters
    }

    fn frame(number: u64, kind: FrameKind, index: u32) -> FrameHead {
        let position = Position { epoch: 0, commit: Lsn::new(9), index };
        FrameHead { number: FrameNo(number), kind, position, transaction: Transaction::default() }
    }

    #[test]
    fn an_event_is_known_by_what_it_says_of_its_place_whatever_became_of_its_frame() {
        let folder = tempfile::tempdir().unwrap();
        let letters = letters(folder.path());
        let mark = |frame, index| Mark {
            frame: FrameNo(frame),
            position: Some(Position { epoch: 0, commit: Lsn::new(9), index }),
        };
        let line = event("00000000000000000009000000020002") + "\n";
        let other = event("00000000000000000009000000020001") + "\n";
        let (change, injected) = (FrameKind::Change, FrameKind::Injected);
        for (low, head, part, line, expected) in [
            (mark(9, 1), frame(10, change, 2), 1, &line, true),
            // Received anew, after something else; and behind a low that has passed its old number.
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
            let mut aside = PutAside::read(&letters, &low).unwrap();
            assert_eq!(aside.has(&head, part, line.as_bytes()), expected, "{low:?} {head:?} {part} {line}");
            assert_eq!(aside.entry(head.number, part).is_some(), expected);
        }
    }
}
