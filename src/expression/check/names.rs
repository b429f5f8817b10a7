//! Resolves names: columns of the row and the old row, fields of another event. Unknown names get a
//! suggestion.

use std::sync::Arc;

use sqlparser::ast::{AccessExpr, Expr, Ident, Subscript};

use crate::types::{Base, Enumeration, Kind};

use super::super::SourceSpan;
use super::super::parse::identifier;
use super::super::scope::{Meaning, ScopeColumn};
use super::super::tree::{ColumnRead, Function, Node, Op, Side};
use super::{Checked, Checker, Term};

/// Keywords that are not columns unless quoted; the last ten are session functions.
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
    pub(super) fn name(&mut self, expression: &Expr, place: SourceSpan) -> Checked<Term> {
        match expression {
            Expr::Identifier(name) => self.plain_name(name, place),
            Expr::CompoundIdentifier(parts) => match parts.as_slice() {
                [row, name] => self.row_name(row, name, place),
                _ => self.wrong(
                    place,
                    "a column has at most one qualifier",
                    "leave out schema and table: write x, new.x or old.x",
                ),
            },
            Expr::CompoundFieldAccess { root, access_chain } => self.element(root, access_chain, place),
            _ => None,
        }
    }

    fn plain_name(&mut self, name: &Ident, place: SourceSpan) -> Checked<Term> {
        let wanted = identifier(&name.value, name.quote_style);
        if name.quote_style.is_none() && RESERVED.contains(&wanted.as_str()) {
            let hint = format!(
                "if a column is meant, write \"{wanted}\"; the clock and the session are not available"
            );
            return self.wrong(place, format!("{wanted} is an SQL keyword"), &hint);
        }
        if wanted == "op" && name.quote_style.is_none() {
            if self.scope.names.iter().any(|name| name.name == "op") {
                return self.wrong(
                    place,
                    "op is ambiguous: the operation or the column",
                    "write \"op\" or new.op for the column",
                );
            }
            return Some(self.node(Op::Operation, Base::Text, place));
        }
        self.look_up(&wanted, Side::Current, name.quote_style.is_some(), place)
    }

    fn row_name(&mut self, row: &Ident, name: &Ident, place: SourceSpan) -> Checked<Term> {
        let wanted = identifier(&name.value, name.quote_style);
        match identifier(&row.value, row.quote_style).as_str() {
            "new" => self.look_up(&wanted, Side::New, name.quote_style.is_some(), place),
            "old" => self.look_up(&wanted, Side::Old, name.quote_style.is_some(), place),
            other => {
                let is_document = |known: &&super::super::scope::Name| match &known.meaning {
                    Meaning::Column(column) => {
                        known.name == other && matches!(column.data_type.base, Base::Json | Base::Jsonb)
                    }
                    Meaning::Field(_) => false,
                };
                let composite = self.scope.names.iter().find(|known| {
                    let is_row = |column: &ScopeColumn| matches!(column.kind, Kind::Composite { .. });
                    known.name == other && matches!(&known.meaning, Meaning::Column(column) if is_row(column))
                });
                if composite.is_some() {
                    return self.attribute(other, place);
                }
                if self.scope.names.iter().any(|name| is_document(&name)) {
                    let hint = format!("write {other} ->> '{wanted}'");
                    return self.wrong(place, format!("{other} is a document, not a row"), &hint);
                }
                let hint = match other {
                    "inserted" | "after" | "excluded" | "this" => format!("write new.{wanted}"),
                    "deleted" | "before" | "prev" | "previous" => format!("write old.{wanted}"),
                    _ => {
                        "only the changed row is available: x, new.x (after the change) and old.x (before it)"
                            .to_owned()
                    }
                };
                self.wrong(place, format!("there is no row named {other}"), &hint)
            }
        }
    }

    fn attribute(&mut self, of: &str, place: SourceSpan) -> Checked<Term> {
        let message = format!("attributes of {of} cannot be read");
        self.wrong(place, message, "publish the value as a whole, or store the attribute in a column")
    }

    fn look_up(&mut self, wanted: &str, side: Side, quoted: bool, place: SourceSpan) -> Checked<Term> {
        let Some(name) = self.scope.names.iter().find(|name| name.name == wanted) else {
            let names = self.scope.names.iter().map(|name| name.name.as_str());
            let near = nearest(wanted, names);
            // A name with capitals only exists in quotes.
            let written = |near: &str| {
                let plain = near.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'));
                if plain { near.to_owned() } else { format!("\"{}\"", near.replace('"', "\"\"")) }
            };
            let hint = match near {
                _ if !quoted && matches!(wanted, "new" | "old") => {
                    format!("a column of that row is {wanted}.x, a text has single quotes: '{wanted}'")
                }
                near if !quoted && super::super::advice::for_word(wanted).is_some() => {
                    let near = near.map(|near| format!("; did you mean {}?", written(near)));
                    let advice = super::super::advice::for_word(wanted).unwrap_or_default();
                    format!("{advice}{}", near.unwrap_or_default())
                }
                _ if quoted => {
                    let text = wanted.replace('\'', "''");
                    let near = near.map(|near| format!("; did you mean {}?", written(near)));
                    format!("a text has single quotes: '{text}'{}", near.unwrap_or_default())
                }
                Some(near) => format!("did you mean {}?", written(near)),
                None => "a text has single quotes, a column is one of the table's".to_owned(),
            };
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
                let hint = "an event with from_event can only read the fields of its source event";
                self.wrong(place, format!("{wanted} is a field of {}", self.scope.of), hint)
            }
        }
    }

    /// Checks a subscript such as `a[1]`.
    fn element(&mut self, root: &Expr, chain: &[AccessExpr], place: SourceSpan) -> Checked<Term> {
        let simple = matches!(root, Expr::Identifier(_) | Expr::CompoundIdentifier(_) | Expr::Nested(_));
        // `new.a[1]` is parsed as the name `new` with two accesses.
        if let (Expr::Identifier(row), [AccessExpr::Dot(Expr::Identifier(name)), rest @ ..]) = (root, chain) {
            let list = self.row_name(row, name, place)?;
            return self.subscripted(list, rest, place);
        }
        if !simple {
            return self.wrong(
                place,
                "a subscript needs a column or parentheses before it",
                "write (…)[1]; a column is x, new.x or old.x",
            );
        }
        let list = self.term(root, place)?;
        self.subscripted(list, chain, place)
    }

    fn subscripted(&mut self, list: Term, chain: &[AccessExpr], place: SourceSpan) -> Checked<Term> {
        if let Term::Node(node) = &list
            && matches!(node.data_type.base, Base::Json | Base::Jsonb)
        {
            return self.wrong(place, "a document is not an array", "write -> 'a' -> 'b', or #> '{a,b}'");
        }
        if chain.iter().any(|access| matches!(access, AccessExpr::Dot(_))) {
            return self.attribute("a composite value", place);
        }
        let [AccessExpr::Subscript(subscript)] = chain else {
            return self.wrong(place, "only one subscript is supported", "write a[1] or a[1:2]");
        };
        let Term::Node(list) = list else {
            return self.wrong(place, "a string has no elements", "cast it to an array: '{…}'::text[]");
        };
        let Base::Array(element) = list.data_type.base.clone() else {
            let message = format!("type {} has no elements", list.data_type.base);
            return self.wrong(place, message, "for jsonb use ->");
        };
        let index = match subscript {
            Subscript::Index { index } => index,
            Subscript::Slice { lower_bound, upper_bound, stride: None } => {
                return self.slice(list, [lower_bound.as_ref(), upper_bound.as_ref()], place);
            }
            Subscript::Slice { .. } => return self.wrong(place, "a slice has two bounds", "write a[1:2]"),
        };
        let index = self.term(index, place)?;
        let index = self.coerce(index, &Base::Int4, Some("a subscript"))?;
        let function = Function::Element((*element).clone());
        let op = Op::Call { function, arguments: vec![list, index] };
        Some(self.node_nullable(op, (*element).clone(), place, true))
    }
}

/// The hint for a literal that is not valid for its type.
pub(super) fn literal_hint(base: &Base, text: &str) -> String {
    match base {
        Base::Enum(enumeration) => label_hint(enumeration, text),
        Base::Date | Base::Time | Base::Timestamp | Base::TimestampTz => {
            "write it as 2026-10-01 12:00:00; words such as now are not supported".to_owned()
        }
        Base::Int2 | Base::Int4 | Base::Int8 | Base::Numeric | Base::Float4 | Base::Float8
            if text.is_empty() =>
        {
            "an empty text is no number: write x is null".to_owned()
        }
        Base::Int2 | Base::Int4 | Base::Int8 | Base::Numeric | Base::Float4 | Base::Float8 => {
            "write a number without quotes, with a dot before decimals; to compare texts cast x::text"
                .to_owned()
        }
        Base::Bool => "write true or false".to_owned(),
        Base::Uuid => "write 32 hexadecimal digits".to_owned(),
        Base::Json | Base::Jsonb => "write a JSON document, with double quotes around texts".to_owned(),
        Base::Array(_) => "write '{a,b}', or array[a, b]".to_owned(),
        Base::Interval => "write it as 1 year 2 mons 3 days 04:05:06".to_owned(),
        Base::Bytea => "write bytes in hexadecimal, such as \\x6869".to_owned(),
        _ => String::new(),
    }
}

fn label_hint(enumeration: &Enumeration, text: &str) -> String {
    match nearest(text, enumeration.labels.iter().map(String::as_str)) {
        Some(near) => format!("did you mean '{near}'?"),
        None => {
            format!("valid labels are {}; for other texts write x::text", enumeration.labels.join(", "))
        }
    }
}

/// Truncates to the length of type name: 63 bytes, in whole characters.
pub(super) fn cut(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(63));
    text
}

/// Reads a column. Only types of variable length can be TOASTed and left out of an update.
pub(super) fn read(name: &str, column: &ScopeColumn, side: Side, place: SourceSpan) -> Node {
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
        pseudonym: None,
    }
}

/// The most similar name, if it is similar enough.
pub(super) fn nearest<'n>(wanted: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let most = wanted.chars().count() / 3 + 1;
    let near = names.map(|name| (distance(wanted, name), name)).min_by_key(|(distance, _)| *distance);
    near.filter(|(distance, _)| *distance <= most).map(|(_, name)| name)
}

/// Levenshtein distance.
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
    fn nearest_name_is_suggested() {
        let names = ["volume_ul", "barcode", "status"];
        assert_eq!(nearest("volme_ul", names.into_iter()), Some("volume_ul"));
        assert_eq!(nearest("stats", names.into_iter()), Some("status"));
        assert_eq!(nearest("x", names.into_iter()), None);
        assert_eq!((distance("", "abc"), distance("kitten", "sitting"), distance("a", "a")), (3, 3, 0));
    }
}
