//! Injections: records that are not changes, between two transactions.

use super::{Appender, LOG_AGAIN};
use crate::buffer::checkpoint::Injection;
use crate::buffer::disk::DiskError;
use crate::buffer::frame::FrameKind;
use crate::buffer::ledger::SharedLedger;
use crate::dead_letter::FILE_NAME;
use crate::failure::Failure;
use crate::pipeline::dead_letter::{retry, worker};
use crate::pipeline::ingest::injection;
use crate::position::{Position, Transaction};
use crate::time;

/// Once this many bytes are injected at one transaction boundary, the rest waits for the next. A dead letter
/// can have megabytes, and no feedback is sent to the server while its records are created.
const INJECT_AT_ONCE: usize = 4 << 20;

impl Appender {
    /// Appends pending injections if no transaction is open. Injections without space, or beyond the limit of
    /// one boundary, follow at the next boundary.
    pub(in crate::pipeline) fn inject(&mut self, ledger: &SharedLedger) -> Result<(), Failure> {
        if self.open || !ledger.lock().has_to_inject() {
            return Ok(());
        }
        let pending = ledger.lock().to_inject();
        let mut bytes = 0;
        for injection in pending {
            if bytes >= INJECT_AT_ONCE {
                return Ok(());
            }
            self.records.clear();
            let position = match self.make(&injection) {
                Ok(position) => position,
                Err(error) => {
                    self.log_unreadable(&error);
                    continue;
                }
            };
            bytes += self.records.size();
            let appended =
                self.writer.append(FrameKind::Injected, position, Transaction::default(), &self.records);
            match appended {
                Err(error) if error.is_full() => return Ok(()),
                appended => self.frame = appended?,
            }
            self.count();
            ledger.lock().injected(self.frame, injection);
        }
        Ok(())
    }

    /// Logs, at most once a minute, that retries wait because the dead-letter file cannot be read. Receiving
    /// continues.
    fn log_unreadable(&mut self, error: &DiskError) {
        let now = time::now();
        if self.logged_unreadable.is_none_or(|last| now.duration_since(last) >= LOG_AGAIN) {
            self.logged_unreadable = Some(now);
            tracing::error!(
                event = "dead_letters_unreadable", %error, file = %self.log.config().directory.path_of(FILE_NAME).display(),
                hint = "Make the user that runs Forebay the owner of this file.",
                "cannot read the dead-letter file; retries wait"
            );
        }
    }

    /// Creates the records of an injection. If a dead letter is missing or cannot be retried, the frame is
    /// empty.
    fn make(&mut self, injection: &Injection) -> Result<Position, DiskError> {
        if let Some(position) = injection::write(injection, self.translator.source(), &mut self.records) {
            return Ok(position);
        }
        let Injection::Retry(letter) = injection else { return Ok(Position::default()) };
        let directory = &self.log.config().directory;
        let lines = worker::find(directory, letter)?;
        let tools = retry::RetryTools { translator: &self.translator, source: &*self.source };
        let made = lines.map(|lines| retry::records(&lines, tools, &mut self.records));
        match made {
            Some(Ok(position)) => return Ok(position),
            Some(Err(error)) => {
                tracing::error!(
                    event = "dead_letter_not_retried", letter = %letter.letter, %error, hint = error.hint(),
                    "dead letter cannot be retried"
                );
            }
            None => tracing::error!(
                event = "dead_letter_not_retried", letter = %letter.letter,
                "dead letter to retry is not in the file"
            ),
        }
        self.records.clear();
        Ok(Position::default())
    }
}
