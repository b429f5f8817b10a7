//! The window of `sink::lanes` against a stream that never was, in a time of its own: what takes a minute passes in a
//! moment, and nothing depends on how busy the machine is.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use forebay::event::{KeyHash, RecordKind};
use forebay::position::FrameNo;
use forebay::sink::lanes::Ticket;
use forebay::sink::lanes::{Admission, Change, Frame, Lanes, Start};
use forebay::sink::pacing::Limits;
use forebay::sink::rate::Summary;
use forebay::sink::{PutError, RecordResult};
use tokio::time::Instant;

use super::service::{Counting, Done, SHARD, Service};
use crate::support::random::Random;

/// The window's bytes of log, as in the daemon.
const WINDOW: usize = 16 << 20;
/// Distance of two looks at the clock when nothing else happens.
const TICK: Duration = Duration::from_millis(1);

/// What arrives, in records a second.
#[derive(Clone, Copy, Debug)]
struct Load {
    /// For each shard of the first ones.
    rates: [f64; 4],
    /// Bytes of a record, least and most.
    size: (usize, usize),
    /// Arrives in goes of so many seconds.
    every: f64,
}

struct World {
    random: Random,
    began: Instant,
    now: Instant,
    lanes: Lanes,
    service: Service,
    load: Load,
    rtt: Duration,
    due: [f64; 4],
    next_go: Instant,
    /// Backlog that did not fit the window: keys in order.
    backlog: VecDeque<(String, usize)>,
    /// By time of the answer.
    out: BinaryHeap<Reverse<(Instant, u64)>>,
    tickets: HashMap<u64, (Ticket, Vec<RecordResult>)>,
    requests: u64,
    records: u64,
    frame: u64,
    keys: u64,
    /// Answers to requests are lost while this is set.
    away: bool,
    pool: Vec<Vec<String>>,
    /// Whether lanes may be detached, and what was.
    isolates: bool,
    changes: Vec<Change>,
}

impl World {
    fn new(seed: u64, counting: Counting, load: Load) -> Self {
        println!("SEED={seed} {counting:?} {load:?}");
        let mut random = Random::new(seed);
        let service = Service::new(counting, 4);
        // Many keys of each shard, so that none of them is the bottleneck.
        let mut pool = vec![Vec::new(); 4];
        for n in 0..80_000 {
            let key = format!("k{n}");
            pool[service.shard_of(&key)].push(key);
        }
        let now = Instant::now();
        Self {
            lanes: Lanes::new(&Start::default(), Limits::default(), seed),
            rtt: Duration::from_millis(5 + random.below(60) as u64),
            random,
            began: now,
            now,
            service,
            load,
            due: [0.0; 4],
            next_go: now,
            backlog: VecDeque::default(),
            out: BinaryHeap::new(),
            tickets: HashMap::new(),
            requests: 0,
            records: 0,
            frame: 0,
            keys: 0,
            away: false,
            pool,
            isolates: false,
            changes: Vec::new(),
        }
    }

    fn arrive(&mut self) {
        while self.next_go <= self.now {
            let every = self.load.every;
            let mut records = Vec::new();
            for shard in 0..4 {
                self.due[shard] += self.load.rates[shard] * every;
                let count = self.due[shard] as usize;
                self.due[shard] -= count as f64;
                for _ in 0..count {
                    let pool = &self.pool[shard];
                    let key = pool[self.keys as usize % pool.len()].clone();
                    self.keys += 1;
                    let (least, most) = self.load.size;
                    records.push((key, least + self.random.below(most - least + 1)));
                }
            }
            // A fair mixture, as many writers make it.
            for place in (1..records.len()).rev() {
                records.swap(place, self.random.below(place + 1));
            }
            self.backlog.extend(records);
            self.next_go += Duration::from_secs_f64(every);
        }
        // Ingest does not outrun memory here either.
        while self.lanes.window_bytes() < WINDOW
            && let Some((key, size)) = self.backlog.pop_front()
        {
            self.frame += 1;
            let line = Bytes::from(vec![b'x'; size.saturating_sub(key.len())]);
            let frame = Frame { number: FrameNo(self.frame), bytes: size + 100, ..Frame::default() };
            let (hash, key) = (KeyHash::of(&key), Bytes::from(key));
            self.lanes
                .admit(&frame, [Admission { kind: RecordKind::Event, hash, event_type: "t", key, line }]);
        }
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.arrive();
            while self.out.peek().is_some_and(|Reverse((at, _))| *at <= self.now) {
                let Some(Reverse((_, id))) = self.out.pop() else { break };
                let (ticket, answers) = self.tickets.remove(&id).unwrap();
                let result = if self.away { Err(PutError::NoResponse("away".into())) } else { Ok(answers) };
                let outcome = self.lanes.settle(ticket, result, self.now);
                if std::env::var_os("OVERLOAD_CUTS").is_some() {
                    outcome.cuts.iter().for_each(|cut| println!("{:?} {cut:?}", self.now - self.began));
                }
            }
            while let Some(request) = self.lanes.fill(self.now) {
                self.requests += 1;
                self.records += request.records.len() as u64;
                let answers =
                    if self.away { Vec::new() } else { self.service.put(&request.records, self.now) };
                let back = self.rtt + self.rtt.mul_f64(self.random.below(100) as f64 / 200.0);
                self.out.push(Reverse((self.now + back, self.requests)));
                self.tickets.insert(self.requests, (request.ticket, answers));
            }
            if self.isolates && self.lanes.rebalance(self.now) {
                self.changes.extend(self.lanes.take_changes());
            }
            self.now += TICK;
        }
    }

    /// Runs, and says what each shard took and refused a second.
    fn measure(&mut self, seconds: u64) -> Vec<Done> {
        self.service.take();
        self.run(Duration::from_secs(seconds));
        let done = self.service.take();
        println!("{seconds} s: {done:?}; rates {:?}", self.lanes.rates(self.now));
        done
    }
}

/// Whether a shard took at least 90 % of `limit` records in so many seconds, and refused less than 5 % of what it was asked.
#[track_caller]
fn assert_settled(done: Done, limit: f64, seconds: u64) {
    let share = done.accepted as f64 / (limit * seconds as f64);
    let refused = done.refused_share();
    println!("  {:.1} % of the limit, {:.2} % refused", share * 100.0, refused * 100.0);
    assert!(share >= 0.9, "{share:.3} of the limit");
    assert!(refused < 0.05, "{refused:.3} refused");
}

fn load(rates: [f64; 4]) -> Load {
    Load { rates, size: (300, 600), every: 0.005 }
}

/// `SEED=n` alone, or the first ones, under both ways to count.
fn worlds(load: Load) -> impl Iterator<Item = World> {
    let given = std::env::var("SEED").ok().map(|seed| seed.parse().expect("SEED is a number"));
    let seeds = given.map_or(1..=1, |seed: u64| seed..=seed);
    let both = |seed| [(seed, Counting::Bucket), (seed, Counting::Seconds)];
    seeds.flat_map(both).map(move |(seed, counting)| World::new(seed, counting, load))
}

#[test]
fn sustained_overload_settles_near_limit() {
    for mut world in worlds(load([2500.0; 4])) {
        world.run(Duration::from_secs(8));
        for done in world.measure(20) {
            assert_settled(done, SHARD[0], 20);
        }
    }
}

#[test]
fn byte_limited_shard_settles_near_limit() {
    for mut world in worlds(Load { rates: [120.0; 4], size: (5_000, 45_000), every: 0.005 }) {
        world.run(Duration::from_secs(10));
        let before: Vec<f64> = world.service.bytes();
        for (done, (before, after)) in
            world.measure(30).into_iter().zip(before.into_iter().zip(world.service.bytes()))
        {
            let (share, refused) = ((after - before) / (SHARD[1] * 30.0), done.refused_share());
            println!("  {:.1} % of the bytes, {:.2} % refused", share * 100.0, refused * 100.0);
            assert!(share >= 0.9 && refused < 0.05, "{share:.3} of the bytes, {refused:.3} refused");
        }
    }
}

#[test]
fn overloaded_shard_does_not_slow_others_in_same_requests() {
    for mut world in worlds(load([300.0, 1500.0, 300.0, 300.0])) {
        world.run(Duration::from_secs(6));
        let requests = world.requests;
        let done = world.measure(15);
        assert_settled(done[1], SHARD[0], 15);
        for shard in [0, 2, 3] {
            assert_eq!(done[shard].refused, 0, "shard {shard}");
            let share = done[shard].accepted as f64 / (300.0 * 15.0);
            assert!((0.95..1.05).contains(&share), "shard {shard} takes {share:.3} of what arrives");
        }
        // One in 5 ms at most, which is the distance of requests that are not full.
        let a_second = (world.requests - requests) / 15;
        assert!(a_second <= 210, "{a_second} requests a second");
    }
}

#[test]
fn raised_limit_is_discovered() {
    for mut world in worlds(load([2500.0, 100.0, 100.0, 100.0])) {
        world.run(Duration::from_secs(8));
        world.service.limit(0, SHARD.map(|limit| limit * 2.0));
        world.run(Duration::from_secs(15));
        let done = world.measure(8)[0];
        assert!(done.accepted as f64 >= 0.9 * 2000.0 * 8.0, "{done:?}");
    }
}

#[test]
fn reshard_under_overload_uses_all_capacity() {
    for (shards, rate) in [(8, 1800.0), (2, 700.0), (5, 2000.0)] {
        for mut world in worlds(load([rate; 4])) {
            world.run(Duration::from_secs(8));
            world.service.reshard(shards, SHARD);
            world.run(Duration::from_secs(6));
            let done = world.measure(10);
            let total: u64 = done.iter().map(|done| done.accepted).sum();
            let refused: u64 = done.iter().map(|done| done.refused).sum();
            let limit = (rate * 4.0).min(shards as f64 * SHARD[0]) * 10.0;
            println!("  {:.1} % of {shards} shards", total as f64 / limit * 100.0);
            assert!(total as f64 >= 0.9 * limit, "{total} of {limit} by {shards} shards");
            assert!(refused as f64 <= 0.05 * total as f64, "{refused} refused, {total} accepted");
        }
    }
}

#[test]
fn sustainable_bursts_cause_few_refusals() {
    for mut world in worlds(Load { every: 4.0, ..load([700.0; 4]) }) {
        world.run(Duration::from_secs(20));
        for done in world.measure(40) {
            let share = done.accepted as f64 / (700.0 * 40.0);
            assert!(share >= 0.97, "{share:.3} of what arrives");
            assert!(done.refused_share() < 0.05, "{done:?}");
        }
    }
}

#[test]
fn recovered_shard_becomes_unlimited() {
    for mut world in worlds(load([1500.0, 100.0, 100.0, 100.0])) {
        world.run(Duration::from_secs(5));
        assert_eq!(world.lanes.rates(world.now).limited, 1);
        world.load.rates = [400.0; 4];
        world.run(Duration::from_secs(40));
        assert_eq!(world.lanes.rates(world.now), Summary::default());
        let done = world.measure(5);
        assert!(done.iter().all(|done| done.refused == 0 && done.accepted > 1800), "{done:?}");
    }
}

#[test]
fn refusing_shard_is_probed_with_backoff() {
    for mut world in worlds(load([120.0; 4])) {
        world.run(Duration::from_secs(3));
        world.service.limit(2, [0.0, 0.0]);
        world.run(Duration::from_secs(15));
        let done = world.measure(20);
        // A hold of 2.5 s at least, after the first ones.
        assert!(done[2].accepted == 0 && (4..=9).contains(&done[2].refused), "{done:?}");
        assert!([0, 1, 3].iter().all(|&shard| done[shard].accepted > 2200), "{done:?}");
        world.service.limit(2, SHARD);
        // It is noticed within 5 s, and its backlog of 35 s leaves at full speed.
        let done = world.measure(12)[2];
        assert!(done.accepted as f64 >= 0.98 * 120.0 * (35.0 + 12.0), "{done:?}");
    }
}

#[test]
fn all_shards_refusing_cause_few_requests() {
    for mut world in worlds(load([1000.0; 4])) {
        world.run(Duration::from_secs(3));
        (0..4).for_each(|shard| world.service.limit(shard, [0.0, 0.0]));
        world.run(Duration::from_secs(15));
        let requests = world.requests;
        world.run(Duration::from_secs(30));
        let count = world.requests - requests;
        assert!(
            (8..=60).contains(&count),
            "{count} requests in 30 s of four shards held for 2.5 to 5 s each"
        );
    }
}

#[test]
fn unavailable_service_is_probed_by_one_record() {
    for mut world in worlds(load([1000.0; 4])) {
        world.run(Duration::from_secs(3));
        world.away = true;
        world.run(Duration::from_secs(1));
        let (requests, records) = (world.requests, world.records);
        world.run(Duration::from_mins(5));
        let count = world.requests - requests;
        // 0.1 s doubled up to 30 s, each between half and all of it, and the time of an answer.
        assert!((9..=28).contains(&count), "{count} requests in five minutes");
        assert_eq!(world.records - records, count, "each of a single record");
        world.away = false;
        world.run(Duration::from_secs(40));
        assert!(world.measure(5).iter().all(|done| done.accepted > 4000), "it comes back");
    }
}

/// After an outage the bytes in flight begin small again, and shards get as much as they take: every key is as slow as the
/// others, and no lane leaves them.
#[test]
fn backlog_after_outage_detaches_no_lane() {
    for keys in [500, 5_000] {
        for mut world in worlds(Load { size: (800, 1_200), ..load([0.0; 4]) }) {
            world.isolates = true;
            world.away = true;
            world.rtt = Duration::from_millis(20);
            let keys: Vec<_> = world.pool.iter().flat_map(|pool| pool.iter().take(keys).cloned()).collect();
            world.backlog = (0..40_000).map(|n| (keys[n * 7 % keys.len()].clone(), 1_000)).collect();
            world.run(Duration::from_secs(20));
            world.away = false;
            let mut seconds = 0;
            while !world.lanes.is_empty() || !world.backlog.is_empty() {
                world.run(Duration::from_secs(1));
                seconds += 1;
                assert!(seconds < 120, "no end in sight");
            }
            println!("{} keys: {seconds} s; {:?}", keys.len(), world.changes);
            assert_eq!(world.changes, []);
        }
    }
}
