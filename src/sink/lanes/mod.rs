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
//! 2. **`low` never passes an unfinished frame**, and a frame is finished when all of its records are.
//! 3. **Nothing is dropped.** A request without an answer, or with the wrong number of answers, is sent again.
//! 4. **Memory follows [`window_bytes`](Lanes::window_bytes)**: a feed that is full wants nothing more.
//!
//! Usually there is one window, the *front*. Lanes that cannot keep up get feeds (`apart`) of their own, so that they delay
//! only themselves; all of the above holds over all feeds together.
//!
//! A lane is a 256th of the hash: the unit of pauses and of progress beyond `low`. When requests leave is said in
//! [`request`](super::request), when to try again in [`throttle`](mod@throttle).

mod apart;
mod audit;
mod books;
mod feed;
mod leaving;
mod load;
mod nouns;
mod paced;
mod pack;
mod progress;
mod ready;
mod stuck;
mod window;

use std::sync::Arc;

use tokio::time::Instant;

pub use self::apart::{Change, Lag};
pub use self::feed::FeedId;
pub use self::nouns::{Admission, AsItIs, DeadLetter, DeadReason, Frame, Outcome, Settlement, Violation};
pub use self::progress::{Detail, Progress, Start};

use self::audit::Audit;
use self::books::Books;
use self::feed::{Feed, LANES, Rules};
use self::leaving::Leaving;
use self::load::{Load, Takes};
use self::pack::Contents;
use self::progress::Origin;
use super::order::{self, OrderCheck};
use super::request::{Flight, Limits, Request, Sent, Ticket, Waiting};
use super::shards::{Shards, Summary};
use super::throttle::{self, Gate, Jitter, LaneNews, Pass, Pauses};
use super::{Answer, PutError};
use crate::buffer::checkpoint::{Mark, Totals};
use crate::position::{FrameNo, Transaction};

/// What is shared by all feeds, and the feeds.
#[derive(Debug)]
pub struct Lanes {
    limits: Limits,
    /// The front first.
    feeds: Vec<Feed>,
    /// Number of the feed made last.
    last_feed: u64,
    /// Which feed serves each lane.
    owner: Box<[FeedId]>,
    /// While there is more than one feed.
    audit: Option<Audit>,
    origin: Origin,
    leaving: Option<Leaving>,
    changes: Vec<Change>,
    /// When the feeds were last looked at.
    tended: Option<Instant>,
    books: Books,
    flight: Flight,
    pauses: Pauses,
    shards: Shards,
    gate: Gate,
    jitter: Jitter,
    order: OrderCheck,
    /// Which feed is first in the next request.
    turn: usize,
    /// Requests without an answer that hold records from behind the front.
    rear_out: usize,
    /// When `fill` was last called.
    asked: Option<Instant>,
    /// Memory of settled tickets, to be used again.
    spare: Vec<Vec<Sent>>,
}

impl Lanes {
    /// An empty window after `start.low`. The seed is for jitter only.
    pub fn new(start: &Start, limits: Limits, seed: u64) -> Self {
        let limits = limits.clamped();
        let mut lanes = Self {
            feeds: Vec::new(),
            last_feed: FeedId::FRONT.0,
            owner: vec![FeedId::FRONT; LANES].into(),
            audit: None,
            origin: Origin::new(start),
            leaving: None,
            changes: Vec::new(),
            tended: None,
            books: Books::default(),
            flight: Flight::default(),
            pauses: Pauses::default(),
            shards: Shards::default(),
            gate: Gate::new(limits.in_flight_bytes),
            jitter: Jitter::new(seed),
            order: OrderCheck::default(),
            turn: 0,
            asked: None,
            rear_out: 0,
            spare: Vec::new(),
            limits,
        };
        lanes.begin(start);
        lanes
    }

    fn front(&self) -> &Feed {
        self.feeds.first().expect("there is always a front")
    }

    /// Takes the records of the next frame, in log order. What was finished before the start is skipped.
    ///
    /// # Panics
    /// If the frame is not the one after the last: the reader checks that before.
    pub fn admit<'a>(&mut self, frame: &Frame, records: impl IntoIterator<Item = Admission<'a>>) {
        self.admit_to(FeedId::FRONT, frame, records);
    }

    /// The same for any feed; nothing happens if it is gone.
    ///
    /// # Panics
    /// As [`admit`](Self::admit).
    pub fn admit_to<'a>(
        &mut self,
        feed: FeedId,
        frame: &Frame,
        records: impl IntoIterator<Item = Admission<'a>>,
    ) {
        let rules = Rules::new(&self.limits, &self.pauses, &self.shards);
        if let Some(audit) = self.audit.as_mut().filter(|_| feed == FeedId::BOOKS) {
            audit.count(frame, records, &mut self.books, rules);
        } else if let Some(feed) = self.feeds.iter_mut().find(|other| other.id == feed) {
            feed.admit(frame, records, &mut self.books, rules);
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
            let allowance = self.flight.allowance(&self.limits, (pass, self.gate.budget()), waiting, now)?;
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
        let rear = sent.iter().any(|one| one.feed != FeedId::FRONT);
        self.rear_out += usize::from(rear);
        Some(Request { ticket: Ticket { sent, bytes, probe, rear, at: now }, records })
    }

    /// Takes from each feed its share, then from each what still fits. Each feed is first in its turn, so that a record that
    /// needs all the room gets it.
    fn load(&mut self, load: &mut Load, now: Instant) {
        let rear_may = self.rear_may();
        let may = |feed: &Feed| feed.waiting().records > 0 && (rear_may || feed.id == FeedId::FRONT);
        let busy = self.feeds.iter().filter(|feed| may(feed)).count();
        self.turn = self.turn.wrapping_add(1);
        let first = self.turn % self.feeds.len();
        let (before, after) = self.feeds.split_at_mut(first);
        let mut order: Vec<&mut Feed> = after.iter_mut().chain(before).filter(|feed| may(feed)).collect();
        let shares = if busy > 1 { [Some(busy), None] } else { [None, None] };
        for share in shares.into_iter().take(busy) {
            for feed in &mut order {
                let mut with =
                    Takes { limits: &self.limits, pauses: &self.pauses, shards: &mut self.shards, now };
                let blocked = load.take_from(feed, share, &mut with);
                if blocked && load.records.is_empty() {
                    // It stays first until it has the room: the others would fill that again and again.
                    self.turn = self.turn.wrapping_sub(1);
                    return;
                }
            }
        }
    }

    /// Whether records from behind the front may leave now: they may be in half of the requests that are out, so that what is
    /// new finds a free one.
    fn rear_may(&self) -> bool {
        self.rear_out < (self.limits.in_flight_requests / 2).max(1)
    }

    /// What waits in all feeds that may send.
    fn waiting(&self) -> Waiting {
        let feeds = if self.rear_may() { self.feeds.len() } else { 1 };
        self.feeds.iter().take(feeds).fold(Waiting::default(), |sum, feed| sum.and(feed.waiting()))
    }

    fn end_pauses(&mut self, now: Instant) {
        while let Some(lane) = self.pauses.release(now) {
            let rules = Rules::new(&self.limits, &self.pauses, &self.shards);
            self.feeds.iter_mut().for_each(|feed| feed.unpark(lane, rules));
        }
        self.feeds.iter_mut().for_each(|feed| feed.pace(&self.limits, &self.pauses, &mut self.shards, now));
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
        self.rear_out -= usize::from(ticket.rear);
        let result = result.and_then(|answers| match (answers.len(), ticket.sent.len()) {
            (got, sent) if got == sent => Ok(answers),
            (got, sent) => Err(PutError::Unanswered(format!("{got} answers to a request of {sent} records"))),
        });
        let mut settlement = Settlement::default();
        match result {
            Ok(answers) => {
                self.gate.answered();
                self.settle_each(&ticket, answers, now, &mut settlement);
            }
            Err(error) => {
                settlement.unanswered = ticket.sent.len();
                settlement.error = Some(error);
                settlement.pause = self.gate.failed(ticket.probe, now, &mut self.jitter);
                self.again(&ticket.sent);
            }
        }
        let mut sent = ticket.sent;
        sent.clear();
        self.spare.push(sent);
        self.advance();
        settlement
    }

    fn settle_each(&mut self, ticket: &Ticket, answers: Vec<Answer>, now: Instant, told: &mut Settlement) {
        let (mut refused, mut impatient) = (Vec::new(), Vec::new());
        let mut accepted_lanes = [false; LANES];
        for (one, answer) in ticket.sent.iter().zip(answers) {
            let Some(feed) = self.feeds.iter_mut().find(|feed| feed.id == one.feed) else { continue };
            let Some(entry) = feed.window.entry(one.seq) else { continue };
            let (hash, frame, event_type) = (entry.hash, entry.frame, entry.event_type);
            let lane = hash.lane();
            match answer {
                Answer::Accepted { sequence, shard } => {
                    let Contents { events, bytes } = feed.contents(one.seq);
                    self.shards.accepted(hash, &shard, bytes, now);
                    told.accepted += 1;
                    told.accepted_events += events;
                    told.accepted_bytes += bytes;
                    if let Some(seen) = accepted_lanes.get_mut(usize::from(lane)) {
                        *seen = true;
                    }
                    let rules = Rules::new(&self.limits, &self.pauses, &self.shards);
                    let more = feed.finish(one.seq, Outcome::Published, rules);
                    if let Some(fall) = self.order.accepted(hash, order::Place { shard, sequence }, more) {
                        let event_type = self.books.name(event_type);
                        told.violated(Violation { fall, frame, event_type, lane });
                    }
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
            refused.push(*one);
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
        told.cuts = self.shards.answered(ticket.at, now, &mut self.jitter);
        self.again(&refused);
    }

    /// These records were not taken: they wait to be sent again, each before anything of its key.
    fn again(&mut self, sent: &[Sent]) {
        let rules = Rules::new(&self.limits, &self.pauses, &self.shards);
        for one in sent {
            if let Some(feed) = self.feeds.iter_mut().find(|feed| feed.id == one.feed) {
                feed.untake(one.seq);
                feed.unpack(one.seq);
                feed.make_ready(one.seq, rules);
            }
        }
    }

    /// The next record for the dead-letter file, if it is the turn of one in its key's order. Each is given once.
    pub fn next_dead_letter(&mut self) -> Option<DeadLetter> {
        let rules = Rules::new(&self.limits, &self.pauses, &self.shards);
        let books = &self.books;
        self.feeds.iter_mut().find_map(|feed| feed.next_dead_letter(books, rules))
    }

    /// A record given by [`next_dead_letter`](Self::next_dead_letter) found no room in the dead-letter file: it is given again,
    /// and its key waits.
    pub fn put_back(&mut self, frame: FrameNo, part: u16) {
        for feed in &mut self.feeds {
            if let Some(seq) = feed.taken(frame, part) {
                feed.put_back(seq);
            }
        }
    }

    /// A record given by [`next_dead_letter`](Self::next_dead_letter) is in the dead-letter file.
    ///
    /// # Panics
    /// If it was not given: a record that is only waiting, or out in a request, must not be finished from elsewhere.
    pub fn finish(&mut self, frame: FrameNo, part: u16) {
        let rules = Rules::new(&self.limits, &self.pauses, &self.shards);
        let taken = self.feeds.iter_mut().find_map(|feed| feed.taken(frame, part).map(|seq| (feed, seq)));
        assert!(taken.is_some(), "record {part} of frame {frame} was not given as a dead letter");
        if let Some((feed, seq)) = taken {
            let key = feed.window.entry(seq).map(|entry| entry.hash);
            if !feed.finish(seq, Outcome::Quarantined, rules)
                && let Some(key) = key
            {
                self.order.forget(key);
            }
            self.advance();
        }
    }

    fn advance(&mut self) {
        let books = &mut self.books;
        let audited = self.audit.is_some();
        for feed in &mut self.feeds {
            feed.advance(|entry, outcome| {
                if audited {
                    books.forget(entry.event_type);
                } else {
                    books.close(entry.event_type, outcome == Outcome::Quarantined);
                }
            });
        }
        self.finish_hand_overs();
    }

    /// When [`fill`](Self::fill), which has just given nothing, may give something although nothing else happens until
    /// then, never before `now`; `None` if it would not.
    pub fn wake_at(&self, now: Instant) -> Option<Instant> {
        if self.flight.requests >= self.limits.in_flight_requests {
            return None;
        }
        // What had passed when `fill` was asked is not what holds the request back; what has passed since may be.
        let since = |at: &Instant| self.asked.is_none_or(|asked| *at > asked);
        let paced = self.feeds.iter().flat_map(|feed| feed.paced.starts(&self.shards, now));
        let released = self.pauses.next_release().into_iter().chain(paced).filter(since).min();
        let ready = self.waiting().records > 0;
        let times = if self.gate.is_open() {
            [self.flight.next_partial(&self.limits).filter(|_| ready), released]
        } else {
            let probe = self.gate.next_probe()?;
            [Some(probe).filter(|_| ready), released.map(|at| at.max(probe))]
        };
        times.into_iter().flatten().filter(since).min().map(|at| at.max(now))
    }

    /// Bytes of log between `low` and the last admitted frame, and what the window itself keeps about them.
    pub fn window_bytes(&self) -> usize {
        self.feeds.iter().map(|feed| feed.window.weight()).sum()
    }

    /// Everything up to this frame is finished.
    pub fn low(&self) -> Mark {
        self.audit.map_or_else(|| self.front().low(), |audit| audit.low)
    }

    /// The transaction at or before `low`; `None` if none was read since the start.
    pub fn low_transaction(&self) -> Option<Transaction> {
        self.audit.map_or_else(|| self.front().window.low_transaction(), |audit| audit.transaction)
    }

    /// The last frame admitted.
    pub fn head(&self) -> FrameNo {
        self.front().window.head()
    }

    /// What a checkpoint needs to know. Walks through the window: meant for once a second.
    pub fn progress(&self, detail: Detail) -> Progress {
        let low = (self.low(), self.low_transaction());
        progress::progress(&self.feeds, &self.owner, low, self.origin, detail)
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

    /// Whether every record that the front was given is finished, by whomever.
    pub fn is_empty(&self) -> bool {
        self.low().frame == self.head()
    }
}

#[cfg(test)]
mod tests;
