//! The watchdog when connections are few.

use crate::support::fixture::Fixture;
use crate::support::postgres::{Postgres, Version};
use crate::support::{SOON, eventually};

use super::end_stream;

#[track_caller]
fn wait_until_up(fixture: &Fixture, up: f64) {
    eventually("the watchdog's gauge", SOON, || {
        (fixture.daemon.metric("forebay_watchdog_up") == Some(up)).then_some(())
    });
}

/// The role may have one connection besides the stream, which does not count: its catalogue session takes it.
#[test]
fn watchdog_without_connection_is_reported() {
    let mut fixture = Fixture::start(Version::usual());
    assert!(fixture.daemon.terminate().success());
    fixture.postgres.execute("alter role forebay connection limit 1");
    fixture.go_on();
    let line = fixture.daemon.wait_for_event("watchdog_blind");
    assert!(line.contains("WARN") && line.contains("53300"), "{line}");
    wait_until_up(&fixture, 0.0);
    fixture.plates(0..3);
    fixture.wait_until_published().assert_clean();
    fixture.postgres.execute("alter role forebay connection limit 2");
    fixture.daemon.wait_for_event("watchdog_recovered");
    wait_until_up(&fixture, 1.0);
}

/// The stream has the only walsender: the watchdog needs none, and a reconnect finds it free.
#[test]
fn one_walsender_is_enough() {
    let mut postgres =
        Postgres::builder(Version::usual()).without_fsync().setting("max_wal_senders=1").start();
    postgres.create_lab();
    let mut fixture = Fixture::prepare_with(postgres);
    fixture.go_on();
    wait_until_up(&fixture, 1.0);
    eventually("the slot's size is a metric", SOON, || {
        fixture.daemon.metric("forebay_slot_retained_wal_bytes")
    });
    fixture.plates(0..3);
    fixture.wait_until_published().assert_clean();
    fixture.daemon.assert_quiet(&[]);
}

/// No change comes, so the stream cannot show it; a later server would never report it.
#[test]
fn dropped_publication_stops_an_idle_daemon() {
    let mut fixture = Fixture::start(Version::usual());
    fixture.postgres.execute("drop publication forebay_lab");
    fixture.gives_up(&["publication \"forebay_lab\": it is missing", "forebay adopt"]);
}

/// What the role may look at is taken away under a living stream, and is still missing at a restart.
#[test]
fn revoked_catalogue_rights_stop_no_stream() {
    let mut fixture = Fixture::start(Version::usual());
    wait_until_up(&fixture, 1.0);
    // The table is announced, and its key is known.
    fixture.plates(0..1);
    fixture.wait_until_published().assert_clean();
    fixture.postgres.execute(
        "revoke execute on function pg_control_recovery(), pg_control_system(), pg_control_checkpoint() from public;
         revoke select on pg_index from public",
    );
    let line = fixture.daemon.wait_for_event("watchdog_partly_blind");
    assert!(line.contains("WARN") && line.contains("42501"), "{line}");
    wait_until_up(&fixture, 0.0);
    fixture.postgres.execute("revoke select on pg_publication from public");
    let line = fixture.daemon.wait_for_event("watchdog_blind");
    assert!(line.contains("WARN") && line.contains("42501"), "{line}");
    fixture.plates(1..3);
    fixture.wait_until_published().assert_clean();
    fixture.postgres.execute("grant select on pg_publication, pg_index to public");
    assert!(fixture.daemon.terminate().success());
    fixture.go_on();
    fixture.plates(3..6);
    fixture.wait_until_published().assert_clean();
    fixture
        .postgres
        .execute("grant execute on function pg_control_system(), pg_control_checkpoint() to public");
    end_stream(&fixture.postgres);
    wait_until_up(&fixture, 1.0);
}

/// A new column needs a look at its type, which is denied. Other columns are known; after the right is back, all are.
#[test]
fn denied_look_at_a_type_ends_no_stream() {
    let mut fixture = Fixture::start(Version::usual());
    fixture.plates(0..1);
    fixture.wait_until_published().assert_clean();
    fixture.postgres.execute(
        "revoke select on pg_depend from public;
         create domain lab.grade as int; alter table lab.plates add column grade lab.grade",
    );
    fixture.plates(1..4);
    let line = fixture.daemon.wait_for_event("catalogue_unreadable");
    assert!(line.contains("WARN") && line.contains("42501"), "{line}");
    fixture.postgres.execute("insert into lab.samples (sample_code, plate_id, well) values ('S', 1, 'A1')");
    eventually("another table is published", SOON, || {
        fixture.events().into_iter().find(|event| event["type"] == "lab.samples.inserted.v1")
    });
    assert!(fixture.daemon.terminate().success());
    fixture.go_on();
    fixture.postgres.execute("insert into lab.samples (sample_code, plate_id, well) values ('T', 1, 'A1')");
    eventually("it is published after a restart", SOON, || {
        fixture.events().into_iter().find(|event| event["data"]["sample_code"] == "T")
    });
    assert_eq!(fixture.daemon.ready(), Ok(()));
}

/// The application has taken all connections when the stream breaks. Walsenders are free, and known tables need no look.
#[test]
fn used_up_connections_do_not_keep_stream_away() {
    for version in [Version::OLDEST, Version::NEWEST] {
        let fixture = Fixture::start(version);
        fixture.plates(0..3);
        fixture.wait_until_published().assert_clean();
        let mark = fixture.daemon.mark();
        fixture.postgres.execute("alter role forebay connection limit 0");
        fixture
            .postgres
            .value("select count(pg_terminate_backend(pid)) from pg_stat_activity where usename = 'forebay'");
        fixture.daemon.wait_for_event_since(mark, "receiving");
        fixture.plates(3..6);
        fixture.wait_until_published().assert_clean();
        let line = fixture.daemon.wait_for_event_since(mark, "catalogue_unreadable");
        assert!(line.contains("53300"), "{line}");
        fixture.postgres.execute("alter role forebay connection limit -1");
        wait_until_up(&fixture, 1.0);
    }
}
