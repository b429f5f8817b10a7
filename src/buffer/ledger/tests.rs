//! The ledger without any I/O.

use super::reports::{EVENT_TYPES_MAX, OTHER_TYPES};
use super::*;
use crate::buffer::checkpoint::{LagRecord, Mark, Phase};
use crate::identity::tests::identity;
use crate::position::{CommitSeq, Position};

pub(super) const AFTER: ConfirmAfter = ConfirmAfter::Waited(Duration::from_secs(5));

pub(super) fn checkpoint() -> Checkpoint {
    Checkpoint {
        identity: identity(),
        phase: Phase::Running,
        epoch: 0,
        ever_confirmed: CommitSeq::new(100).into(),
        last_seen: None,
        watermark: Mark::default(),
        durable: Mark::default(),
        lanes: Vec::new(),
        lane_parts: Vec::new(),
        acknowledged: Vec::new(),
        injections: Vec::new(),
        lag: LagRecord::default(),
        letters_from: 0,
        event_counts: BTreeMap::new(),
        counted_by_lane: true,
        clean: true,
    }
}

pub(super) fn reached(frame: u64) -> Reached {
    let commit = CommitSeq::new(100 + frame * 10);
    Reached {
        mark: Mark { frame: FrameNo(frame), position: Some(Position { epoch: 0, commit, index: 0 }) },
        transaction: Some(Transaction { commit, xid: 7, time: 0 }),
    }
}

pub(super) fn watermark(frame: u64) -> Published {
    Published { watermark: reached(frame), ..Published::default() }
}

/// Receives three frames, each a transaction of its own that ends at 105 + 10 n.
fn three_received(confirm_after: ConfirmAfter) -> Ledger {
    let mut ledger = Ledger::new(checkpoint(), confirm_after);
    ledger.connect(1, CommitSeq::ZERO);
    for frame in 1..=3 {
        ledger.received(reached(frame));
        ledger.mark(FrameNo(frame), CommitSeq::new(105 + frame * 10).into());
    }
    ledger
}

pub(super) fn tick(ledger: &mut Ledger) -> Option<u64> {
    let next = ledger.prepare()?;
    ledger.written(next).map(|settled| settled.resume().seq().get())
}

#[test]
fn unsettled_change_is_not_confirmed() {
    let mut ledger = three_received(AFTER);
    assert_eq!(tick(&mut ledger), None);
    ledger.publish(watermark(2));
    assert_eq!(tick(&mut ledger), Some(125));
    assert_eq!(ledger.checkpoint().ever_confirmed.seq(), CommitSeq::new(125));
    assert_eq!(tick(&mut ledger), None, "nothing new, nothing written");
}

#[test]
fn publish_during_checkpoint_write_waits_for_next_one() {
    let mut ledger = three_received(AFTER);
    ledger.publish(watermark(1));
    let next = ledger.prepare().unwrap();
    ledger.publish(watermark(3));
    assert_eq!(ledger.written(next).unwrap().resume().seq(), CommitSeq::new(115));
    assert_eq!(tick(&mut ledger), Some(135));
}

#[test]
fn marker_moved_during_checkpoint_write_does_not_delay_confirm() {
    let mut ledger = three_received(AFTER);
    ledger.publish(watermark(1));
    tick(&mut ledger);
    ledger.publish(watermark(3));
    for keepalive in [200, 300, 400] {
        let next = ledger.prepare().unwrap();
        let ever_confirmed = next.ever_confirmed.seq();
        ledger.mark(FrameNo(3), CommitSeq::new(keepalive).into());
        assert_eq!(ledger.written(next).unwrap().resume().seq(), ever_confirmed);
    }
}

#[test]
fn long_waiting_change_becomes_durable_then_confirmed() {
    let mut ledger = three_received(AFTER);
    let start = Instant::now();
    assert!(!ledger.wants_sync(start));
    assert!(!ledger.wants_sync(start + Duration::from_secs(4)));
    assert!(ledger.wants_sync(start + Duration::from_secs(5)));
    ledger.synced(reached(3));
    assert_eq!(tick(&mut ledger), Some(135));
    assert_eq!(ledger.checkpoint().durable.frame, FrameNo(3));
    assert!(!ledger.wants_sync(start + Duration::from_mins(1)), "all of it is durable");
}

#[test]
fn detached_lanes_make_published_rest_durable_at_once() {
    let behind = Some(Behind { lanes: "0-63".to_owned(), shard: None });
    let ahead = |frame| vec![(64, FrameNo(frame)), (65, FrameNo(1))];
    for (what, behind, lanes, confirm_after, expected) in [
        ("lanes behind", behind.clone(), ahead(3), AFTER, true),
        ("lanes behind, but nothing beyond the watermark", behind.clone(), ahead(1), AFTER, false),
        ("together", None, ahead(3), AFTER, false),
        (
            "lanes behind, and only what is published is confirmed",
            behind,
            ahead(3),
            ConfirmAfter::Never,
            true,
        ),
    ] {
        let mut ledger = three_received(confirm_after);
        ledger.publish(Published { lanes, behind, ..watermark(1) });
        assert_eq!(ledger.wants_sync(Instant::now()), expected, "{what}");
        ledger.synced(reached(3));
        assert!(!ledger.wants_sync(Instant::now()), "{what}: all of it is durable");
    }
}

/// A shard that rejects under a light load does not fill the window, so its lanes are not detached. The other
/// lanes get ahead all the same.
#[test]
fn progress_ahead_of_stalled_watermark_becomes_durable() {
    for confirm_after in [ConfirmAfter::Waited(Duration::from_mins(1)), ConfirmAfter::Never] {
        let mut ledger = three_received(confirm_after);
        let report = |frame| Published { lanes: vec![(64, FrameNo(frame))], ..watermark(1) };
        ledger.publish(report(2));
        assert!(!ledger.wants_sync(Instant::now()), "the watermark may follow at once");
        ledger.publish(report(3));
        assert!(ledger.has_loose_progress() && ledger.wants_sync(Instant::now()));
        ledger.synced(reached(3));
        assert!(!ledger.has_loose_progress() && !ledger.wants_sync(Instant::now()));
        assert_eq!(ledger.prepare().unwrap().durable.frame, FrameNo(3));
    }
}

#[test]
fn progress_that_watermark_follows_needs_no_fsync() {
    let mut ledger = three_received(AFTER);
    ledger.publish(Published { lanes: vec![(64, FrameNo(2))], ..watermark(1) });
    ledger.publish(Published { lanes: vec![(64, FrameNo(3))], ..watermark(2) });
    assert!(!ledger.wants_sync(Instant::now()));
}

#[test]
fn redelivered_settled_changes_need_no_checkpoint() {
    let mut ledger = three_received(AFTER);
    ledger.publish(watermark(3));
    assert_eq!(tick(&mut ledger), Some(135));
    ledger.connect(1, CommitSeq::ZERO);
    assert_eq!(ledger.settled(), None, "this connection has delivered nothing");
    ledger.mark(FrameNo(3), CommitSeq::new(125).into());
    assert_eq!(ledger.prepare(), None);
    assert_eq!(ledger.settled().unwrap().resume().seq(), CommitSeq::new(125));
}

#[test]
fn timely_published_change_needs_no_fsync() {
    let mut ledger = three_received(AFTER);
    let start = Instant::now();
    assert!(!ledger.wants_sync(start));
    ledger.publish(watermark(3));
    assert!(!ledger.wants_sync(start + Duration::from_secs(6)));
}

#[test]
fn constant_load_is_timed_by_oldest_change() {
    let mut ledger = Ledger::new(checkpoint(), AFTER);
    let start = Instant::now();
    let mut synced_at = Vec::new();
    for second in 0..20 {
        ledger.received(reached(second + 1));
        if ledger.wants_sync(start + Duration::from_secs(second)) {
            synced_at.push(second);
            ledger.synced(reached(second + 1));
        }
    }
    assert_eq!(synced_at, [5, 11, 17]);
}

#[test]
fn confirm_after_zero_is_durable_at_once_and_never_not_at_all() {
    let now = Instant::now();
    assert!(three_received(ConfirmAfter::Waited(Duration::ZERO)).wants_sync(now));
    let mut never = three_received(ConfirmAfter::Never);
    assert!(!never.wants_sync(now + Duration::from_hours(1)));
    never.synced(reached(3));
    assert_eq!(tick(&mut never), None, "durable does not settle");
    never.publish(watermark(3));
    assert_eq!(tick(&mut never), Some(135));
}

#[test]
fn new_connection_confirms_nothing_of_previous_one() {
    let mut ledger = three_received(AFTER);
    let number = ledger.connect(1, CommitSeq::ZERO);
    ledger.publish(watermark(3));
    assert_eq!(tick(&mut ledger), None);
    ledger.mark(FrameNo(3), CommitSeq::new(140).into());
    let next = ledger.prepare().unwrap();
    let settled = ledger.written(next).unwrap();
    assert_eq!((settled.resume().seq(), settled.connection()), (CommitSeq::new(140), number));
}

#[test]
fn last_seen_is_highest_of_watermark_durable_and_lanes() {
    let mut ledger = three_received(AFTER);
    ledger.publish(Published {
        highest: reached(3).transaction,
        lanes: vec![(7, FrameNo(3))],
        ..watermark(1)
    });
    tick(&mut ledger);
    assert_eq!(ledger.checkpoint().last_seen, reached(3).transaction);
}

#[test]
fn leftover_of_older_epoch_never_becomes_last_seen() {
    let adopted = Checkpoint { epoch: 1, durable: reached(3).mark, ..checkpoint() };
    let mut ledger = Ledger::new(adopted, AFTER);
    ledger.received(reached(3));
    ledger.synced(reached(4));
    ledger.publish(watermark(3));
    assert_eq!(ledger.last_seen(), None);
    assert_eq!(ledger.prepare().unwrap().last_seen, None);
}

#[test]
fn process_knowledge_is_own_tail_and_connection_timeline() {
    let mut ledger = three_received(AFTER);
    ledger.connect(2, CommitSeq::ZERO);
    let known = ledger.known();
    assert_eq!((known.identity.source.timeline(), known.last_seen), (2, reached(3).transaction));
    assert_eq!(known.ever_confirmed, ledger.checkpoint().ever_confirmed);
    assert_eq!(ledger.checkpoint().identity.source.timeline(), 1);
    ledger.promoted(3);
    assert_eq!(ledger.known().identity.source.timeline(), 3);
    assert_eq!(
        ledger.prepare().unwrap().identity.source.timeline(),
        3,
        "the checkpoint says so with the next write"
    );
}

#[test]
fn injection_stays_in_checkpoint_until_frame_is_settled() {
    let gap = Injection::Gap {
        epoch: 1,
        from: None,
        to: CommitSeq::new(5),
        reason: "x".into(),
        at: 0,
        skipped: None,
    };
    let mut ledger = Ledger::new(Checkpoint { injections: vec![gap.clone()], ..checkpoint() }, AFTER);
    assert_eq!(ledger.to_inject(), std::slice::from_ref(&gap));
    ledger.received(reached(1));
    ledger.injected(FrameNo(1), gap);
    assert!(ledger.to_inject().is_empty(), "not twice by one process");
    assert_eq!(ledger.prepare(), None);
    ledger.publish(watermark(1));
    tick(&mut ledger);
    assert!(ledger.checkpoint().injections.is_empty());
}

#[test]
fn many_markers_are_thinned_and_none_confirmed_early() {
    let mut ledger = Ledger::new(checkpoint(), AFTER);
    ledger.connect(1, CommitSeq::ZERO);
    for frame in 1..=20_000 {
        ledger.received(reached(frame));
        ledger.mark(FrameNo(frame), CommitSeq::new(105 + frame * 10).into());
        assert!(ledger.markers.len() <= MARKERS_MAX);
    }
    ledger.publish(watermark(10_000));
    let confirmed = tick(&mut ledger).unwrap();
    assert!(confirmed <= 105 + 10_000 * 10 && confirmed > 105 + 9_900 * 10, "{confirmed}");
}

#[test]
fn transaction_of_earlier_epoch_is_never_last_seen() {
    let mut ledger = Ledger::new(Checkpoint { epoch: 1, ..checkpoint() }, AFTER);
    ledger.received(reached(3));
    ledger.synced(reached(3));
    ledger.publish(watermark(2));
    assert_eq!(ledger.last_seen(), None);
    tick(&mut ledger);
    assert_eq!((ledger.checkpoint().durable.frame, ledger.checkpoint().last_seen), (FrameNo(3), None));
}

#[test]
fn event_types_beyond_checkpoint_limit_share_one_count() {
    let mut ledger = Ledger::new(checkpoint(), AFTER);
    let one = Totals { received: 1, published: 1, quarantined: 0 };
    let event_counts = (0..EVENT_TYPES_MAX + 10).map(|nth| (format!("t{nth}"), one)).collect();
    ledger.publish(Published { event_counts, ..Published::default() });
    assert_eq!(ledger.event_counts().len(), EVENT_TYPES_MAX + 1);
    assert_eq!(ledger.event_counts()[OTHER_TYPES].published, 10);
}

fn retry(frame: Option<u64>, settled: bool) -> Injection {
    Injection::Retry(Retry {
        raw_offset: None,
        letter: LetterId::of_text("a letter"),
        event_type: "t".into(),
        offset: 7,
        frame: frame.map(FrameNo),
        settled,
    })
}

fn with_letter(injections: Vec<Injection>) -> Checkpoint {
    let event_counts =
        BTreeMap::from([("t".to_owned(), Totals { received: 1, published: 0, quarantined: 1 })]);
    Checkpoint { injections, event_counts, ..checkpoint() }
}

/// The report in which the watermark passes the retried record.
fn published(frame: u64) -> Published {
    Published {
        event_counts: vec![("t".to_owned(), Totals { received: 1, published: 1, quarantined: 0 })],
        ..watermark(frame)
    }
}

const MOVED: Totals = Totals { received: 1, published: 1, quarantined: 0 };

#[test]
fn retry_is_injected_and_counted_once() {
    let mut ledger = Ledger::new(with_letter(Vec::new()), AFTER);
    let Injection::Retry(request) = retry(None, false) else { panic!("a retry") };
    ledger.retry(request.clone());
    ledger.retry(request.clone());
    assert!(!ledger.has_to_inject(), "not before the checkpoint has it");
    tick(&mut ledger);
    assert_eq!(ledger.to_inject(), [retry(None, false)]);
    assert_eq!(ledger.retries_open(), 1);
    ledger.received(reached(1));
    ledger.injected(FrameNo(1), retry(None, false));
    assert!(!ledger.has_to_inject() && ledger.brings_retry(FrameNo(1)) && !ledger.brings_retry(FrameNo(2)));
    // Once it is durable, a restart finds its frame in the checkpoint.
    ledger.synced(reached(1));
    tick(&mut ledger);
    assert_eq!(ledger.checkpoint().injections, [retry(Some(1), false)]);
    ledger.publish(published(1));
    tick(&mut ledger);
    assert_eq!(ledger.checkpoint().injections, [retry(Some(1), true)]);
    assert_eq!((ledger.checkpoint().event_counts["t"], ledger.event_counts()["t"]), (MOVED, MOVED));
    assert!(!ledger.has_to_inject());
    tick(&mut ledger);
    ledger.close(request.letter);
    tick(&mut ledger);
    assert!(ledger.checkpoint().injections.is_empty());
    assert_eq!((ledger.checkpoint().event_counts["t"], ledger.retries_open()), (MOVED, 0));
}

#[test]
fn restart_reinjects_retry_only_if_frame_was_truncated() {
    for (frame, durable, again) in [(None, 1, true), (Some(1), 1, false), (Some(2), 1, true)] {
        let mut found = with_letter(vec![retry(frame, false)]);
        found.durable = reached(durable).mark;
        let mut ledger = Ledger::new(found, AFTER);
        assert_eq!(ledger.has_to_inject(), again, "{frame:?}");
        if again {
            ledger.received(reached(2));
            ledger.injected(FrameNo(2), retry(frame, false));
        }
        ledger.publish(published(2));
        tick(&mut ledger);
        assert_eq!(ledger.checkpoint().event_counts["t"], MOVED, "{frame:?}");
        assert!(ledger.retries().all(|retry| retry.settled));
    }
    let mut ledger = Ledger::new(with_letter(vec![retry(Some(1), true)]), AFTER);
    assert!(!ledger.has_to_inject());
    tick(&mut ledger);
    assert_eq!(ledger.event_counts()["t"].quarantined, 1, "it was counted before the restart");
}

fn counted(frames: u64, lane: u64, passed: u64, ahead: u64) -> Published {
    let of = |published| vec![("t".to_owned(), Totals { published, ..Totals::default() })];
    let counted_beyond_watermark = passed > 0;
    let (event_counts, counts_ahead) = (of(passed), of(ahead));
    let lanes = vec![(64, FrameNo(lane))];
    Published { lanes, event_counts, counts_ahead, counted_beyond_watermark, ..watermark(frames) }
}

/// Records that a start would truncate are sent and counted again, so the checkpoint has neither their
/// progress nor their counts.
#[test]
fn checkpoint_counts_what_its_progress_covers() {
    let in_checkpoint = |ledger: &mut Ledger| {
        tick(ledger);
        let found = ledger.checkpoint();
        (found.watermark.frame.0, found.lanes.len(), found.event_counts.get("t").map_or(0, |of| of.published))
    };
    let mut ledger = three_received(AFTER);
    ledger.publish(counted(1, 3, 0, 2));
    assert_eq!(in_checkpoint(&mut ledger), (1, 0, 0), "the lane would be cut to the watermark");
    ledger.synced(reached(3));
    assert_eq!(in_checkpoint(&mut ledger), (1, 1, 2));
    ledger.received(reached(4));
    ledger.received(reached(5));
    ledger.publish(counted(1, 4, 1, 2));
    assert_eq!(in_checkpoint(&mut ledger), (1, 1, 2), "the watermark alone has no such counts");
    ledger.publish(counted(2, 5, 1, 2));
    assert!(ledger.wants_sync(Instant::now()));
    ledger.synced(reached(4));
    assert_eq!(in_checkpoint(&mut ledger), (1, 1, 3), "the former report, which is durable");
    assert_eq!(ledger.unaccounted(), None);
    ledger.synced(reached(5));
    assert_eq!(in_checkpoint(&mut ledger), (2, 1, 4));
}

#[test]
fn new_attempt_goes_on_with_counts_of_progress() {
    let mut ledger = three_received(AFTER);
    ledger.publish(counted(1, 3, 0, 2));
    assert_eq!(ledger.resume().lanes, [(64, FrameNo(3))]);
    ledger.publish(counted(1, 3, 0, 0));
    assert_eq!(ledger.event_counts()["t"].published, 2);
}

#[test]
fn former_counts_are_received_and_completed() {
    let event_counts =
        BTreeMap::from([("t".to_owned(), Totals { received: 0, published: 5, quarantined: 2 })]);
    let (lanes, durable) = (vec![(64, FrameNo(3))], reached(3).mark);
    let found = Checkpoint { counted_by_lane: false, event_counts, lanes, durable, ..checkpoint() };
    let mut ledger = Ledger::new(found, AFTER);
    assert!(!ledger.is_counted_by_lane());
    ledger.count_by_lane(vec![("t".to_owned(), Totals { published: 1, ..Totals::default() })]);
    tick(&mut ledger);
    assert!(ledger.checkpoint().counted_by_lane);
    assert_eq!(ledger.checkpoint().event_counts["t"], Totals { received: 7, published: 6, quarantined: 2 });
}

#[test]
fn event_without_outcome_is_unaccounted() {
    let of = |received, published| Totals { received, published, quarantined: 0 };
    let mut ledger = three_received(AFTER);
    let report = |totals| Published { event_counts: vec![("t".to_owned(), totals)], ..watermark(2) };
    ledger.publish(report(of(2, 2)));
    assert_eq!(ledger.unaccounted(), Some(Vec::new()));
    ledger.publish(report(of(3, 1)));
    assert_eq!(ledger.unaccounted(), Some(vec![("t", 2)]));
}

/// A transaction of two frames is open while the log is fsynced. A boundary noted during an fsync is not
/// covered by it.
#[test]
fn durable_stands_at_boundaries_only() {
    let at = |seq: u64| ResumePoint::at(CommitSeq::new(seq));
    let mut ledger = Ledger::new(checkpoint(), ConfirmAfter::Waited(Duration::ZERO)).resuming_exactly();
    ledger.connect(1, CommitSeq::ZERO);
    assert_eq!(ledger.begin_sync(), Some(Reached::default()));
    ledger.received(reached(2));
    ledger.mark(FrameNo(2), at(1_000));
    ledger.complete(reached(2));
    ledger.received(reached(3));
    assert_eq!(ledger.begin_sync(), Some(reached(2)));
    ledger.received(reached(4));
    ledger.mark(FrameNo(4), at(2_000));
    ledger.complete(reached(4));
    ledger.synced(reached(2));
    let next = ledger.prepare().unwrap();
    assert_eq!((next.durable.frame, &next.ever_confirmed), (FrameNo(2), &at(1_000)));
    ledger.written(next);
    assert!(ledger.wants_sync(Instant::now()));
    assert_eq!(ledger.begin_sync(), Some(reached(4)));
    ledger.synced(reached(4));
    let next = ledger.prepare().unwrap();
    assert_eq!((next.durable.frame, &next.ever_confirmed), (FrameNo(4), &at(2_000)));
    ledger.written(next);
    // A query window without rows moves the resume point, and needs no fsync.
    ledger.mark(FrameNo(4), at(3_000));
    ledger.complete(reached(4));
    assert!(!ledger.wants_sync(Instant::now()));
    assert_eq!(ledger.prepare().unwrap().ever_confirmed, at(3_000));
}
