//! Handles the result of a request for each of its records.

use tokio::time::Instant;

use super::Dispatch;
use crate::event::KeyHash;
use crate::sink::lanes::counts::EventCounts;
use crate::sink::lanes::detaching::Detaching;
use crate::sink::lanes::divide::Divider;
use crate::sink::lanes::pack::Contents;
use crate::sink::lanes::readers::Readers;
use crate::sink::lanes::suspects::{FailedRecord, Suspects, Verdict};
use crate::sink::lanes::ticket::{RequestContent, Sent, Ticket};
use crate::sink::lanes::types::{Cause, FailedAlone, Outcome, Settlement, Violation};
use crate::sink::sections::{Section, Sections};
use crate::sink::throttle::{self, LaneResult};
use crate::sink::{PutError, RecordResult, order};

/// A record that was rejected.
#[derive(Debug)]
struct RejectedRecord {
    sent: Sent,
    hash: KeyHash,
    /// Number of rejections in a row that cause no pause.
    patience: u32,
}

impl Dispatch {
    /// Handles the result of a request: see [`Lanes::settle`](crate::sink::lanes::Lanes::settle).
    pub(in crate::sink::lanes) fn settle(
        &mut self,
        ticket: Ticket,
        result: Result<Vec<RecordResult>, PutError>,
        readers: &mut Readers,
        counts: &EventCounts,
        detaching: Option<&mut Detaching>,
        now: Instant,
    ) -> Settlement {
        self.flight.over(ticket.bytes);
        if ticket.is_control() {
            return self.settle_control(&ticket, result, now);
        }
        if ticket.content == RequestContent::Suspects {
            self.suspects.over();
        }
        self.catch_up_requests -= usize::from(ticket.catch_up);
        let result = result.and_then(|answers| match (answers.len(), ticket.sent.len()) {
            (got, sent) if got == sent => Ok(answers),
            (got, sent) => {
                Err(PutError::NoResponse(format!("{got} results for a request of {sent} records").into()))
            }
        });
        let settlement = match result {
            Ok(answers) => {
                self.gate.acknowledged();
                self.suspects.acknowledged(now);
                if answers.iter().any(|answer| matches!(answer, RecordResult::Accepted { .. })) {
                    self.suspects.note_other(true);
                }
                self.bandwidth.acknowledged(ticket.bytes, (ticket.at, ticket.acknowledged_before), now);
                self.settle_each(&ticket, answers, readers, counts, detaching, now)
            }
            Err(error) => self.settle_failed(&ticket, error, readers, counts, now),
        };
        let mut sent = ticket.sent;
        sent.clear();
        self.spare.push(sent);
        settlement
    }

    /// Handles a response with a result for each record.
    fn settle_each(
        &mut self,
        ticket: &Ticket,
        answers: Vec<RecordResult>,
        readers: &mut Readers,
        counts: &EventCounts,
        detaching: Option<&mut Detaching>,
        now: Instant,
    ) -> Settlement {
        let mut settlement = Settlement::default();
        let (mut accepted, mut rejected) = (Vec::with_capacity(answers.len()), Vec::new());
        for (one, answer) in ticket.sent.iter().zip(answers) {
            let Some(reader) = readers.get_mut(one.reader) else { continue };
            let Some(entry) = reader.window.entry(one.seq) else { continue };
            let (hash, frame, part, event_type) = (entry.hash, entry.frame, entry.part, entry.event_type);
            let (lane, section) = (hash.lane(), entry.section);
            let patience = match answer {
                RecordResult::Accepted { sequence, shard } => {
                    let Contents { events, bytes } = reader.contents(one.seq);
                    settlement.committed.extend(reader.window.committed_at(frame));
                    if let Some(entry) = reader.window.entry(one.seq) {
                        self.hot.accepted(hash, &entry.key, events);
                    }
                    self.shards.accepted(hash, &shard, bytes, now);
                    if settlement.accepted == 0 {
                        reader.note_published(one.seq);
                    }
                    settlement.accepted += 1;
                    settlement.accepted_events += events;
                    settlement.accepted_bytes += bytes;
                    accepted.push(hash);
                    self.suspects.forget(|| (frame, part));
                    self.rejected_keys.note_accepted(hash);
                    let more = reader.finish(one.seq, Outcome::Published, self.rules());
                    if let Some(fall) = self.order.accepted(hash, order::Place { shard, sequence }, more) {
                        let event_type = counts.name(event_type);
                        settlement.violated(Violation { fall, frame, event_type, lane });
                    }
                    continue;
                }
                RecordResult::Throttled => {
                    settlement.throttled += 1;
                    // If no record of a section is accepted, the rate of its shard is not the cause.
                    let repeatedly_refused = self.pauses.is_repeatedly_refused(section);
                    let known = self.shards.refused(hash, repeatedly_refused);
                    if known && !repeatedly_refused { throttle::PATIENCE } else { 0 }
                }
                RecordResult::Failed { reason } => {
                    settlement.failed += 1;
                    settlement.reason.get_or_insert(reason);
                    0
                }
            };
            settlement.lanes.push(lane);
            self.rejected_keys.note_rejected(hash, self.shards.refuses((hash.0, hash.0)));
            if let Some(entry) = reader.window.entry_mut(one.seq) {
                let again = std::mem::replace(&mut entry.was_rejected, true);
                self.shards.suspect(hash, again, now);
            }
            rejected.push(RejectedRecord { sent: *one, hash, patience });
        }
        settlement.lanes.sort_unstable();
        settlement.lanes.dedup();
        let mut divider = Divider::new(readers, &mut self.pauses, detaching);
        for one in &rejected {
            divider.divide_around_rejected(one.hash, &self.shards);
        }
        self.note_pauses(&readers.sections, accepted, &rejected, now);
        self.sort_again(readers);
        settlement.cuts = self.shards.acknowledged(ticket.at, now, &mut self.jitter);
        self.retry(readers, rejected.iter().map(|one| &one.sent));
        settlement
    }

    /// Handles a request that failed as a whole, because of the service or because of one of its records.
    fn settle_failed(
        &mut self,
        ticket: &Ticket,
        error: PutError,
        readers: &mut Readers,
        counts: &EventCounts,
        now: Instant,
    ) -> Settlement {
        let mut settlement = Settlement { without_response: ticket.sent.len(), ..Settlement::default() };
        // A failure of suspects says nothing about the service while it responds to others.
        let others = self.suspects.has_acknowledged_since(ticket.at);
        let mut own = ticket.content == RequestContent::Suspects && others;
        match error {
            PutError::Throttled(_) | PutError::Missing(_) => self.retry(readers, &ticket.sent),
            PutError::NoResponse(_) | PutError::Invalid(_) | PutError::Refused(_) => {
                let is_known = self.has_evidence(readers, ticket);
                if !is_known {
                    self.suspects.note_other(false);
                }
                own |= is_known;
                settlement.cause = match (own, others) {
                    (false, _) => Cause::Stream,
                    (true, true) => Cause::Record,
                    (true, false) => Cause::Unknown,
                };
                settlement.failed_alone = self.suspect(readers, counts, ticket, &error, now);
                self.quarantine_large_suspects(readers);
            }
        }
        // A failure of one record says nothing about the connection. Neither does a request that is rejected
        // at once.
        if !own && matches!(error, PutError::NoResponse(_)) && self.gate.is_open() {
            self.bandwidth.failed();
        }
        if !own {
            settlement.pause = self.gate.failed(ticket.probe, now, &mut self.jitter);
        } else if ticket.probe {
            self.gate.probe_is_void();
        }
        settlement.error = Some(error);
        settlement
    }

    /// Moves records whose assumed shard has given up a claim: they may belong to another shard.
    fn sort_again(&mut self, readers: &mut Readers) {
        for place in self.shards.take_retracted() {
            let rules = self.rules();
            for reader in readers.iter_mut() {
                for seq in reader.paced.drain(place) {
                    reader.make_ready(seq, rules);
                }
            }
        }
    }

    /// Updates the pauses of sections from the results of a request.
    fn note_pauses(
        &mut self,
        sections: &Sections,
        accepted: Vec<KeyHash>,
        rejected: &[RejectedRecord],
        now: Instant,
    ) {
        // Whether a record was accepted, and how many rejections its section may have without a pause.
        let mut results: Vec<(Section, bool, u32)> = Vec::with_capacity(accepted.len() + rejected.len());
        let accepted = accepted.into_iter().map(|hash| (hash, true, throttle::PATIENCE));
        let rejected = rejected.iter().map(|one| (one.hash, false, one.patience));
        for (hash, is_accepted, patience) in accepted.chain(rejected) {
            let section = sections.of(hash);
            if results.last() != Some(&(section, is_accepted, patience)) {
                results.push((section, is_accepted, patience));
            }
        }
        results.sort_unstable();
        for of in results.chunk_by(|(one, ..), (other, ..)| one == other) {
            let Some((section, ..)) = of.first() else { continue };
            let (some, all) = (of.iter().any(|(_, yes, _)| *yes), of.iter().all(|(_, yes, _)| *yes));
            let result = match (some, all) {
                (_, true) => LaneResult::Accepted,
                (true, false) => LaneResult::Partly,
                (false, false) => LaneResult::Refused,
            };
            let patience = of.iter().map(|(.., patience)| *patience).min().unwrap_or_default();
            self.pauses.note(*section, (result, patience), now, &mut self.jitter);
        }
    }

    /// Makes records ready that were not accepted. Each is sent again before anything else of its key.
    fn retry<'a>(&self, readers: &mut Readers, sent: impl IntoIterator<Item = &'a Sent>) {
        for one in sent {
            if let Some(reader) = readers.get_mut(one.reader) {
                reader.end_flight(one.seq);
                reader.unpack(one.seq);
                reader.make_ready(one.seq, self.rules());
            }
        }
    }

    /// Whether the request has a single record that has failed alone before, while others got responses. Then
    /// its failure says nothing about the service.
    fn has_evidence(&self, readers: &Readers, ticket: &Ticket) -> bool {
        let [one] = ticket.sent.as_slice() else { return false };
        let entry = readers.entry(one);
        entry.is_some_and(|entry| self.suspects.has_evidence(|| (entry.frame, entry.part)))
    }

    /// Makes suspects of the records of a request that failed as a whole: see [`Suspects`].
    fn suspect(
        &mut self,
        readers: &mut Readers,
        counts: &EventCounts,
        ticket: &Ticket,
        error: &PutError,
        now: Instant,
    ) -> Option<FailedAlone> {
        readers.suspect(&ticket.sent, matches!(error, PutError::NoResponse(_)));
        let [one] = ticket.sent.as_slice() else {
            self.suspects.add(ticket.sent.clone(), now);
            return None;
        };
        let reader = readers.get_mut(one.reader)?;
        let entry = reader.window.entry(one.seq)?;
        let (hash, frame, size, unacknowledged) =
            (entry.hash, entry.frame, entry.size(), entry.unacknowledged);
        let event_type = counts.name(entry.event_type);
        let id = (frame, entry.part);
        let failed_record = FailedRecord { id, hash, unacknowledged };
        let verdict = self.suspects.failed_alone(&failed_record, ticket.at, error, now);
        let alone =
            |failures, rejected| FailedAlone { frame, part: id.1, event_type, size, failures, rejected };
        match verdict {
            Verdict::Rejected => {
                if let Some(entry) = reader.window.entry_mut(one.seq) {
                    entry.undeliverable = true;
                }
                reader.make_ready(one.seq, self.rules());
                Some(alone(0, true))
            }
            Verdict::Waits { failures } => {
                if failures > 0 {
                    // The failure is the record's own, because others are acknowledged.
                    self.rejected_keys.note_rejected(hash, true);
                }
                let due = now + Suspects::pause(failures, &mut self.jitter);
                self.suspects.add_alone(*one, due);
                (failures > 1 && self.gate.is_open()).then(|| alone(failures, false))
            }
        }
    }
}
