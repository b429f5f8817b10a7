//! The keeper: the only one who writes the checkpoint, fsyncs the log and deletes segments.
//!
//! Once a second it looks at the ledger. The order of its acts is the promise: fsync the log, then note it as held; write
//! the checkpoint, then release segments and give out [`Settled`].

use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::checkpoint::{CheckpointError, CheckpointFile};
use super::disk::DiskError;
use super::ledger::{Settled, SharedLedger};
use super::log::Log;
use crate::config::ConfirmAfter;
use crate::failure::Failure;

/// How often the checkpoint is written, and Postgres told, at most. More often would cost an fsync each and gain nothing:
/// a repeat after a crash is at most this long.
const TICK: Duration = Duration::from_secs(1);

/// Metric: bytes of the log on disk.
pub const LOG_BYTES: &str = "forebay_log_bytes";
/// Metric: frames received and not published.
pub const LOG_UNPUBLISHED: &str = "forebay_log_frames_unpublished";

/// Why the keeper had to stop.
#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
    /// The checkpoint could not be written.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The log could not be fsynced, or a segment not deleted.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl From<KeeperError> for Failure {
    fn from(error: KeeperError) -> Self {
        match error {
            KeeperError::Checkpoint(error) => error.into(),
            KeeperError::Disk(error) => error.into(),
        }
    }
}

/// What the supervisor asks of it.
#[derive(Debug)]
pub enum Request {
    /// Hold what is received, write the last checkpoint and end.
    Finish,
}

/// See the module.
#[derive(Debug)]
pub struct Keeper {
    ledger: SharedLedger,
    log: Arc<Log>,
    file: CheckpointFile,
    confirm_after: ConfirmAfter,
    settled: watch::Sender<Option<Settled>>,
}

impl Keeper {
    /// A keeper of this ledger, log and file. What it settles is told through `settled`.
    pub fn new(
        ledger: SharedLedger,
        log: Arc<Log>,
        file: CheckpointFile,
        confirm_after: ConfirmAfter,
        settled: watch::Sender<Option<Settled>>,
    ) -> Self {
        Self { ledger, log, file, confirm_after, settled }
    }

    /// Ticks until it is asked to finish. Blocks: it has a thread of its own. If the other end is dropped, it ends without
    /// a last checkpoint, as a crash would.
    ///
    /// # Errors
    /// A failed write or fsync: nothing more is settled.
    pub fn run(mut self, requests: &mpsc::Receiver<Request>) -> Result<(), KeeperError> {
        loop {
            match requests.recv_timeout(TICK) {
                Err(mpsc::RecvTimeoutError::Timeout) => self.tick(Instant::now())?,
                Err(mpsc::RecvTimeoutError::Disconnected) => return Ok(()),
                Ok(Request::Finish) => return self.finish(),
            }
        }
    }

    fn tick(&mut self, now: Instant) -> Result<(), KeeperError> {
        let due = self.ledger.lock().wants_sync(now);
        if due {
            self.hold()?;
        }
        self.write()
    }

    fn hold(&mut self) -> Result<(), KeeperError> {
        let tail = self.log.sync()?;
        self.ledger.lock().synced(tail.into());
        Ok(())
    }

    fn write(&mut self) -> Result<(), KeeperError> {
        self.measure();
        let next = self.ledger.lock().prepare();
        let Some(next) = next else { return Ok(()) };
        self.file.write(&next)?;
        let low = next.low.frame;
        let settled = self.ledger.lock().written(next);
        self.log.release(low)?;
        if settled.is_some() {
            self.settled.send_replace(settled);
        }
        Ok(())
    }

    #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
    fn measure(&self) {
        let (tail, low) = {
            let ledger = self.ledger.lock();
            (ledger.tail().mark.frame, ledger.low().mark.frame)
        };
        metrics::gauge!(LOG_BYTES).set(self.log.bytes() as f64);
        metrics::gauge!(LOG_UNPUBLISHED).set(tail.0.saturating_sub(low.0) as f64);
    }

    /// A clean stop: the log is fsynced and noted as held, so that the next start goes on with it.
    fn finish(&mut self) -> Result<(), KeeperError> {
        if self.confirm_after != ConfirmAfter::Never {
            self.hold()?;
        }
        self.write()
    }
}
