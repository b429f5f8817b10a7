//! Creates the publication and the replication slot at a first start.

use crate::config::{self, TableName};
use crate::diagnosis::Diagnosis;
use crate::failure::{Failure, Problem};
use crate::position::CommitSeq;
use crate::source::postgres::admit::ReplicationSlot;
use crate::source::postgres::connection::Connection;
use crate::source::postgres::conninfo::Settings;
use crate::source::postgres::error::Error;
use crate::source::postgres::inspect::Seen;
use crate::source::postgres::publication::{CreateError, escape_identifier};
use crate::source::postgres::session::Session;
use crate::source::postgres::slot::ServerFacts;
use crate::source::postgres::waits::PatientStatement;
use crate::source::postgres::{inspect, publication, slot};

/// The first version with failover slots.
pub const FAILOVER_SINCE: u32 = 170_000;

/// Creates publication and slot if they do not exist in what was `seen`, except that `slot` is given. The publication is first, because a slot cannot decode
/// changes that were written before its publication existed. Returns the slot's position. `note` receives the
/// position before the slot exists, `report_wait` the transactions that it waits for.
///
/// # Errors
/// The role lacks a permission, or the server fails.
pub async fn create(
    source: &config::SourceConfig,
    (session, settings): (&mut Session, &Settings),
    seen: &Seen,
    slot: Option<&ReplicationSlot>,
    (note, report_wait): (impl FnMut(CommitSeq) -> Result<(), Failure>, &dyn Fn(String)),
) -> Result<CommitSeq, Failure> {
    if seen.publication.is_none() {
        let tables = match source.tables.clone() {
            Some(tables) => {
                let found = session
                    .run(async |client| publication::identity::unfit_tables(client, &tables).await)
                    .await?;
                if !found.is_empty() {
                    return Err(inspect::unfit(found));
                }
                tables
            }
            None => session.run(publication::identity::candidate_tables).await?,
        };
        let created = PatientStatement::new("creating the publication", report_wait)
            .run(session, async |client| {
                Ok::<_, Error>(publication::create_publication(client, &source.publication, &tables).await)
            })
            .await?;
        created.map_err(Failure::stop)?;
        let tables: Vec<String> = tables.iter().map(ToString::to_string).collect();
        tracing::info!(
            event = "publication_created",
            publication = source.publication,
            tables = tables.join(", "),
            "publication created"
        );
    }
    let confirmed = if let Some(slot) = slot {
        slot.confirmed
    } else {
        tracing::info!(
            event = "slot_creating",
            slot = source.slot,
            "creating replication slot; waiting for running transactions to end"
        );
        create_slot(source, session, (note, report_wait)).await?
    };
    let is_failover = seen.slot_facts.as_ref().is_some_and(|facts| facts.failover) && slot.is_some();
    if wants_failover(source, &seen.facts) && !is_failover {
        enable_failover(settings, &source.slot).await;
    }
    tracing::info!(event = "slot_created", slot = source.slot, at = %confirmed, "replication slot created");
    Ok(confirmed)
}

/// Makes a failover slot of a slot. A slot can be created as one, but not as a copy of a temporary slot. If it
/// fails, the slot serves until a failover, so this is not an error.
async fn enable_failover(settings: &Settings, slot: &str) {
    /// Bytes of the largest message: the command returns nothing.
    const ANSWER_MAX: usize = 64 << 10;
    let command = format!("ALTER_REPLICATION_SLOT {} (FAILOVER true)", escape_identifier(slot));
    let altered = async {
        let mut connection = Connection::connect(settings, ANSWER_MAX).await?;
        let altered = connection.query(&command).await.map(drop);
        connection.close().await;
        altered
    };
    if let Err(error) = altered.await {
        tracing::warn!(
            event = "failover_not_enabled",
            slot,
            error = %error,
            hint = format!("Stop Forebay, and run this over a replication connection: {command};"),
            "slot is no failover slot: a promoted standby will not have it"
        );
    }
}

/// Creates the slot as a copy of a temporary one, so that its position is noted before it exists. If the
/// process dies in between, the next start recognises the slot as its own. If no second slot is free, it is
/// created directly. If the process then dies before the position is noted, `forebay adopt` is needed.
async fn create_slot(
    source: &config::SourceConfig,
    session: &mut Session,
    (mut note, report_wait): (impl FnMut(CommitSeq) -> Result<(), Failure>, &dyn Fn(String)),
) -> Result<CommitSeq, Failure> {
    /// `configuration_limit_exceeded`: no slot is free.
    const NO_SLOT_FREE: &str = "53400";
    /// Characters of the slot's name that the name of the temporary slot begins with. A name has at most 63.
    const DRAFT_PREFIX: usize = 40;
    let prefix: String = source.slot.chars().take(DRAFT_PREFIX).collect();
    let draft = format!("{prefix}_{:x}", crate::time::now_micros());
    let at = PatientStatement::new("creating a temporary replication slot", report_wait)
        .run(session, async |client| slot::create_temporary_slot(client, &draft).await)
        .await?;
    note(at)?;
    let copied = session.run(async |client| slot::copy_slot(client, &draft, &source.slot).await).await;
    match copied {
        // PostgreSQL drops the temporary slots of a session at any error.
        Err(Error::Server(error)) if error.code == NO_SLOT_FREE => {}
        Err(error) => return Err(error.into()),
        Ok(at) => {
            session.run(async |client| slot::drop_slot(client, &draft).await).await?;
            return Ok(at);
        }
    }
    Ok(PatientStatement::new("creating the replication slot", report_wait)
        .run(session, async |client| slot::create_slot(client, &source.slot).await)
        .await?)
}

/// Reasons why [`create`] could not create the publication of these tables.
///
/// # Errors
/// The connection broke.
pub async fn obstacles(
    source: &config::SourceConfig,
    session: &mut Session,
    tables: &[TableName],
) -> Result<Vec<Diagnosis>, Failure> {
    let name = &source.publication;
    if tables.is_empty() {
        let empty = Problem::from(CreateError::Empty(name.clone()));
        return Ok(vec![Diagnosis::of_problem(format!("publication {name:?}"), &empty)]);
    }
    let mut found = Vec::new();
    if source.tables.is_some() {
        let unfit =
            session.look(async |client| publication::identity::unfit_tables(client, tables).await).await?;
        found.extend(unfit.into_iter().map(Diagnosis::blocks));
    }
    let missing = session.look(async |client| publication::missing_rights(client, tables).await).await?;
    found.extend(missing.into_iter().map(|right| {
        if right.command.is_some() {
            return right.with_hint("Run as the owner or a superuser:");
        }
        let statement = publication::create_statement(name, tables);
        right
            .with_hint("Run as a superuser or as the owner of the tables:")
            .with_command(format!("{statement};"))
    }));
    Ok(found)
}

/// Whether the slot is to be a failover slot: as configured, else wherever the server has them.
pub fn wants_failover(source: &config::SourceConfig, server: &ServerFacts) -> bool {
    source.failover.unwrap_or(server.version >= FAILOVER_SINCE && !server.in_recovery)
}

/// Checks, before anything is created, that the server supports the configured failover slot.
///
/// # Errors
/// The server has no failover slots, or is a standby.
pub fn check_failover(source: &config::SourceConfig, server: &ServerFacts) -> Result<(), Failure> {
    let version = server.version;
    let problem = if source.failover != Some(true) {
        return Ok(());
    } else if version < FAILOVER_SINCE {
        Problem::new("source.failover needs PostgreSQL 17 or later").with_detail(format!(
            "The server is PostgreSQL {}.{}.",
            version / 10_000,
            version % 10_000
        ))
    } else if server.in_recovery {
        Problem::new("source.failover needs a primary").with_detail("The server is a standby.")
    } else {
        return Ok(());
    };
    Err(Failure::stop(problem.with_hint("Remove source.failover from the configuration.")))
}

/// Drops a publication. Only on the operator's request.
///
/// # Errors
/// It belongs to another role.
pub async fn drop_publication(session: &mut Session, name: &str) -> Result<(), Failure> {
    let statement = format!("DROP PUBLICATION IF EXISTS {}", escape_identifier(name));
    session.run(async |client| client.batch_execute(&statement).await).await?;
    tracing::info!(event = "publication_dropped", publication = name, "publication dropped");
    Ok(())
}

/// Drops a slot. Only on the operator's request.
///
/// # Errors
/// Another session reads it, or the role lacks the permission.
pub async fn drop_slot(session: &mut Session, name: &str) -> Result<(), Failure> {
    session.run(async |client| slot::drop_slot(client, name).await).await?;
    tracing::info!(event = "slot_dropped", slot = name, "replication slot dropped");
    Ok(())
}
