//! The checker on streams with planted faults: one that finds nothing is worth nothing.

use super::*;

type Plant = fn(&mut Vec<StreamRecord>);
type Count = fn(&Report) -> usize;

pub(super) fn change(key: &str, op: Op, version: Option<i64>) -> Change {
    Change { table: "lab.plates".to_owned(), key: key.to_owned(), op, version }
}

/// Two keys; "a" comes back after its deletion.
pub(super) fn history() -> Vec<Change> {
    vec![
        change("a", Op::Inserted, Some(1)),
        change("b", Op::Inserted, Some(1)),
        change("a", Op::Updated, Some(2)),
        change("a", Op::Deleted, None),
        change("a", Op::Inserted, Some(1)),
        change("b", Op::Updated, Some(2)),
        change("a", Op::Deleted, None),
    ]
}

pub(super) fn record(epoch: u16, nr: usize, change: &Change) -> StreamRecord {
    let op = format!("{:?}", change.op).to_lowercase();
    let line = serde_json::json!({
        "id": format!("{epoch}-{nr}"), "source": "urn:forebay:lab", "type": format!("lab.plates.{op}.v1"), "subject": change.key,
        "partitionkey": change.key, "sequence": format!("{epoch:04X}{nr:016X}{:08X}{:04X}", 0, 0),
        "data": { "version": change.version },
    });
    StreamRecord {
        shard: "shardId-000000000000".to_owned(),
        sequence: nr.to_string(),
        key: change.key.clone(),
        data: format!("{line}\n").into_bytes(),
    }
}

pub(super) fn stream() -> Vec<StreamRecord> {
    history().iter().enumerate().map(|(nr, change)| record(0, nr, change)).collect()
}

pub(super) fn edit(record: &mut StreamRecord, from: &str, to: &str) {
    let text = String::from_utf8(record.data.clone()).unwrap();
    assert!(text.contains(from), "{from} is not in {text}");
    record.data = text.replace(from, to).into_bytes();
}

#[test]
fn correct_stream_passes() {
    let report = check(&history(), &stream());
    report.assert_clean();
    assert_eq!((report.committed, report.published, report.duplicates), (7, 7, 0));
}

#[test]
fn repeats_gaps_and_packed_lines_pass() {
    let mut records = stream();
    records.insert(4, records[0].clone());
    records.push(records[6].clone());
    let packed = records.remove(3);
    records[2].data.extend(packed.data);
    let mut notice = records[0].clone();
    edit(&mut notice, "lab.plates.inserted.v1", "forebay.gap.v1");
    edit(&mut notice, "0-0", "a notice");
    records.push(notice);
    let report = check(&history(), &records);
    report.assert_clean();
    assert_eq!((report.published, report.duplicates, report.notices), (7, 2, 1));
}

#[test]
fn new_epoch_may_repeat_older_events() {
    let mut records = stream();
    records.extend(history().iter().enumerate().skip(2).map(|(nr, change)| record(1, nr, change)));
    check(&history(), &records).assert_clean();
}

/// As a request that was given up lands after all: the events of "a" again, in one record, after newer ones of it.
#[test]
fn contract_consumer_gets_each_event_once_in_order() {
    let faithful = stream();
    let mut records = stream();
    let mut repeat = records[0].clone();
    repeat.data.extend(&records[2].data);
    records.insert(5, repeat);
    assert_eq!((late(&faithful), late(&records)), (0, 2));
    let report = check(&history(), &records);
    report.assert_clean();
    assert_eq!(report.duplicates, 2, "the raw stream has them");
    let kept = as_consumer(&records);
    assert_eq!(kept, as_consumer(&kept));
    assert_eq!(kept, faithful);
}

#[test]
fn overtaken_event_is_lost_to_contract_consumer() {
    let mut records = stream();
    records.swap(2, 3);
    assert_eq!(late(&records), 1);
    let report = check(&history(), &as_consumer(&records));
    assert_eq!(report.lost.len(), 1, "{report}");
}

#[test]
fn each_source_has_its_own_order() {
    let mut records = stream();
    let mut other = records[0].clone();
    edit(&mut other, "urn:forebay:lab", "urn:forebay:other");
    records.push(other);
    assert_eq!(late(&records), 0);
}

#[test]
fn planted_faults_are_found() {
    let lost = |r: &Report| r.lost.len();
    let reordered = |r: &Report| r.reordered.len();
    let altered = |r: &Report| r.altered.len();
    let unexpected = |r: &Report| r.unexpected.len();
    let faults: [(&str, Plant, Count); 9] = [
        ("a lost event", |r| drop(r.remove(2)), lost),
        ("a lost deletion, of two that look alike", |r| drop(r.remove(3)), lost),
        ("a swapped pair of one key", |r| r.swap(2, 3), reordered),
        (
            "a swapped pair with forged sequences",
            |r| {
                r.swap(0, 2);
                edit(&mut r[0], "00000000000000000002", "00000000000000000000");
                edit(&mut r[2], "00000000000000000000", "00000000000000000002");
            },
            reordered,
        ),
        (
            "a duplicate with other bytes",
            |r| {
                let mut copy = r[2].clone();
                edit(&mut copy, "\"version\":2", "\"version\":3");
                r.push(copy);
            },
            altered,
        ),
        (
            "one change under two ids",
            |r| {
                let mut copy = r[2].clone();
                edit(&mut copy, "0-2", "other");
                r.push(copy);
            },
            altered,
        ),
        (
            "an event that was never committed",
            |r| {
                r.push(record(0, 9, &change("c", Op::Inserted, Some(1))));
            },
            unexpected,
        ),
        ("an event under another key", |r| "b".clone_into(&mut r[0].key), |r| r.misfiled.len()),
        (
            "a torn line",
            |r| {
                r[6].data.truncate(40);
            },
            |r| r.malformed.len(),
        ),
    ];
    for (fault, plant, found) in faults {
        let mut records = stream();
        plant(&mut records);
        let report = check(&history(), &records);
        assert!(found(&report) > 0, "{fault} was not found: {report}");
        assert!(!report.is_clean());
    }
}

#[test]
fn different_keys_may_be_reordered() {
    let mut records = stream();
    records.swap(0, 1);
    records.swap(4, 5);
    check(&history(), &records).assert_clean();
}
