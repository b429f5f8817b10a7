//! `forebay report`: the counts of a running and of a stopped daemon, through an outage and a kill, against what really
//! happened.

use std::collections::BTreeMap;

use forebay::buffer::checkpoint::CheckpointFile;
use forebay::buffer::disk::Directory;
use kinesis_stub::{Fault, Refusal};

use crate::rules::write;
use crate::support::flow::Flow;
use crate::support::random::seed;
use crate::support::{SOON, eventually, poll};

const RULES: &str = r#"
[[event]]
type = "lab.plate_registered.v1"
about = "A plate was registered."
owner = "lab-automation"
from = "lab.plates"
on = "insert"
when = "barcode like 'P%'"
key = "plate_id"
data = "plate_id, barcode"
"#;

const REGISTERED: &str = "lab.plate_registered.v1";

/// Of each line of the CSV: period and type, and the numbers of the columns.
type Lines = Vec<(String, String, BTreeMap<String, String>)>;

fn csv(flow: &Flow, more: &[&str]) -> (bool, Lines) {
    let output = flow.daemon.run(&[&["report", "--csv"], more].concat());
    let text = String::from_utf8(output.stdout).unwrap();
    let mut lines = text.lines();
    let names: Vec<&str> = lines.next().unwrap().split(',').collect();
    let line = |line: &str| {
        let fields: Vec<&str> = line.split(',').collect();
        assert_eq!(fields.len(), names.len(), "{line}");
        let named = names.iter().zip(&fields).map(|(name, field)| ((*name).to_owned(), (*field).to_owned()));
        (fields[0].to_owned(), fields[2].to_owned(), named.collect())
    };
    (output.status.success(), lines.map(line).collect())
}

/// Received, filtered, published, quarantined and in flight of a type, over all time.
fn all(lines: &Lines, event_type: &str) -> [u64; 5] {
    let found = lines.iter().find(|(period, name, _)| period == "all" && name == event_type);
    let values = found.map(|(.., values)| values.clone()).unwrap_or_default();
    ["received", "filtered", "published", "quarantined", "in_flight"]
        .map(|name| values.get(name).and_then(|text| text.parse().ok()).unwrap_or_default())
}

/// The same of the hours together, without what is in flight.
fn by_hour(lines: &Lines, event_type: &str) -> [i64; 4] {
    ["received", "filtered", "published", "quarantined"].map(|name| {
        let of = lines.iter().filter(|(period, of, _)| period == "hour" && of == event_type);
        of.map(|(.., values)| values[name].parse::<i64>().unwrap()).sum()
    })
}

fn insert(flow: &Flow, from: u32, count: u32, barcode: &str) {
    flow.postgres.execute(&format!(
        "insert into lab.plates (plate_id, barcode) select n, '{barcode}' || n from generate_series({from}, {}) n",
        from + count - 1
    ));
}

/// Waits until the totals are these, each time with counts that balance.
fn wait_for(flow: &Flow, expected: [u64; 5]) -> Lines {
    let mut last = [0; 5];
    let lines = poll(SOON, || {
        let (balanced, lines) = csv(flow, &[]);
        assert!(balanced, "{lines:?}");
        last = all(&lines, REGISTERED);
        assert_eq!(last[0], last[2] + last[3] + last[4], "{last:?}");
        (last == expected).then_some(lines)
    });
    lines.unwrap_or_else(|| panic!("the report stays at {last:?} instead of {expected:?}"))
}

#[test]
fn report_is_true_through_outage_kill_and_restart() {
    let mut flow = Flow::prepare(seed(), |settings| {
        settings.more.push(("events".to_owned(), "rules = \"events/*.toml\"".to_owned()));
    });
    write(&flow, RULES);
    flow.start();
    // What is filtered comes first: once the others are published, it was received.
    insert(&flow, 100, 3, "Q");
    insert(&flow, 1, 7, "P");
    let published = |count: usize| {
        eventually("it is published", SOON, || (flow.stub.records().len() >= count).then_some(()));
    };
    published(7);
    // What was filtered is noted at a clean stop at the latest.
    assert!(flow.daemon.terminate().success());
    let lines = wait_for(&flow, [7, 3, 7, 0, 0]);
    assert_eq!(by_hour(&lines, REGISTERED), [7, 3, 7, 0]);
    // An outage: what waits is in flight, of a running daemon and after a kill.
    flow.stub.set(Fault::Reject { code: Refusal::Throttled }).unwrap();
    flow.daemon.start_again();
    flow.daemon.wait_for_event("receiving");
    insert(&flow, 200, 5, "P");
    let lines = wait_for(&flow, [12, 3, 7, 0, 5]);
    let (.., values) = lines.iter().find(|(period, name, _)| period == "all" && name == REGISTERED).unwrap();
    assert!(values["oldest_commit"].starts_with("20"), "{values:?}");
    eventually("it is durable", SOON, || {
        let stat = flow.daemon.run(&["buffer", "stat", "--json"]).stdout;
        let stat: serde_json::Value = serde_json::from_slice(&stat).unwrap();
        (stat["frames_durable"].as_u64()? >= 5).then_some(())
    });
    flow.daemon.kill9();
    wait_for(&flow, [12, 3, 7, 0, 5]);
    flow.stub.heal();
    flow.daemon.start_again();
    flow.daemon.wait_for_event("receiving");
    wait_for(&flow, [12, 3, 12, 0, 0]);
    assert!(flow.daemon.terminate().success());
    let lines = wait_for(&flow, [12, 3, 12, 0, 0]);
    // Published and quarantined are exact across the kill.
    assert_eq!(by_hour(&lines, REGISTERED)[2..], [12, 0]);
    pages(&flow);
    damage(&mut flow);
}

/// The forms for people.
fn pages(flow: &Flow) {
    let output = flow.daemon.run(&["report", "--since", "7d"]);
    let text = String::from_utf8(output.stdout).unwrap();
    let row = text.lines().find(|line| line.starts_with(REGISTERED)).unwrap();
    assert_eq!(row.split_whitespace().skip(1).collect::<Vec<_>>(), ["12", "3", "12", "0", "0"]);
    assert!(text.contains("By hour (UTC)") && text.contains("By day (UTC)"), "{text}");
    assert!(text.ends_with("published, quarantined or in flight.\n"), "{text}");
    assert!(output.stderr.is_empty(), "progress is shown on terminals only");
    let html = String::from_utf8(flow.daemon.run(&["report", "--html"]).stdout).unwrap();
    for part in ["<!doctype html>", "Content-Security-Policy", REGISTERED, "The counts balance", "</html>"] {
        assert!(html.contains(part), "{part}: {html}");
    }
    assert!(!html.contains("<script") && !html.contains("http://") && !html.contains("https://"), "{html}");
    let (_, lines) = csv(flow, &["--since", "2100-01-01"]);
    assert!(lines.iter().all(|(period, ..)| period == "all"), "{lines:?}");
}

/// A damaged history stops nothing, and counts that do not balance are an error.
fn damage(flow: &mut Flow) {
    let directory = flow.daemon.buffer_directory();
    let file = directory.join("activity");
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, &bytes).unwrap();
    let output = flow.daemon.run(&["report"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && text.contains("hours and days are missing"), "{text}");
    flow.daemon.start_again();
    flow.daemon.wait_for_event("activity_unreadable");
    flow.daemon.wait_for_event("receiving");
    assert!(flow.daemon.terminate().success());
    assert_eq!(std::fs::read(directory.join("activity.damaged")).unwrap(), bytes);
    assert_eq!(all(&csv(flow, &[]).1, REGISTERED)[2], 12);
    let (mut checkpoints, found) = CheckpointFile::open(&Directory::open(&directory).unwrap()).unwrap();
    let mut checkpoint = found.unwrap();
    checkpoint.event_counts.get_mut(REGISTERED).unwrap().published -= 2;
    checkpoints.write(&checkpoint).unwrap();
    drop(checkpoints);
    let output = flow.daemon.run(&["report"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("ERROR: event counts: 2 events of lab.plate_registered.v1 are neither"), "{text}");
    assert_eq!(flow.daemon.run(&["report", "--html"]).status.code(), Some(1));
}
