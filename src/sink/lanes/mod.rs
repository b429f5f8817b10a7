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
//! 2. **`low` never passes an unfinished frame**, and a frame is finished when all of its records are.
//! 3. **Nothing is dropped.** A request without an answer, or with the wrong number of answers, is sent again.
//! 4. **Memory follows [`window_bytes`](Lanes::window_bytes)**, which the caller bounds before it admits more.
//!
//! A lane is a 256th of the hash: the unit of pauses and of progress beyond `low`. When requests leave is said in
//! [`request`](super::request), when to try again in [`throttle`](super::throttle).

mod books;
mod nouns;
mod paced;
mod progress;
mod ready;
mod window;

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use bytes::Bytes;
use tokio::time::Instant;

pub use self::nouns::{Admission, DeadLetter, DeadReason, Frame, Outcome, Settlement};
pub use self::progress::{Detail, Progress, Start};

use self::books::Books;
use self::paced::Paced;
use self::progress::Resumed;
use self::ready::ReadySet;
use self::window::{Entry, NONE, State, Window};
use super::request::{Flight, Limits, Request, Ticket, Waiting};
use super::shards::{Place, Shards, Summary};
use super::throttle::{self, Gate, Jitter, LaneNews, Pass, Pauses};
use super::{Answer, Outgoing, PutError};
use crate::buffer::checkpoint::{Mark, Totals};
use crate::event::{KeyHash, RecordKind};
use crate::position::{FrameNo, Transaction};

/// The key is a prefix of an MD5: hashing it again would only cost.
#[derive(Clone, Copy, Debug, Default)]
pub struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, n: u64) {
        self.0 = n;
    }
}

/// The window.
#[derive(Debug)]
pub struct Lanes {
    limits: Limits,
    window: Window,
    resumed: Resumed,
    books: Books,
    /// The last unfinished record of each key that has any.
    tails: HashMap<KeyHash, u64, BuildHasherDefault<AsItIs>>,
    ready: ReadySet,
    waiting: Waiting,
    /// Ready records of lanes that pause.
    parked: Box<[Vec<u64>]>,
    /// Ready records of shards with a rate in force.
    paced: Paced,
    shards: Shards,
    dead: VecDeque<u64>,
    flight: Flight,
    pauses: Pauses,
    gate: Gate,
    jitter: Jitter,
    /// When `fill` was last called.
    asked: Option<Instant>,
    /// Memory of settled tickets, to be used again.
    spare: Vec<Vec<u64>>,
}

impl Lanes {
    /// An empty window after `start.low`. The seed is for jitter only.
    pub fn new(start: &Start, limits: Limits, seed: u64) -> Self {
        let limits = limits.clamped();
        Self {
            window: Window::new(start.low, None),
            resumed: Resumed::new(start),
            books: Books::default(),
            tails: HashMap::default(),
            ready: ReadySet::default(),
            waiting: Waiting::default(),
            parked: vec![Vec::new(); 1 << u8::BITS].into(),
            paced: Paced::default(),
            shards: Shards::default(),
            dead: VecDeque::new(),
            flight: Flight::default(),
            pauses: Pauses::default(),
            gate: Gate::new(limits.in_flight_bytes),
            jitter: Jitter::new(seed),
            asked: None,
            spare: Vec::new(),
            limits,
        }
    }

    /// Takes the records of the next frame, in log order. What was finished before the start is skipped.
    ///
    /// # Panics
    /// If the frame is not the one after the last: the reader checks that before.
    pub fn admit<'a>(&mut self, frame: &Frame, records: impl IntoIterator<Item = Admission<'a>>) {
        self.window.begin(frame);
        for (part, record) in records.into_iter().enumerate() {
            let part = u16::try_from(part).unwrap_or(u16::MAX);
            let done = self.resumed.has(record.hash.lane(), frame.number, part);
            self.push(frame.number, record, done);
        }
        self.advance();
    }

    fn push(&mut self, frame: FrameNo, record: Admission<'_>, done: bool) {
        let seq = self.window.next_seq();
        let event_type = self.books.open(record.event_type);
        let Admission { kind, hash, key, line, .. } = record;
        let mut entry = Entry { key, line, hash, frame, next: NONE, event_type, kind, state: State::Behind };
        if done {
            // Nobody knows any more where a record went that is too large now; the dead-letter file is likelier.
            let dead = kind == RecordKind::DeadLetter || entry.size() > self.limits.max_record_size;
            entry.state = State::Done(if dead { Outcome::Quarantined } else { Outcome::Published });
            (entry.key, entry.line) = (Bytes::new(), Bytes::new());
            self.window.push(entry);
            return;
        }
        self.window.push(entry);
        match self.tails.insert(hash, seq) {
            Some(tail) => {
                if let Some(before) = self.window.entry_mut(tail) {
                    before.next = seq;
                }
            }
            None => self.make_ready(seq),
        }
    }

    /// A record has become the first of its key, or may be sent again.
    fn make_ready(&mut self, seq: u64) {
        let limit = self.limits.max_record_size;
        let Some(entry) = self.window.entry_mut(seq) else { return };
        let (size, hash) = (entry.size(), entry.hash);
        let lane = hash.lane();
        if entry.kind == RecordKind::DeadLetter || size > limit {
            entry.state = State::Dead;
            self.dead.push_back(seq);
            return;
        }
        entry.state = State::Ready;
        if let Some(parked) = self.parked.get_mut(usize::from(lane)).filter(|_| self.pauses.is_paused(lane)) {
            parked.push(seq);
            return;
        }
        if let Some(place) = self.shards.limited(hash) {
            self.paced.push(place, seq, size, self.window.first());
            return;
        }
        self.ready.insert(seq);
        self.waiting.records += 1;
        self.waiting.bytes += size;
    }

    /// Takes a record out of those that may be sent; `more` of its shard may leave with it.
    fn unready(&mut self, (seq, place): (u64, Option<Place>), size: usize, more: bool) {
        if place.is_some() {
            self.paced.pop(size, more);
            return;
        }
        self.ready.remove(seq);
        self.waiting.records -= 1;
        self.waiting.bytes -= size;
    }

    /// The oldest record that may be sent, and its shard if that has a rate in force.
    fn oldest(&mut self) -> Option<(u64, Option<Place>)> {
        let paced = self.paced.oldest().map(|(seq, place)| (seq, Some(place)));
        let free = self.ready.oldest().map(|seq| (seq, None));
        [paced, free].into_iter().flatten().min()
    }

    /// Lets go what waited for lanes and shards that wait no more.
    fn release(&mut self, now: Instant) {
        while let Some(lane) = self.pauses.release(now) {
            let parked = self.parked.get_mut(usize::from(lane)).map(std::mem::take).unwrap_or_default();
            parked.into_iter().for_each(|seq| self.make_ready(seq));
        }
        for place in self.paced.begin(&mut self.shards, now) {
            self.paced.drain(place).into_iter().for_each(|seq| self.make_ready(seq));
        }
    }

    /// The next request, if one should leave now: oldest records first, none of a key or a lane that must wait. To be
    /// called again until it gives none, after every admission and settlement, and at [`wake_at`](Self::wake_at).
    pub fn fill(&mut self, now: Instant) -> Option<Request> {
        self.asked = Some(now);
        self.release(now);
        let (pass, waiting) = (self.gate.pass(now), self.waiting.and(self.paced.open()));
        let allowance = self.flight.allowance(&self.limits, (pass, self.gate.budget()), waiting, now)?;
        let mut seqs = self.spare.pop().unwrap_or_default();
        let mut records = Vec::with_capacity(waiting.records.min(self.limits.request_records));
        let mut bytes = 0;
        while let Some((seq, place)) = self.oldest() {
            let Some(entry) = self.window.entry_mut(seq) else { break };
            let (size, hash) = (entry.size(), entry.hash);
            let too_large = size > self.limits.max_record_size;
            if too_large || self.pauses.is_paused(hash.lane()) || self.shards.limited(hash) != place {
                // The limit has fallen, the lane has been paused, or the shard is another one, since the record became ready.
                self.unready((seq, place), size, true);
                self.make_ready(seq);
                continue;
            }
            if !allowance.fits(records.len(), bytes, size) {
                break;
            }
            records.push(Outgoing { key: entry.key.clone(), data: entry.line.clone() });
            entry.state = State::Sent;
            let more = place.is_some_and(|place| self.shards.take(place, size, now));
            self.unready((seq, place), size, more);
            seqs.push(seq);
            bytes += size;
        }
        if records.is_empty() {
            self.spare.push(seqs);
            return None;
        }
        self.flight.sent(records.len(), bytes, now);
        let probe = pass == Pass::Probe;
        if probe {
            self.gate.probe_sent();
        }
        Some(Request { ticket: Ticket { seqs, bytes, probe, sent: now }, records })
    }

    /// Takes the result of a request: accepted records are finished, refused ones wait for their lane, and a request
    /// without an answer for every record is to be sent again as a whole.
    pub fn settle(
        &mut self,
        ticket: Ticket,
        result: Result<Vec<Answer>, PutError>,
        now: Instant,
    ) -> Settlement {
        self.flight.over(ticket.bytes);
        let result = result.and_then(|answers| match (answers.len(), ticket.seqs.len()) {
            (got, sent) if got == sent => Ok(answers),
            (got, sent) => Err(PutError::Unanswered(format!("{got} answers to a request of {sent} records"))),
        });
        let mut settlement = Settlement::default();
        match result {
            Ok(answers) => {
                self.gate.answered();
                self.settle_each(&ticket.seqs, answers, now, &mut settlement);
                settlement.cuts = self.shards.answered(ticket.sent, now, &mut self.jitter);
            }
            Err(error) => {
                settlement.unanswered = ticket.seqs.len();
                settlement.error = Some(error);
                settlement.pause = self.gate.failed(ticket.probe, now, &mut self.jitter);
                for seq in &ticket.seqs {
                    self.make_ready(*seq);
                }
            }
        }
        let mut seqs = ticket.seqs;
        seqs.clear();
        self.spare.push(seqs);
        self.advance();
        settlement
    }

    fn settle_each(&mut self, seqs: &[u64], answers: Vec<Answer>, now: Instant, told: &mut Settlement) {
        let (mut refused, mut impatient) = (Vec::new(), Vec::new());
        let mut accepted_lanes = [false; 1 << u8::BITS];
        for (seq, answer) in seqs.iter().copied().zip(answers) {
            let entry = self.window.entry(seq);
            let Some((hash, size)) = entry.map(|entry| (entry.hash, entry.size())) else { continue };
            let lane = hash.lane();
            match answer {
                Answer::Accepted { shard, .. } => {
                    self.shards.accepted(hash, &shard, size, now);
                    told.accepted += 1;
                    told.accepted_bytes += size;
                    if let Some(seen) = accepted_lanes.get_mut(usize::from(lane)) {
                        *seen = true;
                    }
                    self.finish_seq(seq, Outcome::Published);
                    continue;
                }
                Answer::Throttled => {
                    told.throttled += 1;
                    // The shard of a lane that is never taken has other troubles than its rate.
                    let stubborn = self.pauses.is_stubborn(lane);
                    if !self.shards.refused(hash, stubborn) || stubborn {
                        impatient.push(lane);
                    }
                }
                Answer::Failed { reason } => {
                    told.failed += 1;
                    told.reason.get_or_insert(reason);
                    impatient.push(lane);
                }
            }
            told.lanes.push(lane);
            refused.push(seq);
        }
        told.lanes.sort_unstable();
        told.lanes.dedup();
        for (lane, accepted) in (0..=u8::MAX).zip(accepted_lanes) {
            let news = match (accepted, told.lanes.binary_search(&lane).is_ok()) {
                (false, false) => continue,
                (true, false) => LaneNews::Accepted,
                (true, true) => LaneNews::Partly,
                (false, true) => LaneNews::Refused,
            };
            let patience = if impatient.contains(&lane) { 0 } else { throttle::PATIENCE };
            self.pauses.note(lane, (news, patience), now, &mut self.jitter);
        }
        for seq in refused {
            self.make_ready(seq);
        }
    }

    /// The next record for the dead-letter file, if it is the turn of one in its key's order. Each is given once.
    pub fn next_dead_letter(&mut self) -> Option<DeadLetter> {
        let limit = self.limits.max_record_size;
        loop {
            let seq = self.dead.pop_front()?;
            let Some(entry) = self.window.entry_mut(seq) else { continue };
            let size = entry.size();
            let reason = match entry.kind {
                RecordKind::DeadLetter => DeadReason::Untranslated,
                RecordKind::Event if size > limit => DeadReason::TooLarge { size, limit },
                RecordKind::Event => {
                    // The limit has been raised since.
                    self.make_ready(seq);
                    continue;
                }
            };
            entry.state = State::Taken;
            let (frame, event_type) = (entry.frame, entry.event_type);
            let (key, line) = (entry.key.clone(), entry.line.clone());
            let (part, event_type) = (self.window.part_of(seq, frame), self.books.name(event_type));
            return Some(DeadLetter { frame, part, reason, event_type, key, line });
        }
    }

    /// A record given by [`next_dead_letter`](Self::next_dead_letter) found no room in the dead-letter file: it is given again,
    /// and its key waits.
    pub fn put_back(&mut self, frame: FrameNo, part: u16) {
        let seq = self.window.seq_of(frame, part);
        if let Some(seq) = seq
            && let Some(entry) = self.window.entry_mut(seq)
            && entry.state == State::Taken
        {
            entry.state = State::Dead;
            self.dead.push_front(seq);
        }
    }

    /// A record given by [`next_dead_letter`](Self::next_dead_letter) is in the dead-letter file.
    ///
    /// # Panics
    /// If it was not given: a record that is only waiting, or out in a request, must not be finished from elsewhere.
    pub fn finish(&mut self, frame: FrameNo, part: u16) {
        let seq = self.window.seq_of(frame, part);
        let taken =
            seq.and_then(|seq| self.window.entry(seq)).is_some_and(|entry| entry.state == State::Taken);
        assert!(taken, "record {part} of frame {frame} was not given as a dead letter");
        if let Some(seq) = seq {
            self.finish_seq(seq, Outcome::Quarantined);
            self.advance();
        }
    }

    fn finish_seq(&mut self, seq: u64, outcome: Outcome) {
        let Some((hash, next)) = self.window.finish(seq, outcome) else { return };
        if next == NONE {
            self.tails.remove(&hash);
        } else {
            self.make_ready(next);
        }
    }

    fn advance(&mut self) {
        let books = &mut self.books;
        self.window.advance(|entry, outcome| books.close(entry.event_type, outcome == Outcome::Quarantined));
        self.ready.advance(self.window.first());
        self.paced.advance(self.window.first());
    }

    /// When [`fill`](Self::fill), which has just given nothing, may give something although nothing else happens until
    /// then, never before `now`; `None` if it would not.
    pub fn wake_at(&self, now: Instant) -> Option<Instant> {
        if self.flight.requests >= self.limits.in_flight_requests {
            return None;
        }
        let released = self.pauses.next_release();
        let released = [released, self.paced.next_start(&self.shards, now)].into_iter().flatten().min();
        let ready = self.waiting.and(self.paced.open()).records > 0;
        let times = if self.gate.is_open() {
            [self.flight.next_partial(&self.limits).filter(|_| ready), released]
        } else {
            let probe = self.gate.next_probe()?;
            [Some(probe).filter(|_| ready), released.map(|at| at.max(probe))]
        };
        // What had passed when `fill` was asked is not what holds the request back; what has passed since may be.
        let since = |at: &Instant| self.asked.is_none_or(|asked| *at > asked);
        times.into_iter().flatten().filter(since).min().map(|at| at.max(now))
    }

    /// Bytes of log between `low` and the last admitted frame, and what the window itself keeps about them.
    pub fn window_bytes(&self) -> usize {
        self.window.weight()
    }

    /// Everything up to this frame is finished.
    pub fn low(&self) -> Mark {
        self.window.low()
    }

    /// The transaction at or before `low`; `None` if none was read since the start.
    pub fn low_transaction(&self) -> Option<Transaction> {
        self.window.low_transaction()
    }

    /// The last frame admitted.
    pub fn head(&self) -> FrameNo {
        self.window.head()
    }

    /// What a checkpoint needs to know. Walks through the window: meant for once a second.
    pub fn progress(&self, detail: Detail) -> Progress {
        self.resumed.progress(&self.window, detail)
    }

    /// Counts per event type of what `low` has passed since this was last asked.
    pub fn take_books(&mut self) -> Vec<(Arc<str>, Totals)> {
        self.books.take()
    }

    /// The stream's settings have been read again: records up to this size, data and key, may be sent.
    pub fn set_max_record_size(&mut self, bytes: usize) {
        self.limits.max_record_size = bytes;
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

    /// The rates of shards that are in force.
    pub fn rates(&mut self, now: Instant) -> Summary {
        self.shards.summary(now)
    }

    /// Whether the service answers, as far as is known.
    pub fn is_answering(&self) -> bool {
        self.gate.is_open()
    }

    /// Whether every admitted record is finished.
    pub fn is_empty(&self) -> bool {
        self.window.low().frame == self.window.head()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_letter_that_is_put_back_holds_its_key_and_no_other() {
        let mut lanes = Lanes::new(&Start::default(), Limits::default(), 1);
        let letters = [
            (RecordKind::DeadLetter, "poisoned"),
            (RecordKind::Event, "poisoned"),
            (RecordKind::Event, "other"),
        ];
        for (number, (kind, key)) in (1..).zip(letters) {
            let frame = Frame { number: FrameNo(number), ..Frame::default() };
            let (hash, event_type) = (KeyHash::of(key), "t");
            let (key, line) = (Bytes::from_static(key.as_bytes()), Bytes::from_static(b"line\n"));
            lanes.admit(&frame, [Admission { kind, hash, event_type, key, line }]);
        }
        let now = Instant::now();
        for _ in 0..2 {
            let dead = lanes.next_dead_letter().unwrap();
            assert_eq!((dead.frame, lanes.next_dead_letter().map(|_| ())), (FrameNo(1), None));
            lanes.put_back(dead.frame, dead.part);
        }
        let request = lanes.fill(now).unwrap();
        let keys: Vec<_> = request.records.iter().map(|record| &record.key[..]).collect();
        assert_eq!(keys, [b"other"]);
        let dead = lanes.next_dead_letter().unwrap();
        lanes.finish(dead.frame, dead.part);
        assert_eq!(lanes.low().frame, FrameNo(1));
    }
}
