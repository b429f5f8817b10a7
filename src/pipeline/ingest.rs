//! The ingest loop: source → translate → append to the log; tells Postgres what it may forget.
//!
//! It never waits for Kinesis, and content never stops it. When the log is full it stops reading, keeps the connection
//! alive, and goes on when there is room; meanwhile Postgres keeps the rest.

use std::time::Duration;

use tokio::sync::watch;

use crate::buffer::Settled;
use crate::buffer::ledger::SharedLedger;
use crate::change::Delivery;
use crate::failure::Failure;
use crate::pipeline::append::Appender;
use crate::pipeline::history::History;
use crate::pipeline::{Phase, meters};
use crate::position::Lsn;
use crate::source::Source;

/// How often a paused loop tells the server that it is there, and looks whether the disk has room again.
const PAUSED_TICK: Duration = Duration::from_secs(1);

/// How often a loop that receives nothing looks for something to inject.
const IDLE_TICK: Duration = Duration::from_millis(500);

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
        loop {
            self.appender.inject(&self.ledger)?;
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
                // PRIORITY 4: while nothing comes, a person may ask for a dead letter.
                () = tokio::time::sleep(IDLE_TICK) => {}
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
                    self.appender.begin();
                    continue;
                }
                Delivery::Commit { end } => {
                    self.commit(end);
                    self.appender.inject(&self.ledger)?;
                    continue;
                }
                Delivery::Progress { wal_end } => {
                    self.progress(wal_end)?;
                    continue;
                }
                // What a transaction says of itself counts for its changes that were not received before, too.
                Delivery::Message(message) if self.appender.takes_context(&message) => continue,
                Delivery::Message(message) if self.appender.is_known(&message.place) => continue,
                Delivery::Message(message) => {
                    self.appender.translate_message(&message);
                    message.place
                }
                Delivery::Change(change) if self.appender.is_known(&change.place) => {
                    continue;
                }
                Delivery::Unreadable(bad) if self.appender.is_known(&bad.place) => {
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
            while self.appender.append(&change)?.is_err() {
                self.make_room().await?;
                if self.is_stopping() {
                    return Ok(());
                }
            }
        }
    }

    fn commit(&mut self, end: Lsn) {
        self.appender.complete();
        if self.history.commit() {
            self.ledger.lock().mark(self.appender.frame(), end);
        }
    }

    fn progress(&mut self, wal_end: Lsn) -> Result<(), Failure> {
        if self.history.progress(wal_end).map_err(Failure::stop)? {
            self.ledger.lock().mark(self.appender.frame(), wal_end);
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
        let behind = self.ledger.lock().published().behind.clone();
        let say = self.appender.say_full(behind.as_ref());
        loop {
            tokio::select! {
                biased;
                () = stopping(&mut self.phase) => break,
                settled = settled(&mut self.settled) => self.confirm(settled).await?,
                alive = self.source.keep_alive() => alive?,
                () = self.appender.room() => {}
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
mod tests;
