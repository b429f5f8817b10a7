//! Does what persons ask of the dead letters, while the loops run.
//!
//! A retry goes through these steps, and a crash between any two of them is finished by the next start:
//!
//! 1. the request is filed (`forebay dlq`), and found here;
//! 2. the dead-letter file says `retrying`;
//! 3. the checkpoint has the letter among its injections; now the request is forgotten;
//! 4. ingest injects its records at a transaction boundary; once they are held, the checkpoint says in which frame;
//! 5. `low` passes the frame: the same checkpoint moves the books and calls the retry settled;
//! 6. the dead-letter file says `published`, or `waiting` if that frame has brought the letter again;
//! 7. the checkpoint forgets it.
//!
//! A discard is one line in the file, and a word to the publish loop if that stands before the record.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::watch;

use crate::buffer::checkpoint::Retry;
use crate::buffer::dead_letter::index::{Index, Letter, State};
use crate::buffer::dead_letter::request::{self, Act, Filed, Request};
use crate::buffer::dead_letter::{self, LetterId};
use crate::buffer::ledger::SharedLedger;
use crate::event::Records;
use crate::failure::Failure;
use crate::pipeline::poison::{self, Letters, Verdict};
use crate::pipeline::{Phase, retry};
use crate::translate::Translator;

/// How often it looks for requests: a person waits for them.
const EVERY: Duration = Duration::from_millis(300);
/// How often trouble that passes is mentioned, in looks.
const SAY_EVERY: u32 = 100;
/// Retries under way at most: each takes about 130 bytes of the checkpoint's slot.
const RETRIES_MAX: usize = 512;
/// Letters that are discarded with one fsync.
const DISCARD_AT_ONCE: usize = 256;
/// Most bytes of records that surely fit into a frame and into the smallest log.
const RECORDS_MAX: usize = 12 << 20;

/// See the module.
#[derive(Debug)]
pub struct Desk {
    letters: Letters,
    ledger: SharedLedger,
    translator: Translator,
    phase: watch::Receiver<Phase>,
    /// Kept only while there is something to do.
    index: Option<Index>,
    /// Letters of the requests at hand that cannot be retried, which was said.
    refused: HashSet<LetterId>,
    /// Letters whose retry a request has begun: one request retries a letter once, though others of it still wait.
    begun: HashMap<PathBuf, HashSet<LetterId>>,
    /// Looks since trouble was last mentioned.
    said: u32,
}

/// Whether something is done, or must be looked at again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Done,
    Pending,
}

impl Desk {
    /// A desk of these letters; the translator tells whether a change can be translated now.
    pub fn new(
        letters: Letters,
        ledger: SharedLedger,
        translator: Translator,
        phase: watch::Receiver<Phase>,
    ) -> Self {
        Self {
            letters,
            ledger,
            translator,
            phase,
            index: None,
            refused: HashSet::new(),
            begun: HashMap::new(),
            said: 0,
        }
    }

    /// Works until the process stops. Blocks for the disk: it has a thread of its own.
    ///
    /// # Errors
    /// The disk fails.
    pub async fn run(mut self) -> Result<(), Failure> {
        let mut phase = self.phase.clone();
        loop {
            match self.look() {
                Ok(()) => self.said = 0,
                Err(Failure::Retry(error)) => {
                    if self.said.is_multiple_of(SAY_EVERY) {
                        tracing::warn!(%error, "what was asked of the dead letters waits");
                    }
                    self.said = self.said.wrapping_add(1);
                }
                Err(stop) => return Err(stop),
            }
            tokio::select! {
                biased;
                _ = phase.wait_for(|phase| *phase != Phase::Running) => return Ok(()),
                () = tokio::time::sleep(EVERY) => {}
            }
        }
    }

    fn look(&mut self) -> Result<(), Failure> {
        let settled: Vec<Retry> =
            self.ledger.lock().retries().filter(|retry| retry.settled).cloned().collect();
        // To read is no reason to stop: the folder may just be handed over by a root who has made it.
        let filed = request::filed(self.letters.directory()).map_err(Failure::retry)?;
        if settled.is_empty() && filed.is_empty() {
            self.index = None;
            self.refused.clear();
            self.begun.clear();
            return Ok(());
        }
        let mut index = self.index.take().unwrap_or_default();
        index.catch_up(&self.letters.path()).map_err(Failure::retry)?;
        self.close(&index, settled)?;
        index.catch_up(&self.letters.path()).map_err(Failure::retry)?;
        index.settle(Some(self.ledger.lock().checkpoint()), |_| true);
        for filed in &filed {
            if *self.phase.borrow() != Phase::Running {
                break;
            }
            self.carry_out(&mut index, filed)?;
        }
        self.index = Some(index);
        Ok(())
    }

    /// Writes down what became of retries that `low` has passed.
    fn close(&self, index: &Index, settled: Vec<Retry>) -> Result<(), Failure> {
        let mut lines = Vec::new();
        for retry in &settled {
            let Some(letter) = index.get(&retry.letter).filter(|letter| letter.state == State::Retrying)
            else {
                continue;
            };
            // It came again, or its frame was empty.
            let failed = retry.frame.is_some_and(|frame| letter.came_in(frame))
                || retry::records(
                    &self.line(letter)?,
                    &self.translator,
                    RECORDS_MAX,
                    &mut Records::default(),
                )
                .is_err();
            let state = if failed { State::Waiting } else { State::Published };
            lines.extend_from_slice(&poison::act(&retry.letter, state, retry.frame, None));
            tracing::info!(letter = %retry.letter, state = state.name(), "the retry of a dead letter is over");
        }
        if !lines.is_empty() {
            self.letters.append(&lines)?;
        }
        let mut ledger = self.ledger.lock();
        for retry in settled {
            ledger.close(retry.letter);
        }
        Ok(())
    }

    fn carry_out(&mut self, index: &mut Index, filed: &Filed) -> Result<(), Failure> {
        let Some(request) = &filed.request else {
            tracing::warn!(file = %filed.path.display(), "a request cannot be understood, and is put aside");
            return Ok(request::put_aside(filed)?);
        };
        let progress = match request.act {
            Act::Retry => {
                let mut begun = self.begun.remove(&filed.path).unwrap_or_default();
                let progress = self.retry(index, request, &mut begun);
                self.begun.insert(filed.path.clone(), begun);
                progress?
            }
            Act::Discard => self.discard(index, request)?,
        };
        index.catch_up(&self.letters.path()).map_err(Failure::retry)?;
        if progress == Progress::Done {
            request::done(filed)?;
            self.begun.remove(&filed.path);
            tracing::info!(act = ?request.act, letters = request.letters.len(), "a request about dead letters is taken up");
        }
        Ok(())
    }

    fn discard(&self, index: &Index, request: &Request) -> Result<Progress, Failure> {
        let open: Vec<&Letter> = request
            .letters
            .iter()
            .filter_map(|id| index.get(id))
            .filter(|letter| letter.state.is_open())
            .collect();
        for letters in open.chunks(DISCARD_AT_ONCE) {
            let act = |letter: &&Letter| {
                poison::act(&letter.id, State::Discarded, None, request.reason.as_deref().or(Some("")))
            };
            self.letters.append(&letters.iter().flat_map(act).collect::<Vec<u8>>())?;
        }
        for id in &request.letters {
            self.letters.decide(id, Verdict::PutAway);
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
        let mut room = RETRIES_MAX.saturating_sub(self.ledger.lock().retries_open());
        for id in &request.letters {
            let Some(letter) = index.get(id) else { continue };
            let known = self.ledger.lock().retrying(id).map(|(retry, durable)| (retry.settled, durable));
            let begin = match (letter.state, known) {
                (State::Retrying, Some((_, true))) => {
                    self.letters.decide(id, Verdict::PutAway);
                    continue;
                }
                (State::Published | State::Discarded, _) => continue,
                // It is over already.
                (State::Waiting | State::Standing, None) if before.contains(id) => continue,
                // In the file, but not in the checkpoint: a crash came between them.
                (State::Retrying, None) => true,
                (State::Waiting, None) if room == 0 => {
                    progress = Progress::Pending;
                    continue;
                }
                (State::Waiting, None) => self.can_begin(letter)?,
                (State::Standing, None) => match self.standing(letter)? {
                    Some(Progress::Done) => continue,
                    Some(Progress::Pending) => {
                        progress = Progress::Pending;
                        continue;
                    }
                    None => true,
                },
                // Its last retry is being closed, or the checkpoint is being written.
                (_, Some(_)) => false,
            };
            // What the others wait for does not wait for them.
            if begin && (room > 0 || letter.state == State::Standing) {
                room = room.saturating_sub(1);
                if letter.state != State::Retrying {
                    lines.extend_from_slice(&poison::act(id, State::Retrying, None, None));
                }
                begun.push(letter);
            }
            if begin || known.is_some() {
                progress = Progress::Pending;
            }
        }
        if !lines.is_empty() {
            self.letters.append(&lines)?;
        }
        if !begun.is_empty() {
            self.letters.look_at_stream();
        }
        let mut ledger = self.ledger.lock();
        for letter in begun {
            before.insert(letter.id.clone());
            ledger.retry(Retry {
                letter: letter.id.clone(),
                event_type: letter.event_type.clone(),
                offset: letter.offset,
                frame: None,
                settled: false,
            });
        }
        Ok(progress)
    }

    fn can_begin(&mut self, letter: &Letter) -> Result<bool, Failure> {
        if self.refused.contains(&letter.id) {
            return Ok(false);
        }
        let can = if let Some(why) = letter.hopeless {
            tracing::warn!(letter = %letter.id, why, "a dead letter cannot be retried");
            false
        } else {
            self.translates(letter)?
        };
        if !can {
            self.refused.insert(letter.id.clone());
        }
        Ok(can)
    }

    /// A letter that publishing stands before. `None`: it is to be put away and injected; else what there is to do is done,
    /// or must wait.
    fn standing(&mut self, letter: &Letter) -> Result<Option<Progress>, Failure> {
        let line = self.line(letter)?;
        if let Some(retry::Content::Change(_)) = retry::content(&line) {
            return Ok(if self.can_begin(letter)? { None } else { Some(Progress::Done) });
        }
        // The record is still in its place, and leaves from there as soon as the stream takes it.
        let decided = self.letters.decide(&letter.id, Verdict::TryAgain);
        let low = self.ledger.lock().checkpoint().low.frame;
        let gone = letter.last_frame().is_some_and(|frame| frame <= low);
        Ok(Some(if decided || gone { Progress::Done } else { Progress::Pending }))
    }

    /// Whether the change of a letter can be translated now: otherwise it stays where it is, with a word.
    fn translates(&self, letter: &Letter) -> Result<bool, Failure> {
        match retry::check(&self.line(letter)?, &self.translator, RECORDS_MAX) {
            Ok(()) => Ok(true),
            Err(error) => {
                tracing::warn!(letter = %letter.id, %error, "a dead letter still cannot be published");
                Ok(false)
            }
        }
    }

    fn line(&self, letter: &Letter) -> Result<Vec<u8>, Failure> {
        dead_letter::line_at(self.letters.directory(), letter.offset).map_err(Failure::retry)
    }
}

/// The line of a letter, wherever it is by now; `None` if the file has it no more.
///
/// # Errors
/// The file cannot be read.
pub fn find_line(letters: &std::path::Path, offset: u64, id: &LetterId) -> std::io::Result<Option<Vec<u8>>> {
    let path = letters.join(dead_letter::FILE_NAME);
    if !path.exists() {
        return Ok(None);
    }
    let is_it = |line: &[u8]| Index::of_line(line).is_some_and(|letter| letter.id == *id);
    let line = dead_letter::line_at(letters, offset)?;
    if is_it(&line) {
        return Ok(Some(line));
    }
    let index = Index::read(&path)?;
    let Some(letter) = index.get(id) else { return Ok(None) };
    dead_letter::line_at(letters, letter.offset).map(|line| Some(line).filter(|line| is_it(line)))
}

#[cfg(test)]
mod tests;
