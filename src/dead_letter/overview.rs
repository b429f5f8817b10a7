//! All letters of the file in a few bytes each: the state, and the offsets of its lines. Texts are read when
//! they are shown, so memory depends on the number of letters and not on their size.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::entry::{Line, State};
use super::index::{self, Letter};
use super::line_at;
use super::line_reader::LineReader;
use crate::buffer::checkpoint::Checkpoint;
use crate::buffer::disk::{Directory, DiskError};
use crate::letter_id::LetterId;
use crate::position::{FrameNo, Position};

/// One letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LetterSummary {
    /// Its id.
    pub id: LetterId,
    /// Its state.
    pub state: State,
    /// The frame of its newest line.
    pub last_frame: FrameNo,
    /// Offset of its first line, in bytes.
    first: u64,
    /// Offset of its newest line, in bytes.
    newest: u64,
    /// Offset of the newest decision about it, in bytes.
    decision: Option<u64>,
}

/// An event in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventPlace {
    id: LetterId,
    /// Frame of the log that contained it.
    pub frame: FrameNo,
    /// Its index in the frame.
    pub part: u16,
    /// The position of its change, and its index among the change's events.
    pub sequence: (Position, u16),
    /// Offset of its line, in bytes.
    pub offset: u64,
}

/// The wanted events in the lines from offset `from` on. An event that halts publishing is left out, because
/// it is not finished.
///
/// # Errors
/// The file cannot be read.
pub fn finished_events(
    directory: &Directory,
    from: u64,
    wanted: impl Fn(&EventPlace) -> bool,
) -> Result<Vec<EventPlace>, DiskError> {
    let mut events = Vec::new();
    let mut overview = Overview::starting_at(from);
    overview.read_on(directory, |offset, line| {
        let Some(sequence) = line.sequence() else { return };
        let event = EventPlace { id: line.letter_id(), frame: line.frame, part: line.part, sequence, offset };
        if wanted(&event) {
            events.push(event);
        }
    })?;
    let is_halted = |id: &LetterId| overview.get(id).is_some_and(|letter| letter.state == State::Halted);
    events.retain(|event| !is_halted(&event.id));
    Ok(events)
}

/// Changes beyond `after` that are dead letters, in the lines from offset `from` on: the types of the events
/// whose rules failed, or an empty list for a whole change. A letter that halts publishing is left out.
///
/// # Errors
/// The file cannot be read.
pub fn quarantined_changes(
    directory: &Directory,
    from: u64,
    after: Option<Position>,
) -> Result<BTreeMap<Position, Vec<String>>, DiskError> {
    let mut found = Vec::new();
    let mut overview = Overview::starting_at(from);
    overview.read_on(directory, |_, line| {
        if let Some(position) = line.position().filter(|at| line.change.is_some() && Some(*at) > after) {
            let id = line.letter_id();
            let rule = (id != LetterId::of(position, 0)).then(|| line.event_type.clone());
            found.push((position, id, rule));
        }
    })?;
    let is_halted = |id: &LetterId| overview.get(id).is_some_and(|letter| letter.state == State::Halted);
    let mut changes: BTreeMap<Position, Vec<String>> = BTreeMap::new();
    for (position, _, rule) in found.into_iter().filter(|(_, id, _)| !is_halted(id)) {
        changes.entry(position).or_default().extend(rule);
    }
    Ok(changes)
}

/// Calls `each` for every letter in the lines from offset `from` on, with the beginning and end of its line,
/// its frame and its position.
///
/// # Errors
/// The file cannot be read.
pub fn records_from(
    directory: &Directory,
    from: u64,
    mut each: impl FnMut(u64, u64, FrameNo, Option<Position>),
) -> Result<(), DiskError> {
    let Some(mut lines) = LineReader::open(directory, from)? else { return Ok(()) };
    while let Some((offset, line)) = lines.next_line()? {
        let end = offset + line.len() as u64;
        if let Ok(line) = Line::read(line)
            && line.letter.is_none()
        {
            each(offset, end, line.frame, line.position());
        }
    }
    Ok(())
}

/// The letters of a file, in order of appearance.
#[derive(Debug, Default)]
pub struct Overview {
    letters: Vec<LetterSummary>,
    by_id: HashMap<LetterId, usize>,
    read_to: u64,
    /// Lines that are neither a letter nor a decision.
    pub unreadable: u64,
}

impl Overview {
    /// All letters of the directory's file; empty if there is no file.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read(directory: &Directory) -> Result<Self, DiskError> {
        let mut overview = Self::default();
        overview.catch_up(directory)?;
        Ok(overview)
    }

    /// Prepares to read the letters from the line at `from` on.
    pub fn starting_at(from: u64) -> Self {
        Self { read_to: from, ..Self::default() }
    }

    /// Reads the lines that were appended since.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn catch_up(&mut self, directory: &Directory) -> Result<(), DiskError> {
        self.read_on(directory, |_, _| {})
    }

    fn read_on(&mut self, directory: &Directory, mut each: impl FnMut(u64, &Line)) -> Result<(), DiskError> {
        let Some(mut lines) = LineReader::open(directory, self.read_to)? else { return Ok(()) };
        if lines.offset() < self.read_to {
            *self = Self::default();
        }
        while let Some((offset, line)) = lines.next_line()? {
            match Line::read(line) {
                Ok(line) => {
                    each(offset, &line);
                    self.take(offset, &line);
                }
                Err(_) => self.unreadable += 1,
            }
        }
        self.read_to = lines.offset();
        Ok(())
    }

    /// Adds the line at an offset.
    fn take(&mut self, offset: u64, line: &Line) {
        if let (Some(id), Some(state)) = (&line.letter, line.state) {
            if let Some(letter) = self.by_id.get(id).and_then(|at| self.letters.get_mut(*at)) {
                (letter.state, letter.decision) = (state, Some(offset));
            }
            return;
        }
        let id = line.letter_id();
        if let Some(known) = self.by_id.get(&id).and_then(|at| self.letters.get_mut(*at)) {
            known.state = known.state.after_another_line(line.halted);
            (known.newest, known.last_frame) = (offset, line.frame);
            return;
        }
        let state = State::of_first_line(line.halted);
        self.by_id.insert(id.clone(), self.letters.len());
        self.letters.push(LetterSummary {
            id,
            state,
            last_frame: line.frame,
            first: offset,
            newest: offset,
            decision: None,
        });
    }

    /// The letters in order of appearance.
    pub fn letters(&self) -> impl Iterator<Item = &LetterSummary> {
        self.letters.iter()
    }

    /// The letter with this id.
    pub fn get(&self, id: &LetterId) -> Option<&LetterSummary> {
        self.by_id.get(id).and_then(|at| self.letters.get(*at))
    }

    /// The letters whose ids begin with this text.
    pub fn typed(&self, text: &str) -> Vec<&LetterSummary> {
        self.letters.iter().filter(|letter| letter.id.begins_with(text)).collect()
    }

    /// A letter without its raw change or event.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn letter(
        &self,
        directory: &Directory,
        summary: &LetterSummary,
    ) -> Result<Option<Letter>, DiskError> {
        let again = (summary.newest != summary.first).then_some(summary.newest);
        let mut lines = Vec::new();
        for offset in [Some(summary.first), again, summary.decision].into_iter().flatten() {
            lines.push((offset, line_at(directory, offset)?));
        }
        let letter = index::folded(lines.iter().map(|(offset, line)| (*offset, line.as_slice())));
        Ok(letter.map(|letter| Letter { state: summary.state, ..letter }))
    }

    /// The letter with the raw change of this one, if that is another one.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn raw_letter(&self, directory: &Directory, letter: &Letter) -> Result<Option<Letter>, DiskError> {
        let mut next = letter.raw_in.clone();
        for _ in 0..index::RAW_IN_MAX {
            let Some(summary) = next.and_then(|id| self.get(&id)) else { return Ok(None) };
            let Some(found) = self.letter(directory, summary)? else { return Ok(None) };
            if found.raw_in.is_none() {
                return Ok(Some(found));
            }
            next = found.raw_in;
        }
        Ok(None)
    }

    /// Corrects the states according to the checkpoint, which was read before the file, and to the open
    /// requests.
    pub fn settle(&mut self, checkpoint: Option<&Checkpoint>, requested: impl Fn(&LetterId) -> bool) {
        let (watermark, pending) = index::known_to(checkpoint);
        let pending: HashSet<&LetterId> = pending.collect();
        for letter in &mut self.letters {
            let is_pending = || pending.contains(&letter.id) || requested(&letter.id);
            letter.state = letter.state.settled(letter.last_frame <= watermark, is_pending);
        }
    }
}

#[cfg(test)]
mod tests;
