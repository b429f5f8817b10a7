//! A database put back to an older copy of its directory uses log sequence numbers again.

use crate::support::fixture::Fixture;
use crate::support::postgres::{Postgres, Version};
use crate::support::random::seed;
use crate::support::workload::Workload;

/// A daemon that knows a newer history than the database: the copy is older than what it has published.
fn restored(stop_first: bool) -> Fixture {
    let mut fixture = Fixture::start(Version::usual());
    fixture.plates(0..5);
    fixture.wait_until_published().assert_clean();
    fixture.wait_until_confirmed();
    // The server is stopped for the copy; the daemon comes back by itself.
    let mark = fixture.daemon.mark();
    let copy = fixture.postgres.copy_data_dir();
    fixture.daemon.wait_for_event_since(mark, "receiving");
    fixture.plates(5..10);
    fixture.wait_until_published().assert_clean();
    fixture.wait_until_confirmed();
    if stop_first {
        assert!(fixture.daemon.terminate().success());
    }
    fixture.postgres.restore_data_dir(&copy);
    fixture
}

/// The new history writes more than the old one had: it ends beyond what the daemon has seen.
fn write_beyond(postgres: &Postgres) {
    postgres.execute(
        "create table if not exists public.noise (t text); \
         insert into public.noise select repeat('x', 500) from generate_series(1, 4000)",
    );
}

fn adopt_and_go_on(fixture: &mut Fixture) {
    let said = fixture.adopt(&[]);
    assert!(said.contains("Epoch 1 begins"), "{said}");
    fixture.go_on();
    fixture.plates(200..203);
    let gap = fixture.gap(1);
    assert_eq!(gap["data"]["reason"], "the test says so");
    let report = fixture.wait_until_published();
    assert!(
        report.reordered.is_empty() && report.malformed.is_empty() && report.misfiled.is_empty(),
        "{report}"
    );
    fixture.wait_until_confirmed();
    assert!(fixture.daemon.terminate().success());
    fixture.go_on();
    fixture.plates(203..205);
    fixture.wait_until_published();
}

#[test]
fn restored_database_behind_last_seen_is_refused() {
    let mut fixture = restored(true);
    let slot = fixture.confirmed();
    fixture.refuses(&[r#"code="history_differs""#, "write-ahead log ends at", "forebay adopt --reason"]);
    assert_eq!(fixture.confirmed(), slot, "nothing was confirmed");
    fixture.plates(100..105);
    adopt_and_go_on(&mut fixture);
}

#[test]
fn restored_database_beyond_last_seen_is_refused() {
    let mut fixture = restored(true);
    fixture.plates(100..105);
    write_beyond(&fixture.postgres);
    fixture.plates(105..110);
    let slot = fixture.confirmed();
    fixture.refuses(&[r#"code="history_differs""#, "has passed", "forebay adopt --reason"]);
    assert_eq!(fixture.confirmed(), slot, "nothing was confirmed");
    adopt_and_go_on(&mut fixture);
}

#[test]
fn database_restored_while_running_is_refused() {
    let mut fixture = restored(false);
    fixture.gives_up(&[r#"code="history_differs""#, "forebay adopt --reason"]);
    fixture.plates(100..105);
    adopt_and_go_on(&mut fixture);
}

#[test]
fn restored_database_under_random_workload_is_refused() {
    let seed = seed();
    let mut fixture = Fixture::start(Version::usual());
    let mut work = Workload::new(&fixture.postgres, seed);
    work.commit(30);
    let mark = fixture.daemon.mark();
    let copy = fixture.postgres.copy_data_dir();
    fixture.daemon.wait_for_event_since(mark, "receiving");
    Workload::new(&fixture.postgres, seed + 1).commit(30);
    fixture.wait_until_published().assert_clean();
    // What was published in the last second before a crash may not be noted yet; nothing local could then tell the
    // histories apart (and nothing would be skipped).
    fixture.wait_until_confirmed();
    // A crash of the machine: nobody says good-bye, then the backup.
    fixture.daemon.kill9();
    fixture.postgres.restore_data_dir(&copy);
    Workload::new(&fixture.postgres, seed + 2).commit(100);
    fixture.refuses(&[r#"code="history_differs""#, "forebay adopt --reason"]);
    fixture.adopt(&[]);
    fixture.go_on();
    Workload::new(&fixture.postgres, seed + 3).commit(30);
    fixture.gap(1);
    let report = fixture.wait_until_published();
    assert!(
        report.reordered.is_empty() && report.malformed.is_empty() && report.misfiled.is_empty(),
        "{report}"
    );
}

/// Killed right after it has published, the daemon knows the last transactions only from the tail of its log. The database comes
/// back without them, and its new log has passed them: what it wrote below must not leave in the old epoch.
#[test]
fn unproven_history_is_withheld_after_kill() {
    let mut fixture = Fixture::prepare(Version::usual());
    fixture.daemon.settings().confirm_after = Some("60s".to_owned());
    fixture.go_on();
    fixture.plates(0..5);
    fixture.wait_until_published().assert_clean();
    fixture.wait_until_confirmed();
    let mark = fixture.daemon.mark();
    let copy = fixture.postgres.copy_data_dir();
    fixture.daemon.wait_for_event_since(mark, "receiving");
    write_beyond(&fixture.postgres);
    // The checkpoint notes it within a second. A kill that came later, on a busy machine, is followed by another.
    let is_early = (1..15).any(|nth: u32| {
        fixture.plates(nth * 5..nth * 5 + 5);
        fixture.wait_until_published().assert_clean();
        fixture.daemon.kill9();
        let stat = fixture.daemon.run(&["buffer", "stat", "--json"]).stdout;
        let stat: serde_json::Value = serde_json::from_slice(&stat).unwrap();
        let is_early = stat["frames_unpublished"].as_u64() > Some(0);
        if !is_early {
            fixture.go_on();
        }
        is_early
    });
    assert!(is_early, "no kill came before the checkpoint");
    fixture.postgres.restore_data_dir(&copy);
    fixture.plates(100..105);
    write_beyond(&fixture.postgres);
    write_beyond(&fixture.postgres);
    let slot = fixture.confirmed();
    fixture.refuses(&["publishing_withheld", r#"code="history_differs""#, "forebay adopt --reason"]);
    assert_eq!(fixture.confirmed(), slot, "nothing was confirmed");
    let published = fixture.events();
    let of_new_history = |event: &&serde_json::Value| event["data"]["plate_id"].as_i64() >= Some(100);
    assert_eq!(published.iter().find(of_new_history), None);
    adopt_and_go_on(&mut fixture);
}
