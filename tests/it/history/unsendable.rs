//! A change that the server cannot send: named with its transaction, refused by an adoption that would not help, given up by
//! one that names it. A row filter that fails stands for it, as a value above a gigabyte would.

use serde_json::Value;

use crate::support::fixture::Fixture;
use crate::support::postgres::Version;
use crate::support::{SOON, eventually};

/// A daemon that receives, over a publication that fails at plate 13.
fn start(version: Version) -> Fixture {
    let mut fixture = Fixture::prepare(version);
    fixture.postgres.execute(
        "create publication forebay_lab for table lab.plates where (1000 / (plate_id - 13) is not null), lab.samples \
         with (publish_via_partition_root = true); alter publication forebay_lab owner to forebay",
    );
    fixture.daemon.settings().tables.clear();
    fixture.go_on();
    fixture.plates(1..3);
    wait_for_plate(&fixture, 2);
    fixture
}

fn plates(fixture: &Fixture) -> Vec<u64> {
    let events = fixture.events();
    let mut ids: Vec<u64> = events.iter().filter_map(|event| event["data"]["plate_id"].as_u64()).collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

#[track_caller]
fn wait_for_plate(fixture: &Fixture, id: u64) {
    eventually(&format!("plate {id}"), SOON, || plates(fixture).contains(&id).then_some(()));
}

/// Waits until these plates are published, and no others: the stream keeps the order of one key only.
#[track_caller]
fn wait_for_plates(fixture: &Fixture, ids: &[u64]) {
    eventually(&format!("plates {ids:?}"), SOON, || (plates(fixture) == ids).then_some(()));
}

/// A transaction whose second row cannot be sent, and a row behind it.
const POISON: &str = "begin; insert into lab.plates (plate_id, barcode) values (5, 'PLT-5'), (13, 'PLT-13'); commit; \
    insert into lab.plates (plate_id, barcode) values (14, 'PLT-14')";

/// The position in the command that a message gives.
fn position(said: &str) -> String {
    let command = said.split("--skip-transaction ").nth(1).unwrap_or_else(|| panic!("no command: {said}"));
    command.chars().take_while(|letter| letter.is_ascii_hexdigit() || *letter == '/').collect()
}

#[test]
fn transaction_that_cannot_be_sent_is_given_up_by_name() {
    for version in [Version::usual(), Version::NEWEST] {
        let mut fixture = start(version);
        fixture.postgres.execute(POISON);
        let said = fixture.gives_up(&["PostgreSQL cannot send a change", "22012", "in transaction "]);
        let named = position(&said);
        fixture.adopt_refuses(
            &[],
            &["an adoption would change nothing", &format!("--skip-transaction {named}")],
        );
        fixture.adopt_refuses(&["--skip-transaction", "0/1"], &["is not between the slot's position"]);
        let confirmed = fixture.confirmed();
        let adopted = fixture.adopt(&["--skip-transaction", &named]);
        assert!(adopted.contains("transaction given up: ") && adopted.contains(&named), "{adopted}");
        fixture.go_on();
        wait_for_plate(&fixture, 14);
        let skipped = fixture.gap(1)["data"]["skipped"].clone();
        assert_eq!(skipped["commit"], named.as_str(), "slot at {confirmed}");
        assert!(skipped["transaction"].is_u64() && skipped["committed"].is_string(), "{skipped}");
        assert!(skipped["cause"].as_str().unwrap().contains("22012"), "{skipped}");
        wait_for_plates(&fixture, &[1, 2, 5, 14]);
        let audit = fixture.daemon.buffer_directory().join("adoptions.jsonl");
        let line: Value = serde_json::from_str(std::fs::read_to_string(audit).unwrap().trim()).unwrap();
        assert_eq!(line["skipped"], skipped);
        assert!(fixture.daemon.terminate().success());
    }
}

/// The slot moves over everything before the transaction, too.
#[test]
fn skipping_waits_for_what_was_committed_before() {
    let mut fixture = start(Version::usual());
    assert!(fixture.daemon.terminate().success());
    fixture.plates(3..4);
    fixture.postgres.execute(POISON);
    let output = fixture.daemon.run(&["adopt", "--reason", "the test says so"]);
    let named = position(&String::from_utf8_lossy(&output.stderr));
    fixture.adopt_refuses(&["--skip-transaction", &named], &["was not received yet", "Start Forebay until"]);
    fixture.refuses(&["cannot send a change"]);
    fixture.adopt(&["--skip-transaction", &named]);
    fixture.go_on();
    wait_for_plates(&fixture, &[1, 2, 3, 5, 14]);
    assert!(fixture.daemon.terminate().success());
    let end = fixture.postgres.value("select pg_current_wal_flush_lsn()");
    fixture.adopt_refuses(&["--skip-transaction", &end], &["no published transaction commits at"]);
    fixture.plates(21..22);
    let end = fixture.postgres.value("select pg_current_wal_flush_lsn()");
    fixture.adopt_refuses(&["--skip-transaction", &end], &["was not received yet"]);
    fixture.go_on();
    wait_for_plate(&fixture, 21);
}

/// A transaction that fails at its first change has not begun: the server sends nothing of it.
#[test]
fn unknown_transaction_is_given_up_by_a_later_position() {
    let mut fixture = start(Version::NEWEST);
    fixture.postgres.execute("insert into lab.plates (plate_id, barcode) values (13, 'PLT-13')");
    let end = fixture.postgres.value("select pg_current_wal_flush_lsn()");
    fixture.plates(15..16);
    fixture.gives_up(&["PostgreSQL cannot send a change", "--skip-transaction <LSN>"]);
    fixture.adopt(&["--skip-transaction", &end]);
    fixture.go_on();
    wait_for_plate(&fixture, 15);
    assert_eq!(fixture.gap(1)["data"]["skipped"]["commit"], end.as_str());
    wait_for_plates(&fixture, &[1, 2, 15]);
}
