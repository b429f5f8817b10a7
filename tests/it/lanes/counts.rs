//! Event counts: what became of each record, counted when its lane's progress passes it, and what was received, by itself.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use forebay::buffer::checkpoint::Totals;
use forebay::event::{KeyHash, RecordKind};
use forebay::position::FrameNo;
use forebay::sink::lanes::{Admission, Detail, FormerCounts, Frame, Lanes, Outcome, ReaderId, Start};
use forebay::sink::pacing::Limits;
use tokio::time::Instant;

use super::accepted;
use super::means::Written;

/// Per event type.
pub(super) type Counts = BTreeMap<String, Totals>;

pub(super) fn event_type(written: &Written) -> &'static str {
    if written.key.len().is_multiple_of(2) { "even.v1" } else { "odd.v1" }
}

/// Counts a record that the watermark has passed, or that is finished.
pub(super) fn count(counts: &mut Counts, written: &Written, is_passed: bool, outcome: Option<Outcome>) {
    if !is_passed && outcome.is_none() {
        return;
    }
    let totals = counts.entry(event_type(written).to_owned()).or_default();
    totals.received += u64::from(is_passed);
    match outcome {
        Some(Outcome::Published) => totals.published += 1,
        Some(Outcome::Quarantined) => totals.quarantined += 1,
        None => {}
    }
}

pub(super) fn add(counts: &mut Counts, more: Vec<(Arc<str>, Totals)>) {
    for (name, totals) in more {
        counts.entry(name.to_string()).or_default().add(totals);
    }
}

/// Whether everything received has an outcome.
pub(super) fn balances(counts: &Counts) -> bool {
    counts.values().all(|totals| totals.received == totals.published + totals.quarantined)
}

/// A log in which every so manieth frame has a record, all of one lane, that many of the others.
struct Backlog {
    lanes: Lanes,
    now: Instant,
    frames: u64,
    sent: HashSet<Bytes>,
    quarantined: u64,
    counts: Counts,
}

const EVERY: u64 = 1000;
const LANE: u8 = 7;

impl Backlog {
    fn new(start: &Start, frames: u64) -> Self {
        let limits = Limits { max_record_size: 10_000, ..Limits::default() };
        let lanes = Lanes::new(start, limits, 1);
        let (now, sent) = (Instant::now(), HashSet::new());
        Self { lanes, now, frames, sent, quarantined: 0, counts: Counts::new() }
    }

    fn record(number: u64) -> Option<Admission<'static>> {
        (number % EVERY == 3).then(|| Admission {
            kind: RecordKind::Event,
            hash: KeyHash(u64::from(LANE) << 56),
            event_type: "t",
            key: Bytes::from_static(b"k"),
            line: Bytes::from(format!("{number:05000}")),
        })
    }

    fn read(&mut self) {
        for reader in self.lanes.readers() {
            while let Some((after, until)) = self.lanes.wants(reader) {
                let number = after.next();
                if number > until || number.0 > self.frames {
                    break;
                }
                let frame = Frame { number, bytes: 600, ..Frame::default() };
                self.lanes.admit_to(reader, &frame, Self::record(number.0));
            }
        }
    }

    /// Sends and quarantines what may leave; the limit falls once so many have left.
    fn step(&mut self, falls_after: usize) {
        self.now += Duration::from_millis(5);
        self.read();
        while let Some(request) = self.lanes.fill(self.now) {
            self.sent.extend(request.records.iter().map(|record| record.data.clone()));
            let answers = vec![accepted(); request.records.len()];
            drop(self.lanes.settle(request.ticket, Ok(answers), self.now));
            if self.sent.len() == falls_after {
                self.lanes.set_max_record_size(100);
            }
        }
        while let Some(dead) = self.lanes.next_dead_letter() {
            self.lanes.finish(dead.frame, dead.part);
            self.quarantined += 1;
        }
        self.lanes.rebalance(self.now);
        add(&mut self.counts, self.lanes.take_counts());
    }

    fn drain(&mut self, falls_after: usize) {
        for _ in 0..100_000 {
            if self.lanes.watermark().frame.0 == self.frames {
                return;
            }
            self.step(falls_after);
        }
        panic!("no end, the watermark is {}", self.lanes.watermark().frame);
    }
}

fn start(of_lane: u64, of_others: u64) -> Start {
    let at = |lane: u8| FrameNo(if lane == LANE { of_lane } else { of_others });
    Start { lanes: (0..=u8::MAX).map(|lane| (lane, at(lane))).collect(), ..Start::default() }
}

/// A record is published under a large limit by a detached lane, then the limit falls, before the watermark comes to it.
#[test]
fn counts_of_detached_lane_are_true_after_limit_fell() {
    let mut backlog = Backlog::new(&start(1, 50_000), 60_000);
    assert_eq!(backlog.lanes.readers().len(), 3, "a catch-up reader and an audit");
    backlog.drain(20);
    let (published, quarantined) = (backlog.sent.len() as u64, backlog.quarantined);
    assert_eq!((published >= 20, quarantined > 0, published + quarantined), (true, true, 60));
    let expected = Totals { received: 60, published, quarantined };
    assert_eq!(backlog.counts["t"], expected);
}

/// The others are counted while a lane stands: nothing waits for the watermark.
#[test]
fn outcomes_are_counted_before_watermark_follows() {
    let mut backlog = Backlog::new(&start(1, 50_000), 60_000);
    for _ in 0..100 {
        backlog.read();
        backlog.lanes.rebalance(backlog.now);
    }
    assert!(backlog.lanes.watermark().frame < FrameNo(10), "the lane stands before its first record");
    backlog.step(usize::MAX);
    let counted = backlog.lanes.counts_ahead().iter().map(|(_, totals)| totals.published).sum::<u64>();
    let counted = counted + backlog.counts.get("t").copied().unwrap_or_default().published;
    assert_eq!(counted, backlog.sent.len() as u64);
    assert!(counted > 0);
}

/// A start believes that a lane has come further than it has, as an error in its progress would make it.
#[test]
fn lost_events_do_not_balance() {
    let mut whole = Backlog::new(&start(0, 10_000), 20_000);
    whole.drain(usize::MAX);
    assert!(balances(&whole.counts), "{:?}", whole.counts);
    let mut lossy = Backlog::new(&start(5_000, 10_000), 20_000);
    lossy.drain(usize::MAX);
    assert!(!lossy.lanes.is_counted_beyond_watermark());
    assert_eq!(lossy.counts["t"], Totals { received: 20, published: 15, quarantined: 0 });
}

/// An earlier build has not counted what its lanes had published beyond the watermark.
#[test]
fn former_counts_are_completed_once() {
    let start = start(30_500, 50_000);
    let mut former = FormerCounts::new(&start, 10_000);
    assert_eq!(former.last(), FrameNo(50_000));
    (1..=50_000).for_each(|number| former.count(FrameNo(number), Backlog::record(number)));
    let counts = former.into_counts();
    assert_eq!(counts, [("t".to_owned(), Totals { published: 31, ..Totals::default() })]);
    let mut backlog = Backlog::new(&start, 60_000);
    backlog.drain(usize::MAX);
    let mut all: Counts = counts.into_iter().collect();
    all.get_mut("t").unwrap().add(backlog.counts["t"]);
    assert_eq!(all["t"], Totals { received: 60, published: 60, quarantined: 0 });
}

/// A clean stop names single records beyond their lane's progress. They are counted when the next process passes them.
#[test]
fn single_records_are_counted_after_restart() {
    let mut backlog = Backlog::new(&Start::default(), 10);
    let other =
        Admission { hash: KeyHash(9 << 56), key: Bytes::from_static(b"o"), ..Backlog::record(3).unwrap() };
    let records = || [Backlog::record(3).unwrap(), other.clone()];
    backlog.lanes.admit(&Frame { number: FrameNo(1), ..Frame::default() }, records());
    let same = Admission { hash: KeyHash((9 << 56) | 1), key: Bytes::from_static(b"p"), ..other.clone() };
    backlog.lanes.admit(&Frame { number: FrameNo(2), ..Frame::default() }, [other.clone(), same.clone()]);
    let request = backlog.lanes.fill(backlog.now).unwrap();
    let answer = |key: &[u8]| if key == b"o" { forebay::sink::RecordResult::Throttled } else { accepted() };
    let answers = request.records.iter().map(|record| answer(&record.key)).collect();
    drop(backlog.lanes.settle(request.ticket, Ok(answers), backlog.now));
    let progress = backlog.lanes.progress(Detail::Records);
    assert_eq!(progress.acknowledged, [(FrameNo(2), 1)]);
    let mut counts = Counts::new();
    add(&mut counts, backlog.lanes.take_counts());
    add(&mut counts, backlog.lanes.counts_ahead());
    assert_eq!(counts["t"], Totals { published: 1, ..Totals::default() }, "of the lane that has finished");
    let start = Start { lanes: progress.lanes, acknowledged: progress.acknowledged, ..Start::default() };
    let mut lanes = Lanes::new(&start, Limits { max_record_size: 10, ..Limits::default() }, 1);
    assert_eq!(lanes.readers(), [ReaderId::MAIN]);
    lanes.admit(&Frame { number: FrameNo(1), ..Frame::default() }, records());
    lanes.admit(&Frame { number: FrameNo(2), ..Frame::default() }, [other, same]);
    while let Some(dead) = lanes.next_dead_letter() {
        lanes.finish(dead.frame, dead.part);
    }
    add(&mut counts, lanes.take_counts());
    assert_eq!(counts["t"], Totals { received: 4, published: 2, quarantined: 2 });
}
