//! The expression language of rules: a total, deterministic subset of PostgreSQL's SQL.
//!
//! `sqlparser` parses a text; `parse` builds a small tree; `check` resolves names and types; `eval` evaluates
//! it over the undecoded cells of a row and decodes only the cells it needs. An accepted text means the same
//! as in PostgreSQL in a session with `TimeZone` UTC. A text that could mean something else is refused at
//! load time, with its position and an alternative.
//!
//! Invariants:
//! - equal to PostgreSQL (tested against real servers, `tests/it/sql.rs`)
//! - total: time and memory are bounded by the length of the expression and the row
//! - deterministic: no clock, no random numbers, no collation except by bytes
//! - no input causes a panic, and no error quotes a row's value
//!
//! Documented differences:
//! - the third value of DESIGN §5, *unavailable*, propagates like an unknown value
//! - `lower()`, `upper()` and `ILIKE` change letters one by one, as a database with a UTF-8 `LC_CTYPE` does
//! - text is cast to date, time and interval only from ISO 8601 and from PostgreSQL's own output
//! - the depth of JSON documents is limited

mod advice;
mod array;
mod check;
mod compiled;
mod datum;
mod def;
mod describable;
mod digits;
mod document;
mod eval;
mod fault;
mod float;
mod function;
mod hex;
mod interval;
mod iso;
mod jsonb;
mod kind;
mod mistake;
mod moment;
mod number;
mod numeral;
mod parse;
mod parsed;
mod regular;
mod row;
mod scale;
mod scope;
mod short;
mod text;
mod tree;
mod units;
mod value;

pub use compiled::Expression;
pub use describable::{Described, describable};
pub use mistake::{Mistake, Mistakes, SourceSpan};
pub use parsed::{ParsedForm, ReadColumn, tidied};
pub use row::{Context, HmacKey, Row};
pub use scope::{Meaning, Name, PseudonymOrigin, Scope, ScopeColumn};

/// One field of a select list.
#[derive(Clone, Debug)]
pub struct SelectField {
    /// Name: the one after `as`, or that of the column.
    pub name: String,
    /// Value.
    pub expression: Expression,
    /// The `-- comment` after the field.
    pub comment: Option<String>,
    /// Position in the text.
    pub place: SourceSpan,
}

/// The result of an evaluation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EvalOutcome {
    /// A value; it was written.
    Value,
    /// SQL NULL. In JSON, `null` was written; in text, nothing.
    Null,
    /// The result needs a value that the server did not send. Nothing was written.
    Unavailable,
}

/// The result of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Truth {
    /// The condition is true.
    True,
    /// The condition is false or NULL.
    False,
    /// The condition needs a value that the server did not send. It counts as not true.
    Unavailable,
}

/// Why an expression failed for a row. Never contains values of the row.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message} (line {}, column {} of the expression)", place.line, place.column)]
pub struct EvalError {
    /// PostgreSQL's `SQLSTATE` for it.
    pub sqlstate: &'static str,
    /// PostgreSQL's message, without the value.
    pub message: String,
    /// The part of the text that failed.
    pub place: SourceSpan,
}

#[cfg(test)]
mod tests;
