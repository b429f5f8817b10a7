//! The window without a service. Tests with a service are in `tests/it/lanes.rs`.

use bytes::Bytes;
use tokio::time::Instant;

use super::*;
use crate::event::{KeyHash, RecordKind};
use crate::position::FrameNo;
use crate::sink::pacing::Limits;
use crate::sink::{PutError, RecordResult};

#[test]
fn deferred_dead_letter_blocks_only_its_key() {
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
    assert_eq!(lanes.watermark().frame, FrameNo(1));
}

/// The second dead letter of a key is written to the file together with the first. If only the second fits
/// there, later records still wait for the first.
#[test]
fn early_dead_letter_releases_nothing_of_its_key() {
    let mut lanes = Lanes::new(&Start::default(), Limits::default(), 1);
    let kinds = [RecordKind::DeadLetter, RecordKind::DeadLetter, RecordKind::Event];
    let admit = |lanes: &mut Lanes, number, kind| {
        let frame = Frame { number: FrameNo(number), ..Frame::default() };
        let (key, line) = (Bytes::from_static(b"key"), Bytes::from_static(b"line\n"));
        lanes.admit(&frame, [Admission { kind, hash: KeyHash::of("key"), event_type: "t", key, line }]);
    };
    for (number, kind) in (1..).zip(kinds) {
        admit(&mut lanes, number, kind);
    }
    let now = Instant::now();
    let (first, second) = (lanes.next_dead_letter().unwrap(), lanes.next_dead_letter().unwrap());
    lanes.put_back(first.frame, first.part);
    lanes.finish(second.frame, second.part);
    admit(&mut lanes, 4, RecordKind::Event);
    assert!(lanes.fill(now).is_none() && lanes.watermark().frame == FrameNo(0));
    let first = lanes.next_dead_letter().unwrap();
    lanes.finish(first.frame, first.part);
    let request = lanes.fill(now).unwrap();
    assert_eq!((request.records.len(), lanes.watermark().frame), (1, FrameNo(2)));
    drop(lanes.settle(request.ticket, Ok(vec![accepted()]), now));
    assert_eq!(lanes.fill(now).map(|request| request.records.len()), Some(1));
}

fn event(lane: u8, nth: u64, size: usize) -> Admission<'static> {
    let hash = KeyHash(u64::from(lane) << 56 | nth);
    let line = Bytes::from(vec![b'x'; size]);
    Admission { kind: RecordKind::Event, hash, event_type: "t", key: Bytes::new(), line }
}

fn admit(lanes: &mut Lanes, reader: ReaderId, events: Vec<Admission<'static>>) {
    let number = lanes.wants(reader).unwrap().0.next();
    lanes.admit_to(reader, &Frame { number, ..Frame::default() }, events);
}

fn accepted() -> RecordResult {
    RecordResult::Accepted { sequence: "1".to_owned(), shard: "s".to_owned() }
}

#[test]
fn ready_record_of_newly_limited_shard_has_a_due_time() {
    for seed in 1..=200 {
        let mut now = Instant::now();
        let mut lanes = Lanes::new(&Start::default(), Limits::default(), seed);
        admit(&mut lanes, ReaderId::MAIN, vec![event(1, 0, 300), event(2, 0, 300)]);
        let first = lanes.fill(now).unwrap();
        drop(lanes.settle(first.ticket, Ok(vec![accepted(), accepted()]), now));
        admit(&mut lanes, ReaderId::MAIN, vec![event(1, 1, 300), event(1, 2, 300)]);
        let second = lanes.fill(now).unwrap();
        admit(&mut lanes, ReaderId::MAIN, vec![event(2, 1, 300)]);
        let answers = vec![RecordResult::Throttled, RecordResult::Failed { reason: "x".to_owned() }];
        drop(lanes.settle(second.ticket, Ok(answers), now));
        // Both the shard and a lane are paused for 50 to 100 ms. Often only the lane's pause is left.
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
fn large_record_of_one_reader_is_not_starved_by_another() {
    for (large, small, turns) in [(0, 1, 0), (0, 1, 1), (1, 0, 0), (1, 0, 1)] {
        let limits =
            Limits { request_bytes: 400, in_flight_bytes: 1000, window_bytes: 8 << 10, ..Limits::default() };
        let reached = (0..=u8::MAX).map(|lane| (lane, FrameNo(if lane == 7 { 10 } else { 50 })));
        let start = Start { lanes: reached.collect(), ..Start::default() };
        let mut lanes = Lanes::new(&start, limits, 1);
        let readers: Vec<_> = lanes.readers().into_iter().zip([1, 7]).collect();
        let now = Instant::now();
        let (reader, lane) = readers[small];
        if small == 1 {
            // The audit, behind the main reader, may read up to its head.
            admit(&mut lanes, ReaderId::MAIN, vec![]);
        }
        admit(&mut lanes, reader, (0..80).map(|nth| event(lane, nth, 100)).collect());
        let mut out = std::collections::VecDeque::new();
        out.extend(std::iter::from_fn(|| lanes.fill(now)));
        let (reader, lane) = readers[large];
        admit(&mut lanes, reader, vec![event(lane, 1000, 900)]);
        (0..turns).for_each(|_| out.extend(lanes.fill(now)));
        let acknowledged = (1..=20).find(|_| {
            let Request { ticket, records, .. } = out.pop_front().unwrap();
            let answers = vec![accepted(); records.len()];
            drop(lanes.settle(ticket, Ok(answers), now));
            out.extend(std::iter::from_fn(|| lanes.fill(now)));
            out.iter().any(|request| request.records.iter().any(|record| record.data.len() == 900))
        });
        assert!(
            acknowledged.is_some_and(|acknowledged| acknowledged <= 4),
            "{large} {turns}: {acknowledged:?}"
        );
    }
}

#[test]
fn idle_time_detaches_no_lane() {
    let mut now = Instant::now();
    let limits = Limits { window_bytes: 4 << 10, ..Limits::default() };
    let mut lanes = Lanes::new(&Start::default(), limits, 1);
    admit(&mut lanes, ReaderId::MAIN, vec![event(1, 0, 10)]);
    let refused = lanes.fill(now).unwrap();
    drop(lanes.settle(refused.ticket, Ok(vec![RecordResult::Failed { reason: "x".to_owned() }]), now));
    for nth in 0.. {
        if lanes.wants(ReaderId::MAIN).is_none() {
            break;
        }
        admit(&mut lanes, ReaderId::MAIN, vec![event(2, nth, 10)]);
        let request = lanes.fill(now).unwrap();
        drop(lanes.settle(request.ticket, Ok(vec![accepted()]), now));
    }
    assert!(lanes.fill(now).is_none() && !lanes.rebalance(now));
    now += std::time::Duration::from_hours(1);
    let request = lanes.fill(now).unwrap();
    lanes.rebalance(now);
    drop(lanes.settle(request.ticket, Ok(vec![accepted()]), now));
    assert!(!lanes.rebalance(now), "{:?}", lanes.take_changes());
    assert!(lanes.is_empty());
}

/// An attempt without a response may have stored a record. Its lane is detached, and then the size limit is
/// lowered. The record is sent again all the same, in order, and is no dead letter.
#[test]
fn unacknowledged_record_is_known_after_its_lane_was_detached() {
    let mut now = Instant::now();
    let mut lanes = Lanes::new(&Start::default(), Limits { max_record_size: 1000, ..Limits::default() }, 1);
    let frames = || [event(7, 0, 500), event(7, 0, 6), event(9, 0, 10)];
    for event in frames() {
        admit(&mut lanes, ReaderId::MAIN, vec![event]);
    }
    let request = lanes.fill(now).unwrap();
    drop(lanes.settle(request.ticket, Err(PutError::NoResponse("timeout".into())), now));
    let section = vec![lanes.readers.sections.of(KeyHash(7 << 56))];
    lanes.isolation.detach(&mut lanes.readers, ReaderId::MAIN, section);
    lanes.isolation.leave(&mut lanes.readers, &lanes.dispatch, &mut lanes.counts, now);
    let reader = *lanes.readers().iter().find(|id| ![ReaderId::MAIN, ReaderId::AUDIT].contains(id)).unwrap();
    for event in frames() {
        admit(&mut lanes, reader, vec![event]);
    }
    lanes.set_max_record_size(100);
    let mut sizes = Vec::new();
    for _ in 0..100 {
        now += std::time::Duration::from_millis(100);
        assert!(lanes.next_dead_letter().is_none());
        while let Some(Request { ticket, records, .. }) = lanes.fill(now) {
            sizes.extend(records.iter().map(|record| record.data.len()).filter(|size| *size != 10));
            drop(lanes.settle(ticket, Ok(vec![accepted(); records.len()]), now));
        }
    }
    assert_eq!(sizes, [500, 6]);
    assert!(lanes.readers.unacknowledged().is_empty());
}
