//! A publication that goes away: Postgres 18 would go on without it and skip every change.

use crate::support::fixture::Fixture;
use crate::support::postgres::Version;

#[test]
fn publication_dropped_while_running_stops_before_skipping() {
    for version in Version::all() {
        let mut fixture = Fixture::start(version);
        fixture.plates(0..5);
        fixture.wait_until_published().assert_clean();
        fixture.postgres.execute("drop publication forebay_lab");
        fixture.plates(5..10);
        let dropped = fixture.postgres.value("select pg_current_wal_lsn()");
        let said = fixture.gives_up(&["forebay_lab", "forebay adopt"]);
        assert!(said.contains("publication"), "{said}");
        let behind = format!("select confirmed_flush_lsn < '{dropped}' from pg_replication_slots");
        assert_eq!(fixture.postgres.value(&behind), "t", "what was skipped must not be confirmed");
        // The next start says it as well, and what to do.
        fixture.refuses(&[
            "publication \"forebay_lab\": it is missing",
            "CREATE PUBLICATION",
            "forebay adopt --reason",
        ]);
        assert_eq!(fixture.slots_and_publications(), "forebay_lab/", "nothing was created");
        fixture
            .postgres
            .execute("create publication forebay_lab for table lab.plates, lab.samples, lab.transfers");
        fixture.adopt(&["--recreate-slot", "forebay_lab"]);
        let before = fixture.postgres.history().len();
        fixture.go_on();
        fixture.plates(10..15);
        fixture.gap(1);
        let now = fixture.postgres.history().split_off(before);
        fixture.wait_until_all_published(&now);
    }
}

#[test]
fn publication_dropped_while_stopped_is_refused() {
    let mut fixture = Fixture::start(Version::usual());
    fixture.plates(0..5);
    fixture.wait_until_published().assert_clean();
    assert!(fixture.daemon.terminate().success());
    fixture.postgres.execute("drop publication forebay_lab");
    fixture.plates(5..10);
    fixture.refuses(&["publication \"forebay_lab\": it is missing", "forebay adopt --reason"]);
    // A slot that is older than its publication cannot read what was written between them.
    fixture.adopt_refuses(&[], &["--recreate-slot forebay_lab"]);
    fixture.adopt(&["--recreate-slot", "forebay_lab"]);
    let before = fixture.postgres.history().len();
    fixture.go_on();
    fixture.plates(10..15);
    let now = fixture.postgres.history().split_off(before);
    fixture.wait_until_all_published(&now);
    fixture.gap(1);
}
