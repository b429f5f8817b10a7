//! Names: columns of the row, of the old row, fields of another event, and what to say of one that is not there.

use std::borrow::Cow;
use std::sync::Arc;

use sqlparser::ast::{AccessExpr, Expr, Ident, Subscript};

use crate::types::{Base, Enumeration};

use super::super::Place;
use super::super::parse::identifier;
use super::super::scope::{Column, Meaning};
use super::super::tree::{ColumnRead, Datum, Function, Node, Op, Side};
use super::{Checked, Checker, Term};

/// Words that mean something else than a column when they are not quoted; the last ten are functions of the session.
const RESERVED: &[&str] = &[
    "all",
    "analyse",
    "analyze",
    "and",
    "any",
    "array",
    "as",
    "asc",
    "asymmetric",
    "both",
    "case",
    "cast",
    "check",
    "collate",
    "column",
    "constraint",
    "create",
    "default",
    "deferrable",
    "desc",
    "distinct",
    "do",
    "else",
    "end",
    "except",
    "false",
    "fetch",
    "for",
    "foreign",
    "from",
    "grant",
    "group",
    "having",
    "in",
    "initially",
    "intersect",
    "into",
    "lateral",
    "leading",
    "limit",
    "not",
    "null",
    "offset",
    "on",
    "only",
    "or",
    "order",
    "placing",
    "primary",
    "references",
    "returning",
    "select",
    "some",
    "symmetric",
    "system_user",
    "table",
    "then",
    "to",
    "trailing",
    "true",
    "union",
    "unique",
    "using",
    "variadic",
    "when",
    "where",
    "window",
    "with",
    "current_catalog",
    "current_date",
    "current_role",
    "current_schema",
    "current_time",
    "current_timestamp",
    "current_user",
    "localtime",
    "localtimestamp",
    "session_user",
    "user",
];

impl Checker<'_, '_> {
    pub(super) fn name(&mut self, expression: &Expr, place: Place) -> Checked<Term> {
        match expression {
            Expr::Identifier(name) => self.plain_name(name, place),
            Expr::CompoundIdentifier(parts) => match parts.as_slice() {
                [row, name] => self.row_name(row, name, place),
                _ => self.wrong(place, "a column is named x, new.x or old.x", ""),
            },
            Expr::CompoundFieldAccess { root, access_chain } => self.element(root, access_chain, place),
            _ => None,
        }
    }

    fn plain_name(&mut self, name: &Ident, place: Place) -> Checked<Term> {
        let wanted = identifier(&name.value, name.quote_style);
        if name.quote_style.is_none() && RESERVED.contains(&wanted.as_str()) {
            let hint = format!(
                "if a column is meant, write \"{wanted}\"; an expression knows no clock and no session"
            );
            return self.wrong(place, format!("{wanted} is a word of SQL"), &hint);
        }
        if wanted == "op" && name.quote_style.is_none() {
            if self.scope.names.iter().any(|name| name.name == "op") {
                return self.wrong(
                    place,
                    "op could be the operation or the column",
                    "write \"op\" or new.op for the column",
                );
            }
            return Some(self.node(Op::Operation, Base::Text, place));
        }
        self.look_up(&wanted, Side::Current, place)
    }

    fn row_name(&mut self, row: &Ident, name: &Ident, place: Place) -> Checked<Term> {
        let wanted = identifier(&name.value, name.quote_style);
        match identifier(&row.value, row.quote_style).as_str() {
            "new" => self.look_up(&wanted, Side::New, place),
            "old" => self.look_up(&wanted, Side::Old, place),
            other => {
                let hint =
                    "only the changed row can be read: x, new.x (the row now) and old.x (the row before)";
                self.wrong(place, format!("there is no row named {other}"), hint)
            }
        }
    }

    fn look_up(&mut self, wanted: &str, side: Side, place: Place) -> Checked<Term> {
        let Some(name) = self.scope.names.iter().find(|name| name.name == wanted) else {
            let names = self.scope.names.iter().map(|name| name.name.as_str());
            let hint = nearest(wanted, names).map(|near| format!("did you mean {near}?")).unwrap_or_default();
            let message = format!("{} has no column {wanted}", self.scope.of);
            return self.wrong(place, message, &hint);
        };
        match &name.meaning {
            Meaning::Column(column) => Some(Term::Node(read(&name.name, column, side, place))),
            Meaning::Field(expression) if side == Side::Current => {
                let mut node = expression.node().clone();
                node.place = place;
                Some(Term::Node(node))
            }
            Meaning::Field(_) => {
                let hint = "an event that is made from another one reads that one's fields only";
                self.wrong(place, format!("{wanted} is a field of {}", self.scope.of), hint)
            }
        }
    }

    /// `a[1]`
    fn element(&mut self, root: &Expr, chain: &[AccessExpr], place: Place) -> Checked<Term> {
        let simple = matches!(root, Expr::Identifier(_) | Expr::CompoundIdentifier(_) | Expr::Nested(_));
        // `new.a[1]` comes as the name `new` with two accesses.
        if let (Expr::Identifier(row), [AccessExpr::Dot(Expr::Identifier(name)), rest @ ..]) = (root, chain) {
            let list = self.row_name(row, name, place)?;
            return self.subscripted(list, rest, place);
        }
        if !simple {
            return self.wrong(
                place,
                "only a column, or what stands in parentheses, has elements",
                "write (…)[1]",
            );
        }
        let list = self.term(root, place)?;
        self.subscripted(list, chain, place)
    }

    fn subscripted(&mut self, list: Term, chain: &[AccessExpr], place: Place) -> Checked<Term> {
        let [AccessExpr::Subscript(Subscript::Index { index })] = chain else {
            return self.wrong(
                place,
                "one element of an array is a[1]; slices are not part of the language",
                "",
            );
        };
        let Term::Node(list) = list else {
            return self.wrong(place, "a text has no elements", "cast it to an array: '{…}'::text[]");
        };
        let Base::Array(element) = list.data_type.base.clone() else {
            let message = format!("type {} has no elements", list.data_type.base);
            return self.wrong(place, message, "of jsonb, use ->");
        };
        let index = self.term(index, place)?;
        let index = self.coerce(index, &Base::Int4, Some("a subscript"))?;
        let function = Function::Element((*element).clone());
        let op = Op::Call { function, arguments: vec![list, index] };
        Some(self.node_nullable(op, (*element).clone(), place, true))
    }
}

/// What to say of a literal that is none of its type.
pub(super) fn literal_hint(base: &Base, text: &str) -> String {
    match base {
        Base::Enum(enumeration) => label_hint(enumeration, text),
        Base::Date | Base::Time | Base::Timestamp | Base::TimestampTz => {
            "write it as in 2026-10-01 12:00:00; words such as now are not part of the language".to_owned()
        }
        Base::Interval => "write it as in 1 year 2 mons 3 days 04:05:06".to_owned(),
        Base::Bytea => "write bytes in hexadecimal: \\x6869".to_owned(),
        _ => String::new(),
    }
}

fn label_hint(enumeration: &Enumeration, text: &str) -> String {
    match nearest(text, enumeration.labels.iter().map(String::as_str)) {
        Some(near) => format!("did you mean '{near}'?"),
        None => format!("its labels are {}", enumeration.labels.join(", ")),
    }
}

/// As much of a text as a value of type name has: 63 bytes, in whole characters.
pub(super) fn cut(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(63));
    text
}

/// Reads a column. Only types of any length are stored out of line, and so can be left out of an update.
pub(super) fn read(name: &str, column: &Column, side: Side, place: Place) -> Node {
    let toastable = matches!(
        column.data_type.base,
        Base::Text
            | Base::Varchar
            | Base::Bpchar
            | Base::Numeric
            | Base::Json
            | Base::Jsonb
            | Base::Bytea
            | Base::Array(_)
            | Base::Other(_)
    );
    Node {
        op: Op::Column(ColumnRead {
            side,
            index: column.index,
            in_identity: column.in_identity,
            name: name.into(),
            kind: column.kind.clone(),
        }),
        data_type: column.data_type.clone(),
        place,
        nullable: !column.not_null || column.index.is_none() || side != Side::Current,
        unavailable: !column.in_identity && (toastable || side == Side::Old),
        tagged: column.tagged.then(|| Arc::from(name)),
    }
}

/// A datum that borrows nothing.
pub(super) fn detached(datum: Datum<'_>) -> Datum<'static> {
    match datum {
        Datum::Text(text) => Datum::Text(Cow::Owned(text.into_owned())),
        Datum::Null => Datum::Null,
        Datum::Unavailable => Datum::Unavailable,
        Datum::Bool(value) => Datum::Bool(value),
        Datum::Int(value) => Datum::Int(value),
        Datum::Numeric(value) => Datum::Numeric(value),
        Datum::Float(value) => Datum::Float(value),
        Datum::Interval(value) => Datum::Interval(value),
    }
}

/// The name that differs least, if it differs little.
fn nearest<'n>(wanted: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let most = wanted.chars().count() / 3 + 1;
    let near = names.map(|name| (distance(wanted, name), name)).min_by_key(|(distance, _)| *distance);
    near.filter(|(distance, _)| *distance <= most).map(|(_, name)| name)
}

/// Levenshtein's distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().take(64).enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (y, cell) in b.iter().zip(row.iter_mut().skip(1)) {
            let best = (diagonal + usize::from(x != *y)).min(left + 1).min(*cell + 1);
            diagonal = *cell;
            *cell = best;
            left = best;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_found() {
        let names = ["volume_ul", "barcode", "status"];
        assert_eq!(nearest("volme_ul", names.into_iter()), Some("volume_ul"));
        assert_eq!(nearest("stats", names.into_iter()), Some("status"));
        assert_eq!(nearest("x", names.into_iter()), None);
        assert_eq!((distance("", "abc"), distance("kitten", "sitting"), distance("a", "a")), (3, 3, 0));
    }
}
