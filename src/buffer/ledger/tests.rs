//! The account, without any I/O.

use super::*;
use crate::buffer::checkpoint::{Identity, Phase};
use crate::position::Position;

const AFTER: ConfirmAfter = ConfirmAfter::Waited(Duration::from_secs(5));

fn checkpoint() -> Checkpoint {
    Checkpoint {
        identity: Identity {
            system_id: "1".into(),
            timeline: 1,
            database: "lab".into(),
            slot: "s".into(),
            publication: "p".into(),
            source: "urn:forebay:lab".into(),
            stream: None,
            lane_hash: "md5".into(),
        },
        phase: Phase::Running,
        epoch: 0,
        told: Lsn::new(100),
        tip: None,
        low: Mark::default(),
        held: Mark::default(),
        lanes: Vec::new(),
        answered: Vec::new(),
        injections: Vec::new(),
        books: BTreeMap::new(),
    }
}

fn reached(frame: u64) -> Reached {
    let commit = Lsn::new(100 + frame * 10);
    Reached {
        mark: Mark { frame: FrameNo(frame), position: Some(Position { epoch: 0, commit, index: 0 }) },
        transaction: Some(Transaction { commit, xid: 7, time: 0 }),
    }
}

fn low(frame: u64) -> Published {
    Published { low: reached(frame), ..Published::default() }
}

/// Three frames, each its own transaction that ends at 105 + 10 n.
fn three_received(confirm_after: ConfirmAfter) -> Ledger {
    let mut ledger = Ledger::new(checkpoint(), confirm_after);
    ledger.connect(1);
    for frame in 1..=3 {
        ledger.received(reached(frame));
        ledger.mark(FrameNo(frame), Lsn::new(105 + frame * 10));
    }
    ledger
}

fn tick(ledger: &mut Ledger) -> Option<u64> {
    let next = ledger.prepare()?;
    ledger.written(next).map(|settled| settled.lsn().get())
}

#[test]
fn nothing_is_confirmed_before_it_is_settled() {
    let mut ledger = three_received(AFTER);
    assert_eq!(tick(&mut ledger), None);
    ledger.publish(low(2));
    assert_eq!(tick(&mut ledger), Some(125));
    assert_eq!(ledger.checkpoint().told, Lsn::new(125));
    assert_eq!(tick(&mut ledger), None, "nothing new, nothing written");
}

#[test]
fn what_is_published_while_the_checkpoint_is_written_waits_for_the_next_one() {
    let mut ledger = three_received(AFTER);
    ledger.publish(low(1));
    let next = ledger.prepare().unwrap();
    ledger.publish(low(3));
    assert_eq!(ledger.written(next).unwrap().lsn(), Lsn::new(115));
    assert_eq!(tick(&mut ledger), Some(135));
}

#[test]
fn a_marker_that_moves_while_the_checkpoint_is_written_does_not_hold_back_the_confirm() {
    let mut ledger = three_received(AFTER);
    ledger.publish(low(1));
    tick(&mut ledger);
    ledger.publish(low(3));
    for keepalive in [200, 300, 400] {
        let next = ledger.prepare().unwrap();
        let told = next.told;
        ledger.mark(FrameNo(3), Lsn::new(keepalive));
        assert_eq!(ledger.written(next).unwrap().lsn(), told);
    }
}

#[test]
fn what_waits_too_long_is_held_and_then_confirmed() {
    let mut ledger = three_received(AFTER);
    let start = Instant::now();
    assert!(!ledger.wants_sync(start));
    assert!(!ledger.wants_sync(start + Duration::from_secs(4)));
    assert!(ledger.wants_sync(start + Duration::from_secs(5)));
    ledger.synced(reached(3));
    assert_eq!(tick(&mut ledger), Some(135));
    assert_eq!(ledger.checkpoint().held.frame, FrameNo(3));
    assert!(!ledger.wants_sync(start + Duration::from_mins(1)), "all of it is held");
}

#[test]
fn while_lanes_are_apart_what_the_others_have_published_is_held_at_once() {
    let behind = Some(Behind { lanes: "0-63".to_owned(), shard: None });
    let ahead = |frame| vec![(64, FrameNo(frame)), (65, FrameNo(1))];
    for (what, behind, lanes, confirm_after, expected) in [
        ("apart", behind.clone(), ahead(3), AFTER, true),
        ("apart, but nothing beyond low", behind.clone(), ahead(1), AFTER, false),
        ("together", None, ahead(3), AFTER, false),
        ("only what is published counts", behind, ahead(3), ConfirmAfter::Never, false),
    ] {
        let mut ledger = three_received(confirm_after);
        ledger.publish(Published { lanes, behind, ..low(1) });
        assert_eq!(ledger.wants_sync(Instant::now()), expected, "{what}");
        ledger.synced(reached(3));
        assert!(!ledger.wants_sync(Instant::now()), "{what}: all of it is held");
    }
}

#[test]
fn what_is_published_in_time_needs_no_fsync() {
    let mut ledger = three_received(AFTER);
    let start = Instant::now();
    assert!(!ledger.wants_sync(start));
    ledger.publish(low(3));
    assert!(!ledger.wants_sync(start + Duration::from_secs(6)));
}

#[test]
fn under_constant_load_the_oldest_change_decides() {
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
fn zero_holds_at_once_and_never_holds_never() {
    let now = Instant::now();
    assert!(three_received(ConfirmAfter::Waited(Duration::ZERO)).wants_sync(now));
    let mut never = three_received(ConfirmAfter::Never);
    assert!(!never.wants_sync(now + Duration::from_hours(1)));
    never.synced(reached(3));
    assert_eq!(tick(&mut never), None, "held does not settle");
    never.publish(low(3));
    assert_eq!(tick(&mut never), Some(135));
}

#[test]
fn a_new_connection_confirms_nothing_of_the_old_one() {
    let mut ledger = three_received(AFTER);
    let number = ledger.connect(1);
    ledger.publish(low(3));
    assert_eq!(tick(&mut ledger), None);
    ledger.mark(FrameNo(3), Lsn::new(140));
    let next = ledger.prepare().unwrap();
    let settled = ledger.written(next).unwrap();
    assert_eq!((settled.lsn(), settled.connection()), (Lsn::new(140), number));
}

#[test]
fn the_tip_names_the_highest_transaction_of_low_held_and_lanes() {
    let mut ledger = three_received(AFTER);
    ledger.publish(Published { highest: reached(3).transaction, lanes: vec![(7, FrameNo(3))], ..low(1) });
    tick(&mut ledger);
    assert_eq!(ledger.checkpoint().tip, reached(3).transaction);
}

#[test]
fn what_is_left_of_an_older_epoch_never_becomes_the_tip() {
    let adopted = Checkpoint { epoch: 1, held: reached(3).mark, ..checkpoint() };
    let mut ledger = Ledger::new(adopted, AFTER);
    ledger.received(reached(3));
    ledger.synced(reached(4));
    ledger.publish(low(3));
    assert_eq!(ledger.tip(), None);
    assert_eq!(ledger.prepare().unwrap().tip, None);
}

#[test]
fn what_this_process_knows_is_its_own_tail_and_the_timeline_of_its_connection() {
    let mut ledger = three_received(AFTER);
    ledger.connect(2);
    let known = ledger.known();
    assert_eq!((known.identity.timeline, known.tip), (2, reached(3).transaction));
    assert_eq!((known.told, ledger.checkpoint().identity.timeline), (ledger.checkpoint().told, 1));
    ledger.promoted(3);
    assert_eq!(ledger.known().identity.timeline, 3);
    assert_eq!(ledger.prepare().unwrap().identity.timeline, 3, "the checkpoint says so with the next write");
}

#[test]
fn an_injection_stays_in_the_checkpoint_until_its_frame_is_settled() {
    let gap = Injection::Gap { epoch: 1, from: None, to: Lsn::new(5), reason: "x".into(), at: 0 };
    let mut ledger = Ledger::new(Checkpoint { injections: vec![gap.clone()], ..checkpoint() }, AFTER);
    assert_eq!(ledger.to_inject(), std::slice::from_ref(&gap));
    ledger.received(reached(1));
    ledger.injected(FrameNo(1), gap);
    assert!(ledger.to_inject().is_empty(), "not twice by one process");
    assert_eq!(ledger.prepare(), None);
    ledger.publish(low(1));
    tick(&mut ledger);
    assert!(ledger.checkpoint().injections.is_empty());
}

#[test]
fn thousands_of_markers_are_thinned_and_none_is_confirmed_early() {
    let mut ledger = Ledger::new(checkpoint(), AFTER);
    ledger.connect(1);
    for frame in 1..=20_000 {
        ledger.received(reached(frame));
        ledger.mark(FrameNo(frame), Lsn::new(105 + frame * 10));
        assert!(ledger.markers.len() <= MARKERS_MAX);
    }
    ledger.publish(low(10_000));
    let told = tick(&mut ledger).unwrap();
    assert!(told <= 105 + 10_000 * 10 && told > 105 + 9_900 * 10, "{told}");
}

#[test]
fn a_transaction_of_an_earlier_epoch_is_never_the_tip() {
    let mut ledger = Ledger::new(Checkpoint { epoch: 1, ..checkpoint() }, AFTER);
    ledger.received(reached(3));
    ledger.synced(reached(3));
    ledger.publish(low(2));
    assert_eq!(ledger.tip(), None);
    tick(&mut ledger);
    assert_eq!((ledger.checkpoint().held.frame, ledger.checkpoint().tip), (FrameNo(3), None));
}

#[test]
fn more_event_types_than_the_checkpoint_can_hold_share_a_book() {
    let mut ledger = Ledger::new(checkpoint(), AFTER);
    let one = Totals { published: 1, quarantined: 0 };
    let books = (0..BOOKS_MAX + 10).map(|nth| (format!("t{nth}"), one)).collect();
    ledger.publish(Published { books, ..Published::default() });
    assert_eq!(ledger.books().len(), BOOKS_MAX + 1);
    assert_eq!(ledger.books()[OTHER_TYPES].published, 10);
}

fn retry(frame: Option<u64>, settled: bool) -> Injection {
    Injection::Retry(Retry {
        letter: LetterId::of_text("a letter"),
        event_type: "t".into(),
        offset: 7,
        frame: frame.map(FrameNo),
        settled,
    })
}

fn with_letter(injections: Vec<Injection>) -> Checkpoint {
    let books = BTreeMap::from([("t".to_owned(), Totals { published: 0, quarantined: 1 })]);
    Checkpoint { injections, books, ..checkpoint() }
}

/// What low passes when the retried record is published.
fn published(frame: u64) -> Published {
    Published { books: vec![("t".to_owned(), Totals { published: 1, quarantined: 0 })], ..low(frame) }
}

const MOVED: Totals = Totals { published: 1, quarantined: 0 };

#[test]
fn a_retry_moves_the_books_once_and_is_injected_once() {
    let mut ledger = Ledger::new(with_letter(Vec::new()), AFTER);
    let Injection::Retry(asked) = retry(None, false) else { panic!("a retry") };
    ledger.retry(asked.clone());
    ledger.retry(asked.clone());
    assert!(!ledger.has_to_inject(), "not before the checkpoint has it");
    tick(&mut ledger);
    assert_eq!(ledger.to_inject(), [retry(None, false)]);
    assert_eq!(ledger.retries_open(), 1);
    ledger.received(reached(1));
    ledger.injected(FrameNo(1), retry(None, false));
    assert!(!ledger.has_to_inject() && ledger.brings_retry(FrameNo(1)) && !ledger.brings_retry(FrameNo(2)));
    // Once it is held, a restart knows its frame.
    ledger.synced(reached(1));
    tick(&mut ledger);
    assert_eq!(ledger.checkpoint().injections, [retry(Some(1), false)]);
    ledger.publish(published(1));
    tick(&mut ledger);
    assert_eq!(ledger.checkpoint().injections, [retry(Some(1), true)]);
    assert_eq!((ledger.checkpoint().books["t"], ledger.books()["t"]), (MOVED, MOVED));
    assert!(!ledger.has_to_inject());
    tick(&mut ledger);
    ledger.close(asked.letter);
    tick(&mut ledger);
    assert!(ledger.checkpoint().injections.is_empty());
    assert_eq!((ledger.checkpoint().books["t"], ledger.retries_open()), (MOVED, 0));
}

#[test]
fn a_restart_injects_a_retry_again_only_if_its_frame_was_cut() {
    for (frame, held, again) in [(None, 1, true), (Some(1), 1, false), (Some(2), 1, true)] {
        let mut found = with_letter(vec![retry(frame, false)]);
        found.held = reached(held).mark;
        let mut ledger = Ledger::new(found, AFTER);
        assert_eq!(ledger.has_to_inject(), again, "{frame:?}");
        if again {
            ledger.received(reached(2));
            ledger.injected(FrameNo(2), retry(frame, false));
        }
        ledger.publish(published(2));
        tick(&mut ledger);
        assert_eq!(ledger.checkpoint().books["t"], MOVED, "{frame:?}");
        assert!(ledger.retries().all(|retry| retry.settled));
    }
    let mut ledger = Ledger::new(with_letter(vec![retry(Some(1), true)]), AFTER);
    assert!(!ledger.has_to_inject());
    tick(&mut ledger);
    assert_eq!(ledger.books()["t"].quarantined, 1, "it was counted before the restart");
}
