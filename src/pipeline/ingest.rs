//! The ingest loop: source → translate → append to the log; tells Postgres what it may forget.
//!
//! It never waits for Kinesis, and content never stops it. When the log is full it stops reading, keeps the connection
//! alive, and goes on when there is room; meanwhile Postgres keeps the rest.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::buffer::Settled;
use crate::buffer::frame::{FrameKind, MAX_BODY};
use crate::buffer::ledger::SharedLedger;
use crate::buffer::log::Log;
use crate::buffer::writer::Writer;
use crate::change::{Change, Delivery, Unreadable};
use crate::event::Records;
use crate::failure::Failure;
use crate::pipeline::history::History;
use crate::pipeline::{Phase, meters, notice};
use crate::position::{FrameNo, Lsn, Position, Transaction};
use crate::source::Source;
use crate::translate::Translator;
use crate::translate::dead_letter::DeadLetter;

/// How often a paused loop tells the server that it is there, and looks whether the disk has room again.
const PAUSED_TICK: Duration = Duration::from_secs(1);

/// How often a full log is mentioned at most.
const SAY_AGAIN: Duration = Duration::from_mins(1);

/// Changes in, frames out. It outlives the attempts: what one connection has appended, the next one skips.
#[derive(Debug)]
pub struct Appender {
    writer: Writer,
    translator: Translator,
    records: Records,
    epoch: u16,
    /// The last change appended, staged or written: the tail. What is received again at or below it is dropped.
    last: Option<Position>,
    frame: FrameNo,
    log: Arc<Log>,
    /// Why the last flush found no room.
    full: Option<String>,
    /// When that was last said: while a full log drains, room comes and goes every second.
    said_full: Option<Instant>,
}

/// Room must be made before the change can be appended.
#[derive(Debug)]
struct Full;

impl Appender {
    /// Appends after `tail`, where recovery has cut the log.
    pub fn new(log: Arc<Log>, writer: Writer, translator: Translator) -> Self {
        let tail = writer.tail();
        let epoch = translator.epoch();
        Self {
            records: Records::default(),
            epoch,
            last: tail.position.filter(|position| position.epoch == epoch),
            frame: tail.frame,
            full: None,
            said_full: None,
            translator,
            writer,
            log,
        }
    }

    /// The transaction of the last change appended, staged ones included: the server must still have it.
    pub fn tip(&self) -> Option<Transaction> {
        self.last.and(self.writer.tail().transaction)
    }

    fn is_known(&self, position: Position) -> bool {
        self.last.is_some_and(|last| position <= last)
    }

    /// Makes the records of a change, ready to [`append`](Self::append). What cannot be translated becomes a dead letter.
    fn translate(&mut self, change: &Change<'_>) {
        self.records.clear();
        let reason = match self.translator.translate(change, &mut self.records) {
            Ok(()) if self.records.size() <= self.frame_max() => return,
            Ok(()) => "its events together are larger than the log may be (buffer.max_size)".to_owned(),
            Err(error) => error.to_string(),
        };
        let relation = change.relation;
        let table = format!("{}.{}", relation.schema, relation.table);
        let position = change.place.position(self.epoch);
        tracing::error!(table, %position, reason, "a change cannot be translated and goes to the dead letter");
        meters::untranslatable();
        self.records.clear();
        DeadLetter {
            epoch: self.epoch,
            place: change.place,
            table: Some(&table),
            reason: &reason,
            size: u64::try_from(change.raw.len()).unwrap_or(u64::MAX),
            raw: change.raw,
        }
        .push(&mut self.records);
    }

    /// Most bytes of records that surely fit into a frame, and the frame into an empty log.
    fn frame_max(&self) -> usize {
        const AROUND: usize = 64 << 10;
        usize::try_from(self.log.config().max_size).unwrap_or(usize::MAX).min(MAX_BODY) - AROUND
    }

    fn quarantine(&mut self, change: &Unreadable<'_>) {
        self.records.clear();
        if change.relation.is_some_and(|relation| !self.translator.wants(relation)) {
            return;
        }
        tracing::error!(
            table = change.table, position = %change.place.position(self.epoch), reason = change.reason, size = change.size,
            "a change cannot be read and goes to the dead letter"
        );
        meters::untranslatable();
        DeadLetter::unreadable(change, self.epoch).push(&mut self.records);
    }

    /// Stages the records of a change as one frame.
    fn append(&mut self, position: Position, transaction: Transaction) -> Result<Result<(), Full>, Failure> {
        if self.records.is_empty() {
            return Ok(Ok(()));
        }
        match self.writer.append(FrameKind::Change, position, transaction, &self.records) {
            Ok(frame) => {
                self.frame = frame;
                self.last = Some(position);
                Ok(Ok(()))
            }
            Err(error) if error.is_full() => Ok(Err(Full)),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes what is staged and reports the tail. `false`: the log is full.
    fn flush(&mut self, ledger: &SharedLedger) -> Result<bool, Failure> {
        let outcome = self.writer.flush();
        ledger.lock().received(self.log.tail().into());
        match outcome {
            Ok(()) => Ok(true),
            Err(error) if error.is_full() => {
                self.full = Some(error.to_string());
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// One attempt of the loop, over one connection.
#[derive(Debug)]
pub struct Ingest<'a, S> {
    /// The connection.
    pub source: S,
    /// Where changes go.
    pub appender: &'a mut Appender,
    /// The account.
    pub ledger: SharedLedger,
    /// What the keeper has settled.
    pub settled: watch::Receiver<Option<Settled>>,
    /// Whether to go on.
    pub phase: watch::Receiver<Phase>,
    /// Number of this connection, from the ledger.
    pub connection: u64,
    /// Whether the server tells the story we know, and which transaction is arriving.
    pub history: History,
}

impl<S: Source> Ingest<'_, S> {
    /// Runs until the process stops (`Ok`) or the attempt fails.
    ///
    /// # Errors
    /// The connection, the log, or another history.
    pub async fn run(mut self) -> Result<(), Failure> {
        self.inject()?;
        loop {
            if let Err(failure) = self.drain().await {
                // The next connection may be long in coming: what this one has brought is published meanwhile. What finds
                // no room stays staged.
                self.appender.flush(&self.ledger)?;
                return Err(failure);
            }
            if !self.appender.flush(&self.ledger)? {
                self.make_room().await?;
            }
            tokio::select! {
                biased;
                // PRIORITY 1: stop. Nothing more is received; what is received is already written.
                () = stopping(&mut self.phase) => return self.stop().await,
                // PRIORITY 2: confirm, so that under any load Postgres can forget.
                settled = settled(&mut self.settled) => self.confirm(settled).await?,
                // PRIORITY 3: receive.
                received = self.source.receive() => received?,
            }
        }
    }

    /// Handles everything that has been received.
    async fn drain(&mut self) -> Result<(), Failure> {
        loop {
            let Some(delivery) = self.source.take()? else { return Ok(()) };
            let change = match delivery {
                Delivery::Begin(transaction) => {
                    self.history.begin(transaction).map_err(Failure::stop)?;
                    continue;
                }
                Delivery::Commit { end } => {
                    self.commit(end);
                    continue;
                }
                Delivery::Progress { wal_end } => {
                    self.progress(wal_end)?;
                    continue;
                }
                Delivery::Message(_) => continue,
                Delivery::Change(change)
                    if self.appender.is_known(change.place.position(self.appender.epoch)) =>
                {
                    continue;
                }
                Delivery::Unreadable(bad)
                    if self.appender.is_known(bad.place.position(self.appender.epoch)) =>
                {
                    continue;
                }
                Delivery::Change(change) => {
                    self.appender.translate(&change);
                    change.place
                }
                Delivery::Unreadable(bad) => {
                    self.appender.quarantine(&bad);
                    bad.place
                }
            };
            let position = change.position(self.appender.epoch);
            while self.appender.append(position, change.transaction)?.is_err() {
                self.make_room().await?;
                if self.is_stopping() {
                    return Ok(());
                }
            }
        }
    }

    fn commit(&mut self, end: Lsn) {
        if self.history.commit() {
            self.ledger.lock().mark(self.appender.frame, end);
        }
    }

    fn progress(&mut self, wal_end: Lsn) -> Result<(), Failure> {
        if self.history.progress(wal_end).map_err(Failure::stop)? {
            self.ledger.lock().mark(self.appender.frame, wal_end);
        }
        Ok(())
    }

    async fn confirm(&mut self, settled: Settled) -> Result<(), Failure> {
        if settled.connection() == self.connection {
            self.source.confirm(settled).await?;
            meters::confirmed(settled.lsn());
        }
        Ok(())
    }

    /// The log is full: the source is paused until there is room. Publishing goes on, and so do confirms.
    async fn make_room(&mut self) -> Result<(), Failure> {
        meters::paused(true);
        let reason = self.appender.full.take().unwrap_or_else(|| "the log is full".to_owned());
        let now = Instant::now();
        let say = self.appender.said_full.is_none_or(|last| now.duration_since(last) >= SAY_AGAIN);
        if say {
            self.appender.said_full = Some(now);
            tracing::error!(
                reason,
                "the source is paused and Postgres keeps its write-ahead log; publishing goes on, and so does the source as soon \
                 as there is room"
            );
        }
        loop {
            tokio::select! {
                biased;
                () = stopping(&mut self.phase) => break,
                settled = settled(&mut self.settled) => self.confirm(settled).await?,
                alive = self.source.keep_alive() => alive?,
                () = self.appender.writer.room() => {}
                () = tokio::time::sleep(PAUSED_TICK) => {}
            }
            if self.appender.flush(&self.ledger)? {
                if say {
                    tracing::info!("the log has room again: the source goes on");
                }
                break;
            }
        }
        meters::paused(false);
        Ok(())
    }

    fn is_stopping(&self) -> bool {
        *self.phase.borrow() != Phase::Running
    }

    /// Waits for the keeper's last word, confirms it and ends the stream in order.
    async fn stop(mut self) -> Result<(), Failure> {
        while *self.phase.borrow() != Phase::LastConfirm {
            tokio::select! {
                biased;
                changed = self.phase.changed() => if changed.is_err() { break },
                settled = settled(&mut self.settled) => self.confirm(settled).await?,
            }
        }
        let last = *self.settled.borrow();
        if let Some(last) = last {
            self.confirm(last).await?;
        }
        self.source.close().await
    }

    /// Appends what is not a change and is not in the log yet. No transaction is open at the begin of the first attempt,
    /// and later attempts find nothing to inject.
    fn inject(&mut self) -> Result<(), Failure> {
        let pending = self.ledger.lock().to_inject();
        for injection in pending {
            let appender = &mut *self.appender;
            appender.records.clear();
            let position = notice::write(&injection, appender.translator.source(), &mut appender.records);
            let frame = appender.writer.append(
                FrameKind::Injected,
                position,
                Transaction::default(),
                &appender.records,
            )?;
            appender.frame = frame;
            self.ledger.lock().injected(frame, injection);
        }
        Ok(())
    }
}

/// Resolves when the process is stopping (or its supervisor is gone).
async fn stopping(phase: &mut watch::Receiver<Phase>) {
    // The sender outlives the loops; if it is gone, the process is ending.
    let ended = phase.wait_for(|phase| *phase != Phase::Running).await;
    drop(ended);
}

/// The next word of the keeper.
async fn settled(receiver: &mut watch::Receiver<Option<Settled>>) -> Settled {
    loop {
        if receiver.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        let settled = *receiver.borrow_and_update();
        if let Some(settled) = settled {
            return settled;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;
    use crate::buffer::checkpoint::{Checkpoint, Identity, Mark, Phase as Made};
    use crate::buffer::ledger::Ledger;
    use crate::buffer::log::LogConfig;
    use crate::change::{Place, Relation, ReplicaIdentity};
    use crate::config::{ConfirmAfter, Tables};

    /// Delivers one change that cannot be read, and breaks.
    struct Broken(u32);

    impl Source for Broken {
        fn receive(&mut self) -> impl Future<Output = Result<(), Failure>> {
            pending()
        }

        fn take(&mut self) -> Result<Option<Delivery<'_>>, Failure> {
            self.0 += 1;
            let transaction = Transaction { commit: Lsn::new(500), xid: 7, time: 1 };
            let place = Place { transaction, index: 0, lsn: Lsn::new(400), nth: 0 };
            match self.0 {
                1 => Ok(Some(Delivery::Begin(transaction))),
                2 => Ok(Some(Delivery::Unreadable(Unreadable {
                    place,
                    relation: None,
                    table: None,
                    reason: "x",
                    size: 1,
                    raw: b"x",
                }))),
                _ => Err(Failure::retry("the connection broke")),
            }
        }

        fn confirm(&mut self, _: Settled) -> impl Future<Output = Result<(), Failure>> {
            ready(Ok(()))
        }

        fn keep_alive(&mut self) -> impl Future<Output = Result<(), Failure>> {
            pending()
        }

        fn close(&mut self) -> impl Future<Output = Result<(), Failure>> {
            ready(Ok(()))
        }
    }

    fn appender(directory: &std::path::Path, tables: Tables) -> Appender {
        let scan = Log::scan(directory, Mark::default(), FrameNo(0)).unwrap();
        let (log, writer) = Log::open(LogConfig::new(directory, 16 << 20), FrameNo(0), scan).unwrap();
        Appender::new(log, writer, Translator::new("urn:forebay:lab", 0, tables))
    }

    #[test]
    fn a_change_that_cannot_be_read_is_no_dead_letter_where_nobody_wants_the_table() {
        let directory = tempfile::tempdir().unwrap();
        let tables = Tables { exclude: vec!["lab.blobs".into()], ..Tables::default() };
        let mut appender = appender(directory.path(), tables);
        for (table, letters) in [("blobs", 0), ("plates", 1)] {
            let relation = Relation {
                oid: 5,
                schema: "lab".into(),
                table: table.into(),
                identity: ReplicaIdentity::Default,
                columns: Vec::new(),
                primary_key: Vec::new(),
            };
            let place = Place { transaction: Transaction::default(), index: 0, lsn: Lsn::new(400), nth: 0 };
            let relation = Some(&relation);
            appender.quarantine(&Unreadable {
                place,
                relation,
                table: None,
                reason: "x",
                size: 1,
                raw: b"x",
            });
            assert_eq!(appender.records.len(), letters, "{table}");
        }
    }

    #[tokio::test]
    async fn what_a_broken_connection_has_brought_is_shown_to_the_publisher() {
        let directory = tempfile::tempdir().unwrap();
        let mut appender = appender(directory.path(), Tables::default());
        let log = Arc::clone(&appender.log);
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
        let checkpoint = Checkpoint::fresh(identity, Made::Running, 0, Lsn::ZERO);
        let ledger = SharedLedger::new(Ledger::new(checkpoint, ConfirmAfter::Never));
        let (_settled, settled) = watch::channel(None);
        let (_phase, phase) = watch::channel(Phase::Running);
        let ingest = Ingest {
            source: Broken(0),
            appender: &mut appender,
            ledger: ledger.clone(),
            settled,
            phase,
            connection: 1,
            history: History::default(),
        };
        assert!(matches!(ingest.run().await, Err(Failure::Retry(_))));
        assert_eq!((log.tail().frame, ledger.lock().tail().mark.frame), (FrameNo(1), FrameNo(1)));
    }
}
