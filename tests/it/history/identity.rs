//! A directory belongs to one database, slot, publication, name and stream; and to one process at a time.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::support::daemon::{Daemon, Settings};
use crate::support::kinesis::Kinesis;
use crate::support::postgres::{Postgres, Version};
use crate::support::scene::Scene;

/// A daemon that has published five plates and was stopped.
fn stopped() -> Scene {
    let mut scene = Scene::start(Version::usual());
    scene.plates(0..5);
    scene.wait_until_told().assert_clean();
    assert!(scene.daemon.terminate().success());
    scene
}

fn goes_on(scene: &mut Scene) {
    let before = scene.postgres.history().len();
    scene.go_on();
    scene.plates(500..505);
    scene.gap(1);
    let now = scene.postgres.history().split_off(before);
    scene.wait_until_all_told(&now);
    assert!(scene.daemon.terminate().success());
}

#[test]
fn another_cluster_behind_the_url_is_refused() {
    let mut scene = stopped();
    let other = Postgres::lab(Version::usual());
    other.execute("create publication forebay_lab for table lab.plates, lab.samples, lab.transfers");
    other.query("select pg_create_logical_replication_slot('forebay_lab', 'pgoutput')");
    scene.daemon.settings().url = other.url("forebay");
    scene.refuses(&[
        "belongs to another database cluster (system identifier)",
        "correct the configuration",
        "forebay adopt --reason",
    ]);
    scene.postgres = other;
    scene.adopt(&[]);
    goes_on(&mut scene);
}

#[test]
fn a_changed_slot_publication_or_name_is_refused() {
    type Change = fn(&mut Settings);
    let changes: [(Change, &str); 3] = [
        (
            |settings| {
                settings.slot = "other".to_owned();
                settings.more.push(("source".to_owned(), "publication = \"forebay_lab\"".to_owned()));
            },
            "another slot",
        ),
        (
            |settings| settings.more.push(("source".to_owned(), "publication = \"other\"".to_owned())),
            "another publication",
        ),
        (|settings| settings.name = "other".to_owned(), "another source (name)"),
    ];
    for (change, what) in changes {
        let mut scene = stopped();
        change(scene.daemon.settings());
        scene.refuses(
            &[what, "forebay_lab", "other", "correct the configuration", "forebay adopt --reason"].map(
                |text| {
                    if what.contains("name") && text == "forebay_lab" { "urn:forebay:lab" } else { text }
                },
            ),
        );
        assert_eq!(scene.slots_and_publications(), "forebay_lab/forebay_lab", "nothing was created");
        // A slot that is older than its publication cannot read what was written between them.
        let recreate: &[&str] =
            if what.contains("publication") { &["--recreate-slot", "forebay_lab"] } else { &[] };
        scene.adopt(recreate);
        goes_on(&mut scene);
    }
}

#[test]
fn another_database_of_the_cluster_is_refused() {
    let mut scene = stopped();
    scene.postgres.execute("create database other");
    let url = scene.daemon.settings().url.replace("/lab", "/other");
    scene.daemon.settings().url = url;
    scene.refuses(&["another database", "\"lab\"", "\"other\"", "forebay adopt --reason"]);
}

/// kinesalite says the time of creation in whole seconds: waits until a stream that is made now has another.
fn another_second() {
    let second = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let began = second();
    crate::support::eventually("another second", crate::support::SOON, || (second() > began).then_some(()));
}

#[test]
fn a_recreated_stream_is_refused() {
    let mut scene = stopped();
    scene.kinesis.delete_stream("lab-events");
    another_second();
    scene.kinesis.create_stream("lab-events", 2);
    scene.refuses(&["belongs to the stream", "recreated", "forebay adopt --reason"]);
    scene.adopt(&[]);
    goes_on(&mut scene);
}

#[test]
fn a_stream_recreated_under_a_running_daemon_is_noticed_before_anything_of_it_is_taken_for_the_old_one() {
    let mut scene = Scene::start(Version::usual());
    scene.plates(0..5);
    scene.wait_until_told().assert_clean();
    scene.kinesis.delete_stream("lab-events");
    another_second();
    scene.kinesis.create_stream("lab-events", 2);
    // It looks once a minute.
    let ended = || (!scene.daemon.is_running()).then_some(());
    crate::support::eventually("the daemon has noticed", crate::support::SOON * 2, ended);
    scene.gives_up(&["belongs to the stream", "forebay adopt --reason"]);
}

#[test]
fn another_stream_is_refused() {
    let mut scene = stopped();
    scene.kinesis.create_stream("other", 1);
    scene.daemon.settings().stream = "other".to_owned();
    scene.refuses(&["belongs to the stream", "other", "forebay adopt --reason"]);
}

#[test]
fn a_second_daemon_on_the_same_directory_is_refused() {
    let scene = Scene::start(Version::usual());
    let directory = scene.daemon.buffer_directory();
    let output = scene.daemon.run(&["adopt", "--reason", "while it runs"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains(&directory.display().to_string()) && said.contains("process"), "{said}");
    let settings = Settings::lab(&scene.postgres, &scene.kinesis);
    let mut second = Daemon::prepare_on(settings, &directory);
    second.start_again();
    assert_eq!(second.wait().code(), Some(1));
    let said = second.log().join("\n");
    assert!(said.contains(&directory.display().to_string()) && said.contains("process"), "{said}");
    println!("refused: {said}");
    scene.plates(0..3);
    scene.wait_until_told().assert_clean();
}

#[test]
fn a_second_daemon_on_the_same_slot_waits_and_disturbs_nobody() {
    let scene = Scene::start(Version::usual());
    let kinesis: &Kinesis = &scene.kinesis;
    let mut second = Daemon::start(Settings::lab(&scene.postgres, kinesis));
    // An empty directory: refused, because the slot is in use by another one.
    assert_eq!(second.wait().code(), Some(1));
    scene.plates(0..3);
    scene.wait_until_told().assert_clean();
}
