//! Rules in the running program: what they make of changes, and what is said of bad ones before anything is received.

use serde_json::{Value, json};

use crate::support::daemon::Settings;
use crate::support::flow::Flow;
use crate::support::random::seed;
use crate::support::{SOON, eventually};

/// A lab whose daemon reads these rules.
fn lab(rules: &str, more: &[(&str, &str)]) -> Flow {
    let flow = Flow::prepare(seed(), |settings: &mut Settings| {
        settings.more.push(("events".to_owned(), "rules = \"events/*.toml\"".to_owned()));
        settings.more.extend(more.iter().map(|(section, line)| ((*section).to_owned(), (*line).to_owned())));
    });
    write(&flow, rules);
    flow
}

fn write(flow: &Flow, rules: &str) {
    let folder = flow.daemon.home().join("events");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("lab.toml"), rules).unwrap();
}

/// The events of the stream, once there are so many.
fn events(flow: &Flow, count: usize) -> Vec<Value> {
    eventually(&format!("{count} events"), SOON, || {
        let records = flow.stub.records();
        (records.len() >= count)
            .then(|| records.iter().map(|r| serde_json::from_slice(&r.data).unwrap()).collect())
    })
}

const COMPLETED: &str = r#"
[[event]]
type = "lab.plate_completed.v2"
about = "A plate has passed its last step."
owner = "lab-automation"
from = "lab.plates"
on = "update of status"
when = "status = 'completed'"
key = "barcode"
data = """
  plate_id,              -- number of the plate
  barcode as plate,
  old.status as before,  -- what it was before
  upper(notes) as shout,
  changed() as changes
"""

[[event]]
type = "lab.plate_completed.v1"
from_event = "lab.plate_completed.v2"
data = "plate_id as id, plate as barcode"
deprecated = { since = "2026-11-01", sunset = "2027-05-01", use = "lab.plate_completed.v2" }
"#;

#[test]
fn a_rule_makes_the_events_that_the_business_speaks_of() {
    let mut flow = lab(COMPLETED, &[]);
    flow.postgres.execute("alter table lab.plates replica identity full");
    flow.start();
    flow.postgres.execute(
        "insert into lab.plates (plate_id, barcode, notes) values (7, 'P7', 'fine'); \
         update lab.plates set notes = 'finer' where plate_id = 7; \
         update lab.plates set status = 'completed', notes = 'finest' where plate_id = 7",
    );
    let events = events(&flow, 3);
    // The insert is nobody's, so it is automatic; updates are a rule's, and the first is not what it wants.
    assert_eq!(events[0]["type"], "lab.plates.inserted.v1");
    let [_, second, first] = &events[..] else { panic!("{events:#?}") };
    let (second, first) =
        if second["type"] == "lab.plate_completed.v2" { (second, first) } else { (first, second) };
    assert_eq!(second["type"], "lab.plate_completed.v2");
    assert_eq!(second["partitionkey"], "P7");
    assert_eq!(
        second["data"],
        json!({"plate_id": 7, "plate": "P7", "before": "empty", "shout": "FINEST", "changes": ["status", "notes", "version"]})
    );
    assert_eq!(first["type"], "lab.plate_completed.v1");
    assert_eq!(first["data"], json!({"id": 7, "barcode": "P7"}));
    assert_eq!(first["deprecationsunset"].as_str().map(|text| &text[..10]), Some("2027-05-01"));
    assert!(flow.daemon.terminate().success());
}

#[test]
fn every_mistake_in_the_rules_is_told_before_anything_is_received() {
    let rules = r#"
[[event]]
type = "lab.a.v1"
from = "lab.plates"
on = "update of statsu"
data = "old.barcode, no_such_column"

[[event]]
type = "lab.b.v1"
from = "lab.nowhere"

[[event]]
type = "lab.c.v1"
from = "lab.plates"
when = "status = 'dnoe'"
data = "hmac(barcode) as who"

[[event]]
type = "lab.d.v1"
from = "lab.plates"
on = "update"
data = "old.notes"
"#;
    let mut flow = lab(rules, &[]);
    flow.daemon.start_again();
    let status = flow.daemon.wait();
    let log = flow.daemon.log().join("\n");
    assert!(!status.success(), "{log}");
    for expected in [
        "events/lab.toml:",
        "update of statsu",
        "no_such_column",
        "lab.nowhere",
        "hmac() needs a key",
        "dnoe",
        "REPLICA IDENTITY FULL",
        "^",
    ] {
        assert!(log.contains(expected), "{expected:?} is not told:\n{log}");
    }
    assert_eq!(
        flow.postgres.value("select count(*) from pg_replication_slots where slot_name = 'forebay_lab'"),
        "0"
    );
}

#[test]
fn a_row_that_a_rule_fails_at_is_a_dead_letter_of_that_rule_alone_and_a_mended_rule_sends_it() {
    let rule = |data: &str| {
        format!(
            "[[event]]\ntype = \"lab.share.v1\"\nfrom = \"lab.plates\"\non = \"insert\"\ndata = \"plate_id, {data} as share\"\n\n\
             [[event]]\ntype = \"lab.seen.v1\"\nfrom = \"lab.plates\"\non = \"insert\"\ndata = \"plate_id\"\n"
        )
    };
    let mut flow = lab(&rule("100 / (plate_id - 1)"), &[]);
    flow.start();
    flow.postgres.execute("insert into lab.plates (plate_id, barcode) values (1, 'P1'), (2, 'P2')");
    let came = events(&flow, 3);
    let types: Vec<_> = came.iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(types.iter().filter(|of| **of == "lab.seen.v1").count(), 2, "{types:?}");
    let letters = || String::from_utf8(flow.daemon.run(&["dlq", "list", "--json"]).stdout).unwrap();
    eventually("the letter", SOON, || letters().contains("division by zero").then_some(()));
    let letter: Value = serde_json::from_str(letters().lines().next().unwrap()).unwrap();
    assert_eq!(letter["type"], "lab.share.v1", "{letter}");
    assert!(flow.daemon.terminate().success());
    write(&flow, &rule("100 / plate_id"));
    flow.start();
    assert!(flow.daemon.run(&["dlq", "retry", letter["id"].as_str().unwrap()]).status.success());
    let came = events(&flow, 4);
    let late = came.last().unwrap();
    assert_eq!(
        (&late["type"], &late["data"]),
        (&json!("lab.share.v1"), &json!({"plate_id": 1, "share": 100}))
    );
    flow.daemon.assert_quiet(&["a rule failed at a change", "went to the dead letter"]);
}
