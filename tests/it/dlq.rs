//! `forebay dlq` and `on_poison = "stop"`, with the built daemon: what a person requests is done, exactly once in the event counts,
//! whenever the daemon is killed.
//!
//! `ROUNDS=n` kills more often, `SEED=n` repeats the choices.

mod changed;
mod content;
mod kills;
mod limits;
mod stop;

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::process::Output;

use serde_json::Value;

use crate::support::daemon::Settings;
use crate::support::flow::Flow;
use crate::support::history::{Change, Op};
use crate::support::random::seed;
use crate::support::{SOON, eventually};

fn lab(change: impl FnOnce(&mut Settings)) -> Flow {
    let mut flow = Flow::prepare(seed(), change);
    flow.start();
    flow
}

fn version(key: &str, version: i64) -> Change {
    let op = if version == 1 { Op::Inserted } else { Op::Updated };
    Change { table: "lab.plates".to_owned(), key: key.to_owned(), op, version: Some(version) }
}

/// A plate whose version 2 is larger than a record may be before the limit is raised.
fn large(flow: &Flow, plate: u64) {
    flow.postgres
        .execute(&format!("insert into lab.plates (plate_id, barcode) values ({plate}, 'P{plate}')"));
    flow.postgres
        .execute(&format!("update lab.plates set notes = repeat('long ', 230000) where plate_id = {plate}"));
}

/// Sets the stream's `MaxRecordSize`, as `aws kinesis update-max-record-size` does.
fn set_limit(flow: &Flow, kib: u32) {
    let endpoint = flow.stub.endpoint();
    let address = endpoint.trim_start_matches("http://").trim_end_matches('/');
    let body = format!("{{\"StreamName\":\"lab-events\",\"MaxRecordSizeInKiB\":{kib}}}");
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    write!(
        stream,
        "POST / HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Type: application/x-amz-json-1.1\r\n\
         Authorization: AWS4-HMAC-SHA256 test\r\nX-Amz-Target: Kinesis_20131202.UpdateMaxRecordSize\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut head = [0; 12];
    stream.read_exact(&mut head).unwrap();
    assert_eq!(&head, b"HTTP/1.1 200");
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned()
}

/// Runs a subcommand that must succeed; what it prints.
#[track_caller]
fn run(flow: &Flow, arguments: &[&str]) -> String {
    let output = flow.daemon.run(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", said(&output));
    String::from_utf8(output.stdout).unwrap()
}

pub(crate) fn letters(flow: &Flow) -> Vec<Value> {
    run(flow, &["dlq", "list", "--json"]).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Waits until there are so many letters, and each is in this state.
#[track_caller]
pub(crate) fn wait_for_letters(flow: &Flow, count: usize, state: &str) -> Vec<Value> {
    let mut seen = Vec::new();
    let all = crate::support::poll(SOON, || {
        seen = letters(flow);
        (seen.len() == count && seen.iter().all(|letter| letter["state"] == state)).then_some(())
    });
    assert!(
        all.is_some(),
        "no {count} letters that are {state}: {seen:#?}\n{}",
        flow.daemon.log().join("\n")
    );
    seen
}

fn id(letter: &Value) -> String {
    letter["id"].as_str().unwrap().to_owned()
}

/// Published and quarantined per event type, when the log is drained.
fn event_counts(flow: &Flow) -> BTreeMap<String, (u64, u64)> {
    eventually("everything is published, and no retry is open", SOON, || {
        let stat: Value = serde_json::from_str(&run(flow, &["buffer", "stat", "--json"])).unwrap();
        let drained = stat["frames_unpublished"] == 0 && stat["injections"].as_array()?.is_empty();
        let totals =
            |totals: &Value| (totals["published"].as_u64().unwrap(), totals["quarantined"].as_u64().unwrap());
        let event_counts = stat["event_counts"].as_object()?.iter();
        drained.then(|| event_counts.map(|(name, sums)| (name.clone(), totals(sums))).collect())
    })
}

/// The line of the stream that has this `sequence`.
fn record(flow: &Flow, sequence: &Value) -> Value {
    eventually("the event is in the stream", SOON, || {
        let records = flow.records();
        let lines = records.iter().map(|record| serde_json::from_slice::<Value>(&record.data).unwrap());
        lines.into_iter().find(|event| event["sequence"] == *sequence)
    })
}

#[test]
fn oversize_event_is_retried_unchanged_after_limit_is_raised() {
    let mut flow = lab(|_| {});
    large(&flow, 5);
    let [letter] = <[Value; 1]>::try_from(wait_for_letters(&flow, 1, "waiting")).unwrap();
    let id = id(&letter);
    assert_eq!(letter["type"], "lab.plates.updated.v1");
    let short: String = id.chars().take(6).collect();
    let shown = run(&flow, &["dlq", "show", &short]);
    assert!(shown.starts_with("This output contains row values.") && shown.contains("long long"));
    let shown: Value = serde_json::from_str(&run(&flow, &["dlq", "show", &id, "--json"])).unwrap();
    // The stream takes no more than before: it is a dead letter again, and the same one.
    assert!(run(&flow, &["dlq", "retry", &id]).contains("within a second"));
    flow.daemon.wait_for_event("dead_letter_retry_finished");
    let [again] = <[Value; 1]>::try_from(wait_for_letters(&flow, 1, "waiting")).unwrap();
    assert!(again["id"] == letter["id"] && again["frame"].as_u64() > letter["frame"].as_u64(), "{again}");
    set_limit(&flow, 2048);
    run(&flow, &["dlq", "retry", "--all"]);
    wait_for_letters(&flow, 1, "published");
    assert_eq!(record(&flow, &shown["event"]["sequence"]), shown["event"]);
    assert!(flow.published().contains(&version("5", 2)));
    assert_eq!(event_counts(&flow)["lab.plates.updated.v1"], (1, 0));
    // It stays published.
    assert!(flow.daemon.terminate().success());
    flow.start();
    flow.wait_until_it_moves("after a restart");
    wait_for_letters(&flow, 1, "published");
    assert_eq!(flow.records().iter().filter(|record| record.data.len() > 1 << 20).count(), 1);
    let refused = flow.daemon.run(&["dlq", "retry", &id]);
    assert!(!refused.status.success() && said(&refused).contains("already published"));
    assert!(flow.daemon.terminate().success());
}

#[test]
fn untranslatable_change_is_retried_under_new_rules() {
    let mut flow = lab(|_| {});
    flow.postgres.execute(
        "insert into lab.plates (plate_id, barcode, notes) values (5, 'P5', repeat(chr(1), 1800000))",
    );
    let [letter] = <[Value; 1]>::try_from(wait_for_letters(&flow, 1, "waiting")).unwrap();
    assert!(letter["reason"].as_str().unwrap().contains("exceeds 10 MiB"), "{letter}");
    let shown: Value = serde_json::from_str(&run(&flow, &["dlq", "show", &id(&letter), "--json"])).unwrap();
    assert_eq!(shown["decoded"]["new"]["plate_id"], "5");
    // The rules are the same: nothing is injected.
    run(&flow, &["dlq", "retry", "--type", "lab.plates"]);
    flow.daemon.wait_for_event("dead_letter_still_fails");
    wait_for_letters(&flow, 1, "waiting");
    assert!(flow.daemon.terminate().success());
    flow.daemon.settings().more.push(("tables".to_owned(), "drop = [\"lab.plates.notes\"]".to_owned()));
    assert!(run(&flow, &["dlq", "retry", "--all"]).contains("when the daemon runs again"));
    assert_eq!(letters(&flow)[0]["requested"], "retry");
    flow.start();
    wait_for_letters(&flow, 1, "published");
    let position = shown["change"]["position"].as_str().unwrap();
    let (epoch, rest) = position.split_once(':').unwrap();
    let (lsn, index) = rest.split_once(':').unwrap();
    let commit: forebay::position::CommitSeq = lsn.parse().unwrap();
    let number = |text: &str| text.parse::<u32>().unwrap();
    let sequence = format!("{:04X}{:016X}{:08X}0000", number(epoch), commit.get(), number(index));
    let event = record(&flow, &Value::from(sequence));
    assert_eq!((&event["type"], &event["subject"]), (&"lab.plates.inserted.v1".into(), &"5".into()));
    let event_counts = event_counts(&flow);
    assert_eq!((event_counts["lab.plates"], event_counts["lab.plates.inserted.v1"].1), ((0, 0), 0));
    assert!(flow.daemon.terminate().success());
}

#[test]
fn discard_requires_reason_and_affects_only_named_letters() {
    let mut flow = lab(|settings| {
        settings.more.push(("source".to_owned(), "max_row_size = \"1 MiB\"".to_owned()));
    });
    large(&flow, 5);
    let [letter] = <[Value; 1]>::try_from(wait_for_letters(&flow, 1, "waiting")).unwrap();
    let id = id(&letter);
    for (arguments, words) in [
        (vec!["retry", &id], "only the beginning of its raw change was kept"),
        (vec!["retry", "beef00"], "there is no dead letter"),
        (vec!["discard", &id, "--reason", " "], "--reason is empty"),
    ] {
        let refused = flow.daemon.run(&[&["dlq"][..], &arguments].concat());
        assert!(!refused.status.success() && said(&refused).contains(words), "{}", said(&refused));
    }
    assert!(run(&flow, &["dlq", "retry", "--all"]).contains("No letters to retry"));
    run(&flow, &["dlq", "discard", &id, "--reason", "a test"]);
    let [letter] = <[Value; 1]>::try_from(wait_for_letters(&flow, 1, "discarded")).unwrap();
    assert_eq!(letter["discarded_because"], "a test");
    assert!(run(&flow, &["dlq", "list"]).contains("(discarded: a test)"));
    assert_eq!(event_counts(&flow)["lab.plates"], (0, 1), "it stays quarantined in the event counts");
    assert!(flow.daemon.terminate().success());
}

#[test]
fn dead_letter_on_full_disk_is_written_later() {
    // Room for the checkpoint's 4 MiB and for four letters of 1.15 MB; the log has segments of 1 MiB.
    let mut flow = lab(|settings| {
        settings.largest_file_kib = Some(6 << 10);
        settings.max_size = "16 MiB".to_owned();
    });
    (1..=7).for_each(|plate| large(&flow, plate));
    flow.daemon.wait_for_event("dead_letters_full");
    let few = letters(&flow).len();
    assert!((1..7).contains(&few), "{few}");
    flow.daemon.kill9();
    flow.daemon.settings().largest_file_kib = None;
    flow.start();
    wait_for_letters(&flow, 7, "waiting");
    set_limit(&flow, 2048);
    // It has only just started: the first may be judged by the limit that it found then, and wait again.
    eventually("7 letters are published", SOON, || {
        let letters = letters(&flow);
        let is = |state: &str| letters.iter().filter(|letter| letter["state"] == state).count();
        if is("waiting") > 0 {
            run(&flow, &["dlq", "retry", "--type", "lab.plates.updated.v1"]);
        }
        (is("published") == 7).then_some(())
    });
    flow.wait_until_published();
    assert_eq!(event_counts(&flow)["lab.plates.updated.v1"], (7, 0));
    assert!(flow.daemon.terminate().success());
    let report = flow.check();
    assert!(report.lost.is_empty() && report.altered.is_empty(), "{report}");
}

#[test]
fn discarded_event_is_not_published_after_kill() {
    let mut flow = lab(|settings| settings.confirm_after = Some("1h".to_owned()));
    // Killed before the next checkpoint, which comes within a second, so that the record comes again. Who was too late, on a
    // busy machine, tries another.
    let found = (5..25).find_map(|plate: u64| {
        let before = letters(&flow).len();
        large(&flow, plate);
        let new = || letters(&flow).into_iter().nth(before);
        let letter = eventually("the letter is in the file", SOON, new);
        flow.daemon.kill9();
        let stat: Value = serde_json::from_str(&run(&flow, &["buffer", "stat", "--json"])).unwrap();
        if stat["watermark"]["frame"].as_u64() < letter["frame"].as_u64() {
            return Some((plate, id(&letter)));
        }
        flow.start();
        None
    });
    let (plate, letter) = found.expect("a kill between a letter and its checkpoint");
    run(&flow, &["dlq", "discard", &letter, "--reason", "superseded"]);
    set_limit(&flow, 2048);
    flow.start();
    flow.postgres.execute(&format!("update lab.plates set notes = 'short' where plate_id = {plate}"));
    let key = plate.to_string();
    eventually("the next version leaves", SOON, || {
        flow.published().contains(&version(&key, 3)).then_some(())
    });
    assert!(!flow.published().contains(&version(&key, 2)), "it was given up");
    assert_eq!(event_counts(&flow)["lab.plates.updated.v1"], (1, plate - 4));
    eventually("it is discarded", SOON, || {
        let is_it = |of: &Value| id(of) == letter && of["state"] == "discarded";
        letters(&flow).iter().any(is_it).then_some(())
    });
    assert!(flow.daemon.terminate().success());
}
