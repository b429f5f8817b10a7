//! A directory belongs to one database, slot, publication, name and stream; and to one process at a time.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::support::daemon::{Daemon, Settings};
use crate::support::fixture::Fixture;
use crate::support::kinesis::Kinesis;
use crate::support::postgres::{Postgres, Version};

/// A daemon that has published five plates and was stopped.
fn stopped() -> Fixture {
    let mut fixture = Fixture::start(Version::usual());
    fixture.plates(0..5);
    fixture.wait_until_published().assert_clean();
    assert!(fixture.daemon.terminate().success());
    fixture
}

fn goes_on(fixture: &mut Fixture) {
    let before = fixture.postgres.history().len();
    fixture.go_on();
    fixture.plates(500..505);
    fixture.gap(1);
    let now = fixture.postgres.history().split_off(before);
    fixture.wait_until_all_published(&now);
    assert!(fixture.daemon.terminate().success());
}

#[test]
fn another_cluster_is_refused() {
    let mut fixture = stopped();
    let other = Postgres::lab(Version::usual());
    other.execute("create publication forebay_lab for table lab.plates, lab.samples, lab.transfers");
    other.query("select pg_create_logical_replication_slot('forebay_lab', 'pgoutput')");
    fixture.daemon.settings().url = other.url("forebay");
    fixture.refuses(&[
        r#"code="directory_of_other_source""#,
        "database cluster (system identifier)",
        "forebay adopt --reason",
    ]);
    fixture.postgres = other;
    fixture.adopt(&[]);
    goes_on(&mut fixture);
}

#[test]
fn changed_slot_publication_or_name_is_refused() {
    type Change = fn(&mut Settings);
    let changes: [(Change, &str); 3] = [
        (
            |settings| {
                settings.slot = "other".to_owned();
                settings.more.push(("source".to_owned(), "publication = \"forebay_lab\"".to_owned()));
            },
            "different slot",
        ),
        (
            |settings| settings.more.push(("source".to_owned(), "publication = \"other\"".to_owned())),
            "different publication",
        ),
        (|settings| settings.name = "other".to_owned(), "different source (name)"),
    ];
    for (change, what) in changes {
        let mut fixture = stopped();
        change(fixture.daemon.settings());
        fixture.refuses(
            &[r#"code="directory_of_other_source""#, what, "forebay_lab", "other", "forebay adopt --reason"]
                .map(
                    |text| {
                        if what.contains("name") && text == "forebay_lab" { "urn:forebay:lab" } else { text }
                    },
                ),
        );
        assert_eq!(fixture.slots_and_publications(), "forebay_lab/forebay_lab", "nothing was created");
        // A slot that is older than its publication cannot read what was written between them.
        let recreate: &[&str] =
            if what.contains("publication") { &["--recreate-slot", "forebay_lab"] } else { &[] };
        fixture.adopt(recreate);
        goes_on(&mut fixture);
    }
}

#[test]
fn another_database_is_refused() {
    let mut fixture = stopped();
    fixture.postgres.execute("create database other");
    let url = fixture.daemon.settings().url.replace("/lab", "/other");
    fixture.daemon.settings().url = url;
    fixture.refuses(&[
        r#"code="directory_of_other_source""#,
        "different database",
        "lab",
        "other",
        "forebay adopt --reason",
    ]);
}

/// kinesalite says the time of creation in whole seconds: waits until a stream that is made now has another.
fn another_second() {
    let second = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let began = second();
    crate::support::eventually("another second", crate::support::SOON, || (second() > began).then_some(()));
}

#[test]
fn recreated_stream_is_refused() {
    let mut fixture = stopped();
    fixture.kinesis.delete_stream("lab-events");
    another_second();
    fixture.kinesis.create_stream("lab-events", 2);
    fixture.refuses(&[r#"code="directory_of_other_stream""#, "forebay adopt --reason"]);
    fixture.adopt(&[]);
    goes_on(&mut fixture);
}

#[test]
fn recreated_stream_is_detected_before_next_put() {
    let mut fixture = Fixture::start(Version::usual());
    fixture.plates(0..5);
    fixture.wait_until_published().assert_clean();
    fixture.kinesis.delete_stream("lab-events");
    another_second();
    fixture.kinesis.create_stream("lab-events", 2);
    // It looks once a minute.
    let ended = || (!fixture.daemon.is_running()).then_some(());
    crate::support::eventually("the daemon has noticed", crate::support::SOON * 2, ended);
    fixture.gives_up(&[r#"code="directory_of_other_stream""#, "forebay adopt --reason"]);
}

#[test]
fn another_stream_is_refused() {
    let mut fixture = stopped();
    fixture.kinesis.create_stream("other", 1);
    fixture.daemon.settings().stream = "other".to_owned();
    fixture.refuses(&[r#"code="directory_of_other_stream""#, "stream/other", "forebay adopt --reason"]);
}

#[test]
fn directory_in_use_is_not_adopted_nor_opened() {
    let fixture = Fixture::start(Version::usual());
    let directory = fixture.daemon.buffer_directory();
    let output = fixture.daemon.run(&["adopt", "--reason", "while it runs"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains(&directory.display().to_string()) && said.contains("process"), "{said}");
    let settings = Settings::lab(&fixture.postgres, &fixture.kinesis);
    let mut second = Daemon::prepare_on(settings, &directory);
    second.start_again();
    second.wait_for_event("waiting_to_take_over");
    fixture.plates(0..3);
    fixture.wait_until_published().assert_clean();
    assert!(second.terminate().success());
}

#[test]
fn second_daemon_on_same_slot_waits() {
    let fixture = Fixture::start(Version::usual());
    let kinesis: &Kinesis = &fixture.kinesis;
    let mut second = Daemon::start(Settings::lab(&fixture.postgres, kinesis));
    // An empty directory: refused, because the slot is in use by another one.
    assert_eq!(second.wait().code(), Some(1));
    fixture.plates(0..3);
    fixture.wait_until_published().assert_clean();
}
