//! Turns changes into frames of the log: translates, stages and writes them. Changes that were appended
//! before are dropped.

mod inject;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::buffer::frame::FrameKind;
use crate::buffer::ledger::{Behind, SharedLedger};
use crate::buffer::log::Log;
use crate::buffer::writer::Writer;
use crate::change::{Change, ChangePlace, Message, Unreadable};
use crate::dead_letter::entry::{ALREADY_QUARANTINED, ChangeEntry, bounded_reason, one_line};
use crate::event::{Origin, Records};
use crate::failure::{Failure, Problem};
use crate::pipeline::ingest::heartbeat;
use crate::pipeline::ingest::proof::Proof;
use crate::pipeline::ingest::rate_limited_log::{Drifted, RateLimitedLog};
use crate::pipeline::meters;
use crate::pipeline::status::{ReceivedCounts, Status};
use crate::position::{FrameNo, Position, Transaction};
use crate::source::Redecode;
use crate::time;
use crate::translate::{CONTEXT_PREFIX, Failed, RuleOutcome, TransactionContext, TranslateError, Translator};

/// Shortest time between two log lines about a full log, or about a dead-letter file that cannot be read.
const LOG_AGAIN: Duration = Duration::from_mins(1);
/// Shortest time between two reports of event counts.
const REPORT_EVERY: Duration = Duration::from_millis(500);
/// From this many staged bytes on, frames are written before the next change is received.
const HEAVY: usize = 1 << 20;

const TOO_LARGE: &str =
    "its events together are larger than the log may hold of one change (32 MiB, or buffer.max_size)";
const TOO_LARGE_WITH_LETTERS: &str = "its events, and the dead letters of those that could not be made, are larger than the log may hold of one change \
     (32 MiB, or buffer.max_size)";

/// Turns changes into frames. It outlives connections: a change that one connection has appended is dropped
/// when the next delivers it again.
#[derive(Debug)]
pub struct Appender {
    writer: Writer,
    translator: Translator,
    /// Decodes the changes of dead letters that are retried.
    source: Arc<dyn Redecode>,
    records: Records,
    epoch: u16,
    /// The tail: the last change that was appended, staged or written. Changes at or below it are dropped.
    last: Option<Position>,
    frame: FrameNo,
    /// A transaction has begun and is not complete.
    open: bool,
    log: Arc<Log>,
    /// Why the last flush found no space.
    full: Option<String>,
    /// When the full log was last logged. While a full log drains, it has space again every second.
    logged_full: Option<Instant>,
    /// When the unreadable dead-letter file was last logged.
    logged_unreadable: Option<Instant>,
    /// Rate limit for invalid contexts: a client that sends one usually sends many.
    bad_contexts: RateLimitedLog,
    drifted: Drifted,
    /// Events received and filtered since the last report.
    counts: ReceivedCounts,
    /// Time of the last report.
    reported: Instant,
    /// Changes that are received again and are dead letters already: the types of the events whose rules
    /// failed, or an empty list if the whole change is a dead letter.
    quarantined: BTreeMap<Position, Vec<String>>,
    /// Number of this process, which marks its heartbeats. `None`: heartbeats are off, and messages that look
    /// like one are ignored.
    process: Option<u64>,
    /// Number and position of the last heartbeat of this process that was received since the last report.
    heartbeat: Option<(u64, Position)>,
}

/// The records of a change do not fit into a frame.
#[derive(Debug)]
struct TooLarge;

/// The log has no space for the change.
#[derive(Debug)]
pub(in crate::pipeline) struct Full;

impl Appender {
    /// Appends after the tail of `writer`, to which recovery has truncated the log.
    pub fn new(log: Arc<Log>, writer: Writer, translator: Translator, source: Arc<dyn Redecode>) -> Self {
        let tail = writer.tail();
        let epoch = translator.epoch();
        Self {
            records: Records::with_limit(frame_max(&log)),
            epoch,
            last: tail.position.filter(|position| position.epoch == epoch),
            frame: tail.frame,
            open: false,
            full: None,
            logged_full: None,
            logged_unreadable: None,
            bad_contexts: RateLimitedLog::default(),
            drifted: Drifted::default(),
            counts: ReceivedCounts::default(),
            reported: time::now(),
            quarantined: BTreeMap::new(),
            process: None,
            heartbeat: None,
            translator,
            source,
            writer,
            log,
        }
    }

    /// Sets the changes and events that became dead letters in an earlier process. They stay dead letters
    /// until they are retried, even if they could be translated now, because later events of their keys may
    /// have been published.
    #[must_use]
    pub fn with_quarantined(self, quarantined: BTreeMap<Position, Vec<String>>) -> Self {
        Self { quarantined, ..self }
    }

    fn quarantined_of(&self, place: &ChangePlace) -> Option<&[String]> {
        if self.quarantined.is_empty() {
            return None;
        }
        self.quarantined.get(&place.position(self.epoch)).map(Vec::as_slice)
    }

    /// Publishes heartbeats, and reports those that this process wrote.
    #[must_use]
    pub fn with_heartbeats(self, process: Option<u64>) -> Self {
        Self { process, ..self }
    }

    /// The transaction of the last appended change, including staged ones. The server must still have it.
    pub fn last_seen(&self) -> Option<Transaction> {
        self.last.and(self.writer.tail().transaction)
    }

    /// Withholds new changes of a connection from the publisher until it has delivered `expect`: see
    /// [`Proof`]. Returns `None`, and withholds nothing, if no proof is needed.
    pub(in crate::pipeline) fn withhold(&self, expect: Option<Transaction>) -> Option<Proof> {
        let Some(proof) = Proof::needed(expect, self.last) else {
            self.log.show();
            return None;
        };
        let visible = self.log.withhold();
        let withheld = self.last.filter(|last| Some(*last) > visible.position);
        Some(proof.and(withheld.and(self.writer.tail().transaction)))
    }

    /// Makes the withheld frames, and all later ones, visible to the publisher.
    pub(in crate::pipeline) fn show(&self) {
        self.log.show();
    }

    /// The last frame that the publisher sees.
    pub(in crate::pipeline) fn visible(&self) -> FrameNo {
        self.log.visible().frame
    }

    /// Whether a change was appended before, by this process or an earlier one.
    pub(in crate::pipeline) fn is_known(&self, place: &ChangePlace) -> bool {
        let position = place.position(self.epoch);
        self.last.is_some_and(|last| position <= last)
    }

    /// A transaction begins. It has no context yet.
    pub(in crate::pipeline) fn begin(&mut self) {
        self.translator.set_context(None);
        self.writer.set_origin(Origin::Live);
    }

    /// The rows of the transaction existed before the source was first read.
    pub(in crate::pipeline) fn begin_backfill(&mut self) {
        self.translator.set_context(Some(TransactionContext::backfill()));
        self.writer.set_origin(Origin::Backfill);
    }

    /// Whether a logical message is a transaction context. It applies to all later changes of the
    /// transaction.
    pub(in crate::pipeline) fn takes_context(&mut self, message: &Message<'_>) -> bool {
        if message.prefix != CONTEXT_PREFIX.as_bytes() {
            return false;
        }
        let (context, wrong) = TransactionContext::read(message.content);
        if !wrong.is_empty() && self.bad_contexts.is_due() {
            let position = message.place.position(self.epoch);
            let wrong = wrong.join("; ");
            tracing::warn!(
                event = "context_ignored", %position, wrong,
                "invalid members of a transaction context (forebay:context) ignored"
            );
        }
        self.translator.set_context(context);
        true
    }

    /// Creates the records of a change, ready to [`append`](Self::append). A change that cannot be translated
    /// becomes a dead letter.
    pub(in crate::pipeline) fn translate(&mut self, change: &Change<'_>) {
        self.records.clear();
        let mut outcome = RuleOutcome::default();
        match self.quarantined_of(&change.place) {
            None => {}
            Some([]) => return self.dead(change, &Problem::new(ALREADY_QUARANTINED)),
            Some(types) => {
                let kept_back = |event_type: &String| Failed {
                    event_type: event_type.clone(),
                    reason: Problem::new(ALREADY_QUARANTINED),
                };
                outcome.kept_back = types.iter().map(kept_back).collect();
            }
        }
        let problem = match self.translator.translate(change, &mut self.records, &mut outcome) {
            Ok(()) if self.records.fit() => match self.failed_rules(change, &outcome) {
                Ok(()) => return,
                Err(TooLarge) => Problem::new(TOO_LARGE_WITH_LETTERS),
            },
            Ok(()) => Problem::new(TOO_LARGE),
            Err(error) => {
                let drifted = matches!(error, TranslateError::Drift(_));
                if drifted && !self.drifted.is_new(change.relation) {
                    return self.dead(change, &Problem::of(&error));
                }
                Problem::of(&error)
            }
        };
        let table = change.relation.name();
        let position = change.place.position(self.epoch);
        tracing::error!(
            event = "change_quarantined", table, %position, reason = %bounded_reason(&one_line(&problem)),
            hint = problem.hint(), "change cannot be translated; written as a dead letter"
        );
        self.dead(change, &problem);
    }

    /// Replaces the records of a change with one dead letter.
    fn dead(&mut self, change: &Change<'_>, problem: &Problem) {
        meters::untranslatable();
        let (table, context) = (change.relation.name(), self.translator.transaction_context());
        let reason = one_line(problem);
        letter(change, self.epoch, &table, context, &reason, problem.hint()).push_alone(&mut self.records);
    }

    /// Adds a dead letter for each event whose rule failed. The other events are published.
    fn failed_rules(&mut self, change: &Change<'_>, outcome: &RuleOutcome) -> Result<(), TooLarge> {
        meters::undecided(outcome.undecided);
        if outcome.failed.is_empty() {
            return Ok(());
        }
        let (table, context) = (change.relation.name(), self.translator.transaction_context());
        letter(change, self.epoch, &table, context, "", None).push_failed(&outcome.failed, &mut self.records);
        if !self.records.fit() {
            return Err(TooLarge);
        }
        for Failed { event_type, reason } in &outcome.failed {
            let position = change.place.position(self.epoch);
            meters::untranslatable();
            tracing::error!(
                event = "event_quarantined", event_type, table, %position, reason = %bounded_reason(&one_line(reason)),
                hint = reason.hint(), "rule failed; its event is written as a dead letter"
            );
        }
        Ok(())
    }

    /// Creates the record of a logical message, if it is an event.
    pub(in crate::pipeline) fn translate_message(&mut self, message: &Message<'_>) {
        self.records.clear();
        if let Some(process) = self.process
            && let Some(text) = heartbeat::read(message, self.translator.source())
        {
            let position = message.place.position(self.epoch);
            heartbeat::write(&text, position, &mut self.records);
            if text.process == process {
                self.heartbeat = Some((text.number, position));
            }
            return;
        }
        let problem = match self.translator.message(message, &mut self.records) {
            Ok(()) if self.quarantined_of(&message.place).is_some() => {
                self.records.clear();
                Problem::new(ALREADY_QUARANTINED)
            }
            Ok(()) if self.records.fit() => return,
            Ok(()) => Problem::new(TOO_LARGE),
            Err(error) => Problem::of(&error),
        };
        let reason = one_line(&problem);
        let owner = self.translator.owner_of_message(message);
        let position = message.place.position(self.epoch);
        tracing::error!(
            event = "message_quarantined", owner, %position, reason = %bounded_reason(&reason), hint = problem.hint(),
            "logical message is not a valid event; written as a dead letter"
        );
        meters::untranslatable();
        let context = self.translator.transaction_context();
        ChangeEntry::message(message, self.epoch, owner.as_deref(), context, &reason, problem.hint())
            .push_alone(&mut self.records);
    }

    /// Creates the dead letter of a change that cannot be decoded, unless no rule selects its table.
    pub(in crate::pipeline) fn quarantine(&mut self, change: &Unreadable<'_>) {
        self.records.clear();
        if change.relation.is_some_and(|relation| !self.translator.wants(relation)) {
            return;
        }
        let reason = bounded_reason(change.reason);
        tracing::error!(
            event = "change_unreadable", table = change.table, position = %change.place.position(self.epoch), %reason,
            size = change.size, "change cannot be decoded; written as a dead letter"
        );
        meters::untranslatable();
        ChangeEntry::unreadable(change, self.epoch, self.translator.transaction_context())
            .push_alone(&mut self.records);
    }

    /// Stages the records of a change as one frame.
    pub(in crate::pipeline) fn append(&mut self, place: &ChangePlace) -> Result<Result<(), Full>, Failure> {
        let (position, transaction) = (place.position(self.epoch), place.transaction);
        if self.records.is_empty() {
            return Ok(Ok(()));
        }
        match self.writer.append(FrameKind::Change, position, transaction, &self.records) {
            Ok(frame) => {
                self.frame = frame;
                self.open = true;
                self.last = Some(position);
                while self.quarantined.first_key_value().is_some_and(|(first, _)| *first <= position) {
                    self.quarantined.pop_first();
                }
                self.count();
                // Frees the memory: the next change is received before it is translated, and both would add
                // up.
                self.records.clear();
                Ok(Ok(()))
            }
            Err(error) if error.is_full() => {
                self.full = Some(error.to_string());
                Ok(Err(Full))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Counts the records that were appended.
    fn count(&mut self) {
        for record in self.records.iter() {
            self.counts.receive(record.event_type);
        }
    }

    /// Reports the events received and filtered, at most once per [`REPORT_EVERY`].
    pub(in crate::pipeline) fn report(&mut self, status: &Status) {
        if let Some(received) = self.heartbeat.take() {
            status.heartbeat(|part| part.received = Some(received));
        }
        if time::now().duration_since(self.reported) >= REPORT_EVERY {
            self.report_now(status);
        }
    }

    /// Reports the events received and filtered now.
    pub(in crate::pipeline) fn report_now(&mut self, status: &Status) {
        self.reported = time::now();
        let counts = &mut self.counts;
        self.translator.take_filtered(|event_type, changes| counts.filter(event_type, changes));
        status.received(|all| all.take(counts));
    }

    /// Whether staged frames should be written before more is received.
    pub(in crate::pipeline) const fn is_heavy(&self) -> bool {
        self.writer.staged() >= HEAVY
    }

    /// Writes staged frames and reports the tail to the ledger. Returns `false` if the log is full.
    pub(in crate::pipeline) fn flush(&mut self, ledger: &SharedLedger) -> Result<bool, Failure> {
        let outcome = self.writer.flush();
        ledger.lock().received(self.log.tail().into());
        match outcome {
            Ok(()) => {
                if !self.open {
                    ledger.lock().complete(self.log.tail().into());
                }
                Ok(true)
            }
            Err(error) if error.is_full() => {
                self.full = Some(error.to_string());
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Notes that the transaction is complete, so that injections may be appended.
    pub(in crate::pipeline) const fn complete(&mut self) {
        self.open = false;
    }

    /// The last frame appended, staged or written.
    pub(in crate::pipeline) const fn frame(&self) -> FrameNo {
        self.frame
    }

    /// Waits until a segment is deleted after the last flush. Cancel-safe.
    pub(in crate::pipeline) async fn room(&mut self) {
        self.writer.room().await;
    }

    /// Logs, at most once a minute, that the log is full, and which lanes lag behind. Returns whether it was
    /// logged.
    pub(in crate::pipeline) fn log_full(&mut self, behind: Option<&Behind>) -> bool {
        let reason = self.full.take().unwrap_or_else(|| "the log is full".to_owned());
        let now = time::now();
        let say = self.logged_full.is_none_or(|last| now.duration_since(last) >= LOG_AGAIN);
        if say {
            self.logged_full = Some(now);
            tracing::error!(
                event = "source_paused",
                reason,
                lanes = behind.map(|behind| behind.lanes.as_str()),
                shard = behind.and_then(|behind| behind.shard.as_deref()),
                "buffer full; source paused, PostgreSQL retains WAL. Resumes when space is available"
            );
        }
        say
    }
}

/// Most bytes of records that fit into any frame, and whose frame fits into an empty log.
pub fn frame_max(log: &Log) -> usize {
    const AROUND: usize = 64 << 10;
    usize::try_from(log.config().max_size).unwrap_or(usize::MAX).min(Records::LIMIT) - AROUND
}

/// The dead letter of a change that was just received.
fn letter<'a>(
    change: &Change<'a>,
    epoch: u16,
    table: &'a str,
    context: Option<&'a TransactionContext>,
    reason: &'a str,
    hint: Option<&'a str>,
) -> ChangeEntry<'a> {
    ChangeEntry {
        epoch,
        place: change.place,
        rule: None,
        table: Some(table),
        relation: Some(change.relation),
        context,
        reason,
        hint,
        size: change.raw.len() as u64,
        raw: change.raw,
        raw_in: None,
    }
}

#[cfg(test)]
pub(in crate::pipeline) mod tests;
