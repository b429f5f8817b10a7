//! The publish loop: reads the log after what is published → Kinesis → reports how far it has come.
//!
//! It never looks at a change, and no error of the service ends it: what is refused or unanswered is sent again, key by key
//! and in order, for ever. What it knows is the window; everything else is in the ledger.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::buffer::checkpoint::StreamIdentity;
use crate::buffer::ledger::{Behind, Published, Reached, SharedLedger};
use crate::buffer::log::Log;
use crate::config::Pack;
use crate::failure::Failure;
use crate::pipeline::poison::{Laid, Undertaker, Verdict};
use crate::pipeline::readers::Readers;
use crate::pipeline::stream::{self, StreamWatch};
use crate::pipeline::{Phase, meters};
use crate::sink::lanes::{Change, Detail, FeedId, Lanes, Settlement, Start, Violation};
use crate::sink::request::{Limits, PACK_BYTES, Ticket};
use crate::sink::shards::Summary;
use crate::sink::{Answer, Publisher, PutError, StreamFacts};

/// How often lanes and books are reported; the checkpoint is not written more often either.
const REPORT_EVERY: Duration = Duration::from_millis(500);
/// How long a stop waits for requests that are out.
const STOP_PATIENCE: Duration = Duration::from_secs(3);
/// When a dead letter is tried again that found no room.
const BURY_AGAIN: Duration = Duration::from_secs(5);
/// Most overloaded shards that a line of the log names.
const NAMED_MAX: usize = 8;
/// How often a service that keeps failing is mentioned at most.
const WARN_EVERY: Duration = Duration::from_secs(10);

/// The stream is not the one this directory has published to, or cannot keep order.
#[derive(Debug, thiserror::Error)]
pub enum StreamRefusal {
    /// Another stream, or a recreated one.
    #[error(
        "the buffer directory belongs to the stream {found} created at {found_created}, now it is {now} created at {now_created}: \
         it was recreated, or the configuration names another one. If it is meant, `forebay adopt --reason \"…\"` begins a \
         new epoch; events published to the old stream are not repeated"
    )]
    Other {
        /// ARN in the checkpoint.
        found: String,
        /// Its creation time, milliseconds since the Unix epoch.
        found_created: i64,
        /// ARN now.
        now: String,
        /// Creation time now.
        now_created: i64,
    },
    /// `RecordDistributionStrategy` is `AUTO`.
    #[error(
        "the stream {0} ignores partition keys (RecordDistributionStrategy AUTO), so events of one key would be reordered: \
         set it to USER_PARTITION_KEY (aws kinesis update-stream-record-distribution-strategy) and start again"
    )]
    IgnoresKeys(String),
}

/// What the loop works with, over all its attempts.
#[derive(Debug)]
pub struct Publish<P> {
    /// The stream.
    pub publisher: P,
    /// The log.
    pub log: Arc<Log>,
    /// The account.
    pub ledger: SharedLedger,
    /// Who takes records that cannot leave.
    pub undertaker: Undertaker,
    /// How many events a record holds.
    pub pack: Pack,
    /// Whether to go on.
    pub phase: watch::Receiver<Phase>,
}

impl<P: Publisher> Publish<P> {
    /// Runs until the process stops (`Ok`) or the attempt fails.
    ///
    /// # Errors
    /// The log cannot be read, the stream is another one, or a poison stops it.
    pub async fn run(&mut self) -> Result<(), Failure> {
        let Some(facts) = self.meet_stream().await? else { return Ok(()) };
        let start = {
            let ledger = self.ledger.lock();
            let Published { low, lanes, answered, .. } = ledger.published();
            Start {
                low: low.mark,
                tip: ledger.checkpoint().tip,
                lanes: lanes.clone(),
                answered: answered.clone(),
            }
        };
        let epoch = self.ledger.lock().checkpoint().epoch;
        let pack_bytes = match self.pack {
            Pack::Off => 0,
            Pack::Lines => PACK_BYTES,
        };
        let limits = Limits { max_record_size: facts.max_record_size, pack_bytes, ..Limits::default() };
        let lanes = Lanes::new(&start, limits, seed());
        self.undertaker.go_on();
        let mut attempt = Attempt {
            readers: Readers::new(&self.log, &lanes, epoch),
            lanes,
            reported: Instant::now(),
            complaint: None,
            violation: None,
            rates: Summary::default(),
            overloaded: BTreeSet::new(),
            bury_after: None,
            stream: StreamWatch::new(facts),
            loop_: self,
        };
        attempt.run().await
    }

    /// Reads the stream's settings, for as long as it takes; `None` if the process stops first.
    async fn meet_stream(&mut self) -> Result<Option<StreamFacts>, Failure> {
        let mut pause = Duration::from_millis(100);
        loop {
            let described = tokio::select! {
                biased;
                _ = self.phase.wait_for(|phase| *phase != Phase::Running) => return Ok(None),
                described = self.publisher.describe() => described,
            };
            let error = match described {
                Ok(facts) => {
                    self.check_stream(&facts)?;
                    let Some(closed) = stream::closed(&facts) else {
                        tracing::info!(
                            stream = facts.arn,
                            shards = facts.shards,
                            mode = facts.mode,
                            max_record_size = facts.max_record_size,
                            "the stream answers"
                        );
                        return Ok(Some(facts));
                    };
                    closed
                }
                Err(error) => error.to_string(),
            };
            stream::unavailable(&error);
            tracing::warn!(error, retry_in = ?pause, "the stream cannot be described, or takes nothing: nothing is sent before it does");
            tokio::select! {
                biased;
                _ = self.phase.wait_for(|phase| *phase != Phase::Running) => return Ok(None),
                () = tokio::time::sleep(pause) => {}
            }
            pause = (pause * 2).min(Duration::from_secs(10));
        }
    }

    fn check_stream(&self, facts: &StreamFacts) -> Result<(), Failure> {
        if facts.ignores_keys {
            return Err(Failure::stop(StreamRefusal::IgnoresKeys(facts.arn.clone())));
        }
        let now = StreamIdentity { arn: facts.arn.clone(), created: facts.created };
        let mut ledger = self.ledger.lock();
        match ledger.stream() {
            Some(found) if *found != now => Err(Failure::stop(StreamRefusal::Other {
                found: found.arn.clone(),
                found_created: found.created,
                now: now.arn,
                now_created: now.created,
            })),
            Some(_) => Ok(()),
            None => {
                if facts.closed.is_none() {
                    ledger.meet_stream(now);
                }
                Ok(())
            }
        }
    }
}

/// One attempt: the readers and the windows belong to it, so that nothing outlives a failure.
struct Attempt<'a, P> {
    loop_: &'a mut Publish<P>,
    readers: Readers,
    lanes: Lanes,
    reported: Instant,
    complaint: Option<Instant>,
    /// When a violation of the order was last told.
    violation: Option<Instant>,
    /// Of shards, as last reported.
    rates: Summary,
    /// Shards that have got a rate since the last complaint.
    overloaded: BTreeSet<String>,
    /// The dead-letter file had no room: not before this.
    bury_after: Option<Instant>,
    stream: StreamWatch,
}

impl<P: Publisher> Attempt<'_, P> {
    async fn run(&mut self) -> Result<(), Failure> {
        let mut out = FuturesUnordered::new();
        let mut phase = self.loop_.phase.clone();
        let mut describing = FuturesUnordered::new();
        loop {
            self.decide();
            if !self.halted() {
                self.readers.read(&mut self.lanes)?;
                self.bury()?;
            }
            if describing.is_empty() && self.stream.due() <= Instant::now() {
                describing.push(self.loop_.publisher.describe());
            }
            while self.may_send()
                && let Some(request) = self.lanes.fill(Instant::now())
            {
                meters::sent(request.records.len());
                let answer = self.loop_.publisher.put(request.records);
                let ticket = request.ticket;
                out.push(async move { (ticket, answer.await) });
            }
            // While nothing may be sent, no lane is slower than another.
            let sends = self.may_send();
            if sends && self.lanes.tend(Instant::now()) {
                self.tell_changes();
                continue;
            }
            let mut wake = self.reported + REPORT_EVERY;
            if sends {
                wake = self.lanes.wake_at(Instant::now()).map_or(wake, |at| at.min(wake));
            }
            if describing.is_empty() {
                wake = wake.min(self.stream.due());
            }
            let halted = self.halted();
            tokio::select! {
                biased;
                // PRIORITY 1: stop. Requests that are out are waited for, nothing more is sent.
                _ = phase.wait_for(|phase| *phase != Phase::Running) => break,
                // At most once a minute while all is well; what it says decides whether anything is sent.
                Some(described) = describing.next(), if !describing.is_empty() => self.described(described)?,
                // PRIORITY 2: answers free the window.
                Some((ticket, result)) = out.next(), if !out.is_empty() => self.settle(ticket, result),
                // PRIORITY 3: more to send.
                () = self.readers.grown(), if self.lanes.wants(FeedId::FRONT).is_some() && !halted => {}
                // PRIORITY 4: time: a pause is over, a report is due.
                () = tokio::time::sleep_until(wake) => {}
            }
            self.report(Detail::Lanes);
        }
        let patience = tokio::time::sleep(STOP_PATIENCE);
        tokio::pin!(patience);
        while !out.is_empty() {
            tokio::select! {
                biased;
                Some((ticket, result)) = out.next() => self.settle(ticket, result),
                () = &mut patience => break,
            }
        }
        self.report_now(Detail::Records);
        Ok(())
    }

    /// Writes records that cannot leave to the dead-letter file, each when its turn has come. Without room there, their keys
    /// wait and the others go on: ending the attempt would send again what is still under way.
    fn bury(&mut self) -> Result<(), Failure> {
        if self.bury_after.is_some_and(|at| Instant::now() < at) {
            return Ok(());
        }
        self.bury_after = None;
        while let Some(dead) = self.lanes.next_dead_letter() {
            match self.loop_.undertaker.lay(&dead)? {
                Laid::Away => {
                    self.lanes.finish(dead.frame, dead.part);
                    meters::quarantined();
                }
                Laid::NoRoom(error) => {
                    tracing::error!(%error, retry_in = ?BURY_AGAIN, "make room: events of the same key wait for it, others go on");
                    self.lanes.put_back(dead.frame, dead.part);
                    self.bury_after = Some(Instant::now() + BURY_AGAIN);
                    return Ok(());
                }
                Laid::Stands => return Ok(()),
            }
        }
        Ok(())
    }

    /// Whether publishing stands before a record that cannot leave.
    fn halted(&self) -> bool {
        self.loop_.undertaker.standing().is_some()
    }

    /// Whether records may leave at all.
    fn may_send(&self) -> bool {
        !self.halted() && self.stream.may_send()
    }

    /// Does what a person has decided about the record that stands.
    fn decide(&mut self) {
        match self.loop_.undertaker.verdict() {
            None => {}
            Some(Verdict::TryAgain) => self.stream.ask(),
            Some(Verdict::PutAway) => {
                if let Some((frame, part)) = self.loop_.undertaker.go_on() {
                    self.lanes.finish(frame, part);
                    meters::quarantined();
                }
            }
        }
    }

    fn settle(&mut self, ticket: Ticket, result: Result<Vec<Answer>, PutError>) {
        let settlement = self.lanes.settle(ticket, result, Instant::now());
        meters::settled(&settlement);
        self.accuse(&settlement);
        self.stream.settled(settlement.error.as_ref());
        self.complain(&settlement);
    }

    /// Says that the service has not kept the order of a key, but not more often than a person can read.
    fn accuse(&mut self, settlement: &Settlement) {
        let Some(Violation { fall, frame, event_type, lane }) = &settlement.violation else { return };
        let now = Instant::now();
        if self.violation.is_some_and(|last| now.duration_since(last) < WARN_EVERY) {
            return;
        }
        self.violation = Some(now);
        tracing::error!(
            shard = fall.shard, before = fall.before, after = fall.after, event_type = &**event_type, %frame, lane,
            "Kinesis gave a record a sequence number that is not above that of the record before it of the same key: readers of the              shard get the two in the wrong order. A person must compare what they have with the table"
        );
    }

    /// Says that something is being retried, but not more often than a person can read.
    fn complain(&mut self, settlement: &Settlement) {
        let newly = settlement.cuts.iter().filter(|cut| cut.first).map(|cut| cut.shard.clone());
        self.overloaded.extend(newly.take(NAMED_MAX.saturating_sub(self.overloaded.len())));
        let refused = settlement.throttled + settlement.failed + settlement.unanswered;
        if refused == 0 {
            let calm = self.lanes.paused_lanes() == 0 && self.rates.limited == 0;
            if settlement.accepted > 0 && self.complaint.is_some() && calm {
                self.complaint = None;
                tracing::info!("the stream takes everything again");
            }
            return;
        }
        let now = Instant::now();
        if self.complaint.is_some_and(|last| now.duration_since(last) < WARN_EVERY) {
            return;
        }
        self.complaint = Some(now);
        let overloaded = std::mem::take(&mut self.overloaded).into_iter().collect::<Vec<_>>().join(" ");
        let error = settlement.error.as_ref().map(ToString::to_string).or_else(|| settlement.reason.clone());
        tracing::warn!(
            throttled = settlement.throttled,
            failed = settlement.failed,
            unanswered = settlement.unanswered,
            shards = (!overloaded.is_empty()).then_some(overloaded),
            stream = self.stream.arn(),
            error,
            "records are sent again until the stream takes them"
        );
    }

    /// Says which lanes have left the others, and which are back.
    fn tell_changes(&mut self) {
        for change in self.lanes.take_changes() {
            match change {
                Change::Detached { lanes, behind, shard } => tracing::warn!(
                    lanes = ranges(&lanes),
                    behind,
                    shard,
                    "lanes cannot keep up and are fed apart, so that the others go on; behind is in frames of the log"
                ),
                Change::Back { lanes } => {
                    tracing::info!(lanes = ranges(&lanes), "lanes are with the others again");
                }
            }
        }
    }

    /// The stream's settings: whether it is still the same one, and what it takes.
    fn described(&mut self, described: Result<StreamFacts, PutError>) -> Result<(), Failure> {
        if let Ok(facts) = &described {
            self.loop_.check_stream(facts)?;
            self.lanes.set_max_record_size(facts.max_record_size);
            if let Some((frame, part)) = self.loop_.undertaker.go_on() {
                // Perhaps it leaves now; else it stands there again.
                self.lanes.put_back(frame, part);
            }
        }
        self.stream.described(described);
        Ok(())
    }

    fn report(&mut self, detail: Detail) {
        if self.reported.elapsed() >= REPORT_EVERY {
            self.report_now(detail);
        }
    }

    fn report_now(&mut self, detail: Detail) {
        self.reported = Instant::now();
        let progress = self.lanes.progress(detail);
        let books = self.lanes.take_books();
        self.rates = self.lanes.rates(self.reported);
        meters::rates(&self.rates);
        meters::window(self.lanes.window_bytes(), self.lanes.in_flight(), self.lanes.paused_lanes());
        meters::detached(&self.lanes.behind(), SystemTime::now());
        self.loop_.ledger.lock().publish(Published {
            low: Reached { mark: progress.low, transaction: progress.low_transaction },
            lanes: progress.lanes,
            answered: progress.answered,
            highest: progress.tip,
            books: books.into_iter().map(|(name, totals)| (name.to_string(), totals)).collect(),
            behind: self.lanes.behind_whom().map(|(lanes, shard)| Behind { lanes: ranges(&lanes), shard }),
        });
    }
}

/// Lanes as a person reads them: `0-63, 200`.
fn ranges(lanes: &[u8]) -> String {
    let runs = lanes.chunk_by(|one, next| one.checked_add(1) == Some(*next));
    let text = runs.filter_map(|run| match (run.first()?, run.last()?) {
        (first, last) if first == last => Some(first.to_string()),
        (first, last) => Some(format!("{first}-{last}")),
    });
    text.collect::<Vec<_>>().join(", ")
}

/// A seed for jitter: two processes must not retry in step.
fn seed() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.subsec_nanos().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_are_named_by_their_ranges() {
        for (lanes, text) in
            [(vec![], ""), (vec![7], "7"), (vec![0, 1, 2, 9], "0-2, 9"), (vec![3, 254, 255], "3, 254-255")]
        {
            assert_eq!(ranges(&lanes), text);
        }
    }
}
