//! The publish loop: reads the log after what is published → Kinesis → reports how far it has come.
//!
//! It never looks at a change, and no error of the service ends it: what is refused or unanswered is sent again, key by key
//! and in order, for ever. What it knows is the window; everything else is in the ledger.

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
use crate::pipeline::remarks::{Remarks, ranges};
use crate::pipeline::stream::{self, StreamWatch};
use crate::pipeline::{Phase, meters};
use crate::sink::lanes::{Detail, FeedId, Lanes, Start};
use crate::sink::request::{Limits, PACK_BYTES, Ticket};
use crate::sink::{Answer, Publisher, PutError, StreamFacts};

/// How often lanes and books are reported; the checkpoint is not written more often either.
const REPORT_EVERY: Duration = Duration::from_millis(500);
/// How long a stop waits for requests that are out.
const STOP_PATIENCE: Duration = Duration::from_secs(3);
/// When a dead letter is tried again that found no room.
const BURY_AGAIN: Duration = Duration::from_secs(5);

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
        self.undertaker.begin()?;
        let mut attempt = Attempt {
            readers: Readers::new(&self.log, &lanes, epoch),
            lanes,
            reported: Instant::now(),
            remarks: Remarks::default(),
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
    remarks: Remarks,
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
            let mut more = false;
            if !self.halted() {
                more = self.readers.read(&mut self.lanes, self.loop_.undertaker.aside())?;
                self.bury()?;
            }
            if describing.is_empty() && self.stream.due() <= Instant::now() {
                self.stream.asks();
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
                Remarks::lanes_moved(self.lanes.take_changes());
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
                () = self.readers.grown(), if self.lanes.wants(FeedId::FRONT).is_some() && !halted && !more => {}
                // PRIORITY 4: time: a pause is over, a report is due.
                () = tokio::time::sleep_until(wake) => {}
                // PRIORITY 5: more to read, after a look at everything else.
                () = tokio::task::yield_now(), if more => {}
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
        self.stream.settled(settlement.error.as_ref());
        self.remarks.settled(&settlement, self.lanes.paused_lanes(), self.stream.arn());
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
        let rates = self.lanes.rates(self.reported);
        self.remarks.shards_limited(rates.limited);
        meters::rates(&rates);
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

/// A seed for jitter: two processes must not retry in step.
fn seed() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.subsec_nanos().into()
}
