//! The publish loop: reads the log after the watermark, sends records, and reports progress to the ledger.
//!
//! It never decodes a change, and no error of the service ends it: rejected and unacknowledged records are
//! retried without limit, in order per key. Its only state is the window; everything else is in the ledger.

mod access_watch;
mod former_counts;
mod publish_log;
mod range_watch;
mod readers;
mod stream_watch;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::buffer::checkpoint::Totals;
use crate::buffer::ledger::{Behind, Published, Reached, SharedLedger};
use crate::buffer::log::Log;
use crate::buffer::reader::Reader;
use crate::config::Pack;
use crate::failure::{Failure, Problem};
use crate::identity::StreamIdentity;
use crate::pipeline::dead_letter::quarantine::{Fate, Report};
use crate::pipeline::dead_letter::{Quarantine, Verdict};
use crate::pipeline::publish::access_watch::{AccessWatch, PutAccess};
use crate::pipeline::publish::publish_log::{PublishLog, ranges};
use crate::pipeline::publish::range_watch::RangeWatch;
use crate::pipeline::publish::readers::LogReaders;
use crate::pipeline::publish::stream_watch::{StreamRefusal, StreamWatch};
use crate::pipeline::status::Status;
use crate::pipeline::{Phase, meters};
use crate::sink::lanes::Ticket;
use crate::sink::lanes::{Detail, Lanes, ReaderId, Settlement, Start};
use crate::sink::pacing::{Limits, PACK_BYTES};
use crate::sink::rate::Summary;
use crate::sink::{Destination, PutError, RecordResult, StreamFacts};

/// How often progress of lanes and event counts are reported. The checkpoint is not written more often
/// either.
const REPORT_EVERY: Duration = Duration::from_millis(500);
/// How long a stop waits for requests in flight.
const STOP_PATIENCE: Duration = Duration::from_secs(3);
/// Number of hot keys on the status page.
const HOT_KEYS: usize = 8;
/// Pause before dead letters are written again that found no space.
const QUARANTINE_AGAIN: Duration = Duration::from_secs(5);

/// Everything that outlives an attempt of the loop.
#[derive(Debug)]
pub struct Publish<P> {
    /// The stream.
    pub publisher: P,
    /// The log.
    pub log: Arc<Log>,
    /// The ledger.
    pub ledger: SharedLedger,
    /// Passes records that cannot be published to the dead-letter writer.
    pub quarantine: Quarantine,
    /// How many events are packed into one record.
    pub pack: Pack,
    /// Whether the process runs or stops.
    pub phase: watch::Receiver<Phase>,
    /// Where the loop reports its state.
    pub status: Status,
    /// Seed of the jitter.
    pub seed: u64,
}

impl<P: Destination> Publish<P> {
    /// Runs until the process stops (`Ok`) or the attempt fails.
    ///
    /// # Errors
    /// The log cannot be read, or the stream is another one.
    pub async fn run(&mut self) -> Result<(), Failure> {
        let Some(facts) = self.describe_first().await? else { return Ok(()) };
        let start = {
            let mut ledger = self.ledger.lock();
            let last_seen = ledger.checkpoint().last_seen;
            let Published { watermark, lanes, lane_parts, acknowledged, .. } = ledger.resume();
            Start {
                watermark: watermark.mark,
                last_seen,
                lanes: lanes.clone(),
                parts: lane_parts.clone(),
                acknowledged: acknowledged.clone(),
            }
        };
        if !self.ledger.lock().is_counted_by_lane() {
            let counting = former_counts::count(&self.log, &start, facts.max_record_size);
            let counted = tokio::select! {
                biased;
                _ = self.phase.wait_for(|phase| *phase != Phase::Running) => return Ok(()),
                counted = counting => counted?,
            };
            self.ledger.lock().count_by_lane(counted);
        }
        let epoch = self.ledger.lock().checkpoint().epoch;
        let pack_bytes = match self.pack {
            Pack::Off => 0,
            Pack::Lines => PACK_BYTES,
        };
        let limits = Limits { max_record_size: facts.max_record_size, pack_bytes, ..Limits::default() };
        let lanes = Lanes::new(&start, limits, self.seed);
        tokio::select! {
            biased;
            _ = self.phase.wait_for(|phase| *phase != Phase::Running) => return Ok(()),
            begun = self.quarantine.begin() => begun?,
        }
        let mut attempt = Attempt {
            readers: LogReaders::new(&self.log, &lanes, epoch),
            lanes,
            reported: Instant::now(),
            publish_log: PublishLog::default(),
            quarantine_after: None,
            sends_again: false,
            stream: StreamWatch::new(facts, self.status.clone()),
            access: AccessWatch::new(),
            loop_: self,
        };
        attempt.run().await
    }

    /// Describes the stream, with retries until it succeeds; `None` if the process stops first.
    async fn describe_first(&mut self) -> Result<Option<StreamFacts>, Failure> {
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
                    let Some(closed) = stream_watch::closed(&facts) else {
                        tracing::info!(
                            event = "stream_available",
                            stream = facts.name,
                            shards = facts.shards,
                            mode = facts.mode,
                            max_record_size = facts.max_record_size,
                            "stream available"
                        );
                        return Ok(Some(facts));
                    };
                    closed
                }
                Err(error) => Problem::from(error),
            };
            let oldest = self.oldest();
            self.status.publish(|part| {
                (part.unavailable, part.described, part.oldest) = (Some(error.to_string()), false, oldest);
            });
            tracing::warn!(
                event = "stream_unavailable", error = error.primary(), hint = error.hint(), retry_in = ?pause,
                "stream unavailable: sending nothing until it can be described"
            );
            tokio::select! {
                biased;
                _ = self.phase.wait_for(|phase| *phase != Phase::Running) => return Ok(None),
                () = tokio::time::sleep(pause) => {}
            }
            pause = (pause * 2).min(Duration::from_secs(10));
        }
    }

    /// Commit time of the first change after the watermark, microseconds since the Unix epoch.
    fn oldest(&self) -> Option<i64> {
        let watermark = self.ledger.lock().watermark().mark.frame;
        let chunk = Reader::new(&self.log, watermark).next_chunk().ok()??;
        let first = chunk.frames().next()?;
        Some(first.head().transaction.time)
    }

    fn check_stream(&self, facts: &StreamFacts) -> Result<(), Failure> {
        if facts.ignores_keys {
            return Err(Failure::stop(StreamRefusal::IgnoresKeys(facts.name.clone())));
        }
        let now = StreamIdentity { name: facts.name.clone(), created: facts.created };
        let mut ledger = self.ledger.lock();
        match ledger.stream() {
            Some(found) if *found != now => Err(Failure::stop(StreamRefusal::Other {
                found: found.name.clone(),
                found_created: found.created,
                now: now.name,
                now_created: now.created,
            })),
            Some(_) => Ok(()),
            None => {
                if facts.closed.is_none() {
                    ledger.note_stream(now);
                }
                Ok(())
            }
        }
    }
}

/// One attempt. Readers and windows belong to it, so nothing of them outlives a failure.
struct Attempt<'a, P> {
    loop_: &'a mut Publish<P>,
    readers: LogReaders,
    lanes: Lanes,
    reported: Instant,
    publish_log: PublishLog,
    /// When dead letters are written again; `None` unless the file had no space.
    quarantine_after: Option<Instant>,
    /// The operator has decided to send the record again that halts publishing. It is sent once the stream is
    /// described.
    sends_again: bool,
    stream: StreamWatch,
    access: AccessWatch,
}

impl<P: Destination> Attempt<'_, P> {
    async fn run(&mut self) -> Result<(), Failure> {
        let mut out = FuturesUnordered::new();
        let mut phase = self.loop_.phase.clone();
        let (mut describing, mut access_checks) = (FuturesUnordered::new(), FuturesUnordered::new());
        let (mut listing, mut ranges) = (FuturesUnordered::new(), RangeWatch::new());
        loop {
            self.decide();
            let mut more = false;
            if !self.halted() {
                more = self.readers.read(&mut self.lanes, self.loop_.quarantine.already_written())?;
                self.quarantine();
            }
            if !self.may_send() && self.lanes.could_send(Instant::now()) {
                self.stream.wants_to_send();
            }
            if describing.is_empty() && self.stream.due() <= Instant::now() {
                self.stream.note_request();
                describing.push(self.loop_.publisher.describe());
            }
            if listing.is_empty() && ranges.due(&self.lanes).is_some_and(|due| due <= Instant::now()) {
                listing.push(self.loop_.publisher.hash_ranges());
            }
            let is_due = access_checks.is_empty() && self.access.is_due();
            access_checks.extend(is_due.then(|| self.loop_.publisher.may_put()));
            while self.may_send()
                && let Some(request) = self.lanes.fill(Instant::now())
            {
                meters::sent(request.records.len());
                self.access.sent();
                let answer = self.loop_.publisher.put(request.records);
                out.push(in_time(request.ticket, request.timeout, answer));
            }
            // Lanes are compared only while records may be sent: otherwise none is slower than another.
            let sends = self.may_send();
            if sends && self.lanes.rebalance(Instant::now()) {
                PublishLog::lanes_moved(self.lanes.take_changes());
                continue;
            }
            let (halted, wake) = (self.halted(), self.wake(sends, describing.is_empty()));
            let hold = self.lanes.hold(Instant::now()).filter(|_| sends);
            tokio::select! {
                biased;
                // PRIORITY 1: stop. Send nothing more, and wait for requests in flight.
                _ = phase.wait_for(|phase| *phase != Phase::Running) => break,
                // The description of the stream, requested once a minute. It decides whether anything may be
                // sent.
                Some(described) = describing.next(), if !describing.is_empty() => self.described(described)?,
                // PRIORITY 2: responses, which free space in the window.
                Some((ticket, result)) = out.next(), if !out.is_empty() => self.settle(ticket, result),
                // Neither of these two delays a record.
                Some(result) = access_checks.next(), if !access_checks.is_empty() => self.access_checked(result),
                Some(listed) = listing.next(), if !listing.is_empty() => ranges.listed(listed, &mut self.lanes),
                // Records whose dead letters are durable no longer block their keys.
                report = self.loop_.quarantine.reported(), if self.loop_.quarantine.is_busy() => {
                    self.quarantined(report);
                }
                // PRIORITY 3: more to send.
                () = self.readers.grown(hold), if self.lanes.wants(ReaderId::MAIN).is_some() && !halted && !more => {}
                // PRIORITY 4: time. A pause is over, or a report is due.
                () = tokio::time::sleep_until(wake) => {}
                // PRIORITY 5: read more, after everything else had its turn.
                () = tokio::task::yield_now(), if more => {}
            }
            self.report(Detail::Lanes);
        }
        let patience = tokio::time::sleep(STOP_PATIENCE);
        tokio::pin!(patience);
        while !out.is_empty() || self.loop_.quarantine.is_busy() {
            tokio::select! {
                biased;
                Some((ticket, result)) = out.next(), if !out.is_empty() => self.settle(ticket, result),
                report = self.loop_.quarantine.reported(), if self.loop_.quarantine.is_busy() => {
                    self.quarantined(report);
                }
                () = &mut patience => break,
            }
        }
        self.report_now(Detail::Records);
        Ok(())
    }

    /// The next time at which something is due: a report, the end of a pause, a description.
    fn wake(&self, sends: bool, describes: bool) -> Instant {
        let now = Instant::now();
        let mut wake = self.reported + REPORT_EVERY;
        if sends {
            wake = self.lanes.wake_at(now).map_or(wake, |at| at.min(wake));
        }
        if describes {
            wake = wake.min(self.stream.due());
        }
        if let Some(until) = self.stream.wait_until() {
            wake = wake.min(until);
        } else if !sends
            && !self.halted()
            && let Some(at) = self.lanes.next_attempt().filter(|at| *at > now)
        {
            wake = wake.min(at);
        }
        wake
    }

    /// Passes records that cannot be published to the dead-letter writer, in the order of their keys.
    fn quarantine(&mut self) {
        if self.quarantine_after.is_some_and(|at| Instant::now() < at) {
            return;
        }
        self.quarantine_after = None;
        self.loop_.quarantine.submit(|| self.lanes.next_dead_letter());
    }

    /// Handles the results of the dead-letter writer. If the file has no space, the keys of these records
    /// stay blocked and all others continue. Ending the attempt would repeat the requests in flight.
    fn quarantined(&mut self, report: Report) {
        let (written, waiting): (Vec<_>, Vec<_>) =
            report.into_iter().partition(|(_, fate)| *fate != Fate::NoRoom);
        for (record, fate) in written {
            if let Fate::Halts(id) = fate {
                self.loop_.quarantine.halt(&record, id);
            } else {
                self.lanes.finish(record.frame, record.part);
                meters::quarantined();
            }
        }
        // In reverse, because each is put at the front of its queue.
        for (record, _) in waiting.into_iter().rev() {
            self.lanes.put_back(record.frame, record.part);
            self.quarantine_after = Some(Instant::now() + QUARANTINE_AGAIN);
        }
    }

    /// Whether publishing is halted before a record that cannot be published.
    fn halted(&self) -> bool {
        self.loop_.quarantine.halts()
    }

    /// Whether records may be sent at all.
    fn may_send(&self) -> bool {
        !self.halted() && self.stream.may_send()
    }

    /// Carries out the operator's decision about the record that halts publishing.
    fn decide(&mut self) {
        match self.loop_.quarantine.verdict() {
            None => {}
            Some(Verdict::SendAgain) => {
                self.sends_again = true;
                self.stream.request_description();
            }
            Some(Verdict::Skip) => {
                if let Some((frame, part)) = self.loop_.quarantine.resume() {
                    self.lanes.finish(frame, part);
                    meters::quarantined();
                }
            }
        }
    }

    fn settle(&mut self, ticket: Ticket, result: Result<Vec<RecordResult>, PutError>) {
        let sent = ticket.sent_at();
        let settlement = self.lanes.settle(ticket, result, Instant::now());
        meters::settled(&settlement);
        let took = sent.elapsed();
        self.loop_.status.traffic(|traffic| traffic.settled(&settlement, took));
        self.stream.settled(sent, settlement.error.as_ref().map(|error| (error, settlement.cause)));
        self.note(&settlement);
        self.publish_log.settled(&settlement, self.lanes.paused_lanes(), self.stream.name());
    }

    /// Reports the result of a request in the status.
    fn note(&self, settlement: &Settlement) {
        let others_wait = !self.lanes.is_empty();
        self.loop_.status.publish(|part| {
            if settlement.accepted > 0 {
                part.acknowledged(others_wait);
            } else if settlement.throttled > 0 {
                part.refused = Some("records are throttled".to_owned());
            } else if let Some(reason) = &settlement.reason {
                part.refused = Some(reason.clone());
            }
        });
    }

    /// Handles the response to the check whether records may be sent.
    fn access_checked(&mut self, result: Result<(), PutError>) {
        match self.access.checked(result, self.stream.name()) {
            None => {}
            Some(PutAccess::Allowed) => self.stream.denied(None),
            Some(PutAccess::Denied(problem)) => self.stream.denied(Some(problem)),
        }
    }

    /// Handles a description: checks that it is the same stream, and applies its limits.
    fn described(&mut self, described: Result<StreamFacts, PutError>) -> Result<(), Failure> {
        if let Ok(facts) = &described {
            self.loop_.check_stream(facts)?;
            self.lanes.set_max_record_size(facts.max_record_size);
            let sends_again = std::mem::take(&mut self.sends_again);
            if let Some((frame, part)) = self.loop_.quarantine.resume() {
                // The record may fit now. If not, publishing halts before it again.
                if sends_again {
                    self.lanes.send_again(frame, part);
                } else {
                    self.lanes.put_back(frame, part);
                }
            }
        }
        self.stream.described(described);
        Ok(())
    }

    fn note_lanes(&mut self, rates: Summary) {
        let (loads, (hot_keys, hot_total)) =
            (self.lanes.shard_loads(), self.lanes.hot_keys(HOT_KEYS, self.reported));
        self.loop_.status.traffic(|traffic| {
            (traffic.shards, traffic.hot_keys, traffic.hot_total) = (loads, hot_keys, hot_total);
        });
        let lanes = &self.lanes;
        let halted = self.halted();
        self.loop_.status.publish(|part| {
            part.waits(lanes.waits_for_service());
            part.refuses(lanes.rejected_keys());
            part.oldest = lanes.oldest();
            part.halted = halted;
            part.window_bytes = lanes.window_bytes();
            part.in_flight = lanes.in_flight();
            part.paused_lanes = lanes.paused_lanes();
            part.lag = lanes.behind();
            part.rates = rates;
        });
    }

    fn report(&mut self, detail: Detail) {
        if self.reported.elapsed() >= REPORT_EVERY {
            self.report_now(detail);
        }
    }

    fn report_now(&mut self, detail: Detail) {
        self.reported = Instant::now();
        let progress = self.lanes.progress(detail);
        let named = |counts: Vec<(Arc<str>, Totals)>| {
            counts.into_iter().map(|(name, totals)| (name.to_string(), totals)).collect()
        };
        let (event_counts, counts_ahead) = (self.lanes.take_counts(), self.lanes.counts_ahead());
        let rates = self.lanes.rates(self.reported);
        self.publish_log.shards_limited(rates.limited);
        self.note_lanes(rates);
        let mut ledger = self.loop_.ledger.lock();
        ledger.publish(Published {
            watermark: Reached { mark: progress.watermark, transaction: progress.watermark_transaction },
            lanes: progress.lanes,
            lane_parts: progress.parts,
            acknowledged: progress.acknowledged,
            highest: progress.last_seen,
            event_counts: named(event_counts),
            counts_ahead: named(counts_ahead),
            counted_beyond_watermark: self.lanes.is_counted_beyond_watermark(),
            behind: self.lanes.detached().map(|(lanes, shard)| Behind { lanes: ranges(&lanes), shard }),
        });
        if let Some(types) = ledger.unaccounted() {
            self.publish_log.unaccounted(&types);
        }
    }
}

/// Adds the ticket to the result of a request, and a timeout: after it, the records count as unacknowledged.
async fn in_time(
    ticket: Ticket,
    within: Duration,
    answer: impl Future<Output = Result<Vec<RecordResult>, PutError>>,
) -> (Ticket, Result<Vec<RecordResult>, PutError>) {
    let seconds = within.as_secs();
    let result = tokio::time::timeout(within, answer).await.unwrap_or_else(|_| {
        let text = format!("PutRecords timed out after {seconds} s");
        Err(PutError::NoResponse(text.into()))
    });
    (ticket, result)
}
