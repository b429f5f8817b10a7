//! Chooses the records of the next request.

use tokio::time::Instant;

use super::Dispatch;
use crate::sink::Outgoing;
use crate::sink::lanes::load::{Load, LoadRules};
use crate::sink::lanes::reader::Reader;
use crate::sink::lanes::readers::Readers;
use crate::sink::lanes::ticket::{Request, RequestContent, Sent, Ticket};
use crate::sink::lanes::types::ReaderId;
use crate::sink::lanes::window::{Entry, State};
use crate::sink::pacing::Waiting;
use crate::sink::throttle::Pass;

impl Dispatch {
    /// The next request, if one should be sent now: see [`Lanes::fill`](crate::sink::lanes::Lanes::fill).
    pub(in crate::sink::lanes) fn fill(&mut self, readers: &mut Readers, now: Instant) -> Option<Request> {
        self.last_fill = Some(now);
        loop {
            self.end_pauses(readers, now);
            let pass = self.gate.pass(now);
            let waiting = self.waiting(readers);
            if let Some(request) = self.fill_with_control(readers, pass, now) {
                return Some(request);
            }
            if let Some(request) = self.fill_with_suspects(readers, pass, waiting, now) {
                return Some(request);
            }
            let allowance =
                self.flight.allowance(&self.limits, (pass, self.bandwidth.budget()), waiting, now)?;
            let mut load = Load {
                sent: self.spare.pop().unwrap_or_default(),
                records: Vec::with_capacity(waiting.records.min(self.limits.request_records)),
                bytes: 0,
                allowance,
                pack_bytes: self.limits.pack_bytes.min(self.limits.max_record_size),
                moved: false,
            };
            self.load(&mut load, readers, now);
            let Load { sent, records, bytes, moved, .. } = load;
            if !records.is_empty() {
                return Some(self.send(sent, records, bytes, (pass, RequestContent::Publish), now));
            }
            self.spare.push(sent);
            // A record that moved to another queue may be sent from there at once.
            if !moved {
                return None;
            }
        }
    }

    /// Takes its share from each reader, then from each whatever still fits. The readers take turns at being
    /// first, so that a record that needs the whole request gets it.
    fn load(&mut self, load: &mut Load, readers: &mut Readers, now: Instant) {
        let catch_up_may_send = self.catch_up_may_send();
        let mut order = readers.in_turn(|reader: &Reader| {
            reader.waiting().records > 0 && (catch_up_may_send || reader.id == ReaderId::MAIN)
        });
        let busy = order.len();
        let shares = if busy > 1 { [Some(busy), None] } else { [None, None] };
        for share in shares.into_iter().take(busy) {
            for reader in &mut order {
                let mut rules = LoadRules {
                    limits: &self.limits,
                    pauses: &self.pauses,
                    shards: &mut self.shards,
                    suspects: &mut self.suspects,
                    now,
                };
                let blocked = load.take_from(reader, share, &mut rules);
                if blocked && load.records.is_empty() {
                    // This reader stays first until its record fits. Otherwise the others would fill the
                    // request each time.
                    readers.repeat_turn();
                    return;
                }
            }
        }
    }

    /// Ends pauses that are over, and determines which shards have tokens.
    fn end_pauses(&mut self, readers: &mut Readers, now: Instant) {
        while let Some(section) = self.pauses.release(now) {
            let rules = self.rules();
            readers.iter_mut().for_each(|reader| reader.unpark(section, rules));
        }
        readers.iter_mut().for_each(|reader| reader.pace(&self.limits, &self.pauses, &mut self.shards, now));
    }

    /// A request of suspects, if one should be sent now.
    fn fill_with_suspects(
        &mut self,
        readers: &mut Readers,
        pass: Pass,
        waiting: Waiting,
        now: Instant,
    ) -> Option<Request> {
        if !self.suspects.may_send(self.limits.in_flight_requests)
            || self.flight.requests >= self.limits.in_flight_requests
        {
            return None;
        }
        let sent = self.next_suspects(readers, pass, waiting, now)?;
        let mut records = Vec::with_capacity(sent.len());
        let mut bytes = 0;
        for one in &sent {
            let Some(reader) = readers.get_mut(one.reader) else { continue };
            let Some(entry) = reader.window.entry(one.seq) else { continue };
            let size = entry.size();
            if let Some(place) = self.shards.limited(entry.hash) {
                self.shards.take(place, size, now);
            }
            reader.begin_flight(one.seq, State::Sent);
            let (record, size) = reader.pack(one.seq, size);
            records.extend(record);
            bytes += size;
        }
        Some(self.send(sent, records, bytes, (pass, RequestContent::Suspects), now))
    }

    /// The suspects that may be sent now.
    fn next_suspects(
        &mut self,
        readers: &Readers,
        pass: Pass,
        waiting: Waiting,
        now: Instant,
    ) -> Option<Vec<Sent>> {
        let (pauses, flight) = (&self.pauses, &self.flight);
        let sort = |one: Sent| {
            let reader = readers.get(one.reader)?;
            let entry = reader.window.entry(one.seq).filter(|entry| entry.state == State::Suspect)?;
            Some(!reader.is_suspended(entry.section) && !pauses.is_paused(entry.section))
        };
        let room = self.bandwidth.budget().saturating_sub(flight.bytes);
        let bytes =
            |all: &[Sent]| all.iter().filter_map(|one| readers.entry(one)).map(Entry::size).sum::<usize>();
        match pass {
            Pass::Shut => None,
            // A probe tries ready records before records that have failed, so that each probe has another
            // key.
            Pass::Probe if waiting.records > 0 => None,
            Pass::Probe => Some(vec![self.suspects.next_probe(now, sort)?]),
            Pass::Open => self.suspects.next(now, |all| flight.requests == 0 || bytes(all) <= room, sort),
        }
    }

    /// Sends these records as one request.
    pub(super) fn send(
        &mut self,
        sent: Vec<Sent>,
        records: Vec<Outgoing>,
        bytes: usize,
        (pass, content): (Pass, RequestContent),
        now: Instant,
    ) -> Request {
        self.flight.sent(records.len(), bytes, now);
        if content == RequestContent::Suspects {
            self.suspects.sent();
        }
        let probe = pass == Pass::Probe;
        if probe {
            self.gate.probe_sent();
        }
        let catch_up = sent.iter().any(|one| one.reader != ReaderId::MAIN);
        self.catch_up_requests += usize::from(catch_up);
        let (timeout, acknowledged_before) =
            (self.bandwidth.timeout(self.flight.bytes), self.bandwidth.acknowledged_bytes());
        let ticket = Ticket { sent, bytes, probe, content, catch_up, at: now, acknowledged_before };
        Request { ticket, records, timeout }
    }
}
