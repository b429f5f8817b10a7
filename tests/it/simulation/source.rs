//! The source of the simulation: sends the history of a [`World`](crate::model::world::World) as changes of rows, in chunks,
//! on connections that break at any point.

use std::sync::Arc;
use std::time::Duration;

use forebay::buffer::Settled;
use forebay::buffer::checkpoint::Checkpoint;
use forebay::change::{
    Cell, Change, ChangePlace, Column, Delivery, Message, OldRow, Operation, Relation, ReplicaIdentity, Tuple,
};
use forebay::failure::Failure;
use forebay::position::{CommitSeq, ResumePoint};
use forebay::source::postgres::admit::{self, Admitted};
use forebay::source::postgres::history::{AnotherHistory, History};
use forebay::source::{Connected, Connector, Redecode, Source};
use forebay::types::{Base, Kind, SqlType};
use tokio::time::Instant;

use super::planted::Planted;
use super::rows::{RowKey, Rows, Step};
use super::shared::Shared;
use crate::model::world::Txn;

/// Captured changes of a script cannot be read again: its dead letters are only discarded.
#[derive(Debug)]
pub struct NothingCaptured;

impl Redecode for NothingCaptured {
    fn row(&self, _: &[u8], _: usize, _: &mut dyn FnMut(Operation<'_>)) -> Result<(), String> {
        Err("a script captures nothing".to_owned())
    }

    fn message<'a>(&self, _: ChangePlace, _: &'a [u8]) -> Result<Message<'a>, String> {
        Err("a script captures nothing".to_owned())
    }

    fn descriptions(&self, _: &Relation) -> Vec<Relation> {
        Vec::new()
    }
}

/// Opens scripted connections.
#[derive(Debug)]
pub struct ScriptedConnector(pub Shared);

impl ScriptedConnector {
    fn admit(&self, known: &Checkpoint) -> Result<(u64, Admitted), Failure> {
        let mut shared = self.0.borrow_mut();
        let blind = shared.planted == Some(Planted::IgnoresTheHistory);
        let last = known.last_seen.filter(|_| !blind);
        let (server, slot) = (shared.world.facts(), shared.world.slot_facts());
        match admit::admit(known, last, slot.as_ref(), &server) {
            Ok(admitted) => Ok((slot.map_or(0, |slot| slot.confirmed.get()), admitted)),
            Err(refusal) => {
                shared.judge(&refusal.clone().into());
                Err(refusal.into())
            }
        }
    }
}

impl Connector for ScriptedConnector {
    type Source = Script;

    async fn connect(&mut self, known: impl Fn() -> Checkpoint) -> Result<Connected<Script>, Failure> {
        self.0.pause(50).await;
        let generation = {
            let mut shared = self.0.borrow_mut();
            if !shared.quiet && shared.random.one_in(6) {
                return Err(Failure::retry("the server does not accept connections"));
            }
            shared.world.generation
        };
        self.admit(&known())?;
        self.0.pause(50).await;
        if self.0.borrow().world.generation != generation {
            return Err(Failure::retry("the server closed the connection"));
        }
        let (at, admitted) = self.admit(&known())?;
        let mut shared = self.0.borrow_mut();
        shared.note(|| format!("connected at {at}, expecting {:?}", admitted.expect));
        let facts = shared.world.facts();
        let (timeline, end) = (facts.timeline, facts.wal_end);
        let before = shared.world.server.txns.iter().filter(|txn| txn.commit() < at);
        let rows = Rows::after(before);
        shared.connected = true;
        let expect = admitted.expect.filter(|_| shared.planted != Some(Planted::PublishesUnproven));
        drop(shared);
        let source = Script {
            shared: self.0.clone(),
            generation,
            history: History::new(admitted.expect),
            at,
            open: None,
            rows,
            delivered: 0,
            due: Instant::now(),
            ready: 0,
            tables: [relation(0), relation(1), relation(2)],
            message: Vec::new(),
            cells: [Vec::new(), Vec::new()],
        };
        Ok(Connected { source, timeline, end, expect })
    }
}

/// One connection.
#[derive(Debug)]
pub struct Script {
    shared: Shared,
    generation: u64,
    history: History,
    /// Up to where the server has read its log.
    at: u64,
    /// The transaction that is being sent, and its next change.
    open: Option<(Txn, usize)>,
    rows: Rows,
    /// Up to where everything was delivered.
    delivered: u64,
    /// When the next chunk comes.
    due: Instant,
    /// Deliveries of the chunk that are left.
    ready: u64,
    tables: [Arc<Relation>; 3],
    message: Vec<u8>,
    cells: [Vec<Cell>; 2],
}

impl Drop for Script {
    fn drop(&mut self) {
        self.shared.borrow_mut().connected = false;
    }
}

/// What is sent next.
enum Next {
    Begin(Txn),
    Change(Txn, usize),
    Commit(Txn),
    Keepalive(u64),
}

impl Script {
    fn next(&mut self) -> Next {
        let mut shared = self.shared.borrow_mut();
        match self.open.take() {
            Some((txn, index)) if index < txn.changes.len() => {
                self.open = Some((txn.clone(), index + 1));
                Next::Change(txn, index)
            }
            Some((txn, _)) => Next::Commit(txn),
            None => match shared.world.next(self.at).cloned() {
                Some(txn) if txn.commit() > self.at && shared.random.one_in(3) => {
                    Next::Keepalive(txn.commit())
                }
                Some(txn) => {
                    self.open = Some((txn.clone(), 0));
                    Next::Begin(txn)
                }
                None => Next::Keepalive(shared.world.visible_end()),
            },
        }
    }

    fn see(&self, up_to: u64) {
        let mut shared = self.shared.borrow_mut();
        shared.world.seen = shared.world.seen.max(up_to);
    }

    /// The server has another history than the one that is known: right only if it really has.
    fn judge(&self, other: AnotherHistory) -> Failure {
        let mut shared = self.shared.borrow_mut();
        shared.note(|| format!("stopped: {other}"));
        shared.refused = true;
        if !shared.world.switched {
            shared.wrong(format!("false refusal: {other}"));
        }
        other.into()
    }

    fn deliver(&mut self, end: u64, may: bool) -> Option<ResumePoint> {
        self.delivered = self.delivered.max(end);
        self.see(end);
        let mut shared = self.shared.borrow_mut();
        if shared.planted == Some(Planted::ConfirmsWhatIsNotSettled)
            && let Some(slot) = &mut shared.world.server.slot
        {
            slot.confirmed = slot.confirmed.max(end);
        }
        may.then(|| CommitSeq::new(end).into())
    }

    /// Puts the key of a row, and its value if it is known, into the message.
    fn tuple(&mut self, which: usize, key: RowKey, value: Option<&str>) {
        let id = key.id.to_string();
        for text in [Some(id.as_str()), value] {
            let cell = match text {
                None => Cell::Null,
                Some(text) => {
                    let start = u32::try_from(self.message.len()).unwrap();
                    self.message.extend_from_slice(text.as_bytes());
                    Cell::Text { start, length: u32::try_from(text.len()).unwrap() }
                }
            };
            self.cells[which].push(cell);
        }
    }

    fn change(&mut self, txn: &Txn, index: usize) -> Delivery<'_> {
        self.message.clear();
        self.cells.iter_mut().for_each(Vec::clear);
        let step = self.rows.apply(txn, index);
        let table = match &step {
            Step::Foreign => 2,
            Step::Insert(key, _) | Step::Update(_, key, _) | Step::Delete(key) => usize::from(key.table),
        };
        match &step {
            Step::Insert(key, value) => self.tuple(0, *key, Some(&value.text())),
            Step::Update(old, key, value) => {
                self.tuple(0, *key, Some(&value.text()));
                if let Some(old) = old {
                    self.tuple(1, *old, None);
                }
            }
            Step::Delete(key) => self.tuple(1, *key, None),
            Step::Foreign => self.tuple(0, RowKey { table: 2, id: 0 }, Some("")),
        }
        let [new, old] = [&self.cells[0], &self.cells[1]].map(|cells| Tuple::new(&self.message, cells));
        let operation = match step {
            Step::Insert(..) | Step::Foreign => Operation::Insert { new },
            Step::Update(before, ..) => Operation::Update { old: before.map(|_| OldRow::Key(old)), new },
            Step::Delete(_) => Operation::Delete { old: OldRow::Key(old) },
        };
        let ordinal = u32::try_from(index).unwrap();
        let record = CommitSeq::new(txn.commit() - 1);
        let place = ChangePlace { transaction: txn.id, index: ordinal, record, nth: ordinal };
        Delivery::Change(Change { place, relation: &self.tables[table], operation, raw: &self.message })
    }
}

impl Source for Script {
    async fn receive(&mut self) -> Result<(), Failure> {
        tokio::time::sleep_until(self.due).await;
        let mut shared = self.shared.borrow_mut();
        if shared.world.generation != self.generation || (!shared.quiet && shared.random.one_in(40)) {
            return Err(Failure::retry("the server closed the connection"));
        }
        self.ready = 1 + shared.random.below(30);
        self.due = Instant::now() + Duration::from_millis(1 + shared.random.below(200));
        Ok(())
    }

    fn take(&mut self) -> Result<Option<Delivery<'_>>, Failure> {
        if self.ready == 0 {
            return Ok(None);
        }
        self.ready -= 1;
        match self.next() {
            Next::Begin(txn) => {
                self.see(txn.commit() + 1);
                self.history.begin(txn.id).map_err(|other| self.judge(other))?;
                Ok(Some(Delivery::Begin(txn.id)))
            }
            Next::Change(txn, index) => {
                if !self.shared.borrow().quiet && self.shared.borrow_mut().random.one_in(300) {
                    return Err(Failure::retry("the connection was reset"));
                }
                Ok(Some(self.change(&txn, index)))
            }
            Next::Commit(txn) => {
                self.at = txn.end;
                let may = self.history.commit();
                let resume = self.deliver(txn.end, may);
                Ok(Some(Delivery::Commit { resume }))
            }
            Next::Keepalive(end) if end < self.at => {
                self.ready = 0;
                Ok(None)
            }
            Next::Keepalive(end) => {
                self.ready = 0;
                self.at = end;
                let may = self.history.progress(CommitSeq::new(end)).map_err(|other| self.judge(other))?;
                Ok(self.deliver(end, may).map(|resume| Delivery::Progress { resume }))
            }
        }
    }

    fn last_received(&self) -> std::time::Instant {
        Instant::now().into_std()
    }

    async fn confirm(&mut self, settled: &Settled) -> Result<(), Failure> {
        let mut shared = self.shared.borrow_mut();
        let point = settled.resume().seq().get();
        if point > self.delivered {
            let delivered = self.delivered;
            shared.wrong(format!("confirmed {point}, but this connection delivered up to {delivered}"));
        }
        // A confirm can be lost with its connection.
        let lost = shared.world.generation != self.generation || (!shared.quiet && shared.random.one_in(4));
        shared.note(|| format!("confirmed {point}{}", if lost { ", lost" } else { "" }));
        if let Some(slot) = shared.world.server.slot.as_mut().filter(|_| !lost) {
            slot.confirmed = slot.confirmed.max(point);
        }
        Ok(())
    }

    async fn keep_alive(&mut self) -> Result<(), Failure> {
        if self.shared.borrow().world.generation != self.generation {
            return Err(Failure::retry("the server closed the connection"));
        }
        std::future::pending().await
    }

    async fn close(&mut self) -> Result<(), Failure> {
        Ok(())
    }
}

fn relation(table: u8) -> Arc<Relation> {
    let column = |name: &str, kind, base, is_key: bool| Column {
        name: name.into(),
        kind,
        data_type: SqlType::plain(base),
        not_null: true,
        origin: None,
        in_identity: is_key,
    };
    let columns =
        vec![column("id", Kind::Number, Base::Int4, true), column("value", Kind::Text, Base::Text, false)];
    Arc::new(Relation {
        oid: 100 + u32::from(table),
        schema: "lab".into(),
        table: ["plates", "wells", "foreign"][usize::from(table)].into(),
        identity: ReplicaIdentity::Default,
        columns,
        primary_key: vec![0],
        absent: Vec::new(),
        unknown: None,
    })
}
