//! The bounded window between the log and the requests: what may be sent, what is out, what is finished.
//!
//! Pure: no I/O, and time is passed in. `pipeline::publish` drives it:
//!
//! ```text
//!   log ──admit──▶ window ──fill──▶ Request ──▶ Kinesis ──settle──▶ window ──progress──▶ checkpoint
//!                    └──next_dead_letter──▶ dead-letter file ──finish──▶┘
//! ```
//!
//! PutRecords promises no order, and a partial failure lets later records overtake earlier ones. The rule that needs no
//! promise from the service:
//!
//! 1. **At most one record of a key (by its 64-bit hash) is unanswered.** Records of a key form a chain; only the first one
//!    is ready, sent, or a dead letter that may be taken; the next becomes ready when the first is finished. A refused
//!    record stays first, so it is retried before anything of its key, while other keys go on.
//!    A record may hold several events, which are one link then: see `pack.rs`.
//! 2. **`watermark` never passes an unfinished frame**, and a frame is finished when all of its records are.
//! 3. **Nothing is dropped.** A request without an answer, or with the wrong number of answers, is sent again.
//! 4. **Memory follows [`window_bytes`](Lanes::window_bytes)**: a reader that is full wants nothing more.
//!
//! Usually there is one window, the *main*. Lanes that cannot keep up get *catch-up readers* of their own, so that they delay
//! only themselves; all of the above holds over all readers together.
//!
//! A lane is a 256th of the hash: the unit of pauses and of progress beyond `watermark`. Where a shard's boundary goes through a
//! lane, the lane is divided into `sections`, see `divide`. When requests leave is said in
//! [`request`](super::pacing), when to try again in [`throttle`](super::throttle).

mod audit;
mod counts;
mod detaching;
mod divide;
mod finished;
mod former;
mod isolation;
mod leave;
mod load;
mod outcomes;
mod paced;
mod pack;
mod progress;
mod reader;
mod ready;
mod refused;
mod settle;
mod stuck;
mod suspects;
mod ticket;
mod types;
mod unacknowledged;
mod watch;
mod window;

use tokio::time::Instant;

pub use self::finished::Start;
pub use self::former::FormerCounts;
pub use self::progress::{Detail, Progress};
pub use self::ticket::{Request, Ticket};
pub use self::types::{
    Admission, Alone, Cause, Change, DeadLetter, DeadReason, Frame, Lag, Outcome, ReaderId, Settlement,
    Violation,
};

use self::audit::Audit;
use self::counts::{EventCounts, Handed};
use self::detaching::Detaching;
use self::load::{Load, Takes};
use self::progress::Origin;
use self::reader::{Reader, Rules};
use self::refused::RefusedKeys;
use self::suspects::Suspects;
use self::ticket::Sent;
use self::unacknowledged::Unacknowledged;
use self::window::{Entry, State};
use super::ShardRange;
use super::line::Line;
use super::order::OrderCheck;
use super::pacing::{Flight, Limits, Waiting};
use super::rate::Summary;
use super::sections::{PerSection, Sections};
use super::shards::Shards;
use super::throttle::{Gate, Jitter, Pass, Pauses};
use crate::buffer::checkpoint::Mark;
use crate::position::{FrameNo, Transaction};

/// What is shared by all readers, and the readers.
#[derive(Debug)]
pub struct Lanes {
    limits: Limits,
    /// The main first.
    readers: Vec<Reader>,
    /// Number of the reader made last.
    last_reader: u64,
    sections: Sections,
    /// Which reader serves each section.
    owner: PerSection<ReaderId>,
    /// While there is more than one reader.
    audit: Option<Audit>,
    origin: Origin,
    detaching: Option<Detaching>,
    changes: Vec<Change>,
    /// When the readers were last looked at.
    rebalanced: Option<Instant>,
    counts: EventCounts,
    /// Finished records that the main has passed while another reader hands their lanes over: counted once it has.
    handed: Vec<Handed>,
    flight: Flight,
    pauses: Pauses,
    shards: Shards,
    gate: Gate,
    line: Line,
    jitter: Jitter,
    order: OrderCheck,
    suspects: Suspects,
    unacknowledged: Unacknowledged,
    refused: RefusedKeys,
    /// Which reader is first in the next request.
    turn: usize,
    /// Requests without an answer that hold records of catch-up readers.
    catch_up_out: usize,
    /// When `fill` was last called.
    asked: Option<Instant>,
    /// Memory of settled tickets, to be used again.
    spare: Vec<Vec<Sent>>,
}

impl Lanes {
    /// An empty window after `start.watermark`. The seed is for jitter only.
    pub fn new(start: &Start, limits: Limits, seed: u64) -> Self {
        let limits = limits.clamped();
        let mut lanes = Self {
            readers: Vec::new(),
            last_reader: ReaderId::MAIN.0,
            sections: Sections::default(),
            owner: PerSection::all(ReaderId::MAIN),
            audit: None,
            origin: Origin::new(start),
            detaching: None,
            changes: Vec::new(),
            rebalanced: None,
            counts: EventCounts::starting_at(Origin::new(start).covered),
            handed: Vec::new(),
            flight: Flight::default(),
            pauses: Pauses::default(),
            shards: Shards::default(),
            gate: Gate::default(),
            line: Line::new(limits.in_flight_bytes),
            jitter: Jitter::new(seed),
            order: OrderCheck::default(),
            suspects: Suspects::default(),
            unacknowledged: Unacknowledged::default(),
            refused: RefusedKeys::default(),
            turn: 0,
            asked: None,
            catch_up_out: 0,
            spare: Vec::new(),
            limits,
        };
        lanes.begin(start);
        lanes
    }

    fn main(&self) -> &Reader {
        self.readers.first().expect("there is always a main")
    }

    /// Takes the records of the next frame, in log order. What was finished before the start is skipped.
    ///
    /// # Panics
    /// If the frame is not the one after the last: the reader checks that before.
    pub fn admit<'a>(&mut self, frame: &Frame, records: impl IntoIterator<Item = Admission<'a>>) {
        self.admit_to(ReaderId::MAIN, frame, records);
    }

    /// The same for any reader; nothing happens if it is gone.
    ///
    /// # Panics
    /// As [`admit`](Self::admit).
    pub fn admit_to<'a>(
        &mut self,
        reader: ReaderId,
        frame: &Frame,
        records: impl IntoIterator<Item = Admission<'a>>,
    ) {
        let rules = Rules::new(&self.limits, &self.pauses, &self.shards);
        if let Some(audit) = self.audit.as_mut().filter(|_| reader == ReaderId::AUDIT) {
            audit.count(frame, records, &mut self.counts);
        } else if let Some(reader) = self.readers.iter_mut().find(|other| other.id == reader) {
            let known = (&self.sections, &self.unacknowledged);
            reader.admit(frame, records, &mut self.counts, (known, rules));
        }
        self.advance();
    }

    /// The next request, if one should leave now: oldest records first, none of a key or a lane that must wait. To be
    /// called again until it gives none, after every admission and settlement, and at [`wake_at`](Self::wake_at).
    pub fn fill(&mut self, now: Instant) -> Option<Request> {
        self.asked = Some(now);
        let (pass, Load { sent, records, bytes, .. }) = loop {
            self.end_pauses(now);
            let pass = self.gate.pass(now);
            let waiting = self.waiting();
            if let Some(request) = self.fill_with_suspects(pass, waiting, now) {
                return Some(request);
            }
            let allowance = self.flight.allowance(&self.limits, (pass, self.line.budget()), waiting, now)?;
            let mut load = Load {
                sent: self.spare.pop().unwrap_or_default(),
                records: Vec::with_capacity(waiting.records.min(self.limits.request_records)),
                bytes: 0,
                allowance,
                pack_bytes: self.limits.pack_bytes.min(self.limits.max_record_size),
                moved: false,
            };
            self.load(&mut load, now);
            if !load.records.is_empty() {
                break (pass, load);
            }
            self.spare.push(load.sent);
            // From the queue where a record belongs now it may leave at once.
            if !load.moved {
                return None;
            }
        };
        self.flight.sent(records.len(), bytes, now);
        let probe = pass == Pass::Probe;
        if probe {
            self.gate.probe_sent();
        }
        let catch_up = sent.iter().any(|one| one.reader != ReaderId::MAIN);
        self.catch_up_out += usize::from(catch_up);
        let (timeout, carried) = (self.line.timeout(self.flight.bytes), self.line.carried());
        let ticket = Ticket { sent, bytes, probe, suspects: false, catch_up, at: now, carried };
        Some(Request { ticket, records, timeout })
    }

    /// Takes from each reader its share, then from each what still fits. Each reader is first in its turn, so that a record that
    /// needs all the room gets it.
    fn load(&mut self, load: &mut Load, now: Instant) {
        let catch_up_may_send = self.catch_up_may_send();
        let may = |reader: &Reader| {
            reader.waiting().records > 0 && (catch_up_may_send || reader.id == ReaderId::MAIN)
        };
        let busy = self.readers.iter().filter(|reader| may(reader)).count();
        self.turn = self.turn.wrapping_add(1);
        let first = self.turn % self.readers.len();
        let (before, after) = self.readers.split_at_mut(first);
        let mut order: Vec<&mut Reader> =
            after.iter_mut().chain(before).filter(|reader| may(reader)).collect();
        let shares = if busy > 1 { [Some(busy), None] } else { [None, None] };
        for share in shares.into_iter().take(busy) {
            for reader in &mut order {
                let mut with = Takes {
                    limits: &self.limits,
                    pauses: &self.pauses,
                    shards: &mut self.shards,
                    suspects: &mut self.suspects,
                    now,
                };
                let blocked = load.take_from(reader, share, &mut with);
                if blocked && load.records.is_empty() {
                    // It stays first until it has the room: the others would fill that again and again.
                    self.turn = self.turn.wrapping_sub(1);
                    return;
                }
            }
        }
    }

    /// Whether records of catch-up readers may leave now: they may be in half of the requests that are out, so that what is
    /// new finds a free one.
    fn catch_up_may_send(&self) -> bool {
        self.catch_up_out < (self.limits.in_flight_requests / 2).max(1)
    }

    /// What waits in all readers that may send.
    fn waiting(&self) -> Waiting {
        let readers = if self.catch_up_may_send() { self.readers.len() } else { 1 };
        self.readers.iter().take(readers).fold(Waiting::default(), |sum, reader| sum.and(reader.waiting()))
    }

    fn end_pauses(&mut self, now: Instant) {
        while let Some(section) = self.pauses.release(now) {
            let rules = Rules::new(&self.limits, &self.pauses, &self.shards);
            self.readers.iter_mut().for_each(|reader| reader.unpark(section, rules));
        }
        self.readers
            .iter_mut()
            .for_each(|reader| reader.pace(&self.limits, &self.pauses, &mut self.shards, now));
    }

    /// The next record for the dead-letter file, if it is the turn of one in its key's order. Each is given once.
    pub fn next_dead_letter(&mut self) -> Option<DeadLetter> {
        let rules = Rules::new(&self.limits, &self.pauses, &self.shards);
        let counts = &self.counts;
        let mut dead = self.readers.iter_mut().find_map(|reader| reader.next_dead_letter(counts, rules))?;
        if dead.reason == DeadReason::Rejected {
            dead.said = self.suspects.said((dead.frame, dead.part));
        }
        Some(dead)
    }

    /// A record given by [`next_dead_letter`](Self::next_dead_letter) found no room in the dead-letter file: it is given again,
    /// and its key waits.
    pub fn put_back(&mut self, frame: FrameNo, part: u16) {
        for reader in &mut self.readers {
            if let Some(seq) = reader.taken(frame, part) {
                reader.put_back(seq);
            }
        }
    }

    /// A record given by [`next_dead_letter`](Self::next_dead_letter) is in the dead-letter file.
    ///
    /// # Panics
    /// If it was not given: a record that is only waiting, or out in a request, must not be finished from elsewhere.
    pub fn finish(&mut self, frame: FrameNo, part: u16) {
        let rules = Rules::new(&self.limits, &self.pauses, &self.shards);
        let taken =
            self.readers.iter_mut().find_map(|reader| reader.taken(frame, part).map(|seq| (reader, seq)));
        assert!(taken.is_some(), "record {part} of frame {frame} was not given as a dead letter");
        if let Some((reader, seq)) = taken {
            self.suspects.forget(|| (frame, part));
            let key = reader.window.entry(seq).map(|entry| entry.hash);
            if let Some(key) = key {
                self.refused.forget(key);
            }
            if !reader.finish(seq, Outcome::Quarantined, rules)
                && let Some(key) = key
            {
                self.order.forget(key);
            }
            self.advance();
        }
    }

    /// When [`fill`](Self::fill), which has just given nothing, may give something although nothing else happens until
    /// then, never before `now`; `None` if it would not.
    pub fn wake_at(&self, now: Instant) -> Option<Instant> {
        if self.flight.requests >= self.limits.in_flight_requests {
            return None;
        }
        // What had passed when `fill` was asked is not what holds the request back; what has passed since may be.
        let since = |at: &Instant| self.asked.is_none_or(|asked| *at > asked);
        let paced = self.readers.iter().flat_map(|reader| reader.paced.starts(&self.shards, now));
        let released = self.pauses.next_release().into_iter().chain(paced).filter(since).min();
        let ready = self.waiting().records > 0;
        let times = if self.gate.is_open() {
            let suspects =
                self.suspects.next_due().filter(|_| self.suspects.may_send(self.limits.in_flight_requests));
            [
                self.flight.next_partial(&self.limits).filter(|_| ready),
                released.into_iter().chain(suspects).min(),
            ]
        } else {
            let probe = self.gate.next_probe()?;
            [
                if ready { Some(probe) } else { self.suspects.next_due().map(|due| due.max(probe)) },
                released.map(|at| at.max(probe)),
            ]
        };
        times.into_iter().flatten().filter(since).min().map(|at| at.max(now))
    }

    /// Whether [`fill`](Self::fill) may give something now, as far as the service is concerned: requests are not paused.
    pub fn could_send(&self, now: Instant) -> bool {
        self.gate.pass(now) != Pass::Shut && !self.is_empty()
    }

    /// When the next attempt to send may be made while the service does not answer; `None` if one is out.
    pub fn next_attempt(&self) -> Option<Instant> {
        self.gate.next_probe()
    }

    /// Bytes of log between `watermark` and the last admitted frame, and what the window itself keeps about them.
    pub fn window_bytes(&self) -> usize {
        self.readers.iter().map(|reader| reader.window.weight()).sum()
    }

    /// Everything up to this frame is finished.
    pub fn watermark(&self) -> Mark {
        self.audit.map_or_else(|| self.main().watermark(), |audit| audit.watermark)
    }

    /// The transaction at or before `watermark`; `None` if none was read since the start.
    pub fn watermark_transaction(&self) -> Option<Transaction> {
        self.audit.map_or_else(|| self.main().window.watermark_transaction(), |audit| audit.transaction)
    }

    /// The last frame admitted.
    pub fn head(&self) -> FrameNo {
        self.main().window.head()
    }

    /// What a checkpoint needs to know. Walks through the window: meant for once a second.
    pub fn progress(&self, detail: Detail) -> Progress {
        let watermark = (self.watermark(), self.watermark_transaction());
        progress::progress(&self.readers, (&self.sections, &self.owner), watermark, self.origin, detail)
    }

    /// The stream's settings have been read again: records up to this size, data and key, may be sent.
    pub fn set_max_record_size(&mut self, bytes: usize) {
        self.limits.max_record_size = bytes;
        self.quarantine_large_suspects();
    }

    /// Requests without an answer.
    pub fn in_flight(&self) -> usize {
        self.flight.requests
    }

    /// Bytes of requests without an answer.
    pub fn in_flight_bytes(&self) -> usize {
        self.flight.bytes
    }

    /// Lanes that wait after a refusal.
    pub fn paused_lanes(&self) -> usize {
        self.pauses.len()
    }

    /// Whether a shard was heard of whose range is not known.
    pub fn wants_ranges(&self) -> bool {
        self.shards.wants_ranges()
    }

    /// The stream has listed its open shards.
    pub fn know_shards(&mut self, ranges: &[ShardRange], now: Instant) {
        self.shards.list(ranges, now);
    }

    /// The rates of shards that are in force.
    pub fn rates(&mut self, now: Instant) -> Summary {
        self.shards.summary(now)
    }

    /// Whether the service answers, as far as is known.
    pub fn is_answering(&self) -> bool {
        self.gate.is_open()
    }

    /// Whether something waits for the service that is neither of a key nor of a shard that it refuses anyway. Walks through
    /// the window: meant for twice a second.
    pub fn waits_for_service(&self) -> bool {
        let waits = |reader: &Reader, entry: &Entry| {
            matches!(entry.state, State::Ready | State::Sent | State::Suspect)
                && !self.refused.contains(entry.hash)
                && !self.pauses.is_paused(entry.section)
                && !reader.is_held(entry.section)
                && self.shards.limited(entry.hash).is_none()
        };
        let any = |reader: &Reader| reader.window.iter().any(|entry| waits(reader, entry));
        self.refused.has_news() || self.readers.iter().any(any)
    }

    /// Keys that were refused since the service last took something of them.
    pub fn refused_keys(&self) -> usize {
        self.refused.len()
    }

    /// Whether every record that the main was given is finished, by any reader.
    pub fn is_empty(&self) -> bool {
        self.watermark().frame == self.head()
    }
}

#[cfg(test)]
mod tests;
