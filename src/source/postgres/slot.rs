//! Reads facts about the server; reads, creates and drops its replication slots.

use serde::Deserialize;
use tokio_postgres::Client;

use crate::diagnosis::Diagnosis;
use crate::source::postgres::lsn::Lsn;

use super::error::{Error, ServerError};

/// Facts about the server that a start needs.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "they are facts of the catalogue, not states")]
pub struct ServerFacts {
    /// `server_version_num`, such as 150018.
    pub version: u32,
    /// Identifier and timeline of the cluster. A role may lack the permission to read them by SQL; the
    /// walsender reports them too.
    pub control: Result<ControlFacts, ServerError>,
    /// Its flush position; on a standby, its replay position.
    pub wal_end: Lsn,
    /// Whether it is a standby.
    pub in_recovery: bool,
    /// `wal_level`; `logical` is needed.
    pub wal_level: String,
    /// `max_replication_slots`.
    pub slots_max: u32,
    /// Number of existing slots.
    pub slots_used: u32,
    /// `max_wal_senders`.
    pub senders_max: u32,
    /// Database of this connection.
    pub database: String,
    /// Role of this connection.
    pub role: String,
    /// Whether the role is a superuser.
    pub is_superuser: bool,
    /// Whether the role may stream (REPLICATION).
    pub may_replicate: bool,
    /// Whether the role may create a publication in this database.
    pub may_create: bool,
}

/// Facts from the control file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlFacts {
    /// `system_identifier` of the cluster.
    pub system_id: String,
    /// Timeline of its write-ahead log.
    pub timeline: u32,
}

/// A replication slot. Facts that a server version does not report are `None` or false.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "they are columns of pg_replication_slots")]
pub struct SlotFacts {
    /// Output plug-in; `pgoutput` is needed.
    pub plugin: Option<String>,
    /// `logical` is needed.
    pub slot_type: String,
    /// Its database.
    pub database: Option<String>,
    /// Whether it is dropped with its session.
    pub temporary: bool,
    /// Id of the process that reads it now.
    pub active_pid: Option<i32>,
    /// Position up to which changes were confirmed.
    #[serde(rename = "confirmed_flush_lsn")]
    pub confirmed_flush: Option<Lsn>,
    /// Position from which the server retains WAL for it.
    pub restart_lsn: Option<Lsn>,
    /// `reserved`, `extended`, `unreserved` or `lost`.
    pub wal_status: Option<String>,
    /// Bytes of WAL until it may be lost, if there is a limit.
    pub safe_wal_size: Option<i64>,
    /// Why it is lost (from PostgreSQL 17).
    #[serde(default)]
    pub invalidation_reason: Option<String>,
    /// Whether it was lost to recovery on a standby (from PostgreSQL 16).
    #[serde(default)]
    pub conflicting: Option<bool>,
    /// Whether prepared transactions are sent.
    #[serde(default)]
    pub two_phase: bool,
    /// Whether it is synchronized to standbys (from PostgreSQL 17).
    #[serde(default)]
    pub failover: bool,
    /// Whether it is such a synchronized copy on a standby (from PostgreSQL 17).
    #[serde(default)]
    pub synced: bool,
}

impl ServerFacts {
    /// Reasons why this role cannot stream from this server.
    pub fn may_stream(&self) -> bool {
        self.may_replicate && self.wal_level == "logical" && self.slots_max > 0 && self.senders_max > 0
    }
}

impl SlotFacts {
    /// Reasons why this slot cannot be streamed in this database. `in_recovery`: the server is a standby.
    pub fn blockers(&self, name: &str, database: &str, in_recovery: bool) -> Vec<Diagnosis> {
        const OTHER_NAME: &str = "Choose another name with source.slot.";
        const ADOPT: &str = "forebay adopt --reason \"…\"";
        let blocker = |fact: String| Diagnosis::blocker(format!("slot \"{name}\""), fact);
        let mut found = Vec::new();
        if let Err(fact) = self.is_of(database) {
            found.push(blocker(fact).with_hint(OTHER_NAME));
        }
        if self.is_lost() {
            let why = self.invalidation_reason.as_deref().unwrap_or("the WAL that it needs is gone");
            let fact = format!("it is lost ({why}): what it had not delivered cannot be read any more");
            found.push(blocker(fact).with_command(ADOPT));
        }
        if self.temporary {
            found.push(blocker("it is temporary: it ends with the session that made it".to_owned()));
        }
        // After a promotion the flag stays set, without effect.
        if self.synced && in_recovery {
            let fact = "it is a copy on a standby, which can be read only after a promotion".to_owned();
            found.push(blocker(fact));
        }
        if self.two_phase {
            let fact = "it decodes prepared transactions, which Forebay does not read".to_owned();
            found.push(blocker(fact).with_command(ADOPT));
        }
        found
    }

    /// Checks that it is a `pgoutput` slot in this database, as Forebay creates it.
    ///
    /// # Errors
    /// What it is instead.
    pub fn is_of(&self, database: &str) -> Result<(), String> {
        if self.slot_type != "logical" || self.plugin.as_deref() != Some("pgoutput") {
            let plugin = self.plugin.as_deref().unwrap_or(&self.slot_type);
            return Err(format!("it is made for {plugin}, not for pgoutput"));
        }
        if self.database.as_deref() == Some(database) {
            return Ok(());
        }
        let other = self.database.as_deref().unwrap_or("none");
        Err(format!("it belongs to database \"{other}\", not to \"{database}\""))
    }

    /// Whether nothing can be decoded from it any more.
    pub fn is_lost(&self) -> bool {
        self.wal_status.as_deref() == Some("lost")
            || self.invalidation_reason.is_some()
            || self.conflicting == Some(true)
    }
}

/// Reads the facts about the server.
///
/// # Errors
/// The connection broke, or the role lacks a permission.
pub async fn server_facts(client: &Client) -> Result<ServerFacts, Error> {
    let row = client
        .query_one(
            "SELECT current_setting('server_version_num'),
                    (CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_flush_lsn() END)::text,
                    pg_is_in_recovery(),
                    -- From PostgreSQL 19 on, a slot raises the level while it exists.
                    coalesce(current_setting('effective_wal_level', true), current_setting('wal_level')),
                    current_setting('max_replication_slots'),
                    (SELECT count(*) FROM pg_replication_slots),
                    current_setting('max_wal_senders'),
                    current_database()::text, current_user::text, r.rolsuper,
                    -- Amazon RDS gives membership in a role of its own instead of the attribute.
                    r.rolreplication OR EXISTS (SELECT FROM pg_roles g WHERE g.rolname = 'rds_replication'
                                                AND pg_has_role(r.oid, g.oid, 'MEMBER')),
                    has_database_privilege(current_database(), 'CREATE')
             FROM pg_roles r WHERE r.rolname = current_user",
            &[],
        )
        .await?;
    let in_recovery = row.try_get(2)?;
    let control = match control_facts(client, in_recovery).await {
        Ok(facts) => Ok(facts),
        Err(Error::Server(error)) => Err(*error),
        Err(error) => return Err(error),
    };
    let is_superuser = row.try_get(9)?;
    let replication: bool = row.try_get(10)?;
    Ok(ServerFacts {
        version: number(row.try_get(0)?)?,
        control,
        wal_end: lsn(row.try_get(1)?)?,
        in_recovery,
        wal_level: row.try_get(3)?,
        slots_max: number(row.try_get(4)?)?,
        slots_used: u32::try_from(row.try_get::<_, i64>(5)?).unwrap_or(u32::MAX),
        senders_max: number(row.try_get(6)?)?,
        database: row.try_get(7)?,
        role: row.try_get(8)?,
        is_superuser,
        may_replicate: is_superuser || replication,
        may_create: row.try_get(11)?,
    })
}

/// Each function has a statement of its own that is run only if needed: the server rejects a whole statement
/// if the role may not execute one of its functions.
async fn control_facts(client: &Client, in_recovery: bool) -> Result<ControlFacts, Error> {
    const PRIMARY: &str =
        "SELECT system_identifier::text, NULL::int8, (SELECT timeline_id FROM pg_control_checkpoint())::int8,
            pg_walfile_name(pg_current_wal_flush_lsn()) FROM pg_control_system()";
    const STANDBY: &str =
        "SELECT system_identifier::text, (SELECT min_recovery_end_timeline FROM pg_control_recovery())::int8,
            (SELECT timeline_id FROM pg_control_checkpoint())::int8, NULL::text FROM pg_control_system()";
    let row = client.query_one(if in_recovery { STANDBY } else { PRIMARY }, &[]).await?;
    // A primary that was just promoted has its new timeline in the name of its WAL file before the next
    // checkpoint.
    let named: Option<&str> = row.try_get(3)?;
    let named = named.and_then(|name| u32::from_str_radix(name.get(..8)?, 16).ok());
    let recovery: Option<i64> = row.try_get(1)?;
    let checkpoint: i64 = row.try_get(2)?;
    let controlled = u32::try_from(recovery.unwrap_or_default().max(checkpoint)).unwrap_or_default();
    Ok(ControlFacts { system_id: row.try_get(0)?, timeline: named.unwrap_or(controlled) })
}

/// Reads a slot; `None` if it does not exist.
///
/// # Errors
/// The connection broke.
pub async fn slot_facts(client: &Client, name: &str) -> Result<Option<SlotFacts>, Error> {
    // Read as JSON, because each version has more columns than the previous one.
    let rows = client
        .query("SELECT to_jsonb(s)::text FROM pg_catalog.pg_replication_slots s WHERE slot_name = $1::text::name", &[&name])
        .await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let text: &str = row.try_get(0)?;
    parse_slot(text).map(Some)
}

/// Parses a row of `pg_replication_slots` in JSON.
///
/// # Errors
/// It is not such a row.
pub fn parse_slot(text: &str) -> Result<SlotFacts, Error> {
    serde_json::from_str(text).map_err(|error| {
        Error::Protocol(format!("a row of pg_replication_slots that cannot be read: {error}"))
    })
}

/// Whether the walsender that reads a slot is busy: it waits neither for an event nor for its client.
///
/// # Errors
/// The connection broke.
pub async fn is_walsender_busy(client: &Client, name: &str) -> Result<bool, Error> {
    const QUERY: &str = "SELECT EXISTS (
            SELECT FROM pg_catalog.pg_replication_slots s JOIN pg_catalog.pg_stat_activity a ON a.pid = s.active_pid
            WHERE s.slot_name = $1::text::name AND a.state = 'active'
              AND coalesce(a.wait_event_type, '') NOT IN ('Activity', 'Client', 'Timeout'))";
    Ok(client.query_one(QUERY, &[&name]).await?.try_get(0)?)
}

/// Creates a pgoutput slot and returns where it begins. Create the publication first. On a standby it waits
/// until the primary logs its running transactions; `SELECT pg_log_standby_snapshot()` on the primary ends
/// the wait.
///
/// # Errors
/// The slot exists, no slot is free, `wal_level` is not `logical`, or the role lacks REPLICATION.
pub async fn create_slot(client: &Client, name: &str) -> Result<Lsn, Error> {
    let create =
        "SELECT lsn::text FROM pg_catalog.pg_create_logical_replication_slot($1::text::name, 'pgoutput')";
    lsn(client.query_one(create, &[&name]).await?.try_get(0)?)
}

/// Creates a slot that ends with this session. A [copy](copy_slot) of it begins at the same position.
///
/// # Errors
/// The same as those of [`create_slot`].
pub async fn create_temporary_slot(client: &Client, name: &str) -> Result<Lsn, Error> {
    let create = "SELECT lsn::text FROM pg_catalog.pg_create_logical_replication_slot($1::text::name, 'pgoutput', true)";
    lsn(client.query_one(create, &[&name]).await?.try_get(0)?)
}

/// Creates a permanent slot at the position of another one.
///
/// # Errors
/// It exists, or no slot is free.
pub async fn copy_slot(client: &Client, from: &str, name: &str) -> Result<Lsn, Error> {
    let copy = "SELECT lsn::text FROM pg_catalog.pg_copy_logical_replication_slot($1::text::name, $2::text::name, false)";
    lsn(client.query_one(copy, &[&from, &name]).await?.try_get(0)?)
}

/// Advances an unused slot to this position. Transactions that commit before it are not sent any more.
///
/// # Errors
/// Another session reads it, or it is beyond that position.
pub async fn advance_slot(client: &Client, name: &str, to: Lsn) -> Result<Lsn, Error> {
    let advance =
        "SELECT end_lsn::text FROM pg_catalog.pg_replication_slot_advance($1::text::name, $2::text::pg_lsn)";
    lsn(client.query_one(advance, &[&name, &to.to_string()]).await?.try_get(0)?)
}

/// A session that reads a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotReader {
    /// Process id of its backend.
    pub pid: i32,
    /// Its `application_name`; empty if this role may not see it.
    pub application: String,
    /// Seconds since it connected, if this role may see it.
    pub connected_for: Option<i64>,
    /// Beginning of its last statement; empty if this role may not see it.
    pub query: String,
}

impl std::fmt::Display for SlotReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "pid {}", self.pid)?;
        if !self.application.is_empty() {
            write!(f, ", application \"{}\"", self.application)?;
        }
        if let Some(seconds) = self.connected_for {
            write!(f, ", connected for {seconds} s")?;
        }
        if self.query.is_empty() { Ok(()) } else { write!(f, ": {}", self.query) }
    }
}

/// The session that reads a slot; `None` if no session does.
///
/// # Errors
/// The connection broke.
pub async fn reader(client: &Client, name: &str) -> Result<Option<SlotReader>, Error> {
    const QUERY: &str = "SELECT s.active_pid, coalesce(a.application_name, ''),
            extract(epoch FROM pg_catalog.clock_timestamp() - a.backend_start)::int8, coalesce(left(a.query, 120), '')
            FROM pg_catalog.pg_replication_slots s LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = s.active_pid
            WHERE s.slot_name = $1::text::name AND s.active_pid IS NOT NULL";
    let Some(row) = client.query_opt(QUERY, &[&name]).await? else { return Ok(None) };
    Ok(Some(SlotReader {
        pid: row.try_get(0)?,
        application: row.try_get(1)?,
        connected_for: row.try_get(2)?,
        query: row.try_get(3)?,
    }))
}

/// Drops a slot.
///
/// # Errors
/// It does not exist, or another session reads it.
pub async fn drop_slot(client: &Client, name: &str) -> Result<(), Error> {
    client.execute("SELECT pg_catalog.pg_drop_replication_slot($1::text::name)", &[&name]).await?;
    Ok(())
}

fn lsn(text: &str) -> Result<Lsn, Error> {
    text.parse().map_err(|error| Error::Protocol(format!("{error}")))
}

fn number(text: &str) -> Result<u32, Error> {
    text.parse().map_err(|_| Error::Protocol(format!("the setting {text:?}, which should be a number")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(change: impl FnOnce(&mut SlotFacts)) -> Vec<Diagnosis> {
        let text = r#"{"slot_name": "s", "plugin": "pgoutput", "slot_type": "logical", "datoid": 5, "database": "lab",
            "temporary": false, "active": false, "active_pid": null, "xmin": null, "catalog_xmin": "733",
            "restart_lsn": "0/153C5A8", "confirmed_flush_lsn": "0/153C5E0", "wal_status": "reserved",
            "safe_wal_size": null, "two_phase": false}"#;
        let mut facts: SlotFacts = serde_json::from_str(text).unwrap();
        assert_eq!(facts.confirmed_flush, Some(Lsn::new(0x153_C5E0)));
        change(&mut facts);
        assert_eq!(
            facts.blockers("s", "lab", false).len(),
            facts.blockers("s", "lab", true).len() - usize::from(facts.synced)
        );
        facts.blockers("s", "lab", true)
    }

    type Case = (fn(&mut SlotFacts), &'static str);

    #[test]
    fn unusable_slot_is_diagnosed() {
        assert_eq!(slot(|_| {}), []);
        let cases: [Case; 8] = [
            (|slot| slot.plugin = Some("wal2json".to_owned()), "wal2json"),
            (|slot| (slot.slot_type, slot.plugin) = ("physical".to_owned(), None), "physical"),
            (|slot| slot.database = Some("other".to_owned()), "\"other\""),
            (|slot| slot.wal_status = Some("lost".to_owned()), "lost"),
            (|slot| slot.invalidation_reason = Some("idle_timeout".to_owned()), "idle_timeout"),
            (|slot| slot.temporary = true, "temporary"),
            (|slot| slot.synced = true, "standby"),
            (|slot| slot.two_phase = true, "prepared"),
        ];
        for (change, named) in cases {
            let found = slot(change);
            assert_eq!(found.len(), 1, "{named}");
            assert!(found[0].fact.contains(named), "{:?}", found[0]);
        }
    }
}
