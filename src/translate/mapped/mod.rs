//! Events by rules: a relation and its rules are compiled once; each change then becomes the events that want it.
//!
//! Events come in the order of the rules. One that fails on a row fails alone: the others of the change leave, and its failure is
//! told to the caller, who makes a dead letter of it.

mod compile;
mod write;

use crate::change::{Change, Operation, Relation};
use crate::event::Records;

use super::Promise;
use super::envelope::Envelope;
use super::sql::{Context, Expression, Row, Truth};

pub use self::compile::{Catalog, compile};

/// The rules of one table, compiled for one description of it.
#[derive(Debug)]
pub struct Plan {
    events: Vec<Event>,
    /// Whether any rule is about inserts, updates, deletes: those have no automatic event then.
    mapped: Operations,
    scratch: write::Scratch,
    /// Which events this change has, or would have if they had not failed.
    wanted: Vec<usize>,
}

/// Kinds of changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Operations {
    /// Rows that come.
    pub insert: bool,
    /// Rows that change.
    pub update: bool,
    /// Rows that go.
    pub delete: bool,
}

/// One rule, compiled.
#[derive(Debug)]
pub struct Event {
    /// Its type.
    name: String,
    /// Which of the rules it is.
    pub rule: usize,
    /// The rule that reads the table: the same, or the one that this event is made from.
    pub root: usize,
    /// Why it can never be what was locked, made of rows of this form.
    broken: Option<String>,
    /// See [`super::envelope::Head::attributes`].
    attributes: Vec<u8>,
    operations: Operations,
    /// Columns of which one must differ in an update, by place and whether the replica identity gives them; `None`: any update.
    of: Option<Vec<(usize, bool)>>,
    when: Vec<Expression>,
    /// The parts of the partition key.
    pub key: Vec<Expression>,
    subject: Option<Expression>,
    time: Option<Expression>,
    /// What `data` consists of.
    pub fields: Vec<Field>,
    id: Id,
}

/// One field of `data`.
#[derive(Debug)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// `,"name":`, escaped.
    label: Vec<u8>,
    /// Its value.
    pub value: Expression,
    /// The comment behind it in the rule.
    pub meaning: Option<String>,
    /// What was locked of it.
    promise: Promise,
}

#[derive(Debug)]
enum Id {
    Change,
    Key { table: String, columns: Vec<(Vec<u8>, Expression)> },
    Given(Expression),
}

/// An event that could not be made of a row. Never contains row values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// Its type.
    pub event_type: String,
    /// Why.
    pub reason: String,
}

/// What became of a change, beside its records.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Events that could not be made.
    pub failed: Vec<Failed>,
    /// Conditions that hung on a value the server did not send: not true.
    pub undecided: u64,
}

impl Plan {
    /// Its events, in the order of the rules.
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// What its rules are about.
    pub const fn mapped(&self) -> Operations {
        self.mapped
    }

    /// Whether a change of this kind has no automatic event.
    pub const fn maps(&self, operation: &Operation<'_>) -> bool {
        match operation {
            Operation::Insert { .. } => self.mapped.insert,
            Operation::Update { .. } => self.mapped.update,
            Operation::Delete { .. } => self.mapped.delete,
            Operation::Truncate { .. } => false,
        }
    }

    /// Adds the events of a change, the first of which is the change's `first`th.
    pub fn translate(
        &mut self,
        change: &Change<'_>,
        first: u16,
        (context, envelope): (&mut Context, &mut Envelope),
        (records, outcome): (&mut Records, &mut Outcome),
    ) {
        let mut part = first;
        let Some(row) = Row::of(&change.operation) else { return };
        let scratch = &mut self.scratch;
        self.wanted.clear();
        for (nth, event) in self.events.iter().enumerate() {
            let made = match event.wants(&change.operation, &row, context) {
                Ok(Truth::True) => {
                    let same = |other: &&usize| {
                        self.events.get(**other).is_some_and(|other| other.name == event.name)
                    };
                    let ordinal = self.wanted.iter().filter(same).count();
                    let place = write::Slot {
                        place: change.place,
                        part,
                        ordinal: u16::try_from(ordinal).unwrap_or(u16::MAX),
                    };
                    event.write(&row, &place, &mut write::Tools { context, envelope, scratch }, records)
                }
                Ok(Truth::False) => continue,
                Ok(Truth::Unavailable) => {
                    outcome.undecided += 1;
                    continue;
                }
                Err(error) => Err(error.to_string()),
            };
            // What fails keeps its place: a retry gives it the position that it would have had.
            part = part.saturating_add(1);
            self.wanted.push(nth);
            match made {
                Ok(()) => {}
                Err(reason) => outcome.failed.push(Failed { event_type: event.name.clone(), reason }),
            }
        }
    }
}

impl Event {
    fn wants(
        &self,
        operation: &Operation<'_>,
        row: &Row<'_>,
        context: &mut Context,
    ) -> Result<Truth, super::sql::EvalError> {
        let about = match operation {
            Operation::Insert { .. } => self.operations.insert,
            Operation::Update { .. } => self.operations.update,
            Operation::Delete { .. } => self.operations.delete,
            Operation::Truncate { .. } => false,
        };
        if !about {
            return Ok(Truth::False);
        }
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

/// Whether one of the columns of `update of` has another text than before.
fn differs(of: &[(usize, bool)], row: &Row<'_>) -> Truth {
    use crate::change::Value::Unavailable;
    let mut verdict = Truth::False;
    for &(column, in_identity) in of {
        match (row.after(column, in_identity), row.before(column, in_identity)) {
            // A TOASTed value that was not sent is one that did not change.
            (Unavailable, _) => {}
            (_, Unavailable) => verdict = Truth::Unavailable,
            (new, old) if new != old => return Truth::True,
            _ => {}
        }
    }
    verdict
}

/// Whether any rule is about this table.
pub fn has_rules(rules: &crate::rules::Rules, relation: &Relation) -> bool {
    rules.events.iter().any(|rule| match &rule.origin {
        crate::rules::Origin::Table { from, .. } => {
            from.schema == relation.schema && from.table == relation.table
        }
        crate::rules::Origin::Event(_) => false,
    })
}

#[cfg(test)]
mod tests;
