//! What the dead-letter file says, folded: each letter once, with its state.
//!
//! # The file, version 2
//!
//! Two kinds of lines, each a JSON object. A *letter* is a record that could not leave:
//!
//! ```text
//! {"id":"<12 hex digits>","frame":N,"part":N,"type":"…","key":"…","reason":"…","at":"<time>","standing":true,
//!  "change":{…} | "event":{…}}
//! ```
//!
//! (`standing` only where publishing stands before it; lines of version 1 have no `id` and no `at`, and read as they
//! are.) An *act* says what became of one:
//!
//! ```text
//! {"letter":"<id>","state":"retrying|published|waiting|discarded","at":"<time>","frame":N,"reason":"…"}
//! ```
//!
//! The last act counts. A letter that comes again (after a crash, or because a retry failed) adds its newer reason and
//! content. What of a state can be derived from the checkpoint is not written: see [`Index::settle`].

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Seek as _, SeekFrom};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::id::{LetterId, position_of, position_of_sequence};
use crate::buffer::checkpoint::{Checkpoint, Injection};
use crate::position::{FrameNo, Position};

/// Where a letter stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Put aside; a person has not decided.
    Waiting,
    /// Publishing stands before it (`on_poison = "stop"`).
    Standing,
    /// To be published: the change is being translated again, or its event is under way.
    Retrying,
    /// The stream has it.
    Published,
    /// A person has given it up.
    Discarded,
}

impl State {
    /// As it is shown.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Standing => "standing",
            Self::Retrying => "retrying",
            Self::Published => "published",
            Self::Discarded => "discarded",
        }
    }

    /// Whether a person may decide about it.
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Waiting | Self::Standing)
    }
}

/// A record of the log that is in the file, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its frame.
    pub frame: FrameNo,
    /// Its ordinal there.
    pub part: u16,
    /// What its `sequence` says, if it is an event: where its change stands, and its ordinal among the change's events.
    pub sequence: Option<(Position, u16)>,
    /// Where its line begins in the file, in bytes.
    pub offset: u64,
}

/// Everything but the raw change or the event itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// Its name.
    pub id: LetterId,
    /// Where its newest line begins in the file, in bytes.
    pub offset: u64,
    /// Every record that brought it, in the order of the lines.
    pub places: Vec<Place>,
    /// Event type; for a change, its table.
    pub event_type: String,
    /// Partition key.
    pub key: String,
    /// Why it could not leave, the last time.
    pub reason: String,
    /// When it was put aside, RFC 3339; unknown in a line of version 1.
    pub at: Option<String>,
    /// Commit time of its change, RFC 3339.
    pub committed: Option<String>,
    /// Bytes of the event, or of the change as it was received.
    pub size: u64,
    /// Why a retry cannot help, if it is known beforehand.
    pub hopeless: Option<&'static str>,
    /// Where it stands.
    pub state: State,
    /// Since when, RFC 3339, if anybody has acted.
    pub since: Option<String>,
    /// Why it was discarded.
    pub note: Option<String>,
}

/// The letters of a file, in order of appearance.
#[derive(Debug, Default)]
pub struct Index {
    letters: Vec<Letter>,
    by_id: HashMap<LetterId, usize>,
    read_to: u64,
    /// Lines that say nothing that could be understood.
    pub unreadable: u64,
}

#[derive(Deserialize)]
struct Line {
    id: Option<LetterId>,
    letter: Option<LetterId>,
    state: Option<State>,
    at: Option<String>,
    #[serde(default)]
    frame: FrameNo,
    #[serde(default)]
    part: u16,
    #[serde(rename = "type", default)]
    event_type: String,
    #[serde(default)]
    key: String,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    standing: bool,
    change: Option<ChangeHead>,
    event: Option<EventHead>,
}

#[derive(Deserialize)]
struct ChangeHead {
    position: Option<String>,
    committed: Option<String>,
    #[serde(default)]
    size: u64,
    #[serde(default)]
    raw_kept: u64,
    relation: Option<serde::de::IgnoredAny>,
    /// It is a logical message, which has no table.
    #[serde(default)]
    message: bool,
}

#[derive(Deserialize)]
struct EventHead {
    sequence: Option<String>,
    recordedtime: Option<String>,
}

impl Index {
    /// All letters of the directory's file; none if there is no file.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read(path: &Path) -> io::Result<Self> {
        Self::read_where(path, |_| true)
    }

    /// The letters of records in such places only: the memory is theirs, however long the file is.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read_where(path: &Path, wanted: impl Fn(&Place) -> bool) -> io::Result<Self> {
        let mut index = Self::default();
        index.go_through(path, wanted)?;
        Ok(index)
    }

    /// Reads what was appended since; a line that is still being written is left for the next time.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn catch_up(&mut self, path: &Path) -> io::Result<()> {
        self.go_through(path, |_| true)
    }

    fn go_through(&mut self, path: &Path, wanted: impl Fn(&Place) -> bool) -> io::Result<()> {
        let mut file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        if file.metadata()?.len() < self.read_to {
            *self = Self::default();
        }
        file.seek(SeekFrom::Start(self.read_to))?;
        let mut lines = BufReader::with_capacity(256 << 10, file);
        let mut line = Vec::new();
        loop {
            line.clear();
            let length = lines.read_until(b'\n', &mut line)?;
            if length == 0 || line.last() != Some(&b'\n') {
                return Ok(());
            }
            match serde_json::from_slice(&line) {
                Ok(parsed) => self.take(parsed, length as u64, &wanted),
                Err(_) => self.unreadable += 1,
            }
            self.read_to += length as u64;
        }
    }

    fn take(&mut self, line: Line, length: u64, wanted: impl Fn(&Place) -> bool) {
        if let (Some(id), Some(state)) = (&line.letter, line.state) {
            if let Some(letter) = self.by_id.get(id).and_then(|at| self.letters.get_mut(*at)) {
                letter.state = state;
                letter.since = line.at;
                letter.note = (state == State::Discarded).then_some(line.reason);
            }
            return;
        }
        let offset = self.read_to;
        let id = line.id.clone().unwrap_or_else(|| line.derived_id());
        let fresh = line.into_letter(id, offset, length);
        if !fresh.places.iter().any(wanted) {
            return;
        }
        if let Some(known) = self.by_id.get(&fresh.id).and_then(|at| self.letters.get_mut(*at)) {
            known.comes_again(fresh);
        } else {
            self.by_id.insert(fresh.id.clone(), self.letters.len());
            self.letters.push(fresh);
        }
    }

    /// The letter that one line says, if it says one.
    pub fn of_line(line: &[u8]) -> Option<Letter> {
        let parsed: Line = serde_json::from_slice(line).ok()?;
        let mut index = Self::default();
        index.take(parsed, line.len() as u64, |_| true);
        index.letters.pop()
    }

    /// In order of appearance.
    pub fn letters(&self) -> impl Iterator<Item = &Letter> {
        self.letters.iter()
    }

    /// One by its whole id.
    pub fn get(&self, id: &LetterId) -> Option<&Letter> {
        self.by_id.get(id).and_then(|at| self.letters.get(*at))
    }

    /// Those whose ids begin with what was typed.
    pub fn typed(&self, text: &str) -> Vec<&Letter> {
        self.letters.iter().filter(|letter| letter.id.begins_with(text)).collect()
    }

    /// Corrects the states by what only the checkpoint (read before the file) and the requests know.
    pub fn settle(&mut self, checkpoint: Option<&Checkpoint>, requested: impl Fn(&LetterId) -> bool) {
        let low = checkpoint.map_or(FrameNo(0), |found| found.low.frame);
        let injections = checkpoint.map(|found| found.injections.as_slice()).unwrap_or_default();
        let retried = injections.iter().filter_map(|injection| match injection {
            Injection::Retry(retry) => Some(&retry.letter),
            Injection::Gap { .. } => None,
        });
        let pending: HashSet<&LetterId> = retried.collect();
        for letter in &mut self.letters {
            letter.state = match letter.state {
                // Nothing passes it but itself, or an act that would have been written.
                State::Standing if letter.last_frame().is_some_and(|frame| frame <= low) => State::Published,
                // Its checkpoint is gone: nobody retries it any more.
                State::Retrying if !pending.contains(&letter.id) && !requested(&letter.id) => State::Waiting,
                state => state,
            };
        }
    }
}

impl Line {
    fn derived_id(&self) -> LetterId {
        let change = self.change.as_ref().and_then(|change| position_of(change.position.as_deref()?));
        let event = self.event.as_ref().and_then(|event| event.sequence.as_deref());
        match (change, event) {
            (Some(position), _) => LetterId::of(position, 0),
            (None, Some(sequence)) => LetterId::of_sequence(sequence),
            (None, None) => LetterId::of_text(&format!("{} {} {}", self.frame, self.part, self.key)),
        }
    }

    fn into_letter(self, id: LetterId, offset: u64, length: u64) -> Letter {
        let hopeless = match (&self.change, &self.event) {
            (Some(change), _) if change.raw_kept < change.size => {
                Some("only the beginning of its raw change was kept")
            }
            (Some(change), _) if change.relation.is_none() && !change.message => Some(
                "its table's description was not kept: release 0.1.0 wrote the line, or the table was not known",
            ),
            (None, None) => Some("neither a change nor an event was kept"),
            _ => None,
        };
        let size = self.change.as_ref().map_or(length, |change| change.size);
        let sequence = self.event.as_ref().and_then(|event| position_of_sequence(event.sequence.as_deref()?));
        let committed = match (self.change, self.event) {
            (Some(change), _) => change.committed,
            (None, Some(event)) => event.recordedtime,
            (None, None) => None,
        };
        Letter {
            id,
            offset,
            places: vec![Place { frame: self.frame, part: self.part, sequence, offset }],
            event_type: self.event_type,
            key: self.key,
            reason: self.reason,
            at: self.at,
            committed,
            size,
            hopeless,
            state: if self.standing { State::Standing } else { State::Waiting },
            since: None,
            note: None,
        }
    }
}

impl Letter {
    /// The frame that brought it last.
    pub fn last_frame(&self) -> Option<FrameNo> {
        self.places.last().map(|place| place.frame)
    }

    /// Whether this frame brought it.
    pub fn came_in(&self, frame: FrameNo) -> bool {
        self.places.iter().any(|place| place.frame == frame)
    }

    /// A newer line: content and reason are the newer ones. Acts say more than coming again does.
    fn comes_again(&mut self, newer: Self) {
        let mut places = std::mem::take(&mut self.places);
        for newer in &newer.places {
            match places.iter_mut().find(|place| (place.frame, place.part) == (newer.frame, newer.part)) {
                Some(place) => *place = *newer,
                None => places.push(*newer),
            }
        }
        let (state, since, note) = (self.state, self.since.take(), self.note.take());
        let at = self.at.take();
        *self = newer;
        self.places = places;
        self.at = at.or_else(|| self.at.take());
        // Publishing does not stand before what was put away once.
        if state == State::Standing {
            return;
        }
        (self.state, self.since, self.note) = (state, since, note);
    }
}

#[cfg(test)]
mod tests;
