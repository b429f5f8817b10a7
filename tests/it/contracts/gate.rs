//! The gate with a database and a git repository: what is another meaning, what is the same, and who may lock.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use super::{PLATE, lab, lock, say};
use crate::rules::write;
use crate::support::flow::Flow;
use crate::support::random::seed;

fn git(flow: &Flow, arguments: &[&str]) {
    let mut command = Command::new("git");
    command.arg("-C").arg(flow.daemon.home()).args([
        "-c",
        "user.name=lab",
        "-c",
        "user.email=lab@lab.example",
    ]);
    let output = command.args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Numbers are always sent, whatever the operation is.
const COUNTED: &str = "[[event]]\ntype = \"lab.plate_came.v1\"\nabout = \"A plate came.\"\nfrom = \"lab.plates\"\n\
                       on = \"insert\"\ndata = \"plate_id, wells\"\n";

#[test]
fn other_meaning_is_refused_until_accepted() {
    let mut flow = lab(seed(), COUNTED, |_| {});
    flow.postgres.execute("alter table lab.plates replica identity full");
    lock(&flow, &[]);
    git(&flow, &["init", "--quiet"]);
    git(&flow, &["add", "events", "events.lock"]);
    git(&flow, &["commit", "--quiet", "--message", "contracts"]);
    write(&flow, &COUNTED.replace("on = \"insert\"", "on = \"delete\""));
    let reported = "it was made on insert, and is now made on delete";
    for arguments in [&["events", "check"][..], &["events", "check", "--database"], &["events", "lock"]] {
        let (content, said) = say(&flow, arguments);
        assert!(!content && said.contains(reported) && said.contains("--accept"), "{arguments:?}: {said}");
    }
    flow.daemon.start_again();
    assert!(!flow.daemon.wait().success());
    let log = flow.daemon.log().join("\n");
    assert!(log.contains(reported) && log.contains("contracts_differ"), "{log}");
    assert!(!say(&flow, &["events", "lock", "--accept", " "]).0, "an empty reason");

    write(&flow, &COUNTED.replace("on = \"insert\"", "when = \"wells > 24\"\non = \"insert\""));
    let said = lock(&flow, &["--accept", "small plates were never counted"]);
    assert!(said.contains("lab.plate_came/1.1.json") && said.contains("1.meaning.json"), "{said}");
    for arguments in [
        &["events", "check"][..],
        &["events", "check", "--database"],
        &["events", "check", "--against", "HEAD"],
    ] {
        let (content, said) = say(&flow, arguments);
        assert!(content, "{arguments:?}: {said}");
    }
    assert!(lock(&flow, &["--accept", "again"]).contains("nothing to accept"));
    flow.start();
    assert!(flow.daemon.terminate().success());
}

#[test]
fn edited_published_contract_is_found_against_git() {
    let flow = lab(seed(), PLATE, |_| {});
    let (content, said) = say(&flow, &["events", "check", "--against", "HEAD"]);
    assert!(!content && !said.is_empty(), "no repository");
    lock(&flow, &[]);
    git(&flow, &["init", "--quiet"]);
    git(&flow, &["add", "events", "events.lock"]);
    git(&flow, &["commit", "--quiet", "--message", "contracts"]);
    assert!(say(&flow, &["events", "check", "--against", "HEAD"]).0);
    assert!(!say(&flow, &["events", "check", "--against", "nowhere"]).0);
    assert!(!say(&flow, &["events", "check", "--against", "--output=x"]).0);

    // As if nothing had ever been locked.
    std::fs::remove_dir_all(flow.daemon.home().join("events.lock")).unwrap();
    write(&flow, &PLATE.replace("barcode, status", "status"));
    lock(&flow, &[]);
    assert!(say(&flow, &["events", "check"]).0);
    let (content, said) = say(&flow, &["events", "check", "--against", "HEAD"]);
    assert!(!content && said.contains("lab.plate_came/1.0.json was changed"), "{said}");
    std::fs::remove_dir_all(flow.daemon.home().join("events.lock")).unwrap();
    write(&flow, &PLATE.replace("plate_came", "plate_went"));
    lock(&flow, &[]);
    let (content, said) = say(&flow, &["events", "check", "--against", "HEAD"]);
    assert!(content && said.contains("warning: lab.plate_came.v1"), "{said}");
}

#[test]
fn renamed_column_and_new_attribute_are_no_difference() {
    const PLACE: &str = "[[event]]\ntype = \"lab.plate_came.v1\"\nabout = \"A plate came.\"\nfrom = \"lab.plates\"\n\
                         on = \"insert\"\nkey = \"lower(barcode)\"\ndata = \"plate_id, barcode, spot\"\n";
    let mut flow = lab(seed(), PLACE, |_| {});
    flow.postgres
        .execute("create type lab.spot as (room text, shelf int); alter table lab.plates add spot lab.spot");
    lock(&flow, &[]);
    flow.postgres.execute(
        "alter table lab.plates rename plate_id to nr; alter table lab.plates rename barcode to label; \
         alter type lab.spot add attribute zone text",
    );
    write(
        &flow,
        &PLACE
            .replace("lower(barcode)", "LOWER( label )")
            .replace("plate_id, barcode", "nr as plate_id, label as barcode"),
    );
    let (content, said) = say(&flow, &["events", "check", "--database"]);
    assert!(!content && said.contains("new fields (spot.zone)"), "{said}");
    assert!(lock(&flow, &[]).contains("lab.plate_came/1.1.json"));
    assert!(say(&flow, &["events", "check"]).0);
    flow.start();
    flow.daemon.assert_quiet(&[]);
    assert!(flow.daemon.terminate().success());
    // A type with the same name and other parts.
    flow.postgres.execute(
        "create type lab.other as (room text, shelf numeric, zone text); alter table lab.plates drop spot; \
         alter table lab.plates add spot lab.other",
    );
    let (content, said) = say(&flow, &["events", "check", "--database"]);
    assert!(!content && said.contains("field spot.shelf changed from integer to numeric"), "{said}");
}

#[test]
fn second_lock_waits_for_the_first() {
    let flow = lab(seed(), PLATE, |_| {});
    let held = File::open(flow.daemon.home()).unwrap();
    held.lock().unwrap();
    let mut command = flow.daemon.command(&["events", "lock"]);
    let mut waiting = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(waiting.stdout.take().unwrap()).lines();
    let first = said.next().unwrap().unwrap();
    assert!(first.contains("waiting for its end"), "{first}");
    assert!(!flow.daemon.home().join("events.lock").exists());
    drop(held);
    let rest: Vec<String> = said.map(Result::unwrap).collect();
    assert!(waiting.wait().unwrap().success(), "{rest:?}");
    assert!(rest.iter().any(|line| line.contains("1.0.json")), "{rest:?}");
}
