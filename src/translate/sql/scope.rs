//! What names mean in an expression: the columns of a table, or the fields of another event.

use crate::change::Relation;
use crate::types::{Base, Kind, SqlType};

use super::Expression;

/// The names that an expression may use.
#[derive(Clone, Debug)]
pub struct Scope {
    /// What they belong to, for messages: `lab.plates`.
    pub of: String,
    /// The names.
    pub names: Vec<Name>,
}

/// A name.
#[derive(Clone, Debug)]
pub struct Name {
    /// As the catalogue has it, without quotes.
    pub name: String,
    /// What it stands for.
    pub meaning: Meaning,
}

/// What a name stands for.
#[derive(Clone, Debug)]
pub enum Meaning {
    /// A column of the changed table: `x`, `new.x`, `old.x`.
    Column(Column),
    /// A field of another event (`from_event`): its expression stands in its place, so that the two cannot disagree.
    Field(Expression),
}

/// A column, as far as expressions must know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its place in the tuples; `None` if the relation message does not know it yet: reads as NULL.
    pub index: Option<usize>,
    /// How its values become JSON.
    pub kind: Kind,
    /// Its type.
    pub data_type: SqlType,
    /// Whether it is `NOT NULL`.
    pub not_null: bool,
    /// Whether the replica identity gives it of the old row.
    pub in_identity: bool,
    /// Whether it holds personal data: nothing of it may leave but by `hmac()`.
    pub tagged: bool,
}

impl Scope {
    /// The columns of a table; `tagged` says which hold personal data.
    pub fn of_relation(relation: &Relation, tagged: impl Fn(&str) -> bool) -> Self {
        let name = |(index, column): (Option<usize>, &crate::change::Column)| Name {
            name: column.name.clone(),
            meaning: Meaning::Column(Column {
                index,
                kind: column.kind.clone(),
                data_type: column.data_type.clone(),
                not_null: column.not_null,
                in_identity: column.in_identity,
                tagged: tagged(&column.name),
            }),
        };
        let known = relation.columns.iter().enumerate().map(|(index, column)| (Some(index), column));
        Self {
            of: format!("{}.{}", relation.schema, relation.table),
            names: known.chain(relation.absent.iter().map(|column| (None, column))).map(name).collect(),
        }
    }
}

impl Scope {
    /// The types of its names.
    pub(super) fn bases(&self) -> impl Iterator<Item = Base> {
        self.names.iter().map(|name| match &name.meaning {
            Meaning::Column(column) => column.data_type.base.clone(),
            Meaning::Field(expression) => expression.data_type().base.clone(),
        })
    }
}
