//! The tables of a polled database, for `forebay init`: the cursor that a start would choose for each.

use std::collections::BTreeMap;

use super::text::{comment, facts, is_writable, quoted};
use crate::config::{Polling, TABLES_MAX, TableName};
use crate::failure::Failure;
use crate::source::postgres::polling::plan;
use crate::source::postgres::publication::escape_identifier;
use crate::source::postgres::publication::survey::DatabaseSurvey;
use crate::source::postgres::session::Session;
use crate::source::postgres::slot::{ServerFacts, server_facts};

/// The first version with logical decoding as Forebay needs it.
const REPLICATION_SINCE: u32 = 140_000;
/// The first version with logical decoding on standbys.
const DECODING_STANDBY_SINCE: u32 = 160_000;
/// How tables are read: `source.mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum ReadMode {
    /// By a replication slot.
    Replication,
    /// By queries.
    Polling,
}

/// The tables of a polled database.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolledSurvey {
    /// Why it must be polled; `None`: the operator has chosen it.
    reason: Option<String>,
    /// The cursor of each table that can be polled, and why it was chosen.
    cursors: BTreeMap<TableName, String>,
    /// Why each of the other tables cannot be polled.
    left_out: BTreeMap<TableName, String>,
}

impl PolledSurvey {
    /// Examines the tables if they will be polled.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn read(
        mode: Option<ReadMode>,
        session: &mut Session,
        found: &DatabaseSurvey,
    ) -> Result<Option<Self>, Failure> {
        let reason = match mode {
            Some(ReadMode::Replication) => return Ok(None),
            Some(ReadMode::Polling) => None,
            None => match why_not_replication(&session.run(server_facts).await?) {
                Some(reason) => Some(reason),
                None => return Ok(None),
            },
        };
        let names: Vec<TableName> =
            found.tables.iter().map(|table| table.name.clone()).filter(is_writable).collect();
        let polling = Polling::default();
        let (tables, refused) =
            session.run(async |client| plan::describe(client, &names, (&polling, &|_| {})).await).await?;
        let mut survey = Self { reason, ..Self::default() };
        for table in tables {
            if survey.cursors.len() < TABLES_MAX {
                let (kind, column) = (table.cursor.kind.name(), table.cursor_column());
                let cursor = format!("{kind} cursor {column}: {}", table.cursor.reason);
                survey.cursors.insert(table.name, cursor);
            } else {
                let many =
                    format!("it can be polled by another instance: one polls at most {TABLES_MAX} tables");
                survey.left_out.insert(table.name, many);
            }
        }
        for name in names {
            let subject = format!("table {name}");
            if let Some(diagnosis) = refused.iter().find(|diagnosis| diagnosis.subject == subject) {
                let advice = diagnosis.hint.iter().chain(&diagnosis.command);
                let lines: Vec<&str> =
                    std::iter::once(&diagnosis.fact).chain(advice).map(String::as_str).collect();
                survey.left_out.insert(name, lines.join(". "));
            }
        }
        // A role that can do neither gets the usual configuration, and `forebay check` names the permissions
        // that it needs.
        let can_only_poll = mode == Some(ReadMode::Polling) || !survey.cursors.is_empty();
        Ok(can_only_poll.then_some(survey))
    }

    /// Whether the configuration lists the table.
    pub fn lists(&self, name: &TableName) -> bool {
        self.cursors.contains_key(name)
    }

    /// Why the configuration does not list the table.
    pub fn why_not(&self, name: &TableName) -> Option<&str> {
        self.left_out.get(name).map(String::as_str)
    }

    /// Writes the keys of `[source]`.
    pub(super) fn write(&self, add: &mut impl FnMut(&str), found: &DatabaseSurvey) {
        if let Some(reason) = &self.reason {
            add(&comment(reason));
        }
        add(
            "mode = \"polling\"    # rows are found by queries: no deletes, and of a row only its last version",
        );
        add("start = \"now\"    # \"beginning\" also publishes the rows that exist");
        if self.cursors.is_empty() {
            add("tables = []    # no table can be polled yet: see the end of this file");
            return;
        }
        add(
            "tables = [    # with the cursor that finds new rows; another one is written in [source.cursors]",
        );
        for table in &found.tables {
            if let Some(cursor) = self.cursors.get(&table.name) {
                let name = quoted(&table.name.to_string());
                let about = comment(&format!("{cursor}; {}", facts(table, found.counted_for)));
                add(&format!("    {name},    {about}"));
            }
        }
        add("]");
    }
}

/// Why this role cannot use replication here; `None` if it can, perhaps after a setting is changed that
/// `forebay check` names.
fn why_not_replication(facts: &ServerFacts) -> Option<String> {
    let version = facts.version / 10_000;
    if facts.version < REPLICATION_SINCE {
        return Some(format!("PostgreSQL {version}: replication needs 14 or later."));
    }
    if facts.in_recovery && facts.version < DECODING_STANDBY_SINCE {
        return Some(format!(
            "A standby of PostgreSQL {version} has no replication slots: name its primary to use one."
        ));
    }
    let role = escape_identifier(&facts.role);
    (!facts.may_replicate).then(|| {
        format!("Role {role} may not replicate. To use a replication slot: ALTER ROLE {role} REPLICATION; and run this again.")
    })
}
