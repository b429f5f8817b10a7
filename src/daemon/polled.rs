//! The configuration of a polled database, and the current definitions of its tables.

use crate::change::Relation;
use crate::config::{Config, Polling, TableName};
use crate::diagnosis::Diagnosis;
use crate::failure::Failure;
use crate::source::postgres::conninfo::Settings;
use crate::source::postgres::error::Error;
use crate::source::postgres::inspect;
use crate::source::postgres::polling::server::PolledServer;
use crate::source::postgres::polling::table::PolledTable;
use crate::source::postgres::polling::{page, plan};
use crate::source::postgres::session::Session;

/// The configuration of a polled database, resolved once.
#[derive(Clone, Debug)]
pub struct PolledDatabase {
    /// The connection settings.
    pub settings: Settings,
    /// Database name.
    pub(super) database: String,
    /// Names of the tables.
    pub(super) tables: Vec<TableName>,
    /// The settings of polling.
    pub(super) polling: Polling,
    /// The `source` attribute of CloudEvents.
    pub(super) name: String,
    /// Lowest epoch of a new directory.
    pub(super) epoch_least: u16,
}

impl PolledDatabase {
    /// Returns `None` if the source is a replication slot.
    pub fn new(config: &Config, settings: &Settings) -> Option<Self> {
        Some(Self {
            settings: settings.clone(),
            database: settings.database.clone(),
            tables: config.source.tables.clone().unwrap_or_default(),
            polling: config.source.polling.clone()?,
            name: config.source_urn(),
            epoch_least: config.source.epoch,
        })
    }
}

/// The tables and findings, before polling begins.
pub(super) struct DescribedTables {
    pub(super) server: PolledServer,
    pub(super) tables: Vec<PolledTable>,
    pub(super) found: Vec<Diagnosis>,
}

pub(super) async fn describe(
    session: &mut Session,
    database: &PolledDatabase,
    tag: &dyn Fn(&mut Relation),
) -> Result<DescribedTables, Error> {
    let server = session.run(page::look).await?;
    let (names, polling) = (&database.tables, &database.polling);
    let (tables, found) =
        session.run(async |client| plan::describe(client, names, (polling, tag)).await).await?;
    Ok(DescribedTables { server, tables, found })
}

/// The tables of a polled database, for commands that publish nothing.
///
/// # Errors
/// The connection failed, or a table cannot be polled.
pub async fn tables(
    config: &Config,
    settings: &Settings,
    session: &mut Session,
) -> Result<Option<Vec<PolledTable>>, Failure> {
    let Some(database) = PolledDatabase::new(config, settings) else { return Ok(None) };
    let described = describe(session, &database, &|_| {}).await?;
    described.server.check()?;
    if described.found.is_empty() { Ok(Some(described.tables)) } else { Err(inspect::unfit(described.found)) }
}
