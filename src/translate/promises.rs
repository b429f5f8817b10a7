//! Promises of locked contracts that translation checks for every row.
//!
//! At start the rules are compared with the contracts, using the current table definitions. Rows can be
//! older: written before a column was NOT NULL, before the replica identity provided old values, before a
//! type changed. An event that would break its contract becomes a dead letter.

use std::fmt;

use crate::failure::Problem;
use crate::types::{Base, Kind};

/// The locked contracts, by event type. Implemented by the module `contracts`.
pub trait Contracts: fmt::Debug + Send + Sync {
    /// Whether an event type is locked.
    fn has(&self, event_type: &str) -> bool;

    /// The promises for fields with these names and values. Empty if the type is not locked.
    ///
    /// # Errors
    /// Why fields like these can never satisfy the contract.
    fn promises(&self, event_type: &str, fields: &[(&str, &Kind, &Base)]) -> Result<Vec<Promise>, Problem>;
}

/// The promise for one field.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Promise {
    /// The field is never null.
    pub never_null: bool,
    /// The field is always present.
    pub always: bool,
    /// Whether the contract lacks the field, because the column was added or dropped while the daemon runs.
    /// The field is left out.
    pub unknown: bool,
}

impl Promise {
    /// Checks a field whose value was not sent.
    ///
    /// # Errors
    /// The contract promises that the field is present.
    pub fn missing(self, name: &str) -> Result<(), Problem> {
        if self.always {
            let problem = Problem::new(format!(
                "{name}: the server did not send its value, but the locked contract promises it"
            ));
            return Err(
                problem.with_hint("Set REPLICA IDENTITY FULL on the table: it applies to later rows.")
            );
        }
        Ok(())
    }

    /// Checks a field whose value is NULL.
    ///
    /// # Errors
    /// The contract promises that the field is not null.
    pub fn null(self, name: &str) -> Result<(), Problem> {
        if self.never_null {
            let problem =
                Problem::new(format!("{name}: NULL in this row, but the locked contract promises a value"));
            return Err(problem.with_hint(format!(
                "Write a rule with coalesce({name}, …), restart Forebay and run `forebay dlq retry`."
            )));
        }
        Ok(())
    }
}
