//! The recovery table: one row for each sentence of the design.

use super::*;
use crate::buffer::checkpoint::StreamIdentity;
use crate::position::Position;

fn wanted() -> Wanted {
    Wanted {
        database: "lab".into(),
        slot: "forebay_lab".into(),
        publication: "forebay_lab".into(),
        source: "urn:forebay:lab".into(),
        never_written: false,
        epoch_least: 0,
    }
}

fn server() -> Server {
    Server {
        system_id: "7".into(),
        timeline: 1,
        switches: Vec::new(),
        wal_end: Lsn::new(10_000),
        in_recovery: false,
        publication_exists: true,
    }
}

fn slot(confirmed: u64) -> Slot {
    Slot { confirmed: Lsn::new(confirmed), unusable: None }
}

fn mark(frame: u64, commit: u64) -> Mark {
    Mark { frame: FrameNo(frame), position: Some(Position { epoch: 0, commit: Lsn::new(commit), index: 0 }) }
}

fn tip(commit: u64) -> Transaction {
    Transaction { commit: Lsn::new(commit), xid: 9, time: 1 }
}

/// low is frame 5 (commit 500), held is frame 9 (commit 900), confirmed is 910.
fn found() -> Checkpoint {
    let mut found = Checkpoint::fresh(wanted().identity(&server()), Phase::Running, 0, Lsn::new(910));
    found.low = mark(5, 500);
    found.held = mark(9, 900);
    found.tip = Some(tip(900));
    found.lanes = vec![(3, FrameNo(7)), (4, FrameNo(12)), (5, FrameNo(5))];
    found.answered = vec![(FrameNo(8), 0), (FrameNo(12), 1)];
    found
}

fn log(good: Mark) -> LogState {
    LogState { good, damage: None, any: true }
}

fn whole() -> LogState {
    log(mark(9, 900))
}

fn start(found: &Checkpoint, log: &LogState, slot: &Slot, server: &Server) -> Result<Start, Refusal> {
    recover(&wanted(), Some(found), log, Some(slot), server)
}

#[test]
fn a_clean_directory_goes_on_where_it_was() {
    let start = start(&found(), &whole(), &slot(910), &server()).unwrap();
    assert_eq!((start.create, start.cut_after, start.expect), (false, FrameNo(9), None));
}

#[test]
fn everything_above_low_and_held_is_cut_and_lane_progress_with_it() {
    let start = start(&found(), &whole(), &slot(910), &server()).unwrap();
    assert_eq!(start.checkpoint.lanes, [(3, FrameNo(7)), (4, FrameNo(9))]);
    assert_eq!(start.checkpoint.answered, [(FrameNo(8), 0)]);
    let behind = Checkpoint { held: mark(2, 200), ..found() };
    assert_eq!(
        recover(&wanted(), Some(&behind), &whole(), Some(&slot(910)), &server()).unwrap().cut_after,
        FrameNo(5)
    );
}

#[test]
fn lane_progress_counts_only_under_the_same_lane_hash() {
    let mut other = found();
    other.identity.lane_hash = "crc32/16".into();
    let start = start(&other, &whole(), &slot(910), &server()).unwrap();
    assert!(start.checkpoint.lanes.is_empty() && start.checkpoint.answered.is_empty());
}

#[test]
fn a_slot_that_starts_at_or_before_the_tip_must_deliver_it() {
    for (confirmed, expected) in [(899, true), (900, true), (901, false), (910, false)] {
        let start = start(&found(), &whole(), &slot(confirmed), &server()).unwrap();
        assert_eq!(start.expect, expected.then_some(tip(900)), "{confirmed}");
    }
}

#[test]
fn damage_in_what_is_held_is_cut_if_postgres_still_has_it() {
    let damaged = log(mark(7, 700));
    let start = start(&found(), &damaged, &slot(700), &server()).unwrap();
    assert_eq!((start.cut_after, start.checkpoint.held), (FrameNo(7), mark(7, 700)));
}

#[test]
fn after_a_cut_a_slot_that_stands_further_than_the_one_that_had_the_rest_is_refused() {
    let cut = start(&found(), &log(mark(7, 700)), &slot(700), &server()).unwrap().checkpoint;
    assert_eq!(cut.told, Lsn::new(700));
    assert!(admit(&cut, cut.tip, Some(&slot(700)), &server()).is_ok());
    let refusal = admit(&cut, cut.tip, Some(&slot(910)), &server()).unwrap_err();
    assert!(matches!(refusal, Refusal::SlotAhead { .. }), "{refusal}");
}

#[test]
fn damage_in_what_is_held_is_refused_if_postgres_has_forgotten_it() {
    let refusal = start(&found(), &log(mark(7, 700)), &slot(701), &server()).unwrap_err();
    assert!(matches!(refusal, Refusal::Damaged { first: FrameNo(8), last: FrameNo(9), .. }), "{refusal}");
}

#[test]
fn damage_at_or_below_low_is_ignored() {
    let published = Checkpoint { held: mark(5, 500), ..found() };
    let nothing_readable = LogState { good: mark(5, 500), damage: Some("bad".into()), any: true };
    assert!(start(&published, &nothing_readable, &slot(910), &server()).is_ok());
}

#[test]
fn what_belongs_to_something_else_is_refused() {
    type Change = fn(&mut Checkpoint);
    let changes: [Change; 5] = [
        |c| c.identity.system_id = "8".into(),
        |c| c.identity.database = "shop".into(),
        |c| c.identity.slot = "other".into(),
        |c| c.identity.publication = "other".into(),
        |c| c.identity.source = "urn:forebay:other".into(),
    ];
    for change in changes {
        let mut other = found();
        change(&mut other);
        let refusal = start(&other, &whole(), &slot(910), &server()).unwrap_err();
        assert!(matches!(refusal, Refusal::Identity { .. }), "{refusal}");
    }
}

#[test]
fn a_slot_that_is_missing_lost_or_ahead_is_refused() {
    let missing = recover(&wanted(), Some(&found()), &whole(), None, &server()).unwrap_err();
    assert!(matches!(missing, Refusal::SlotMissing { .. }));
    let lost = Slot { unusable: Some("lost".into()), ..slot(910) };
    assert!(matches!(start(&found(), &whole(), &lost, &server()).unwrap_err(), Refusal::SlotUnusable { .. }));
    assert!(matches!(
        start(&found(), &whole(), &slot(911), &server()).unwrap_err(),
        Refusal::SlotAhead { .. }
    ));
}

#[test]
fn a_server_whose_log_ends_before_what_was_seen_is_another_history() {
    for (wal_end, told, tip_at, refused) in
        [(909, 910, 900, true), (910, 910, 900, false), (949, 910, 950, true), (950, 910, 950, false)]
    {
        let checkpoint = Checkpoint { told: Lsn::new(told), tip: Some(tip(tip_at)), ..found() };
        let server = Server { wal_end: Lsn::new(wal_end), ..server() };
        let result = start(&checkpoint, &whole(), &slot(900), &server);
        assert_eq!(matches!(result, Err(Refusal::OtherHistory { .. })), refused, "{wal_end} {told} {tip_at}");
        let standby = Server { in_recovery: true, ..server };
        let result = start(&checkpoint, &whole(), &slot(900), &standby);
        assert_eq!(matches!(&result, Err(refusal) if refusal.passes()), refused, "a standby climbs again");
    }
}

#[test]
fn a_timeline_switch_below_what_was_seen_is_another_history() {
    for (timeline, switches, refused) in [
        (2, vec![(1, 909)], true),
        (2, vec![(1, 910)], false),
        (3, vec![(1, 2_000), (2, 3_000)], false),
        (2, vec![], true),
        (5, vec![(4, 2_000)], true),
    ] {
        let switches = switches.into_iter().map(|(timeline, at)| (timeline, Lsn::new(at))).collect();
        let server = Server { timeline, switches, ..server() };
        match start(&found(), &whole(), &slot(905), &server) {
            Ok(start) => assert!(!refused && start.checkpoint.identity.timeline == timeline),
            Err(refusal) => assert!(refused && matches!(refusal, Refusal::OtherHistory { .. }), "{refusal}"),
        }
    }
    let mut newer = found();
    newer.identity.timeline = 3;
    assert!(matches!(
        start(&newer, &whole(), &slot(905), &server()).unwrap_err(),
        Refusal::OtherHistory { .. }
    ));
}

#[test]
fn an_empty_directory_makes_both_or_refuses_what_was_used_before() {
    let nothing = log(Mark::default());
    let nothing = LogState { any: false, ..nothing };
    let bare = Server { publication_exists: false, ..server() };
    let first = recover(&wanted(), None, &nothing, None, &bare).unwrap();
    assert!(first.create && first.checkpoint.phase == Phase::Creating);
    for (slot, server) in [(None, server()), (Some(slot(1)), server()), (Some(slot(1)), bare)] {
        let refusal = recover(&wanted(), None, &nothing, slot.as_ref(), &server).unwrap_err();
        assert!(matches!(refusal, Refusal::UsedBefore { .. }), "{refusal}");
    }
    let segments = LogState { any: true, ..nothing };
    assert_eq!(recover(&wanted(), None, &segments, None, &server()).unwrap_err(), Refusal::CheckpointMissing);
}

#[test]
fn with_never_written_an_empty_directory_goes_on_with_the_slot() {
    let wanted = Wanted { never_written: true, epoch_least: 3, ..wanted() };
    let nothing = LogState { good: Mark::default(), damage: None, any: false };
    let start = recover(&wanted, None, &nothing, Some(&slot(700)), &server()).unwrap();
    assert_eq!((start.create, start.checkpoint.told, start.checkpoint.epoch), (false, Lsn::new(700), 3));
    let refusal = recover(&wanted, None, &nothing, None, &server()).unwrap_err();
    assert!(
        matches!(refusal, Refusal::UsedBefore { .. }),
        "a missing slot is not made again silently: {refusal}"
    );
}

#[test]
fn a_first_start_that_was_interrupted_goes_on() {
    let creating = Checkpoint { phase: Phase::Creating, ..found() };
    for slot in [None, Some(slot(800))] {
        assert!(recover(&wanted(), Some(&creating), &whole(), slot.as_ref(), &server()).unwrap().create);
    }
}

#[test]
fn a_living_process_takes_its_own_tail_where_it_is_higher() {
    let admitted = admit(&found(), Some(tip(950)), Some(&slot(905)), &server()).unwrap();
    assert_eq!(admitted.expect, Some(tip(950)));
    let short = Server { wal_end: Lsn::new(949), ..server() };
    assert!(matches!(
        admit(&found(), Some(tip(950)), Some(&slot(905)), &short),
        Err(Refusal::OtherHistory { .. })
    ));
}

#[test]
fn a_slot_that_a_session_still_makes_is_waited_for() {
    let creating = Checkpoint { phase: Phase::Creating, ..found() };
    let in_the_making = slot(0);
    for checkpoint in [&creating, &found()] {
        let refused = recover(&wanted(), Some(checkpoint), &whole(), Some(&in_the_making), &server());
        assert!(refused.unwrap_err().passes(), "its position is not known yet");
    }
    let never = Wanted { never_written: true, ..wanted() };
    let empty = LogState { good: Mark::default(), damage: None, any: false };
    assert!(recover(&never, None, &empty, Some(&in_the_making), &server()).unwrap_err().passes());
    let lost = Slot { unusable: Some("lost".into()), ..in_the_making };
    let refused = recover(&wanted(), Some(&creating), &whole(), Some(&lost), &server()).unwrap_err();
    assert!(!refused.passes(), "{refused}");
}

/// As [`found`], of a directory that has published.
fn published() -> Checkpoint {
    let mut found = found();
    found.identity.stream = Some(StreamIdentity { arn: "arn".into(), created: 1 });
    found
}

#[test]
fn without_the_database_what_is_held_is_published_and_nothing_else() {
    type Change = fn(&mut Checkpoint);
    let rows: [(&str, Change, LogState, Option<u64>); 9] = [
        ("a backlog", |_| {}, whole(), Some(9)),
        ("no backlog", |c| c.low = mark(9, 900), whole(), Some(9)),
        ("held is behind low", |c| c.held = mark(2, 200), whole(), Some(5)),
        ("more was written than is held", |_| {}, log(mark(12, 990)), Some(9)),
        ("damage in what is held", |_| {}, log(mark(7, 700)), None),
        ("damage below low only", |c| c.held = mark(5, 500), log(mark(5, 500)), Some(5)),
        ("the stream is not known", |c| c.identity.stream = None, whole(), None),
        ("slot and publication are being made", |c| c.phase = Phase::Creating, whole(), None),
        ("another lane hash", |c| c.identity.lane_hash = "crc32/16".into(), whole(), Some(9)),
    ];
    for (name, change, log, expected) in rows {
        let mut found = published();
        change(&mut found);
        let start = alone(&wanted(), Some(&found), &log).unwrap();
        assert_eq!(start.as_ref().map(|start| start.cut_after.0), expected, "{name}");
        // It begins exactly as it would if the database had answered.
        let asked = recover(&wanted(), Some(&found), &log, Some(&slot(700)), &server()).unwrap();
        if let Some(start) = start {
            assert_eq!((start.cut_after, start.checkpoint), (asked.cut_after, asked.checkpoint), "{name}");
        }
    }
    assert_eq!(alone(&wanted(), None, &whole()), Ok(None));
}

#[test]
fn without_the_database_a_directory_of_something_else_is_refused_at_once() {
    type Change = fn(&mut Checkpoint);
    let changes: [Change; 4] = [
        |c| c.identity.database = "shop".into(),
        |c| c.identity.slot = "other".into(),
        |c| c.identity.publication = "other".into(),
        |c| c.identity.source = "urn:forebay:other".into(),
    ];
    for change in changes {
        let mut other = published();
        change(&mut other);
        let refused = alone(&wanted(), Some(&other), &whole());
        assert!(matches!(refused, Err(Refusal::Identity { .. })), "{refused:?}");
    }
}

#[test]
fn what_began_without_the_database_is_refused_by_it_later_as_at_a_start() {
    let begun = alone(&wanted(), Some(&published()), &whole()).unwrap().unwrap().checkpoint;
    let servers = [
        (Server { system_id: "8".into(), ..server() }, slot(910)),
        (Server { wal_end: Lsn::new(800), ..server() }, slot(700)),
        (Server { timeline: 2, switches: vec![(1, Lsn::new(800))], ..server() }, slot(700)),
        (server(), slot(911)),
    ];
    for (server, slot) in servers {
        let at_start = start(&published(), &whole(), &slot, &server).unwrap_err();
        assert_eq!(admit(&begun, begun.tip, Some(&slot), &server).unwrap_err(), at_start);
    }
    let admitted = admit(&begun, begun.tip, Some(&slot(900)), &server()).unwrap();
    assert_eq!(admitted.expect, Some(tip(900)), "the tip must still come");
}
