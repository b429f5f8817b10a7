//! A change becomes the records that leave for it. Pure: no network, no disk, no clock.
//!
//! The same change under the same rules and epoch always becomes the same bytes: nothing here knows what time it is.

pub mod automatic;
pub mod dead_letter;
pub mod envelope;
pub mod json;
pub mod time;

use std::collections::HashMap;
use std::sync::Arc;

use crate::change::{Change, Relation};
use crate::config::Tables;
use crate::event::Records;

use self::automatic::Plan;
use self::envelope::Envelope;

/// Largest record of any Kinesis stream; the stream's own limit may be lower and is looked at when its turn comes.
const LINE_MAX: usize = 10 << 20;

/// Why a change cannot become events. Never contains row values.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TranslateError {
    /// A value is not what its type says.
    #[error("column {column}: {reason}")]
    Value {
        /// Column name.
        column: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The event would be larger than any stream takes.
    #[error("the event would be larger than {} MiB, the most that any Kinesis stream takes", LINE_MAX >> 20)]
    TooLarge,
    /// The server did not send a value without which there is no key.
    #[error("column {column} is part of the key, and the server did not send it")]
    KeyUnavailable {
        /// Column name.
        column: String,
    },
}

/// Turns changes into records. A relation is compiled into a plan once and the plan is used for all its rows.
#[derive(Debug)]
pub struct Translator {
    tables: Tables,
    envelope: Envelope,
    /// By relation oid, with the description the plan was made from: a table may change in mid-stream.
    plans: HashMap<u32, (Arc<Relation>, Option<Plan>)>,
    /// Plans kept at most; a database with more tables compiles again what it has not seen for a while.
    plans_max: usize,
}

impl Translator {
    /// For this CloudEvents source (`urn:forebay:<name>`) and epoch.
    pub fn new(source: &str, epoch: u16, tables: Tables) -> Self {
        Self { tables, envelope: Envelope::new(source, epoch), plans: HashMap::new(), plans_max: 10_000 }
    }

    /// The same rules for changes of another epoch: what is translated anew belongs to the history it came from.
    #[must_use]
    pub fn of_epoch(&self, epoch: u16) -> Self {
        Self::new(self.source(), epoch, self.tables.clone())
    }

    /// Epoch of the positions in its events.
    pub const fn epoch(&self) -> u16 {
        self.envelope.epoch()
    }

    /// The CloudEvents source of its events.
    pub fn source(&self) -> &str {
        self.envelope.source()
    }

    /// Whether any rule wants changes of this table.
    pub fn wants(&self, relation: &Relation) -> bool {
        self.tables.wants(&relation.schema, &relation.table)
    }

    /// Adds the records of a change; none if no rule wants it.
    ///
    /// # Errors
    /// The change cannot be translated; `records` may hold a part of it and must be cleared.
    pub fn translate(&mut self, change: &Change<'_>, records: &mut Records) -> Result<(), TranslateError> {
        let relation = change.relation;
        let known = self.plans.get(&relation.oid).is_some_and(|(planned, _)| Arc::ptr_eq(planned, relation));
        if !known {
            if self.plans.len() >= self.plans_max {
                self.plans.clear();
            }
            let wanted = self.wants(relation);
            let plan = wanted.then(|| Plan::new(relation, &self.tables, self.envelope.source()));
            self.plans.insert(relation.oid, (Arc::clone(relation), plan));
        }
        match self.plans.get_mut(&relation.oid) {
            Some((_, Some(plan))) => plan.translate(change, &mut self.envelope, records),
            _ => Ok(()),
        }
    }
}
