//! Selected dead letters with their states and texts, combined from the lines of the dead-letter file.
//!
//! The last decision counts. A letter that is written again (after a crash, or because a retry failed) has
//! the newer reason and content. States that can be derived from the checkpoint are not written: see
//! [`Index::settle`].

use std::collections::{HashMap, HashSet};

pub use super::entry::State;
use super::entry::{ALREADY_QUARANTINED, Line};

use super::line_reader::LineReader;
use crate::buffer::checkpoint::{Checkpoint, Injection};
use crate::buffer::disk::{Directory, DiskError};
use crate::letter_id::LetterId;
use crate::position::FrameNo;

/// Most references from one letter to another until the raw change is found. In a damaged file they may form
/// a circle.
pub(super) const RAW_IN_MAX: usize = 64;

/// A letter without its raw change or event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// Its id.
    pub id: LetterId,
    /// Offset of its newest line in the file, in bytes.
    pub offset: u64,
    /// All frames that contained it, in the order of the lines.
    pub frames: Vec<FrameNo>,
    /// Event type; for a change, its table.
    pub event_type: String,
    /// Partition key.
    pub key: String,
    /// Why it could not be published, the last time.
    pub reason: String,
    /// Advice for the operator.
    pub hint: Option<String>,
    /// When it was first written, RFC 3339; unknown for a line of version 1.
    pub at: Option<String>,
    /// Commit time of its change, RFC 3339.
    pub committed: Option<String>,
    /// Size in bytes of the event, or of the change as it was received.
    pub size: u64,
    /// The letter of the same change with the raw change; `None`: this one, or it is an event.
    pub raw_in: Option<LetterId>,
    /// Why a retry cannot succeed; `None` if the line does not show a reason.
    pub hopeless: Option<&'static str>,
    /// Its state.
    pub state: State,
    /// When the state was decided, RFC 3339.
    pub since: Option<String>,
    /// Why it was discarded.
    pub note: Option<String>,
}

/// Some letters of a file, in order of appearance.
#[derive(Debug, Default)]
pub struct Index {
    letters: Vec<Letter>,
    by_id: HashMap<LetterId, usize>,
    /// Their ids. All other letters are skipped.
    wanted: HashSet<LetterId>,
    read_to: u64,
}

impl Index {
    /// The letters with these ids that the file has, and those with their raw changes.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn of<'a>(
        directory: &Directory,
        ids: impl IntoIterator<Item = &'a LetterId>,
    ) -> Result<Self, DiskError> {
        let mut index = Self::default();
        index.select(directory, ids)?;
        Ok(index)
    }

    /// Adds the letters with these ids, and reads the lines that were appended since. The file is read from
    /// its start only if an id is new here.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn select<'a>(
        &mut self,
        directory: &Directory,
        ids: impl IntoIterator<Item = &'a LetterId>,
    ) -> Result<(), DiskError> {
        self.want(ids.into_iter().cloned().collect());
        self.catch_up(directory)
    }

    /// Reads the lines that were appended since. A line that is still being written is left for the next
    /// call.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn catch_up(&mut self, directory: &Directory) -> Result<(), DiskError> {
        for _ in 0..RAW_IN_MAX {
            self.read_on(directory)?;
            let raw_letters = self.letters.iter().filter_map(|letter| letter.raw_in.clone()).collect();
            if !self.want(raw_letters) {
                break;
            }
        }
        Ok(())
    }

    /// Adds ids. Returns whether any of them is new, so that everything must be read again.
    fn want(&mut self, ids: HashSet<LetterId>) -> bool {
        let new = ids.iter().any(|id| !self.wanted.contains(id));
        if new {
            self.wanted.extend(ids);
            self.restart();
        }
        new
    }

    fn restart(&mut self) {
        *self = Self { wanted: std::mem::take(&mut self.wanted), ..Self::default() };
    }

    fn read_on(&mut self, directory: &Directory) -> Result<(), DiskError> {
        let Some(mut lines) = LineReader::open(directory, self.read_to)? else { return Ok(()) };
        if lines.offset() < self.read_to {
            self.restart();
        }
        while let Some((offset, line)) = lines.next_line()? {
            let length = line.len() as u64;
            if let Ok(line) = Line::read(line)
                && self.wanted.contains(&line.subject())
            {
                self.take(offset, length, line);
            }
        }
        self.read_to = lines.offset();
        Ok(())
    }

    fn take(&mut self, offset: u64, length: u64, line: Line) {
        if let (Some(id), Some(state)) = (&line.letter, line.state) {
            if let Some(letter) = self.by_id.get(id).and_then(|at| self.letters.get_mut(*at)) {
                letter.state = state;
                letter.since = line.at;
                letter.note = (state == State::Discarded).then_some(line.reason);
            }
            return;
        }
        let newer = line.into_letter(offset, length);
        if let Some(known) = self.by_id.get(&newer.id).and_then(|at| self.letters.get_mut(*at)) {
            known.comes_again(newer);
        } else {
            self.by_id.insert(newer.id.clone(), self.letters.len());
            self.letters.push(newer);
        }
    }

    /// The letter with this id.
    pub fn get(&self, id: &LetterId) -> Option<&Letter> {
        self.by_id.get(id).and_then(|at| self.letters.get(*at))
    }

    /// The letter with the raw change of this one, if that is another one. Its newest line may refer to a
    /// third, if the rules had changed when it was written again.
    pub fn raw_letter(&self, letter: &Letter) -> Option<&Letter> {
        let mut found = self.get(letter.raw_in.as_ref()?)?;
        for _ in 0..RAW_IN_MAX {
            match &found.raw_in {
                None => return Some(found),
                Some(next) => found = self.get(next)?,
            }
        }
        None
    }

    /// Corrects the states according to the checkpoint, which was read before the file. Every retry counts as
    /// requested.
    pub fn settle(&mut self, checkpoint: &Checkpoint) {
        let (watermark, _) = known_to(Some(checkpoint));
        for letter in &mut self.letters {
            let is_published = letter.last_frame().is_some_and(|frame| frame <= watermark);
            letter.state = letter.state.settled(is_published, || true);
        }
    }
}

/// The watermark and the retries of a checkpoint.
pub(super) fn known_to(checkpoint: Option<&Checkpoint>) -> (FrameNo, impl Iterator<Item = &LetterId>) {
    let watermark = checkpoint.map_or(FrameNo(0), |found| found.watermark.frame);
    let injections = checkpoint.map(|found| found.injections.as_slice()).unwrap_or_default();
    let retried = injections.iter().filter_map(|injection| match injection {
        Injection::Retry(retry) => Some(&retry.letter),
        Injection::Gap { .. } | Injection::Lag(_) => None,
    });
    (watermark, retried)
}

/// The letter that results from these lines, given with their offsets.
pub fn folded<'a>(lines: impl IntoIterator<Item = (u64, &'a [u8])>) -> Option<Letter> {
    let mut index = Index::default();
    for (offset, line) in lines {
        index.take(offset, line.len() as u64, Line::read(line).ok()?);
    }
    (index.letters.len() == 1).then(|| index.letters.pop()).flatten()
}

impl Line {
    /// The letter of the line, or the letter that the decision is about.
    fn subject(&self) -> LetterId {
        self.letter.clone().unwrap_or_else(|| self.letter_id())
    }

    fn into_letter(self, offset: u64, length: u64) -> Letter {
        let (id, hopeless) = (self.letter_id(), self.hopeless());
        let size = self.change.as_ref().map_or(length, |change| change.size);
        let raw_in = self.change.as_ref().and_then(|change| change.raw_in.clone());
        let committed = match (self.change, self.event) {
            (Some(change), _) => change.committed,
            (None, Some(event)) => event.recordedtime,
            (None, None) => None,
        };
        Letter {
            id,
            offset,
            frames: vec![self.frame],
            event_type: self.event_type,
            key: self.key,
            reason: self.reason,
            hint: self.hint,
            at: self.at,
            committed,
            size,
            raw_in,
            hopeless,
            state: State::of_first_line(self.halted),
            since: None,
            note: None,
        }
    }
}

impl Letter {
    /// The last frame that contained the letter.
    pub fn last_frame(&self) -> Option<FrameNo> {
        self.frames.last().copied()
    }

    /// Whether this frame contained the letter.
    pub fn came_in(&self, frame: FrameNo) -> bool {
        self.frames.contains(&frame)
    }

    /// Applies a newer line. Its content and reason replace the older ones, unless the reason is only that
    /// there is an older one.
    fn comes_again(&mut self, newer: Self) {
        let mut frames = std::mem::take(&mut self.frames);
        let new = newer.frames.iter().filter(|frame| !frames.contains(frame)).copied();
        frames.extend(new.collect::<Vec<_>>());
        let state = self.state.after_another_line(newer.state == State::Halted);
        let (since, note, at) = (self.since.take(), self.note.take(), self.at.take());
        let first = (std::mem::take(&mut self.reason), self.hint.take());
        let says_nothing_new = newer.reason.ends_with(ALREADY_QUARANTINED);
        *self = newer;
        if says_nothing_new {
            (self.reason, self.hint) = first;
        }
        (self.frames, self.state) = (frames, state);
        (self.since, self.note) = (since, note);
        self.at = at.or_else(|| self.at.take());
    }
}

#[cfg(test)]
mod tests;
