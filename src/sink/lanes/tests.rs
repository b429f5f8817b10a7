//! What the window does alone; what it does against a service is in `tests/it/lanes.rs`.

use bytes::Bytes;

use super::*;
use crate::event::{KeyHash, RecordKind};

#[test]
fn a_dead_letter_that_is_put_back_holds_its_key_and_no_other() {
    let mut lanes = Lanes::new(&Start::default(), Limits::default(), 1);
    let letters =
        [(RecordKind::DeadLetter, "poisoned"), (RecordKind::Event, "poisoned"), (RecordKind::Event, "other")];
    for (number, (kind, key)) in (1..).zip(letters) {
        let frame = Frame { number: FrameNo(number), ..Frame::default() };
        let (hash, event_type) = (KeyHash::of(key), "t");
        let (key, line) = (Bytes::from_static(key.as_bytes()), Bytes::from_static(b"line\n"));
        lanes.admit(&frame, [Admission { kind, hash, event_type, key, line }]);
    }
    let now = Instant::now();
    for _ in 0..2 {
        let dead = lanes.next_dead_letter().unwrap();
        assert_eq!((dead.frame, lanes.next_dead_letter().map(|_| ())), (FrameNo(1), None));
        lanes.put_back(dead.frame, dead.part);
    }
    let request = lanes.fill(now).unwrap();
    let keys: Vec<_> = request.records.iter().map(|record| &record.key[..]).collect();
    assert_eq!(keys, [b"other"]);
    let dead = lanes.next_dead_letter().unwrap();
    lanes.finish(dead.frame, dead.part);
    assert_eq!(lanes.low().frame, FrameNo(1));
}

fn event(lane: u8, nth: u64, size: usize) -> Admission<'static> {
    let hash = KeyHash(u64::from(lane) << 56 | nth);
    let line = Bytes::from(vec![b'x'; size]);
    Admission { kind: RecordKind::Event, hash, event_type: "t", key: Bytes::new(), line }
}

fn admit(lanes: &mut Lanes, feed: FeedId, events: Vec<Admission<'static>>) {
    let number = lanes.wants(feed).unwrap().0.next();
    lanes.admit_to(feed, &Frame { number, ..Frame::default() }, events);
}

fn accepted() -> Answer {
    Answer::Accepted { sequence: "1".to_owned(), shard: "s".to_owned() }
}

#[test]
fn what_was_ready_before_its_shard_got_a_rate_has_a_time_at_which_it_leaves() {
    for seed in 1..=200 {
        let mut now = Instant::now();
        let mut lanes = Lanes::new(&Start::default(), Limits::default(), seed);
        admit(&mut lanes, FeedId::FRONT, vec![event(1, 0, 300), event(2, 0, 300)]);
        let first = lanes.fill(now).unwrap();
        drop(lanes.settle(first.ticket, Ok(vec![accepted(), accepted()]), now));
        admit(&mut lanes, FeedId::FRONT, vec![event(1, 1, 300), event(1, 2, 300)]);
        let second = lanes.fill(now).unwrap();
        admit(&mut lanes, FeedId::FRONT, vec![event(2, 1, 300)]);
        let answers = vec![Answer::Throttled, Answer::Failed { reason: "x".to_owned() }];
        drop(lanes.settle(second.ticket, Ok(answers), now));
        // The shard is held, and a lane pauses, for 50 to 100 ms: often only the lane still does.
        now += std::time::Duration::from_millis(75);
        for _ in 0..20 {
            while let Some(request) = lanes.fill(now) {
                let answers = vec![accepted(); request.records.len()];
                drop(lanes.settle(request.ticket, Ok(answers), now));
            }
            if lanes.is_empty() {
                break;
            }
            let at = lanes.wake_at(now).unwrap_or_else(|| panic!("seed {seed}: nothing would ever wake it"));
            assert!(at > now);
            now = at;
        }
        assert!(lanes.is_empty(), "seed {seed}");
    }
}

#[test]
fn a_large_record_of_one_feed_gets_its_room_while_another_has_always_something() {
    for (large, small, turns) in [(0, 1, 0), (0, 1, 1), (1, 0, 0), (1, 0, 1)] {
        let limits =
            Limits { request_bytes: 400, in_flight_bytes: 1000, window_bytes: 8 << 10, ..Limits::default() };
        let reached = (0..=u8::MAX).map(|lane| (lane, FrameNo(if lane == 7 { 10 } else { 50 })));
        let start = Start { lanes: reached.collect(), ..Start::default() };
        let mut lanes = Lanes::new(&start, limits, 1);
        let feeds: Vec<_> = lanes.feeds().into_iter().zip([1, 7]).collect();
        let now = Instant::now();
        let (feed, lane) = feeds[small];
        if small == 1 {
            // What is behind the front may be read up to its head.
            admit(&mut lanes, FeedId::FRONT, vec![]);
        }
        admit(&mut lanes, feed, (0..80).map(|nth| event(lane, nth, 100)).collect());
        let mut out = std::collections::VecDeque::new();
        out.extend(std::iter::from_fn(|| lanes.fill(now)));
        let (feed, lane) = feeds[large];
        admit(&mut lanes, feed, vec![event(lane, 1000, 900)]);
        (0..turns).for_each(|_| out.extend(lanes.fill(now)));
        let answered = (1..=20).find(|_| {
            let Request { ticket, records } = out.pop_front().unwrap();
            let answers = vec![accepted(); records.len()];
            drop(lanes.settle(ticket, Ok(answers), now));
            out.extend(std::iter::from_fn(|| lanes.fill(now)));
            out.iter().any(|request| request.records.iter().any(|record| record.data.len() == 900))
        });
        assert!(answered.is_some_and(|answered| answered <= 4), "{large} {turns}: {answered:?}");
    }
}

#[test]
fn nobody_is_sent_away_for_a_time_in_which_nothing_could_be_sent() {
    let mut now = Instant::now();
    let limits = Limits { window_bytes: 4 << 10, ..Limits::default() };
    let mut lanes = Lanes::new(&Start::default(), limits, 1);
    admit(&mut lanes, FeedId::FRONT, vec![event(1, 0, 10)]);
    let refused = lanes.fill(now).unwrap();
    drop(lanes.settle(refused.ticket, Ok(vec![Answer::Failed { reason: "x".to_owned() }]), now));
    for nth in 0.. {
        if lanes.wants(FeedId::FRONT).is_none() {
            break;
        }
        admit(&mut lanes, FeedId::FRONT, vec![event(2, nth, 10)]);
        let request = lanes.fill(now).unwrap();
        drop(lanes.settle(request.ticket, Ok(vec![accepted()]), now));
    }
    assert!(lanes.fill(now).is_none() && !lanes.tend(now));
    now += std::time::Duration::from_hours(1);
    let request = lanes.fill(now).unwrap();
    lanes.tend(now);
    drop(lanes.settle(request.ticket, Ok(vec![accepted()]), now));
    assert!(!lanes.tend(now), "{:?}", lanes.take_changes());
    assert!(lanes.is_empty());
}
