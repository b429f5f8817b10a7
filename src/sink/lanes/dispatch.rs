//! Decides which records are sent, and when: limits, requests in flight, pauses of sections, rates of shards,
//! the circuit breaker for the whole service (the *gate*), and suspect records.
//!
//! `fill` creates requests and `settle` handles their results. The readers are parameters of both.
//!
//! Invariants: requests and bytes in flight stay within their limits; each ticket is counted in and out once;
//! no record of a paused section is sent, and no more records of a shard than its rate allows; while the gate
//! is shut, only probes are sent; records of catch-up readers are in at most half of the requests in flight.

mod control;
mod fill;
mod settle;

use tokio::time::Instant;

use super::control::ControlPace;
use super::counts::EventCounts;
use super::hot::HotKeys;
use super::reader::{Reader, Rules};
use super::readers::Readers;
use super::rejected_keys::RejectedKeys;
use super::suspects::Suspects;
use super::ticket::Sent;
use super::types::{DeadLetter, DeadReason, Outcome};
use super::window::{Entry, State};
use crate::position::FrameNo;
use crate::sink::bandwidth::Bandwidth;
use crate::sink::order::OrderCheck;
use crate::sink::pacing::{Flight, Hold, Limits, Waiting};
use crate::sink::sections::{Section, Sections};
use crate::sink::shards::Shards;
use crate::sink::throttle::{Gate, Jitter, Pass, Pauses};

/// The state of sending, shared by all readers.
#[derive(Debug)]
pub(super) struct Dispatch {
    limits: Limits,
    flight: Flight,
    /// Requests in flight that contain records of catch-up readers.
    catch_up_requests: usize,
    pub(super) pauses: Pauses,
    pub(super) shards: Shards,
    gate: Gate,
    bandwidth: Bandwidth,
    jitter: Jitter,
    order: OrderCheck,
    pub(super) suspects: Suspects,
    control: ControlPace,
    rejected_keys: RejectedKeys,
    pub(super) hot: HotKeys,
    /// When `fill` was last called.
    last_fill: Option<Instant>,
    /// Memory of settled tickets, for reuse.
    spare: Vec<Vec<Sent>>,
}

impl Dispatch {
    /// Starts with nothing in flight, and without knowledge of the service. The seed is only for jitter.
    pub(super) fn new(limits: Limits, seed: u64) -> Self {
        Self {
            flight: Flight::default(),
            catch_up_requests: 0,
            pauses: Pauses::default(),
            shards: Shards::default(),
            gate: Gate::default(),
            bandwidth: Bandwidth::new(limits.in_flight_bytes),
            jitter: Jitter::new(seed),
            order: OrderCheck::default(),
            suspects: Suspects::default(),
            control: ControlPace::default(),
            rejected_keys: RejectedKeys::default(),
            hot: HotKeys::default(),
            last_fill: None,
            spare: Vec::new(),
            limits,
        }
    }

    /// What decides whether a record may be sent, besides its key.
    pub(super) fn rules(&self) -> Rules<'_> {
        Rules::new(&self.limits, &self.pauses, &self.shards)
    }

    /// Waiting records and bytes of all readers that may send.
    pub(super) fn waiting(&self, readers: &Readers) -> Waiting {
        readers.waiting(self.catch_up_may_send())
    }

    /// Whether records of catch-up readers may be sent now. They may be in half of the requests in flight, so
    /// that new records find a free one.
    fn catch_up_may_send(&self) -> bool {
        self.catch_up_requests < (self.limits.in_flight_requests / 2).max(1)
    }

    /// When [`fill`](Self::fill), which has just returned nothing, may return a request without any other
    /// event, never before `now`; `None` if it would not.
    pub(super) fn wake_at(&self, readers: &Readers, now: Instant) -> Option<Instant> {
        if self.flight.requests >= self.limits.in_flight_requests {
            return None;
        }
        // A time before the last call of `fill` did not hold the request back. A time that has passed since
        // then may have.
        let since = |at: &Instant| self.last_fill.is_none_or(|last| *at > last);
        let paced = readers.iter().flat_map(|reader| reader.paced.starts(&self.shards, now));
        let released = self.pauses.next_release().into_iter().chain(paced).filter(since).min();
        let ready = self.waiting(readers).records > 0;
        let times = if self.gate.is_open() {
            let suspects =
                self.suspects.next_due().filter(|_| self.suspects.may_send(self.limits.in_flight_requests));
            let control = self.control_at(readers, now);
            [
                self.flight.next_partial(&self.limits).filter(|_| ready),
                released.into_iter().chain(suspects).chain(control).min(),
            ]
        } else {
            let probe = self.gate.next_probe()?;
            let suspects = || self.suspects.next_due().into_iter().chain(self.control_at(readers, now)).min();
            [
                if ready { Some(probe) } else { suspects().map(|due| due.max(probe)) },
                released.map(|at| at.max(probe)),
            ]
        };
        times.into_iter().flatten().filter(since).min().map(|at| at.max(now))
    }

    /// What new records would wait for; `None` if they may be sent at once.
    pub(super) fn hold(&self, readers: &Readers, now: Instant) -> Option<Hold> {
        let waiting = self.waiting(readers);
        self.flight.hold(&self.limits, self.bandwidth.budget(), waiting, now).filter(|_| self.gate.is_open())
    }

    /// The next record for the dead-letter file, once it is the first of its key. Each is returned once.
    pub(super) fn next_dead_letter(&self, readers: &mut Readers, counts: &EventCounts) -> Option<DeadLetter> {
        let mut dead = readers.iter_mut().find_map(|reader| reader.next_dead_letter(counts, self.rules()))?;
        if dead.reason == DeadReason::Rejected {
            dead.response = self.suspects.response((dead.frame, dead.part));
        }
        Some(dead)
    }

    /// Notes that a dead letter is in the dead-letter file.
    ///
    /// # Panics
    /// If it was not [returned](Self::next_dead_letter) before.
    pub(super) fn finish(&mut self, readers: &mut Readers, frame: FrameNo, part: u16) {
        let found =
            readers.iter_mut().find_map(|reader| reader.quarantining(frame, part).map(|seq| (reader, seq)));
        assert!(found.is_some(), "record {part} of frame {frame} was not given as a dead letter");
        if let Some((reader, seq)) = found {
            self.suspects.forget(|| (frame, part));
            let key = reader.window.entry(seq).map(|entry| entry.hash);
            if let Some(key) = key {
                self.rejected_keys.forget(key);
            }
            if !reader.finish(seq, Outcome::Quarantined, self.rules())
                && let Some(key) = key
            {
                self.order.forget(key);
            }
        }
    }

    /// Sets the largest record, data and key, that may be sent from now on.
    pub(super) fn set_max_record_size(&mut self, readers: &mut Readers, bytes: usize) {
        self.limits.max_record_size = bytes;
        self.quarantine_large_suspects(readers);
    }

    /// Moves suspects that are now known to be too large to the dead-letter file, without further evidence.
    /// The limit may have been read after their request was sent.
    fn quarantine_large_suspects(&mut self, readers: &mut Readers) {
        let limit = self.limits.max_record_size;
        let is_large = |one: &Sent| {
            let entry = readers.entry(one);
            entry.is_some_and(|entry| entry.state == State::Suspect && entry.is_too_large(limit))
        };
        let large = self.suspects.take_matching(is_large);
        for one in large {
            if let Some(reader) = readers.get_mut(one.reader) {
                reader.make_ready(one.seq, self.rules());
            }
        }
    }

    /// What the gate admits now.
    pub(super) fn pass(&self, now: Instant) -> Pass {
        self.gate.pass(now)
    }

    /// Whether the service responds, as far as known.
    pub(super) fn is_gate_open(&self) -> bool {
        self.gate.is_open()
    }

    /// When the next probe may be sent; `None` if the gate is open, or a probe is in flight.
    pub(super) fn next_probe(&self) -> Option<Instant> {
        self.gate.next_probe()
    }

    /// Number and bytes of the requests in flight.
    pub(super) fn in_flight(&self) -> (usize, usize) {
        (self.flight.requests, self.flight.bytes)
    }

    /// Number of keys with a rejected record since one of their records was last accepted.
    pub(super) fn rejected_keys(&self) -> usize {
        self.rejected_keys.len()
    }

    /// Whether the connection has bandwidth for the waiting records of a reader.
    pub(super) fn has_bandwidth(&self, reader: &Reader) -> bool {
        self.flight.is_free(&self.limits, self.bandwidth.budget(), reader.waiting)
    }

    /// Whether no record at all is accepted of a section, or of its shard.
    pub(super) fn is_refused(&self, sections: &Sections, section: Section) -> bool {
        self.is_refused_by_shard(sections, section)
            || self.suspects.has_evidence_within(sections.range(section))
    }

    /// The same, unless the cause is a single key.
    pub(super) fn is_refused_by_shard(&self, sections: &Sections, section: Section) -> bool {
        self.pauses.is_refused(section) || self.shards.refuses(sections.range(section))
    }

    /// The shard that accepted the last records of these sections; `None` if none was accepted.
    pub(super) fn shard_of(&self, sections: &Sections, of: &[Section]) -> Option<String> {
        let name = |section: &Section| self.shards.name_of(sections.range(*section));
        of.iter().filter_map(name).max().map(str::to_owned)
    }

    /// Whether a record waits for the service whose key and shard are not rejected anyway. Iterates over the
    /// windows.
    pub(super) fn waits_for_service(&self, readers: &Readers) -> bool {
        let waits = |reader: &Reader, entry: &Entry| {
            matches!(entry.state, State::Ready | State::Sent | State::Suspect)
                && !self.rejected_keys.contains(entry.hash)
                && !self.pauses.is_paused(entry.section)
                && !reader.is_suspended(entry.section)
                && self.shards.limited(entry.hash).is_none()
        };
        let any = |reader: &Reader| reader.window.iter().any(|entry| waits(reader, entry));
        self.rejected_keys.has_new_rejection() || readers.iter().any(any)
    }
}
