//! One reader's share of the work: its window on the log, and which of the records there are its own.
//!
//! Nothing here knows of requests. A record of a lane that another feed serves keeps its place in its frame, costs no bytes
//! and counts as finished: who finishes it is that feed's affair.
//!
//! Invariants: of each key only the first unfinished record is ready, sent or dead; a lane that pauses or is held has no
//! ready record, only parked ones, except those that `fill` has not looked at yet.

use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasherDefault;

use bytes::Bytes;
use tokio::time::Instant;

use super::apart::Watch;
use super::books::Books;
use super::paced::Paced;
use super::progress::{ELSEWHERE, Finished};
use super::ready::ReadySet;
use super::window::{Entry, NONE, State, Window};
use super::{Admission, AsItIs, DeadLetter, DeadReason, Frame, Outcome};
use crate::buffer::checkpoint::Mark;
use crate::event::{KeyHash, RecordKind};
use crate::position::FrameNo;
use crate::sink::request::{Limits, Waiting};
use crate::sink::shards::{Place, Shards};
use crate::sink::throttle::Pauses;

pub(super) const LANES: usize = 1 << u8::BITS;

/// Names a feed for as long as the process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FeedId(pub(super) u64);

impl FeedId {
    /// The feed that reads what is new. There is always one.
    pub const FRONT: Self = Self(0);
    /// Not a feed that sends: it counts what all others have finished.
    pub const BOOKS: Self = Self(u64::MAX);
}

/// What decides whether a record may be sent, beside its key.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules<'a> {
    pub(super) max_record_size: usize,
    pub(super) pauses: &'a Pauses,
    pub(super) shards: &'a Shards,
}

impl<'a> Rules<'a> {
    pub(super) fn new(limits: &Limits, pauses: &'a Pauses, shards: &'a Shards) -> Self {
        Self { max_record_size: limits.max_record_size, pauses, shards }
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Feed {
    pub(super) id: FeedId,
    pub(super) window: Window,
    pub(super) finished: Finished,
    /// The last unfinished record of each key that has any.
    tails: HashMap<KeyHash, u64, BuildHasherDefault<AsItIs>>,
    pub(super) ready: ReadySet,
    /// What may be sent of shards without a rate.
    pub(super) waiting: Waiting,
    /// Ready records of shards with a rate in force.
    pub(super) paced: Paced,
    /// Ready records of lanes that pause or are held.
    parked: Box<[Vec<u64>]>,
    /// Lanes of which nothing may be sent from here for now.
    held: Box<[bool]>,
    pub(super) dead: VecDeque<u64>,
    /// Records of each lane that are out in a request or taken as dead letters.
    busy: Box<[u32]>,
    /// The front takes over what comes after this frame.
    pub(super) until: Option<FrameNo>,
    pub(super) watch: Watch,
}

impl Feed {
    pub(super) fn new(id: FeedId, window: Window, finished: Finished) -> Self {
        Self {
            id,
            window,
            finished,
            tails: HashMap::default(),
            ready: ReadySet::default(),
            waiting: Waiting::default(),
            paced: Paced::default(),
            parked: vec![Vec::new(); LANES].into(),
            held: vec![false; LANES].into(),
            dead: VecDeque::new(),
            busy: vec![0; LANES].into(),
            until: None,
            watch: Watch::default(),
        }
    }

    /// Takes the records of the next frame.
    pub(super) fn admit<'a>(
        &mut self,
        frame: &Frame,
        records: impl IntoIterator<Item = Admission<'a>>,
        books: &mut Books,
        rules: Rules<'_>,
    ) {
        self.window.begin(frame);
        for (part, record) in records.into_iter().enumerate() {
            let part = u16::try_from(part).unwrap_or(u16::MAX);
            let done = self.finished.has(record.hash.lane(), frame.number, part);
            let event_type = books.open(record.event_type);
            let Admission { kind, hash, key, line, .. } = record;
            let frame = frame.number;
            let entry = Entry { key, line, hash, frame, next: NONE, event_type, kind, state: State::Behind };
            self.push(entry, done, rules);
        }
    }

    fn push(&mut self, mut entry: Entry, done: bool, rules: Rules<'_>) {
        if done {
            entry.state = State::Done(outcome_unseen(entry.kind, entry.size(), rules.max_record_size));
            (entry.key, entry.line) = (Bytes::new(), Bytes::new());
            self.window.push(entry);
            return;
        }
        let (hash, seq) = (entry.hash, self.window.next_seq());
        self.window.push(entry);
        match self.tails.insert(hash, seq) {
            Some(tail) => {
                if let Some(before) = self.window.entry_mut(tail) {
                    before.next = seq;
                }
            }
            None => self.make_ready(seq, rules),
        }
    }

    /// A record has become the first of its key, or may be sent again.
    pub(super) fn make_ready(&mut self, seq: u64, rules: Rules<'_>) {
        let Some(entry) = self.window.entry_mut(seq) else { return };
        let (size, hash) = (entry.size(), entry.hash);
        let lane = hash.lane();
        entry.state = State::Ready;
        let held = self.held.get(usize::from(lane)).copied().unwrap_or_default();
        let dead = entry.kind == RecordKind::DeadLetter || size > rules.max_record_size;
        if dead && !held {
            entry.state = State::Dead;
            self.dead.push_back(seq);
            return;
        }
        if held || rules.pauses.is_paused(lane) {
            self.park(lane, seq);
            return;
        }
        if let Some(place) = rules.shards.limited(hash) {
            self.paced.push((place, seq), size, self.window.first());
            return;
        }
        self.ready.insert(seq);
        self.waiting.records += 1;
        self.waiting.bytes += size;
    }

    fn park(&mut self, lane: u8, seq: u64) {
        if let Some(parked) = self.parked.get_mut(usize::from(lane)) {
            parked.push(seq);
        }
    }

    /// What may be sent, as far as its shards have tokens.
    pub(super) fn waiting(&self) -> Waiting {
        self.waiting.and(self.paced.open())
    }

    /// The oldest record that may be sent, and its shard if that has a rate in force.
    pub(super) fn oldest(&mut self) -> Option<(u64, Option<Place>)> {
        let paced = self.paced.oldest().map(|(seq, place)| (seq, Some(place)));
        let free = self.ready.oldest().map(|seq| (seq, None));
        [paced, free].into_iter().flatten().min()
    }

    /// Finds out which shards have tokens, and lets go what waited for those that have no rate any more.
    pub(super) fn pace(&mut self, limits: &Limits, pauses: &Pauses, shards: &mut Shards, now: Instant) {
        for place in self.paced.begin(shards, now) {
            for seq in self.paced.drain(place) {
                self.make_ready(seq, Rules::new(limits, pauses, shards));
            }
        }
    }

    /// Takes a record out of those that may be sent.
    pub(super) fn unready(&mut self, seq: u64, size: usize) {
        if !self.ready.contains(seq) {
            self.paced.remove(seq, size);
            return;
        }
        self.ready.remove(seq);
        self.waiting.records -= 1;
        self.waiting.bytes -= size;
    }

    /// A record leaves in a request.
    pub(super) fn send(&mut self, seq: u64, size: usize) {
        self.unready(seq, size);
        self.take(seq, State::Sent);
    }

    /// A record is out of our hands: in a request, or on its way to the dead-letter file.
    pub(super) fn take(&mut self, seq: u64, state: State) {
        let Some(entry) = self.window.entry_mut(seq) else { return };
        entry.state = state;
        let lane = usize::from(entry.hash.lane());
        if let Some(busy) = self.busy.get_mut(lane) {
            *busy += 1;
        }
    }

    /// A record is in our hands again, or finished.
    pub(super) fn untake(&mut self, seq: u64) {
        let lane = self.window.entry(seq).map(|entry| usize::from(entry.hash.lane()));
        if let Some(busy) = lane.and_then(|lane| self.busy.get_mut(lane)) {
            *busy -= 1;
        }
    }

    /// Finishes a record that was [taken](Self::take), and what was packed into it; the next of its key becomes ready. Whether
    /// there is one.
    pub(super) fn finish(&mut self, mut seq: u64, outcome: Outcome, rules: Rules<'_>) -> bool {
        self.untake(seq);
        while let Some((hash, next)) = self.window.finish(seq, outcome) {
            if next == NONE {
                self.tails.remove(&hash);
                return false;
            }
            if !self.is_packed(next) {
                self.make_ready(next, rules);
                return true;
            }
            seq = next;
        }
        false
    }

    /// The next record for the dead-letter file; see [`Lanes::next_dead_letter`](super::Lanes::next_dead_letter).
    pub(super) fn next_dead_letter(&mut self, books: &Books, rules: Rules<'_>) -> Option<DeadLetter> {
        let limit = rules.max_record_size;
        loop {
            let seq = self.dead.pop_front()?;
            let Some(entry) = self.window.entry(seq).filter(|entry| entry.state == State::Dead) else {
                continue;
            };
            let (size, lane) = (entry.size(), entry.hash.lane());
            if self.is_held(lane) {
                self.make_ready(seq, rules);
                continue;
            }
            let reason = match entry.kind {
                RecordKind::DeadLetter => DeadReason::Untranslated,
                RecordKind::Event if size > limit => DeadReason::TooLarge { size, limit },
                RecordKind::Event => {
                    // The limit has been raised since.
                    self.make_ready(seq, rules);
                    continue;
                }
            };
            let (frame, event_type) = (entry.frame, books.name(entry.event_type));
            let (key, line) = (entry.key.clone(), entry.line.clone());
            self.take(seq, State::Taken);
            return Some(DeadLetter {
                frame,
                part: self.window.part_of(seq, frame),
                reason,
                event_type,
                key,
                line,
            });
        }
    }

    /// The record, if it was given as a dead letter.
    pub(super) fn taken(&self, frame: FrameNo, part: u16) -> Option<u64> {
        let seq = self.window.seq_of(frame, part)?;
        self.window.entry(seq).is_some_and(|entry| entry.state == State::Taken).then_some(seq)
    }

    /// A dead letter is to be given again.
    pub(super) fn put_back(&mut self, seq: u64) {
        self.untake(seq);
        if let Some(entry) = self.window.entry_mut(seq) {
            entry.state = State::Dead;
            self.dead.push_front(seq);
        }
    }

    /// The lane's pause is over, or it is no longer held.
    pub(super) fn unpark(&mut self, lane: u8, rules: Rules<'_>) {
        let parked = self.parked.get_mut(usize::from(lane)).map(std::mem::take).unwrap_or_default();
        for seq in parked {
            self.make_ready(seq, rules);
        }
    }

    pub(super) fn is_held(&self, lane: u8) -> bool {
        self.held.get(usize::from(lane)).copied().unwrap_or_default()
    }

    /// Moves `low` over what is finished.
    pub(super) fn advance(&mut self, mut leaving: impl FnMut(&Entry, Outcome)) {
        self.window.advance(&mut leaving);
        self.ready.advance(self.window.first());
        self.paced.advance(self.window.first());
    }

    /// Sends nothing of these lanes until they are let go.
    pub(super) fn hold(&mut self, lanes: &[u8]) {
        self.set_held(lanes, true);
    }

    /// Sends these lanes again.
    pub(super) fn let_go(&mut self, lanes: &[u8], rules: Rules<'_>) {
        self.set_held(lanes, false);
        for lane in lanes {
            self.unpark(*lane, rules);
        }
    }

    fn set_held(&mut self, lanes: &[u8], to: bool) {
        for lane in lanes {
            if let Some(held) = self.held.get_mut(usize::from(*lane)) {
                *held = to;
            }
        }
    }

    /// Whether nothing of these lanes is out.
    pub(super) fn is_idle(&self, lanes: &[u8]) -> bool {
        lanes.iter().all(|lane| self.busy.get(usize::from(*lane)) == Some(&0))
    }

    /// Gives the records of these lanes back, those beyond the head too: they are another feed's affair from now on. Nothing of
    /// them may be out. When `low` passes them here, they may be counted here, so they end as they will there.
    pub(super) fn give_away(&mut self, lanes: &[u8], limit: usize) {
        debug_assert!(self.is_idle(lanes), "records that are out cannot be given away");
        for seq in self.window.first()..self.window.next_seq() {
            let Some(entry) = self.window.entry(seq) else { continue };
            let (size, state, outcome) =
                (entry.size(), entry.state, outcome_unseen(entry.kind, entry.size(), limit));
            if matches!(state, State::Done(_)) || !lanes.contains(&entry.hash.lane()) {
                continue;
            }
            if state == State::Ready {
                self.unready(seq, size);
            }
            if let Some((hash, _)) = self.window.finish(seq, outcome) {
                self.tails.remove(&hash);
            }
        }
        for lane in lanes {
            if let Some(parked) = self.parked.get_mut(usize::from(*lane)) {
                parked.clear();
            }
            self.finished.set(*lane, ELSEWHERE);
        }
        self.set_held(lanes, false);
    }

    pub(super) fn low(&self) -> Mark {
        self.window.low()
    }
}

/// How a record was finished that this window has not seen being finished. Nobody knows any more where one went that is too
/// large now; the dead-letter file is likelier.
pub(super) fn outcome_unseen(kind: RecordKind, size: usize, limit: usize) -> Outcome {
    if kind == RecordKind::DeadLetter || size > limit { Outcome::Quarantined } else { Outcome::Published }
}
