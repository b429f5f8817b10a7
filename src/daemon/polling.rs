//! A polled PostgreSQL as a [`Connector`], and the start with such a source.

use std::sync::Arc;
use std::time::Duration;

use crate::buffer::checkpoint::Checkpoint;
use crate::buffer::disk::Directory;
use crate::change::Relation;
use crate::config::{Config, ConfirmAfter, PollingStart, TableName};
use crate::daemon::polled::{DescribedTables, PolledDatabase, describe};
use crate::daemon::{audit, contract};
use crate::diagnosis::Diagnosis;
use crate::failure::Failure;
use crate::identity::{Identity, PollingIdentity, SourceIdentity};
use crate::pipeline::start::directory::peek;
use crate::pipeline::start::recover::{self, LogState, Start};
use crate::pipeline::start::{Decided, LockedDirectory};
use crate::pipeline::status::Status;
use crate::position::CommitSeq;
use crate::source::postgres::inspect;
use crate::source::postgres::polling::flushed::FlushedHorizon;
use crate::source::postgres::polling::page;
use crate::source::postgres::polling::progress::PollProgress;
use crate::source::postgres::polling::server::{PollRefusal, PolledServer, ServerAdmission};
use crate::source::postgres::polling::table::{PolledTable, Subject};
use crate::source::postgres::polling::{PollingSource, SharedPollState};
use crate::source::postgres::session::Session;
use crate::source::postgres::tables::{Survey, TableHistory};
use crate::source::{Connected, Connector, Resumption};
use crate::translate::Translator;

/// How often a first start checks whether the server has flushed the end of all ended transactions. Usually
/// it does so within a second.
const FLUSHED_LOOKS: u32 = 150;
const FLUSHED_PAUSE: Duration = Duration::from_millis(200);

/// Decides whether and how this directory may begin before the database has responded: see
/// [`recover::alone`].
///
/// # Errors
/// The directory belongs to another source, or is lost with the process.
pub fn alone(database: &PolledDatabase, directory: &LockedDirectory) -> Result<Option<Start>, Failure> {
    check_storage(directory.confirm_after, &directory.directory)?;
    if let Some(found) = &directory.checkpoint {
        known_source(database, &found.identity)?;
        PollProgress::read(&found.ever_confirmed).map_err(|reason| PollRefusal::Checkpoint { reason })?;
    }
    Ok(recover::alone(directory.checkpoint.as_ref(), &directory.log_state()))
}

/// Checks that the directory outlives the process: only durable rows are published.
fn check_storage(confirm_after: ConfirmAfter, directory: &Directory) -> Result<(), PollRefusal> {
    if confirm_after == ConfirmAfter::Never {
        let kind = directory.volatile_kind().unwrap_or("a volatile file system").to_owned();
        return Err(PollRefusal::Volatile { kind });
    }
    Ok(())
}

/// The decision of a start with this directory, for `forebay check`. Changes nothing.
///
/// # Errors
/// The reason why a start would be refused.
pub fn foresee(
    config: &Config,
    database: &PolledDatabase,
    directory: Option<&Directory>,
    server: &PolledServer,
) -> Result<String, Failure> {
    let mut epoch_least = database.epoch_least;
    let (mut checkpoint, mut log) = Default::default();
    if let Some(directory) = directory {
        check_storage(config.buffer.confirm_after(directory.volatile_kind().is_some()), directory)?;
        epoch_least = epoch_least.max(audit::audited_epoch(directory)?);
        (checkpoint, log) = peek(directory)?;
    }
    let known = recover::known(checkpoint.as_ref(), &log)?;
    let is_first = known.is_none();
    let first = PollProgress::first(None);
    let epoch = decide_start(database, known, &log, (server, epoch_least, first))?.checkpoint.epoch;
    Ok(match database.polling.start {
        _ if !is_first => format!("continues where it stopped, in epoch {epoch}"),
        PollingStart::Now => "a first start: it publishes rows that are written from then on".to_owned(),
        PollingStart::Beginning => {
            "a first start: it publishes the rows that exist, then new ones".to_owned()
        }
    })
}

/// The polled source in the checkpoint of a directory.
///
/// # Errors
/// The directory belongs to another source.
pub fn known_source<'a>(
    database: &PolledDatabase,
    found: &'a Identity,
) -> Result<&'a PollingIdentity, PollRefusal> {
    let SourceIdentity::Polling(identity) = &found.source else {
        return Err(PollRefusal::OtherKind { known: found.source.mode().to_owned() });
    };
    for (what, known, now) in
        [("database", &identity.database, &database.database), ("source (name)", &found.name, &database.name)]
    {
        if known != now {
            return Err(PollRefusal::Identity { what, known: known.clone(), now: now.clone() });
        }
    }
    Ok(identity)
}

/// Checks the database and decides, like `daemon::start` for a slot.
///
/// # Errors
/// A refusal, or a failed step.
pub async fn decide(
    database: &PolledDatabase,
    translator: &Translator,
    directory: &mut LockedDirectory,
) -> Result<Decided, Failure> {
    let mut session = Session::open(&database.settings).await?;
    let pii = &translator.settings().pii;
    let history =
        TableHistory::open(&directory.directory, (&database.database, directory.known_epoch()), pii);
    let described = describe(&mut session, database, &|_| {}).await?;
    described.server.check()?;
    check(&mut session, translator, &described, &history).await?;
    let (log, server) = (directory.log_state(), &described.server);
    let known = recover::known(directory.checkpoint.as_ref(), &log)?;
    let epoch_least = database.epoch_least.max(audit::audited_epoch(&directory.directory)?);
    let first = match database.polling.start {
        PollingStart::Now if known.is_none() => Some(flushed_horizon(&mut session).await?),
        _ => None,
    };
    let start = decide_start(database, known, &log, (server, epoch_least, PollProgress::first(first)))?;
    directory.note(&start.checkpoint)?;
    Ok(Decided {
        checkpoint: start.checkpoint,
        truncate_after: start.truncate_after,
        checked: true,
        removal: None,
    })
}

/// The oldest running transaction, once the end of every earlier transaction is flushed on the server.
async fn flushed_horizon(session: &mut Session) -> Result<u64, Failure> {
    let mut flushed = FlushedHorizon::default();
    for _ in 0..FLUSHED_LOOKS {
        let horizon = flushed.observe(&session.run(page::look).await?);
        if horizon > 0 {
            return Ok(horizon);
        }
        tokio::time::sleep(FLUSHED_PAUSE).await;
    }
    Err(Failure::retry("the server has not flushed its write-ahead log for 30 s"))
}

/// The part of the decision without I/O.
fn decide_start(
    database: &PolledDatabase,
    known: Option<Checkpoint>,
    log: &LogState,
    (server, epoch_least, first): (&PolledServer, u16, PollProgress),
) -> Result<Start, Failure> {
    let (identity, resumes_at) = match &known {
        None => (server.identity(), CommitSeq::ZERO),
        Some(found) => {
            let identity = known_source(database, &found.identity)?;
            let progress = PollProgress::read(&found.ever_confirmed)
                .map_err(|reason| PollRefusal::Checkpoint { reason })?;
            let identity = admitted(server, identity, &progress)?;
            // Nothing that was read can be read again.
            (identity, CommitSeq::new(found.ever_confirmed.seq().get().saturating_add(1)))
        }
    };
    let admission = Resumption {
        source: SourceIdentity::Polling(identity),
        name: database.name.clone(),
        create: false,
        resumes_at,
        expect: None,
        unproven: None,
        epoch_least,
    };
    let is_first = known.is_none();
    let mut start = recover::recover(known, log, admission, crate::time::now_micros())?;
    if is_first {
        start.checkpoint.ever_confirmed =
            first.resume_point().ok_or_else(|| Failure::stop("the first resume point is too long"))?;
    }
    Ok(start)
}

/// The known source, with the timeline of the server that continues it.
fn admitted(
    server: &PolledServer,
    known: &PollingIdentity,
    progress: &PollProgress,
) -> Result<PollingIdentity, PollRefusal> {
    let mut identity = known.clone();
    if server.admit(known, progress)? == ServerAdmission::Follows {
        identity.timeline = server.timeline;
        tracing::info!(
            event = "timeline_followed",
            before = known.timeline,
            now = server.timeline,
            "server is on a later timeline, which has everything that was read"
        );
    }
    Ok(identity)
}

/// Checks tables, rules and contracts.
///
/// # Errors
/// A table cannot be polled, or a rule or a contract does not fit.
pub(super) async fn check(
    session: &mut Session,
    translator: &Translator,
    described: &DescribedTables,
    history: &TableHistory,
) -> Result<(), Failure> {
    if !described.found.is_empty() {
        return Err(inspect::unfit(described.found.clone()));
    }
    let pii = &translator.settings().pii;
    let mut personal = Vec::new();
    for table in &described.tables {
        let relation = &table.relation;
        let key = relation.primary_key.iter().filter_map(|at| relation.columns.get(*at));
        for column in key.filter(|column| pii.tags_column(relation, column)) {
            personal.push(
                Diagnosis::blocker(
                    format!("table {}", table.name),
                    format!("its key column {} holds personal data, and the ids of polled events are made of the key", column.name),
                )
                .with_hint("Do not poll this table, or give it another primary key."),
            );
        }
    }
    if !personal.is_empty() {
        return Err(inspect::unfit(personal));
    }
    let names: Vec<TableName> = described.tables.iter().map(|table| table.name.clone()).collect();
    let published = contract::Published {
        name: "",
        facts: None,
        planned: &names,
        polled: Some(&described.tables),
        history: history.copy_for(&described.server.system_id),
    };
    contract::check(session, translator, &published).await
}

/// What connections need and what outlives them.
pub struct PollingConnector {
    /// The database that is polled.
    pub database: PolledDatabase,
    /// The rules, which are checked against the tables.
    pub translator: Translator,
    /// Where polls report.
    pub status: Status,
    /// The stored definitions of tables, for personal data.
    pub tables: TableHistory,
    /// Whether the server was checked since the process started. The first check is as strict as that of a
    /// start.
    pub checked: bool,
    /// The state of polling; `None` before the first connection.
    pub state: Option<SharedPollState>,
}

impl std::fmt::Debug for PollingConnector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PollingConnector").field("checked", &self.checked).finish_non_exhaustive()
    }
}

impl Connector for PollingConnector {
    type Source = PollingSource;

    async fn connect(&mut self, known: impl Fn() -> Checkpoint) -> Result<Connected<PollingSource>, Failure> {
        let known = known();
        let identity = known_source(&self.database, &known.identity)?;
        let is_first = self.state.is_none();
        let state = if let Some(state) = &self.state {
            state.clone()
        } else {
            let progress = PollProgress::read(&known.ever_confirmed)
                .map_err(|reason| PollRefusal::Checkpoint { reason })?;
            self.state.insert(SharedPollState::new(progress)).clone()
        };
        let mut session = Session::open_for_rows(&self.database.settings).await?;
        self.survey(&mut session, &identity.system_id).await;
        let tag = |relation: &mut Relation| self.tables.tag(relation);
        let described = describe(&mut session, &self.database, &tag).await?;
        let identity = admitted(&described.server, identity, &state.progress())?;
        if !self.checked {
            described.server.check()?;
            check(&mut session, &self.translator, &described, &self.tables).await?;
        } else if !described.found.is_empty() {
            // A migration may be running, so this is retried.
            return Err(Failure::retry(inspect::unusable_for(described.found)));
        }
        self.checked = true;
        if is_first {
            described.tables.iter().for_each(|table| announce(table, &state));
        }
        tracing::info!(
            event = "receiving",
            tables = described.tables.len(),
            after = state.progress().needs(),
            version = described.server.version,
            standby = described.server.in_recovery,
            "polling"
        );
        let timeline = identity.timeline;
        let subject =
            Subject { tables: described.tables.into(), identity, polling: self.database.polling.clone() };
        let status = self.status.clone();
        let report = Arc::new(move |since| {
            status.source(|part| (part.horizon_since, part.watched) = (Some(since), true));
        });
        let source = PollingSource::new(session, subject, state, report);
        Ok(Connected { source, timeline, end: CommitSeq::ZERO, expect: None })
    }
}

impl PollingConnector {
    /// Determines which columns hold personal data under another name.
    async fn survey(&self, session: &mut Session, system_id: &str) {
        self.tables.begin(system_id);
        if self.translator.settings().pii.columns.is_empty() {
            return;
        }
        let surveyed = session.run(async |client| Survey::begin(client, &self.tables, "").await).await;
        match surveyed {
            Ok(surveyed) => drop(surveyed.note(&self.tables)),
            Err(error) => tracing::warn!(
                event = "catalogue_unreadable", %error,
                "table definitions cannot be read; columns with personal data are known by the stored ones"
            ),
        }
    }
}

/// Logs the cursor of a table, and why it was chosen.
fn announce(table: &PolledTable, state: &SharedPollState) {
    let name = table.name.to_string();
    tracing::info!(
        event = "cursor_chosen",
        table = name,
        cursor = table.cursor.kind.name(),
        column = table.cursor_column(),
        reason = table.cursor.reason,
        "table is polled"
    );
    if table.cursor.reads_all() {
        tracing::warn!(
            event = "cursor_without_bound",
            table = name,
            hint = "Grant SELECT on the sequence of the column to the role.",
            "the sequence of the cursor cannot be read, so each poll reads the whole table"
        );
    }
    if state.is_new(&name) {
        tracing::info!(
            event = "table_added",
            table = name,
            "table is polled from now on; its existing rows are not published"
        );
    }
}
