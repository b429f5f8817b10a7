//! The ingest loop: receives changes, translates them, appends them to the log, and confirms settled
//! positions to the source.
//!
//! It never waits for the destination, and no change stops it, whatever it contains. While the log is full it
//! stops reading and keeps the connection alive; the source retains the rest. It continues as soon as there
//! is space.

pub mod append;
pub mod heartbeat;
pub mod injection;
pub mod proof;
mod rate_limited_log;

use std::time::Duration;

use tokio::sync::watch;

use crate::buffer::Settled;
use crate::buffer::ledger::SharedLedger;
use crate::change::Delivery;
use crate::failure::Failure;
use crate::pipeline::Phase;
use crate::pipeline::ingest::append::Appender;
use crate::pipeline::ingest::proof::Proof;
use crate::pipeline::status::{Moment, Status};
use crate::position::{ResumePoint, Transaction};
use crate::source::Source;
use crate::time;

/// How often a paused loop sends feedback to the server and checks for free space.
const PAUSED_TICK: Duration = Duration::from_secs(1);

/// How often a loop that receives nothing checks for injections.
const IDLE_TICK: Duration = Duration::from_millis(500);

/// One attempt of the loop, over one connection.
#[derive(Debug)]
pub struct Ingest<'a, S> {
    /// The connection.
    pub source: S,
    /// What this connection must prove before new changes are published; `None` once it is proven.
    pub proof: Option<Proof>,
    /// The log has no space for the changes before the proof. They are read and dropped; a later connection
    /// delivers them again.
    pub skips: bool,
    /// Turns changes into frames of the log.
    pub appender: &'a mut Appender,
    /// The ledger.
    pub ledger: SharedLedger,
    /// The highest position that the checkpointer has settled.
    pub settled: watch::Receiver<Option<Settled>>,
    /// Whether the process runs or stops.
    pub phase: watch::Receiver<Phase>,
    /// Where the loop reports its state.
    pub status: Status,
    /// Number of this connection, from the ledger.
    pub connection: u64,
}

impl<S: Source> Ingest<'_, S> {
    /// Runs until the process stops (`Ok`) or the attempt fails.
    ///
    /// # Errors
    /// The connection or the log failed, or the server has another history.
    pub async fn run(mut self) -> Result<(), Failure> {
        loop {
            self.appender.inject(&self.ledger)?;
            if let Err(failure) = self.drain().await {
                // It may take long until the next connection, so the changes of this one are written now and
                // can be published. Changes without space stay staged.
                self.appender.flush(&self.ledger)?;
                return Err(failure);
            }
            if !self.appender.flush(&self.ledger)? && !self.skips {
                self.make_room().await?;
            }
            self.appender.report(&self.status);
            let last_received = self.source.last_received();
            self.status.ingest(|part| part.last_received = part.last_received.max(Some(last_received)));
            tokio::select! {
                biased;
                // PRIORITY 1: stop. Nothing more is received, and everything received is already written.
                () = stopping(&mut self.phase) => return self.stop().await,
                // PRIORITY 2: confirm, so that the source can remove its log under any load.
                settled = settled(&mut self.settled) => self.confirm(settled).await?,
                // PRIORITY 3: receive.
                received = self.source.receive() => received?,
                // PRIORITY 4: check for injections. While nothing is received, retries of dead letters may
                // wait.
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
                    self.appender.begin();
                    self.prove(transaction).await?;
                    continue;
                }
                Delivery::Backfill => {
                    self.appender.begin_backfill();
                    continue;
                }
                Delivery::Commit { resume } => {
                    self.appender.complete();
                    self.mark(resume);
                    if !self.skips {
                        self.appender.inject(&self.ledger)?;
                    }
                    continue;
                }
                Delivery::Progress { resume } => {
                    self.mark(Some(resume));
                    continue;
                }
                Delivery::Change(_) | Delivery::Message(_) | Delivery::Unreadable(_) if self.skips => {
                    continue;
                }
                // A context applies to all later changes of its transaction, even if the message itself was
                // received before.
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
                if self.skips {
                    break;
                }
            }
            if self.appender.is_heavy() && !self.appender.flush(&self.ledger)? {
                self.make_room().await?;
            }
        }
    }

    /// A transaction begins. It may complete the proof, which makes the withheld frames visible.
    async fn prove(&mut self, transaction: Transaction) -> Result<(), Failure> {
        let Some(proof) = &mut self.proof else { return Ok(()) };
        if !proof.begin(transaction)? {
            return Ok(());
        }
        self.proof = None;
        self.appender.show();
        tracing::info!(
            event = "publishing_released",
            "the source has the last known transaction; publishing continues"
        );
        if !std::mem::take(&mut self.skips) {
            return Ok(());
        }
        self.make_room().await?;
        Err(Failure::retry(
            "the log had no room up to the last known transaction; receiving again what was skipped",
        ))
    }

    /// Whether no space can become free: everything visible is published, and the rest of the log waits for
    /// the proof.
    fn waits_for_proof(&self) -> bool {
        self.proof.is_some() && self.ledger.lock().checkpoint().watermark.frame >= self.appender.visible()
    }

    /// Notes the position that may be confirmed once everything appended so far is settled.
    fn mark(&self, resume: Option<ResumePoint>) {
        if let Some(resume) = resume {
            self.ledger.lock().mark(self.appender.frame(), resume);
        }
    }

    async fn confirm(&mut self, settled: Settled) -> Result<(), Failure> {
        if settled.connection() == self.connection {
            self.source.confirm(&settled).await?;
            let seq = settled.resume().seq();
            self.status.ingest(|part| part.confirmed = Some((seq, Moment::now())));
        }
        Ok(())
    }

    /// The log is full: pauses the source until there is space. Publishing and confirming continue. If
    /// withheld frames fill the log, the source is read without storing until the proof is complete.
    async fn make_room(&mut self) -> Result<(), Failure> {
        self.status.ingest(|part| part.paused = part.paused.or_else(|| Some(Moment::now())));
        let behind = self.ledger.lock().published().behind.clone();
        let logged = self.appender.log_full(behind.as_ref());
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
                if logged {
                    tracing::info!(event = "source_resumed", "buffer has space; source resumed");
                }
                break;
            }
            if self.waits_for_proof() {
                tracing::warn!(
                    event = "source_read_ahead",
                    "log full before the last known transaction; reading up to it without storing"
                );
                self.skips = true;
                break;
            }
        }
        self.status.ingest(|part| (part.paused, part.last_received) = (None, Some(time::now())));
        Ok(())
    }

    fn is_stopping(&self) -> bool {
        *self.phase.borrow() != Phase::Running
    }

    /// Waits for the checkpointer's last settled position, confirms it, and ends the replication stream.
    async fn stop(mut self) -> Result<(), Failure> {
        self.appender.report_now(&self.status);
        while *self.phase.borrow() != Phase::LastConfirm {
            tokio::select! {
                biased;
                changed = self.phase.changed() => if changed.is_err() { break },
                settled = settled(&mut self.settled) => self.confirm(settled).await?,
            }
        }
        let last = self.settled.borrow().clone();
        if let Some(last) = last {
            self.confirm(last).await?;
        }
        self.source.close().await
    }
}

/// Resolves when the process is stopping, or its supervisor has ended.
async fn stopping(phase: &mut watch::Receiver<Phase>) {
    // The sender outlives the loops. If it is dropped, the process is ending.
    let ended = phase.wait_for(|phase| *phase != Phase::Running).await;
    drop(ended);
}

/// The next settled position of the checkpointer.
async fn settled(receiver: &mut watch::Receiver<Option<Settled>>) -> Settled {
    loop {
        if receiver.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        let settled = receiver.borrow_and_update().clone();
        if let Some(settled) = settled {
            return settled;
        }
    }
}

#[cfg(test)]
mod tests;
