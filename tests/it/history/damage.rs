//! Held frames that cannot be read: sent again where Postgres still has them, else named.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use crate::support::postgres::Version;
use crate::support::scene::Scene;
use crate::support::{SOON, eventually};

/// Kinesis is away, ten plates are held, the daemon has been killed.
fn holding() -> Scene {
    let mut scene = Scene::start(Version::usual());
    scene.plates(0..5);
    scene.wait_until_told().assert_clean();
    scene.kinesis.stop();
    scene.plates(5..15);
    // Held, and so confirmed, although nobody has published them.
    scene.wait_until_confirmed();
    scene.daemon.kill9();
    scene
}

/// Flips bits in the middle of what the plates 5 to 14 left in the last segment.
fn damage(scene: &Scene) {
    let entries = std::fs::read_dir(scene.daemon.buffer_directory()).unwrap();
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
fn damage_of_what_postgres_has_forgotten_is_refused_and_adopt_keeps_the_rest() {
    let mut scene = holding();
    damage(&scene);
    scene.refuses(&[
        "the log is damaged",
        "Frames",
        "held and not published",
        "does not have them any more",
        "forebay adopt --reason",
    ]);
    let said = scene.adopt(&[]);
    assert!(said.contains("held frames kept:   9"), "{said}");
    assert!(said.contains("held frames lost:   1"), "{said}");
    scene.kinesis.start_again();
    let before = scene.postgres.history().len();
    scene.go_on();
    scene.plates(20..25);
    scene.gap(1);
    let mut told = scene.postgres.history();
    let now = told.split_off(before);
    scene.wait_until_all_told(&now);
    // All but plate 9, which stood where the damage is.
    told.retain(|change| change.key != "9");
    scene.wait_until_all_told(&told);
    let audit = std::fs::read_to_string(scene.daemon.buffer_directory().join("adoptions.jsonl")).unwrap();
    assert!(audit.contains("the test says so") && audit.contains("\"frames_lost\":1"), "{audit}");
}

#[test]
fn damage_of_what_postgres_still_has_is_mended_by_itself() {
    let mut scene = Scene::start(Version::usual());
    scene.plates(0..5);
    scene.wait_until_told().assert_clean();
    scene.wait_until_confirmed();
    scene.kinesis.stop();
    // A transaction that is still open when the others commit does not hold the slot back; one that began before does
    // not either. So the slot is copied before, and put in the place of the one that has confirmed.
    scene.postgres.query("select pg_copy_logical_replication_slot('forebay_lab', 'kept')");
    scene.plates(5..15);
    scene.wait_until_confirmed();
    scene.daemon.kill9();
    eventually("the slot is free", SOON, || {
        (scene.postgres.value("select active from pg_replication_slots where slot_name = 'forebay_lab'")
            == "f")
            .then_some(())
    });
    scene.postgres.query("select pg_drop_replication_slot('forebay_lab')");
    scene.postgres.query("select pg_copy_logical_replication_slot('kept', 'forebay_lab')");
    damage(&scene);
    scene.kinesis.start_again();
    scene.go_on();
    scene.plates(15..20);
    scene.wait_until_told().assert_clean();
}

#[test]
fn a_damaged_checkpoint_is_refused() {
    let mut scene = holding();
    let path = scene.daemon.buffer_directory().join("checkpoint");
    let length = std::fs::metadata(&path).unwrap().len();
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(&vec![0xAA; usize::try_from(length).unwrap()], 0).unwrap();
    scene.refuses(&["checkpoint", "forebay adopt --reason"]);
}

#[test]
fn segments_without_a_checkpoint_are_refused_and_adopt_starts_over() {
    let mut scene = holding();
    std::fs::remove_file(scene.daemon.buffer_directory().join("checkpoint")).unwrap();
    scene.refuses(&["log segments but no checkpoint", "forebay adopt --reason"]);
    scene.adopt(&[]);
    scene.kinesis.start_again();
    let before = scene.postgres.history().len();
    scene.go_on();
    scene.plates(20..25);
    scene.gap(1);
    let now = scene.postgres.history().split_off(before);
    scene.wait_until_all_told(&now);
}
