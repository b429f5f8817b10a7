//! The thread that owns the dead-letter file: it writes the batches of the publish loop, with one fsync each,
//! and carries out the requests of operators.
//!
//! A retry has these steps. If the process dies between any two of them, the next start continues:
//!
//! 1. `forebay dlq` writes the request into the buffer directory, and the worker finds it.
//! 2. The worker writes a `retrying` decision to the dead-letter file.
//! 3. The checkpoint lists the letter among its injections. Now the request is deleted.
//! 4. Ingest injects the records at a transaction boundary. Once they are durable, the checkpoint has their
//!    frame.
//! 5. The watermark passes the frame. The same checkpoint moves the event counts and marks the retry as
//!    settled.
//! 6. The worker writes a `published` decision to the dead-letter file, or `waiting` if the letter failed
//!    again in that frame.
//! 7. The checkpoint drops the injection.
//!
//! A discard is one line in the file. If publishing is halted before the record, the publish loop continues.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::buffer::checkpoint::Retry;
use crate::buffer::disk::{Directory, DiskError};
use crate::buffer::ledger::SharedLedger;
use crate::dead_letter::entry::{self, Content, Lines, State, decision};
use crate::dead_letter::index::{Index, Letter, folded};
use crate::dead_letter::overview::{self, Overview};
use crate::dead_letter::request::{self, Act, Filed, Request};
use crate::dead_letter::{self, DeadLetterFile, FILE_NAME};
use crate::event::Records;
use crate::failure::Failure;
use crate::letter_id::LetterId;
use crate::pipeline::{Phase, meters};
use crate::source::Redecode;
use crate::translate::Translator;

use super::quarantine::{Inbox, Verdict};
use super::retry::{self, RetryTools};

/// How often the worker checks for requests. An operator waits for the result.
const EVERY: Duration = Duration::from_millis(300);
/// A check that keeps failing is logged once every so many times.
const LOG_EVERY: u32 = 100;
/// Most retries at a time. Each takes about 130 bytes in the checkpoint.
const RETRIES_MAX: usize = 512;
/// Most letters that are discarded with one fsync.
const DISCARD_AT_ONCE: usize = 256;

/// Everything that the worker needs.
#[derive(Debug)]
pub struct WorkerParts {
    /// The buffer directory.
    pub directory: Directory,
    /// The ledger.
    pub ledger: SharedLedger,
    /// Decides whether a change can be translated now.
    pub translator: Translator,
    /// Reads captured changes.
    pub source: Arc<dyn Redecode>,
    /// Most bytes of records that fit into one frame of the log.
    pub limit: usize,
    /// Largest size of the dead-letter file in bytes.
    pub max_size: u64,
    /// Receives the batches of the publish loop.
    pub inbox: Inbox,
    /// Whether the process runs or stops.
    pub phase: watch::Receiver<Phase>,
}

/// Writes dead letters and carries out requests.
#[derive(Debug)]
pub struct DeadLetterWorker {
    pub(super) parts: WorkerParts,
    pub(super) file: DeadLetterFile,
    /// The first new letter of the batch, and its reason. Each batch is one line in the log.
    pub(super) first: Option<(LetterId, String)>,
    /// The letters of the current requests and retries.
    index: Option<Index>,
    /// With `on_poison = "stop"`: letters whose records are not published. Read from the file once, then kept
    /// up to date.
    pub(super) unpublished: Option<Overview>,
    /// Letters that cannot be retried, as was logged. They belong to the current requests.
    refused: HashSet<LetterId>,
    /// Letters whose retry was begun, by request file. A request retries each letter once, even if it still
    /// waits for others.
    begun: HashMap<PathBuf, HashSet<LetterId>>,
    /// Checks that have failed since the last success.
    failed_looks: u32,
}

/// Whether a request is finished, or must be checked again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Done,
    Pending,
}

impl DeadLetterWorker {
    /// Opens the dead-letter file.
    ///
    /// # Errors
    /// The file cannot be opened or read.
    pub fn open(parts: WorkerParts) -> Result<Self, Failure> {
        let file = DeadLetterFile::open(&parts.directory)?;
        Self::note_unpublished(&parts)?;
        meters::dead_letter_file(file.size(), parts.max_size);
        meters::dead_letters_blocked(0);
        Ok(Self {
            parts,
            file,
            first: None,
            index: None,
            unpublished: None,
            refused: HashSet::new(),
            begun: HashMap::new(),
            failed_looks: 0,
        })
    }

    /// Reports the offsets of letters of unpublished records to the ledger.
    fn note_unpublished(parts: &WorkerParts) -> Result<(), DiskError> {
        let from = parts.ledger.lock().letters_from();
        overview::records_from(&parts.directory, from, |offset, end, frame, position| {
            parts.ledger.lock().letter_written(offset, end, frame, position);
        })
    }

    /// Works until the publish loop has ended. It blocks on the disk, so it has a thread of its own.
    ///
    /// # Errors
    /// A write or fsync failed.
    pub async fn run(mut self) -> Result<(), Failure> {
        let mut phase = self.parts.phase.clone();
        let mut next_look = Instant::now();
        loop {
            let running = *phase.borrow() == Phase::Running;
            tokio::select! {
                biased;
                // PRIORITY 1: write letters, because keys are blocked until they are durable. The channel
                // closes when the publish loop has ended.
                batch = self.parts.inbox.batches.recv() => {
                    let Some(batch) = batch else {
                        // The publish loop has ended and reports the reason itself.
                        drop(phase.wait_for(|phase| *phase != Phase::Running).await);
                        return Ok(());
                    };
                    let report = self.write(batch)?;
                    // The publish loop may have ended in the meantime; nobody needs the report then.
                    drop(self.parts.inbox.reports.try_send(report));
                }
                // PRIORITY 2: check for requests, because an operator waits.
                () = tokio::time::sleep_until(next_look), if running => {
                    self.look_and_log()?;
                    next_look = Instant::now() + EVERY;
                }
                // Once the process stops, there are no more checks.
                _ = phase.changed(), if running => {}
            }
        }
    }

    fn look_and_log(&mut self) -> Result<(), Failure> {
        match self.look() {
            Ok(()) => self.failed_looks = 0,
            Err(Failure::Retry(error)) => {
                if self.failed_looks.is_multiple_of(LOG_EVERY) {
                    tracing::warn!(
                        event = "dead_letter_requests_wait", %error, "dead-letter requests are waiting"
                    );
                }
                self.failed_looks = self.failed_looks.wrapping_add(1);
            }
            Err(stop) => return Err(stop),
        }
        Ok(())
    }

    /// Appends decisions to the file, and makes them durable.
    fn append(&mut self, lines: &[u8]) -> Result<(), Failure> {
        Ok(self.file.append(lines)?)
    }

    fn look(&mut self) -> Result<(), Failure> {
        let settled: Vec<Retry> =
            self.parts.ledger.lock().retries().filter(|retry| retry.settled).cloned().collect();
        // A failed read does not stop the process: the folder may belong to root until its owner is changed.
        let filed = request::filed(&self.parts.directory).map_err(Failure::retry)?;
        if settled.is_empty() && filed.is_empty() {
            self.index = None;
            self.refused.clear();
            self.begun.clear();
            return Ok(());
        }
        let mut index = self.index.take().unwrap_or_default();
        let requested =
            filed.iter().filter_map(|filed| filed.request.as_ref()).flat_map(|request| &request.letters);
        let ids = settled.iter().map(|retry| &retry.letter).chain(requested);
        index.select(&self.parts.directory, ids).map_err(Failure::retry)?;
        self.close(&index, settled)?;
        index.catch_up(&self.parts.directory).map_err(Failure::retry)?;
        index.settle(self.parts.ledger.lock().checkpoint());
        for filed in &filed {
            if *self.parts.phase.borrow() != Phase::Running {
                break;
            }
            self.carry_out(&mut index, filed)?;
        }
        self.index = Some(index);
        Ok(())
    }

    /// Writes the results of retries that the watermark has passed.
    fn close(&mut self, index: &Index, settled: Vec<Retry>) -> Result<(), Failure> {
        let mut lines = Vec::new();
        for retry in &settled {
            let Some(letter) = index.get(&retry.letter).filter(|letter| letter.state == State::Retrying)
            else {
                continue;
            };
            // The letter failed again, or its frame was empty.
            let failed = retry.frame.is_some_and(|frame| letter.came_in(frame))
                || retry::records(
                    &self.lines(index, letter)?,
                    RetryTools { translator: &self.parts.translator, source: &*self.parts.source },
                    &mut Records::with_limit(self.parts.limit),
                )
                .is_err();
            let state = if failed { State::Waiting } else { State::Published };
            lines.extend_from_slice(&decision(&retry.letter, state, retry.frame, None));
            tracing::info!(
                event = "dead_letter_retry_finished", letter = %retry.letter, state = state.name(),
                "dead letter retry ended"
            );
        }
        if !lines.is_empty() {
            self.append(&lines)?;
        }
        let mut ledger = self.parts.ledger.lock();
        for retry in settled {
            ledger.close(retry.letter);
        }
        Ok(())
    }

    fn carry_out(&mut self, index: &mut Index, filed: &Filed) -> Result<(), Failure> {
        let Some(request) = &filed.request else {
            tracing::warn!(
                event = "dead_letter_request_invalid", file = %filed.path().display(),
                "invalid dead-letter request set aside"
            );
            return Ok(request::put_aside(filed)?);
        };
        let progress = match request.act {
            Act::Retry => {
                let mut begun = self.begun.remove(&filed.path()).unwrap_or_default();
                let progress = self.retry(index, request, &mut begun);
                self.begun.insert(filed.path(), begun);
                progress?
            }
            Act::Discard => self.discard(index, request)?,
        };
        index.catch_up(&self.parts.directory).map_err(Failure::retry)?;
        if progress == Progress::Done {
            request::done(filed)?;
            self.begun.remove(&filed.path());
            tracing::info!(
                event = "dead_letter_request_done", act = ?request.act, letters = request.letters.len(),
                "dead-letter request carried out"
            );
        }
        Ok(())
    }

    fn discard(&mut self, index: &Index, request: &Request) -> Result<Progress, Failure> {
        let open: Vec<&Letter> = request
            .letters
            .iter()
            .filter_map(|id| index.get(id))
            .filter(|letter| letter.state.is_open())
            .collect();
        for letters in open.chunks(DISCARD_AT_ONCE) {
            let act = |letter: &&Letter| {
                decision(&letter.id, State::Discarded, None, request.reason.as_deref().or(Some("")))
            };
            self.append(&letters.iter().flat_map(act).collect::<Vec<u8>>())?;
        }
        for id in &request.letters {
            self.parts.inbox.decisions.decide(id, Verdict::Skip);
        }
        Ok(Progress::Done)
    }

    fn retry(
        &mut self,
        index: &Index,
        request: &Request,
        before: &mut HashSet<LetterId>,
    ) -> Result<Progress, Failure> {
        let mut progress = Progress::Done;
        let mut lines = Vec::new();
        let mut begun = Vec::new();
        let mut room = RETRIES_MAX.saturating_sub(self.parts.ledger.lock().retries_open());
        for id in &request.letters {
            let Some(letter) = index.get(id) else { continue };
            let known =
                self.parts.ledger.lock().retrying(id).map(|(retry, durable)| (retry.settled, durable));
            let begin = match (letter.state, known) {
                (State::Retrying, Some((_, true))) => {
                    self.parts.inbox.decisions.decide(id, Verdict::Skip);
                    continue;
                }
                (State::Published | State::Discarded, _) => continue,
                // This request has retried it already.
                (State::Waiting | State::Halted, None) if before.contains(id) => continue,
                // The process died after the decision was written and before the checkpoint was.
                (State::Retrying, None) => true,
                (State::Waiting, None) if room == 0 => {
                    progress = Progress::Pending;
                    continue;
                }
                (State::Waiting, None) => self.can_begin(index, letter)?,
                (State::Halted, None) => match self.retry_halted(index, letter)? {
                    Some(Progress::Done) => continue,
                    Some(Progress::Pending) => {
                        progress = Progress::Pending;
                        continue;
                    }
                    None => true,
                },
                // Its previous retry is being closed, or the checkpoint is being written.
                (_, Some(_)) => false,
            };
            // A letter that halts publishing blocks all others, so its retry does not count against the
            // limit.
            if begin && (room > 0 || letter.state == State::Halted) {
                room = room.saturating_sub(1);
                if letter.state != State::Retrying {
                    lines.extend_from_slice(&decision(id, State::Retrying, None, None));
                }
                begun.push(letter);
            }
            if begin || known.is_some() {
                progress = Progress::Pending;
            }
        }
        if !lines.is_empty() {
            self.append(&lines)?;
        }
        if !begun.is_empty() {
            self.parts.inbox.decisions.describe_stream();
        }
        let mut ledger = self.parts.ledger.lock();
        for letter in begun {
            before.insert(letter.id.clone());
            ledger.retry(Retry {
                letter: letter.id.clone(),
                event_type: letter.event_type.clone(),
                offset: letter.offset,
                raw_offset: index.raw_letter(letter).map(|raw| raw.offset),
                frame: None,
                settled: false,
            });
        }
        Ok(progress)
    }

    fn can_begin(&mut self, index: &Index, letter: &Letter) -> Result<bool, Failure> {
        if self.refused.contains(&letter.id) {
            return Ok(false);
        }
        let can = if let Some(why) = letter.hopeless {
            tracing::warn!(event = "dead_letter_not_retried", letter = %letter.id, reason = why, "dead letter cannot be retried");
            false
        } else {
            self.translates(index, letter)?
        };
        if !can {
            self.refused.insert(letter.id.clone());
        }
        Ok(can)
    }

    /// Retries a letter that halts publishing. `None`: it must be injected like any other letter.
    fn retry_halted(&mut self, index: &Index, letter: &Letter) -> Result<Option<Progress>, Failure> {
        let line = self.line(letter)?;
        if let Some(Content::Change(_)) = entry::content(&line) {
            return Ok(if self.can_begin(index, letter)? { None } else { Some(Progress::Done) });
        }
        // The record is still in the window. It is sent from there once the stream accepts it.
        let decided = self.parts.inbox.decisions.decide(&letter.id, Verdict::SendAgain);
        let watermark = self.parts.ledger.lock().checkpoint().watermark.frame;
        let is_published = letter.last_frame().is_some_and(|frame| frame <= watermark);
        Ok(Some(if decided || is_published { Progress::Done } else { Progress::Pending }))
    }

    /// Whether the change of a letter can be translated now. If not, the reason is logged and the letter
    /// stays as it is.
    fn translates(&self, index: &Index, letter: &Letter) -> Result<bool, Failure> {
        let tools = RetryTools { translator: &self.parts.translator, source: &*self.parts.source };
        match retry::check(&self.lines(index, letter)?, tools, self.parts.limit) {
            Ok(()) => Ok(true),
            Err(error) => {
                tracing::warn!(
                    event = "dead_letter_still_fails", letter = %letter.id, %error, hint = error.hint(),
                    "dead letter still cannot be published"
                );
                Ok(false)
            }
        }
    }

    fn lines(&self, index: &Index, letter: &Letter) -> Result<Lines, Failure> {
        let raw = index.raw_letter(letter).map(|raw| self.line(raw)).transpose()?;
        Ok(Lines { letter: self.line(letter)?, raw })
    }

    fn line(&self, letter: &Letter) -> Result<Vec<u8>, Failure> {
        dead_letter::line_at(&self.parts.directory, letter.offset).map_err(Failure::retry)
    }
}

/// The lines of a letter to retry, wherever they are in the file now; `None` if the file does not have them.
///
/// # Errors
/// The file cannot be read.
pub fn find(directory: &Directory, retry: &Retry) -> Result<Option<Lines>, DiskError> {
    if !directory.exists(FILE_NAME)? {
        return Ok(None);
    }
    let at = |offset: u64| -> Result<Option<(Vec<u8>, Letter)>, DiskError> {
        let line = dead_letter::line_at(directory, offset)?;
        let letter = folded([(offset, line.as_slice())]);
        Ok(letter.map(|letter| (line, letter)))
    };
    let is_it = |found: &(Vec<u8>, Letter)| found.1.id == retry.letter;
    // Usually the line is where it was when the retry began.
    if let Some((line, letter)) = at(retry.offset)?.filter(is_it) {
        let Some(raw_in) = letter.raw_in else {
            return Ok(Some(Lines { letter: line, raw: None }));
        };
        if let Some(offset) = retry.raw_offset
            && let Some((raw, letter)) = at(offset)?
            && letter.id == raw_in
            && letter.raw_in.is_none()
        {
            return Ok(Some(Lines { letter: line, raw: Some(raw) }));
        }
    }
    let index = Index::of(directory, [&retry.letter])?;
    let Some(letter) = index.get(&retry.letter) else { return Ok(None) };
    let raw = index.raw_letter(letter).map(|raw| dead_letter::line_at(directory, raw.offset)).transpose()?;
    Ok(at(letter.offset)?.filter(is_it).map(|(line, _)| Lines { letter: line, raw }))
}

#[cfg(test)]
mod tests;
