//! A slot that is gone, was moved by somebody else, or was there before the directory was.

use crate::support::fixture::Fixture;
use crate::support::postgres::Version;

/// A daemon that has published ten plates and was stopped.
fn stopped() -> Fixture {
    let mut fixture = Fixture::start(Version::usual());
    fixture.plates(0..10);
    fixture.wait_until_published().assert_clean();
    assert!(fixture.daemon.terminate().success());
    fixture.wait_until_slot_is_free();
    fixture
}

/// After an adoption: a gap, and everything committed from now on.
fn goes_on(fixture: &mut Fixture, epoch: u64) {
    let before = fixture.postgres.history().len();
    fixture.go_on();
    fixture.plates(500..510);
    fixture.gap(epoch);
    let now = fixture.postgres.history().split_off(before);
    fixture.wait_until_all_published(&now);
    assert!(fixture.daemon.terminate().success());
}

#[test]
fn dropped_slot_is_refused_and_recreated_only_by_adopt() {
    let mut fixture = stopped();
    fixture.postgres.query("select pg_drop_replication_slot('forebay_lab')");
    fixture.refuses(&[r#"code="slot_missing""#, "forebay_lab", "forebay adopt --reason"]);
    assert_eq!(fixture.slots_and_publications(), "/forebay_lab", "nothing was created");
    fixture.adopt(&[]);
    assert_eq!(fixture.slots_and_publications(), "forebay_lab/forebay_lab");
    goes_on(&mut fixture, 1);
}

#[test]
fn slot_advanced_by_others_is_refused() {
    let mut fixture = stopped();
    fixture.plates(10..20);
    fixture.postgres.query("select pg_replication_slot_advance('forebay_lab', pg_current_wal_lsn())");
    fixture.refuses(&[r#"code="slot_ahead""#, "forebay_lab", "forebay adopt --reason"]);
    fixture.adopt(&[]);
    goes_on(&mut fixture, 1);
}

#[test]
fn manually_recreated_slot_is_refused() {
    let mut fixture = stopped();
    fixture.postgres.query("select pg_drop_replication_slot('forebay_lab')");
    fixture.plates(10..20);
    fixture.postgres.query("select pg_create_logical_replication_slot('forebay_lab', 'pgoutput')");
    fixture.refuses(&[r#"code="slot_ahead""#, "forebay_lab", "forebay adopt --reason"]);
    fixture.adopt(&[]);
    goes_on(&mut fixture, 1);
}

#[test]
fn empty_directory_refuses_existing_slot() {
    let mut fixture = stopped();
    fixture.daemon.wipe();
    let slot = fixture.confirmed();
    fixture.refuses(&[
        r#"code="directory_empty""#,
        "The directory is /",
        "forebay_lab",
        "forebay adopt --reason",
    ]);
    assert_eq!(fixture.confirmed(), slot);
    fixture.plates(10..20);
    fixture.adopt(&[]);
    fixture.go_on();
    fixture.gap(1);
    // The slot still had them.
    fixture.wait_until_published();
}

#[test]
fn empty_directory_with_explicit_never_uses_existing_slot() {
    let mut fixture = stopped();
    fixture.daemon.wipe();
    fixture.daemon.settings().confirm_after = Some("never".to_owned());
    fixture.plates(10..20);
    fixture.go_on();
    fixture.wait_until_published().assert_clean();
    fixture.daemon.assert_quiet(&[]);
}

/// It was never read: no adoption, no gap.
#[test]
fn publication_without_a_slot_is_a_first_start() {
    let mut fixture = Fixture::prepare(Version::usual());
    fixture.postgres.execute("create publication forebay_lab for table lab.plates");
    fixture.go_on();
    fixture.daemon.wait_for_event("publication_taken_over");
    fixture.plates(0..3);
    fixture.wait_until_published().assert_clean();
}

/// A first start that could not make the publication leaves its intent in the directory. Later another directory makes the slot and
/// moves it: the first one is refused as an empty one is.
#[test]
fn intent_does_not_take_a_slot_of_another_directory() {
    let mut fixture = Fixture::prepare(Version::usual());
    fixture.postgres.execute("create role reader login replication");
    let url = fixture.daemon.settings().url.clone();
    fixture.daemon.settings().url = fixture.postgres.url("reader");
    fixture.refuses(&["cannot be made"]);
    fixture.postgres.execute("create publication forebay_lab for table lab.plates");
    fixture.postgres.query("select pg_create_logical_replication_slot('forebay_lab', 'pgoutput')");
    fixture.daemon.settings().url = url;
    fixture.refuses(&[
        r#"code="directory_empty""#,
        "The directory is /",
        "forebay_lab",
        "forebay adopt --reason",
    ]);
    fixture.adopt(&[]);
    goes_on(&mut fixture, 1);
}

#[test]
fn foreign_slot_is_refused_and_dropped_only_by_name() {
    let mut fixture = stopped();
    fixture.postgres.query("select pg_drop_replication_slot('forebay_lab')");
    fixture.postgres.query("select pg_create_physical_replication_slot('forebay_lab')");
    fixture.refuses(&[r#"code="slot_unusable""#, "physical", "--recreate-slot forebay_lab"]);
    fixture.adopt_refuses(&[], &["--recreate-slot forebay_lab"]);
    fixture.adopt_refuses(
        &["--recreate-slot", "other"],
        &["--recreate-slot names \"other\"", "--recreate-slot forebay_lab"],
    );
    fixture.adopt(&["--recreate-slot", "forebay_lab"]);
    goes_on(&mut fixture, 1);
}

#[test]
fn lost_slot_is_refused_and_recreated_by_name() {
    let mut fixture = stopped();
    fixture.postgres.execute("alter system set max_slot_wal_keep_size = '1MB'");
    fixture.postgres.execute("select pg_reload_conf()");
    fixture.postgres.execute("create table public.noise (t text)");
    for _ in 0..3 {
        fixture
            .postgres
            .execute("insert into public.noise select repeat('x', 500) from generate_series(1, 40000)");
        fixture.postgres.execute("select pg_switch_wal()");
        fixture.postgres.execute("checkpoint");
    }
    assert_eq!(fixture.postgres.value("select wal_status from pg_replication_slots"), "lost");
    fixture.refuses(&[r#"code="slot_unusable""#, "lost", "--recreate-slot forebay_lab"]);
    fixture.adopt_refuses(&[], &["--recreate-slot forebay_lab"]);
    fixture.adopt(&["--recreate-slot", "forebay_lab"]);
    goes_on(&mut fixture, 1);
}
