//! How an expression's value is written as JSON. Columns passed through keep the properties of the catalogue.

use std::sync::Arc;

use crate::types::{Base, Kind};

use super::tree::{Function, Node, Op};

impl Node {
    /// How the value is written as JSON.
    pub(super) fn kind(&self) -> Kind {
        let handed_on = |mut nodes: Vec<&Self>| {
            // A literal's type has no catalogue entry.
            nodes.retain(|node| !matches!(node.op, Op::Constant(_)));
            nodes.first().map(|node| node.kind())
        };
        let known = match &self.op {
            Op::Column(column) => return column.kind.clone(),
            _ if !is_opaque(&self.data_type.base) => None,
            Op::Call { function: Function::Element(_), arguments } => {
                arguments.first().and_then(|list| match list.kind() {
                    Kind::Array { element, .. } => Some((*element).clone()),
                    _ => None,
                })
            }
            Op::Coalesce(nodes) => handed_on(nodes.iter().collect()),
            Op::Case { arms, otherwise } => {
                handed_on(arms.iter().map(|(_, then)| then).chain(otherwise.as_deref()).collect())
            }
            _ => None,
        };
        known.unwrap_or_else(|| of(&self.data_type.base))
    }
}

/// Whether the catalogue may have properties of a type that do not follow from its name.
fn is_opaque(base: &Base) -> bool {
    match base {
        Base::Array(element) => is_opaque(element),
        Base::Other(_) => true,
        _ => false,
    }
}

/// How values of a type are written as JSON, without the catalogue.
fn of(base: &Base) -> Kind {
    match base {
        Base::Bool => Kind::Bool,
        Base::Int2 | Base::Int4 | Base::Int8 | Base::Numeric => Kind::Number,
        Base::Float4 | Base::Float8 => Kind::Float,
        Base::Date => Kind::Date,
        Base::Timestamp => Kind::Timestamp,
        Base::TimestampTz => Kind::TimestampTz,
        Base::Bytea => Kind::Bytea,
        Base::Json | Base::Jsonb => Kind::Json,
        Base::Array(element) => Kind::Array { element: Arc::new(of(element)), delimiter: b',' },
        Base::Text
        | Base::Varchar
        | Base::Bpchar
        | Base::Name
        | Base::Time
        | Base::Interval
        | Base::Uuid
        | Base::Enum(_)
        | Base::Other(_) => Kind::Text,
    }
}
