//! A publication that goes away: Postgres 18 would go on without it and skip every change.

use crate::support::postgres::Version;
use crate::support::scene::Scene;

#[test]
fn a_publication_dropped_under_a_running_daemon_stops_it_before_anything_is_skipped() {
    for version in Version::all() {
        let mut scene = Scene::start(version);
        scene.plates(0..5);
        scene.wait_until_told().assert_clean();
        scene.postgres.execute("drop publication forebay_lab");
        scene.plates(5..10);
        let dropped = scene.postgres.value("select pg_current_wal_lsn()");
        let said = scene.gives_up(&["forebay_lab", "forebay adopt"]);
        assert!(said.contains("publication"), "{said}");
        let behind = format!("select confirmed_flush_lsn < '{dropped}' from pg_replication_slots");
        assert_eq!(scene.postgres.value(&behind), "t", "what was skipped must not be confirmed");
        // The next start says it as well, and what to do.
        scene.refuses(&[
            "publication \"forebay_lab\" is missing",
            "CREATE PUBLICATION",
            "forebay adopt --reason",
        ]);
        assert_eq!(scene.slots_and_publications(), "forebay_lab/", "nothing was created");
        scene
            .postgres
            .execute("create publication forebay_lab for table lab.plates, lab.samples, lab.transfers");
        scene.adopt(&["--recreate-slot", "forebay_lab"]);
        let before = scene.postgres.history().len();
        scene.go_on();
        scene.plates(10..15);
        scene.gap(1);
        let now = scene.postgres.history().split_off(before);
        scene.wait_until_all_told(&now);
    }
}

#[test]
fn a_publication_dropped_while_the_daemon_was_stopped_is_refused_also_by_adopt_alone() {
    let mut scene = Scene::start(Version::usual());
    scene.plates(0..5);
    scene.wait_until_told().assert_clean();
    assert!(scene.daemon.terminate().success());
    scene.postgres.execute("drop publication forebay_lab");
    scene.plates(5..10);
    scene.refuses(&["publication \"forebay_lab\" is missing", "forebay adopt --reason"]);
    // A slot that is older than its publication cannot read what was written between them.
    scene.adopt_refuses(&[], &["--recreate-slot forebay_lab"]);
    scene.adopt(&["--recreate-slot", "forebay_lab"]);
    let before = scene.postgres.history().len();
    scene.go_on();
    scene.plates(10..15);
    let now = scene.postgres.history().split_off(before);
    scene.wait_until_all_told(&now);
    scene.gap(1);
}
