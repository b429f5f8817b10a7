//! Rules: what the business calls its events. `events/*.toml` → checked nouns; what they mean on a table is for `translate`.
//!
//! A rule is a trigger with a SELECT list: `from` which table, `on` what change, `when` which condition, `data` = select list.
//! Reading is pure but for the files, needs no database, and finds every error of every file before it gives up. What only
//! the database knows, the columns and their types, is checked when the table is met.

mod error;
mod file;
mod on;
mod outbox;
mod schemas;
mod template;

use std::path::Path;
use std::sync::Arc;

pub use self::error::{Place, RuleError, RuleErrors, SourceFile, SourceText};
pub use self::on::Trigger;
pub use self::outbox::{Outbox, OutboxColumns, OutboxOrigin};
pub use self::schemas::{Schema, Schemas, inside, inside_mut};
pub use self::template::Template;
use crate::config::TableName;

/// Rules of all files together, at most; what they cost is checked by nobody, so that a generated file cannot run away.
pub const RULES_MAX: usize = 2_000;

/// All rules, in publishing order: files by name, then as written.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// The rules.
    pub events: Vec<Rule>,
    /// Where applications put events that they have made themselves.
    pub outboxes: Vec<Outbox>,
}

impl Rules {
    /// Reads the files that a pattern such as `events/*.toml` names, relative to `base`.
    ///
    /// # Errors
    /// Everything that is wrong, in all files.
    pub fn load(pattern: &str, base: &Path) -> Result<Self, RuleErrors> {
        file::load(pattern, base)
    }

    /// The rules that read the table, and which they are: the rule itself, or all that make the event that it is made from.
    pub fn roots_of<'a>(&'a self, rule: &'a Rule) -> impl Iterator<Item = (usize, &'a Rule)> {
        let is_root = move |(_, other): &(usize, &Rule)| match &rule.origin {
            Origin::Table { .. } => std::ptr::eq(rule, *other),
            Origin::Event(parent) => other.event_type == *parent,
        };
        self.events.iter().enumerate().filter(is_root)
    }

    /// The outbox that a table is.
    pub fn outbox_of(&self, schema: &str, name: &str) -> Option<&Outbox> {
        self.outboxes.iter().find(|outbox| {
            matches!(&outbox.origin, OutboxOrigin::Table { table, .. } if table.schema == schema && table.table == name)
        })
    }

    /// The outbox whose messages have this prefix, and what follows it.
    pub fn outbox_of_message<'a>(&self, prefix: &'a [u8]) -> Option<(&Outbox, &'a [u8])> {
        self.outboxes.iter().find_map(|outbox| match &outbox.origin {
            OutboxOrigin::Messages(ours) => Some((outbox, prefix.strip_prefix(ours.as_bytes())?)),
            OutboxOrigin::Table { .. } => None,
        })
    }

    /// The tables that rules read and those that are outboxes, each once, in the order of the rules, outboxes behind.
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
    /// `lab.plate_completed.v2`.
    pub event_type: TypeName,
    /// The sentence a reader sees first.
    pub about: Option<String>,
    /// Who answers for it.
    pub owner: Option<String>,
    /// Who is known to read it.
    pub consumers: Vec<String>,
    /// What it is made from.
    pub origin: Origin,
    /// What its id is made of.
    pub id: Id,
    /// SQL, boolean: only where it is true.
    pub when: Option<SourceText>,
    /// SQL: partition key.
    pub key: Option<SourceText>,
    /// SQL: subject.
    pub subject: Option<SourceText>,
    /// SQL: when it happened.
    pub time: Option<SourceText>,
    /// SQL select list.
    pub data: Option<SourceText>,
    /// If it is to go.
    pub deprecated: Option<Deprecated>,
    /// Where its type stands.
    pub place: Place,
}

/// What a rule reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Changes of a table.
    Table {
        /// The table.
        from: TableName,
        /// Which changes.
        on: Vec<Trigger>,
    },
    /// Another event, usually the next major version of the same.
    Event(TypeName),
}

/// What an event's id is made of (`docs/EVENTS.md`).
#[derive(Clone, Debug)]
pub enum Id {
    /// The change: two changes are two events.
    Change,
    /// The row's key: at most one event of this type per row, whatever happens to it.
    Key,
    /// The text of an expression, taken as it is: the application owns it.
    Given(SourceText),
}

/// `deprecated = { since = "2026-11-01", sunset = "2027-05-01", use = "…" }`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deprecated {
    /// Since when, `YYYY-MM-DD`.
    pub since: String,
    /// From when on it may be gone, `YYYY-MM-DD`.
    pub sunset: Option<String>,
    /// What to read instead.
    pub instead: Option<String>,
}

/// An event type: dotted lower-case words and a major version.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TypeName {
    full: Arc<str>,
    stem: usize,
    major: u32,
}

/// Longest event type, in bytes; it is a file name in `events.lock/`.
const TYPE_MAX: usize = 200;

impl TypeName {
    /// Reads `lab.plate_completed.v2`.
    ///
    /// # Errors
    /// What is wrong with it, and how it should look.
    pub fn parse(text: &str) -> Result<Self, String> {
        let form = "lower-case words joined by dots and a major version, such as \"lab.plate_completed.v1\"";
        let word = |word: &str| {
            word.starts_with(|first: char| first.is_ascii_lowercase())
                && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        };
        let Some((stem, version)) = text.rsplit_once(".v") else {
            return Err(format!("{text:?} does not end in its major version; an event type is {form}"));
        };
        if version.starts_with('0') || !version.bytes().all(|b| b.is_ascii_digit()) {
            return Err(format!("{text:?}: \"v{version}\" is no major version; the first is \"v1\""));
        }
        let major = version.parse().map_err(|_| format!("{text:?}: \"v{version}\" is no major version"))?;
        if !stem.split('.').all(word) {
            return Err(format!("{text:?} is no event type: {form}"));
        }
        if text.len() > TYPE_MAX {
            return Err(format!(
                "the event type has {} characters, at most {TYPE_MAX} are allowed",
                text.len()
            ));
        }
        if stem == "forebay" || stem.starts_with("forebay.") {
            return Err(format!("{text:?}: types that begin with \"forebay.\" are Forebay's own"));
        }
        Ok(Self { full: text.into(), stem: stem.len(), major })
    }

    /// All of it.
    pub fn as_str(&self) -> &str {
        &self.full
    }

    /// Without the version: `lab.plate_completed`.
    pub fn stem(&self) -> &str {
        self.full.get(..self.stem).unwrap_or_default()
    }

    /// The major version.
    pub const fn major(&self) -> u32 {
        self.major
    }

    /// The same event in another major version.
    #[must_use]
    pub fn with_major(&self, major: u32) -> Self {
        Self { full: format!("{}.v{major}", self.stem()).into(), stem: self.stem, major }
    }
}

impl std::fmt::Display for TypeName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.full)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_is_words_and_a_major_version() {
        for (text, stem, major) in [("lab.plate_completed.v2", "lab.plate_completed", 2), ("a.v10", "a", 10)]
        {
            let name = TypeName::parse(text).unwrap();
            assert_eq!((name.as_str(), name.stem(), name.major()), (text, stem, major));
            assert_eq!(name.with_major(7).as_str(), format!("{stem}.v7"));
        }
        for text in [
            "",
            "lab.plate",
            "lab.Plate.v1",
            "lab..v1",
            ".v1",
            "lab.v0",
            "lab.v01",
            "lab.v",
            "lab.v99999999999",
            "1a.v1",
            "forebay.gap.v1",
            "a b.v1",
        ] {
            assert!(TypeName::parse(text).is_err(), "{text}");
        }
        assert!(TypeName::parse(&format!("{}.v1", "a".repeat(300))).is_err());
    }
}
