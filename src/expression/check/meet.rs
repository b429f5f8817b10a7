//! Common types: for comparisons, and for several values (the server's `select_common_type`).

use std::sync::Arc;

use crate::types::{Base, SqlType};

use super::super::SourceSpan;
use super::super::tree::{Cast, How, Node, Op, Test};
use super::casts::{Category, category, is_implicit, is_preferred, rank};
use super::{Checked, Checker, Term};

/// The hint for two types that cannot be compared.
fn otherwise(a: &Base, b: &Base) -> &'static str {
    let one_is = |is: fn(Category) -> bool| is(category(a)) || is(category(b));
    if !one_is(|category| category == Category::Number) {
        return "cast one of them: (…)::type";
    }
    if one_is(|category| category == Category::Bool) {
        return "write x or not x";
    }
    if one_is(|category| category == Category::Moment) {
        return "write a date or time in quotes: '2026-10-01'";
    }
    "cast one of them: (…)::type; a text has quotes: '5'"
}

impl Checker<'_, '_> {
    /// Casts two values to the form in which they are compared.
    pub(super) fn comparable(
        &mut self,
        left: Term,
        right: Term,
        test: Test,
        place: SourceSpan,
    ) -> Checked<(How, [Node; 2])> {
        let base = match (left.base(), right.base()) {
            // varchar uses the operators of text.
            (None | Some(Base::Varchar), None) | (None, Some(Base::Varchar)) => Base::Text,
            (Some(base), None) | (None, Some(base)) => base.clone(),
            (Some(a), Some(b)) => {
                let Some(base) = meeting(a, b) else {
                    let message = format!("{a} and {b} cannot be compared");
                    return self.wrong(place, message, otherwise(a, b));
                };
                base
            }
        };
        let (left, right) = (self.brought(left, &base)?, self.brought(right, &base)?);
        let how = self.how(&base, test, place)?;
        if how == How::Text && category(&base) == Category::Text || how == How::Blanks {
            self.ordered_texts(&base, test, [&left, &right], place)?;
        }
        Some((how, [left, right]))
    }

    /// Casts a term to the common type. A date is compared with a timestamp even if it is too late for a
    /// timestamp.
    fn brought(&mut self, term: Term, base: &Base) -> Checked<Node> {
        match term {
            Term::Node(node)
                if node.data_type.base == Base::Date
                    && matches!(base, Base::Timestamp | Base::TimestampTz) =>
            {
                let place = node.place;
                Some(self.over(
                    Op::Cast { cast: Cast::DateToCompare, value: Box::new(node) },
                    base.clone(),
                    place,
                ))
            }
            // Types such as int4 and int8 are compared directly, and so are types with the same text form.
            Term::Node(node) if node.data_type.base == *base => Some(node),
            Term::Node(node) => self.stepped(node, base),
            unknown @ Term::Unknown { .. } => self.coerce(unknown, base, Some("a value")),
        }
    }

    pub(super) fn how(&mut self, base: &Base, test: Test, place: SourceSpan) -> Checked<How> {
        let equality = matches!(test, Test::Equal | Test::NotEqual);
        Some(match base {
            Base::Bool => How::Bool,
            Base::Int2
            | Base::Int4
            | Base::Int8
            | Base::Date
            | Base::Time
            | Base::Timestamp
            | Base::TimestampTz => How::Int,
            Base::Numeric => How::Numeric,
            Base::Float4 | Base::Float8 => How::Float,
            Base::Interval => How::Interval,
            Base::Text | Base::Varchar | Base::Name | Base::Uuid | Base::Bytea => How::Text,
            Base::Bpchar => How::Blanks,
            Base::Enum(enumeration) => How::Enum(Arc::clone(enumeration)),
            Base::Jsonb if equality => How::Json,
            Base::Jsonb => {
                return self.wrong(
                    place,
                    "ordering jsonb values is not supported",
                    "compare a part of them: (x ->> 'a')",
                );
            }
            Base::Json => {
                return self.wrong(place, "json values cannot be compared", "cast them: (…)::jsonb");
            }
            Base::Array(_) => {
                return self.wrong(place, "arrays cannot be compared", "use = any (…), or cast them to text");
            }
            Base::Other(named) => {
                let message = format!("values of type {} cannot be compared", named.name);
                return self.wrong(place, message, "cast them to text");
            }
        })
    }

    /// The order of texts depends on the collation unless it is the byte order.
    fn ordered_texts(
        &mut self,
        base: &Base,
        test: Test,
        sides: [&Node; 2],
        place: SourceSpan,
    ) -> Checked<()> {
        let by_bytes = *base == Base::Name || sides.iter().any(|side| is_collated(side));
        if matches!(test, Test::Equal | Test::NotEqual) || by_bytes {
            return Some(());
        }
        let hint = "write x collate \"C\" to compare by bytes";
        self.wrong(place, "the order of texts depends on the database's collation", hint)
    }

    /// Casts several values to their common type. The first one is considered first.
    pub(super) fn common(
        &mut self,
        terms: Vec<Term>,
        place: SourceSpan,
        what: &str,
    ) -> Checked<(Base, Vec<Node>)> {
        let base = self.common_base(&terms, place, what)?;
        if let Base::Other(named) = &base {
            let message = format!("values of type {} are not supported here", named.name);
            return self.wrong(place, message, "cast them to text");
        }
        let nodes: Option<Vec<_>> =
            terms.into_iter().map(|term| self.coerce(term, &base, Some(what))).collect();
        Some((base, nodes?))
    }

    pub(super) fn common_base(&mut self, terms: &[Term], place: SourceSpan, what: &str) -> Checked<Base> {
        let mut found: Option<&Base> = None;
        for base in terms.iter().filter_map(Term::base) {
            let Some(best) = found else {
                found = Some(base);
                continue;
            };
            if base == best {
                continue;
            }
            if category(base) != category(best) || category(base) == Category::Other {
                let message = format!("{what}: types {best} and {base} cannot be matched");
                return self.wrong(place, message, "cast one of them: (…)::type");
            }
            if !is_preferred(best) && is_implicit(best, base) && !is_implicit(base, best) {
                found = Some(base);
            }
        }
        Some(found.cloned().unwrap_or(Base::Text))
    }
}

/// The type in which PostgreSQL compares two types.
fn meeting(a: &Base, b: &Base) -> Option<Base> {
    if a == b {
        return Some(if *a == Base::Varchar { Base::Text } else { a.clone() });
    }
    if let (Some(first), Some(second)) = (rank(a), rank(b)) {
        let (lower, higher) = if first < second { (a, b) } else { (b, a) };
        // A real cannot be compared with an integer or numeric: both become double precision.
        let float = *higher == Base::Float4 && *lower != Base::Float4;
        return Some(if float { Base::Float8 } else { higher.clone() });
    }
    match (a, b) {
        (Base::Bpchar, Base::Varchar) | (Base::Varchar, Base::Bpchar) => Some(Base::Bpchar),
        _ if category(a) == Category::Text && category(b) == Category::Text => Some(Base::Text),
        (Base::Date, Base::Timestamp | Base::TimestampTz) | (Base::Timestamp, Base::TimestampTz) => {
            Some(b.clone())
        }
        (Base::Timestamp | Base::TimestampTz, Base::Date) | (Base::TimestampTz, Base::Timestamp) => {
            Some(a.clone())
        }
        (Base::Time, Base::Interval) | (Base::Interval, Base::Time) => Some(Base::Interval),
        _ => None,
    }
}

/// Whether a part has `COLLATE "C"`, which propagates upwards.
pub(super) fn is_collated(node: &Node) -> bool {
    matches!(node.op, Op::Cast { cast: Cast::Collate, .. }) || node.children().into_iter().any(is_collated)
}

/// Whether the server compares the text by bytes: an explicit collation or a value of type name, which
/// propagates.
pub(super) fn is_of_bytes(node: &Node) -> bool {
    fn is_text(base: &Base) -> bool {
        match base {
            Base::Array(element) => is_text(element),
            base => matches!(base, Base::Text | Base::Varchar | Base::Bpchar | Base::Name),
        }
    }
    let said = matches!(node.op, Op::Cast { cast: Cast::Collate, .. }) || node.data_type.base == Base::Name;
    is_text(&node.data_type.base) && (said || node.children().into_iter().any(is_of_bytes))
}

/// Whether the value is independent of the row.
pub(in super::super) fn is_constant(node: &Node) -> bool {
    !matches!(node.op, Op::Column(_) | Op::Operation | Op::Changed(_))
        && node.children().into_iter().all(is_constant)
}

/// The common type, with a modifier only if all values agree on it.
pub(super) fn agreed(nodes: &[Node], base: Base) -> SqlType {
    match nodes {
        [first, rest @ ..] if rest.iter().all(|node| node.data_type == first.data_type) => {
            first.data_type.clone()
        }
        _ => SqlType::plain(base),
    }
}
