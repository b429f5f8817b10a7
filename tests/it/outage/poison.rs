//! What cannot leave: a record too large for the stream, a change that cannot be read. The dead-letter file has it, the
//! rest goes on, and the key keeps its order; or publishing stops before it.

use kinesis_stub::{Fault, Rule};
use serde_json::Value;

use crate::support::daemon::Settings;
use crate::support::flow::{DRAINED_WITHIN, Flow};
use crate::support::history::{Change, Op};
use crate::support::random::seed;
use crate::support::{SOON, eventually};

/// Version 2 of plate 5 has 1.5 MB of notes, versions 1 and 3 little; another plate comes after it.
fn poison(flow: &Flow) {
    flow.postgres.execute("insert into lab.plates (plate_id, barcode) values (5, 'P5')");
    flow.postgres.execute("update lab.plates set notes = repeat('long ', 300000) where plate_id = 5");
    flow.postgres.execute("update lab.plates set notes = 'short' where plate_id = 5");
    flow.postgres.execute("insert into lab.plates (plate_id, barcode) values (6, 'P6')");
}

fn version(key: &str, version: i64) -> Change {
    let op = if version == 1 { Op::Inserted } else { Op::Updated };
    Change { table: "lab.plates".to_owned(), key: key.to_owned(), op, version: Some(version) }
}

fn dead_letters(flow: &Flow) -> Vec<Value> {
    let path = flow.daemon.buffer_directory().join("dead_letters.jsonl");
    let text = std::fs::read_to_string(path).unwrap_or_default();
    // The last line may be half written.
    let (whole, _) = text.rsplit_once('\n').unwrap_or_default();
    let lines = whole.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    // One that publishing stood before and that went to the dead letter later is there twice, and is one.
    let mut letters: Vec<Value> = Vec::new();
    for line in lines {
        if !letters.iter().any(|letter| letter["id"] == line["id"]) {
            letters.push(line);
        }
    }
    letters
}

#[track_caller]
fn wait_for(flow: &mut Flow, key: &str, number: i64) {
    let wanted = version(key, number);
    eventually(&format!("{wanted:?} is published"), SOON, || {
        flow.published().contains(&wanted).then_some(())
    });
}

/// All but version 2 is published, in order; version 2 is the one dead letter.
fn check_quarantined(mut flow: Flow, reason: &str) {
    wait_for(&mut flow, "5", 3);
    wait_for(&mut flow, "6", 1);
    let letters = dead_letters(&flow);
    assert_eq!(letters.len(), 1, "{letters:#?}");
    let text = letters[0].to_string();
    assert!(text.contains(reason), "{}", text.get(..500).unwrap_or(&text));
    assert!(flow.daemon.terminate().success());
    let report = flow.check();
    assert_eq!(report.lost, [r#"lab.plates "5" Updated, version 2"#]);
    assert!(report.reordered.is_empty() && report.altered.is_empty(), "{report}");
    // It is settled: the next start does not come back to it.
    flow.start();
    flow.wait_until_it_moves("after a restart");
    assert_eq!(dead_letters(&flow).len(), 1);
}

fn lab(change: impl FnOnce(&mut Settings)) -> Flow {
    let mut flow = Flow::prepare(seed(), change);
    flow.start();
    flow
}

#[test]
fn record_too_large_for_stream_is_dead_letter() {
    let flow = lab(|_| {});
    poison(&flow);
    check_quarantined(flow, "the stream accepts at most");
}

#[test]
fn row_above_max_row_size_is_dead_letter() {
    let flow = lab(|settings| {
        settings.more.push(("source".to_owned(), "max_row_size = \"1 MiB\"".to_owned()));
    });
    poison(&flow);
    check_quarantined(flow, "lab.plates");
}

#[test]
fn poison_halts_publishing_if_configured() {
    let mut flow = lab(|settings| settings.more.push((String::new(), "on_poison = \"stop\"".to_owned())));
    poison(&flow);
    flow.daemon.wait_for_event("publishing_stopped");
    // Ingest goes on into the buffer: Postgres may discard what is durable.
    let end = flow.wal_end();
    eventually("the slot moves on", SOON, || (flow.confirmed()? >= end).then_some(()));
    assert!(flow.daemon.is_running());
    assert!(flow.published().contains(&version("5", 1)));
    assert!(!flow.published().contains(&version("5", 3)));
    assert_eq!(dead_letters(&flow)[0]["halted"], true);
    assert!(flow.daemon.terminate().success());
    flow.daemon.settings().more.clear();
    flow.start();
    check_quarantined(flow, "the stream accepts at most");
}

/// The log is full of what is published behind a record that the stream rejects: nothing new can be received that would show that
/// it accepts others. A published record is sent once more instead, also after a restart.
#[test]
fn refused_record_in_full_log_does_not_stop_the_source() {
    let mut flow = lab(|settings| settings.max_size = "16 MiB".to_owned());
    flow.wait_until_it_moves("before");
    let refused = Fault::Error { status: 400, code: "ValidationException".to_owned() };
    flow.stub.add(Rule::new(refused).keys(["5"])).unwrap();
    flow.stub.stop();
    flow.postgres.execute("insert into lab.plates (plate_id, barcode) values (5, 'P5')");
    let row = "insert into lab.plates (plate_id, barcode, notes) select n, 'L' || n, repeat('x', 4000)";
    for part in 0..4 {
        let (first, last) = (10_000 + part * 2_000, 11_999 + part * 2_000);
        flow.postgres.execute(&format!("{row} from generate_series({first}, {last}) n"));
    }
    flow.daemon.wait_for_event("source_paused");
    flow.stub.restart().unwrap();
    flow.daemon.wait_for_event("record_blocked");
    flow.daemon.kill9();
    flow.start();
    let others: Vec<Change> =
        flow.postgres.history().into_iter().filter(|change| change.key != "5").collect();
    eventually("all other keys are published", DRAINED_WITHIN, || {
        let published = flow.published();
        others.iter().all(|change| published.contains(change)).then_some(())
    });
    eventually("the record is a dead letter", DRAINED_WITHIN, || {
        (dead_letters(&flow).len() == 1).then_some(())
    });
    assert!(flow.daemon.terminate().success());
    let report = flow.check();
    assert_eq!(report.lost, [r#"lab.plates "5" Inserted, version 1"#]);
    assert!(report.reordered.is_empty() && report.unexpected.is_empty(), "{report}");
}

/// The window is far smaller than what comes after the record, so its lane is detached, and nothing else is written by which
/// the service could be seen to accept others.
#[test]
fn refused_record_of_detached_lane_blocks_only_its_key() {
    let mut flow = lab(|_| {});
    let refused = Fault::Error { status: 400, code: "ValidationException".to_owned() };
    flow.stub.add(Rule::new(refused).keys(["5"])).unwrap();
    flow.postgres.execute("insert into lab.plates (plate_id, barcode) values (5, 'P5')");
    let rows = |first: u32| {
        format!(
            "insert into lab.plates (plate_id, barcode, notes) select n, 'L' || n, repeat('x', 4000) \
             from generate_series({first}, {}) n",
            first + 8_900
        )
    };
    for (first, when) in [(100, "as it comes"), (10_000, "after a kill")] {
        flow.postgres.execute(&rows(first));
        let others = flow.postgres.history().into_iter().filter(|change| change.key != "5");
        let others: Vec<Change> = others.collect();
        eventually(&format!("all other keys are published {when}"), DRAINED_WITHIN, || {
            let published = flow.published();
            others.iter().all(|change| published.contains(change)).then_some(())
        });
        flow.daemon.kill9();
        flow.start();
    }
    flow.stub.heal();
    let blocked = version("5", 1);
    eventually("the key is published, or a dead letter", SOON, || {
        (flow.published().contains(&blocked) || dead_letters(&flow).len() == 1).then_some(())
    });
    assert!(flow.daemon.terminate().success());
    let report = flow.check();
    let expected = dead_letters(&flow).len();
    assert!(report.lost.len() == expected && report.reordered.is_empty(), "{report}");
}
