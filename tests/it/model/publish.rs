//! The publish loop of the model around the real window.

use std::sync::Arc;

use forebay::buffer::checkpoint::Totals;
use forebay::buffer::ledger::{Published, Reached};
use forebay::event::{KeyHash, RecordKind};
use forebay::position::FrameNo;
use forebay::sink::lanes::Ticket;
use forebay::sink::lanes::{Admission, Detail, Frame, Lanes, Start};
use forebay::sink::pacing::Limits;
use forebay::sink::{Outgoing, PutError, RecordResult};
use tokio::time::Instant;

use super::planted::Fault;
use super::sim::{Sim, Violation};

/// Bytes of the window at most; a frame may go beyond it once.
const WINDOW: usize = 4_000;
const FRAME_BYTES: usize = 100;

/// One attempt.
#[derive(Debug)]
pub struct Attempt {
    lanes: Lanes,
    read: FrameNo,
    pub out: Vec<Out>,
}

/// A request under way.
#[derive(Debug)]
pub struct Out {
    ticket: Ticket,
    pub records: Vec<Outgoing>,
}

/// How a request ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Every record has an answer; some are refused.
    Answered,
    /// Some records were stored, the answer was lost.
    Lost,
    /// The line was cut; it may arrive later.
    Under,
}

impl Sim {
    fn limits() -> Limits {
        Limits { request_records: 4, in_flight_requests: 3, ..Limits::default() }
    }

    /// Begins where the ledger says.
    fn attempt(&mut self) {
        let outlives = self.has(Fault::ReaderOutlivesItsAttempt);
        let Some(daemon) = &mut self.daemon else { return };
        let Published { watermark, lanes, lane_parts, acknowledged, .. } = daemon.ledger.resume();
        let mut watermark = watermark.mark;
        let (lanes, parts, acknowledged) = (lanes.clone(), lane_parts.clone(), acknowledged.clone());
        if let (true, Some(before)) = (outlives, &daemon.attempt) {
            watermark.frame = before.read;
        }
        let start =
            Start { watermark, last_seen: daemon.ledger.checkpoint().last_seen, lanes, parts, acknowledged };
        let lanes = Lanes::new(&start, Self::limits(), 1);
        daemon.attempt = Some(Attempt { lanes, read: watermark.frame, out: Vec::new() });
    }

    /// The attempt fails; its requests may still arrive.
    pub fn publish_again(&mut self) {
        if let Some(old) = self.daemon.as_mut().and_then(|daemon| daemon.attempt.as_mut()) {
            self.stream.lose(old.out.drain(..).flat_map(|request| request.records));
        }
        self.attempt();
    }

    /// Reads the log and sends what may be sent.
    pub fn send(&mut self) -> Result<(), Violation> {
        if self.daemon.as_ref().is_some_and(|daemon| daemon.attempt.is_none()) {
            self.attempt();
        }
        let now = Instant::from_std(self.now());
        let any_epoch = self.has(Fault::OldEpochInTip);
        let Some(daemon) = &mut self.daemon else { return Ok(()) };
        let Some(attempt) = &mut daemon.attempt else { return Ok(()) };
        let visible = daemon.withheld.map_or(FrameNo(u64::MAX), |withheld| withheld.mark.frame);
        while attempt.lanes.window_bytes() < WINDOW
            && attempt.read < visible
            && let Some(frame) = self.disk.frame(attempt.read.next())
        {
            if frame.damaged {
                return Err(format!("frame {} is damaged and was taken for readable", frame.number));
            }
            let ours = any_epoch || frame.position.is_some_and(|position| position.epoch == daemon.epoch);
            let admitted = Frame {
                number: frame.number,
                position: frame.position,
                transaction: frame.transaction.filter(|_| ours),
                bytes: FRAME_BYTES,
            };
            let records = frame.records.iter().map(|(key, line)| Admission {
                kind: RecordKind::Event,
                hash: KeyHash::of(key),
                event_type: "model.v1",
                key: key.clone().into(),
                line: line.clone().into(),
            });
            attempt.lanes.admit(&admitted, records);
            attempt.read = frame.number;
        }
        if attempt.lanes.window_bytes() > WINDOW + 2_000 {
            return Err(format!("the window has {} bytes", attempt.lanes.window_bytes()));
        }
        while let Some(request) = attempt.lanes.fill(now) {
            attempt.out.push(Out { ticket: request.ticket, records: request.records });
        }
        Ok(())
    }

    /// One of the requests under way ends.
    pub fn answer(&mut self) -> Result<(), Violation> {
        let end = [End::Answered, End::Answered, End::Answered, End::Answered, End::Lost, End::Under];
        let end = end[self.random.index(end.len())];
        self.end_request(end, true)
    }

    /// One of the requests under way is accepted, but for what is stuck.
    pub fn accept(&mut self) -> Result<(), Violation> {
        self.end_request(End::Answered, false)
    }

    fn end_request(&mut self, end: End, faulty: bool) -> Result<(), Violation> {
        let now = Instant::from_std(self.now());
        let Some(attempt) = self.daemon.as_mut().and_then(|daemon| daemon.attempt.as_mut()) else {
            return Ok(());
        };
        if attempt.out.is_empty() {
            return Ok(());
        }
        let Out { ticket, records } = attempt.out.swap_remove(self.random.index(attempt.out.len()));
        if end == End::Under {
            self.stream.lose(records);
            drop(attempt.lanes.settle(ticket, Err(PutError::NoResponse("cut".into())), now));
            return Ok(());
        }
        let (mut answers, mut stored) = (Vec::new(), Vec::new());
        for record in &records {
            let lane = KeyHash::of(std::str::from_utf8(&record.key).unwrap()).lane();
            if Some(lane) == self.stuck || (faulty && self.random.one_in(4)) {
                answers.push(RecordResult::Throttled);
            } else {
                stored.push(record.data.clone());
                self.stream.store(record)?;
                answers.push(RecordResult::Accepted { sequence: String::new(), shard: String::new() });
            }
        }
        let result = match end {
            End::Answered => Ok(answers),
            _ => Err(PutError::NoResponse("lost".into())),
        };
        drop(attempt.lanes.settle(ticket, result, now));
        self.note(|| format!("stored {stored:?}"));
        Ok(())
    }

    /// Tells the ledger how far it has come.
    pub fn report(&mut self, detail: Detail) {
        let ahead = self.has(Fault::LowBeforeAcceptance);
        let Some(daemon) = &mut self.daemon else { return };
        let Some(attempt) = &mut daemon.attempt else { return };
        let progress = attempt.lanes.progress(detail);
        let named = |counts: Vec<(Arc<str>, Totals)>| {
            counts.into_iter().map(|(name, totals)| (name.to_string(), totals)).collect()
        };
        let (event_counts, counts_ahead) = (attempt.lanes.take_counts(), attempt.lanes.counts_ahead());
        let mut watermark = Reached { mark: progress.watermark, transaction: progress.watermark_transaction };
        if ahead {
            watermark.mark.frame = attempt.lanes.head();
        }
        daemon.ledger.publish(Published {
            watermark,
            lanes: progress.lanes,
            lane_parts: progress.parts,
            acknowledged: progress.acknowledged,
            highest: progress.last_seen,
            event_counts: named(event_counts),
            counts_ahead: named(counts_ahead),
            counted_beyond_watermark: attempt.lanes.is_counted_beyond_watermark(),
            behind: None,
        });
    }

    /// At a clean stop nothing new is sent, and answers are awaited.
    pub fn await_answers(&mut self) -> Result<(), Violation> {
        while self
            .daemon
            .as_ref()
            .and_then(|daemon| daemon.attempt.as_ref())
            .is_some_and(|attempt| !attempt.out.is_empty())
        {
            self.answer()?;
        }
        self.report(Detail::Records);
        Ok(())
    }
}
