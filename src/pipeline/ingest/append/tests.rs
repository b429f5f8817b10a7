//! Which changes, injections and heartbeats are appended.

use std::path::Path;

use super::*;
use crate::buffer::checkpoint::{Checkpoint, Injection, Mark, Phase, Retry};
use crate::buffer::disk::Directory;
use crate::buffer::ledger::Ledger;
use crate::buffer::log::LogConfig;
use crate::change::{Relation, ReplicaIdentity};
use crate::config::{ConfirmAfter, Tables};
use crate::dead_letter::FILE_NAME;
use crate::identity::tests::identity;
use crate::letter_id::LetterId;
use crate::position::CommitSeq;
use crate::source::postgres::redecode::Pgoutput;
use crate::translate::TranslateSettings;

/// An appender over an empty log.
pub(in crate::pipeline) fn appender(directory: &Path, tables: Tables) -> (Arc<Log>, Appender) {
    let directory = Directory::open(directory).unwrap();
    let scan = Log::scan(&directory, Mark::default(), FrameNo(0)).unwrap();
    let settings = TranslateSettings { tables, ..TranslateSettings::default() };
    let (log, writer) = Log::open(LogConfig::new(directory, 16 << 20), FrameNo(0), scan).unwrap();
    (
        Arc::clone(&log),
        Appender::new(log, writer, Translator::new("urn:forebay:lab", 0, settings), Arc::new(Pgoutput)),
    )
}

#[test]
fn unreadable_change_of_excluded_table_is_no_dead_letter() {
    let directory = tempfile::tempdir().unwrap();
    let tables = Tables { exclude: vec!["lab.blobs".into()], ..Tables::default() };
    let (_log, mut appender) = appender(directory.path(), tables);
    for (table, letters) in [("blobs", 0), ("plates", 1)] {
        let relation = Relation {
            oid: 5,
            schema: "lab".into(),
            table: table.into(),
            identity: ReplicaIdentity::Default,
            columns: Vec::new(),
            primary_key: Vec::new(),
            absent: Vec::new(),
            unknown: None,
        };
        let place = ChangePlace {
            transaction: Transaction::default(),
            index: 0,
            record: CommitSeq::new(400),
            nth: 0,
        };
        let relation = Some(&relation);
        appender.quarantine(&Unreadable { place, relation, table: None, reason: "x", size: 1, raw: b"x" });
        assert_eq!(appender.records.len(), letters, "{table}");
    }
}

fn ledger(injections: Vec<Injection>) -> SharedLedger {
    let checkpoint =
        Checkpoint { injections, ..Checkpoint::fresh(identity(), Phase::Running, 0, CommitSeq::ZERO) };
    SharedLedger::new(Ledger::new(checkpoint, ConfirmAfter::Never))
}

/// The line of a dead letter with an event of about `size` bytes, and its retry.
fn letter(name: &str, offset: usize, size: usize) -> (String, Injection) {
    let letter = LetterId::of_text(name);
    let head =
        format!("{{\"id\":\"{letter}\",\"frame\":1,\"part\":0,\"type\":\"t\",\"key\":\"k\",\"reason\":\"r\"");
    let line = format!("{head},\"event\":{{\"sequence\":\"x\",\"data\":\"{}\"}}}}\n", "x".repeat(size));
    let offset = u64::try_from(offset).unwrap();
    let retry =
        Retry { letter, event_type: "t".into(), offset, raw_offset: None, frame: None, settled: false };
    (line, Injection::Retry(retry))
}

#[test]
fn unreadable_dead_letter_file_does_not_stop_ingest() {
    let directory = tempfile::tempdir().unwrap();
    let (_log, mut appender) = appender(directory.path(), Tables::default());
    let (line, retry) = letter("a", 0, 1);
    let gap = Injection::Gap {
        epoch: 0,
        from: None,
        to: CommitSeq::new(5),
        reason: "x".into(),
        at: 0,
        skipped: None,
    };
    let ledger = ledger(vec![retry, gap]);
    let path = directory.path().join(FILE_NAME);
    std::fs::create_dir(&path).unwrap();
    for _ in 0..2 {
        appender.inject(&ledger).unwrap();
        assert_eq!(appender.frame(), FrameNo(1), "what can be injected is");
    }
    std::fs::remove_dir(&path).unwrap();
    std::fs::write(&path, line).unwrap();
    appender.inject(&ledger).unwrap();
    assert_eq!((appender.frame(), ledger.lock().has_to_inject()), (FrameNo(2), false));
}

#[test]
fn oversize_dead_letter_does_not_stop_ingest() {
    let directory = tempfile::tempdir().unwrap();
    let (_log, mut appender) = appender(directory.path(), Tables::default());
    let (line, retry) = letter("large", 0, 17 << 20);
    std::fs::write(directory.path().join(FILE_NAME), line).unwrap();
    let ledger = ledger(vec![retry]);
    appender.inject(&ledger).unwrap();
    assert!(appender.frame() == FrameNo(1) && appender.records.is_empty());
}

#[test]
fn bulk_retry_keeps_replication_alive() {
    let directory = tempfile::tempdir().unwrap();
    let (_log, mut appender) = appender(directory.path(), Tables::default());
    let (mut file, mut injections) = (String::new(), Vec::new());
    for name in ["a", "b", "c"] {
        let (line, injection) = letter(name, file.len(), 3 << 20);
        file.push_str(&line);
        injections.push(injection);
    }
    std::fs::write(directory.path().join(FILE_NAME), file).unwrap();
    let ledger = ledger(injections);
    for (frame, more) in [(2, true), (3, false)] {
        appender.inject(&ledger).unwrap();
        assert_eq!((appender.frame(), ledger.lock().has_to_inject()), (FrameNo(frame), more));
    }
}

/// A heartbeat of another process is published too, and does not hide that the own heartbeat was received.
/// With heartbeats off, a logical message that looks like one is ignored.
#[test]
fn heartbeats_are_read_only_if_configured_and_known_by_process() {
    let content = |process: u64, number: u64| {
        format!(r#"{{"source":"urn:forebay:lab","process":{process},"number":{number},"at":0}}"#)
    };
    for (configured, records) in [(None, 0), (Some(7), 1)] {
        let directory = tempfile::tempdir().unwrap();
        let (_log, appender) = appender(directory.path(), Tables::default());
        let mut appender = appender.with_heartbeats(configured);
        for (index, process, number) in [(1, 7, 2), (2, 8, 5)] {
            let content = content(process, number);
            let place = ChangePlace {
                transaction: Transaction::default(),
                index,
                record: CommitSeq::new(400),
                nth: index,
            };
            appender.translate_message(&Message {
                place,
                prefix: heartbeat::HEARTBEAT_PREFIX.as_bytes(),
                content: content.as_bytes(),
                size: 1,
                raw: b"x",
            });
            assert_eq!(appender.records.len(), records, "{configured:?}");
        }
        let expected = configured.map(|_| 2);
        assert_eq!(appender.heartbeat.map(|(number, _)| number), expected);
    }
}
