//! A database put back to an older copy of its directory uses log sequence numbers again.

use crate::support::postgres::{Postgres, Version};
use crate::support::random::seed;
use crate::support::scene::Scene;
use crate::support::workload::Workload;

/// A daemon that knows a newer history than the database: the copy is older than what it has published.
fn restored(stop_first: bool) -> Scene {
    let mut scene = Scene::start(Version::usual());
    scene.plates(0..5);
    scene.wait_until_told().assert_clean();
    scene.wait_until_confirmed();
    // The server is stopped for the copy; the daemon comes back by itself.
    let mark = scene.daemon.mark();
    let copy = scene.postgres.copy_data_dir();
    scene.daemon.wait_for_log_since(mark, "receiving");
    scene.plates(5..10);
    scene.wait_until_told().assert_clean();
    scene.wait_until_confirmed();
    if stop_first {
        assert!(scene.daemon.terminate().success());
    }
    scene.postgres.restore_data_dir(&copy);
    scene
}

/// The new history writes more than the old one had: it ends beyond what the daemon has seen.
fn write_beyond(postgres: &Postgres) {
    postgres.execute(
        "create table public.noise (t text); \
         insert into public.noise select repeat('x', 500) from generate_series(1, 4000)",
    );
}

fn adopt_and_go_on(scene: &mut Scene) {
    let said = scene.adopt(&[]);
    assert!(said.contains("Epoch 1 begins"), "{said}");
    scene.go_on();
    scene.plates(200..203);
    let gap = scene.gap(1);
    assert_eq!(gap["data"]["reason"], "the test says so");
    let report = scene.wait_until_told();
    assert!(
        report.reordered.is_empty() && report.malformed.is_empty() && report.misfiled.is_empty(),
        "{report}"
    );
    scene.wait_until_confirmed();
    assert!(scene.daemon.terminate().success());
    scene.go_on();
    scene.plates(203..205);
    scene.wait_until_told();
}

#[test]
fn a_restored_database_whose_log_ends_before_what_was_seen_is_refused() {
    let mut scene = restored(true);
    let slot = scene.confirmed();
    scene.refuses(&[
        "another history",
        "write-ahead log ends at",
        "restored from an older copy",
        "forebay adopt --reason",
    ]);
    assert_eq!(scene.confirmed(), slot, "nothing was confirmed");
    scene.plates(100..105);
    adopt_and_go_on(&mut scene);
}

#[test]
fn a_restored_database_that_has_written_beyond_what_was_seen_is_refused() {
    let mut scene = restored(true);
    scene.plates(100..105);
    write_beyond(&scene.postgres);
    scene.plates(105..110);
    let slot = scene.confirmed();
    scene.refuses(&["another history", "without", "restored from an older copy", "forebay adopt --reason"]);
    assert_eq!(scene.confirmed(), slot, "nothing was confirmed");
    adopt_and_go_on(&mut scene);
}

#[test]
fn a_database_restored_under_a_living_daemon_is_refused() {
    let mut scene = restored(false);
    scene.gives_up(&["another history", "forebay adopt --reason"]);
    scene.plates(100..105);
    adopt_and_go_on(&mut scene);
}

#[test]
fn a_restored_database_is_refused_under_a_random_workload_too() {
    let seed = seed();
    let mut scene = Scene::start(Version::usual());
    let mut work = Workload::new(&scene.postgres, seed);
    work.commit(30);
    let mark = scene.daemon.mark();
    let copy = scene.postgres.copy_data_dir();
    scene.daemon.wait_for_log_since(mark, "receiving");
    Workload::new(&scene.postgres, seed + 1).commit(30);
    scene.wait_until_told().assert_clean();
    // What was published in the last second before a crash may not be noted yet; nothing local could then tell the
    // histories apart (and nothing would be skipped).
    scene.wait_until_confirmed();
    // A crash of the machine: nobody says good-bye, then the backup.
    scene.daemon.kill9();
    scene.postgres.restore_data_dir(&copy);
    Workload::new(&scene.postgres, seed + 2).commit(100);
    scene.refuses(&["another history", "forebay adopt --reason"]);
    scene.adopt(&[]);
    scene.go_on();
    Workload::new(&scene.postgres, seed + 3).commit(30);
    scene.gap(1);
    let report = scene.wait_until_told();
    assert!(
        report.reordered.is_empty() && report.malformed.is_empty() && report.misfiled.is_empty(),
        "{report}"
    );
}
