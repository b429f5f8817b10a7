//! Durable frames that cannot be read: sent again where Postgres still has them, else named.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use crate::support::fixture::Fixture;
use crate::support::postgres::Version;

/// Kinesis is away, ten plates are durable, the daemon has been killed.
fn holding() -> Fixture {
    let mut fixture = Fixture::start(Version::usual());
    fixture.plates(0..5);
    fixture.wait_until_published().assert_clean();
    fixture.wait_until_drained();
    fixture.kinesis.stop();
    fixture.plates(5..15);
    // Durable, and so confirmed, although nobody has published them.
    fixture.wait_until_confirmed();
    fixture.daemon.kill9();
    fixture
}

/// Flips bits in the middle of what the plates 5 to 14 left in the last segment.
fn damage(fixture: &Fixture) {
    let entries = std::fs::read_dir(fixture.daemon.buffer_directory()).unwrap();
    let segments: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    for path in segments {
        let Ok(bytes) = std::fs::read(&path) else { continue };
        let needle = b"PLT-9";
        let Some(at) = bytes.windows(needle.len()).position(|window| window == needle) else { continue };
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        file.write_at(b"damag", u64::try_from(at).unwrap()).unwrap();
        return;
    }
    panic!("plate 9 is in no segment");
}

#[test]
fn unrecoverable_damage_is_refused_and_adopt_keeps_rest() {
    let mut fixture = holding();
    damage(&fixture);
    fixture.refuses(&[r#"code="log_damaged""#, "Frames", "forebay adopt --reason"]);
    let said = fixture.adopt(&[]);
    assert!(said.contains("durable frames kept:  9"), "{said}");
    assert!(said.contains("durable frames lost:  1"), "{said}");
    fixture.kinesis.start_again();
    let before = fixture.postgres.history().len();
    fixture.go_on();
    fixture.plates(20..25);
    fixture.gap(1);
    let mut ever_confirmed = fixture.postgres.history();
    let now = ever_confirmed.split_off(before);
    fixture.wait_until_all_published(&now);
    // All but plate 9, which stood where the damage is.
    ever_confirmed.retain(|change| change.key != "9");
    fixture.wait_until_all_published(&ever_confirmed);
    let audit = std::fs::read_to_string(fixture.daemon.buffer_directory().join("adoptions.jsonl")).unwrap();
    assert!(audit.contains("the test says so") && audit.contains("\"frames_lost\":1"), "{audit}");
}

#[test]
fn recoverable_damage_is_repaired_from_slot() {
    let mut fixture = Fixture::start(Version::usual());
    fixture.plates(0..5);
    fixture.wait_until_published().assert_clean();
    fixture.wait_until_confirmed();
    fixture.kinesis.stop();
    // A transaction that is still open when the others commit does not hold the slot back; one that began before does
    // not either. So the slot is copied before, and put in the place of the one that has confirmed.
    fixture.postgres.query("select pg_copy_logical_replication_slot('forebay_lab', 'kept')");
    fixture.plates(5..15);
    fixture.wait_until_confirmed();
    fixture.daemon.kill9();
    fixture.wait_until_slot_is_free();
    fixture.postgres.query("select pg_drop_replication_slot('forebay_lab')");
    fixture.postgres.query("select pg_copy_logical_replication_slot('kept', 'forebay_lab')");
    damage(&fixture);
    fixture.kinesis.start_again();
    fixture.go_on();
    fixture.plates(15..20);
    fixture.wait_until_published().assert_clean();
}

#[test]
fn damaged_checkpoint_is_refused() {
    let mut fixture = holding();
    let path = fixture.daemon.buffer_directory().join("checkpoint");
    let length = std::fs::metadata(&path).unwrap().len();
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(&vec![0xAA; usize::try_from(length).unwrap()], 0).unwrap();
    fixture.refuses(&[r#"code="checkpoint_damaged""#, "forebay adopt --reason"]);
}

#[test]
fn segments_without_checkpoint_are_refused_until_adopted() {
    let mut fixture = holding();
    std::fs::remove_file(fixture.daemon.buffer_directory().join("checkpoint")).unwrap();
    fixture.refuses(&[r#"code="checkpoint_missing""#, "forebay adopt --reason"]);
    fixture.adopt(&[]);
    fixture.kinesis.start_again();
    let before = fixture.postgres.history().len();
    fixture.go_on();
    fixture.plates(20..25);
    fixture.gap(1);
    let now = fixture.postgres.history().split_off(before);
    fixture.wait_until_all_published(&now);
}
