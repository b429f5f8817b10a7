//! The buffer directory at a start: it is locked, read, and opened as recovery has decided.

use std::sync::Arc;
use std::time::Duration;

use crate::buffer::checkpoint::{Checkpoint, CheckpointError, CheckpointFile, Phase};
use crate::buffer::disk::{Directory, DirectoryLock};
use crate::buffer::ledger::{Ledger, SharedLedger};
use crate::buffer::log::{Log, LogConfig};
use crate::buffer::salvage;
use crate::buffer::scan::Scan;
use crate::buffer::writer::Writer;
use crate::config::{Config, ConfirmAfter};
use crate::failure::Failure;
use crate::pipeline::start::recover::{LogState, Start};
use crate::position::{FrameNo, Transaction};

/// Whose turn it is to read a source that several processes read one at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceTurn {
    /// This process reads it.
    Own,
    /// Another process reads it. This one waits until the other has ended.
    Waits,
}

/// The buffer directory, locked and read. Nothing in it is changed yet.
#[derive(Debug)]
pub struct LockedDirectory {
    /// The open directory.
    pub directory: Directory,
    /// Keeps the directory locked as long as the process lives.
    pub lock: DirectoryLock,
    /// The checkpoint file.
    pub file: CheckpointFile,
    /// Its checkpoint.
    pub checkpoint: Option<Checkpoint>,
    /// The state of the log.
    pub scan: Scan,
    /// Whether there are any segments.
    pub any: bool,
    /// The last transaction in the log and its epoch, durable or not. Read only after an unclean stop.
    pub seen: Option<(u16, Transaction)>,
    /// Whether the last stop was clean.
    pub clean: bool,
    /// Whose turn it is to read the source.
    pub turn: SourceTurn,
    /// Whether this process has written a checkpoint.
    noted: bool,
    /// `buffer.confirm_after`, as recovery applies it.
    pub confirm_after: ConfirmAfter,
}

impl LockedDirectory {
    /// Creates the directory if it does not exist, locks it, and reads checkpoint and log.
    ///
    /// # Errors
    /// Another process uses it, the disk fails, or the checkpoint is damaged.
    pub fn open(config: &Config) -> Result<Self, Failure> {
        let directory = Directory::create(&config.buffer.dir)?;
        let lock = DirectoryLock::acquire(&directory)?;
        Self::read(config, directory, lock)
    }

    /// Reads checkpoint and log of a directory that is locked already.
    ///
    /// # Errors
    /// The disk fails, or the checkpoint is damaged.
    pub fn read(config: &Config, directory: Directory, lock: DirectoryLock) -> Result<Self, Failure> {
        Self::read_with(config, (directory, lock), CheckpointFile::open)
    }

    /// Like [`open`](Self::open), but for an adoption: a checkpoint file without a valid copy is renamed, and
    /// a log without a checkpoint is used as far as it can be read.
    ///
    /// # Errors
    /// Another process uses it, or the disk fails.
    pub fn open_to_adopt(config: &Config) -> Result<Self, Failure> {
        let directory = Directory::create(&config.buffer.dir)?;
        let lock = DirectoryLock::acquire(&directory)?;
        let mut locked = Self::read_with(config, (directory, lock), |directory| {
            CheckpointFile::put_damaged_aside(directory)?;
            CheckpointFile::open(directory)
        })?;
        if locked.checkpoint.is_none() && locked.any {
            let watermark = locked.scan.before_first();
            locked.scan = Log::scan(&locked.directory, watermark, FrameNo(u64::MAX))?;
        }
        Ok(locked)
    }

    fn read_with(
        config: &Config,
        (directory, lock): (Directory, DirectoryLock),
        checkpoint: impl FnOnce(&Directory) -> Result<(CheckpointFile, Option<Checkpoint>), CheckpointError>,
    ) -> Result<Self, Failure> {
        let confirm_after = confirm_after(config, &directory);
        let (file, checkpoint) = checkpoint(&directory)?;
        let (watermark, durable) =
            checkpoint.as_ref().map_or_else(Default::default, |found| (found.watermark, found.durable.frame));
        let scan = Log::scan(&directory, watermark, durable)?;
        let any = scan.any();
        let clean = checkpoint.as_ref().is_none_or(|found| found.clean);
        let seen = if clean { None } else { Log::last_seen(&directory)? };
        Ok(Self {
            directory,
            lock,
            file,
            checkpoint,
            scan,
            any,
            seen,
            clean,
            turn: SourceTurn::Own,
            noted: false,
            confirm_after,
        })
    }

    /// Repairs the log so that recovery can read it, and returns how many durable frames were lost.
    ///
    /// # Errors
    /// The disk fails.
    pub fn salvage(&mut self) -> Result<u64, Failure> {
        let Some(found) = self.checkpoint.as_ref().filter(|_| self.scan.damage.is_some()) else {
            return Ok(0);
        };
        let lost = salvage::salvage(&self.directory, found.watermark.frame, found.durable.frame)?;
        self.scan = Log::scan(&self.directory, found.watermark, found.durable.frame)?;
        Ok(lost)
    }

    /// The epoch of the checkpoint; without one, that of the last readable change.
    pub fn known_epoch(&self) -> u16 {
        let in_log = || self.scan.good.position.map_or(0, |position| position.epoch);
        self.checkpoint.as_ref().map_or_else(in_log, |found| found.epoch)
    }

    /// Whether nothing was ever received into this directory.
    pub fn is_first_start(&self) -> bool {
        self.checkpoint.as_ref().is_none_or(|found| found.phase == Phase::Creating)
    }

    /// Writes a checkpoint if it differs from the current one. The first one of a process is always written:
    /// after a failed fsync, the one that was read may be only in the page cache.
    ///
    /// # Errors
    /// The checkpoint cannot be written.
    pub fn note(&mut self, checkpoint: &Checkpoint) -> Result<(), Failure> {
        if !self.noted || self.checkpoint.as_ref() != Some(checkpoint) {
            self.file.write(checkpoint)?;
            self.noted = true;
            self.checkpoint = Some(checkpoint.clone());
        }
        Ok(())
    }

    /// The state of the log as input of [`recover`](super::recover).
    pub fn log_state(&self) -> LogState {
        log_state(&self.scan, self.any, self.seen)
    }
}

fn log_state(scan: &Scan, any: bool, seen: Option<(u16, Transaction)>) -> LogState {
    LogState { good: scan.good.mark(), damage: scan.damage.as_ref().map(ToString::to_string), any, seen }
}

/// Reads checkpoint and log like a start does, but without the lock, and changes nothing. Reads all durable,
/// unpublished frames.
///
/// # Errors
/// The checkpoint is damaged, the disk fails, or a process changes the directory meanwhile.
pub fn peek(directory: &Directory) -> Result<(Option<Checkpoint>, LogState), Failure> {
    let checkpoint = CheckpointFile::peek(directory)?.checkpoint;
    let (watermark, durable) =
        checkpoint.as_ref().map_or_else(Default::default, |found| (found.watermark, found.durable.frame));
    let scan = Log::scan(directory, watermark, durable)?;
    let clean = checkpoint.as_ref().is_none_or(|found| found.clean);
    let seen = if clean { None } else { Log::last_seen(directory)? };
    let any = scan.any();
    Ok((checkpoint, log_state(&scan, any, seen)))
}

fn confirm_after(config: &Config, directory: &Directory) -> ConfirmAfter {
    let volatile = directory.volatile_kind();
    let setting = config.buffer.confirm_after(volatile.is_some());
    let polls = config.source.polling.is_some();
    if let (Some(kind), None, false) = (volatile, config.buffer.confirm_after_written, polls) {
        tracing::warn!(
        event = "buffer_on_volatile_storage",
                    directory = %directory.path().display(), kind,
                    hint = "Put buffer.dir on a disk that outlives the process. If it is one, set confirm_after = \"5s\".",
                    "confirm_after defaults to \"never\": buffer.dir is on volatile storage, so a stream outage retains WAL in PostgreSQL"
                );
    }
    setting
}

/// Everything that the loops need.
#[derive(Debug)]
pub struct Started {
    /// Keeps the directory locked as long as the process lives.
    pub lock: DirectoryLock,
    /// For the checkpointer.
    pub file: CheckpointFile,
    /// For both loops.
    pub ledger: SharedLedger,
    /// For both loops.
    pub log: Arc<Log>,
    /// For the ingest loop.
    pub writer: Writer,
    /// The setting in force.
    pub confirm_after: ConfirmAfter,
    /// Whether the source was checked. If not, its first connection is checked like a start.
    pub checked: bool,
    /// How to remove what this process has created on the source's side; `None` if it has created nothing.
    pub removal: Option<String>,
}

/// What recovery has decided. If the checkpoint changed, it is written already.
#[derive(Debug)]
pub struct Decided {
    /// The checkpoint to begin with.
    pub checkpoint: Checkpoint,
    /// All frames after this one are truncated.
    pub truncate_after: FrameNo,
    /// Like [`Started::checked`].
    pub checked: bool,
    /// Like [`Started::removal`].
    pub removal: Option<String>,
}

/// Starts without the source, as [`alone`](crate::pipeline::start::recover::alone) has decided.
///
/// # Errors
/// The checkpoint cannot be written.
pub fn decide_alone(directory: &mut LockedDirectory, start: Start) -> Result<Decided, Failure> {
    directory.note(&start.checkpoint)?;
    Ok(Decided {
        checkpoint: start.checkpoint,
        truncate_after: start.truncate_after,
        checked: false,
        removal: None,
    })
}

/// Truncates the log as decided, and creates what the loops need.
///
/// # Errors
/// The disk fails.
pub fn open(config: &Config, locked: LockedDirectory, decided: Decided) -> Result<Started, Failure> {
    let LockedDirectory { directory, lock, file, scan, clean, mut confirm_after, .. } = locked;
    // A polled source cannot send a change again. It is resumed exactly after the last durable change, and
    // only durable changes are published.
    let resumes_exactly = config.source.polling.is_some();
    if resumes_exactly {
        confirm_after = ConfirmAfter::Waited(Duration::ZERO);
    }
    let durable = decided.checkpoint.durable.frame;
    let layout = LogConfig::new(directory, config.buffer.max_size);
    let (log, writer) = Log::open(layout, decided.truncate_after, scan)?;
    let mut ledger = Ledger::new(decided.checkpoint, confirm_after);
    if resumes_exactly {
        ledger = ledger.resuming_exactly();
        log.show_only_durable(durable);
    }
    if !clean {
        ledger.note_unclean_stop();
    }
    let ledger = SharedLedger::new(ledger);
    Ok(Started {
        lock,
        file,
        ledger,
        log,
        writer,
        confirm_after,
        checked: decided.checked,
        removal: decided.removal,
    })
}
