//! The window of `sink::lanes` against a stream that never was, in a time of its own: what takes a minute passes in a
//! moment, and nothing depends on how busy the machine is.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::time::Duration;

use bytes::Bytes;
use forebay::event::{KeyHash, RecordKind};
use forebay::position::FrameNo;
use forebay::sink::lanes::{Admission, Frame, Lanes, Start};
use forebay::sink::request::{Limits, Ticket};
use forebay::sink::{Answer, PutError};
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
    now: Instant,
    lanes: Lanes,
    service: Service,
    load: Load,
    rtt: Duration,
    due: [f64; 4],
    next_go: Instant,
    /// Backlog that did not fit the window: keys in order.
    backlog: std::collections::VecDeque<(String, usize)>,
    /// By time of the answer.
    out: BinaryHeap<Reverse<(Instant, u64)>>,
    tickets: HashMap<u64, (Ticket, Vec<Answer>)>,
    requests: u64,
    frame: u64,
    keys: u64,
    /// Answers to requests are lost while this is set.
    away: bool,
    pool: Vec<Vec<String>>,
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
            now,
            service,
            load,
            due: [0.0; 4],
            next_go: now,
            backlog: Default::default(),
            out: BinaryHeap::new(),
            tickets: HashMap::new(),
            requests: 0,
            frame: 0,
            keys: 0,
            away: false,
            pool,
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
            self.lanes.admit(&frame, [Admission { kind: RecordKind::Event, hash, event_type: "t", key, line }]);
        }
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.arrive();
            while self.out.peek().is_some_and(|Reverse((at, _))| *at <= self.now) {
                let Some(Reverse((_, id))) = self.out.pop() else { break };
                let (ticket, answers) = self.tickets.remove(&id).unwrap();
                let result = if self.away { Err(PutError::Unanswered("away".into())) } else { Ok(answers) };
                self.lanes.settle(ticket, result, self.now);
            }
            while let Some(request) = self.lanes.fill(self.now) {
                self.requests += 1;
                let answers = if self.away { Vec::new() } else { self.service.put(&request.records, self.now) };
                let back = self.rtt + self.rtt.mul_f64(self.random.below(100) as f64 / 200.0);
                self.out.push(Reverse((self.now + back, self.requests)));
                self.tickets.insert(self.requests, (request.ticket, answers));
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
    let refused = done.refused as f64 / (done.accepted + done.refused) as f64;
    println!("  {:.1} % of the limit, {:.2} % refused", share * 100.0, refused * 100.0);
    assert!(share >= 0.9, "{share:.3} of the limit");
    assert!(refused < 0.05, "{refused:.3} refused");
}

fn load(rates: [f64; 4]) -> Load {
    Load { rates, size: (300, 600), every: 0.005 }
}

fn seeds() -> impl Iterator<Item = (u64, Counting)> {
    let given = std::env::var("SEED").ok().map(|seed| seed.parse().expect("SEED is a number"));
    let seeds = given.map_or(1..=6, |seed: u64| seed..=seed);
    seeds.flat_map(|seed| [(seed, Counting::Bucket), (seed, Counting::Seconds)])
}

#[test]
fn sustained_overload_of_every_shard_settles_near_the_limit_with_few_refusals() {
    for (seed, counting) in seeds() {
        let mut world = World::new(seed, counting, load([3000.0; 4]));
        world.run(Duration::from_secs(10));
        for done in world.measure(60) {
            assert_settled(done, SHARD[0], 60);
        }
    }
}
