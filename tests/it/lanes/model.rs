//! A log, a service with faults, and a process that stops and crashes; what must hold is checked at every step.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use forebay::event::{KeyHash, RecordKind};
use forebay::position::{FrameNo, Position};
use forebay::sink::RecordResult;
use forebay::sink::lanes::{
    Admission, Change, Detail, Frame, Lanes, Outcome, Progress, ReaderId, Request, Start,
};
use forebay::sink::pacing::Limits;
use tokio::time::Instant;

use super::counts::{Counts, add, balances, count, event_type};
use super::means::{Counted, Id, Out, Random, Saved, Written, id_of, transaction, written};
use super::planted::{Planted, Seen};
use super::shards::Shards;

mod answers;

pub(super) struct World {
    planted: Option<Planted>,
    pub(super) seen_changes: Seen,
    /// Hashes of which nothing is taken now: first and last.
    stuck: Option<(u64, u64)>,
    shards: Shards,
    random: Random,
    log: Vec<Vec<Written>>,
    limits: Limits,
    trouble: u64,
    /// Whether the largest record changes.
    changes_limit: bool,
    now: Instant,
    lanes: Lanes,
    out: Vec<Out>,
    /// Records out whose request was settled already: only a planted fault makes any.
    ghosts: Vec<Id>,
    saved: Saved,
    counts: Counts,
    /// What became of each record last.
    outcomes: HashMap<Id, Outcome>,
    /// What the dead-letter file had when the process started.
    already_written: HashSet<Id>,
    /// Known to the process as published or quarantined, in any life.
    finished: HashSet<Id>,
    /// Of those, what the process has not forgotten by a crash: must not be sent again.
    known: HashSet<Id>,
    /// Where each record was first seen, by the stream or the dead-letter file.
    seen: HashMap<KeyHash, Vec<Id>>,
    ever_seen: HashSet<Id>,
    live: Arc<AtomicUsize>,
    /// The last sequence number.
    number: u64,
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
            pack_bytes: usize::try_from(if seed.is_multiple_of(2) { 0 } else { 100 + seed * 37 % 1200 })
                .unwrap(),
            window_bytes: 3000 + usize::try_from(random.below(60_000)).unwrap(),
        };
        let start = Start::default();
        Self {
            planted,
            seen_changes: Seen::default(),
            stuck: None,
            shards: Shards::default(),
            log: frames,
            limits,
            trouble: [0, 5, 30, 60][usize::try_from(random.below(4)).unwrap()],
            changes_limit: seed.is_multiple_of(5),
            now: Instant::now(),
            lanes: Lanes::new(&start, limits, seed),
            out: Vec::new(),
            ghosts: Vec::new(),
            saved: Saved { start, counts: Counts::new() },
            counts: Counts::new(),
            outcomes: HashMap::new(),
            already_written: HashSet::new(),
            finished: HashSet::new(),
            known: HashSet::new(),
            seen: HashMap::new(),
            ever_seen: HashSet::new(),
            live: Arc::default(),
            number: 0,
            checked: FrameNo(0),
            random,
        }
    }

    pub(super) fn run(&mut self) {
        let end = self.log_end();
        let mut steps = 0;
        while self.lanes.watermark().frame < end {
            steps += 1;
            assert!(steps < 200_000, "no end in sight, low is {}", self.lanes.watermark().frame);
            match self.random.below(100) {
                0 => self.checkpoint(Detail::Lanes),
                1 if self.random.percent(15) => self.stop(),
                2 if self.random.percent(15) => self.crash(),
                3 => self.change_faults(),
                4..40 => self.admit(),
                40..70 => self.send(),
                _ => self.answer_one(),
            }
            self.quarantine(5);
            self.rebalance();
            self.wait_if_nothing_moves();
            self.check();
        }
        self.checkpoint(Detail::Records);
        self.check_end();
    }

    /// A lane, a shard or a quarter of everything is stuck from now on; or nothing.
    fn change_faults(&mut self) {
        let (hash, hot) = (self.random.hash(), KeyHash::of("hot").0);
        self.stuck = match self.random.below(6) {
            0 => Some((hash & 0xC000_0000_0000_0000, hash | 0x3FFF_FFFF_FFFF_FFFF)),
            1 => Some((hot & 0xFF00_0000_0000_0000, hot | 0x00FF_FFFF_FFFF_FFFF)),
            2 => Some(self.shards.range_of(hash)),
            3 => Some(self.shards.range_of(hot)),
            _ => None,
        };
        if self.random.percent(30) {
            self.shards.change(&mut self.random);
        }
        if self.changes_limit && self.random.percent(30) {
            self.limits.max_record_size = [150, 600, 900][usize::try_from(self.random.below(3)).unwrap()];
            self.lanes.set_max_record_size(self.limits.max_record_size);
        }
    }

    fn admit(&mut self) {
        for reader in self.lanes.readers() {
            for _ in 0..self.random.below(20) {
                let Some((after, until)) = self.lanes.wants(reader) else { break };
                let number = after.next();
                if number > until || !self.admit_to(reader, number) {
                    break;
                }
            }
        }
    }

    fn admit_to(&mut self, reader: ReaderId, number: FrameNo) -> bool {
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
        let already_written = &self.already_written;
        let records = (0..).zip(written).map(|(part, written)| Admission {
            kind: if already_written.contains(&(number.0, part)) {
                RecordKind::DeadLetter
            } else {
                written.kind
            },
            hash: written.hash,
            event_type: event_type(written),
            key: lend(&written.key),
            line: lend(&written.line),
        });
        self.lanes.admit_to(reader, &Frame { number, position, transaction, bytes }, records);
        true
    }

    fn rebalance(&mut self) {
        if self.random.percent(50) {
            self.send();
        }
        if !self.lanes.rebalance(self.now) {
            return;
        }
        for change in self.lanes.take_changes() {
            match change {
                Change::Detached { lanes, .. } => {
                    assert!(!lanes.is_empty() && lanes.len() < 256);
                    self.seen_changes.detached += 1;
                    self.seen_changes.parts +=
                        usize::from(!self.lanes.progress(Detail::Lanes).parts.is_empty());
                }
                Change::Back { .. } => self.seen_changes.back += 1,
            }
        }
    }

    fn send(&mut self) {
        while let Some(Request { ticket, records, .. }) = self.lanes.fill(self.now) {
            if ticket.is_control() {
                self.control(ticket, &records);
                continue;
            }
            let bytes: usize = records.iter().map(|record| record.key.len() + record.data.len()).sum();
            assert_eq!((ticket.records(), ticket.bytes()), (records.len(), bytes));
            assert!(!records.is_empty() && records.len() <= self.limits.request_records);
            assert!(bytes <= self.limits.request_bytes || records.len() == 1, "{bytes} bytes");
            let mut unanswered: HashSet<KeyHash> = self
                .out
                .iter()
                .flat_map(|out| out.ids.iter().flatten())
                .chain(&self.ghosts)
                .map(|id| self.hash(*id))
                .collect();
            let mut ids = Vec::new();
            for record in &records {
                let lines: Vec<&[u8]> = record.data.split_inclusive(|byte| *byte == b'\n').collect();
                let packed = record.key.len() + record.data.len() <= self.limits.pack_bytes;
                assert!(lines.len() == 1 || packed, "{} lines in {record:?}", lines.len());
                ids.push(lines.iter().map(|line| id_of(line)).collect::<Vec<_>>());
                assert!(ids.last().unwrap().is_sorted_by(|one, other| one < other));
                let hash = self.hash(ids.last().unwrap()[0]);
                assert!(unanswered.insert(hash), "two unanswered records of {:?}", record.key);
                for (id, line) in ids.last().unwrap().iter().zip(lines) {
                    assert!(!self.known.contains(id), "{id:?} was finished, and is sent again");
                    let written = self.written(*id);
                    assert_eq!((&record.key[..], line), (written.key.as_bytes(), written.line.as_bytes()));
                }
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
            let refused = vec![RecordResult::Throttled; ids.len()];
            drop(self.lanes.settle(ticket, Ok(refused), self.now));
            self.ghosts.extend(ids.into_iter().flatten());
            return;
        }
        self.now += Duration::from_millis(self.random.below(30));
        let result =
            if self.random.percent(self.trouble / 4) { self.lost(&ids) } else { Ok(self.each(&ids)) };
        let answers = result.as_ref().ok().filter(|answers| answers.len() == ids.len());
        for (id, answer) in ids.iter().zip(answers.into_iter().flatten()) {
            if matches!(answer, RecordResult::Accepted { .. }) {
                self.finished.extend(id);
                self.known.extend(id);
                self.outcomes.extend(id.iter().map(|id| (*id, Outcome::Published)));
            }
        }
        let outcome = self.lanes.settle(ticket, result, self.now);
        assert_eq!((outcome.violations, outcome.violation), (0, None));
        assert_eq!(
            outcome.accepted + outcome.throttled + outcome.failed + outcome.without_response,
            ids.len()
        );
    }

    /// Writes what belongs in the dead-letter file; in so many of a hundred cases there is no room.
    fn quarantine(&mut self, no_room: u64) {
        while let Some(letter) = self.lanes.next_dead_letter() {
            if self.random.percent(no_room) {
                self.lanes.put_back(letter.frame, letter.part);
                return;
            }
            let id = (letter.frame.0, letter.part);
            let written = self.written(id);
            let size = written.key.len() + written.line.len();
            let is_dead = written.kind == RecordKind::DeadLetter || self.already_written.contains(&id);
            assert!(is_dead || size > self.limits.max_record_size);
            assert!(!self.known.contains(&id), "{id:?} was buried, and is again");
            assert_eq!(
                (&letter.key[..], &letter.line[..]),
                (written.key.as_bytes(), written.line.as_bytes())
            );
            self.appear(id);
            self.finished.insert(id);
            self.known.insert(id);
            self.outcomes.insert(id, Outcome::Quarantined);
            self.lanes.finish(letter.frame, letter.part);
        }
    }

    fn appear_all(&mut self, ids: &[Id]) {
        for id in ids {
            self.appear(*id);
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
        let Progress { watermark, lanes, parts, acknowledged, last_seen, .. } = self.lanes.progress(detail);
        assert_eq!(watermark, self.lanes.watermark());
        self.count();
        let reached: HashMap<u8, FrameNo> = lanes.iter().copied().collect();
        let covers = |id: Id| {
            let hash = self.hash(id);
            let part = parts.iter().find(|part| part.first <= hash.0 && hash.0 <= part.last);
            let lane = part.map(|part| part.frame).or_else(|| reached.get(&hash.lane()).copied());
            id.0 <= watermark.frame.0.max(lane.unwrap_or_default().0)
        };
        let outcome = |id: Id| self.outcomes.get(&id).copied().filter(|_| self.finished.contains(&id));
        let mut covered = Counts::new();
        for id in self.ids(self.log_end()) {
            let is_passed = id.0 <= watermark.frame.0;
            let outcome = covers(id).then(|| outcome(id).unwrap_or_else(|| panic!("{id:?}")));
            count(&mut covered, self.written(id), is_passed, outcome);
        }
        let mut counts = self.counts.clone();
        add(&mut counts, self.lanes.counts_ahead());
        assert_eq!(counts, covered, "the counts are of the progress");
        assert!(self.lanes.is_counted_beyond_watermark() || balances(&self.counts), "{:?}", self.counts);
        for (frame, part) in &acknowledged {
            assert!(self.finished.contains(&(frame.0, *part)));
        }
        let frames =
            lanes.iter().map(|(_, frame)| *frame).chain(acknowledged.iter().map(|(frame, _)| *frame));
        let frames = frames.chain(parts.iter().map(|part| part.frame));
        let named = frames.chain([watermark.frame]).max().unwrap();
        assert_eq!(last_seen, (1..=named.0).rev().find_map(transaction), "at {named}");
        let start = Start { watermark, last_seen, lanes, parts, acknowledged };
        self.saved = Saved { start, counts };
    }

    fn count(&mut self) {
        add(&mut self.counts, self.lanes.take_counts());
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
                    self.appear_all(&id);
                }
            }
        }
        if self.planted == Some(Planted::CountsTwice) {
            self.count();
        } else {
            self.counts = self.saved.counts.clone();
        }
        let quarantined = |(id, outcome): (&Id, &Outcome)| (*outcome == Outcome::Quarantined).then_some(*id);
        self.already_written = self.outcomes.iter().filter_map(quarantined).collect();
        let mut start = self.saved.start.clone();
        if self.planted == Some(Planted::ResumesTooFar) {
            let end = self.log.len() as u64;
            start.lanes.iter_mut().for_each(|(_, frame)| frame.0 = (frame.0 + 5).min(end));
            start.parts.iter_mut().for_each(|part| part.frame.0 = (part.frame.0 + 5).min(end));
        }
        self.lanes = Lanes::new(&start, self.limits, self.random.below(1000));
        self.seen_changes.apart_at_start += usize::from(self.lanes.readers().len() > 1);
    }

    /// When no request is out and none may leave, time must bring something, unless there is more to read.
    fn wait_if_nothing_moves(&mut self) {
        if !self.out.is_empty() || self.lanes.is_empty() {
            return;
        }
        self.quarantine(0);
        self.send();
        if self.lanes.readers().into_iter().any(|reader| self.wants_more(reader)) {
            return;
        }
        if self.out.is_empty() && !self.lanes.is_empty() {
            let wake =
                self.lanes.wake_at(self.now).expect("something is unfinished, so something must happen");
            assert!(wake > self.now && wake <= self.now + Duration::from_secs(30));
            self.now = wake;
            self.send();
            // What has become too large meanwhile is found when it would have left.
            let known = self.known.len();
            self.quarantine(0);
            let more = self.known.len() > known || self.lanes.wake_at(self.now).is_some();
            assert!(!self.out.is_empty() || more, "woken for nothing");
        }
    }

    fn wants_more(&self, reader: ReaderId) -> bool {
        self.lanes.wants(reader).is_some_and(|(after, until)| after < until && after < self.log_end())
    }

    fn check(&mut self) {
        let watermark = self.lanes.watermark();
        let passed = self.ids(watermark.frame).skip_while(|id| id.0 <= self.checked.0);
        passed.for_each(|id| assert!(self.finished.contains(&id), "low passed {id:?}, unfinished"));
        self.checked = watermark.frame;
        let position = (1..=watermark.frame.0).rev().find_map(transaction).map(|of| of.commit);
        assert_eq!(watermark.position.map(|position| position.commit), position);
        // Of each reader a frame more than the limit may be admitted, and a new reader finds the main's window full, and an answered request's bytes are gone.
        let bound = self.limits.window_bytes * 11 / 8 + 4 * 5 * 1100;
        assert!(self.lanes.window_bytes() <= bound, "{} bytes", self.lanes.window_bytes());
        let live = self.live.load(Ordering::Relaxed);
        assert!(live <= self.lanes.window_bytes(), "{live} bytes live in {}", self.lanes.window_bytes());
    }

    fn check_end(&self) {
        let all: HashSet<Id> = self.ids(self.log_end()).collect();
        assert_eq!(self.ever_seen, all, "everything appears");
        let mut counts = Counts::new();
        for id in &all {
            count(&mut counts, self.written(*id), true, self.outcomes.get(id).copied());
        }
        assert_eq!(self.counts, counts, "the counts balance");
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
