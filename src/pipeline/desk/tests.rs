//! What the desk does with what it finds, one look after the other.

use std::path::Path;
use std::sync::{Arc, Mutex};

use super::*;
use crate::buffer::checkpoint::{Checkpoint, Identity, Injection, Phase as Made};
use crate::buffer::ledger::Ledger;
use crate::change::{Column, Place, Relation, ReplicaIdentity};
use crate::config::ConfirmAfter;
use crate::position::{FrameNo, Lsn, Transaction};
use crate::translate::Settings;
use crate::translate::dead_letter::DeadLetter;
use crate::types::{Base, Kind, SqlType};

fn retry(id: &LetterId, settled: bool) -> Injection {
    let frame = settled.then_some(FrameNo(5));
    Injection::Retry(Retry { letter: id.clone(), event_type: "t".into(), offset: 0, frame, settled })
}

/// A desk whose checkpoint has these injections.
fn desk(directory: &Path, injections: Vec<Injection>) -> (Desk, watch::Sender<Phase>) {
    let identity = Identity {
        system_id: "7".into(),
        timeline: 1,
        database: "lab".into(),
        slot: "s".into(),
        publication: "p".into(),
        source: "urn:forebay:lab".into(),
        stream: None,
        lane_hash: "x".into(),
    };
    let checkpoint = Checkpoint { injections, ..Checkpoint::fresh(identity, Made::Running, 0, Lsn::ZERO) };
    let ledger = SharedLedger::new(Ledger::new(checkpoint, ConfirmAfter::Never));
    let letters = Letters::open(directory.to_owned()).unwrap();
    let (phase, seen) = watch::channel(Phase::Running);
    let translator = Translator::new("urn:forebay:lab", 0, Settings::default());
    (Desk::new(letters, ledger, translator, seen), phase)
}

/// The line of a letter that publishing stands before: an insert of a table with so many columns, of which the row has one.
fn standing(id: &LetterId, columns: usize) -> Vec<u8> {
    let column = |at| Column {
        name: format!("c{at}"),
        kind: Kind::Text,
        data_type: SqlType::plain(Base::Text),
        not_null: false,
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
    };
    let raw = b"I\0\0\0\x07N\0\x01t\0\0\0\x01a";
    let transaction = Transaction { commit: Lsn::new(500), xid: 7, time: 1 };
    let mut records = Records::default();
    DeadLetter {
        epoch: 0,
        place: Place { transaction, index: 0, lsn: Lsn::new(400), nth: 0 },
        rule: None,
        context: None,
        table: Some("lab.plates"),
        relation: Some(&relation),
        reason: "r",
        size: raw.len() as u64,
        raw,
    }
    .push(&mut records);
    let change = records.iter().next().unwrap().line.trim_ascii_end();
    let head = format!(
        "{{\"id\":\"{id}\",\"frame\":9,\"part\":0,\"type\":\"lab.plates\",\"key\":\"k\",\"reason\":\"r\",\"standing\":true,\"change\":"
    );
    [head.as_bytes(), change, b"}\n"].concat()
}

fn write(directory: &Path, lines: &[Vec<u8>]) {
    std::fs::write(directory.join(dead_letter::FILE_NAME), lines.concat()).unwrap();
}

fn ask(directory: &Path, letters: Vec<LetterId>) {
    request::file(directory, &Request { act: Act::Retry, letters, reason: None, at: 7 }).unwrap();
}

#[test]
fn requests_that_cannot_be_read_do_not_stop_the_process() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("requests"), b"no folder").unwrap();
    let (mut desk, _phase) = desk(directory.path(), Vec::new());
    assert!(matches!(desk.look(), Err(Failure::Retry(_))));
}

#[test]
fn the_letter_that_publishing_stands_before_is_retried_though_all_others_wait_for_it() {
    let directory = tempfile::tempdir().unwrap();
    let id = LetterId::of_text("standing");
    write(directory.path(), &[standing(&id, 1)]);
    let others = (0..RETRIES_MAX).map(|nth| retry(&LetterId::of_text(&nth.to_string()), false)).collect();
    let (mut desk, _phase) = desk(directory.path(), others);
    ask(directory.path(), vec![id.clone()]);
    desk.look().unwrap();
    assert!(desk.ledger.lock().retrying(&id).is_some());
}

#[test]
fn a_request_retries_a_letter_once_though_others_of_it_still_wait() {
    let directory = tempfile::tempdir().unwrap();
    let (first, second) = (LetterId::of_text("first"), LetterId::of_text("second"));
    let waiting =
        |id| String::from_utf8(standing(id, 1)).unwrap().replace("\"standing\":true,", "").into_bytes();
    write(directory.path(), &[waiting(&first), waiting(&second)]);
    let others = (1..RETRIES_MAX).map(|nth| retry(&LetterId::of_text(&nth.to_string()), false)).collect();
    let (mut desk, _phase) = desk(directory.path(), others);
    ask(directory.path(), vec![first.clone(), second.clone()]);
    desk.look().unwrap();
    assert!(desk.ledger.lock().retrying(&first).is_some(), "there is room for one");
    // The checkpoint is written, and the record was refused again, before the desk looks the next time.
    let mut checkpoint = desk.ledger.lock().prepare().unwrap();
    for injection in &mut checkpoint.injections {
        if let Injection::Retry(retry) = injection
            && retry.letter == first
        {
            (retry.frame, retry.settled) = (Some(FrameNo(9)), true);
        }
    }
    desk.ledger.lock().written(checkpoint);
    desk.look().unwrap();
    let checkpoint = desk.ledger.lock().prepare().unwrap();
    desk.ledger.lock().written(checkpoint);
    desk.look().unwrap();
    let ledger = desk.ledger.lock();
    assert!(ledger.retrying(&first).is_none(), "it waits for another request");
    assert!(ledger.retrying(&second).is_some(), "it has had its turn");
    drop(ledger);
}

#[test]
fn a_retry_that_brought_nothing_is_not_called_published() {
    let directory = tempfile::tempdir().unwrap();
    let id = LetterId::of_text("mended by hand");
    let head =
        format!("{{\"id\":\"{id}\",\"frame\":1,\"part\":0,\"type\":\"t\",\"key\":\"k\",\"reason\":\"r\"");
    let spoilt = format!("{head},\"change\":{{\"raw\":\"?\"}}}}\n");
    let good = format!("{head},\"event\":{{\"sequence\":\"x\"}}}}\n");
    for (line, state) in [(spoilt, State::Waiting), (good, State::Published)] {
        write(directory.path(), &[line.into_bytes(), poison::act(&id, State::Retrying, None, None)]);
        let (mut desk, _phase) = desk(directory.path(), vec![retry(&id, true)]);
        desk.look().unwrap();
        let index = Index::read(&desk.letters.path()).unwrap();
        assert_eq!(index.get(&id).map(|letter| letter.state), Some(state));
    }
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
fn what_cannot_be_retried_is_said_once_however_long_the_others_of_the_request_take() {
    let directory = tempfile::tempdir().unwrap();
    let (hopeless, good) = (LetterId::of_text("hopeless"), LetterId::of_text("good"));
    write(directory.path(), &[standing(&hopeless, 2), standing(&good, 1)]);
    let (mut desk, _phase) = desk(directory.path(), Vec::new());
    ask(directory.path(), vec![hopeless, good.clone()]);
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).finish();
    tracing::subscriber::with_default(subscriber, || {
        for _ in 0..3 {
            desk.look().unwrap();
        }
    });
    assert!(desk.ledger.lock().retrying(&good).is_some(), "it waits for the checkpoint");
    let said = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert_eq!(said.matches("still cannot be published").count(), 1, "{said}");
}
