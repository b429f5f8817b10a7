//! Rules that were compiled for one table.

use crate::expression::Expression;
use crate::failure::Problem;
use crate::translate::promises::Promise;

/// The rules of one table, compiled for one description of it.
#[derive(Debug)]
pub struct RulePlan {
    pub(super) events: Vec<CompiledRule>,
    /// The operations that rules read. They have no automatic event.
    pub(super) mapped: Operations,
    pub(super) scratch: Scratch,
    /// Indexes of the events that the current change selects, including those that fail.
    pub(super) wanted: Vec<usize>,
    /// Number of changes, per event, that the rule reads and its conditions have excluded.
    pub(super) filtered: Vec<u64>,
}

/// A set of operations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Operations {
    /// Inserted rows.
    pub insert: bool,
    /// Updated rows.
    pub update: bool,
    /// Deleted rows.
    pub delete: bool,
}

/// One rule, compiled.
#[derive(Debug)]
pub struct CompiledRule {
    /// Event type.
    pub(super) name: String,
    /// Index of the rule.
    pub rule: usize,
    /// Index of the rule that reads the table. It differs from `rule` for an event with `from_event`.
    pub root: usize,
    /// Why this table can never satisfy the locked contract.
    pub(super) broken: Option<Problem>,
    /// The constant part of the envelope, for
    /// [`Head::attributes`](crate::translate::envelope::Head::attributes).
    pub(super) attributes: Vec<u8>,
    pub(super) operations: Operations,
    /// Columns of `update of`, with whether the replica identity provides them. At least one must differ.
    /// `None`: any update.
    pub(super) of: Option<Vec<(usize, bool)>>,
    pub(super) when: Vec<Expression>,
    /// The parts of the partition key.
    pub key: Vec<Expression>,
    pub(super) subject: Option<Expression>,
    pub(super) time: Option<Expression>,
    /// The fields of `data`.
    pub fields: Vec<CompiledField>,
    pub(super) id: IdSource,
}

impl CompiledRule {
    /// The conditions, which must all be true.
    pub fn conditions(&self) -> &[Expression] {
        &self.when
    }

    /// The subject; `None`: the key.
    pub fn subject(&self) -> Option<&Expression> {
        self.subject.as_ref()
    }

    /// The time; `None`: the time of the commit.
    pub fn time(&self) -> Option<&Expression> {
        self.time.as_ref()
    }

    /// The expressions that the id is computed from; `None`: it is computed from the change.
    pub fn id(&self) -> Option<Vec<&Expression>> {
        match &self.id {
            IdSource::Change => None,
            IdSource::Key { columns, .. } => Some(columns.iter().map(|(_, column)| column).collect()),
            IdSource::Given(given) => Some(vec![given]),
        }
    }
}

/// One field of `data`.
#[derive(Debug)]
pub struct CompiledField {
    /// Name.
    pub name: String,
    /// `,"name":`, JSON-escaped.
    pub(super) label: Vec<u8>,
    /// Value.
    pub value: Expression,
    /// The SQL text of the value.
    pub sql: String,
    /// The comment after the field in the rule.
    pub meaning: Option<String>,
    /// The promise of the locked contract.
    pub(super) promise: Promise,
}

#[derive(Debug)]
pub(super) enum IdSource {
    Change,
    Key { table: String, columns: Vec<(Vec<u8>, Expression)> },
    Given(Expression),
}

/// Buffers reused for every row.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    pub(super) key: String,
    pub(super) subject: String,
    pub(super) part: String,
    pub(super) hashed: String,
    pub(super) id: String,
    pub(super) time: Vec<u8>,
    pub(super) data: Vec<u8>,
    pub(super) unavailable: String,
}
