//! No content stops receiving: rows at which many rules fail, and rows whose events together are more than the log holds.

use serde_json::Value;

use super::{event_counts, letters, run, wait_for_letters};
use crate::rules::write;
use crate::support::eventually;
use crate::support::flow::Flow;

/// The smallest log that a configuration allows.
const SMALLEST: &str = "16 MiB";

/// A daemon with the smallest log and these rules.
fn with_rules(rules: &str) -> Flow {
    let mut flow = Flow::prepare(crate::support::random::seed(), |settings| {
        SMALLEST.clone_into(&mut settings.max_size);
        settings.more.push(("events".to_owned(), "rules = \"events/*.toml\"".to_owned()));
    });
    write(&flow, rules);
    flow.start();
    flow
}

fn rule(name: &str, data: &str) -> String {
    format!(
        "[[event]]\ntype = \"lab.{name}.v1\"\nabout = \"x.\"\nowner = \"x\"\nfrom = \"lab.plates\"\non = \"insert\"\nkey = \"plate_id\"\n\
         data = \"{data}\"\n\n"
    )
}

fn rules(count: usize, data: &str) -> String {
    (0..count).map(|nth| rule(&format!("made_{nth}"), data)).collect()
}

/// Inserts a plate with these notes, and a small one behind it, which must leave.
fn insert(flow: &Flow, notes: &str) {
    flow.postgres.execute(&format!(
        "insert into lab.plates (plate_id, barcode, notes) values (5, 'P5', {notes}); \
         insert into lab.plates (plate_id, barcode, notes) values (6, 'P6', 'small')"
    ));
    eventually("the next row leaves", crate::support::SOON, || {
        flow.records().iter().any(|record| record.key == "6").then_some(())
    });
}

/// Each control character takes six bytes of JSON: every event is larger than any stream takes, and their letters would be larger
/// than the log, if each had a raw change of its own.
#[test]
fn many_rules_failing_at_a_large_row_keep_it_once() {
    let count = 40;
    let mut flow = with_rules(&rules(count, "plate_id, notes"));
    insert(&flow, "repeat(chr(1), 1800000)");
    wait_for_letters(&flow, count, "waiting");
    let path = flow.daemon.buffer_directory().join("dead_letters.jsonl");
    let bytes = std::fs::metadata(&path).unwrap().len();
    assert!(bytes < 4 << 20, "{bytes} bytes: the row is there once");
    let last = letters(&flow).pop().unwrap();
    let shown: Value =
        serde_json::from_str(&run(&flow, &["dlq", "show", last["id"].as_str().unwrap(), "--json"])).unwrap();
    assert_eq!(shown["decoded"]["new"]["plate_id"], "5");
    assert!(flow.daemon.terminate().success());
    write(&flow, &rules(count, "plate_id"));
    flow.start();
    run(&flow, &["dlq", "retry", "--all"]);
    wait_for_letters(&flow, count, "published");
    let event_counts = event_counts(&flow);
    assert!((0..count).all(|nth| event_counts[&format!("lab.made_{nth}.v1")] == (2, 0)), "{event_counts:?}");
    assert!(flow.daemon.terminate().success());
}

#[test]
fn events_larger_than_the_log_become_one_letter() {
    let mut flow = with_rules(&rules(30, "plate_id, notes"));
    insert(&flow, "repeat('long ', 200000)");
    let [letter] = <[Value; 1]>::try_from(wait_for_letters(&flow, 1, "waiting")).unwrap();
    assert_eq!((&letter["type"], &letter["retry_cannot_help"]), (&"lab.plates".into(), &Value::Null));
    assert!(flow.daemon.terminate().success());
    "64 MiB".clone_into(&mut flow.daemon.settings().max_size);
    flow.start();
    run(&flow, &["dlq", "retry", "--all"]);
    wait_for_letters(&flow, 1, "published");
    assert_eq!(event_counts(&flow)["lab.made_29.v1"], (2, 0));
    assert!(flow.daemon.terminate().success());
}

/// The events alone have room, and so has the letter; together they have not.
#[test]
fn events_and_letters_larger_than_the_log_become_one() {
    let mut all = rules(13, "plate_id, notes");
    all.push_str(&rule("failing", "plate_id, 1 / (plate_id - 5) as quotient"));
    let mut flow = with_rules(&all);
    insert(&flow, "repeat('long ', 250000)");
    let [letter] = <[Value; 1]>::try_from(wait_for_letters(&flow, 1, "waiting")).unwrap();
    assert_eq!((&letter["type"], &letter["retry_cannot_help"]), (&"lab.plates".into(), &Value::Null));
    assert_eq!(event_counts(&flow)["lab.failing.v1"], (1, 0), "of the small row");
    assert!(flow.daemon.terminate().success());
}
