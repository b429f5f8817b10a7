//! What was locked, as far as translation has to keep to it: what is published is what was promised, whatever old rows bring.
//!
//! The rules are compared with the contracts at the start, with the tables as they are today. Rows can be older: written before a column
//! was NOT NULL, before the replica identity gave old values, before a type was changed. An event that such a row would break is a dead
//! letter.

use std::fmt;

use crate::types::{Base, Kind};

/// The contracts, by event type. `contracts` knows them.
pub trait Contracts: fmt::Debug + Send + Sync {
    /// Whether a type is locked.
    fn has(&self, event_type: &str) -> bool;

    /// What is promised of fields with these names and values; nothing, if the type is not locked.
    ///
    /// # Errors
    /// They can never be what was locked: why.
    fn promises(&self, event_type: &str, fields: &[(&str, &Kind, &Base)]) -> Result<Vec<Promise>, String>;
}

/// What is promised of one field.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Promise {
    /// It is never null.
    pub never_null: bool,
    /// It is always there.
    pub always: bool,
    /// Nobody was told of it: a column that came while the daemon runs, or that is gone by now. It stays out.
    pub unknown: bool,
}

impl Promise {
    /// A value is not there.
    ///
    /// # Errors
    /// It was promised.
    pub fn missing(self, name: &str) -> Result<(), String> {
        if self.always {
            return Err(format!(
                "{name}: its value was not sent with this row, and the locked contract says that it is always there: \
                 REPLICA IDENTITY FULL gives it for later rows"
            ));
        }
        Ok(())
    }

    /// A value is NULL.
    ///
    /// # Errors
    /// It was promised not to be.
    pub fn null(self, name: &str) -> Result<(), String> {
        if self.never_null {
            return Err(format!(
                "{name}: it is NULL in this row, and the locked contract says that it never is: say in a \
                 rule what it is then, such as coalesce({name}, …), start again, and retry"
            ));
        }
        Ok(())
    }
}
