//! Events of the log that the dead-letter file has, though the checkpoint does not say yet that they are finished.
//!
//! A kill between the two brings them again. What the file has was decided: it stays there until a person retries it, also if
//! the stream would take it by now. Otherwise an event that was discarded would leave all the same.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::PathBuf;

use super::Letters;
use crate::buffer::dead_letter::index::{Index, State};
use crate::buffer::dead_letter::line_at;
use crate::buffer::frame::{FrameHead, FrameKind};
use crate::position::{FrameNo, Position};

/// See the module.
#[derive(Debug, Default)]
pub struct PutAside {
    directory: PathBuf,
    /// Where the line of a change's event begins in the file. Its frame may have another number when it comes again: what
    /// was not held yet is received anew.
    changes: BTreeMap<(Position, u16), u64>,
    /// The same for events that a retry brought; their frame is in the checkpoint.
    injected: HashMap<(FrameNo, u16), u64>,
    /// Lines of those that have come again.
    met: HashMap<(FrameNo, u16), u64>,
}

impl PutAside {
    /// What the file has of frames after `low`. What publishing stands before is not put aside yet.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read(letters: &Letters, low: FrameNo) -> io::Result<Self> {
        let index = Index::read(&letters.path())?;
        let mut aside = Self { directory: letters.directory().clone(), ..Self::default() };
        let decided = index.letters().filter(|letter| letter.state != State::Standing);
        for place in decided.flat_map(|letter| &letter.places).filter(|place| place.frame > low) {
            if let Some(sequence) = place.sequence {
                aside.changes.insert(sequence, place.offset);
                aside.injected.insert((place.frame, place.part), place.offset);
            }
        }
        Ok(aside)
    }

    /// Whether the file has this event of the log.
    pub fn has(&mut self, frame: &FrameHead, part: u16, line: &[u8]) -> bool {
        if self.changes.is_empty() {
            return false;
        }
        let place = (frame.number, part);
        let offset = match frame.kind {
            FrameKind::Change => self.changes.get(&(frame.position, part)),
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
