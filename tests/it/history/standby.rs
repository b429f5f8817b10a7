//! Standbys: promoted while they lagged, promoted in order, and read from.

use crate::support::fixture::Fixture;
use crate::support::postgres::{Postgres, Stop, Version};
use crate::support::{SOON, eventually};

fn insert(postgres: &Postgres, ids: std::ops::Range<u32>) {
    let mut session = postgres.session("postgres");
    for id in ids {
        session.execute(&format!("insert into lab.plates (plate_id, barcode) values ({id}, 'PLT-{id}')"));
    }
}

/// A daemon with a failover slot, as it is by default from 17 on, and a standby of its database.
fn with_standby(version: Version) -> (Fixture, Postgres) {
    let mut fixture = Fixture::prepare(version);
    fixture.go_on();
    fixture.plates(0..5);
    fixture.wait_until_published().assert_clean();
    fixture.wait_until_confirmed();
    let standby = fixture.postgres.standby();
    (fixture, standby)
}

/// Waits until the standby has a copy of the slot that can be used after a promotion.
fn wait_until_synced(fixture: &Fixture, standby: &Postgres) {
    let synced = "select count(*) from pg_replication_slots where slot_name = 'forebay_lab' and synced and not temporary";
    eventually("the slot is synced", SOON * 2, || {
        // The worker looks now and then; the primary has to move for it.
        fixture.postgres.execute("select pg_log_standby_snapshot()");
        fixture.wait_until_confirmed();
        (standby.value(synced) == "1").then_some(())
    });
}

#[test]
fn lagging_promoted_standby_is_refused() {
    for version in [Version(16), Version(18)].into_iter().filter(|version| version.is_here()) {
        let (mut fixture, standby) = with_standby(version);
        if version.0 >= 17 {
            wait_until_synced(&fixture, &standby);
        }
        fixture.postgres.wait_for(&standby);
        standby.cut_off();
        fixture.plates(5..10);
        fixture.wait_until_published().assert_clean();
        fixture.wait_until_confirmed();
        fixture.postgres.stop(Stop::Immediate);
        standby.promote();
        insert(&standby, 100..105);
        assert!(fixture.daemon.terminate().success());
        fixture.daemon.settings().url = standby.url("forebay");
        fixture.postgres = standby;
        fixture.refuses(&[r#"code="history_differs""#, "left timeline 1 at", "forebay adopt --reason"]);
        let had_slot = !fixture.confirmed().is_empty();
        assert_eq!(had_slot, version.0 >= 17);
        fixture.adopt(&[]);
        let before = fixture.postgres.history().len();
        fixture.go_on();
        insert(&fixture.postgres, 105..110);
        fixture.gap(1);
        let mut history = fixture.postgres.history();
        if !had_slot {
            // Without a slot, what the new primary committed before the adoption is the gap.
            history = history.split_off(before);
        }
        fixture.wait_until_all_published(&history);
    }
}

#[test]
fn clean_failover_with_synced_slot_continues() {
    for version in [Version(17), Version(18)].into_iter().filter(|version| version.is_here()) {
        let (mut fixture, standby) = with_standby(version);
        wait_until_synced(&fixture, &standby);
        fixture.plates(5..10);
        fixture.wait_until_published().assert_clean();
        fixture.wait_until_confirmed();
        assert!(fixture.daemon.terminate().success());
        fixture.plates(10..15);
        // A shutdown in order sends everything to the standby.
        fixture.postgres.stop(Stop::Fast);
        standby.promote();
        insert(&standby, 15..20);
        fixture.daemon.settings().url = standby.url("forebay");
        fixture.postgres = standby;
        fixture.go_on();
        fixture.wait_until_published().assert_clean();
        insert(&fixture.postgres, 20..25);
        fixture.wait_until_published().assert_clean();
        fixture.daemon.assert_quiet(&[]);
    }
}

#[test]
fn lagging_standby_is_waited_for() {
    for version in [Version(16), Version(18)].into_iter().filter(|version| version.is_here()) {
        let mut fixture = Fixture::prepare(version);
        fixture
            .postgres
            .execute("create publication forebay_lab for table lab.plates, lab.samples, lab.transfers");
        let mut standby = fixture.postgres.standby();
        fixture.daemon.settings().url = standby.url("forebay");
        // The slot on a standby is made as soon as the primary logs its running transactions.
        fixture.daemon.start_again();
        eventually("the slot is made", SOON, || {
            fixture.postgres.execute("select pg_log_standby_snapshot()");
            let made = "select count(*) from pg_replication_slots where not temporary";
            (standby.value(made) == "1").then_some(())
        });
        fixture.wait_until_receiving();
        fixture.plates(0..10);
        fixture.wait_until_published().assert_clean();
        let confirmed = standby.value("select confirmed_flush_lsn from pg_replication_slots");
        eventually("the standby's slot is confirmed", SOON, || {
            (standby.value("select confirmed_flush_lsn from pg_replication_slots") != confirmed).then_some(())
        });
        let mark = fixture.daemon.mark();
        standby.stop(Stop::Fast);
        fixture.plates(10..20);
        standby.start_again();
        fixture.daemon.wait_for_event_since(mark, "receiving");
        fixture.wait_until_published().assert_clean();
        assert!(fixture.daemon.terminate().success());
    }
}

/// What was published last before a `kill -9` may not be noted. After a failover nobody knows whether the new primary has it, so
/// that a new epoch begins without a person: else readers would discard events with lower sequences.
#[test]
fn unclean_stop_and_failover_begin_an_epoch() {
    for version in [Version(17), Version(18)].into_iter().filter(|version| version.is_here()) {
        let (mut fixture, standby) = with_standby(version);
        wait_until_synced(&fixture, &standby);
        fixture.plates(5..10);
        fixture.wait_until_published().assert_clean();
        fixture.postgres.wait_for(&standby);
        fixture.daemon.kill9();
        fixture.postgres.stop(Stop::Immediate);
        standby.promote();
        fixture.daemon.settings().url = standby.url("forebay");
        fixture.postgres = standby;
        fixture.go_on();
        fixture.daemon.wait_for_event("epoch_begun");
        insert(&fixture.postgres, 10..15);
        let gap = fixture.gap(1);
        assert!(gap["data"]["reason"].as_str().unwrap().contains("timeline 1 to 2"), "{gap}");
        let report = fixture.wait_until_published();
        assert!(report.reordered.is_empty() && report.malformed.is_empty(), "{report}");
    }
}

/// From 17 on, by default; before, the server has none.
#[test]
fn slot_is_a_failover_slot_where_the_server_has_them() {
    let is_failover = |fixture: &Fixture| {
        fixture.postgres.value("select to_jsonb(s) ->> 'failover' from pg_replication_slots s")
    };
    for (version, setting, expected) in
        [(Version::NEWEST, None, "true"), (Version(17), Some("false"), "false"), (Version(16), None, "")]
    {
        let mut fixture = Fixture::prepare(version);
        let line = |value| ("source".to_owned(), format!("failover = {value}"));
        fixture.daemon.settings().more.extend(setting.map(line));
        fixture.go_on();
        assert_eq!(is_failover(&fixture), expected, "{version:?}, {setting:?}");
    }
    let mut fixture = Fixture::prepare(Version(16));
    fixture.daemon.settings().more.push(("source".to_owned(), "failover = true".to_owned()));
    fixture.refuses(&["source.failover needs PostgreSQL 17 or later"]);
}
