//! The names that an expression can use: columns of a table, or fields of another event.

use crate::change::{Column, Relation};
use crate::types::{Base, Kind, SqlType};

use super::Expression;

/// The names that an expression may use.
#[derive(Clone, Debug)]
pub struct Scope {
    /// The table or event, for messages: `lab.plates`.
    pub of: String,
    /// The names.
    pub names: Vec<Name>,
    /// Where the values come from. It separates the pseudonyms of `hmac()`.
    pub origin: PseudonymOrigin,
}

/// The source and the table of the values that become pseudonyms.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PseudonymOrigin {
    /// The CloudEvents source.
    pub source: String,
    /// The table: `lab.plates`.
    pub table: String,
}

/// A name.
#[derive(Clone, Debug)]
pub struct Name {
    /// The name as in the catalogue, without quotes.
    pub name: String,
    /// The column or field.
    pub meaning: Meaning,
}

/// The column or field that a name refers to.
#[derive(Clone, Debug)]
pub enum Meaning {
    /// A column of the changed table: `x`, `new.x`, `old.x`.
    Column(ScopeColumn),
    /// A field of another event (`from_event`). Its expression is substituted, so that both events have the
    /// same value.
    Field(Expression),
}

/// The properties of a column that expressions need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScopeColumn {
    /// Index in the tuples. `None`: the relation message does not have the column yet, and it reads as NULL.
    pub index: Option<usize>,
    /// How its values are written as JSON.
    pub kind: Kind,
    /// Its type.
    pub data_type: SqlType,
    /// Whether it is `NOT NULL`.
    pub not_null: bool,
    /// Whether the replica identity provides it in old rows.
    pub in_identity: bool,
    /// Whether it holds personal data, which may only be published through `hmac()`.
    pub tagged: bool,
}

impl Scope {
    /// The columns of a table of this CloudEvents source; `tagged` returns whether a column holds personal
    /// data.
    pub fn of_relation(relation: &Relation, source: &str, tagged: impl Fn(&Column) -> bool) -> Self {
        let name = |(index, column): (Option<usize>, &Column)| Name {
            name: column.name.clone(),
            meaning: Meaning::Column(ScopeColumn {
                index,
                kind: column.kind.clone(),
                data_type: column.data_type.clone(),
                not_null: column.not_null,
                in_identity: column.in_identity,
                tagged: tagged(column),
            }),
        };
        let known = relation.columns.iter().enumerate().map(|(index, column)| (Some(index), column));
        Self {
            of: relation.name(),
            names: known.chain(relation.absent.iter().map(|column| (None, column))).map(name).collect(),
            origin: PseudonymOrigin { source: source.to_owned(), table: relation.name() },
        }
    }
}

impl Scope {
    /// The types of all names.
    pub(super) fn bases(&self) -> impl Iterator<Item = Base> {
        self.names.iter().map(|name| match &name.meaning {
            Meaning::Column(column) => column.data_type.base.clone(),
            Meaning::Field(expression) => expression.data_type().base.clone(),
        })
    }
}
