//! A slot that is gone, was moved by somebody else, or was there before the directory was.

use crate::support::postgres::Version;
use crate::support::scene::Scene;

/// A daemon that has published ten plates and was stopped.
fn stopped() -> Scene {
    let mut scene = Scene::start(Version::usual());
    scene.plates(0..10);
    scene.wait_until_told().assert_clean();
    assert!(scene.daemon.terminate().success());
    scene
}

/// After an adoption: a gap, and everything committed from now on.
fn goes_on(scene: &mut Scene, epoch: u64) {
    let before = scene.postgres.history().len();
    scene.go_on();
    scene.plates(500..510);
    scene.gap(epoch);
    let now = scene.postgres.history().split_off(before);
    scene.wait_until_all_told(&now);
    assert!(scene.daemon.terminate().success());
}

#[test]
fn a_dropped_slot_is_refused_and_made_again_only_by_adopt() {
    let mut scene = stopped();
    scene.postgres.query("select pg_drop_replication_slot('forebay_lab')");
    scene.refuses(&["slot forebay_lab is missing", "may be lost", "forebay adopt --reason"]);
    assert_eq!(scene.slots_and_publications(), "/forebay_lab", "nothing was created");
    scene.adopt(&[]);
    assert_eq!(scene.slots_and_publications(), "forebay_lab/forebay_lab");
    goes_on(&mut scene, 1);
}

#[test]
fn a_slot_that_somebody_else_has_moved_is_refused() {
    let mut scene = stopped();
    scene.plates(10..20);
    scene.postgres.query("select pg_replication_slot_advance('forebay_lab', pg_current_wal_lsn())");
    scene.refuses(&[
        "slot forebay_lab stands at",
        "only ever confirmed",
        "went elsewhere",
        "forebay adopt --reason",
    ]);
    scene.adopt(&[]);
    goes_on(&mut scene, 1);
}

#[test]
fn a_slot_made_again_by_hand_is_refused() {
    let mut scene = stopped();
    scene.postgres.query("select pg_drop_replication_slot('forebay_lab')");
    scene.plates(10..20);
    scene.postgres.query("select pg_create_logical_replication_slot('forebay_lab', 'pgoutput')");
    scene.refuses(&["slot forebay_lab stands at", "forebay adopt --reason"]);
    scene.adopt(&[]);
    goes_on(&mut scene, 1);
}

#[test]
fn an_empty_directory_does_not_take_a_slot_that_is_there() {
    let mut scene = stopped();
    scene.daemon.wipe();
    let slot = scene.confirmed();
    scene.refuses(&[
        "buffer directory is empty",
        "replication slot forebay_lab exists",
        "forebay adopt --reason",
    ]);
    assert_eq!(scene.confirmed(), slot);
    scene.plates(10..20);
    scene.adopt(&[]);
    scene.go_on();
    scene.gap(1);
    // The slot still had them.
    scene.wait_until_told();
}

#[test]
fn an_empty_directory_goes_on_with_the_slot_where_never_is_written() {
    let mut scene = stopped();
    scene.daemon.wipe();
    scene.daemon.settings().confirm_after = Some("never".to_owned());
    scene.plates(10..20);
    scene.go_on();
    scene.wait_until_told().assert_clean();
    scene.daemon.assert_quiet(&[]);
}

#[test]
fn an_empty_directory_does_not_take_a_publication_that_is_there() {
    let mut scene = Scene::prepare(Version::usual());
    scene.postgres.execute("create publication forebay_lab for table lab.plates");
    scene.refuses(&[
        "buffer directory is empty",
        "publication forebay_lab (without its slot)",
        "forebay adopt --reason",
    ]);
    assert_eq!(scene.slots_and_publications(), "/forebay_lab", "nothing was created");
    scene.adopt(&[]);
    goes_on(&mut scene, 1);
}

#[test]
fn a_slot_of_another_plugin_or_database_is_refused_and_not_dropped_without_its_name() {
    let mut scene = stopped();
    scene.postgres.query("select pg_drop_replication_slot('forebay_lab')");
    scene.postgres.query("select pg_create_physical_replication_slot('forebay_lab')");
    scene.refuses(&["slot forebay_lab cannot be used", "physical", "--recreate-slot forebay_lab"]);
    scene.adopt_refuses(&[], &["--recreate-slot forebay_lab"]);
    scene.adopt_refuses(&["--recreate-slot", "other"], &["name the slot that is to be dropped"]);
    scene.adopt(&["--recreate-slot", "forebay_lab"]);
    goes_on(&mut scene, 1);
}

#[test]
fn a_lost_slot_is_refused_and_recreated_by_name() {
    let mut scene = stopped();
    scene.postgres.execute("alter system set max_slot_wal_keep_size = '1MB'");
    scene.postgres.execute("select pg_reload_conf()");
    scene.postgres.execute("create table public.noise (t text)");
    for _ in 0..3 {
        scene
            .postgres
            .execute("insert into public.noise select repeat('x', 500) from generate_series(1, 40000)");
        scene.postgres.execute("select pg_switch_wal()");
        scene.postgres.execute("checkpoint");
    }
    assert_eq!(scene.postgres.value("select wal_status from pg_replication_slots"), "lost");
    scene.refuses(&["slot forebay_lab cannot be used", "lost", "--recreate-slot forebay_lab"]);
    scene.adopt_refuses(&[], &["--recreate-slot forebay_lab"]);
    scene.adopt(&["--recreate-slot", "forebay_lab"]);
    goes_on(&mut scene, 1);
}
