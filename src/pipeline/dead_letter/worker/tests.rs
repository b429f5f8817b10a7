//! Requests and retries that the worker finds, one check after the other.

use std::path::Path;
use std::sync::{Arc, Mutex};

use super::*;
use crate::buffer::checkpoint::{Checkpoint, Injection, Phase as Made};
use crate::buffer::ledger::Ledger;
use crate::change::{ChangePlace, Column, Relation, ReplicaIdentity};
use crate::config::{ConfirmAfter, OnPoison};
use crate::dead_letter::entry::ChangeEntry;
use crate::identity::tests::identity;
use crate::pipeline::dead_letter::Quarantine;
use crate::pipeline::dead_letter::quarantine::{Fate, ToWrite};
use crate::position::{CommitSeq, FrameNo, Transaction};
use crate::sink::lanes::{DeadLetter, DeadReason};
use crate::source::postgres::redecode::Pgoutput;
use crate::translate::TranslateSettings;
use crate::types::{Base, Kind, SqlType};

fn retry(id: &LetterId, settled: bool) -> Injection {
    let frame = settled.then_some(FrameNo(5));
    Injection::Retry(Retry {
        letter: id.clone(),
        event_type: "t".into(),
        offset: 0,
        raw_offset: None,
        frame,
        settled,
    })
}

/// A worker over a checkpoint with these injections.
fn worker(directory: &Path, injections: Vec<Injection>) -> (DeadLetterWorker, watch::Sender<Phase>) {
    let checkpoint =
        Checkpoint { injections, ..Checkpoint::fresh(identity(), Made::Running, 0, CommitSeq::ZERO) };
    let ledger = SharedLedger::new(Ledger::new(checkpoint, ConfirmAfter::Never));
    let (phase, seen) = watch::channel(Phase::Running);
    let translator = Translator::new("urn:forebay:lab", 0, TranslateSettings::default());
    let directory = Directory::open(directory).unwrap();
    let (quarantine, inbox) = Quarantine::new(directory.clone(), ledger.clone(), OnPoison::Quarantine);
    drop(quarantine);
    let parts = WorkerParts {
        directory,
        ledger,
        translator,
        source: Arc::new(Pgoutput),
        limit: 12 << 20,
        max_size: 1 << 30,
        inbox,
        phase: seen,
    };
    (DeadLetterWorker::open(parts).unwrap(), phase)
}

/// The line of a letter that halts publishing: an insert into a table with `columns` columns, whose row has
/// only one.
fn halted(id: &LetterId, columns: usize) -> Vec<u8> {
    let column = |at| Column {
        name: format!("c{at}"),
        kind: Kind::Text,
        data_type: SqlType::plain(Base::Text),
        not_null: false,
        origin: None,
        in_identity: at == 0,
    };
    let relation = Relation {
        oid: 7,
        schema: "lab".into(),
        table: "plates".into(),
        identity: ReplicaIdentity::Default,
        columns: (0..columns).map(column).collect(),
        primary_key: vec![0],
        absent: Vec::new(),
        unknown: None,
    };
    let raw = b"I\0\0\0\x07N\0\x01t\0\0\0\x01a";
    let transaction = Transaction { commit: CommitSeq::new(500), xid: 7, time: 1 };
    let mut records = Records::default();
    ChangeEntry {
        raw_in: None,
        epoch: 0,
        place: ChangePlace { transaction, index: 0, record: CommitSeq::new(400), nth: 0 },
        rule: None,
        context: None,
        table: Some("lab.plates"),
        relation: Some(&relation),
        reason: "r",
        hint: Some("h"),
        size: raw.len() as u64,
        raw,
    }
    .push(&mut records);
    let change = records.iter().next().unwrap().line.trim_ascii_end();
    let head = format!(
        "{{\"id\":\"{id}\",\"frame\":9,\"part\":0,\"type\":\"lab.plates\",\"key\":\"k\",\"reason\":\"r\",\"halted\":true,\"change\":"
    );
    [head.as_bytes(), change, b"}\n"].concat()
}

fn write(directory: &Path, lines: &[Vec<u8>]) {
    std::fs::write(directory.join(FILE_NAME), lines.concat()).unwrap();
}

fn ask(directory: &Path, letters: Vec<LetterId>) {
    request::file(
        &Directory::open(directory).unwrap(),
        &Request { act: Act::Retry, letters, reason: None, at: 7 },
    )
    .unwrap();
}

#[test]
fn unreadable_request_does_not_stop_the_process() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("requests"), b"no folder").unwrap();
    let (mut worker, _phase) = worker(directory.path(), Vec::new());
    assert!(matches!(worker.look(), Err(Failure::Retry(_))));
}

#[test]
fn halting_letter_is_retried_ahead_of_waiting_ones() {
    let directory = tempfile::tempdir().unwrap();
    let id = LetterId::of_text("halted");
    write(directory.path(), &[halted(&id, 1)]);
    let others = (0..RETRIES_MAX).map(|nth| retry(&LetterId::of_text(&nth.to_string()), false)).collect();
    let (mut worker, _phase) = worker(directory.path(), others);
    ask(directory.path(), vec![id.clone()]);
    worker.look().unwrap();
    assert!(worker.parts.ledger.lock().retrying(&id).is_some());
}

#[test]
fn request_retries_each_letter_once() {
    let directory = tempfile::tempdir().unwrap();
    let (first, second) = (LetterId::of_text("first"), LetterId::of_text("second"));
    let waiting = |id| String::from_utf8(halted(id, 1)).unwrap().replace("\"halted\":true,", "").into_bytes();
    write(directory.path(), &[waiting(&first), waiting(&second)]);
    let others = (1..RETRIES_MAX).map(|nth| retry(&LetterId::of_text(&nth.to_string()), false)).collect();
    let (mut worker, _phase) = worker(directory.path(), others);
    ask(directory.path(), vec![first.clone(), second.clone()]);
    worker.look().unwrap();
    assert!(worker.parts.ledger.lock().retrying(&first).is_some(), "there is room for one");
    // Before the next check of the worker, the checkpoint is written and the stream rejects the record again.
    let mut checkpoint = worker.parts.ledger.lock().prepare().unwrap();
    for injection in &mut checkpoint.injections {
        if let Injection::Retry(retry) = injection
            && retry.letter == first
        {
            (retry.frame, retry.settled) = (Some(FrameNo(9)), true);
        }
    }
    worker.parts.ledger.lock().written(checkpoint);
    worker.look().unwrap();
    let checkpoint = worker.parts.ledger.lock().prepare().unwrap();
    worker.parts.ledger.lock().written(checkpoint);
    worker.look().unwrap();
    let ledger = worker.parts.ledger.lock();
    assert!(ledger.retrying(&first).is_none(), "it waits for another request");
    assert!(ledger.retrying(&second).is_some(), "it has had its turn");
    drop(ledger);
}

#[test]
fn retry_without_events_is_not_published() {
    let directory = tempfile::tempdir().unwrap();
    let id = LetterId::of_text("edited by hand");
    let head =
        format!("{{\"id\":\"{id}\",\"frame\":1,\"part\":0,\"type\":\"t\",\"key\":\"k\",\"reason\":\"r\"");
    let spoilt = format!("{head},\"change\":{{\"raw\":\"?\"}}}}\n");
    let good = format!("{head},\"event\":{{\"sequence\":\"x\"}}}}\n");
    for (line, state) in [(spoilt, State::Waiting), (good, State::Published)] {
        write(directory.path(), &[line.into_bytes(), decision(&id, State::Retrying, None, None)]);
        let (mut worker, _phase) = worker(directory.path(), vec![retry(&id, true)]);
        worker.look().unwrap();
        let index = Index::of(&worker.parts.directory, [&id]).unwrap();
        assert_eq!(index.get(&id).map(|letter| letter.state), Some(state));
    }
}

fn rename(from: &Path, to: &Path) {
    std::fs::hard_link(from, to).unwrap();
    std::fs::remove_file(from).unwrap();
}

/// A line that cannot be read for a while (no file descriptors left, or the file was moved and moved back)
/// must not end the process.
#[test]
fn unreadable_line_leaves_its_batch_for_later() {
    let root = tempfile::tempdir().unwrap();
    let line = halted(&LetterId::of_text("x"), 1);
    write(root.path(), std::slice::from_ref(&line));
    let (mut worker, _phase) = worker(root.path(), Vec::new());
    let to_write = |part, written_at| ToWrite {
        record: DeadLetter {
            frame: FrameNo(9),
            part,
            reason: DeadReason::Rejected,
            response: None,
            event_type: "t".into(),
            key: "k".into(),
            line: "{}".into(),
        },
        written_at,
        halts: false,
    };
    let batch = || vec![to_write(0, Some(0)), to_write(1, None)];
    let fates = |worker: &mut DeadLetterWorker| -> Vec<Fate> {
        worker.write(batch()).unwrap().into_iter().map(|(_, fate)| fate).collect()
    };
    let (file, moved) = (root.path().join(FILE_NAME), root.path().join("moved"));
    rename(&file, &moved);
    assert_eq!(fates(&mut worker), [Fate::NoRoom, Fate::NoRoom]);
    rename(&moved, &file);
    assert_eq!(fates(&mut worker), [Fate::Written, Fate::Written]);
    assert!(std::fs::read(&file).unwrap().starts_with(&[line.as_slice(), &line].concat()));
    std::fs::remove_file(&file).unwrap();
    assert!(matches!(worker.write(vec![to_write(2, None)]), Err(Failure::Stop(_))));
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write_all(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn unretryable_letter_is_reported_once_per_request() {
    let directory = tempfile::tempdir().unwrap();
    let (hopeless, good) = (LetterId::of_text("hopeless"), LetterId::of_text("good"));
    write(directory.path(), &[halted(&hopeless, 2), halted(&good, 1)]);
    let (mut worker, _phase) = worker(directory.path(), Vec::new());
    ask(directory.path(), vec![hopeless, good.clone()]);
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).finish();
    tracing::subscriber::with_default(subscriber, || {
        for _ in 0..3 {
            worker.look().unwrap();
        }
    });
    assert!(worker.parts.ledger.lock().retrying(&good).is_some(), "it waits for the checkpoint");
    let said = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert_eq!(said.matches("still cannot be published").count(), 1, "{said}");
}
