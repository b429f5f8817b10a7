//! Events made by rules. A relation and its rules are compiled once; each change is then matched against the
//! plan.
//!
//! Events are in the order of the rules. An event that fails on a row fails alone: the other events of the
//! change are published, and the caller writes a dead letter for the failed one.

mod compile;
mod compiled;
mod write;

use crate::change::{Change, Operation};
use crate::event::Records;
use crate::failure::Problem;

use super::envelope::Envelope;
use super::error::TranslateError;
use crate::expression::{Context, Row, Truth};

pub use self::compile::{Catalog, compile, has_rules};
pub use self::compiled::{CompiledField, CompiledRule, Operations, RulePlan};

/// An event that failed on a row. Never contains row values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// Event type.
    pub event_type: String,
    /// Why it failed.
    pub reason: Problem,
}

/// The result of a change, besides its records.
#[derive(Debug, Default)]
pub struct RuleOutcome {
    /// Events that must not be created, as if they had failed for this reason.
    pub kept_back: Vec<Failed>,
    /// Events that failed.
    pub failed: Vec<Failed>,
    /// Conditions that needed a value the server did not send. They count as not true.
    pub undecided: u64,
}

impl RulePlan {
    /// The events, in the order of the rules.
    pub fn events(&self) -> &[CompiledRule] {
        &self.events
    }

    /// Passes to `take`, per event type, how many changes its conditions have excluded since the last call.
    pub fn take_filtered(&mut self, mut take: impl FnMut(&str, u64)) {
        for (event, filtered) in self.events.iter().zip(&mut self.filtered) {
            match std::mem::take(filtered) {
                0 => {}
                count => take(&event.name, count),
            }
        }
    }

    /// The operations that rules read.
    pub const fn mapped(&self) -> Operations {
        self.mapped
    }

    /// Whether rules read this operation, so that it has no automatic event.
    pub const fn maps(&self, operation: &Operation<'_>) -> bool {
        match operation {
            Operation::Insert { .. } => self.mapped.insert,
            Operation::Update { .. } => self.mapped.update,
            Operation::Delete { .. } => self.mapped.delete,
            Operation::Truncate { .. } => false,
        }
    }

    /// Appends the events of a change, numbered from `first`. Each event is checked for
    /// [space](Records::has_room) before it is added, so memory holds at most one event too many.
    ///
    /// # Errors
    /// There are too many events, or they are too large together.
    pub fn translate(
        &mut self,
        change: &Change<'_>,
        first: u16,
        context: &mut Context,
        envelope: &mut Envelope,
        records: &mut Records,
        outcome: &mut RuleOutcome,
    ) -> Result<(), TranslateError> {
        // The next ordinal; `None` after the last one that the format can number.
        let mut next = Some(first);
        let Some(row) = Row::of(&change.operation) else { return Ok(()) };
        let scratch = &mut self.scratch;
        self.wanted.clear();
        for ((nth, event), filtered) in self.events.iter().enumerate().zip(&mut self.filtered) {
            if !event.is_about(&change.operation) {
                continue;
            }
            let kept_back = outcome.kept_back.iter().find(|kept| kept.event_type == event.name);
            let made = match event.wants(&change.operation, &row, context) {
                Ok(Truth::True) if let Some(kept) = kept_back => Err(kept.reason.clone()),
                Ok(Truth::True) => {
                    let part = next.ok_or(TranslateError::TooMuch)?;
                    let same = |other: &&usize| {
                        self.events.get(**other).is_some_and(|other| other.name == event.name)
                    };
                    let ordinal = self.wanted.iter().filter(same).count();
                    let place = write::EventSlot {
                        place: change.place,
                        part,
                        ordinal: u16::try_from(ordinal).map_err(|_| TranslateError::TooMuch)?,
                    };
                    event.write(&row, &place, &mut write::Tools { context, envelope, scratch }, records)
                }
                Ok(Truth::False) => {
                    *filtered += 1;
                    continue;
                }
                Ok(Truth::Unavailable) => {
                    *filtered += 1;
                    outcome.undecided += 1;
                    continue;
                }
                Err(error) => Err(Problem::new(error.to_string())),
            };
            // A failed event keeps its ordinal, so that a retry gives it the same position.
            next = next.and_then(|part| part.checked_add(1));
            self.wanted.push(nth);
            match made {
                Ok(()) if records.fit() => {}
                Ok(()) => return Err(TranslateError::TooMuch),
                Err(reason) => outcome.failed.push(Failed { event_type: event.name.clone(), reason }),
            }
        }
        Ok(())
    }
}

impl CompiledRule {
    const fn is_about(&self, operation: &Operation<'_>) -> bool {
        match operation {
            Operation::Insert { .. } => self.operations.insert,
            Operation::Update { .. } => self.operations.update,
            Operation::Delete { .. } => self.operations.delete,
            Operation::Truncate { .. } => false,
        }
    }

    fn wants(
        &self,
        operation: &Operation<'_>,
        row: &Row<'_>,
        context: &mut Context,
    ) -> Result<Truth, crate::expression::EvalError> {
        if let (Operation::Update { .. }, Some(of)) = (operation, &self.of) {
            match differs(of, row) {
                Truth::True => {}
                other => return Ok(other),
            }
        }
        for condition in &self.when {
            match condition.holds(row, context)? {
                Truth::True => {}
                other => return Ok(other),
            }
        }
        Ok(Truth::True)
    }
}

/// Whether one of the columns of `update of` has a new value.
fn differs(of: &[(usize, bool)], row: &Row<'_>) -> Truth {
    use crate::change::Value::Unavailable;
    let mut verdict = Truth::False;
    for &(column, in_identity) in of {
        match (row.after(column, in_identity), row.before(column, in_identity)) {
            // An unchanged TOASTed value is not sent.
            (Unavailable, _) => {}
            (_, Unavailable) => verdict = Truth::Unavailable,
            (new, old) if new != old => return Truth::True,
            _ => {}
        }
    }
    verdict
}

#[cfg(test)]
mod tests;
