//! Decides which records leave, and when: limits, requests in flight, pauses of sections, rates of shards,
//! the gate of the whole service, and records under suspicion.
//!
//! `fill` makes requests and `settle` takes their results; both work on readers that are lent to them.
//!
//! Invariants: requests and bytes in flight stay within their limits; each ticket is counted in and out once;
//! nothing of a section that pauses leaves, nor more of a shard than its rate allows; while the gate is shut
//! only probes leave; records of catch-up readers are in at most half of the requests.

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

/// See the module.
#[derive(Debug)]
pub(super) struct Dispatch {
    limits: Limits,
    flight: Flight,
    /// Requests in flight that hold records of catch-up readers.
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
    /// When a request was last asked for.
    asked: Option<Instant>,
    /// Memory of settled tickets, to be used again.
    spare: Vec<Vec<Sent>>,
}

impl Dispatch {
    /// Nothing is in flight, and nothing is known of the service. The seed is for jitter only.
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
            asked: None,
            spare: Vec::new(),
            limits,
        }
    }

    /// What decides whether a record may be sent, beside its key.
    pub(super) fn rules(&self) -> Rules<'_> {
        Rules::new(&self.limits, &self.pauses, &self.shards)
    }

    /// What waits in all readers that may send.
    pub(super) fn waiting(&self, readers: &Readers) -> Waiting {
        readers.waiting(self.catch_up_may_send())
    }

    /// Whether records of catch-up readers may leave now: they may be in half of the requests in flight, so
    /// that new records find a free one.
    fn catch_up_may_send(&self) -> bool {
        self.catch_up_requests < (self.limits.in_flight_requests / 2).max(1)
    }

    /// When [`fill`](Self::fill), which has just returned nothing, may return a request although nothing else
    /// happens until then, never before `now`; `None` if it would not.
    pub(super) fn wake_at(&self, readers: &Readers, now: Instant) -> Option<Instant> {
        if self.flight.requests >= self.limits.in_flight_requests {
            return None;
        }
        // A time that had passed when `fill` was called does not hold the request back; one that has passed
        // since may.
        let since = |at: &Instant| self.asked.is_none_or(|asked| *at > asked);
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

    /// What new records would wait for; `None` if they might leave at once.
    pub(super) fn hold(&self, readers: &Readers, now: Instant) -> Option<Hold> {
        let waiting = self.waiting(readers);
        self.flight.hold(&self.limits, self.bandwidth.budget(), waiting, now).filter(|_| self.gate.is_open())
    }

    /// The next record for the dead-letter file, if one is the first of its key. Each is returned once.
    pub(super) fn next_dead_letter(&self, readers: &mut Readers, counts: &EventCounts) -> Option<DeadLetter> {
        let mut dead = readers.iter_mut().find_map(|reader| reader.next_dead_letter(counts, self.rules()))?;
        if dead.reason == DeadReason::Rejected {
            dead.response = self.suspects.response((dead.frame, dead.part));
        }
        Some(dead)
    }

    /// A dead letter is in the dead-letter file.
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

    /// Records up to this size, data and key, may be sent from now on.
    pub(super) fn set_max_record_size(&mut self, readers: &mut Readers, bytes: usize) {
        self.limits.max_record_size = bytes;
        self.quarantine_large_suspects(readers);
    }

    /// A suspect that is known to be too large needs no further evidence: it goes to the dead-letter file.
    /// The limit may have been read after its request left.
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

    /// Whether the service responds, as far as is known.
    pub(super) fn is_gate_open(&self) -> bool {
        self.gate.is_open()
    }

    /// When the next probe may be sent; `None` if the gate is open, or a probe is in flight.
    pub(super) fn next_probe(&self) -> Option<Instant> {
        self.gate.next_probe()
    }

    /// Requests in flight, and their bytes.
    pub(super) fn in_flight(&self) -> (usize, usize) {
        (self.flight.requests, self.flight.bytes)
    }

    /// Keys of which a record was rejected since one was last accepted.
    pub(super) fn rejected_keys(&self) -> usize {
        self.rejected_keys.len()
    }

    /// Whether what a reader may send leaves at once.
    pub(super) fn has_bandwidth(&self, reader: &Reader) -> bool {
        self.flight.is_free(&self.limits, self.bandwidth.budget(), reader.waiting)
    }

    /// Whether nothing of a section is accepted at all: neither of the section itself, nor of its shard.
    pub(super) fn is_refused(&self, sections: &Sections, section: Section) -> bool {
        self.is_refused_by_shard(sections, section)
            || self.suspects.has_evidence_within(sections.range(section))
    }

    /// The same, but not because of a single key.
    pub(super) fn is_refused_by_shard(&self, sections: &Sections, section: Section) -> bool {
        self.pauses.is_refused(section) || self.shards.refuses(sections.range(section))
    }

    /// The shard that accepted the last records of these sections, if any were accepted.
    pub(super) fn shard_of(&self, sections: &Sections, of: &[Section]) -> Option<String> {
        let name = |section: &Section| self.shards.name_of(sections.range(*section));
        of.iter().filter_map(name).max().map(str::to_owned)
    }

    /// Whether something waits for the service that is neither of a key nor of a shard that it rejects
    /// anyway. Walks through the windows.
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
