//! Records whose requests get no response, so that each attempt costs its time-out; in a time of its own. They must not keep
//! other keys waiting, however many they are.

use std::collections::HashMap;
use std::time::Duration;

use forebay::sink::PutError;
use forebay::sink::lanes::{Frame, Lanes, Request, Start};
use forebay::sink::pacing::Limits;
use tokio::time::Instant;

use super::means::Random;
use super::{accepted, event, frame};

const STEP: Duration = Duration::from_millis(20);

struct World {
    lanes: Lanes,
    now: Instant,
    frames: u64,
    /// Key, and when it was admitted.
    waiting: HashMap<String, Instant>,
    silent: Vec<String>,
    out: Vec<(Request, Instant)>,
    slowest: Duration,
    late: usize,
}

impl World {
    fn new(seed: u64) -> Self {
        Self {
            lanes: Lanes::new(&Start::default(), Limits::default(), seed),
            now: Instant::now(),
            frames: 0,
            waiting: HashMap::new(),
            silent: Vec::new(),
            out: Vec::new(),
            slowest: Duration::ZERO,
            late: 0,
        }
    }

    fn admit(&mut self, key: String) {
        self.frames += 1;
        self.lanes.admit(&Frame { bytes: 20, ..frame(self.frames) }, [event(&key, "line\n")]);
        self.waiting.insert(key, self.now);
    }

    fn is_silent(&self, request: &Request) -> bool {
        let key = |key: &[u8]| String::from_utf8(key.to_vec()).unwrap();
        request.records.iter().any(|record| self.silent.contains(&key(&record.key)))
    }

    fn settle(&mut self, request: Request) {
        if self.is_silent(&request) {
            drop(self.lanes.settle(request.ticket, Err(PutError::NoResponse("time-out".into())), self.now));
            return;
        }
        for record in &request.records {
            let key = String::from_utf8(record.key.to_vec()).unwrap();
            if let Some(since) = self.waiting.remove(&key) {
                let took = self.now - since;
                self.slowest = self.slowest.max(took);
                self.late += usize::from(took > Duration::from_secs(25));
            }
        }
        let answers = vec![accepted(); request.records.len()];
        drop(self.lanes.settle(request.ticket, Ok(answers), self.now));
    }

    /// Runs for so long, with new keys of other rows all the time.
    fn run(&mut self, time: Duration, new_keys: usize) {
        let end = self.now + time;
        while self.now < end {
            self.now += STEP;
            for n in 0..new_keys {
                self.admit(format!("new {} {n}", self.frames));
            }
            let (over, out): (Vec<_>, Vec<_>) =
                std::mem::take(&mut self.out).into_iter().partition(|(_, until)| *until <= self.now);
            self.out = out;
            for (request, _) in over {
                self.settle(request);
            }
            while let Some(request) = self.lanes.fill(self.now) {
                let takes = if self.is_silent(&request) { request.timeout } else { STEP };
                self.out.push((request, self.now + takes));
            }
            self.lanes.rebalance(self.now);
        }
    }

    fn healthy_waiting(&self) -> usize {
        self.waiting.keys().filter(|key| !self.silent.contains(key)).count()
    }
}

/// However many keys are silent: what was sent with them leaves within some time-outs, also once all of them are known and are
/// tried again and again. When they get responses they leave, too.
#[test]
fn silent_keys_delay_others_by_few_time_outs() {
    for (seed, count) in [(1, 1), (2, 16), (3, 24), (4, 64)] {
        let (mut world, mut random) = (World::new(seed), Random(seed));
        world.silent = (0..count).map(|_| format!("k{}", random.below(1000))).collect();
        (0..1000).for_each(|n| world.admit(format!("k{n}")));
        let mut waits = Vec::new();
        for _ in 0..6 {
            world.run(Duration::from_secs(20), 1);
            waits.push(world.healthy_waiting());
        }
        let first = (world.slowest, world.late);
        (world.slowest, world.late) = (Duration::ZERO, 0);
        // One more key, with others: their request fails once more.
        for round in 0..4 {
            world.silent.push(format!("late {round}"));
            (0..100).for_each(|n| world.admit(format!("with {round} {n}")));
            world.admit(format!("late {round}"));
            world.run(Duration::from_mins(1), 1);
        }
        println!(
            "seed {seed}, {count} silent: {first:?}, waiting {waits:?}; later {:?} {}",
            world.slowest, world.late
        );
        assert!(first.0 < Duration::from_secs(if count > 24 { 110 } else { 65 }), "{first:?}");
        assert!(count > 24 || world.late == 0, "{} late, {:?}", world.late, world.slowest);
        // Nobody reads for catch-up readers here.
        assert_eq!(world.lanes.behind().lanes, 0);
        world.silent.clear();
        world.run(Duration::from_mins(8), 0);
        assert!(world.waiting.is_empty() && world.lanes.is_empty(), "{:?}", world.waiting);
    }
}
