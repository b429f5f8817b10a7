//! What a publication leaves out after somebody has changed it: skipped without a word on the stream.

use crate::support::fixture::Fixture;
use crate::support::postgres::{Postgres, Version};
use crate::support::{SOON, eventually};

use super::end_stream;

/// Changes the publication and waits for the events that the next look logs: here that of a reconnect.
#[track_caller]
fn reported(fixture: &Fixture, sql: &str, events: &[&str]) {
    let mark = fixture.daemon.mark();
    fixture.postgres.execute(sql);
    end_stream(&fixture.postgres);
    fixture.daemon.wait_for_event_since(mark, "receiving");
    for event in events {
        fixture.daemon.wait_for_event_since(mark, event);
    }
}

#[test]
fn changes_of_the_publication_are_reported() {
    for version in [Version::OLDEST, Version::NEWEST] {
        let mut fixture = Fixture::start(version);
        reported(
            &fixture,
            "alter publication forebay_lab set (publish = 'insert, update')",
            &["publication_operations_stopped"],
        );
        reported(
            &fixture,
            "alter publication forebay_lab set (publish = 'insert, update, delete, truncate')",
            &["publication_operations_resumed"],
        );
        reported(
            &fixture,
            "alter publication forebay_lab drop table lab.plates; alter publication forebay_lab add table lab.plates",
            &["publication_table_returned"],
        );
        reported(
            &fixture,
            "alter publication forebay_lab set (publish_via_partition_root = false)",
            &["publication_via_root_changed"],
        );
        if version >= Version(15) {
            reported(
                &fixture,
                "alter publication forebay_lab set table lab.plates where (plate_id > 0), lab.samples, \
                 lab.transfers (transfer_id, source_plate)",
                &["publication_row_filter_changed", "publication_columns_changed"],
            );
        }
        reported(&fixture, "alter table lab.samples rename to probes", &["publication_table_renamed"]);
        reported(&fixture, "alter table lab.probes rename to samples", &["publication_table_renamed"]);
        reported(
            &fixture,
            "alter publication forebay_lab drop table lab.transfers",
            &["publication_table_gone"],
        );
        assert_eq!(fixture.daemon.metric("forebay_publication_tables_gone"), Some(1.0));
        assert_eq!(fixture.daemon.metric("forebay_publication_tables_missing"), Some(1.0));
        let differences = if version >= Version(15) { 9.0 } else { 7.0 };
        assert_eq!(fixture.daemon.metric("forebay_publication_changes_total"), Some(differences));
        // What is left out already at a start is reported, too.
        assert!(fixture.daemon.terminate().success());
        fixture.postgres.execute("alter publication forebay_lab set (publish = 'insert')");
        fixture.daemon.start_again();
        fixture.daemon.wait_for_event("publication_omits_operations");
        fixture.daemon.wait_for_event("publication_table_missing");
    }
}

/// Without a reconnect, the watchdog's next look finds it.
#[test]
fn changes_are_found_without_a_reconnect() {
    let fixture = Fixture::start(Version::usual());
    eventually("the first look is over", SOON, || {
        (fixture.daemon.metric("forebay_watchdog_up") == Some(1.0)).then_some(())
    });
    fixture.postgres.execute(
        "drop publication forebay_lab; create publication forebay_lab for table lab.plates, lab.samples, lab.transfers",
    );
    fixture.daemon.wait_for_event("publication_recreated");
}

/// A partition is emptied: nothing comes on the stream. A rewrite and a TRUNCATE of the whole table look different.
#[test]
fn truncated_partition_is_reported() {
    let postgres = Postgres::lab(Version::usual());
    postgres.execute(
        "create table lab.ev (id bigint, day int, primary key (id, day)) partition by list (day);
         create table lab.ev1 partition of lab.ev for values in (1);
         create table lab.ev2 partition of lab.ev for values in (2);
         alter table lab.ev owner to lab; alter table lab.ev1 owner to lab; alter table lab.ev2 owner to lab;
         insert into lab.ev values (1, 1), (2, 2)",
    );
    let mut fixture = Fixture::prepare_with(postgres);
    fixture.daemon.settings().tables.push("lab.ev".to_owned());
    fixture.go_on();
    reported(&fixture, "vacuum full lab.ev1", &[]);
    reported(&fixture, "truncate lab.ev1", &["partition_truncated"]);
    let line = fixture.daemon.wait_for_event("partition_truncated");
    assert!(line.contains("ev1"), "{line}");
    reported(&fixture, "truncate lab.ev", &[]);
    fixture.plates(0..3);
    fixture.wait_until_published();
    let lines = fixture.daemon.count_events("partition_truncated");
    assert_eq!(lines, 1);
}
