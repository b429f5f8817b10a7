//! What becomes of a request's records when its result is known.

use tokio::time::Instant;

use super::pack::Contents;
use super::reader::Rules;
use super::suspects::{Accused, Suspects, Verdict};
use super::ticket::{Request, Sent, Ticket};
use super::types::{Alone, Cause};
use super::window::{Entry, State};
use super::{Lanes, Outcome, ReaderId, Settlement, Violation};
use crate::event::KeyHash;
use crate::sink::pacing::Waiting;
use crate::sink::sections::Section;
use crate::sink::throttle::{self, LaneNews, Pass};
use crate::sink::{Answer, PutError, order};

/// A record that was not taken.
#[derive(Debug)]
struct Refused {
    sent: Sent,
    hash: KeyHash,
    /// How many refusals in a row are borne.
    patience: u32,
}

impl Lanes {
    /// Takes the result of a request: accepted records are finished, refused ones wait for their lane, and a request
    /// without an answer for every record is to be sent again as a whole.
    pub fn settle(
        &mut self,
        ticket: Ticket,
        result: Result<Vec<Answer>, PutError>,
        now: Instant,
    ) -> Settlement {
        self.flight.over(ticket.bytes);
        if ticket.suspects {
            self.suspects.over();
        }
        self.catch_up_out -= usize::from(ticket.catch_up);
        let result = result.and_then(|answers| match (answers.len(), ticket.sent.len()) {
            (got, sent) if got == sent => Ok(answers),
            (got, sent) => {
                Err(PutError::Unanswered(format!("{got} answers to a request of {sent} records").into()))
            }
        });
        let mut settlement = Settlement::default();
        match result {
            Ok(answers) => {
                self.gate.acknowledged();
                self.suspects.acknowledged(now);
                self.line.acknowledged(ticket.bytes, (ticket.at, ticket.carried), now);
                self.settle_each(&ticket, answers, now, &mut settlement);
            }
            Err(error) => {
                settlement.unanswered = ticket.sent.len();
                // A failure of suspects says nothing of the service while it answers others.
                let others = self.suspects.has_acknowledged_since(ticket.at);
                let mut own = ticket.suspects && others;
                match error {
                    PutError::Throttled(_) | PutError::Missing(_) => self.again(&ticket.sent),
                    PutError::Unanswered(_) | PutError::Invalid(_) | PutError::Refused(_) => {
                        own |= self.is_accused(&ticket);
                        settlement.cause = match (own, others) {
                            (false, _) => Cause::Stream,
                            (true, true) => Cause::Record,
                            (true, false) => Cause::Unknown,
                        };
                        settlement.alone = self.suspect(&ticket, &error, now);
                        self.quarantine_large_suspects();
                    }
                }
                // What one record does says nothing of the line; nor does what is refused at once.
                if !own && matches!(error, PutError::Unanswered(_)) && self.gate.is_open() {
                    self.line.failed();
                }
                if !own {
                    settlement.pause = self.gate.failed(ticket.probe, now, &mut self.jitter);
                } else if ticket.probe {
                    self.gate.probe_is_void();
                }
                settlement.error = Some(error);
            }
        }
        let mut sent = ticket.sent;
        sent.clear();
        self.spare.push(sent);
        self.advance();
        settlement
    }

    fn settle_each(
        &mut self,
        ticket: &Ticket,
        answers: Vec<Answer>,
        now: Instant,
        settlement: &mut Settlement,
    ) {
        let (mut accepted, mut refused) = (Vec::with_capacity(answers.len()), Vec::new());
        for (one, answer) in ticket.sent.iter().zip(answers) {
            let Some(reader) = self.readers.iter_mut().find(|reader| reader.id == one.reader) else {
                continue;
            };
            let Some(entry) = reader.window.entry(one.seq) else { continue };
            let (hash, frame, part, event_type) = (entry.hash, entry.frame, entry.part, entry.event_type);
            let (lane, section) = (hash.lane(), entry.section);
            let patience = match answer {
                Answer::Accepted { sequence, shard } => {
                    let Contents { events, bytes } = reader.contents(one.seq);
                    self.shards.accepted(hash, &shard, bytes, now);
                    settlement.accepted += 1;
                    settlement.accepted_events += events;
                    settlement.accepted_bytes += bytes;
                    accepted.push(hash);
                    self.suspects.forget(|| (frame, part));
                    self.refused.accepted(hash);
                    let rules = Rules::new(&self.limits, &self.pauses, &self.shards);
                    let more = reader.finish(one.seq, Outcome::Published, rules);
                    if let Some(fall) = self.order.accepted(hash, order::Place { shard, sequence }, more) {
                        let event_type = self.counts.name(event_type);
                        settlement.violated(Violation { fall, frame, event_type, lane });
                    }
                    continue;
                }
                Answer::Throttled => {
                    settlement.throttled += 1;
                    // The shard of a section that is never taken has other troubles than its rate.
                    let stubborn = self.pauses.is_stubborn(section);
                    let known = self.shards.refused(hash, stubborn);
                    if known && !stubborn { throttle::PATIENCE } else { 0 }
                }
                Answer::Failed { reason } => {
                    settlement.failed += 1;
                    settlement.reason.get_or_insert(reason);
                    0
                }
            };
            settlement.lanes.push(lane);
            self.refused.refused(hash, self.shards.refuses((hash.0, hash.0)));
            if let Some(entry) = reader.window.entry_mut(one.seq) {
                let again = std::mem::replace(&mut entry.refused, true);
                self.shards.suspect(hash, again, now);
            }
            refused.push(Refused { sent: *one, hash, patience });
        }
        settlement.lanes.sort_unstable();
        settlement.lanes.dedup();
        for one in &refused {
            self.tell_apart(one.hash);
        }
        self.note_pauses(accepted, &refused, now);
        self.sort_again();
        settlement.cuts = self.shards.acknowledged(ticket.at, now, &mut self.jitter);
        self.again(&refused.iter().map(|one| one.sent).collect::<Vec<_>>());
    }

    /// What waits for shards that claim less than before may be another's.
    fn sort_again(&mut self) {
        for place in self.shards.take_retracted() {
            let rules = Rules::new(&self.limits, &self.pauses, &self.shards);
            for reader in &mut self.readers {
                for seq in reader.paced.drain(place) {
                    reader.make_ready(seq, rules);
                }
            }
        }
    }

    /// Takes note of what a request told of each section.
    fn note_pauses(&mut self, accepted: Vec<KeyHash>, refused: &[Refused], now: Instant) {
        // What it told, and how much patience there is.
        let mut told: Vec<(Section, bool, u32)> = Vec::with_capacity(accepted.len() + refused.len());
        let accepted = accepted.into_iter().map(|hash| (hash, true, throttle::PATIENCE));
        for (hash, taken, patience) in
            accepted.chain(refused.iter().map(|one| (one.hash, false, one.patience)))
        {
            let section = self.sections.of(hash);
            if told.last() != Some(&(section, taken, patience)) {
                told.push((section, taken, patience));
            }
        }
        told.sort_unstable();
        for of in told.chunk_by(|(one, ..), (other, ..)| one == other) {
            let Some((section, ..)) = of.first() else { continue };
            let (some, all) = (of.iter().any(|(_, taken, _)| *taken), of.iter().all(|(_, taken, _)| *taken));
            let news = match (some, all) {
                (_, true) => LaneNews::Accepted,
                (true, false) => LaneNews::Partly,
                (false, false) => LaneNews::Refused,
            };
            let patience = of.iter().map(|(.., patience)| *patience).min().unwrap_or_default();
            self.pauses.note(*section, (news, patience), now, &mut self.jitter);
        }
    }

    /// These records were not taken: they wait to be sent again, each before anything of its key.
    fn again(&mut self, sent: &[Sent]) {
        let rules = Rules::new(&self.limits, &self.pauses, &self.shards);
        for one in sent {
            if let Some(reader) = self.readers.iter_mut().find(|reader| reader.id == one.reader) {
                reader.untake(one.seq);
                reader.unpack(one.seq);
                reader.make_ready(one.seq, rules);
            }
        }
    }

    /// Whether a request holds but a record that has failed alone before while others were answered: it tells nothing new.
    fn is_accused(&self, ticket: &Ticket) -> bool {
        let [one] = ticket.sent.as_slice() else { return false };
        let reader = self.readers.iter().find(|reader| reader.id == one.reader);
        let entry = reader.and_then(|reader| reader.window.entry(one.seq));
        entry.is_some_and(|entry| self.suspects.is_accused(|| (entry.frame, entry.part)))
    }

    /// The records of a request that failed as a whole leave in requests of their own, see [`suspects`](super::suspects).
    fn suspect(&mut self, ticket: &Ticket, error: &PutError, now: Instant) -> Option<Alone> {
        let stored = matches!(error, PutError::Unanswered(_));
        for one in &ticket.sent {
            if let Some(reader) = self.readers.iter_mut().find(|reader| reader.id == one.reader) {
                reader.suspect(one.seq, stored.then_some(&mut self.unacknowledged));
            }
        }
        let [one] = ticket.sent.as_slice() else {
            self.suspects.add(ticket.sent.clone(), now);
            return None;
        };
        let reader = self.readers.iter_mut().find(|reader| reader.id == one.reader)?;
        let entry = reader.window.entry(one.seq)?;
        let (hash, frame, size, unacknowledged) =
            (entry.hash, entry.frame, entry.size(), entry.unacknowledged);
        let event_type = self.counts.name(entry.event_type);
        let id = (frame, entry.part);
        let accused = Accused { id, hash, unacknowledged };
        let verdict = self.suspects.failed_alone(&accused, ticket.at, error, now);
        let alone = |failures, rejected| Alone { frame, part: id.1, event_type, size, failures, rejected };
        match verdict {
            Verdict::Rejected => {
                if let Some(entry) = reader.window.entry_mut(one.seq) {
                    entry.rejected = true;
                }
                reader.make_ready(one.seq, Rules::new(&self.limits, &self.pauses, &self.shards));
                Some(alone(0, true))
            }
            Verdict::Waits { failures } => {
                if failures > 0 {
                    // The record's own failure, while others are answered.
                    self.refused.refused(hash, true);
                }
                let due = now + Suspects::pause(failures, &mut self.jitter);
                self.suspects.add_alone(*one, due);
                (failures > 1 && self.gate.is_open()).then(|| alone(failures, false))
            }
        }
    }

    /// A suspect that is known to be too large needs no further evidence: it goes to the dead-letter file. The limit may have
    /// been read after its request left.
    pub(super) fn quarantine_large_suspects(&mut self) {
        let limit = self.limits.max_record_size;
        let readers = &self.readers;
        let is_large = |one: &Sent| {
            let reader = readers.iter().find(|reader| reader.id == one.reader);
            reader
                .and_then(|reader| reader.window.entry(one.seq))
                .is_some_and(|entry| entry.state == State::Suspect && entry.is_too_large(limit))
        };
        let large = self.suspects.take_matching(is_large);
        let rules = Rules::new(&self.limits, &self.pauses, &self.shards);
        for one in large {
            if let Some(reader) = self.readers.iter_mut().find(|reader| reader.id == one.reader) {
                reader.make_ready(one.seq, rules);
            }
        }
    }

    /// A request of suspects, if one should leave now.
    pub(super) fn fill_with_suspects(
        &mut self,
        pass: Pass,
        waiting: Waiting,
        now: Instant,
    ) -> Option<Request> {
        if !self.suspects.may_send(self.limits.in_flight_requests)
            || self.flight.requests >= self.limits.in_flight_requests
        {
            return None;
        }
        let (readers, pauses, flight) = (&self.readers, &self.pauses, &self.flight);
        let entry = |one: &Sent| readers.iter().find(|reader| reader.id == one.reader)?.window.entry(one.seq);
        let sort = |one: Sent| {
            let found = entry(&one).filter(|entry| entry.state == State::Suspect)?;
            let held = readers.iter().any(|reader| reader.id == one.reader && reader.is_held(found.section));
            Some(!held && !pauses.is_paused(found.section))
        };
        let room = self.line.budget().saturating_sub(flight.bytes);
        let bytes = |all: &[Sent]| all.iter().filter_map(entry).map(Entry::size).sum::<usize>();
        let sent = match pass {
            Pass::Shut => return None,
            // Another key each time: what is ready, before what failed.
            Pass::Probe if waiting.records > 0 => return None,
            Pass::Probe => vec![self.suspects.next_probe(now, sort)?],
            Pass::Open => self.suspects.next(now, |all| flight.requests == 0 || bytes(all) <= room, sort)?,
        };
        let mut request = Vec::with_capacity(sent.len());
        let (mut total, mut catch_up) = (0, false);
        for one in &sent {
            let Some(reader) = self.readers.iter_mut().find(|reader| reader.id == one.reader) else {
                continue;
            };
            let Some(size) = reader.window.entry(one.seq).map(Entry::size) else { continue };
            if let Some(place) =
                reader.window.entry(one.seq).and_then(|entry| self.shards.limited(entry.hash))
            {
                self.shards.take(place, size, now);
            }
            reader.take(one.seq, State::Sent);
            let (record, size) = reader.pack(one.seq, size);
            request.extend(record);
            total += size;
            catch_up |= one.reader != ReaderId::MAIN;
        }
        self.flight.sent(request.len(), total, now);
        self.suspects.sent();
        let probe = pass == Pass::Probe;
        if probe {
            self.gate.probe_sent();
        }
        self.catch_up_out += usize::from(catch_up);
        let (timeout, carried) = (self.line.timeout(self.flight.bytes), self.line.carried());
        let ticket = Ticket { sent, bytes: total, probe, suspects: true, catch_up, at: now, carried };
        Some(Request { ticket, records: request, timeout })
    }
}
