//! Which sections leave a reader and which return: lanes with a small window, and a service of four shards or
//! one, 20 ms away.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use crate::event::{KeyHash, RecordKind};
use crate::position::{CommitSeq, FrameNo, Transaction};
use crate::sink::RecordResult;
use crate::sink::lanes::Request;
use crate::sink::lanes::{Admission, Change, Frame, Lanes, ReaderId, Start};
use crate::sink::pacing::Limits;

const STEP: Duration = Duration::from_millis(20);
const WINDOW: usize = 4 << 20;

/// Whether the service accepts a record of this lane.
type Takes = fn(&Service, lane: u8) -> bool;

/// The service and the load.
struct Service {
    shards: u8,
    /// Records that a shard accepts per step.
    limit: u32,
    taken: [u32; 4],
    /// Records that it has accepted in all.
    took: u32,
    takes: Takes,
}

impl Service {
    fn shard(&self, lane: u8) -> u8 {
        lane / 64 % self.shards
    }

    fn answer(&mut self, lane: u8) -> RecordResult {
        let shard = self.shard(lane);
        let taken = self.taken[usize::from(shard)];
        if taken >= self.limit || !(self.takes)(self, lane) {
            return RecordResult::Throttled;
        }
        self.taken[usize::from(shard)] += 1;
        self.took += 1;
        RecordResult::Accepted { sequence: "1".to_owned(), shard: format!("shardId-00000000000{shard}") }
    }
}

/// Lanes, and a log with one record in each frame.
struct Trial {
    lanes: Lanes,
    service: Service,
    key: fn(u64) -> String,
    /// Bytes of each frame in the log.
    bytes: usize,
    /// Frames in the log, and frames added per step.
    written: u64,
    rate: u64,
    out: Vec<Request>,
    now: Instant,
    changes: Vec<Change>,
    /// Steps in which the main reader was full, so that others waited.
    full: u32,
}

impl Trial {
    fn new(key: fn(u64) -> String, (backlog, rate): (u64, u64), service: Service) -> Self {
        let limits = Limits { window_bytes: WINDOW, ..Limits::default() };
        let lanes = Lanes::new(&Start::default(), limits, 1);
        let now = Instant::now();
        let (out, changes) = (Vec::new(), Vec::new());
        Self { lanes, service, key, bytes: 300, written: backlog, rate, out, now, changes, full: 0 }
    }

    fn read(&mut self) {
        for reader in self.lanes.readers() {
            while let Some((after, until)) = self.lanes.wants(reader) {
                let number = after.next();
                if number > until || number.0 > self.written {
                    break;
                }
                let key = (self.key)(number.0);
                let (hash, key) = (KeyHash::of(&key), Bytes::from(key));
                let line = Bytes::from_static(b"line\n");
                let transaction = Some(Transaction {
                    commit: CommitSeq::new(number.0),
                    xid: 1,
                    time: number.0.cast_signed(),
                });
                let frame = Frame { number, bytes: self.bytes, transaction, position: None };
                let record = Admission { kind: RecordKind::Event, hash, event_type: "t", key, line };
                self.lanes.admit_to(reader, &frame, [record]);
            }
        }
    }

    fn step(&mut self) {
        self.now += STEP;
        self.service.taken = [0; 4];
        for Request { ticket, records, .. } in std::mem::take(&mut self.out) {
            let lane = |key: &[u8]| KeyHash::of(std::str::from_utf8(key).unwrap()).lane();
            let answers = records.iter().map(|record| self.service.answer(lane(&record.key))).collect();
            drop(self.lanes.settle(ticket, Ok(answers), self.now));
        }
        self.written += self.rate;
        for _ in 0..3 {
            self.read();
            while let Some(request) = self.lanes.fill(self.now) {
                self.out.push(request);
            }
            self.lanes.rebalance(self.now);
            self.changes.append(&mut self.lanes.take_changes());
        }
        self.full += u32::from(self.lanes.wants(ReaderId::MAIN).is_none());
    }

    /// The lanes that leave within `seconds`, and after how many milliseconds the first leave.
    fn run(&mut self, seconds: u64) -> (Vec<u8>, Option<u128>) {
        let began = self.now;
        let mut first = None;
        while self.now < began + Duration::from_secs(seconds) {
            self.step();
            if !self.changes.is_empty() {
                first.get_or_insert((self.now - began).as_millis());
            }
        }
        let left = |change| match change {
            Change::Detached { lanes, .. } => lanes,
            Change::Back { .. } => Vec::new(),
        };
        let mut left: Vec<u8> = std::mem::take(&mut self.changes).into_iter().flat_map(left).collect();
        left.sort_unstable();
        (left, first)
    }
}

fn service(shards: u8, limit: u32, takes: Takes) -> Service {
    Service { shards, limit, taken: [0; 4], took: 0, takes }
}

fn many(frame: u64) -> String {
    format!("k{}", frame * 7919 % 2000)
}

fn few(frame: u64) -> String {
    format!("k{}", frame % 20)
}

fn half_is_hot(frame: u64) -> String {
    if frame.is_multiple_of(2) { "hot".to_owned() } else { many(frame) }
}

/// Sends half of the load to the first shard.
fn skewed(frame: u64) -> String {
    let key = |salt: u64| format!("k{}", (frame * 7919 + salt) % 2000);
    let first = |key: &String| KeyHash::of(key).lane() < 64;
    if frame.is_multiple_of(2) { (0..2000).map(key).find(first).unwrap() } else { many(frame) }
}

fn hot_lane() -> Vec<u8> {
    vec![KeyHash::of("hot").lane()]
}

#[test]
fn only_lagging_lanes_are_detached() {
    const ALL: Takes = |_, _| true;
    const FIRST_REFUSES: Takes = |service, lane| service.shard(lane) != 0;
    const ONE_LANE_REFUSES: Takes = |_, lane| lane != 77;
    const NONE: Takes = |_, _| false;
    let shard = || (0..64).collect::<Vec<u8>>();
    let limit = |records| u32::try_from(records * 20 / 1000).unwrap();
    for (what, key, load, service, expected) in [
        ("a backlog of many keys", many as fn(u64) -> String, (60_000, 0), service(4, u32::MAX, ALL), vec![]),
        ("the same on shards at their limit", many, (60_000, 0), service(4, limit(1000), ALL), vec![]),
        ("the same on one shard at its limit", many, (60_000, 0), service(1, limit(1000), ALL), vec![]),
        ("few keys on one shard at its limit", few, (60_000, 0), service(1, limit(500), ALL), vec![]),
        ("few keys on one shard that takes nothing", few, (60_000, 0), service(1, u32::MAX, NONE), vec![]),
        ("a steady load", many, (0, 20), service(4, u32::MAX, ALL), vec![]),
        (
            "a shard that takes nothing, steady load",
            many,
            (0, 20),
            service(4, u32::MAX, FIRST_REFUSES),
            shard(),
        ),
        (
            "a shard that takes nothing, backlog",
            many,
            (60_000, 0),
            service(4, u32::MAX, FIRST_REFUSES),
            shard(),
        ),
        ("a shard above its limit", skewed, (0, 50), service(4, limit(1000), ALL), shard()),
        ("a lane that takes nothing", many, (0, 20), service(4, u32::MAX, ONE_LANE_REFUSES), vec![77]),
        ("a hot key", half_is_hot, (0, 20), service(4, u32::MAX, ALL), hot_lane()),
        ("a hot key's backlog", half_is_hot, (60_000, 0), service(4, u32::MAX, ALL), hot_lane()),
    ] {
        let mut trial = Trial::new(key, load, service);
        let (left, first) = trial.run(12);
        println!(
            "{what}: {} lanes left, the first after {first:?} ms, {} steps full",
            left.len(),
            trial.full
        );
        assert!(left.iter().all(|lane| expected.contains(lane)), "{what}: {left:?} left");
        assert!(left.len() * 10 >= expected.len() * 9, "{what}: only {left:?} of {expected:?}");
        if load.1 > 0 {
            assert_eq!(trial.full, 0, "{what}: the others were kept waiting");
        } else if let Some(first) = first {
            assert!(first <= 2_000, "{what}: only after {first} ms");
        }
    }
}

#[test]
fn restart_with_stuck_lane_continues_the_others() {
    const FIRST_REFUSES: Takes = |service, lane| service.shard(lane) != 0;
    let mut trial = Trial::new(many, (10_000, 0), service(4, u32::MAX, FIRST_REFUSES));
    // So few frames behind that no lane is detached at the start, and so large that the window is full before
    // the others continue.
    let published = FrameNo(3_000);
    let start = Start { lanes: (64..=255).map(|lane| (lane, published)).collect(), ..Start::default() };
    trial.bytes = 3_000;
    trial.lanes = Lanes::new(&start, Limits { window_bytes: WINDOW, ..Limits::default() }, 1);
    assert_eq!(trial.lanes.readers(), [ReaderId::MAIN]);
    let (left, first) = trial.run(12);
    println!("{} lanes left, the first after {first:?} ms", left.len());
    assert!(left.iter().all(|lane| *lane < 64) && left.len() > 57, "{left:?}");
}

#[test]
fn detached_lane_returns_when_it_keeps_up() {
    let mut trial = Trial::new(many, (0, 20), service(4, u32::MAX, |service, lane| service.shard(lane) != 0));
    let (left, _) = trial.run(15);
    let lag = trial.lanes.behind();
    assert!(!left.is_empty() && lag.lanes == left.len() && lag.frames > 10_000, "{lag:?}");
    assert!(lag.oldest.is_some_and(|oldest| oldest < 1_000), "{lag:?}");
    assert!(
        trial.lanes.readers().contains(&ReaderId::AUDIT) && trial.lanes.watermark().frame < FrameNo(1_000)
    );
    trial.service.takes = |_, _| true;
    assert_eq!(trial.run(30).0, Vec::<u8>::new(), "no lane leaves again");
    assert_eq!(
        (trial.lanes.readers(), trial.lanes.behind()),
        (vec![ReaderId::MAIN], crate::sink::lanes::Lag::default())
    );
    trial.rate = 0;
    trial.run(1);
    assert!(trial.lanes.is_empty() && trial.lanes.watermark().frame == FrameNo(trial.written));
}

#[test]
fn recovered_shard_returns_before_earlier_stuck_one() {
    let mut trial = Trial::new(many, (0, 20), service(4, u32::MAX, |service, lane| service.shard(lane) != 0));
    trial.run(15);
    trial.service.takes = |service, lane| service.shard(lane) > 1;
    trial.run(15);
    assert!(trial.lanes.behind().lanes > 120, "{:?}", trial.lanes.behind());
    trial.service.takes = |service, lane| service.shard(lane) != 0;
    trial.run(60);
    let (behind, _) = trial.lanes.detached().unwrap();
    assert!(behind.iter().all(|lane| *lane < 64) && behind.len() > 57, "{behind:?}");
}

#[test]
fn window_full_of_stuck_shard_at_start_delays_no_other() {
    /// A bulk load into the first shard, then an even load.
    fn bulk(frame: u64) -> String {
        let first = |key: &String| KeyHash::of(key).lane() < 64;
        if frame > 5_000 {
            return many(frame);
        }
        (0..2000).map(|salt| format!("k{}", (frame * 7919 + salt) % 2000)).find(first).unwrap()
    }
    let mut trial =
        Trial::new(bulk, (12_000, 0), service(4, u32::MAX, |service, lane| service.shard(lane) != 0));
    trial.bytes = 3_000;
    let (left, first) = trial.run(90);
    println!("{} lanes left, the first after {first:?} ms", left.len());
    assert!(left.iter().all(|lane| *lane < 64) && left.len() > 57, "{left:?}");
    assert!(trial.service.took > 4_000, "only {} were taken", trial.service.took);
}
