//! The checkpointer: the only component that writes the checkpoint, fsyncs the log and reclaims segments.
//!
//! It runs once a second. The order of its steps makes a confirmation safe: it fsyncs the log before the
//! checkpoint calls it durable, and writes the checkpoint before it reclaims segments and sends [`Settled`].

use std::sync::{Arc, mpsc};
use std::time::Duration;

use tokio::sync::watch;

use super::checkpoint::{CheckpointError, CheckpointFile};
use super::disk::DiskError;
use super::ledger::{Settled, SharedLedger};
use super::log::Log;
use crate::config::ConfirmAfter;
use crate::failure::Failure;
use crate::time;

/// Interval of checkpoints and confirmations. A crash repeats at most this much. A shorter interval costs
/// more fsyncs and gains little.
pub const TICK: Duration = Duration::from_secs(1);

/// Why the checkpointer had to stop.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointerError {
    /// The checkpoint could not be written.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The log could not be fsynced, or a segment could not be deleted.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl From<CheckpointerError> for Failure {
    fn from(error: CheckpointerError) -> Self {
        match error {
            CheckpointerError::Checkpoint(error) => error.into(),
            CheckpointerError::Disk(error) => error.into(),
        }
    }
}

/// A request of the supervisor.
#[derive(Debug)]
pub enum Request {
    /// Make everything received durable, write the last checkpoint and end.
    Finish,
}

/// Writes checkpoints of one buffer directory. It is driven by [`run`](Self::run) on a thread of its own.
#[derive(Debug)]
pub struct Checkpointer {
    ledger: SharedLedger,
    log: Arc<Log>,
    file: CheckpointFile,
    confirm_after: ConfirmAfter,
    settled: watch::Sender<Option<Settled>>,
}

impl Checkpointer {
    /// A checkpointer for this ledger, log and file. It sends settled positions to `settled`.
    pub fn new(
        ledger: SharedLedger,
        log: Arc<Log>,
        file: CheckpointFile,
        confirm_after: ConfirmAfter,
        settled: watch::Sender<Option<Settled>>,
    ) -> Self {
        Self { ledger, log, file, confirm_after, settled }
    }

    /// Calls [`tick`](Self::tick) until the supervisor requests the end. Blocks: run it on a thread of its
    /// own. If the sender of `requests` is dropped, it ends without a last checkpoint, as after a crash.
    ///
    /// # Errors
    /// A write or fsync failed. Nothing more is settled.
    pub fn run(mut self, requests: &mpsc::Receiver<Request>) -> Result<(), CheckpointerError> {
        loop {
            match requests.recv_timeout(TICK) {
                Err(mpsc::RecvTimeoutError::Timeout) => self.tick()?,
                Err(mpsc::RecvTimeoutError::Disconnected) => return Ok(()),
                Ok(Request::Finish) => return self.finish(),
            }
        }
    }

    /// Fsyncs the log if that is due, and writes a checkpoint if anything changed. Call it once per [`TICK`].
    ///
    /// # Errors
    /// A write or fsync failed. Nothing more is settled.
    pub fn tick(&mut self) -> Result<(), CheckpointerError> {
        let due = self.ledger.lock().wants_sync(time::now());
        if due {
            self.hold()?;
        }
        self.write()
    }

    fn hold(&mut self) -> Result<(), CheckpointerError> {
        let boundary = self.ledger.lock().begin_sync();
        let tail = self.log.sync()?;
        self.ledger.lock().synced(boundary.unwrap_or_else(|| tail.into()));
        Ok(())
    }

    fn write(&mut self) -> Result<(), CheckpointerError> {
        let next = self.ledger.lock().prepare();
        let settled = if let Some(next) = next {
            self.file.write(&next)?;
            let (watermark, durable) = (next.watermark.frame, next.durable.frame);
            let settled = self.ledger.lock().written(next);
            self.log.show_durable(durable);
            self.log.reclaim(watermark)?;
            settled
        } else {
            self.ledger.lock().settled()
        };
        if settled.is_some() {
            self.settled.send_if_modified(|known| {
                let is_new = *known != settled;
                *known = settled;
                is_new
            });
        }
        Ok(())
    }

    /// A clean stop: fsyncs the log and notes it as durable, so that the next start continues after it. With
    /// `confirm_after = "never"` the source still has everything that is not published, so the fsync only
    /// matters for lanes that are ahead of the watermark.
    ///
    /// # Errors
    /// The same as those of [`tick`](Self::tick).
    pub fn finish(&mut self) -> Result<(), CheckpointerError> {
        if self.confirm_after != ConfirmAfter::Never || self.ledger.lock().has_loose_progress() {
            self.hold()?;
        }
        self.ledger.lock().stop();
        self.write()
    }
}
