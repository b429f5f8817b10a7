//! The recovery table: one row per rule of the design.

mod never;

use super::*;
use crate::buffer::checkpoint::{Mark, Phase};
use crate::identity::{Identity, ReplicationIdentity, SourceIdentity, StreamIdentity};
use crate::position::{CommitSeq, FrameNo, Position, Transaction};
use crate::source::postgres::admit::admit;

fn wanted() -> Wanted {
    Wanted {
        database: "lab".into(),
        slot: "forebay_lab".into(),
        publication: "forebay_lab".into(),
        source: "urn:forebay:lab".into(),
        never_written: false,
        epoch_least: 0,
        at: 5,
    }
}

fn server() -> Server {
    Server {
        system_id: "7".into(),
        timeline: 1,
        switches: Vec::new(),
        wal_end: CommitSeq::new(10_000),
        in_recovery: false,
        publication_exists: true,
    }
}

fn slot(confirmed: u64) -> ReplicationSlot {
    ReplicationSlot { confirmed: CommitSeq::new(confirmed), unusable: None }
}

fn mark(frame: u64, commit: u64) -> Mark {
    Mark {
        frame: FrameNo(frame),
        position: Some(Position { epoch: 0, commit: CommitSeq::new(commit), index: 0 }),
    }
}

fn last_seen(commit: u64) -> Transaction {
    Transaction { commit: CommitSeq::new(commit), xid: 9, time: 1 }
}

/// The watermark is frame 5 (commit 500), durable is frame 9 (commit 900), confirmed is 910.
fn found() -> Checkpoint {
    let mut found = Checkpoint::fresh(identity(), Phase::Running, 0, CommitSeq::new(910));
    found.watermark = mark(5, 500);
    found.durable = mark(9, 900);
    found.last_seen = Some(last_seen(900));
    found.lanes = vec![(3, FrameNo(7)), (4, FrameNo(12)), (5, FrameNo(5))];
    found.acknowledged = vec![(FrameNo(8), 0), (FrameNo(12), 1)];
    found.clean = true;
    found
}

fn identity() -> Identity {
    recover::identity(wanted().identity(&server()), wanted().source)
}

fn source(identity: &mut Identity) -> &mut ReplicationIdentity {
    let SourceIdentity::Replication(source) = &mut identity.source else { panic!("a slot") };
    source
}

fn log(good: Mark) -> LogState {
    LogState { good, damage: None, any: true, seen: None }
}

fn whole() -> LogState {
    log(mark(9, 900))
}

fn start(
    found: &Checkpoint,
    log: &LogState,
    slot: &ReplicationSlot,
    server: &Server,
) -> Result<Start, StartRefusal> {
    recover(&wanted(), Some(found), log, Some(slot), server)
}

#[test]
fn clean_directory_resumes_at_its_position() {
    let start = start(&found(), &whole(), &slot(910), &server()).unwrap();
    assert_eq!((start.create, start.truncate_after, start.expect), (false, FrameNo(9), None));
}

#[test]
fn tail_beyond_watermark_and_durable_is_truncated() {
    let start = start(&found(), &whole(), &slot(910), &server()).unwrap();
    assert_eq!(start.checkpoint.lanes, [(3, FrameNo(7)), (4, FrameNo(9))]);
    assert_eq!(start.checkpoint.acknowledged, [(FrameNo(8), 0)]);
    let behind = Checkpoint { durable: mark(2, 200), ..found() };
    assert_eq!(
        recover(&wanted(), Some(&behind), &whole(), Some(&slot(910)), &server()).unwrap().truncate_after,
        FrameNo(5)
    );
}

#[test]
fn lane_progress_counts_only_under_the_same_lane_hash() {
    let mut other = found();
    other.identity.lane_hash = "crc32/16".into();
    let start = start(&other, &whole(), &slot(910), &server()).unwrap();
    assert!(start.checkpoint.lanes.is_empty() && start.checkpoint.acknowledged.is_empty());
}

#[test]
fn slot_at_or_before_last_seen_must_deliver_it() {
    for (confirmed, expected) in [(899, true), (900, true), (901, false), (910, false)] {
        let start = start(&found(), &whole(), &slot(confirmed), &server()).unwrap();
        assert_eq!(start.expect, expected.then_some(last_seen(900)), "{confirmed}");
    }
}

#[test]
fn durable_damage_is_truncated_if_slot_still_has_it() {
    let damaged = log(mark(7, 700));
    let start = start(&found(), &damaged, &slot(700), &server()).unwrap();
    assert_eq!((start.truncate_after, start.checkpoint.durable), (FrameNo(7), mark(7, 700)));
}

#[test]
fn slot_beyond_truncated_damage_is_refused() {
    let cut = start(&found(), &log(mark(7, 700)), &slot(700), &server()).unwrap().checkpoint;
    assert_eq!(cut.ever_confirmed.seq(), CommitSeq::new(700));
    assert!(admit(&cut, cut.last_seen, Some(&slot(700)), &server()).is_ok());
    let refusal = admit(&cut, cut.last_seen, Some(&slot(910)), &server()).unwrap_err();
    assert!(matches!(refusal, SourceRefusal::SlotAhead { .. }), "{refusal}");
}

#[test]
fn durable_damage_is_refused_if_slot_has_passed_it() {
    let refusal = start(&found(), &log(mark(7, 700)), &slot(701), &server()).unwrap_err();
    assert!(
        matches!(refusal, StartRefusal::Log(LogRefusal::Damaged { first: FrameNo(8), last: FrameNo(9), .. })),
        "{refusal}"
    );
}

#[test]
fn damage_at_or_below_watermark_is_ignored() {
    let published = Checkpoint { durable: mark(5, 500), ..found() };
    let nothing_readable = LogState { good: mark(5, 500), damage: Some("bad".into()), any: true, seen: None };
    assert!(start(&published, &nothing_readable, &slot(910), &server()).is_ok());
}

#[test]
fn foreign_directory_is_refused() {
    type Change = fn(&mut Checkpoint);
    let changes: [Change; 5] = [
        |c| source(&mut c.identity).system_id = "8".into(),
        |c| source(&mut c.identity).database = "shop".into(),
        |c| source(&mut c.identity).slot = "other".into(),
        |c| source(&mut c.identity).publication = "other".into(),
        |c| c.identity.name = "urn:forebay:other".into(),
    ];
    for change in changes {
        let mut other = found();
        change(&mut other);
        let refusal = start(&other, &whole(), &slot(910), &server()).unwrap_err();
        assert!(matches!(refusal, StartRefusal::Source(SourceRefusal::Identity { .. })), "{refusal}");
    }
}

#[test]
fn missing_lost_or_advanced_slot_is_refused() {
    let missing = recover(&wanted(), Some(&found()), &whole(), None, &server()).unwrap_err();
    assert!(matches!(missing, StartRefusal::Source(SourceRefusal::SlotMissing { .. })));
    let lost = ReplicationSlot { unusable: Some("lost".into()), ..slot(910) };
    assert!(matches!(
        start(&found(), &whole(), &lost, &server()).unwrap_err(),
        StartRefusal::Source(SourceRefusal::SlotUnusable { .. })
    ));
    assert!(matches!(
        start(&found(), &whole(), &slot(911), &server()).unwrap_err(),
        StartRefusal::Source(SourceRefusal::SlotAhead { .. })
    ));
}

#[test]
fn wal_end_below_last_seen_is_another_history() {
    for (wal_end, ever_confirmed, last_seen_at, refused) in
        [(909, 910, 900, true), (910, 910, 900, false), (949, 910, 950, true), (950, 910, 950, false)]
    {
        let checkpoint = Checkpoint {
            ever_confirmed: CommitSeq::new(ever_confirmed).into(),
            last_seen: Some(last_seen(last_seen_at)),
            ..found()
        };
        let server = Server { wal_end: CommitSeq::new(wal_end), ..server() };
        let result = start(&checkpoint, &whole(), &slot(900), &server);
        assert_eq!(
            matches!(result, Err(StartRefusal::Source(SourceRefusal::OtherHistory { .. }))),
            refused,
            "{wal_end} {ever_confirmed} {last_seen_at}"
        );
        let standby = Server { in_recovery: true, ..server };
        let result = start(&checkpoint, &whole(), &slot(900), &standby);
        assert_eq!(matches!(&result, Err(refusal) if refusal.passes()), refused, "a standby climbs again");
    }
}

#[test]
fn timeline_switch_below_last_seen_is_another_history() {
    for (timeline, switches, refused) in [
        (2, vec![(1, 909)], true),
        (2, vec![(1, 910)], false),
        (3, vec![(1, 2_000), (2, 3_000)], false),
        (2, vec![], true),
        (5, vec![(4, 2_000)], true),
    ] {
        let switches = switches.into_iter().map(|(timeline, at)| (timeline, CommitSeq::new(at))).collect();
        let server = Server { timeline, switches, ..server() };
        match start(&found(), &whole(), &slot(905), &server) {
            Ok(start) => assert!(!refused && start.checkpoint.identity.source.timeline() == timeline),
            Err(refusal) => assert!(
                refused && matches!(refusal, StartRefusal::Source(SourceRefusal::OtherHistory { .. })),
                "{refusal}"
            ),
        }
    }
    let mut newer = found();
    newer.identity.source.set_timeline(3);
    assert!(matches!(
        start(&newer, &whole(), &slot(905), &server()).unwrap_err(),
        StartRefusal::Source(SourceRefusal::OtherHistory { .. })
    ));
}

#[test]
fn empty_directory_creates_both_or_refuses_used_ones() {
    let nothing = log(Mark::default());
    let nothing = LogState { any: false, ..nothing };
    let bare = Server { publication_exists: false, ..server() };
    let first = recover(&wanted(), None, &nothing, None, &bare).unwrap();
    assert!(first.create && first.checkpoint.phase == Phase::Creating);
    let first = recover(&wanted(), None, &nothing, None, &server()).unwrap();
    assert!(first.create, "a publication without a slot was never read");
    for server in [server(), bare] {
        let refusal = recover(&wanted(), None, &nothing, Some(&slot(1)), &server).unwrap_err();
        assert!(matches!(refusal, StartRefusal::Source(SourceRefusal::UsedBefore { .. })), "{refusal}");
    }
    let segments = LogState { any: true, ..nothing };
    assert_eq!(
        recover(&wanted(), None, &segments, None, &server()).unwrap_err(),
        LogRefusal::CheckpointMissing.into()
    );
}

#[test]
fn explicit_never_lets_empty_directory_use_existing_slot() {
    let wanted = Wanted { never_written: true, epoch_least: 3, ..wanted() };
    let nothing = LogState { good: Mark::default(), damage: None, any: false, seen: None };
    let start = recover(&wanted, None, &nothing, Some(&slot(700)), &server()).unwrap();
    assert_eq!(
        (start.create, start.checkpoint.ever_confirmed.seq(), start.checkpoint.epoch),
        (false, CommitSeq::new(700), 3)
    );
    let refusal = recover(&wanted, None, &nothing, None, &server()).unwrap_err();
    assert!(
        matches!(refusal, StartRefusal::Source(SourceRefusal::OnlySlotMissing { .. })),
        "a missing slot is not made again silently: {refusal}"
    );
}

/// An interrupted first start leaves no slot, or a slot at the position that was noted before it was created.
/// Any other slot was created or moved by another directory.
#[test]
fn interrupted_first_start_takes_its_own_slot_only() {
    let nothing = LogState { good: Mark::default(), damage: None, any: false, seen: None };
    let creating =
        |ever_confirmed| Checkpoint::fresh(identity(), Phase::Creating, 0, CommitSeq::new(ever_confirmed));
    for (noted, stands, goes_on) in [
        (0, None, true),
        (800, None, true),
        (800, Some(800), true),
        (0, Some(800), false),
        (800, Some(801), false),
        (800, Some(799), false),
    ] {
        let slot = stands.map(slot);
        let started = recover(&wanted(), Some(&creating(noted)), &nothing, slot.as_ref(), &server());
        match started {
            Ok(start) => assert!(goes_on && start.create, "{noted} {stands:?}"),
            Err(refusal) => {
                assert!(
                    !goes_on && matches!(refusal, StartRefusal::Source(SourceRefusal::UsedBefore { .. })),
                    "{noted} {stands:?}: {refusal}"
                );
            }
        }
    }
}

#[test]
fn running_process_uses_its_own_higher_tail() {
    let admitted = admit(&found(), Some(last_seen(950)), Some(&slot(905)), &server()).unwrap();
    assert_eq!(admitted.expect, Some(last_seen(950)));
    let short = Server { wal_end: CommitSeq::new(949), ..server() };
    assert!(matches!(
        admit(&found(), Some(last_seen(950)), Some(&slot(905)), &short),
        Err(SourceRefusal::OtherHistory { .. })
    ));
}

#[test]
fn slot_under_creation_is_waited_for() {
    let creating = Checkpoint { phase: Phase::Creating, ..found() };
    let in_the_making = slot(0);
    for checkpoint in [&creating, &found()] {
        let refused = recover(&wanted(), Some(checkpoint), &whole(), Some(&in_the_making), &server());
        assert!(refused.unwrap_err().passes(), "its position is not known yet");
    }
    let never = Wanted { never_written: true, ..wanted() };
    let empty = LogState { good: Mark::default(), damage: None, any: false, seen: None };
    assert!(recover(&never, None, &empty, Some(&in_the_making), &server()).unwrap_err().passes());
    let lost = ReplicationSlot { unusable: Some("lost".into()), ..in_the_making };
    let refused = recover(&wanted(), Some(&creating), &whole(), Some(&lost), &server()).unwrap_err();
    assert!(!refused.passes(), "{refused}");
}

/// Like [`found`], for a directory that has published.
fn published() -> Checkpoint {
    let mut found = found();
    found.identity.stream = Some(StreamIdentity { name: "arn".into(), created: 1 });
    found
}

#[test]
fn without_database_only_durable_changes_are_published() {
    type Change = fn(&mut Checkpoint);
    let rows: [(&str, Change, LogState, Option<u64>); 9] = [
        ("a backlog", |_| {}, whole(), Some(9)),
        ("no backlog", |c| c.watermark = mark(9, 900), whole(), Some(9)),
        ("durable is behind the watermark", |c| c.durable = mark(2, 200), whole(), Some(5)),
        ("more was written than is durable", |_| {}, log(mark(12, 990)), Some(9)),
        ("damage in what is durable", |_| {}, log(mark(7, 700)), None),
        ("damage below low only", |c| c.durable = mark(5, 500), log(mark(5, 500)), Some(5)),
        ("the stream is not known", |c| c.identity.stream = None, whole(), None),
        (
            "slot and publication are being made",
            |c| (c.phase, c.ever_confirmed) = (Phase::Creating, CommitSeq::new(700).into()),
            whole(),
            None,
        ),
        ("another lane hash", |c| c.identity.lane_hash = "crc32/16".into(), whole(), Some(9)),
    ];
    for (name, change, log, expected) in rows {
        let mut found = published();
        change(&mut found);
        let start = alone(&wanted(), Some(&found), &log).unwrap();
        assert_eq!(start.as_ref().map(|start| start.truncate_after.0), expected, "{name}");
        // It begins exactly as if the database had responded.
        let asked = recover(&wanted(), Some(&found), &log, Some(&slot(700)), &server()).unwrap();
        if let Some(start) = start {
            assert_eq!(
                (start.truncate_after, start.checkpoint),
                (asked.truncate_after, asked.checkpoint),
                "{name}"
            );
        }
    }
    assert_eq!(alone(&wanted(), None, &whole()), Ok(None));
}

#[test]
fn without_database_foreign_directory_is_refused_at_once() {
    type Change = fn(&mut Checkpoint);
    let changes: [Change; 4] = [
        |c| source(&mut c.identity).database = "shop".into(),
        |c| source(&mut c.identity).slot = "other".into(),
        |c| source(&mut c.identity).publication = "other".into(),
        |c| c.identity.name = "urn:forebay:other".into(),
    ];
    for change in changes {
        let mut other = published();
        change(&mut other);
        let refused = alone(&wanted(), Some(&other), &whole());
        assert!(matches!(refused, Err(StartRefusal::Source(SourceRefusal::Identity { .. }))), "{refused:?}");
    }
}

#[test]
fn late_database_check_refuses_like_start() {
    let begun = alone(&wanted(), Some(&published()), &whole()).unwrap().unwrap().checkpoint;
    let servers = [
        (Server { system_id: "8".into(), ..server() }, slot(910)),
        (Server { wal_end: CommitSeq::new(800), ..server() }, slot(700)),
        (Server { timeline: 2, switches: vec![(1, CommitSeq::new(800))], ..server() }, slot(700)),
        (server(), slot(911)),
    ];
    for (server, slot) in servers {
        let at_start = start(&published(), &whole(), &slot, &server).unwrap_err();
        assert_eq!(
            StartRefusal::Source(admit(&begun, begun.last_seen, Some(&slot), &server).unwrap_err()),
            at_start
        );
    }
    let admitted = admit(&begun, begun.last_seen, Some(&slot(900)), &server()).unwrap();
    assert_eq!(admitted.expect, Some(last_seen(900)), "the tip must still come");
}

/// After an unclean stop, the log and the timeline decide; after a clean one, the checkpoint. What was
/// confirmed must be in the history.
#[test]
fn unproven_history_begins_an_epoch_by_itself() {
    let later = |switch| Server { timeline: 2, switches: vec![(1, CommitSeq::new(switch))], ..server() };
    let short = Server { wal_end: CommitSeq::new(940), ..server() };
    let evidence = LogState { seen: Some((0, last_seen(950))), ..whole() };
    let stale = LogState { seen: Some((7, last_seen(950))), ..whole() };
    for (name, clean, log, server, expected) in [
        ("clean, failover", true, whole(), later(2_000), Some(0)),
        ("unclean, the same timeline", false, whole(), server(), Some(0)),
        ("unclean, failover", false, whole(), later(2_000), Some(1)),
        ("unclean, the log has seen more", false, evidence.clone(), short.clone(), Some(1)),
        ("unclean, of another epoch", false, stale, short.clone(), Some(0)),
        ("unclean, what was confirmed is missing", false, whole(), later(800), None),
    ] {
        let found = Checkpoint { clean, ..found() };
        let started = start(&found, &log, &slot(905), &server);
        assert_eq!(started.as_ref().ok().map(|start| start.checkpoint.epoch), expected, "{name}");
        let Ok(start) = started else { continue };
        assert_eq!(start.new_epoch, expected == Some(1), "{name}");
        assert_eq!(start.checkpoint.injections.len(), usize::from(start.new_epoch), "{name}");
        assert!(!start.checkpoint.clean, "{name}: a process runs");
        // The running process is not judged again by the stop before it.
        let again = recover(&wanted(), Some(&start.checkpoint), &whole(), Some(&slot(905)), &server).unwrap();
        assert!(!again.new_epoch, "{name}");
    }
    let started = start(&Checkpoint { clean: false, ..found() }, &evidence, &slot(905), &server()).unwrap();
    assert_eq!(started.expect, Some(last_seen(950)), "what the log has seen must come again");
    assert_eq!(
        started.checkpoint.last_seen,
        Some(last_seen(950)),
        "the log is truncated, the evidence stays"
    );
}

/// A directory that is lost with its container cannot know what was published, so the timeline raises the
/// epoch.
#[test]
fn wiped_directory_takes_its_epoch_from_the_timeline() {
    let nothing = LogState { good: Mark::default(), damage: None, any: false, seen: None };
    for (least, timeline, epoch) in [(0, 1, 0), (0, 3, 2), (5, 3, 5), (0, 70_000, u16::MAX)] {
        let wanted = Wanted { never_written: true, epoch_least: least, ..wanted() };
        let server = Server { timeline, ..server() };
        let start = recover(&wanted, None, &nothing, Some(&slot(700)), &server).unwrap();
        assert_eq!(start.checkpoint.epoch, epoch);
    }
}
