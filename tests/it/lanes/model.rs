//! A log, a service with moods, and a process that stops and crashes; what must hold is checked at every step.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use forebay::event::{KeyHash, RecordKind};
use forebay::position::{FrameNo, Lsn, Position, Transaction};
use forebay::sink::lanes::{Admission, Change, Detail, FeedId, Frame, Lanes, Progress, Start};
use forebay::sink::request::{Limits, Request, Ticket};
use forebay::sink::{Answer, PutError};
use tokio::time::Instant;

/// Frame and part.
type Id = (u64, u16);

struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }

    fn percent(&mut self, n: u64) -> bool {
        self.below(100) < n
    }
}

/// Bytes that are counted as long as they live.
struct Counted(Vec<u8>, Arc<AtomicUsize>);

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.1.fetch_sub(self.0.len(), Ordering::Relaxed);
    }
}

struct Written {
    kind: RecordKind,
    hash: KeyHash,
    key: String,
    line: String,
}

struct Out {
    ticket: Ticket,
    ids: Vec<Id>,
}

/// What was written to the checkpoint: progress, and the books with it.
struct Saved {
    start: Start,
    books: BTreeMap<String, (u64, u64)>,
}

/// What the model does wrong on purpose, so that it is known to find it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Planted {
    /// A request that is still out is settled as refused: its records are sent again beside themselves.
    SendsWhatIsOut,
    /// After a restart the books go on from what was counted, not from what was written with the progress.
    CountsTwice,
    /// A restart believes that a lane has come further than it has.
    ResumesTooFar,
}

/// What has happened.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    pub(super) detached: usize,
    pub(super) back: usize,
    pub(super) apart_at_start: usize,
}

pub(super) struct World {
    planted: Option<Planted>,
    pub(super) seen_changes: Seen,
    /// Lanes of which nothing is taken now: first and last.
    stuck: Option<(u8, u8)>,
    random: Random,
    log: Vec<Vec<Written>>,
    limits: Limits,
    trouble: u64,
    now: Instant,
    lanes: Lanes,
    out: Vec<Out>,
    /// Records out whose request was settled already: only a planted fault makes any.
    ghosts: Vec<Id>,
    saved: Saved,
    books: BTreeMap<String, (u64, u64)>,
    /// Known to the process as published or quarantined, in any life.
    finished: HashSet<Id>,
    /// Of those, what the process has not forgotten by a crash: must not be sent again.
    known: HashSet<Id>,
    /// Where each record was first seen, by the stream or the dead-letter file.
    seen: HashMap<KeyHash, Vec<Id>>,
    ever_seen: HashSet<Id>,
    live: Arc<AtomicUsize>,
    /// Low of the last check.
    checked: FrameNo,
}

impl World {
    pub(super) fn new(seed: u64, planted: Option<Planted>) -> Self {
        let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0xABCD);
        let keys = [3, 40, 2000][usize::try_from(random.below(3)).unwrap()];
        let mut frames = Vec::new();
        for number in 1..=150 + random.below(300) {
            let parts = [0, 1, 1, 1, 2, 5][usize::try_from(random.below(6)).unwrap()];
            frames.push((0..parts).map(|part| written(&mut random, keys, number, part)).collect());
        }
        let limits = Limits {
            request_records: 1 + usize::try_from(random.below(60)).unwrap(),
            request_bytes: 300 + usize::try_from(random.below(3000)).unwrap(),
            in_flight_requests: 1 + usize::try_from(random.below(6)).unwrap(),
            in_flight_bytes: 2000 + usize::try_from(random.below(20_000)).unwrap(),
            max_record_size: 600,
            window_bytes: 3000 + usize::try_from(random.below(60_000)).unwrap(),
        };
        let start = Start::default();
        Self {
            planted,
            seen_changes: Seen::default(),
            stuck: None,
            log: frames,
            limits,
            trouble: [0, 5, 30, 60][usize::try_from(random.below(4)).unwrap()],
            now: Instant::now(),
            lanes: Lanes::new(&start, limits, seed),
            out: Vec::new(),
            ghosts: Vec::new(),
            saved: Saved { start, books: BTreeMap::new() },
            books: BTreeMap::new(),
            finished: HashSet::new(),
            known: HashSet::new(),
            seen: HashMap::new(),
            ever_seen: HashSet::new(),
            live: Arc::default(),
            checked: FrameNo(0),
            random,
        }
    }

    pub(super) fn run(&mut self) {
        let end = self.log_end();
        let mut steps = 0;
        while self.lanes.low().frame < end {
            steps += 1;
            assert!(steps < 200_000, "no end in sight, low is {}", self.lanes.low().frame);
            match self.random.below(100) {
                0 => self.checkpoint(Detail::Lanes),
                1 if self.random.percent(15) => self.stop(),
                2 if self.random.percent(15) => self.crash(),
                3 => self.change_mood(),
                4..40 => self.admit(),
                40..70 => self.send(),
                _ => self.answer_one(),
            }
            self.bury();
            self.tend();
            self.wait_if_nothing_moves();
            self.check();
        }
        self.checkpoint(Detail::Records);
        self.check_end();
    }

    /// Some lanes, or a quarter of them, are stuck from now on; or none.
    fn change_mood(&mut self) {
        let lane = u8::try_from(self.random.below(256)).unwrap();
        self.stuck = match self.random.below(4) {
            0 => Some((lane & 0xC0, lane | 0x3F)),
            1 => Some((KeyHash::of("hot").lane(), KeyHash::of("hot").lane())),
            _ => None,
        };
    }

    fn admit(&mut self) {
        for feed in self.lanes.feeds() {
            for _ in 0..self.random.below(20) {
                let Some((after, until)) = self.lanes.wants(feed) else { break };
                let number = after.next();
                if number > until || !self.admit_to(feed, number) {
                    break;
                }
            }
        }
    }

    fn admit_to(&mut self, feed: FeedId, number: FrameNo) -> bool {
        let index = usize::try_from(number.0 - 1).unwrap();
        let Some(written) = self.log.get(index) else { return false };
        let transaction = transaction(number.0);
        let position = transaction.map(|of| Position { epoch: 1, commit: of.commit, index: 0 });
        let bytes = written.iter().map(|written| written.key.len() + written.line.len()).sum::<usize>() + 20;
        let live = &self.live;
        let lend = |text: &str| {
            live.fetch_add(text.len(), Ordering::Relaxed);
            Bytes::from_owner(Counted(text.as_bytes().to_vec(), Arc::clone(live)))
        };
        let records = written.iter().map(|written| Admission {
            kind: written.kind,
            hash: written.hash,
            event_type: if written.key.len().is_multiple_of(2) { "even.v1" } else { "odd.v1" },
            key: lend(&written.key),
            line: lend(&written.line),
        });
        self.lanes.admit_to(feed, &Frame { number, position, transaction, bytes }, records);
        true
    }

    fn tend(&mut self) {
        self.lanes.tend(self.now);
        for change in self.lanes.take_changes() {
            match change {
                Change::Detached { lanes, .. } => {
                    assert!(!lanes.is_empty() && lanes.len() < 256);
                    self.seen_changes.detached += 1;
                }
                Change::Back { .. } => self.seen_changes.back += 1,
            }
        }
    }

    fn send(&mut self) {
        while let Some(Request { ticket, records }) = self.lanes.fill(self.now) {
            let bytes: usize = records.iter().map(|record| record.key.len() + record.data.len()).sum();
            assert_eq!((ticket.records(), ticket.bytes()), (records.len(), bytes));
            assert!(!records.is_empty() && records.len() <= self.limits.request_records);
            assert!(bytes <= self.limits.request_bytes || records.len() == 1, "{bytes} bytes");
            let mut unanswered: HashSet<KeyHash> = self
                .out
                .iter()
                .flat_map(|out| &out.ids)
                .chain(&self.ghosts)
                .map(|id| self.hash(*id))
                .collect();
            let ids: Vec<Id> = records.iter().map(|record| id_of(&record.data)).collect();
            for (id, record) in ids.iter().zip(&records) {
                assert!(unanswered.insert(self.hash(*id)), "two unanswered records of {:?}", record.key);
                assert!(!self.known.contains(id), "{id:?} was finished, and is sent again");
                let written = self.written(*id);
                assert_eq!(
                    (&record.key[..], &record.data[..]),
                    (written.key.as_bytes(), written.line.as_bytes())
                );
            }
            self.out.push(Out { ticket, ids });
            let total: usize = self.out.iter().map(|out| out.ticket.bytes()).sum();
            assert!(total <= self.limits.in_flight_bytes || self.out.iter().any(|out| out.ids.len() == 1));
            assert!(self.out.len() <= self.limits.in_flight_requests);
            assert_eq!((self.lanes.in_flight(), self.lanes.in_flight_bytes()), (self.out.len(), total));
        }
    }

    fn answer_one(&mut self) {
        if self.out.is_empty() {
            return;
        }
        let index = usize::try_from(self.random.below(self.out.len() as u64)).unwrap();
        let Out { ticket, ids } = self.out.swap_remove(index);
        if self.planted == Some(Planted::SendsWhatIsOut) && self.random.percent(5) {
            let refused = vec![Answer::Throttled; ids.len()];
            drop(self.lanes.settle(ticket, Ok(refused), self.now));
            self.ghosts.extend(ids);
            return;
        }
        self.now += Duration::from_millis(self.random.below(30));
        let result =
            if self.random.percent(self.trouble / 4) { self.lost(&ids) } else { Ok(self.each(&ids)) };
        let answers = result.as_ref().ok().filter(|answers| answers.len() == ids.len());
        for (id, answer) in ids.iter().zip(answers.into_iter().flatten()) {
            if matches!(answer, Answer::Accepted { .. }) {
                self.finished.insert(*id);
                self.known.insert(*id);
            }
        }
        let told = self.lanes.settle(ticket, result, self.now);
        assert_eq!(told.accepted + told.throttled + told.failed + told.unanswered, ids.len());
    }

    /// A request as a whole goes wrong; some of it may have been stored.
    fn lost(&mut self, ids: &[Id]) -> Result<Vec<Answer>, PutError> {
        let stored = self.random.percent(50);
        for id in ids {
            if stored && self.random.percent(80) {
                self.appear(*id);
            }
        }
        let text = "by the model".to_owned();
        match self.random.below(4) {
            0 if !stored => Err(PutError::Refused(text)),
            1 if !stored => Err(PutError::Throttled(text)),
            2 => Ok(vec![Answer::Throttled; ids.len() + 1]),
            _ => Err(PutError::Unanswered(text)),
        }
    }

    fn each(&mut self, ids: &[Id]) -> Vec<Answer> {
        let mut answers = Vec::new();
        for id in ids {
            let lane = self.hash(*id).lane();
            let stuck = self.stuck.is_some_and(|(first, last)| (first..=last).contains(&lane));
            if !stuck && !self.random.percent(self.trouble) {
                self.appear(*id);
                answers.push(Answer::Accepted { sequence: "1".to_owned(), shard: "s".to_owned() });
            } else if self.random.percent(70) {
                answers.push(Answer::Throttled);
            } else {
                answers.push(Answer::Failed { reason: "InternalFailure".to_owned() });
            }
        }
        answers
    }

    /// Writes what belongs in the dead-letter file.
    fn bury(&mut self) {
        while let Some(letter) = self.lanes.next_dead_letter() {
            let id = (letter.frame.0, letter.part);
            let written = self.written(id);
            let size = written.key.len() + written.line.len();
            assert!(written.kind == RecordKind::DeadLetter || size > self.limits.max_record_size);
            assert!(!self.known.contains(&id), "{id:?} was buried, and is again");
            assert_eq!(
                (&letter.key[..], &letter.line[..]),
                (written.key.as_bytes(), written.line.as_bytes())
            );
            self.appear(id);
            self.finished.insert(id);
            self.known.insert(id);
            self.lanes.finish(letter.frame, letter.part);
        }
    }

    fn appear(&mut self, id: Id) {
        if self.ever_seen.insert(id) {
            let hash = self.hash(id);
            let seen = self.seen.entry(hash).or_default();
            assert!(seen.last().is_none_or(|last| *last < id), "{id:?} after {:?}", seen.last());
            seen.push(id);
        }
    }

    fn checkpoint(&mut self, detail: Detail) {
        let Progress { low, lanes, answered, tip, .. } = self.lanes.progress(detail);
        assert_eq!(low, self.lanes.low());
        self.count();
        let reached: HashMap<u8, FrameNo> = lanes.iter().copied().collect();
        for id in self.ids(self.log_end()) {
            let of_lane = reached.get(&self.hash(id).lane());
            assert!(of_lane.is_none_or(|frame| id.0 > frame.0) || self.finished.contains(&id), "{id:?}");
        }
        for (frame, part) in &answered {
            assert!(self.finished.contains(&(frame.0, *part)));
        }
        let frames = lanes.iter().map(|(_, frame)| *frame).chain(answered.iter().map(|(frame, _)| *frame));
        let named = frames.chain([low.frame]).max().unwrap();
        assert_eq!(tip, (1..=named.0).rev().find_map(transaction), "at {named}");
        let start = Start { low, tip, lanes, answered };
        self.saved = Saved { start, books: self.books.clone() };
    }

    fn count(&mut self) {
        for (name, totals) in self.lanes.take_books() {
            let entry = self.books.entry(name.to_string()).or_default();
            *entry = (entry.0 + totals.published, entry.1 + totals.quarantined);
        }
    }

    /// A clean stop: what is out is forgotten, what is known is written.
    fn stop(&mut self) {
        self.checkpoint(Detail::Records);
        self.restart();
    }

    fn crash(&mut self) {
        self.known.clear();
        self.restart();
    }

    fn restart(&mut self) {
        // What was out may still be stored, before anything of the next life is.
        for out in std::mem::take(&mut self.out) {
            for id in out.ids {
                if self.random.percent(50) {
                    self.appear(id);
                }
            }
        }
        if self.planted == Some(Planted::CountsTwice) {
            self.count();
        } else {
            self.books = self.saved.books.clone();
        }
        let mut start = self.saved.start.clone();
        if self.planted == Some(Planted::ResumesTooFar) {
            start.lanes.iter_mut().for_each(|(_, frame)| frame.0 = (frame.0 + 5).min(self.log.len() as u64));
        }
        self.lanes = Lanes::new(&start, self.limits, self.random.below(1000));
        self.seen_changes.apart_at_start += usize::from(self.lanes.feeds().len() > 1);
    }

    /// When no request is out and none may leave, time must bring something, unless there is more to read.
    fn wait_if_nothing_moves(&mut self) {
        if !self.out.is_empty() || self.lanes.is_empty() {
            return;
        }
        self.send();
        if self.lanes.feeds().into_iter().any(|feed| self.wants_more(feed)) {
            return;
        }
        if self.out.is_empty() && !self.lanes.is_empty() {
            let wake =
                self.lanes.wake_at(self.now).expect("something is unfinished, so something must happen");
            assert!(wake > self.now && wake <= self.now + Duration::from_secs(30));
            self.now = wake;
            self.send();
            let more = self.lanes.wake_at(self.now).is_some();
            assert!(!self.out.is_empty() || more, "woken for nothing");
        }
    }

    fn wants_more(&self, feed: FeedId) -> bool {
        self.lanes.wants(feed).is_some_and(|(after, until)| after < until && after < self.log_end())
    }

    fn check(&mut self) {
        let low = self.lanes.low();
        let passed = self.ids(low.frame).skip_while(|id| id.0 <= self.checked.0);
        passed.for_each(|id| assert!(self.finished.contains(&id), "low passed {id:?}, unfinished"));
        self.checked = low.frame;
        let position = (1..=low.frame.0).rev().find_map(transaction).map(|of| of.commit);
        assert_eq!(low.position.map(|position| position.commit), position);
        // Of each feed a frame more than the limit may be admitted, and a new feed finds the front's window full, and an answered request's bytes are gone.
        let bound = self.limits.window_bytes * 11 / 8 + 4 * 5 * 1100;
        assert!(self.lanes.window_bytes() <= bound, "{} bytes", self.lanes.window_bytes());
        let live = self.live.load(Ordering::Relaxed);
        assert!(live <= self.lanes.window_bytes(), "{live} bytes live in {}", self.lanes.window_bytes());
    }

    fn check_end(&self) {
        let all: HashSet<Id> = self.ids(self.log_end()).collect();
        assert_eq!(self.ever_seen, all, "everything appears");
        let mut books: BTreeMap<String, (u64, u64)> = BTreeMap::new();
        for id in all {
            let written = self.written(id);
            let name = if written.key.len().is_multiple_of(2) { "even.v1" } else { "odd.v1" };
            let entry = books.entry(name.to_owned()).or_default();
            let large = written.key.len() + written.line.len() > self.limits.max_record_size;
            if written.kind == RecordKind::DeadLetter || large { entry.1 += 1 } else { entry.0 += 1 }
        }
        assert_eq!(self.books, books, "the books balance");
        assert_eq!(self.lanes.window_bytes(), 0);
        assert!(self.out.iter().all(|out| out.ids.is_empty()) && self.live.load(Ordering::Relaxed) == 0);
    }

    fn log_end(&self) -> FrameNo {
        FrameNo(self.log.len() as u64)
    }

    /// Every record up to a frame.
    fn ids(&self, frame: FrameNo) -> impl Iterator<Item = Id> {
        let frames = (1u64..).zip(&self.log).take_while(move |(number, _)| *number <= frame.0);
        frames.flat_map(|(number, records)| (0u16..).zip(records).map(move |(part, _)| (number, part)))
    }

    fn written(&self, (frame, part): Id) -> &Written {
        &self.log[usize::try_from(frame - 1).unwrap()][usize::from(part)]
    }

    fn hash(&self, id: Id) -> KeyHash {
        self.written(id).hash
    }
}

/// Every fifth frame is injected.
fn transaction(frame: u64) -> Option<Transaction> {
    let xid = u32::try_from(frame / 3).unwrap();
    (frame % 5 != 4).then(|| Transaction { commit: Lsn::new(u64::from(xid) * 16 + 8), xid, time: 0 })
}

fn written(random: &mut Random, keys: u64, frame: u64, part: u16) -> Written {
    let key = if random.percent(30) { "hot".to_owned() } else { format!("k{}", random.below(keys)) };
    let kind = if random.percent(4) { RecordKind::DeadLetter } else { RecordKind::Event };
    let filling = if random.percent(3) { 700 } else { usize::try_from(random.below(200)).unwrap() };
    let hash = KeyHash::of(&key);
    Written { kind, hash, key, line: format!("{frame} {part} {}\n", "x".repeat(filling)) }
}

fn id_of(line: &[u8]) -> Id {
    let mut words = std::str::from_utf8(line).unwrap().split(' ');
    (words.next().unwrap().parse().unwrap(), words.next().unwrap().parse().unwrap())
}
