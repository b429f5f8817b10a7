//! Rules in the running daemon: the events they make, and how mistakes in rules are reported at start.

use serde_json::{Value, json};

use crate::support::daemon::Settings;
use crate::support::flow::Flow;
use crate::support::random::seed;
use crate::support::{SOON, eventually};

/// A lab whose daemon uses these rules.
fn lab(rules: &str, more: &[(&str, &str)]) -> Flow {
    let flow = Flow::prepare(seed(), |settings: &mut Settings| {
        settings.more.push(("events".to_owned(), "rules = \"events/*.toml\"".to_owned()));
        settings.more.extend(more.iter().map(|(section, line)| ((*section).to_owned(), (*line).to_owned())));
    });
    write(&flow, rules);
    flow
}

/// Writes the rules of a daemon.
pub fn write(flow: &Flow, rules: &str) {
    let folder = flow.daemon.home().join("events");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("lab.toml"), rules).unwrap();
}

/// The events of the stream, once there are this many.
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
fn rule_makes_domain_events() {
    let mut flow = lab(COMPLETED, &[]);
    flow.postgres.execute("alter table lab.plates replica identity full");
    flow.start();
    flow.postgres.execute(
        "insert into lab.plates (plate_id, barcode, notes) values (7, 'P7', 'fine'); \
         update lab.plates set notes = 'finer' where plate_id = 7; \
         update lab.plates set status = 'completed', notes = 'finest' where plate_id = 7",
    );
    let events = events(&flow, 3);
    // No rule reads inserts, so they are automatic. A rule reads updates, and its condition excludes the first one.
    let of = |name: &str| events.iter().find(|event| event["type"] == name).unwrap();
    of("lab.plates.inserted.v1");
    let (second, first) = (of("lab.plate_completed.v2"), of("lab.plate_completed.v1"));
    assert_eq!(events.len(), 3, "{events:#?}");
    assert_eq!(second["partitionkey"], "P7");
    assert_eq!(
        second["data"],
        json!({"plate_id": 7, "plate": "P7", "before": "empty", "shout": "FINEST", "changes": ["status", "notes", "version"]})
    );
    assert_eq!(first["data"], json!({"id": 7, "barcode": "P7"}));
    assert_eq!(first["deprecationsunset"].as_str().map(|text| &text[..10]), Some("2027-05-01"));
    assert!(flow.daemon.terminate().success());
}

#[test]
fn every_rule_error_is_reported_before_receiving() {
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
        "hmac() has no key",
        "dnoe",
        "REPLICA IDENTITY FULL",
        "^",
    ] {
        assert!(log.contains(expected), "{expected:?} is missing:\n{log}");
    }
    assert_eq!(
        flow.postgres.value("select count(*) from pg_replication_slots where slot_name = 'forebay_lab'"),
        "0"
    );
}

#[test]
fn unpublished_table_is_refused_with_statement() {
    let rule = "[[event]]\ntype = \"lab.c.v1\"\nfrom = \"audit.changes\"\n";
    let mut flow = lab(rule, &[]);
    flow.daemon.start_again();
    assert!(!flow.daemon.wait().success());
    let log = flow.daemon.log().join("\n");
    assert!(log.contains("add it to source.tables"), "{log}");
    assert_eq!(flow.postgres.value("select count(*) from pg_publication"), "0");
    write(&flow, "");
    flow.start();
    assert!(flow.daemon.terminate().success());
    write(&flow, rule);
    flow.daemon.start_again();
    assert!(!flow.daemon.wait().success());
    let log = flow.daemon.log().join("\n");
    let statement =
        log.lines().map(str::trim).find(|line| line.starts_with("ALTER") && line.contains("ADD TABLE"));
    flow.postgres.execute(statement.unwrap_or_else(|| panic!("{log}")));
    flow.start();
    assert!(flow.daemon.terminate().success());
}

#[test]
fn failing_rule_makes_dead_letter_and_fixed_rule_retries_it() {
    // Two rules fail at one row, the old version and the new one: each writes a dead letter.
    let rule = |data: &str| {
        format!(
            "[[event]]\ntype = \"lab.share.v2\"\nfrom = \"lab.plates\"\non = \"insert\"\ndata = \"plate_id, {data} as share\"\n\n\
             [[event]]\ntype = \"lab.share.v1\"\nfrom_event = \"lab.share.v2\"\ndata = \"share\"\n\n\
             [[event]]\ntype = \"lab.seen.v1\"\nfrom = \"lab.plates\"\non = \"insert\"\ndata = \"plate_id\"\n"
        )
    };
    let mut flow = lab(&rule("100 / (plate_id - 1)"), &[]);
    flow.start();
    flow.postgres.execute("insert into lab.plates (plate_id, barcode) values (1, 'P1'), (2, 'P2')");
    let came = events(&flow, 4);
    let types: Vec<_> = came.iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(types.iter().filter(|of| **of == "lab.seen.v1").count(), 2, "{types:?}");
    let letters: Vec<Value> = eventually("both letters", SOON, || {
        let list = String::from_utf8(flow.daemon.run(&["dlq", "list", "--json"]).stdout).unwrap();
        let letters: Vec<Value> = list.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        (letters.len() == 2).then_some(letters)
    });
    let of: Vec<_> = letters.iter().map(|letter| letter["type"].as_str().unwrap()).collect();
    assert_eq!(of, ["lab.share.v2", "lab.share.v1"], "{letters:?}");
    assert!(letters.iter().all(|letter| letter["reason"].as_str().unwrap().contains("division by zero")));
    assert!(flow.daemon.terminate().success());
    write(&flow, &rule("100 / plate_id"));
    flow.start();
    for letter in &letters {
        assert!(flow.daemon.run(&["dlq", "retry", letter["id"].as_str().unwrap()]).status.success());
    }
    let came = events(&flow, 6);
    let mut late: Vec<_> =
        came[4..].iter().map(|event| (event["type"].clone(), event["data"].clone())).collect();
    late.sort_by_key(|(of, _)| of.to_string());
    assert_eq!(
        late,
        [
            (json!("lab.share.v1"), json!({"share": 100})),
            (json!("lab.share.v2"), json!({"plate_id": 1, "share": 100}))
        ]
    );
    flow.daemon.assert_quiet(&["event_quarantined", "dead_letters_written"]);
}

#[test]
fn personal_data_is_published_only_as_stable_pseudonym() {
    const EMAIL: &str = "ada@lab.example";
    let rules = r#"
[[event]]
type = "lab.touched.v1"
from = "lab.plates"
on = "update"
when = "operator_email like '%@lab.example'"
data = "plate_id, hmac(operator_email) as operator"
"#;
    let pii = [("pii", "columns = [\"*.*.operator_email\"]"), ("pii", "hmac_key = \"0123456789abcdef\"")];
    let mut flow = lab(rules, &pii);
    flow.start();
    flow.postgres.execute(&format!(
        "insert into lab.plates (plate_id, barcode, operator_email) values (1, 'P1', '{EMAIL}'); \
         update lab.plates set wells = 24 where plate_id = 1"
    ));
    events(&flow, 2);
    assert!(flow.daemon.terminate().success());
    flow.start();
    flow.postgres.execute("update lab.plates set wells = 48 where plate_id = 1");
    let events = events(&flow, 3);
    let operators: Vec<_> = events[1..].iter().map(|event| event["data"]["operator"].clone()).collect();
    assert!(
        operators[0].as_str().is_some_and(|text| text.len() >= 16) && operators[0] == operators[1],
        "{operators:?}"
    );
    let document = std::fs::read_to_string(crate::support::repository().join("docs/EVENTS.md")).unwrap();
    assert!(document.contains(&format!("== {}\n", operators[0])), "{operators:?} is not the documented one");
    for record in flow.stub.records() {
        assert!(!std::str::from_utf8(&record.data).unwrap().contains("ada@"), "it has left");
    }
    assert!(!flow.daemon.run(&["config"]).stdout.windows(16).any(|part| part == b"0123456789abcdef"));
    assert!(flow.daemon.terminate().success());

    for (data, expected) in [
        ("plate_id, upper(operator_email) as who", "operator_email"),
        ("plate_id, case when operator_email is null then 1 else 2 end as known", "operator_email"),
    ] {
        write(
            &flow,
            &format!("[[event]]\ntype = \"lab.bad.v1\"\nfrom = \"lab.plates\"\ndata = \"{data}\"\n"),
        );
        flow.daemon.start_again();
        assert!(!flow.daemon.wait().success(), "{data}");
        let log = flow.daemon.log().join("\n");
        assert!(log.contains(expected) && log.contains("publish hmac("), "{data}: {log}");
    }
}

/// Partitions do not inherit `REPLICA IDENTITY FULL`, and the server uses the partition's identity.
#[test]
fn partition_without_full_identity_makes_no_wrong_event() {
    let mut flow = lab(
        "[[event]]\ntype = \"lab.run_moved.v1\"\nfrom = \"lab.runs\"\non = \"update of state\"\ndata = \"id, old.state as before\"\n",
        &[],
    );
    flow.daemon.settings().tables.push("lab.runs".to_owned());
    flow.postgres.execute(
        "create table lab.runs (id int primary key, state text, note text) partition by range (id); \
         create table lab.runs_1 partition of lab.runs for values from (0) to (100); \
         alter table lab.runs owner to lab; alter table lab.runs_1 owner to lab; alter table lab.runs replica identity full",
    );
    flow.daemon.start_again();
    assert!(!flow.daemon.wait().success());
    let log = flow.daemon.log().join("\n");
    assert!(log.contains("ALTER TABLE lab.runs_1 REPLICA IDENTITY FULL;"), "{log}");
    flow.postgres.execute("alter table lab.runs_1 replica identity full");
    flow.start();
    // A partition added later has its own identity again.
    flow.postgres.execute(
        "create table lab.runs_2 partition of lab.runs for values from (100) to (200); alter table lab.runs_2 owner to lab; \
         insert into lab.runs values (1, 'new', 'n'), (101, 'new', 'n'); update lab.runs set state = 'old'; delete from lab.runs",
    );
    let list = || String::from_utf8(flow.daemon.run(&["dlq", "list", "--json"]).stdout).unwrap();
    eventually("letters of the updates", SOON, || (list().lines().count() >= 2).then_some(()));
    assert!(list().lines().all(|letter| letter.contains("needs the old value of state")), "{}", list());
    flow.daemon.wait_for_event("partition_identity_incomplete");
    flow.postgres.execute("alter table lab.runs_2 replica identity full");
    flow.postgres.execute("insert into lab.runs values (103, 'new', 'n'); update lab.runs set state = 'old'");
    eventually("the update is published", SOON, || {
        let expected = json!({"id": 103, "before": "new"});
        events(&flow, 1).iter().any(|event| event["data"] == expected).then_some(())
    });
    assert!(flow.daemon.terminate().success());

    // Without the rule, an unknown old value is not written as NULL.
    flow.postgres.execute("delete from lab.runs; alter table lab.runs_2 replica identity default");
    write(&flow, "");
    flow.start();
    flow.postgres.execute("insert into lab.runs values (102, 'new', 'n'); delete from lab.runs");
    eventually("the second partition's row is gone", SOON, || {
        let published = events(&flow, 1);
        published.iter().any(|event| event["data"] == json!({"id": 102})).then_some(())
    });
    assert!(
        !events(&flow, 1)
            .iter()
            .any(|event| event["data"] == json!({"id": 102, "note": null, "state": null}))
    );
    assert!(flow.daemon.terminate().success());
}

/// A deferrable primary key is not a replica identity: the server refuses updates of a published table. Columns that
/// an index includes are not sent.
#[test]
fn key_excludes_deferrable_and_included_columns() {
    let rule = |from: &str, data: &str| {
        format!("[[event]]\ntype = \"lab.a.v1\"\nfrom = \"{from}\"\non = \"update\"\ndata = \"{data}\"\n")
    };
    let mut flow = lab(&rule("lab.wide", "id, old.note as before"), &[]);
    flow.daemon.settings().tables.clear();
    flow.postgres.execute(
        "drop schema audit cascade; create table lab.late (id int primary key deferrable, n int); \
         create table lab.wide (id int, note text, primary key (id) include (note)); \
         alter table lab.late owner to lab; alter table lab.wide owner to lab; insert into lab.late values (1, 1)",
    );
    flow.daemon.start_again();
    assert!(!flow.daemon.wait().success());
    let log = flow.daemon.log().join("\n");
    assert!(log.contains("needs the old value of note, which the replica identity of lab.wide"), "{log}");
    write(&flow, &rule("lab.wide", "id"));
    flow.start();
    flow.postgres.execute(
        "update lab.late set n = 2; insert into lab.wide values (7, 'n'); update lab.wide set note = 'm'",
    );
    let came = events(&flow, 2);
    assert_eq!((&came[1]["type"], &came[1]["subject"]), (&json!("lab.a.v1"), &json!("7")));
    assert!(flow.daemon.terminate().success());
    flow.postgres.execute("alter publication forebay_lab add table lab.late");
    flow.daemon.start_again();
    assert!(!flow.daemon.wait().success());
    let log = flow.daemon.log().join("\n");
    assert!(log.contains("\"lab\".\"late\": no replica identity"), "{log}");
}

/// The subject of an automatic event is the key, which must not reveal personal data.
#[test]
fn personal_key_is_in_no_automatic_event() {
    let mut flow = lab("", &[("pii", "columns = [\"*.people.email\", \"lab.plates.operator_emial\"]")]);
    let refused = |flow: &mut Flow| {
        flow.daemon.start_again();
        assert!(!flow.daemon.wait().success());
        flow.daemon.log().join("\n")
    };
    let log = refused(&mut flow);
    assert!(log.contains("lab.plates has no published column operator_emial"), "{log}");
    flow.daemon.settings().more.retain(|(section, _)| section != "pii");
    flow.daemon.settings().more.extend(
        ["columns = [\"?*.people.email\"]", "hmac_key = \"0123456789abcdef\""]
            .map(|line| ("pii".to_owned(), line.to_owned())),
    );

    // A table added while the daemon runs: its changes become dead letters. The next start refuses and gives the fix.
    flow.start();
    flow.postgres.execute(
        "create table lab.people (email text primary key, role text); alter publication forebay_lab add table lab.people",
    );
    flow.postgres.execute(
        "insert into lab.people values ('ada@lab.example', 'head'); insert into lab.plates (plate_id, barcode) values (1, 'P1')",
    );
    events(&flow, 1);
    let letters = || String::from_utf8(flow.daemon.run(&["dlq", "list", "--json"]).stdout).unwrap();
    eventually("the letter", SOON, || letters().contains("holds personal data").then_some(()));
    assert!(flow.daemon.terminate().success());
    let log = refused(&mut flow);
    assert!(log.contains("lab.people: email is part of the key") && log.contains("hmac(email)"), "{log}");

    // Rules for every operation, with a pseudonym as the key.
    write(
        &flow,
        "[[event]]\ntype = \"lab.person.v1\"\nfrom = \"lab.people\"\non = \"insert, update, delete\"\nkey = \"hmac(email)\"\n\
         data = \"op\"\n",
    );
    flow.start();
    flow.postgres.execute("update lab.people set role = 'boss'");
    let events = events(&flow, 2);
    assert_eq!((&events[1]["type"], &events[1]["data"]), (&json!("lab.person.v1"), &json!({"op": "update"})));
    for record in flow.stub.records() {
        assert!(!std::str::from_utf8(&record.data).unwrap().contains("ada@"), "it has left");
        assert!(!record.key.contains("ada@"), "it has left");
    }
    assert!(flow.daemon.terminate().success());
}

/// Rules change while a backlog waits. Buffered events are published as they were made; changes that are sent again
/// are translated by the new rules. Every change of a plate has an event in one of the two forms.
#[test]
fn changed_rules_with_backlog_lose_nothing() {
    const ROWS: usize = 400;
    let rules = |version: u32, key: &str| {
        format!(
            "[[event]]\ntype = \"lab.plate_changed.v{version}\"\nfrom = \"lab.plates\"\non = \"insert, update\"\nkey = \"{key}\"\n\
             data = \"plate_id, version, op\"\n"
        )
    };
    let mut flow = lab(&rules(1, "plate_id"), &[]);
    flow.start();
    flow.postgres.execute(
        "insert into lab.plates (plate_id, barcode) select n, 'P' || n from generate_series(1, 20) n",
    );
    events(&flow, 20);
    flow.stub.stop();
    let mut session = flow.postgres.session("postgres");
    let mut update = |count: usize| {
        for nth in 0..count {
            session.execute(&format!(
                "update lab.plates set wells = {nth} % 99 where plate_id = 1 + {nth} % 20"
            ));
        }
    };
    for round in 2..=5 {
        update(ROWS / 8);
        eventually("the log holds something", SOON, || {
            flow.daemon.metric("forebay_log_frames_unpublished").filter(|frames| *frames > 0.0)
        });
        // Changes written while the daemon is down, and changes that were not durable, are translated by the new
        // rules.
        flow.daemon.kill9();
        update(ROWS / 8);
        write(&flow, &rules(round, if round % 2 == 0 { "barcode" } else { "plate_id" }));
        flow.start();
    }
    flow.stub.restart().unwrap();
    let expected: std::collections::BTreeSet<(u64, u64)> = flow
        .postgres
        .history()
        .iter()
        .map(|change| (change.key.parse().unwrap(), u64::try_from(change.version.unwrap()).unwrap()))
        .collect();
    assert_eq!(expected.len(), 20 + ROWS);
    let published = eventually("everything is published", SOON, || {
        let records = flow.stub.records();
        let mut published = std::collections::BTreeSet::new();
        let mut versions = std::collections::BTreeSet::new();
        for record in &records {
            let event: Value = serde_json::from_slice(&record.data).unwrap();
            published.insert((
                event["data"]["plate_id"].as_u64().unwrap(),
                event["data"]["version"].as_u64().unwrap(),
            ));
            versions.insert(event["type"].as_str().unwrap().to_owned());
        }
        (published == expected).then_some(versions)
    });
    assert!(published.len() >= 2, "only {published:?} were published");
    flow.daemon.assert_quiet(&[
        "records_retried",
        "stream_unavailable",
        "stream_not_described",
        "stream_unverified",
    ]);
    assert!(flow.daemon.terminate().success());
}
