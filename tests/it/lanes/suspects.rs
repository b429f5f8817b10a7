//! A request that fails as a whole because of one record in it.

use std::collections::BTreeSet;
use std::time::Duration;

use forebay::event::KeyHash;
use forebay::position::{FrameNo, Transaction};
use forebay::sink::PutError;
use forebay::sink::lanes::{Cause, DeadReason, Frame, Lanes, Start};
use forebay::sink::pacing::Limits;
use tokio::time::Instant;

use super::{accepted, event, frame};

/// What the service does with a request that holds the poison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fails {
    Silent,
    Refused,
    Invalid,
}

struct World {
    lanes: Lanes,
    now: Instant,
    began: Instant,
    fails: Fails,
    poisons: Vec<String>,
    /// Whether requests without a poison fail as well.
    away: bool,
    /// Of all other requests only each so many is accepted; 0: each.
    answers_one_in: u32,
    accepted: BTreeSet<String>,
    /// When the last healthy record was accepted for the first time.
    last: Duration,
    requests: u32,
    failed: u32,
    largest_failed: usize,
    /// What failed requests have shown.
    causes: Vec<Cause>,
    letters: Vec<(FrameNo, DeadReason)>,
    frames: u64,
}

impl World {
    fn new(fails: Fails, poisons: &[&str]) -> Self {
        let now = Instant::now();
        Self {
            lanes: Lanes::new(&Start::default(), Limits::default(), 1),
            now,
            began: now,
            fails,
            poisons: poisons.iter().map(|key| (*key).to_owned()).collect(),
            away: false,
            answers_one_in: 0,
            accepted: BTreeSet::new(),
            last: Duration::ZERO,
            requests: 0,
            failed: 0,
            largest_failed: 0,
            causes: Vec::new(),
            letters: Vec::new(),
            frames: 0,
        }
    }

    fn admit(&mut self, keys: impl IntoIterator<Item = String>) {
        for key in keys {
            self.frames += 1;
            let line = format!("{key} {}\n", self.frames);
            let transaction = Some(Transaction::default());
            let frame = Frame { bytes: 1000, transaction, ..frame(self.frames) };
            self.lanes.admit(&frame, [event(&key, &line)]);
        }
    }

    fn error(&self) -> PutError {
        let text = "by the test".to_owned();
        match self.fails {
            Fails::Silent => PutError::NoResponse(text.into()),
            Fails::Refused => PutError::Refused(text.into()),
            Fails::Invalid => PutError::Invalid(text.into()),
        }
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            while let Some(request) = self.lanes.fill(self.now) {
                self.requests += 1;
                let key = |key: &[u8]| String::from_utf8(key.to_vec()).unwrap();
                let keys: Vec<_> = request.records.iter().map(|record| key(&record.key)).collect();
                let brownout = self.answers_one_in > 0 && !self.requests.is_multiple_of(self.answers_one_in);
                let bad = self.away || brownout || keys.iter().any(|key| self.poisons.contains(key));
                let result = if bad {
                    self.failed += 1;
                    self.largest_failed = keys.len();
                    Err(self.error())
                } else {
                    self.accepted.extend(keys.iter().cloned());
                    if !request.ticket.is_control() {
                        self.last = self.now - self.began;
                    }
                    Ok(vec![accepted(); keys.len()])
                };
                let settlement =
                    self.lanes.settle(request.ticket, result, self.now + Duration::from_millis(1));
                self.causes.extend(settlement.error.map(|_| settlement.cause));
            }
            while let Some(dead) = self.lanes.next_dead_letter() {
                self.letters.push((dead.frame, dead.reason));
                self.lanes.finish(dead.frame, dead.part);
            }
            self.lanes.rebalance(self.now);
            let wake = self.lanes.wake_at(self.now).unwrap_or(end).min(self.now + Duration::from_millis(250));
            self.now = wake.max(self.now + Duration::from_millis(2));
        }
    }
}

fn keys(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("k{n}")).collect()
}

/// Whatever the failure: everything else leaves within seconds, after some twenty requests, and the key alone waits.
#[test]
fn poison_holds_only_its_own_key() {
    for fails in [Fails::Silent, Fails::Refused, Fails::Invalid] {
        for at in [0, 250, 499, 700] {
            let mut world = World::new(fails, &["k7"]);
            let mut all = keys(1000);
            all.swap(7, at);
            world.admit(all);
            world.run(Duration::from_secs(9));
            println!(
                "{fails:?} at {at}: {} requests, {} failed, last {:?}",
                world.requests, world.failed, world.last
            );
            assert_eq!(world.accepted.len(), 999, "{fails:?} at {at}");
            assert!(world.last < Duration::from_secs(2), "{fails:?} at {at}: {:?}", world.last);
            assert_eq!(world.largest_failed, 1);
            assert!(world.letters.is_empty());
            world.admit(keys(1000));
            world.run(Duration::from_millis(1));
            assert!(world.lanes.watermark().frame < FrameNo(1000));
        }
    }
}

/// Once a record is known to fail alone, its failures do not count against the stream, however rarely others are sent; without
/// others they leave it open whose they are.
#[test]
fn lone_failures_are_not_the_streams() {
    for (fails, traffic, expected) in [
        (Fails::Silent, 1, Cause::Record),
        (Fails::Invalid, 1, Cause::Record),
        (Fails::Refused, 1, Cause::Record),
        (Fails::Silent, 0, Cause::Unknown),
    ] {
        let mut world = World::new(fails, &["k7"]);
        world.admit(keys(20));
        world.run(Duration::from_secs(9));
        assert_eq!(world.causes.iter().filter(|cause| **cause == Cause::Stream).count(), 1, "{fails:?}");
        world.causes.clear();
        for second in 0..120 {
            if traffic > 0 {
                world.admit([format!("other {second}")]);
            }
            world.run(Duration::from_secs(1));
        }
        let late = world.causes.split_off(1);
        assert!(late.len() > 2 || fails == Fails::Invalid, "{fails:?}: {late:?}");
        assert!(late.iter().all(|cause| *cause == expected), "{fails:?}: {late:?}");
    }
}

/// The events of the poison's own key keep their order: nothing of it leaves before it does.
#[test]
fn healed_poison_leaves_before_its_successors() {
    let mut world = World::new(Fails::Silent, &["k7"]);
    world.admit(keys(20));
    world.admit(["k7".to_owned(), "k8".to_owned()]);
    world.run(Duration::from_mins(1));
    assert_eq!(world.accepted.len(), 19);
    world.poisons.clear();
    world.run(Duration::from_mins(1));
    assert!(world.lanes.is_empty() && world.letters.is_empty());
}

#[test]
fn many_poisons_do_not_stop_the_others() {
    let poisons: Vec<_> = (0..50).map(|n| format!("k{}", n * 17)).collect();
    let poisons: Vec<&str> = poisons.iter().map(String::as_str).collect();
    let mut world = World::new(Fails::Silent, &poisons);
    world.admit(keys(1000));
    world.run(Duration::from_secs(30));
    println!("{} requests, {} failed, last {:?}", world.requests, world.failed, world.last);
    assert_eq!(world.accepted.len(), 950);
    for round in 0..20 {
        world.admit((0..10).map(|n| format!("new {round} {n}")));
        world.run(Duration::from_secs(1));
    }
    assert_eq!(world.accepted.len(), 1150, "what is new is not kept waiting");
}

/// Only an error about the content is evidence within minutes, only against a record alone, and only while others are accepted: if
/// there are no others, a published record is sent once more.
#[test]
fn record_is_rejected_by_evidence_only() {
    for (fails, away, traffic, rejected) in [
        (Fails::Invalid, false, true, true),
        (Fails::Invalid, false, false, true),
        (Fails::Invalid, true, true, false),
        (Fails::Silent, false, true, false),
        (Fails::Refused, false, true, false),
    ] {
        let mut world = World::new(fails, &["k7"]);
        world.away = away;
        world.admit(keys(20));
        for minute in 0..600 {
            if traffic {
                world.admit([format!("other {minute}")]);
            }
            world.run(Duration::from_secs(1));
        }
        let expected: &[_] = if rejected { &[(FrameNo(8), DeadReason::Rejected)] } else { &[] };
        assert_eq!(world.letters, expected, "{fails:?} {away} {traffic}");
        assert_eq!(world.lanes.is_empty(), rejected);
    }
}

/// An outage makes suspects of everything that was out; when it is over they leave at once, and nothing is a dead letter.
#[test]
fn outage_accuses_nobody() {
    let mut world = World::new(Fails::Silent, &[]);
    world.away = true;
    world.admit(keys(5000));
    world.run(Duration::from_mins(10));
    world.away = false;
    let back = world.now - world.began;
    world.run(Duration::from_mins(1));
    assert_eq!((world.accepted.len(), world.lanes.is_empty()), (5000, true));
    assert!(world.last < back + Duration::from_secs(32), "{:?} after {back:?}", world.last);
    assert!(world.letters.is_empty());
}

/// A record that may be in the stream already is no dead letter because the limit has fallen since: it would be in both, and
/// behind its successors.
#[test]
fn unacknowledged_record_is_not_quarantined_by_size() {
    let mut now = Instant::now();
    let mut lanes = Lanes::new(&Start::default(), Limits { max_record_size: 1000, ..Limits::default() }, 1);
    lanes.admit(&frame(1), [event("k", &"x".repeat(500))]);
    lanes.admit(&frame(2), [event("k", "second")]);
    let request = lanes.fill(now).unwrap();
    drop(lanes.settle(request.ticket, Err(PutError::NoResponse("timeout".into())), now));
    lanes.set_max_record_size(100);
    let mut sizes = Vec::new();
    for _ in 0..100 {
        now += Duration::from_millis(100);
        assert!(lanes.next_dead_letter().is_none());
        while let Some(request) = lanes.fill(now) {
            sizes.extend(request.records.iter().map(|record| record.data.len()));
            let answers = vec![accepted(); request.records.len()];
            drop(lanes.settle(request.ticket, Ok(answers), now));
        }
    }
    assert_eq!((sizes, lanes.is_empty()), (vec![500, 6], true));
}

/// A poison is known when its lane is read again by another reader: it does not fail the others' requests once more.
#[test]
fn poison_is_remembered_when_its_lane_is_detached() {
    let mut world = World::new(Fails::Silent, &["k7"]);
    world.lanes = Lanes::new(&Start::default(), Limits { window_bytes: 4 << 20, ..Limits::default() }, 1);
    world.admit(keys(100));
    for round in 0..60 {
        while world.lanes.wants(forebay::sink::lanes::ReaderId::MAIN).is_some()
            && world.frames < 100 * (round + 2)
        {
            let n = world.frames;
            world.admit([format!("r{n}")]);
        }
        world.run(Duration::from_millis(500));
    }
    let lane = KeyHash::of("k7").lane();
    println!(
        "{} requests, {} failed, lane {lane}, behind {:?}",
        world.requests,
        world.failed,
        world.lanes.behind()
    );
    assert_eq!(world.lanes.behind().lanes, 1);
    assert!(world.failed < 25, "{} of {} failed", world.failed, world.requests);
}

/// A record that never gets a response is a dead letter after an hour, also where nothing else is to be sent: it would keep the
/// log from being reclaimed for good.
#[test]
fn silent_record_is_a_dead_letter_after_an_hour() {
    for (fails, traffic) in [(Fails::Silent, true), (Fails::Silent, false), (Fails::Refused, false)] {
        let mut world = World::new(fails, &["k7"]);
        world.admit(keys(20));
        for minute in 0..59 {
            if traffic {
                world.admit([format!("other {minute}")]);
            }
            world.run(Duration::from_mins(1));
        }
        assert!(world.letters.is_empty(), "{fails:?} {traffic}");
        world.run(Duration::from_mins(20));
        assert_eq!(world.letters, [(FrameNo(8), DeadReason::Rejected)], "{fails:?} {traffic}");
        assert!(world.lanes.is_empty());
    }
}

/// After a restart nothing was accepted yet: what is known to be published serves as the control. Only one record is sent at a time,
/// and each control once a second at most.
#[test]
fn control_after_restart_is_a_published_record() {
    let mut world = World::new(Fails::Invalid, &["k7"]);
    let lanes =
        (0..=u8::MAX).filter(|lane| *lane != KeyHash::of("k7").lane()).map(|lane| (lane, FrameNo(20)));
    world.lanes = Lanes::new(&Start { lanes: lanes.collect(), ..Start::default() }, Limits::default(), 1);
    world.admit(keys(20));
    world.run(Duration::from_mins(10));
    assert_eq!(world.letters, [(FrameNo(8), DeadReason::Rejected)]);
    assert!(world.lanes.is_empty() && world.accepted.len() == 1, "{:?}", world.accepted);
    println!("{} requests, {} failed", world.requests, world.failed);
    assert!(world.requests < 60, "{}", world.requests);
}

/// While the stream accepts nothing, the control is refused as well: nothing is evidence.
#[test]
fn refused_control_is_no_evidence() {
    let mut world = World::new(Fails::Invalid, &["k7"]);
    world.admit(keys(20));
    world.run(Duration::from_secs(2));
    assert_eq!(world.accepted.len(), 19);
    world.away = true;
    world.run(Duration::from_mins(100));
    assert!(world.letters.is_empty());
    world.poisons.clear();
    world.away = false;
    world.run(Duration::from_mins(1));
    assert!(world.letters.is_empty() && world.lanes.is_empty());
}

/// A service that answers one request of twenty, for hours, makes no healthy record a dead letter.
#[test]
fn brownout_accuses_nobody() {
    let mut world = World::new(Fails::Silent, &[]);
    world.answers_one_in = 20;
    for round in 0..6 {
        world.admit((0..200).map(|n| format!("r{round} {n}")));
        world.run(Duration::from_mins(40));
    }
    assert!(world.letters.is_empty(), "{} dead letters", world.letters.len());
    world.answers_one_in = 0;
    world.run(Duration::from_mins(2));
    assert!(world.lanes.is_empty() && world.letters.is_empty());
}

/// The same after a restart, where nothing but the silent record is left.
#[test]
fn silent_record_after_restart_is_a_dead_letter_after_an_hour() {
    let mut world = World::new(Fails::Silent, &["k7"]);
    let lanes =
        (0..=u8::MAX).filter(|lane| *lane != KeyHash::of("k7").lane()).map(|lane| (lane, FrameNo(20)));
    world.lanes = Lanes::new(&Start { lanes: lanes.collect(), ..Start::default() }, Limits::default(), 1);
    world.admit(keys(20));
    world.run(Duration::from_mins(59));
    assert!(world.letters.is_empty());
    world.run(Duration::from_mins(20));
    assert_eq!(world.letters, [(FrameNo(8), DeadReason::Rejected)]);
}
