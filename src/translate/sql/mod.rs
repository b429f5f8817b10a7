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

mod mistake;
mod row;
mod scope;

pub use mistake::{Mistake, Mistakes, Place};
pub use row::{Context, HmacKey, Row};
pub use scope::{Column, Meaning, Name, Scope};

use crate::types::SqlType;

/// A compiled expression. Belongs to the columns that its [`Scope`] named: with another relation message it is compiled again.
#[derive(Clone, Debug)]
pub struct Expression {}

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

impl Expression {
    /// Compiles a text that is one expression.
    ///
    /// # Errors
    /// All that is wrong with the text.
    pub fn parse(_text: &str, _scope: &Scope) -> Result<Self, Mistakes> {
        Err(Mistakes::default())
    }

    /// Compiles a text that must be a condition: of type boolean.
    ///
    /// # Errors
    /// All that is wrong with the text.
    pub fn parse_condition(_text: &str, _scope: &Scope) -> Result<Self, Mistakes> {
        Err(Mistakes::default())
    }

    /// Compiles a select list: `a, b as c, expression as name -- comment`.
    ///
    /// # Errors
    /// All that is wrong with the text.
    pub fn parse_list(_text: &str, _scope: &Scope) -> Result<Vec<Field>, Mistakes> {
        Err(Mistakes::default())
    }

    /// Its type, as Postgres describes it.
    pub fn data_type(&self) -> &SqlType {
        const { &SqlType::plain(crate::types::Base::Text) }
    }

    /// Whether it can be NULL.
    pub fn is_nullable(&self) -> bool {
        true
    }

    /// Whether it can be unavailable, as it reads a value that may be TOASTed or that belongs to the old row.
    pub fn may_be_unavailable(&self) -> bool {
        true
    }

    /// A tagged column of which it tells something; `None` if it may leave.
    pub fn tagged(&self) -> Option<&str> {
        None
    }

    /// Names of the columns of the new row (or, in a delete, of the old one) that it reads.
    pub fn reads_new(&self) -> &[String] {
        &[]
    }

    /// Names of the columns that it reads of the old row by `old.`; `changed()` reads all.
    pub fn reads_old(&self) -> &[String] {
        &[]
    }

    /// Whether it reads nothing of the change.
    pub fn is_constant(&self) -> bool {
        false
    }

    /// Whether it asks for the key of `hmac()`.
    pub fn uses_hmac(&self) -> bool {
        false
    }

    /// Whether a condition holds.
    ///
    /// # Errors
    /// As Postgres.
    pub fn holds(&self, _row: &Row<'_>, _context: &mut Context) -> Result<Truth, EvalError> {
        Ok(Truth::False)
    }

    /// Appends its value as JSON, as `to_jsonb()` prints it with the exceptions of `translate::json`.
    ///
    /// # Errors
    /// As Postgres; then `out` is as it was.
    pub fn write_json(
        &self,
        _row: &Row<'_>,
        _context: &mut Context,
        _out: &mut Vec<u8>,
    ) -> Result<Outcome, EvalError> {
        Ok(Outcome::Null)
    }

    /// Appends its value in Postgres' text form.
    ///
    /// # Errors
    /// As Postgres; then `out` is as it was.
    pub fn write_text(
        &self,
        _row: &Row<'_>,
        _context: &mut Context,
        _out: &mut String,
    ) -> Result<Outcome, EvalError> {
        Ok(Outcome::Null)
    }
}
