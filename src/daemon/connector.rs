//! PostgreSQL as a [`Connector`]: checks the server like a start does, and opens the replication stream.

use std::sync::{Arc, Mutex};

use crate::buffer::checkpoint::Checkpoint;
use crate::daemon::{contract, watchdog};
use crate::failure::Failure;
use crate::pipeline::status::Status;
use crate::position::CommitSeq;
use crate::source::postgres::admit::{self, Admitted, ReplicationSlot, Server, SourceRefusal, Wanted};
use crate::source::postgres::conninfo::Settings;
use crate::source::postgres::error::{Error, LOG_IN_REFUSED, ServerError};
use crate::source::postgres::inspect;
use crate::source::postgres::monitor::PublicationMonitor;
use crate::source::postgres::session::Session;
use crate::source::postgres::tables::{Survey, TableHistory};
use crate::source::postgres::{PostgresSource, Stream};
use crate::source::{Connected, Connector};
use crate::translate::Translator;

/// What connections need and what outlives them.
#[derive(Debug)]
pub struct PostgresConnector {
    /// The connection settings.
    pub settings: Settings,
    /// Slot and publication.
    pub stream: Stream,
    /// The database, slot and publication of the configuration.
    pub wanted: Wanted,
    /// The rules, which are checked against the tables.
    pub translator: Translator,
    /// Compares the publication at each connection with its earlier state.
    pub monitor: Arc<Mutex<PublicationMonitor>>,
    /// Where the monitor reports.
    pub status: Status,
    /// The stored definitions of tables.
    pub tables: TableHistory,
    /// Whether the server was checked since the process started. The first check is as strict as that of a
    /// start.
    pub checked: bool,
}

impl Connector for PostgresConnector {
    type Source = PostgresSource;

    async fn connect(
        &mut self,
        known: impl Fn() -> Checkpoint,
    ) -> Result<Connected<PostgresSource>, Failure> {
        let checked = self.checked;
        let connected = self.connect_once(known).await;
        connected.map_err(|failure| match failure {
            // A server that accepted the role before may do so again. A restart of the process would not
            // help.
            Failure::Stop(problem) if checked && problem.code() == Some(LOG_IN_REFUSED) => {
                Failure::Retry(problem)
            }
            other => other,
        })
    }
}

impl PostgresConnector {
    async fn connect_once(
        &mut self,
        known: impl Fn() -> Checkpoint,
    ) -> Result<Connected<PostgresSource>, Failure> {
        let mut session = match Session::open(&self.settings).await {
            Ok(session) => session,
            // No SQL connection is free, but a walsender may be.
            Err(Error::Server(error)) if self.checked && error.passes_by_itself() => {
                return self.connect_bare(known, &error).await;
            }
            Err(error) => return Err(error.into()),
        };
        let seen = inspect::look(&mut session, &self.settings, &self.wanted).await?;
        if !self.checked {
            seen.check(&self.wanted)?;
            let published = contract::Published {
                name: &self.wanted.publication,
                facts: seen.publication.as_ref(),
                planned: &[],
                polled: None,
                history: self.tables.copy_for(&seen.server.system_id),
            };
            contract::check(&mut session, &self.translator, &published).await?;
        }
        seen.check_running(&self.wanted)?;
        watchdog::observe(&self.monitor, &seen, &self.status);
        admit(&self.wanted, &known(), seen.slot.as_ref(), &seen.server)?;
        self.checked = true;
        // Before the stream begins, so that everything in it is newer than these definitions.
        self.tables.begin(&seen.server.system_id);
        let publication = &self.wanted.publication;
        let surveyed =
            session.run(async |client| Survey::begin(client, &self.tables, publication).await).await;
        let survey = surveyed.map_or_else(
            |error| {
                tracing::warn!(event = "catalogue_unreadable", %error, "table definitions cannot be read; the stream begins with the stored ones");
                Survey::default()
            },
            |surveyed| surveyed.note(&self.tables).1,
        );
        self.stream.reached = seen.slot.as_ref().map_or(CommitSeq::ZERO, |slot| slot.confirmed);
        let mut source = PostgresSource::start(&self.settings, &self.stream).await?;
        let system = source.system();
        if system.system_id != seen.server.system_id || system.timeline != seen.server.timeline {
            return Err(Failure::retry("the server behind the address changed while it was looked at"));
        }
        // A confirmation of the last connection may have arrived since the slot was read. Now that this
        // connection owns the slot, nothing else moves it: its position is where the stream begins.
        let slot = inspect::slot_again(&mut session, &self.wanted, &seen).await?;
        let admitted = admit(&self.wanted, &known(), slot.as_ref(), &seen.server)?;
        source.expect(admitted.expect);
        source.describe_by(self.tables.clone(), Some((session, survey)));
        tracing::info!(
            event = "receiving",
            slot = self.stream.slot,
            at = %slot.map(|slot| slot.confirmed).unwrap_or_default(),
            version = seen.facts.version, standby = seen.facts.in_recovery,
            "receiving"
        );
        let (timeline, end) = (seen.server.timeline, seen.server.wal_end);
        Ok(Connected { source, timeline, end, expect: admitted.expect })
    }

    /// Like [`connect`](Connector::connect), with the walsender alone. The source opens an SQL session when
    /// one is free.
    async fn connect_bare(
        &mut self,
        known: impl Fn() -> Checkpoint,
        no_session: &ServerError,
    ) -> Result<Connected<PostgresSource>, Failure> {
        let mut connection = self.stream.connect(&self.settings).await?;
        let seen = inspect::look_bare(&mut connection, &self.wanted).await?;
        if seen.is_read {
            // The last confirmation may still be in flight, and the position could not be read afterwards.
            connection.close().await;
            return Err(Failure::retry("the replication slot is still read by another connection"));
        }
        let admitted = admit(&self.wanted, &known(), seen.slot.as_ref(), &seen.server)?;
        let at = seen.slot.map(|slot| slot.confirmed).unwrap_or_default();
        self.stream.reached = at;
        let mut source = PostgresSource::start_on(connection, &self.settings, &self.stream).await?;
        self.tables.begin(&seen.server.system_id);
        source.expect(admitted.expect);
        source.describe_by(self.tables.clone(), None);
        tracing::warn!(
            event = "catalogue_unreadable",
            error = %no_session,
            "no SQL session available; continuing with the stored table definitions"
        );
        tracing::info!(event = "receiving", slot = self.stream.slot, %at, standby = seen.server.in_recovery, "receiving");
        let (timeline, end) = (seen.server.timeline, seen.server.wal_end);
        Ok(Connected { source, timeline, end, expect: admitted.expect })
    }
}

/// Whether a stream from the slot's position continues the known history. If an instance without this
/// directory would begin a later epoch now (`never`, after a failover), this process stops and begins one at
/// its next start.
fn admit(
    wanted: &Wanted,
    known: &Checkpoint,
    slot: Option<&ReplicationSlot>,
    server: &Server,
) -> Result<Admitted, Failure> {
    let admitted = admit::admit(known, known.last_seen, slot, server)?;
    if wanted.never_written && known.epoch < wanted.least_epoch(server) {
        return Err(SourceRefusal::EpochBehind { epoch: known.epoch, timeline: server.timeline }.into());
    }
    Ok(admitted)
}
