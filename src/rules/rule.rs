//! The content of rule files.

use super::error::{FilePosition, SourceText};
use super::on::Trigger;
use super::outbox::{Outbox, OutboxOrigin};
use super::type_name::TypeName;
use crate::config::TableName;

/// Largest number of rules in all files together. It bounds the cost of a generated rule file.
pub const RULES_MAX: usize = 2_000;

/// All rules in publishing order: files by name, then the order in the file.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// The rules.
    pub events: Vec<Rule>,
    /// The outboxes.
    pub outboxes: Vec<Outbox>,
}

impl Rules {
    /// The rules that read a table for this rule: the rule itself, or every rule that creates its source
    /// event.
    pub fn roots_of<'a>(&'a self, rule: &'a Rule) -> impl Iterator<Item = (usize, &'a Rule)> {
        let is_root = move |(_, other): &(usize, &Rule)| match &rule.origin {
            Origin::Table { .. } => std::ptr::eq(rule, *other),
            Origin::Event(parent) => other.event_type == *parent,
        };
        self.events.iter().enumerate().filter(is_root)
    }

    /// The outbox of a table.
    pub fn outbox_of(&self, schema: &str, name: &str) -> Option<&Outbox> {
        self.outboxes.iter().find(|outbox| {
            matches!(&outbox.origin, OutboxOrigin::Table { table, .. } if table.schema == schema && table.table == name)
        })
    }

    /// The outbox of a message prefix, and the rest of the prefix.
    pub fn outbox_of_message<'a>(&self, prefix: &'a [u8]) -> Option<(&Outbox, &'a [u8])> {
        self.outboxes.iter().find_map(|outbox| match &outbox.origin {
            OutboxOrigin::Messages(ours) => Some((outbox, prefix.strip_prefix(ours.as_bytes())?)),
            OutboxOrigin::Table { .. } => None,
        })
    }

    /// The tables that rules read, then the tables of outboxes, without duplicates.
    pub fn tables(&self) -> Vec<&TableName> {
        let mut tables: Vec<&TableName> = Vec::new();
        for rule in &self.events {
            if let Origin::Table { from, .. } = &rule.origin
                && !tables.contains(&from)
            {
                tables.push(from);
            }
        }
        for outbox in &self.outboxes {
            if let OutboxOrigin::Table { table, .. } = &outbox.origin
                && !tables.contains(&table)
            {
                tables.push(table);
            }
        }
        tables
    }
}

/// One `[[event]]`.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Event type, such as `lab.plate_completed.v2`.
    pub event_type: TypeName,
    /// Summary for the catalogue.
    pub about: Option<String>,
    /// The team responsible for the event.
    pub owner: Option<String>,
    /// The known consumers.
    pub consumers: Vec<String>,
    /// The source of the event.
    pub origin: Origin,
    /// How the id is computed.
    pub id: IdRule,
    /// SQL condition. An event is created only if it is true.
    pub when: Option<SourceText>,
    /// SQL expression for the partition key.
    pub key: Option<SourceText>,
    /// SQL expression for the subject.
    pub subject: Option<SourceText>,
    /// SQL expression for the event time.
    pub time: Option<SourceText>,
    /// SQL select list.
    pub data: Option<SourceText>,
    /// The deprecation.
    pub deprecated: Option<Deprecated>,
    /// Position of the event type in the rule file.
    pub place: FilePosition,
}

/// The source of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Changes of a table.
    Table {
        /// The table.
        from: TableName,
        /// The operations.
        on: Vec<Trigger>,
    },
    /// Another event, usually the next major version of the same one.
    Event(TypeName),
}

/// How an event's id is computed (`docs/EVENTS.md`).
#[derive(Clone, Debug)]
pub enum IdRule {
    /// From the change: each change is a new event.
    Change,
    /// From the row's key: each row has at most one event of this type.
    Key,
    /// From an expression. The application guarantees that ids are unique.
    Given(SourceText),
}

/// The deprecation of an event: `deprecated = { since = "2026-11-01", sunset = "2027-05-01", use = "…" }`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deprecated {
    /// Date of the deprecation, `YYYY-MM-DD`.
    pub since: String,
    /// Earliest date of the removal, `YYYY-MM-DD`.
    pub sunset: Option<String>,
    /// What consumers should use instead.
    pub instead: Option<String>,
}
