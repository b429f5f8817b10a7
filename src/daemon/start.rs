//! The start of the process: examines the database, decides, and creates publication and slot at a first
//! start.

use postgres_protocol::escape::escape_literal;

use crate::buffer::checkpoint::Phase;
use crate::config::{self, Config, ConfirmAfter};
use crate::daemon::polled::PolledDatabase;
use crate::daemon::recover::StartRefusal;
use crate::daemon::{audit, contract, polling, recover, takeover};
use crate::failure::Failure;
use crate::identity::Identity;
use crate::pipeline::start::recover::Start;
use crate::pipeline::start::{Decided, LockedDirectory};
use crate::position::CommitSeq;
use crate::source::postgres::admit::{self, Wanted};
use crate::source::postgres::conninfo::Settings;
use crate::source::postgres::inspect::{self, Seen};
use crate::source::postgres::session::Session;
use crate::source::postgres::tables::TableHistory;
use crate::source::postgres::{create, publication};
use crate::translate::Translator;

/// The configuration of the database, resolved once.
#[derive(Clone, Debug)]
pub struct Database {
    /// The connection settings.
    pub settings: Settings,
    /// The expected identity of database, slot and publication.
    pub wanted: Wanted,
    /// How publication and slot are created.
    pub source: config::SourceConfig,
    /// The configuration of polling; `None`: the source is a replication slot.
    pub polled: Option<PolledDatabase>,
}

impl Database {
    /// Reads the password from its source.
    ///
    /// # Errors
    /// The URL is invalid, or a password file cannot be used.
    pub fn new(config: &Config) -> Result<Self, Failure> {
        let settings = inspect::settings(config).map_err(Failure::stop)?;
        let wanted = wanted(config, &settings);
        let polled = PolledDatabase::new(config, &settings);
        Ok(Self { settings, wanted, source: config.source.clone(), polled })
    }
}

/// The configured identity.
fn wanted(config: &Config, settings: &Settings) -> Wanted {
    Wanted {
        database: settings.database.clone(),
        slot: config.source.slot.clone(),
        publication: config.source.publication.clone(),
        source: config.source_urn(),
        never_written: config.buffer.confirm_after_written == Some(ConfirmAfter::Never),
        epoch_least: config.source.epoch,
        at: crate::time::now_micros(),
    }
}

/// Decides whether and how this directory may begin before the database has responded: see
/// [`recover::alone`].
///
/// # Errors
/// The directory belongs to another source or stream.
pub fn alone(database: &Database, directory: &LockedDirectory) -> Result<Option<Start>, Failure> {
    if let Some(polled) = &database.polled {
        return polling::alone(polled, directory);
    }
    // There is nothing to publish, and another process may be reading the slot.
    if takeover::directory_begins_anew(&database.wanted, directory) {
        return Ok(None);
    }
    recover::alone(&database.wanted, directory.checkpoint.as_ref(), &directory.log_state())
        .map_err(|refusal| in_directory(refusal, directory))
}

/// Checks that a directory belongs to the configured source.
///
/// # Errors
/// It belongs to another one.
pub fn check_identity(database: &Database, found: &Identity) -> Result<(), Failure> {
    if let Some(polled) = &database.polled {
        return Ok(polling::known_source(polled, found).map(drop)?);
    }
    Ok(admit::check_identity(&database.wanted, found)?)
}

/// Adds the path to a refusal, because often another directory was intended.
fn in_directory(refusal: StartRefusal, directory: &LockedDirectory) -> Failure {
    Failure::from(refusal)
        .with_more_detail(&format!("The directory is {}.", directory.directory.path().display()))
}

/// Checks the database, decides, writes the checkpoint, and creates publication and slot at a first start.
/// May be called again after a failure that may pass. `report_wait` receives the transactions that it waits
/// for.
///
/// # Errors
/// A refusal (see [`recover`]), or a failed step. The next start completes what was begun.
pub async fn decide(
    database: &Database,
    translator: &Translator,
    directory: &mut LockedDirectory,
    report_wait: &dyn Fn(String),
) -> Result<Decided, Failure> {
    let Database { settings, wanted, source, polled } = database;
    if let Some(polled) = polled {
        return polling::decide(polled, translator, directory).await;
    }
    // No epoch is used twice, even if the checkpoint is lost.
    let audited = audit::audited_epoch(&directory.directory)?;
    let epoch_least = wanted.epoch_least.max(audited);
    let wanted = Wanted { epoch_least, at: crate::time::now_micros(), ..wanted.clone() };
    let mut session = Session::open(settings).await?;
    let seen = takeover::look_in_turn((&mut session, settings), &wanted, directory, report_wait).await?;
    create::check_failover(source, &seen.facts)?;
    let planned = match (&seen.publication, &source.tables) {
        (Some(_), _) => Vec::new(),
        (None, Some(tables)) => tables.clone(),
        (None, None) => session.run(publication::identity::candidate_tables).await?,
    };
    let published = contract::Published {
        name: &wanted.publication,
        facts: seen.publication.as_ref(),
        planned: &planned,
        polled: None,
        history: TableHistory::open(
            &directory.directory,
            (&settings.database, directory.known_epoch()),
            &translator.settings().pii,
        )
        .copy_for(&seen.server.system_id),
    };
    contract::check(&mut session, translator, &published).await?;
    let found = directory.checkpoint.as_ref();
    let found_nothing = found.is_none();
    let start = recover::recover(&wanted, found, &directory.log_state(), seen.slot.as_ref(), &seen.server)
        .map_err(|refusal| in_directory(refusal, directory))?;
    let mut checkpoint = start.checkpoint;
    if start.new_epoch {
        audit::audit_epoch(&directory.directory, &checkpoint)?;
    }
    directory.note(&checkpoint)?;
    if start.new_epoch {
        tracing::warn!(
            event = "epoch_begun",
            epoch = checkpoint.epoch,
            slot_at = %checkpoint.ever_confirmed,
            "history could not be proven to continue; beginning a new epoch with a gap event"
        );
    }
    if start.create {
        if found_nothing && seen.publication.is_some() {
            tracing::info!(
                event = "publication_taken_over",
                publication = wanted.publication,
                "publication exists without a slot; continuing as a first start"
            );
        }
        let noted = |at: CommitSeq| {
            checkpoint.ever_confirmed = at.into();
            directory.note(&checkpoint)
        };
        checkpoint.ever_confirmed =
            create::create(source, (&mut session, settings), &seen, seen.slot.as_ref(), (noted, report_wait))
                .await?
                .into();
        checkpoint.phase = Phase::Running;
        directory.note(&checkpoint)?;
    } else {
        seen.check_running(&wanted)?;
    }
    let removal = start.create.then(|| removal(&wanted, &seen)).flatten();
    Ok(Decided { checkpoint, truncate_after: start.truncate_after, checked: true, removal })
}

/// SQL that removes what a first start has created. A slot or a publication that existed before is not
/// included.
fn removal(wanted: &Wanted, before: &Seen) -> Option<String> {
    let slot = before.slot.is_none().then(|| escape_literal(&wanted.slot))?;
    let drop_slot = format!("SELECT pg_drop_replication_slot({});", slot.trim_start());
    Some(if before.publication.is_some() {
        drop_slot
    } else {
        let publication = publication::escape_identifier(&wanted.publication);
        format!("{drop_slot} DROP PUBLICATION {publication};")
    })
}
