//! Directories that are lost on a restart, and several instances of them (`confirm_after = "never"`).

use super::*;

/// With `never`, a directory that has received nothing starts wherever the slot is now, like an empty one.
#[test]
fn directory_that_received_nothing_follows_the_slot() {
    let never = Wanted { never_written: true, ..wanted() };
    let mut idle = Checkpoint::fresh(identity(), Phase::Running, 3, CommitSeq::new(500));
    let begin = |wanted: &Wanted, found: &Checkpoint, log: &LogState, server: &Server| {
        recover(wanted, Some(found), log, Some(&slot(910)), server)
    };
    let promoted = Server { timeline: 9, switches: vec![(1, CommitSeq::new(600))], ..server() };
    for (server, epoch) in [(server(), 3), (promoted, 8)] {
        for phase in [Phase::Running, Phase::Creating] {
            idle.phase = phase;
            let start = begin(&never, &idle, &LogState::default(), &server).unwrap();
            assert!(!start.create && !start.new_epoch);
            assert_eq!(
                (start.checkpoint.ever_confirmed, start.checkpoint.epoch),
                (CommitSeq::new(910).into(), epoch)
            );
        }
    }
    idle.phase = Phase::Running;
    let refused = |result: Result<Start, StartRefusal>| result.unwrap_err().code();
    assert_eq!(refused(begin(&wanted(), &idle, &LogState::default(), &server())), Some("slot_ahead"));
    // What the log has beyond the checkpoint may have been published.
    let seen = LogState { seen: Some((3, last_seen(700))), ..LogState::default() };
    assert_eq!(refused(begin(&never, &idle, &seen, &server())), Some("slot_ahead"));
    let other = Wanted { source: "urn:forebay:other".into(), ..never };
    assert!(refused(begin(&other, &idle, &LogState::default(), &server())).is_some());
}

/// With `never`, an instance without this directory may have published in the epoch of the timeline. So a
/// directory with a lower epoch begins a new one, and so does a directory whose configuration requires it.
#[test]
fn directory_beside_others_is_not_in_an_earlier_epoch() {
    let never = Wanted { never_written: true, ..wanted() };
    let raised = Wanted { epoch_least: 5, ..never.clone() };
    let mut full = found();
    source(&mut full.identity).timeline = 3;
    let third = Server { timeline: 3, ..server() };
    for (wanted, known, expected) in
        [(wanted(), 0, None), (never.clone(), 2, None), (never.clone(), 0, Some(2)), (raised, 3, Some(5))]
    {
        full.epoch = known;
        let start = recover(&wanted, Some(&full), &whole(), Some(&slot(910)), &third).unwrap();
        assert_eq!(
            (start.new_epoch, start.checkpoint.epoch),
            (expected.is_some(), expected.unwrap_or(known))
        );
        assert_eq!(start.checkpoint.injections.len(), usize::from(expected.is_some()));
    }
    // A first start that creates the slot begins in that epoch too.
    let no_publication = Server { publication_exists: false, ..third };
    let start = recover(&never, None, &LogState::default(), None, &no_publication).unwrap();
    assert_eq!((start.create, start.checkpoint.epoch), (true, 2));
}

/// A directory that has received nothing can still detect that the database was restored from an older copy.
#[test]
fn idle_directory_notices_a_restored_database() {
    let never = Wanted { never_written: true, ..wanted() };
    let idle = Checkpoint::fresh(identity(), Phase::Running, 0, CommitSeq::new(20_000));
    let refusal =
        recover(&never, Some(&idle), &LogState::default(), Some(&slot(910)), &server()).unwrap_err();
    assert_eq!(refusal.code(), Some("history_differs"));
}
