//! Changes become frames of the log: translated, staged, written; what was received before is dropped.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::buffer::checkpoint::Injection;
use crate::buffer::dead_letter::FILE_NAME;
use crate::buffer::frame::{FrameKind, MAX_BODY};
use crate::buffer::ledger::{Behind, SharedLedger};
use crate::buffer::log::Log;
use crate::buffer::writer::Writer;
use crate::change::{Change, Message, Place, Relation, Unreadable};
use crate::event::Records;
use crate::failure::Failure;
use crate::pipeline::seldom::{Drifted, Seldom};
use crate::pipeline::{desk, meters, notice, retry};
use crate::position::{FrameNo, Position, Transaction};
use crate::translate::dead_letter::DeadLetter;
use crate::translate::{CONTEXT_PREFIX, Failed, Outcome, TransactionContext, TranslateError, Translator};

/// How often a full log, or a dead-letter file that cannot be read, is mentioned at most.
const SAY_AGAIN: Duration = Duration::from_mins(1);
/// From this many bytes on, no more is injected at one boundary: letters have megabytes, and while they are made the server
/// hears nothing from us.
const INJECT_AT_ONCE: usize = 4 << 20;

const TOO_LARGE: &str = "its events together are larger than the log may be (buffer.max_size)";

/// Changes in, frames out. It outlives the attempts: what one connection has appended, the next one skips.
#[derive(Debug)]
pub struct Appender {
    writer: Writer,
    translator: Translator,
    records: Records,
    epoch: u16,
    /// The last change appended, staged or written: the tail. What is received again at or below it is dropped.
    last: Option<Position>,
    frame: FrameNo,
    /// A transaction has begun to arrive and is not complete.
    open: bool,
    log: Arc<Log>,
    /// Why the last flush found no room.
    full: Option<String>,
    /// When that was last said: while a full log drains, room comes and goes every second.
    said_full: Option<Instant>,
    /// When it was last said that the dead-letter file cannot be read.
    said_unreadable: Option<Instant>,
    /// Who sends bad contexts sends many.
    bad_contexts: Seldom,
    drifted: Drifted,
}

/// Room must be made before the change can be appended.
#[derive(Debug)]
pub(super) struct Full;

impl Appender {
    /// Appends after `tail`, where recovery has cut the log.
    pub fn new(log: Arc<Log>, writer: Writer, translator: Translator) -> Self {
        let tail = writer.tail();
        let epoch = translator.epoch();
        Self {
            records: Records::default(),
            epoch,
            last: tail.position.filter(|position| position.epoch == epoch),
            frame: tail.frame,
            open: false,
            full: None,
            said_full: None,
            said_unreadable: None,
            bad_contexts: Seldom::default(),
            drifted: Drifted::default(),
            translator,
            writer,
            log,
        }
    }

    /// The transaction of the last change appended, staged ones included: the server must still have it.
    pub fn tip(&self) -> Option<Transaction> {
        self.last.and(self.writer.tail().transaction)
    }

    /// Whether a change was appended before: by this process, or by the one whose log it goes on with.
    pub(super) fn is_known(&self, place: &Place) -> bool {
        let position = place.position(self.epoch);
        self.last.is_some_and(|last| position <= last)
    }

    /// What makes the records.
    pub(super) const fn translator(&self) -> &Translator {
        &self.translator
    }

    /// A transaction begins: it has said nothing of itself yet.
    pub(super) fn begin(&mut self) {
        self.translator.set_context(None);
    }

    /// Whether a logical message is what its transaction says of itself; it then applies to what follows.
    pub(super) fn takes_context(&mut self, message: &Message<'_>) -> bool {
        if message.prefix != CONTEXT_PREFIX.as_bytes() {
            return false;
        }
        let (context, wrong) = TransactionContext::read(message.content);
        if !wrong.is_empty() && self.bad_contexts.is_due() {
            let position = message.place.position(self.epoch);
            let wrong = wrong.join("; ");
            tracing::warn!(%position, wrong, "what a transaction says of itself (forebay:context) is ignored where it is wrong");
        }
        self.translator.set_context(context);
        true
    }

    /// Makes the records of a change, ready to [`append`](Self::append). What cannot be translated becomes a dead letter.
    pub(super) fn translate(&mut self, change: &Change<'_>) {
        self.records.clear();
        let mut outcome = Outcome::default();
        let reason = match self.translator.translate(change, &mut self.records, &mut outcome) {
            Ok(()) if self.records.size() <= self.frame_max() => {
                self.failed_rules(change, &outcome);
                return;
            }
            Ok(()) => TOO_LARGE.to_owned(),
            Err(error) => {
                let drifted = matches!(error, TranslateError::Drift(_));
                if drifted && !self.drifted.is_new(change.relation) {
                    return self.dead(change.relation, &change.place, change.raw, (None, &error.to_string()));
                }
                error.to_string()
            }
        };
        let table = table_of(change.relation);
        let position = change.place.position(self.epoch);
        tracing::error!(table, %position, reason, "a change cannot be translated and goes to the dead letter");
        self.dead(change.relation, &change.place, change.raw, (None, &reason));
    }

    /// Adds a dead letter of a change to its records: of one rule, or in the place of all of them.
    fn dead(&mut self, relation: &Relation, place: &Place, raw: &[u8], (rule, reason): (Option<&str>, &str)) {
        meters::untranslatable();
        if rule.is_none() {
            self.records.clear();
        }
        let context = self.translator.transaction_context();
        let (table, size) = (table_of(relation), u64::try_from(raw.len()).unwrap_or(u64::MAX));
        let (epoch, place, table) = (self.epoch, *place, Some(table.as_str()));
        DeadLetter { epoch, place, rule, table, relation: Some(relation), context, reason, size, raw }
            .push(&mut self.records);
    }

    /// Adds a dead letter for each rule that failed at this change; the events of the others leave.
    fn failed_rules(&mut self, change: &Change<'_>, outcome: &Outcome) {
        meters::undecided(outcome.undecided);
        for Failed { event_type, reason } in &outcome.failed {
            let table = table_of(change.relation);
            let position = change.place.position(self.epoch);
            tracing::error!(event_type, table, %position, reason, "a rule failed at a change, which goes to the dead letter");
            self.dead(change.relation, &change.place, change.raw, (Some(event_type), reason));
        }
    }

    /// Makes the record of a logical message, if it is an event.
    pub(super) fn translate_message(&mut self, message: &Message<'_>) {
        self.records.clear();
        let reason = match self.translator.message(message, &mut self.records) {
            Ok(()) if self.records.size() <= self.frame_max() => return,
            Ok(()) => TOO_LARGE.to_owned(),
            Err(error) => error.to_string(),
        };
        let owner = self.translator.owner_of_message(message);
        let position = message.place.position(self.epoch);
        tracing::error!(owner, %position, reason, "a message is no event and goes to the dead letter");
        meters::untranslatable();
        self.records.clear();
        let context = self.translator.transaction_context();
        DeadLetter::message(message, self.epoch, (owner.as_deref(), context), &reason)
            .push(&mut self.records);
    }

    /// Most bytes of records that surely fit into a frame, and the frame into an empty log.
    fn frame_max(&self) -> usize {
        const AROUND: usize = 64 << 10;
        usize::try_from(self.log.config().max_size).unwrap_or(usize::MAX).min(MAX_BODY) - AROUND
    }

    /// Makes the dead letter of a change that cannot be read, unless nobody wants its table.
    pub(super) fn quarantine(&mut self, change: &Unreadable<'_>) {
        self.records.clear();
        if change.relation.is_some_and(|relation| !self.translator.wants(relation)) {
            return;
        }
        tracing::error!(
            table = change.table, position = %change.place.position(self.epoch), reason = change.reason, size = change.size,
            "a change cannot be read and goes to the dead letter"
        );
        meters::untranslatable();
        DeadLetter::unreadable(change, self.epoch, self.translator.transaction_context())
            .push(&mut self.records);
    }

    /// Stages the records of a change as one frame.
    pub(super) fn append(&mut self, place: &Place) -> Result<Result<(), Full>, Failure> {
        let (position, transaction) = (place.position(self.epoch), place.transaction);
        if self.records.is_empty() {
            return Ok(Ok(()));
        }
        match self.writer.append(FrameKind::Change, position, transaction, &self.records) {
            Ok(frame) => {
                self.frame = frame;
                self.open = true;
                self.last = Some(position);
                Ok(Ok(()))
            }
            Err(error) if error.is_full() => {
                self.full = Some(error.to_string());
                Ok(Err(Full))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Writes what is staged and reports the tail. `false`: the log is full.
    pub(super) fn flush(&mut self, ledger: &SharedLedger) -> Result<bool, Failure> {
        let outcome = self.writer.flush();
        ledger.lock().received(self.log.tail().into());
        match outcome {
            Ok(()) => Ok(true),
            Err(error) if error.is_full() => {
                self.full = Some(error.to_string());
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Appends what is not a change and is not in the log yet, if no transaction is open. What finds no room is tried again
    /// at the next boundary, and so is what is more than the server may wait for.
    pub(super) fn inject(&mut self, ledger: &SharedLedger) -> Result<(), Failure> {
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
                    self.say_unreadable(&error);
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
            ledger.lock().injected(self.frame, injection);
        }
        Ok(())
    }

    /// Says that a retry waits for its letter, unless it was said lately: receiving does not wait for it.
    fn say_unreadable(&mut self, error: &std::io::Error) {
        let now = Instant::now();
        if self.said_unreadable.is_none_or(|last| now.duration_since(last) >= SAY_AGAIN) {
            self.said_unreadable = Some(now);
            tracing::error!(
                %error, directory = %self.log.config().directory.display(), file = FILE_NAME,
                "the dead-letter file cannot be read: retries wait, everything else goes on. Let the user who runs this have it"
            );
        }
    }

    /// Makes the records of an injection. A letter that is gone, or makes no records any more, has none: its frame is empty.
    fn make(&mut self, injection: &Injection) -> std::io::Result<Position> {
        if let Some(position) = notice::write(injection, self.translator.source(), &mut self.records) {
            return Ok(position);
        }
        let Injection::Retry(letter) = injection else { return Ok(Position::default()) };
        let directory = &self.log.config().directory;
        let line = desk::find_line(directory, letter.offset, &letter.letter)?;
        let most = self.frame_max();
        let made = line.map(|line| retry::records(&line, &self.translator, most, &mut self.records));
        match made {
            Some(Ok(position)) => return Ok(position),
            Some(Err(error)) => {
                tracing::error!(letter = %letter.letter, %error, "a dead letter cannot be retried");
            }
            None => tracing::error!(letter = %letter.letter, "a dead letter that was to be retried is gone"),
        }
        self.records.clear();
        Ok(Position::default())
    }

    /// The transaction that was arriving is complete: what is injected now stands between two of them.
    pub(super) const fn complete(&mut self) {
        self.open = false;
    }

    /// The last frame appended, staged or written.
    pub(super) const fn frame(&self) -> FrameNo {
        self.frame
    }

    /// Waits until segments were deleted since the last flush. Cancel-safe.
    pub(super) async fn room(&mut self) {
        self.writer.room().await;
    }

    /// Says that the log is full, and because of whom if that is known, unless it was said lately; whether it did.
    pub(super) fn say_full(&mut self, behind: Option<&Behind>) -> bool {
        let reason = self.full.take().unwrap_or_else(|| "the log is full".to_owned());
        let now = Instant::now();
        let say = self.said_full.is_none_or(|last| now.duration_since(last) >= SAY_AGAIN);
        if say {
            self.said_full = Some(now);
            tracing::error!(
                reason,
                lanes = behind.map(|behind| behind.lanes.as_str()),
                shard = behind.and_then(|behind| behind.shard.as_deref()),
                "the source is paused and Postgres keeps its write-ahead log; publishing goes on, and so does the source as soon \
                 as there is room"
            );
        }
        say
    }
}

fn table_of(relation: &Relation) -> String {
    format!("{}.{}", relation.schema, relation.table)
}

#[cfg(test)]
pub(super) mod tests;
