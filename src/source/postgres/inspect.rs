//! The state of server, slot and publication. It is read before every connection, for
//! [`admit`](super::admit).

use postgres_protocol::escape::escape_literal;

use crate::config::Config;
use crate::diagnosis::{Diagnoses, Diagnosis};
use crate::failure::{Failure, Problem};
use crate::position::CommitSeq;
use crate::small_file;
use crate::source::postgres::admit::{ReplicationSlot, Server, Wanted};
use crate::source::postgres::connection::{Connection, SystemIdentity};
use crate::source::postgres::conninfo::{Password, Settings, SettingsError};
use crate::source::postgres::error::{Error, ServerError};
use crate::source::postgres::publication::{self, Partition, PublicationFacts, escape_identifier};
use crate::source::postgres::session::Session;
use crate::source::postgres::slot::{self, ServerFacts, SlotFacts};

/// Largest password file in bytes.
const PASSWORD_FILE_MAX: u64 = 64 << 10;

/// Primary text of the error that lists blockers.
const CONSEQUENCE: &str = "the database cannot be used";

const PASSWORD_ALONE: &str = "Write the password and nothing else into source.password_file.";

/// Turns findings into an error that stops the process.
pub fn unfit(found: Vec<Diagnosis>) -> Failure {
    Failure::stop(unusable_for(found))
}

/// Turns findings into an error that may pass.
pub const fn unusable_for(found: Vec<Diagnosis>) -> Diagnoses {
    Diagnoses { consequence: CONSEQUENCE, found }
}

/// The state of the database at one time.
#[derive(Debug)]
pub struct Seen {
    /// Input of [`admit`](super::admit).
    pub server: Server,
    /// Input of [`admit`](super::admit).
    pub slot: Option<ReplicationSlot>,
    /// The slot, as the catalogue has it.
    pub slot_facts: Option<SlotFacts>,
    /// Facts about the server.
    pub facts: ServerFacts,
    /// The publication, if it exists.
    pub publication: Option<PublicationFacts>,
    /// Partitions whose changes are sent as those of their root.
    pub partitions: Vec<Partition>,
    /// Tables and partitions for which the publication makes the application's own UPDATE or DELETE fail.
    pub broken: Vec<Diagnosis>,
    /// The parts that could not be read, with the reason. The stream needs none of them.
    pub unseen: Vec<Unseen>,
}

/// A part of the state that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unseen {
    /// Name of the part.
    pub part: &'static str,
    /// Why it could not be read.
    pub error: ServerError,
}

/// The connection settings: the URL, and the password from its source.
///
/// # Errors
/// The URL is invalid, or a password file cannot be used.
pub fn settings(config: &Config) -> Result<Settings, SettingsError> {
    let source = &config.source;
    let settings = Settings::from_url(source.url.expose())?;
    let password = match (&source.password, &source.password_file) {
        (Some(password), _) => Some(Password::new(password.expose())),
        (None, Some(path)) => {
            let text =
                small_file::read_text(path, PASSWORD_FILE_MAX).map_err(|error| SettingsError::File {
                    path: path.clone(),
                    problem: Problem::new(format!("cannot be read: {error}")).with_hint(PASSWORD_ALONE),
                })?;
            let password = text.trim_end_matches(['\r', '\n']);
            if password.is_empty() {
                let problem = Problem::new("is empty").with_hint(PASSWORD_ALONE);
                return Err(SettingsError::File { path: path.clone(), problem });
            }
            if password.contains(['\r', '\n']) {
                let problem = Problem::new("has several lines").with_hint(PASSWORD_ALONE);
                return Err(SettingsError::File { path: path.clone(), problem });
            }
            Some(Password::new(password))
        }
        (None, None) => None,
    };
    settings.with_password(password).with_passfile(None)
}

/// Reads the state of server, slot and publication, before a connection is opened or used.
///
/// # Errors
/// The connection failed, or a permission is missing. Errors of catalogue queries are retried.
pub async fn look(session: &mut Session, settings: &Settings, wanted: &Wanted) -> Result<Seen, Failure> {
    let mut seen = glance(session, wanted).await?;
    // Blockers of any stream are reported before the timeline is read.
    if seen.facts.may_stream() {
        let walsender = timeline(settings).await?;
        if seen.facts.control.as_ref().is_ok_and(|control| control.system_id != walsender.system_id) {
            return Err(Failure::retry("the server behind the address changed while it was looked at"));
        }
        (seen.server.system_id, seen.server.timeline, seen.server.switches) =
            (walsender.system_id, walsender.timeline, walsender.switches);
    }
    Ok(seen)
}

/// Like [`look`], but by SQL alone: the timeline is that of the control file and the current WAL file. It
/// needs no walsender, of which there may be only one.
///
/// # Errors
/// The same as those of [`look`].
pub async fn glance(session: &mut Session, wanted: &Wanted) -> Result<Seen, Failure> {
    let (facts, slot, publication, partitions, broken) = session
        .look(async |client| -> Result<_, Error> {
            let facts = slot::server_facts(client).await?;
            let slot = slot::slot_facts(client, &wanted.slot).await?;
            let publication = publication::publication_facts(client, &wanted.publication).await?;
            let partitions = optional(publication::partitions(client, &wanted.publication).await)?;
            let broken = optional(publication::identity::broken_by(client, &wanted.publication).await)?;
            Ok((facts, slot, publication, partitions, broken))
        })
        .await?;
    let mut unseen = Vec::new();
    let mut note = |part, error: ServerError| unseen.push(Unseen { part, error });
    let control =
        facts.control.clone().map_err(|error| note("identity and timeline of the server", error)).ok();
    let partitions =
        partitions.map_err(|error| note("partitions of the publication", error)).unwrap_or_default();
    let broken = broken.map_err(|error| note("replica identities", error)).unwrap_or_default();
    let (system_id, timeline) =
        control.map_or_else(Default::default, |control| (control.system_id, control.timeline));
    let server = Server {
        system_id,
        timeline,
        switches: Vec::new(),
        wal_end: facts.wal_end,
        in_recovery: facts.in_recovery,
        publication_exists: publication.is_some(),
    };
    let usable = slot.as_ref().map(|found| usable(found, wanted, facts.in_recovery));
    Ok(Seen { server, slot: usable, slot_facts: slot, facts, publication, partitions, broken, unseen })
}

/// Reads a part that is not needed for the stream. The server may refuse it.
fn optional<T>(part: Result<T, Error>) -> Result<Result<T, ServerError>, Error> {
    match part {
        Ok(found) => Ok(Ok(found)),
        Err(Error::Server(error)) => Ok(Err(*error)),
        Err(error) => Err(error),
    }
}

/// Reads the slot again.
///
/// # Errors
/// The connection failed.
pub async fn slot_again(
    session: &mut Session,
    wanted: &Wanted,
    seen: &Seen,
) -> Result<Option<ReplicationSlot>, Failure> {
    let found = session.look(async |client| slot::slot_facts(client, &wanted.slot).await).await?;
    Ok(found.map(|found| usable(&found, wanted, seen.facts.in_recovery)))
}

fn usable(found: &SlotFacts, wanted: &Wanted, in_recovery: bool) -> ReplicationSlot {
    let blockers = found.blockers(&wanted.slot, &wanted.database, in_recovery);
    let unusable = blockers.first().map(|blocker| blocker.fact.clone());
    ReplicationSlot { confirmed: found.confirmed_flush.unwrap_or(CommitSeq::ZERO), unusable }
}

/// Facts about the server from the walsender.
struct Walsender {
    system_id: String,
    timeline: u32,
    switches: Vec<(u32, CommitSeq)>,
}

/// The timeline and the ends of the earlier ones, from the walsender. During and after a promotion, it is
/// more accurate than the control file.
async fn timeline(settings: &Settings) -> Result<Walsender, Failure> {
    // A history file is small: one line for each timeline.
    const ANSWER_MAX: usize = 1 << 20;
    /// SQLSTATE `undefined_file`.
    const FILE_MISSING: &str = "58P01";
    let mut connection = Connection::connect(settings, ANSWER_MAX).await?;
    let SystemIdentity { system_id, timeline, .. } = connection.identify_system().await?;
    let history = if timeline > 1 { connection.timeline_history(timeline).await } else { Ok(String::new()) };
    // Closed before the stream is opened, because the server may have only one walsender.
    connection.close().await;
    match history {
        Ok(history) => Ok(Walsender { system_id, timeline, switches: parse_history(&history) }),
        // A restored server may lack the file. It is not needed on the known timeline. Another timeline is
        // then refused, because its origin is unknown.
        Err(Error::Server(error)) if error.code == FILE_MISSING => {
            Ok(Walsender { system_id, timeline, switches: Vec::new() })
        }
        Err(error) => Err(error.into()),
    }
}

/// The facts that a walsender can return. They are enough to continue the stream of a database that was
/// checked before.
#[derive(Debug)]
pub struct BareLook {
    /// Input of [`admit`](super::admit).
    pub server: Server,
    /// Input of [`admit`](super::admit).
    pub slot: Option<ReplicationSlot>,
    /// Whether another session reads the slot and may still advance it.
    pub is_read: bool,
}

/// Reads the state over the replication connection itself: a walsender may be free while all SQL connections
/// are in use.
///
/// # Errors
/// The connection failed, or the publication does not exist.
pub async fn look_bare(connection: &mut Connection, wanted: &Wanted) -> Result<BareLook, Failure> {
    let system = connection.identify_system().await?;
    let switches = if system.timeline > 1 {
        parse_history(&connection.timeline_history(system.timeline).await?)
    } else {
        Vec::new()
    };
    let query = format!(
        "SELECT pg_catalog.pg_is_in_recovery(),
                (SELECT pg_catalog.to_jsonb(s) FROM pg_catalog.pg_replication_slots s WHERE s.slot_name = {}),
                (SELECT p.oid FROM pg_catalog.pg_publication p WHERE p.pubname = {})",
        escape_literal(&wanted.slot),
        escape_literal(&wanted.publication)
    );
    let row = connection.query(&query).await.map_err(Failure::retry)?.into_iter().next().unwrap_or_default();
    let [in_recovery, slot, publication] = <[_; 3]>::try_from(row).map_err(|_| {
        Failure::retry("the walsender returned another number of columns than a query selected")
    })?;
    if publication.is_none() {
        return Err(unfit(vec![missing_publication(wanted)]));
    }
    let in_recovery = in_recovery.as_deref() == Some("t");
    let facts = slot.as_deref().map(slot::parse_slot).transpose()?;
    let is_read = facts.as_ref().is_some_and(|facts| facts.active_pid.is_some());
    let slot = facts.map(|facts| usable(&facts, wanted, in_recovery));
    let server = Server {
        system_id: system.system_id,
        timeline: system.timeline,
        switches,
        wal_end: system.wal_end,
        in_recovery,
        publication_exists: true,
    };
    Ok(BareLook { server, slot, is_read })
}

fn missing_publication(wanted: &Wanted) -> Diagnosis {
    let name = escape_identifier(&wanted.publication);
    Diagnosis::blocker(format!("publication {name}"), "it is missing, so changes would be skipped")
        .with_hint(format!(
            "Make it again (CREATE PUBLICATION {name} FOR TABLE …;). A slot that is older than its publication cannot \
             read what was written between them, so make a new one then:"
        ))
        .with_command(format!("forebay adopt --reason \"…\" --recreate-slot {}", wanted.slot))
}

/// Parses lines of `timeline <tab> LSN of the switch <tab> reason`.
fn parse_history(text: &str) -> Vec<(u32, CommitSeq)> {
    let line = |line: &str| {
        let mut fields = line.split_whitespace();
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    text.lines().filter_map(line).collect()
}

impl Seen {
    /// Checks that a process may start with this state.
    ///
    /// # Errors
    /// All blockers, each with the command that removes it.
    pub fn check(&self, wanted: &Wanted) -> Result<(), Failure> {
        let found = self.start_blockers(wanted);
        if found.is_empty() { Ok(()) } else { Err(unfit(found)) }
    }

    /// Everything that stops a start, including what a running process would only report.
    pub fn start_blockers(&self, wanted: &Wanted) -> Vec<Diagnosis> {
        let mut found = self.blockers();
        found.extend(self.warnings(wanted));
        found.into_iter().map(Diagnosis::blocks).collect()
    }

    /// The blockers of any stream.
    fn blockers(&self) -> Vec<Diagnosis> {
        const RESTART: &str = "Change the setting, then restart the server:";
        let facts = &self.facts;
        let server = |fact: String| Diagnosis::blocker("server", fact);
        let mut found = Vec::new();
        if facts.version < 140_000 {
            let fact = format!("it is PostgreSQL {}, and Forebay needs 14 or later", facts.version / 10_000);
            found.push(server(fact).with_hint("Upgrade the server."));
        }
        if facts.wal_level != "logical" {
            let fact = format!("wal_level is \"{}\", but a logical slot needs \"logical\"", facts.wal_level);
            let command = "ALTER SYSTEM SET wal_level = 'logical';";
            found.push(server(fact).with_hint(RESTART).with_command(command));
        }
        for (setting, value) in
            [("max_replication_slots", facts.slots_max), ("max_wal_senders", facts.senders_max)]
        {
            if value == 0 {
                let command = format!("ALTER SYSTEM SET {setting} = 10;");
                found.push(server(format!("{setting} is 0")).with_hint(RESTART).with_command(command));
            }
        }
        if !facts.may_replicate {
            let role = escape_identifier(&facts.role);
            found.push(
                Diagnosis::blocker(format!("role {role}"), "may not replicate")
                    .with_command(format!("ALTER ROLE {role} REPLICATION;")),
            );
        }
        found
    }

    /// Blockers of a start that a running process only reports, because stopping would not help.
    pub fn warnings(&self, wanted: &Wanted) -> Vec<Diagnosis> {
        let Some(publication) = &self.publication else { return Vec::new() };
        let mut found = self.broken.clone();
        if publication.tables.is_empty() {
            let name = escape_identifier(&wanted.publication);
            found.push(
                Diagnosis::warning(
                    format!("publication {name}"),
                    "it is empty, so nothing would be published",
                )
                .with_hint(format!("Add tables: ALTER PUBLICATION {name} ADD TABLE …;")),
            );
        }
        found
    }

    /// Checks that a running process may continue: slot and publication must exist by now.
    ///
    /// # Errors
    /// If no stream is possible now, that is retried, because a setting or a permission may be restored. If
    /// the publication does not exist, the process stops: PostgreSQL 18 would continue without it and skip
    /// every change.
    pub fn check_running(&self, wanted: &Wanted) -> Result<(), Failure> {
        let mut found = self.blockers();
        if self.publication.is_none() {
            found.push(missing_publication(wanted));
            return Err(unfit(found));
        }
        if found.is_empty() { Ok(()) } else { Err(Failure::retry(unusable_for(found))) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeline_history_names_each_switch_point() {
        let text = "1\t0/3000148\tno recovery target specified\n\n2\t16/B374D848\tno recovery target specified\n# x\n";
        assert_eq!(
            parse_history(text),
            [(1, CommitSeq::new(0x300_0148)), (2, CommitSeq::new(0x16_B374_D848))]
        );
    }
}
