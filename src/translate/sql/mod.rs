//! The expression language of rules: a total, deterministic subset of Postgres' SQL.
//!
//! A text is parsed with `sqlparser`, brought into a small tree of our own (`parse`), given names and types (`check`), and
//! evaluated over the undecoded cells of a row (`eval`), of which only those that are needed are read. What is accepted
//! means what it means in Postgres, in a session with `TimeZone` UTC; what could not mean the same is refused when it is
//! loaded, with the place and what to do instead.
//!
//! Invariants: equal to Postgres (proven against real servers, `tests/it/sql.rs`); total: every expression ends, in time and
//! memory that are bounded by its length and its row's; deterministic: no clock, no random numbers, no collation but bytes;
//! no input makes it panic; no error quotes a value of a row.
//!
//! Stated differences: DESIGN §5's third value, *unavailable*, spreads like an unknown value; `lower()`, `upper()` and
//! `ILIKE` change letters one by one, as a database with a UTF-8 `LC_CTYPE` does; text becomes date, time and interval only
//! from ISO 8601 and from what Postgres itself prints; JSON documents are bounded in depth.

mod array;
mod check;
mod describable;
mod digits;
mod document;
mod eval;
mod expression;
mod fault;
mod float;
mod interval;
mod kind;
mod mistake;
mod moment;
mod number;
mod numeral;
mod parse;
mod row;
mod scope;
mod short;
mod text;
mod tree;
mod value;

pub use describable::{Described, describable};
pub use expression::Expression;
pub use mistake::{Mistake, Mistakes, Place};
pub use row::{Context, HmacKey, Row};
pub use scope::{Column, Meaning, Name, Scope};

/// One field of a select list.
#[derive(Clone, Debug)]
pub struct Field {
    /// Its name: after `as`, else the column's.
    pub name: String,
    /// Its value.
    pub expression: Expression,
    /// The `-- comment` behind it.
    pub comment: Option<String>,
    /// Where it stands in the text.
    pub place: Place,
}

/// What an expression came to, besides what was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A value; it was written.
    Value,
    /// SQL NULL. As JSON, `null` was written; as text, nothing.
    Null,
    /// It depends on a value that the server did not send. Nothing was written.
    Unavailable,
}

/// What a condition came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Truth {
    /// It holds.
    True,
    /// It is false, or NULL.
    False,
    /// It depends on a value that the server did not send: does not hold, and is counted.
    Unavailable,
}

/// Why an expression has no value for a row. Never contains values of the row.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message} (line {}, column {} of the expression)", place.line, place.column)]
pub struct EvalError {
    /// `SQLSTATE` that Postgres gives for it.
    pub sqlstate: &'static str,
    /// Postgres' words, without the value.
    pub message: String,
    /// The part of the text that failed.
    pub place: Place,
}

#[cfg(test)]
mod tests;
