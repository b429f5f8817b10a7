//! The database's side of an audit: every row of a table as the event that it would make now, read in one
//! snapshot at an exact position.

use std::sync::Arc;

use postgres_protocol::escape::{escape_identifier, escape_literal};
use tokio_postgres::SimpleQueryMessage;
use tokio_postgres::error::SqlState;

use crate::change::{Change, ChangePlace, Relation};
use crate::config::{Config, TableName};
use crate::contracts::trial::{On, OwnedChange, Values};
use crate::daemon::contract;
use crate::event::Records;
use crate::failure::{Failure, Problem};
use crate::position::{CommitSeq, Transaction};
use crate::source::postgres::catalog::{self, SentColumns};
use crate::source::postgres::connection::Connection;
use crate::source::postgres::conninfo::Settings;
use crate::source::postgres::error::Error;
use crate::source::postgres::inspect;
use crate::source::postgres::publication::{self, quoted};
use crate::source::postgres::session::Session;
use crate::source::postgres::tables::TableHistory;
use crate::translate::{RuleOutcome, TranslateSettings, Translator};

/// Bytes of rows that one FETCH should return.
const FETCH_SIZE: usize = 8 << 20;
/// Most rows of one FETCH.
const FETCH_MAX: usize = 5_000;
/// The largest message on the connection that only holds the snapshot.
const ROW_MAX: usize = 1 << 20;

/// A table that is audited.
#[derive(Debug)]
pub(super) struct AuditedTable {
    pub(super) relation: Arc<Relation>,
    pub(super) translator: Translator,
    /// Whether the publication sends updates and deletes.
    pub(super) sends_updates: bool,
    pub(super) sends_deletes: bool,
    name: TableName,
    session: Session,
    connection: Settings,
    filter: Option<String>,
}

/// What reading the rows found.
#[derive(Clone, Copy, Debug)]
pub(super) struct RowsRead {
    /// The snapshot shows every transaction that commits before this position.
    pub(super) position: CommitSeq,
    /// Rows read.
    pub(super) rows: u64,
    /// Rows that cannot be translated. The daemon would write a dead letter for each.
    pub(super) untranslatable: u64,
}

impl AuditedTable {
    /// Reads the description of the table as the daemon uses it for events.
    ///
    /// # Errors
    /// There is no such table in the publication, the rules have errors, or the database is not available.
    pub(super) async fn look(config: &Config, name: TableName) -> Result<Self, Failure> {
        if config.source.polling.is_some() {
            let fact = "a polled source cannot be audited: it has no position that a snapshot could have";
            return Err(Failure::stop(fact));
        }
        let connection = inspect::settings(config).map_err(Failure::stop)?;
        let mut session = Session::open_for_rows(&connection).await?;
        let publication = &config.source.publication;
        let facts =
            session.run(async |client| publication::publication_facts(client, publication).await).await?;
        let Some(facts) = facts else {
            return Err(Failure::stop(format!(
                "publication {publication:?} does not exist: nothing was published"
            )));
        };
        if !facts.tables.iter().any(|table| table.name == name) {
            return Err(Failure::stop(format!("publication {publication:?} does not have table {name}")));
        }
        let mut settings = TranslateSettings::load(config).map_err(Failure::stop)?;
        settings.lock = None;
        let translator = Translator::new(&config.source_urn(), 0, settings);
        let history = TableHistory::empty(&config.pii);
        let published = contract::Published {
            name: publication,
            facts: Some(&facts),
            planned: &[],
            polled: None,
            history: history.clone(),
        };
        contract::check(&mut session, &translator, &published).await?;
        let sent = SentColumns::of(Some(&facts), &name);
        let described =
            session.run(async |client| Ok::<_, Error>(catalog::describe(client, &name, sent).await?)).await?;
        let Some(mut described) = described else {
            return Err(Failure::stop(format!("table {name} does not exist")));
        };
        history.tag(&mut described.relation);
        let filter =
            session.run(async |client| publication::row_filter(client, publication, &name).await).await?;
        let relation = Arc::new(described.relation);
        let (sends_updates, sends_deletes) = (facts.update, facts.delete);
        Ok(Self { relation, translator, sends_updates, sends_deletes, name, session, connection, filter })
    }

    /// Calls `take` with the events of all rows, as if each row were inserted now.
    ///
    /// # Errors
    /// The database is not available, the role may not read the table, or `take` fails.
    pub(super) async fn read(
        &mut self,
        mut take: impl FnMut(&str, &[u8]) -> Result<(), Failure>,
    ) -> Result<RowsRead, Failure> {
        let position = self.begin().await?;
        let mut read = RowsRead { position, rows: 0, untranslatable: 0 };
        let (mut records, mut next) = (Records::default(), 100);
        loop {
            let fetch = format!("FETCH FORWARD {next} FROM forebay_audit");
            let messages = self.sql(&fetch).await?;
            let (mut rows, mut size) = (0_usize, 0_usize);
            for message in &messages {
                let SimpleQueryMessage::Row(row) = message else { continue };
                let mut values = Values::default();
                for at in 0..self.relation.columns.len() {
                    let text = row.get(at);
                    size += text.map_or(1, str::len);
                    values.push(text);
                }
                rows += 1;
                read.rows += 1;
                if self.translate(&values, &mut records).is_err() {
                    read.untranslatable += 1;
                    continue;
                }
                records.iter().try_for_each(|record| take(record.event_type, record.line))?;
            }
            if rows == 0 {
                break;
            }
            next = (FETCH_SIZE / (size / rows).max(1)).clamp(1, FETCH_MAX);
        }
        self.sql("COMMIT").await?;
        Ok(read)
    }

    /// Begins a transaction in a snapshot at an exact position, and opens a cursor in it.
    async fn begin(&mut self) -> Result<CommitSeq, Failure> {
        // PostgreSQL drops the temporary slot with this connection. The transaction keeps the snapshot.
        let mut walsender = Connection::connect(&self.connection, ROW_MAX).await?;
        let slot = format!("forebay_audit_{}", std::process::id());
        let (position, snapshot) = walsender.export_snapshot(&slot).await?;
        let snapshot = escape_literal(&snapshot);
        let begin = format!(
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT {snapshot}; \
             SET LOCAL row_security = off; SET LOCAL cursor_tuple_fraction = 1"
        );
        self.sql(&begin).await?;
        drop(walsender);
        let kind = format!("SELECT relkind FROM pg_catalog.pg_class WHERE oid = {}", self.relation.oid);
        let partitioned = self.sql(&kind).await?.iter().any(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0) == Some("p"),
            _ => false,
        });
        let columns = self.relation.columns.iter();
        let columns: Vec<String> = columns.map(|column| escape_identifier(&column.name)).collect();
        // The children of a table are published under their own names.
        let only = if partitioned { "" } else { "ONLY " };
        let filter = self.filter.as_ref().map(|filter| format!(" WHERE {filter}")).unwrap_or_default();
        let table = quoted(&self.name);
        let query = format!("SELECT {} FROM {only}{table}{filter}", columns.join(", "));
        self.sql(&format!("DECLARE forebay_audit NO SCROLL CURSOR FOR {query}")).await?;
        Ok(position)
    }

    async fn sql(&mut self, text: &str) -> Result<Vec<SimpleQueryMessage>, Failure> {
        // The simple protocol returns the output form of each type, as replication does.
        let answer = self.session.run(async |client| Ok::<_, Error>(client.simple_query(text).await)).await?;
        answer.map_err(|error| {
            let denied = error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE);
            let error = Error::from(error);
            if !denied {
                return error.into();
            }
            let (schema, role) =
                (escape_identifier(&self.name.schema), escape_identifier(&self.connection.user));
            let table = quoted(&self.name);
            Failure::stop(format!(
                "{error}. An audit reads every row; run\n    GRANT USAGE ON SCHEMA {schema} TO {role};\n    \
                 GRANT SELECT ON {table} TO {role};"
            ))
        })
    }

    fn translate(&mut self, values: &Values, records: &mut Records) -> Result<(), Problem> {
        let place = ChangePlace {
            transaction: Transaction { commit: CommitSeq::new(1), xid: 1, time: 0 },
            index: 0,
            record: CommitSeq::new(1),
            nth: 0,
        };
        let made = OwnedChange::of_row(On::Insert, values, &self.relation);
        let change = Change { place, relation: &self.relation, operation: made.operation(), raw: b"" };
        let mut outcome = RuleOutcome::default();
        records.clear();
        self.translator.translate(&change, records, &mut outcome).map_err(|error| Problem::of(&error))?;
        outcome.failed.into_iter().next().map_or(Ok(()), |failed| Err(failed.reason))
    }
}
