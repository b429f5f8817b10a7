//! Rules turn row changes into domain events. This module parses and checks `events/*.toml`; `translate`
//! applies the rules.
//!
//! A rule is a trigger with a SELECT list: `from` names the table, `on` the operations, `when` the condition,
//! `data` the select list. Parsing needs no database and reports all errors in all files at once. Columns and
//! types are checked once the table's description is known.

mod error;
mod file;
mod on;
mod outbox;
mod rule;
mod schemas;
mod template;
mod type_name;

pub use self::error::{FilePosition, RuleError, RuleErrors, SourceFile, SourceText, Wrong};
pub use self::on::Trigger;
pub use self::outbox::{Outbox, OutboxColumns, OutboxOrigin};
pub use self::rule::{Deprecated, IdRule, Origin, RULES_MAX, Rule, Rules};
pub use self::schemas::{Schema, Schemas, inside, inside_mut};
pub use self::template::Template;
pub use self::type_name::TypeName;
