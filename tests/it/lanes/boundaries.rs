//! Shards whose boundaries are anywhere, one of which takes nothing: every key of the others keeps leaving, those in the lanes that
//! it shares too. In a time of its own.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use forebay::event::{KeyHash, RecordKind};
use forebay::sink::RecordResult;
use forebay::sink::lanes::{Admission, Detail, Frame, Lanes, Request, Start};
use forebay::sink::pacing::Limits;
use tokio::time::Instant;

use super::means::Random;
use super::shards::Shards;

const STEP: Duration = Duration::from_millis(10);
const ROUND_TRIP: Duration = Duration::from_millis(20);
/// Records of a step.
const RATE: usize = 10;
const KEYS: usize = 8_000;

struct World {
    random: Random,
    keys: Vec<KeyHash>,
    shards: Shards,
    /// Hashes of which nothing is taken.
    stuck: Option<(u64, u64)>,
    lanes: Lanes,
    limits: Limits,
    now: Instant,
    /// Keys in order, and when they were written.
    log: Vec<(KeyHash, Instant)>,
    out: VecDeque<(Instant, Request)>,
    /// When each frame came first.
    came: HashMap<u64, Instant>,
    /// The last frame of each key that came.
    last: HashMap<KeyHash, u64>,
    /// Records of keys that are taken which came once more.
    repeats: usize,
}

impl World {
    fn new(seed: u64, shards: Shards) -> Self {
        let mut random = Random(seed);
        let keys = (0..KEYS).map(|_| KeyHash(random.hash())).collect();
        let limits = Limits::default();
        Self {
            random,
            keys,
            shards,
            stuck: None,
            lanes: Lanes::new(&Start::default(), limits, seed),
            limits,
            now: Instant::now(),
            log: Vec::new(),
            out: VecDeque::new(),
            came: HashMap::new(),
            last: HashMap::new(),
            repeats: 0,
        }
    }

    fn is_stuck(&self, hash: KeyHash) -> bool {
        self.stuck.is_some_and(|(first, last)| (first..=last).contains(&hash.0))
    }

    fn answer(&mut self, key: &[u8], data: &[u8]) -> RecordResult {
        let hash = KeyHash(u64::from_str_radix(std::str::from_utf8(key).unwrap(), 16).unwrap());
        if self.is_stuck(hash) {
            return RecordResult::Throttled;
        }
        let frame: u64 = std::str::from_utf8(data).unwrap().trim_end().parse().unwrap();
        if self.came.insert(frame, self.now).is_some() {
            self.repeats += 1;
        } else {
            let last = self.last.insert(hash, frame);
            assert!(last.is_none_or(|last| last < frame), "{frame} came after {last:?}");
        }
        RecordResult::Accepted { sequence: frame.to_string(), shard: self.shards.id_of(hash.0) }
    }

    fn read(&mut self) {
        for reader in self.lanes.readers() {
            while let Some((after, until)) = self.lanes.wants(reader) {
                let number = after.next();
                if number > until || number.0 > self.log.len() as u64 {
                    break;
                }
                let (hash, _) = self.log[usize::try_from(number.0 - 1).unwrap()];
                let (key, line) = (format!("{:016x}", hash.0), format!("{}\n", number.0));
                let frame = Frame { number, bytes: 2_000, ..Frame::default() };
                let (kind, event_type) = (RecordKind::Event, "t");
                let record = Admission { kind, hash, event_type, key: key.into(), line: Bytes::from(line) };
                self.lanes.admit_to(reader, &frame, [record]);
            }
        }
    }

    fn step(&mut self) {
        self.now += STEP;
        while self.out.front().is_some_and(|(at, _)| *at <= self.now) {
            let (_, Request { ticket, records, .. }) = self.out.pop_front().unwrap();
            let answers = records.iter().map(|record| self.answer(&record.key, &record.data)).collect();
            drop(self.lanes.settle(ticket, Ok(answers), self.now));
        }
        for _ in 0..RATE {
            let key = usize::try_from(self.random.below(self.keys.len() as u64)).unwrap();
            self.log.push((self.keys[key], self.now));
        }
        self.read();
        while let Some(request) = self.lanes.fill(self.now) {
            self.out.push_back((self.now + ROUND_TRIP, request));
        }
        self.lanes.rebalance(self.now);
        self.lanes.take_changes();
        let bound = self.limits.window_bytes * 11 / 8;
        assert!(self.lanes.window_bytes() <= bound, "{} bytes", self.lanes.window_bytes());
    }

    fn run(&mut self, seconds: u64) {
        let end = self.now + Duration::from_secs(seconds);
        while self.now < end {
            self.step();
        }
    }

    /// How long any record from this one on has waited that is taken.
    fn longest_wait(&self, from: usize) -> Duration {
        let frames = (1u64..).zip(&self.log).skip(from);
        let taken = frames.filter(|(_, (hash, _))| !self.is_stuck(*hash));
        let waits = taken.map(|(frame, (_, at))| *self.came.get(&frame).unwrap_or(&self.now) - *at);
        waits.max().unwrap_or_default()
    }

    /// Everything comes, of all shards.
    fn assert_drains(&mut self) {
        self.stuck = None;
        let (last, end) = (self.log.len() as u64, self.now + Duration::from_mins(2));
        let missing = |world: &Self| (1..=last).filter(|frame| !world.came.contains_key(frame)).count();
        while self.lanes.readers().len() > 1 || missing(self) > 0 {
            assert!(self.now < end, "{} of {last} are missing", missing(self));
            self.run(5);
        }
    }
}

/// Equal shards, of which only some begin at a 256th, and uneven ones.
fn streams() -> Vec<(String, Shards)> {
    let equal = [1, 3, 7, 12, 100, 512].map(|count| (format!("{count} equal shards"), Shards::equal(count)));
    let mut random = Random(5);
    let uneven = [4, 30].map(|count| (format!("{count} uneven shards"), Shards::uneven(count, &mut random)));
    equal.into_iter().chain(uneven).collect()
}

#[test]
fn neighbours_of_stuck_shard_in_its_lanes_do_not_wait() {
    for (what, shards) in streams() {
        let mut world = World::new(11, shards);
        world.run(8);
        let (began, from) = (world.now, world.log.len());
        world.stuck = Some(world.shards.range_of(0x5432_1000_0000_0000));
        world.run(40);
        let wait = world.longest_wait(from);
        println!("{what}: the others waited for {wait:?} at most in {:?}", world.now - began);
        assert!(wait <= Duration::from_millis(500), "{what}: {wait:?}");
        world.assert_drains();
    }
}

#[test]
fn restart_beside_stuck_shard_repeats_nothing_of_neighbours() {
    for (what, shards) in streams().into_iter().skip(1) {
        let mut world = World::new(12, shards);
        world.run(8);
        world.stuck = Some(world.shards.range_of(0x5432_1000_0000_0000));
        world.run(40);
        let progress = world.lanes.progress(Detail::Lanes);
        let start = Start {
            watermark: progress.watermark,
            last_seen: None,
            lanes: progress.lanes,
            parts: progress.parts,
            acknowledged: Vec::new(),
        };
        // What is under way is lost: it had not reached the service.
        let lost: usize = world.out.drain(..).map(|(_, request)| request.records.len()).sum();
        world.lanes = Lanes::new(&start, world.limits, 1);
        let from = world.log.len();
        world.run(40);
        let wait = world.longest_wait(from);
        println!("{what}: {lost} lost, {} came twice, the others waited for {wait:?}", world.repeats);
        // Of what a lane has published beyond its first unfinished record nothing is noted.
        assert!(world.repeats <= lost + RATE, "{what}: {} came twice", world.repeats);
        assert!(wait <= Duration::from_secs(5), "{what}: {wait:?}");
        world.assert_drains();
    }
}

#[test]
fn resharding_beside_stuck_shard_delays_no_other() {
    for seed in 1..=6 {
        let mut world = World::new(seed, Shards::equal([3, 7, 100][usize::try_from(seed % 3).unwrap()]));
        world.run(8);
        let stuck = world.shards.range_of(0x5432_1000_0000_0000);
        world.stuck = Some(stuck);
        world.run(20);
        let from = world.log.len();
        for _ in 0..10 {
            world.shards.split_or_merge(&mut world.random, stuck);
            world.run(6);
        }
        let wait = world.longest_wait(from);
        println!("seed {seed}: the others waited for {wait:?}");
        assert!(wait <= Duration::from_secs(1), "seed {seed}: {wait:?}");
        world.assert_drains();
    }
}
