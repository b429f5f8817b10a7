//! The start of the process, up to what its threads need.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tracing::field::display;

use crate::backoff;
use crate::config::Config;
use crate::daemon::start::{self, Database};
use crate::daemon::takeover;
use crate::dead_letter::overview;
use crate::failure::Failure;
use crate::identity::Identity;
use crate::pipeline::Phase;
use crate::pipeline::attempts::pauses;
use crate::pipeline::dead_letter::worker::WorkerParts;
use crate::pipeline::dead_letter::{DeadLetterWorker, Quarantine};
use crate::pipeline::ingest::append::frame_max;
use crate::pipeline::start::{LockedDirectory, Started, directory};
use crate::pipeline::status::Status;
use crate::position::Position;
use crate::sink::kinesis::{self, KinesisDestination};
use crate::source::postgres::tables::TableHistory;
use crate::translate::Translator;

/// How long a start waits for the database before it publishes durable changes without it.
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);

/// The configuration, resolved once for the whole process.
#[derive(Clone)]
pub(super) struct Setup {
    pub(super) config: Config,
    pub(super) database: Database,
    pub(super) status: Status,
    /// Random number of this process, by which it recognises its own heartbeats.
    pub(super) process: u64,
}

/// Opens the directory, checks the database, and opens the dead-letter file. Reads the log and the
/// unpublished dead letters, which can take minutes.
pub(super) async fn start_up(
    setup: &Setup,
    translator: &Translator,
    phase: watch::Receiver<Phase>,
) -> Result<Assembly, Failure> {
    let Setup { config, database, status, .. } = setup;
    let report_wait = |waits: &str| status.ingest(|part| part.error = Some(waits.to_owned()));
    let is_ours = |found: &Identity| start::check_identity(database, found).is_ok();
    let (directory, lock) = takeover::lock_in_turn(&config.buffer.dir, is_ours, report_wait).await?;
    report_wait("the start reads the buffer directory");
    let directory = LockedDirectory::read(config, directory, lock)?;
    if directory.is_first_start() {
        // Checks without the server are made before publication and slot are created.
        let made = KinesisDestination::new(&kinesis::Settings::from(&config.kinesis)).await;
        drop(made.map_err(Failure::stop)?);
    }
    let started = until_started(setup, translator, directory).await?;
    let (directory, ledger) = (started.log.config().directory.clone(), started.ledger.clone());
    let (quarantine, inbox) = Quarantine::new(directory.clone(), ledger.clone(), config.on_poison);
    let epoch = ledger.lock().checkpoint().epoch;
    let tables = TableHistory::open(&directory, (&database.settings.database, epoch), &config.pii);
    let translator = translator.of_epoch(epoch);
    let from = ledger.lock().letters_from();
    let quarantined = overview::quarantined_changes(&directory, from, started.writer.tail().position)?;
    // Opened before any loop can pass the records of its letters.
    let worker = DeadLetterWorker::open(WorkerParts {
        directory,
        ledger,
        translator: translator.of_epoch(epoch),
        source: Arc::new(tables.clone()),
        limit: frame_max(&started.log),
        max_size: config.buffer.max_dead_letter_size,
        inbox,
        phase,
    })?;
    Ok(Assembly { started, quarantine, quarantined, worker, tables, translator })
}

/// Everything that the threads need.
pub(super) struct Assembly {
    pub(super) started: Started,
    pub(super) quarantine: Quarantine,
    /// Changes beyond the log's end that are dead letters already: the types of their events, or an empty
    /// list for a whole change.
    pub(super) quarantined: BTreeMap<Position, Vec<String>>,
    pub(super) worker: DeadLetterWorker,
    pub(super) tables: TableHistory,
    /// For the epoch that the process began with.
    pub(super) translator: Translator,
}

async fn until_started(
    setup: &Setup,
    translator: &Translator,
    mut directory: LockedDirectory,
) -> Result<Started, Failure> {
    let Setup { config, database, status, .. } = setup;
    let starting = "still checking the database; creating a slot waits for running transactions";
    status.ingest(|part| part.error = Some(starting.to_owned()));
    let report_wait = |waits: String| status.ingest(|part| part.error = Some(waits));
    let mut alone = start::alone(database, &directory)?;
    let mut pauses = pauses(backoff::seed());
    loop {
        let attempt = start::decide(database, translator, &mut directory, &report_wait);
        let decided = if alone.is_some() {
            let silent = || Failure::retry(format!("the database did not respond within {ANSWERS_WITHIN:?}"));
            tokio::time::timeout(ANSWERS_WITHIN, attempt).await.unwrap_or_else(|_| Err(silent()))
        } else {
            attempt.await
        };
        match decided {
            Ok(decided) => return directory::open(config, directory, decided),
            Err(Failure::Retry(error)) => {
                let error = Failure::Retry(error);
                status.ingest(|part| part.error = Some(error.to_string()));
                if let Some(start) = alone.take() {
                    let problem = error.problem();
                    let (detail, hint) = (problem.detail().map(display), problem.hint().map(display));
                    tracing::warn!(
                        event = "database_unavailable", error = %problem.primary(), detail, hint,
                        "database unavailable; publishing buffered events while retrying"
                    );
                    let decided = directory::decide_alone(&mut directory, start)?;
                    return directory::open(config, directory, decided);
                }
                let pause = pauses.failed();
                let problem = error.problem();
                let (detail, hint) = (problem.detail().map(display), problem.hint().map(display));
                tracing::warn!(
                    event = "start_retried", error = %problem.primary(), detail, hint, retry_in = ?pause, "cannot start yet"
                );
                tokio::time::sleep(pause).await;
            }
            Err(failure) => return Err(failure),
        }
    }
}
