//! Writes batches of dead letters, with one fsync each.

use crate::dead_letter::entry::{self, ContentKind, END, LetterEntry, State};
use crate::dead_letter::overview::Overview;
use crate::dead_letter::{self, DeadLetterError, FILE_NAME};
use crate::failure::{Explain as _, Failure};
use crate::letter_id::LetterId;
use crate::pipeline::meters;
use crate::position::{FrameNo, Position};
use crate::sink::lanes::DeadReason;

use super::quarantine::{Fate, Report, ToWrite, reason};
use super::worker::DeadLetterWorker;

impl DeadLetterWorker {
    /// Writes a batch as far as the file has space, and makes it durable. After a failure that may pass (the
    /// file cannot be opened because no descriptor is left), the rest of the batch is submitted again later.
    pub(super) fn write(&mut self, batch: Vec<ToWrite>) -> Result<Report, Failure> {
        let mut report = Report::with_capacity(batch.len());
        let mut blocked: Option<Pushed> = None;
        for to_write in batch {
            let pushed = if blocked.is_some() { Ok(Fate::NoRoom) } else { self.push(&to_write) };
            let fate = match pushed {
                Ok(fate) => fate,
                Err(Pushed::Failed(Failure::Stop(problem))) => return Err(Failure::Stop(problem)),
                Err(passes) => {
                    blocked = Some(passes);
                    Fate::NoRoom
                }
            };
            report.push((to_write.record, fate));
        }
        self.file.sync()?;
        meters::dead_letter_file(self.file.size(), self.parts.max_size);
        let written = report.iter().filter(|(_, fate)| *fate == Fate::Written).count();
        if let (Some((letter, reason)), Some((record, _))) = (self.first.take(), report.first()) {
            tracing::error!(
                event = "dead_letters_written", letters = written, first = %letter, frame = %record.frame,
                event_type = &*record.event_type, reason, hint = "Run `forebay dlq list`.",
                "dead letters written"
            );
        }
        let waiting = report.iter().filter(|(_, fate)| *fate == Fate::NoRoom).count();
        match blocked {
            None => {}
            Some(Pushed::NoRoom(error)) => tracing::error!(
                event = "dead_letters_full", %error, detail = error.detail(), hint = error.hint(), records = waiting,
                "cannot write dead letters; events of the affected keys are blocked"
            ),
            Some(Pushed::Failed(failure)) => tracing::error!(
                event = "dead_letters_unreadable",
                error = failure.problem().primary(),
                detail = failure.problem().detail(),
                hint = failure.problem().hint(),
                records = waiting,
                "cannot read the dead-letter file; events of the affected keys are blocked"
            ),
        }
        meters::dead_letters_blocked(waiting);
        Ok(report)
    }

    fn push(&mut self, to_write: &ToWrite) -> Result<Fate, Pushed> {
        let record = &to_write.record;
        if let Some(offset) = to_write.written_at {
            let line = dead_letter::line_at(&self.parts.directory, offset).map_err(Failure::retry)?;
            self.append_letter(record.frame, entry::position_of_line(&line), &[&line])?;
            return Ok(Fate::Written);
        }
        let reason = reason(record);
        let entry = LetterEntry {
            frame: record.frame,
            part: record.part,
            event_type: &record.event_type,
            key: &record.key,
            reason: &reason,
            kind: match record.reason {
                DeadReason::Untranslated => ContentKind::Change,
                DeadReason::TooLarge { .. } | DeadReason::Rejected => ContentKind::Event,
            },
            line: &record.line,
            halted: to_write.halts,
        };
        let (id, position, head) = entry.head();
        if to_write.halts {
            match self.known(&id)? {
                Some((State::Halted, frame)) if frame == record.frame => {
                    self.parts.inbox.decisions.halt(Some(id.clone()));
                    return Ok(Fate::Halts(id));
                }
                Some((State::Halted, _)) | None => {}
                Some(_) => return Ok(Fate::Written),
            }
        }
        let (size, max) = (self.file.size(), self.parts.max_size);
        if self.file.exceeds(head.len() + entry.content().len() + END.len(), max) {
            let path = self.parts.directory.path_of(FILE_NAME);
            return Err(DeadLetterError::AtItsLimit { path, size, max }.into());
        }
        self.append_letter(record.frame, position, &[&head, entry.content(), END])?;
        if to_write.halts {
            // The halt is set first: an operator could read the line and decide at once.
            self.parts.inbox.decisions.halt(Some(id.clone()));
            return Ok(Fate::Halts(id));
        }
        self.first.get_or_insert((id, reason));
        Ok(Fate::Written)
    }

    fn append_letter(
        &mut self,
        frame: FrameNo,
        position: Option<Position>,
        parts: &[&[u8]],
    ) -> Result<(), Pushed> {
        let offset = self.file.size();
        self.file.push(parts)?;
        self.parts.ledger.lock().letter_written(offset, self.file.size(), frame, position);
        Ok(())
    }

    /// The state of a letter in the file whose record is not published, and the frame that delivered it last.
    /// A file that cannot be read now may be readable later, so that is a failure to retry.
    fn known(&mut self, id: &LetterId) -> Result<Option<(State, FrameNo)>, Failure> {
        let unpublished = self
            .unpublished
            .get_or_insert_with(|| Overview::starting_at(self.parts.ledger.lock().letters_from()));
        if let Err(error) = unpublished.catch_up(&self.parts.directory) {
            // The read may have stopped half-way. The next one starts again, so that no line counts twice.
            self.unpublished = None;
            return Err(Failure::retry(error));
        }
        Ok(unpublished.get(id).map(|letter| (letter.state, letter.last_frame)))
    }
}

/// Why a record was not written.
enum Pushed {
    NoRoom(DeadLetterError),
    Failed(Failure),
}

impl From<DeadLetterError> for Pushed {
    fn from(error: DeadLetterError) -> Self {
        match error {
            DeadLetterError::Full { .. } | DeadLetterError::AtItsLimit { .. } => Self::NoRoom(error),
            DeadLetterError::Disk(_) => Self::Failed(error.into()),
        }
    }
}

impl From<Failure> for Pushed {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}
