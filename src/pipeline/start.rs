//! From a directory and a database to two loops that can run: the one path of start-up.

use std::path::Path;
use std::sync::Arc;

use crate::buffer::checkpoint::{Checkpoint, CheckpointError, CheckpointFile, Phase};
use crate::buffer::disk::{self, DirectoryLock};
use crate::buffer::ledger::{Ledger, SharedLedger};
use crate::buffer::log::{Log, LogConfig};
use crate::buffer::salvage;
use crate::buffer::scan::Scan;
use crate::buffer::writer::Writer;
use crate::config::{Config, ConfirmAfter};
use crate::failure::Failure;
use crate::pipeline::contract;
use crate::pipeline::database::{self, Unfit};
use crate::pipeline::recover::{self, LogState, Slot, Wanted};
use crate::position::{FrameNo, Lsn};
use crate::source::postgres::conninfo::Settings;
use crate::source::postgres::error::Error;
use crate::source::postgres::publication;
use crate::source::postgres::slot;
use crate::source::postgres::sql::Session;
use crate::translate::Translator;

/// The buffer directory, locked and looked at; nothing in it is changed yet.
#[derive(Debug)]
pub struct Directory {
    /// Held as long as the process lives.
    pub lock: DirectoryLock,
    /// The checkpoint file.
    pub file: CheckpointFile,
    /// What it says.
    pub checkpoint: Option<Checkpoint>,
    /// What the log says.
    pub scan: Scan,
    /// Whether there are any segments.
    pub any: bool,
    /// The setting in force.
    pub confirm_after: ConfirmAfter,
}

impl Directory {
    /// Makes the directory if it is not there, locks it, and reads checkpoint and log.
    ///
    /// # Errors
    /// Another process has it, the disk refuses, or the checkpoint is damaged.
    pub fn open(config: &Config) -> Result<Self, Failure> {
        Self::open_with(config, CheckpointFile::open)
    }

    /// As [`open`](Self::open), for a person who takes what is there: a checkpoint file without a valid slot is put aside,
    /// and a log without a checkpoint is taken as far as it can be read.
    ///
    /// # Errors
    /// Another process has it, or the disk refuses.
    pub fn open_to_adopt(config: &Config) -> Result<Self, Failure> {
        let mut directory = Self::open_with(config, |path| {
            CheckpointFile::put_damaged_aside(path)?;
            CheckpointFile::open(path)
        })?;
        if directory.checkpoint.is_none() && directory.any {
            let low = directory.scan.before_first();
            directory.scan = Log::scan(&config.buffer.dir, low, FrameNo(u64::MAX))?;
        }
        Ok(directory)
    }

    fn open_with(
        config: &Config,
        checkpoint: impl FnOnce(&Path) -> Result<(CheckpointFile, Option<Checkpoint>), CheckpointError>,
    ) -> Result<Self, Failure> {
        let path = &config.buffer.dir;
        disk::create_directory(path)?;
        let lock = DirectoryLock::acquire(path)?;
        let confirm_after = confirm_after(config, path);
        let (file, checkpoint) = checkpoint(path)?;
        let (low, held) =
            checkpoint.as_ref().map_or_else(Default::default, |found| (found.low, found.held.frame));
        let scan = Log::scan(path, low, held)?;
        let any = scan.any();
        Ok(Self { lock, file, checkpoint, scan, any, confirm_after })
    }

    /// Makes what the checkpoint says is held readable again, and returns how many frames had to be given up.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn salvage(&mut self, path: &Path) -> Result<u64, Failure> {
        let Some(found) = self.checkpoint.as_ref().filter(|_| self.scan.damage.is_some()) else {
            return Ok(0);
        };
        let lost = salvage::salvage(path, found.low.frame, found.held.frame)?;
        self.scan = Log::scan(path, found.low, found.held.frame)?;
        Ok(lost)
    }

    /// Writes a checkpoint, if it says something new.
    fn note(&mut self, checkpoint: &Checkpoint) -> Result<(), Failure> {
        if self.checkpoint.as_ref() != Some(checkpoint) {
            self.file.write(checkpoint)?;
            self.checkpoint = Some(checkpoint.clone());
        }
        Ok(())
    }

    /// For recovery.
    pub fn log_state(&self) -> LogState {
        let damage = self.scan.damage.as_ref().map(ToString::to_string);
        LogState { good: self.scan.good.mark(), damage, any: self.any }
    }
}

fn confirm_after(config: &Config, path: &Path) -> ConfirmAfter {
    let volatile = disk::is_volatile(path);
    let setting = config.buffer.confirm_after(volatile.is_some());
    if let (Some(kind), None) = (volatile, config.buffer.confirm_after_written) {
        tracing::warn!(
            directory = %path.display(), kind,
            "confirm_after is \"never\", because buffer.dir is on storage that may die with the machine or the container: during an \
             outage of the stream Postgres keeps the write-ahead log. Put buffer.dir on a disk, or write confirm_after = \"5s\" if it is one"
        );
    }
    setting
}

/// What the configuration wants of the database.
pub fn wanted(config: &Config, settings: &Settings) -> Wanted {
    Wanted {
        database: settings.database.clone(),
        slot: config.source.slot.clone(),
        publication: config.source.publication.clone(),
        source: config.source_urn(),
        never_written: config.buffer.confirm_after_written == Some(ConfirmAfter::Never),
        epoch_least: config.source.epoch,
    }
}

/// Everything the loops stand on.
#[derive(Debug)]
pub struct Started {
    /// Held as long as the process lives.
    pub lock: DirectoryLock,
    /// For the keeper.
    pub file: CheckpointFile,
    /// For both loops.
    pub ledger: SharedLedger,
    /// For both loops.
    pub log: Arc<Log>,
    /// For the ingest loop.
    pub writer: Writer,
    /// The setting in force.
    pub confirm_after: ConfirmAfter,
    /// Whether the database was asked; if not, its first answer is judged as at a start.
    pub asked: bool,
}

/// What was decided, and written to the checkpoint where it differs from what was found.
#[derive(Debug)]
pub struct Decided {
    checkpoint: Checkpoint,
    cut_after: FrameNo,
    asked: bool,
}

/// Whether this directory may begin before the database has answered, and how: see [`recover::alone`].
///
/// # Errors
/// It belongs to something else.
pub fn alone(
    config: &Config,
    settings: &Settings,
    directory: &Directory,
) -> Result<Option<recover::Start>, Failure> {
    let found = directory.checkpoint.as_ref();
    Ok(recover::alone(&wanted(config, settings), found, &directory.log_state())?)
}

/// Begins as [`alone`] has said.
///
/// # Errors
/// The checkpoint cannot be written.
pub fn decide_alone(directory: &mut Directory, start: recover::Start) -> Result<Decided, Failure> {
    directory.note(&start.checkpoint)?;
    Ok(Decided { checkpoint: start.checkpoint, cut_after: start.cut_after, asked: false })
}

/// Asks the database, decides, writes what the decision needs, and makes publication and slot on a first start. May be
/// called again after a failure that passes.
///
/// # Errors
/// A refusal (see [`recover`]), or anything that fails on the way; nothing is half done that the next start would not finish.
pub async fn decide(
    config: &Config,
    (settings, translator): (&Settings, &Translator),
    directory: &mut Directory,
) -> Result<Decided, Failure> {
    let wanted = wanted(config, settings);
    let mut session = Session::open(settings).await?;
    let seen = database::look(&mut session, settings, &wanted).await?;
    seen.check(&wanted)?;
    let planned = match (&seen.publication, &config.source.tables) {
        (Some(_), _) => Vec::new(),
        (None, Some(tables)) => tables.clone(),
        (None, None) => session.run(publication::candidate_tables).await?,
    };
    let published = contract::Published {
        name: &wanted.publication,
        facts: seen.publication.as_ref(),
        planned: &planned,
    };
    contract::check(&mut session, translator, &published).await?;
    let found = directory.checkpoint.as_ref();
    let start = recover::recover(&wanted, found, &directory.log_state(), seen.slot.as_ref(), &seen.server)?;
    let mut checkpoint = start.checkpoint;
    directory.note(&checkpoint)?;
    if start.create {
        checkpoint.told = make(config, &mut session, seen.publication.is_some(), seen.slot.as_ref()).await?;
        checkpoint.phase = Phase::Running;
        directory.note(&checkpoint)?;
    } else {
        seen.check_running(&wanted)?;
    }
    Ok(Decided { checkpoint, cut_after: start.cut_after, asked: true })
}

/// Makes what does not exist yet: the publication first, because a slot that is older than its publication cannot read what
/// was written between them. Returns where the slot begins.
///
/// # Errors
/// The role may not, or the server refuses.
pub async fn make(
    config: &Config,
    session: &mut Session,
    publication_exists: bool,
    slot: Option<&Slot>,
) -> Result<Lsn, Failure> {
    let source = &config.source;
    if !publication_exists {
        let tables = match source.tables.clone() {
            Some(tables) => {
                let findings =
                    session.run(async |client| publication::unfit_tables(client, &tables).await).await?;
                if !findings.is_empty() {
                    return Err(Failure::stop(Unfit(findings)));
                }
                tables
            }
            None => session.run(publication::candidate_tables).await?,
        };
        let made = session
            .run(async |client| {
                Ok::<_, Error>(publication::create_publication(client, &source.publication, &tables).await)
            })
            .await?;
        made.map_err(Failure::stop)?;
        let tables: Vec<String> = tables.iter().map(ToString::to_string).collect();
        tracing::info!(publication = source.publication, tables = tables.join(", "), "made the publication");
    }
    let confirmed = if let Some(slot) = slot {
        slot.confirmed
    } else {
        tracing::info!(slot = source.slot, "making the slot; this waits for running transactions to end");
        session
            .run_patiently(async |client| slot::create_slot(client, &source.slot, source.failover).await)
            .await?
    };
    tracing::info!(slot = source.slot, at = %confirmed, "the slot is ready");
    Ok(confirmed)
}

/// Drops a slot; only ever on a person's order.
///
/// # Errors
/// Somebody reads it, or the role may not.
pub async fn drop_slot(session: &mut Session, name: &str) -> Result<(), Failure> {
    session.run(async |client| slot::drop_slot(client, name).await).await?;
    tracing::info!(slot = name, "dropped the slot");
    Ok(())
}

/// Cuts the log as decided and hands everything to its owner.
///
/// # Errors
/// The disk refuses.
pub fn open(config: &Config, directory: Directory, decided: Decided) -> Result<Started, Failure> {
    let layout = LogConfig::new(&config.buffer.dir, config.buffer.max_size);
    let Directory { lock, file, scan, confirm_after, .. } = directory;
    let (log, writer) = Log::open(layout, decided.cut_after, scan)?;
    let ledger = SharedLedger::new(Ledger::new(decided.checkpoint, confirm_after));
    Ok(Started { lock, file, ledger, log, writer, confirm_after, asked: decided.asked })
}
