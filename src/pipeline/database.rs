//! What the database says of itself, gathered for [`recover`](super::recover): looked at before every connection.

use crate::config::Config;
use crate::failure::Failure;
use crate::pipeline::recover::{Server, Slot, Wanted};
use crate::position::Lsn;
use crate::source::postgres::connection::Connection;
use crate::source::postgres::conninfo::{Password, Settings, SettingsError};
use crate::source::postgres::error::Error;
use crate::source::postgres::publication::{self, PublicationFacts};
use crate::source::postgres::slot::{self, Finding, ServerFacts, SlotFacts};
use crate::source::postgres::sql::Session;

/// The database cannot be used as it is; each finding has the command that mends it.
#[derive(Debug, thiserror::Error)]
#[error("the database cannot be used as it is:{}", list(.0))]
pub struct Unfit(pub(super) Vec<Finding>);

fn list(findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        text.push_str("\n  - ");
        text.push_str(&finding.message);
        if let Some(mend) = &finding.mend {
            text.push_str("\n    mend it with: ");
            text.push_str(mend);
        }
    }
    text
}

/// One look.
#[derive(Debug)]
pub struct Seen {
    /// For recovery.
    pub server: Server,
    /// For recovery.
    pub slot: Option<Slot>,
    /// All that the catalogue says of the slot.
    pub slot_facts: Option<SlotFacts>,
    /// All that the server says of itself.
    pub facts: ServerFacts,
    /// The publication, if it exists.
    pub publication: Option<PublicationFacts>,
    /// Tables, leaves of partitioned ones too, on which it makes the application's own UPDATE or DELETE fail.
    pub broken: Vec<Finding>,
}

/// The connection settings: the URL, and the password from wherever it is.
///
/// # Errors
/// The URL is wrong, or a password file cannot be used.
pub fn settings(config: &Config) -> Result<Settings, SettingsError> {
    let source = &config.source;
    let settings = Settings::from_url(source.url.expose())?;
    let password = match (&source.password, &source.password_file) {
        (Some(password), _) => Some(Password::new(password.expose())),
        (None, Some(path)) => {
            let text = std::fs::read_to_string(path).map_err(|error| SettingsError::File {
                path: path.clone(),
                problem: format!(
                    "cannot be read ({error}); source.password_file must hold the password and nothing else"
                ),
            })?;
            Some(Password::new(text.trim_end_matches(['\r', '\n'])))
        }
        (None, None) => None,
    };
    settings.with_password(password).with_passfile(None)
}

/// Looks at server, slot and publication.
///
/// # Errors
/// The connection, or a role that may not look.
pub async fn look(session: &mut Session, settings: &Settings, wanted: &Wanted) -> Result<Seen, Failure> {
    let (facts, slot, publication, broken) = session
        .run(async |client| -> Result<_, Error> {
            let facts = slot::server_facts(client).await?;
            let slot = slot::slot_facts(client, &wanted.slot).await?;
            let publication = publication::publication_facts(client, &wanted.publication).await?;
            let broken = publication::broken_by(client, &wanted.publication).await?;
            Ok((facts, slot, publication, broken))
        })
        .await?;
    // Where no stream is possible at all, that is found and told before the timeline matters.
    let (timeline, switches) =
        if facts.may_stream() { timeline(settings).await? } else { (facts.timeline, Vec::new()) };
    let server = Server {
        system_id: facts.system_id.clone(),
        timeline,
        switches,
        wal_end: facts.wal_end,
        in_recovery: facts.in_recovery,
        publication_exists: publication.is_some(),
    };
    let usable = slot.as_ref().map(|found| usable(found, wanted, facts.in_recovery));
    Ok(Seen { server, slot: usable, slot_facts: slot, facts, publication, broken })
}

fn usable(found: &SlotFacts, wanted: &Wanted, in_recovery: bool) -> Slot {
    let findings = found.findings(&wanted.slot, &wanted.database, in_recovery);
    let unusable = findings.first().map(|finding| finding.message.clone());
    Slot { confirmed: found.confirmed_flush.unwrap_or(Lsn::ZERO), unusable }
}

/// The timeline, from the walsender, which knows it better than the control file during and after a promotion; and where
/// the earlier ones were left.
async fn timeline(settings: &Settings) -> Result<(u32, Vec<(u32, Lsn)>), Failure> {
    // A history file is small: one line for each timeline.
    const ANSWER_MAX: usize = 1 << 20;
    /// `undefined_file`.
    const FILE_MISSING: &str = "58P01";
    let mut connection = Connection::connect(settings, ANSWER_MAX).await?;
    let timeline = connection.identify_system().await?.timeline;
    if timeline <= 1 {
        return Ok((timeline, Vec::new()));
    }
    match connection.timeline_history(timeline).await {
        Ok(history) => Ok((timeline, parse_history(&history))),
        // A restored server may not have the file. On the timeline that we know, nothing hangs on it; another one is then
        // refused, because nobody knows where it comes from.
        Err(Error::Server(error)) if error.code == FILE_MISSING => Ok((timeline, Vec::new())),
        Err(error) => Err(error.into()),
    }
}

/// Lines of `timeline <tab> LSN of the switch <tab> reason`.
fn parse_history(text: &str) -> Vec<(u32, Lsn)> {
    let line = |line: &str| {
        let mut fields = line.split_whitespace();
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    text.lines().filter_map(line).collect()
}

impl Seen {
    /// Whether a process should start on this.
    ///
    /// # Errors
    /// Everything that stands in the way, each with the command that mends it.
    pub fn check(&self, wanted: &Wanted) -> Result<(), Failure> {
        let mut findings = self.hindrances();
        findings.extend(self.doubts(wanted));
        if findings.is_empty() { Ok(()) } else { Err(Failure::stop(Unfit(findings))) }
    }

    /// What makes receiving impossible.
    fn hindrances(&self) -> Vec<Finding> {
        let facts = &self.facts;
        let mut findings = Vec::new();
        let mut find =
            |message: String, mend: &str| findings.push(Finding { message, mend: Some(mend.to_owned()) });
        if facts.version < 140_000 {
            find(
                format!("The server is PostgreSQL {}; Forebay needs 14 or later.", facts.version / 10_000),
                "an upgrade",
            );
        }
        if facts.wal_level != "logical" {
            let mend = "ALTER SYSTEM SET wal_level = 'logical'; (then restart the server)";
            find(format!("wal_level is {:?}, but a logical slot needs \"logical\".", facts.wal_level), mend);
        }
        if !facts.may_replicate {
            let role = &facts.role;
            find(
                format!("The role {role:?} may not replicate."),
                &format!("ALTER ROLE \"{role}\" REPLICATION;"),
            );
        }
        findings
    }

    /// What a start refuses, and a running process only reports: it would help nobody to stop receiving for it.
    pub fn doubts(&self, wanted: &Wanted) -> Vec<Finding> {
        let Some(publication) = &self.publication else { return Vec::new() };
        let mut findings = self.broken.clone();
        if publication.tables.is_empty() {
            findings.push(Finding {
                message: format!(
                    "The publication {:?} is empty: nothing would ever be published.",
                    wanted.publication
                ),
                mend: Some(format!("ALTER PUBLICATION \"{}\" ADD TABLE …;", wanted.publication)),
            });
        }
        findings
    }

    /// Whether a process may go on, or go on again, on this: everything should exist by now.
    ///
    /// # Errors
    /// Receiving is impossible, or the publication is gone: Postgres 18 would go on without it and skip every change.
    pub fn check_running(&self, wanted: &Wanted) -> Result<(), Failure> {
        let mut findings = self.hindrances();
        if self.publication.is_none() {
            let name = &wanted.publication;
            findings.push(Finding {
                message: format!("The publication {name:?} is missing: changes would be skipped."),
                mend: Some(format!(
                    "CREATE PUBLICATION \"{name}\" FOR TABLE …; then `forebay adopt --reason \"…\" --recreate-slot {}`, \
                     because a slot that is older than its publication cannot read what was written between them",
                    wanted.slot
                )),
            });
        }
        if findings.is_empty() { Ok(()) } else { Err(Failure::stop(Unfit(findings))) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeline_history_names_where_each_timeline_was_left() {
        let text = "1\t0/3000148\tno recovery target specified\n\n2\t16/B374D848\tno recovery target specified\n# x\n";
        assert_eq!(parse_history(text), [(1, Lsn::new(0x300_0148)), (2, Lsn::new(0x16_B374_D848))]);
    }
}
