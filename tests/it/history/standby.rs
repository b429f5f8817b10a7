//! Standbys: promoted while they lagged, promoted in order, and read from.

use crate::support::postgres::{Postgres, Stop, Version};
use crate::support::scene::Scene;
use crate::support::{SOON, eventually};

fn insert(postgres: &Postgres, ids: std::ops::Range<u32>) {
    let mut session = postgres.session("postgres");
    for id in ids {
        session.execute(&format!("insert into lab.plates (plate_id, barcode) values ({id}, 'PLT-{id}')"));
    }
}

/// A daemon with a failover slot (from 17), and a standby of its database.
fn with_standby(version: Version) -> (Scene, Postgres) {
    let mut scene = Scene::prepare(version);
    if version.0 >= 17 {
        scene.daemon.settings().more.push(("source".to_owned(), "failover = true".to_owned()));
    }
    scene.go_on();
    scene.plates(0..5);
    scene.wait_until_told().assert_clean();
    scene.wait_until_confirmed();
    let standby = scene.postgres.standby();
    (scene, standby)
}

/// Waits until the standby has a copy of the slot that can be used after a promotion.
fn wait_until_synced(scene: &Scene, standby: &Postgres) {
    let synced = "select count(*) from pg_replication_slots where slot_name = 'forebay_lab' and synced and not temporary";
    eventually("the slot is synced", SOON * 2, || {
        // The worker looks now and then; the primary has to move for it.
        scene.postgres.execute("select pg_log_standby_snapshot()");
        scene.wait_until_confirmed();
        (standby.value(synced) == "1").then_some(())
    });
}

#[test]
fn a_standby_promoted_while_it_lagged_is_refused() {
    for version in [Version(16), Version(18)].into_iter().filter(|version| version.is_here()) {
        let (mut scene, standby) = with_standby(version);
        if version.0 >= 17 {
            wait_until_synced(&scene, &standby);
        }
        scene.postgres.wait_for(&standby);
        standby.cut_off();
        scene.plates(5..10);
        scene.wait_until_told().assert_clean();
        scene.wait_until_confirmed();
        scene.postgres.stop(Stop::Immediate);
        standby.promote();
        insert(&standby, 100..105);
        assert!(scene.daemon.terminate().success());
        scene.daemon.settings().url = standby.url("forebay");
        scene.postgres = standby;
        scene.refuses(&["another history", "left timeline 1 at", "forebay adopt --reason"]);
        let had_slot = !scene.confirmed().is_empty();
        assert_eq!(had_slot, version.0 >= 17);
        scene.adopt(&[]);
        let before = scene.postgres.history().len();
        scene.go_on();
        insert(&scene.postgres, 105..110);
        scene.gap(1);
        let mut history = scene.postgres.history();
        if !had_slot {
            // Without a slot, what the new primary committed before the adoption is the gap.
            history = history.split_off(before);
        }
        scene.wait_until_all_told(&history);
    }
}

#[test]
fn after_a_clean_failover_with_a_synced_slot_it_goes_on_by_itself() {
    for version in [Version(17), Version(18)].into_iter().filter(|version| version.is_here()) {
        let (mut scene, standby) = with_standby(version);
        wait_until_synced(&scene, &standby);
        scene.plates(5..10);
        scene.wait_until_told().assert_clean();
        scene.wait_until_confirmed();
        assert!(scene.daemon.terminate().success());
        scene.plates(10..15);
        // A shutdown in order sends everything to the standby.
        scene.postgres.stop(Stop::Fast);
        standby.promote();
        insert(&standby, 15..20);
        scene.daemon.settings().url = standby.url("forebay");
        scene.postgres = standby;
        scene.go_on();
        scene.wait_until_told().assert_clean();
        insert(&scene.postgres, 20..25);
        scene.wait_until_told().assert_clean();
        scene.daemon.assert_quiet(&[]);
    }
}

#[test]
fn it_reads_from_a_standby_and_waits_when_that_is_behind() {
    for version in [Version(16), Version(18)].into_iter().filter(|version| version.is_here()) {
        let mut scene = Scene::prepare(version);
        scene
            .postgres
            .execute("create publication forebay_lab for table lab.plates, lab.samples, lab.transfers");
        let mut standby = scene.postgres.standby();
        scene.daemon.settings().url = standby.url("forebay");
        scene.refuses(&["publication forebay_lab (without its slot)", "forebay adopt --reason"]);
        // The slot on a standby is made as soon as the primary logs its running transactions.
        std::thread::scope(|scope| {
            let adopting = scope.spawn(|| scene.adopt(&[]));
            eventually("adopted", SOON, || {
                scene.postgres.execute("select pg_log_standby_snapshot()");
                adopting.is_finished().then_some(())
            });
            adopting.join().unwrap();
        });
        scene.go_on();
        scene.plates(0..10);
        scene.wait_until_told().assert_clean();
        let confirmed = standby.value("select confirmed_flush_lsn from pg_replication_slots");
        eventually("the standby's slot is confirmed", SOON, || {
            (standby.value("select confirmed_flush_lsn from pg_replication_slots") != confirmed).then_some(())
        });
        let mark = scene.daemon.mark();
        standby.stop(Stop::Fast);
        scene.plates(10..20);
        standby.start_again();
        scene.daemon.wait_for_log_since(mark, "receiving");
        scene.wait_until_told().assert_clean();
        assert!(scene.daemon.terminate().success());
    }
}
