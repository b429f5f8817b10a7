//! From `sqlparser`'s tree to ours: names are looked up, types found as Postgres finds them, implicit casts written out.
//! Whatever is not in the language is a mistake with what to do instead. A text that was accepted cannot fail for its form.

mod casts;
mod forms;
mod functions;
mod measures;
mod meet;
mod names;
mod operators;

use std::borrow::Cow;
use std::sync::Arc;

use sqlparser::ast::{self, Expr, UnaryOperator, Value};

use crate::types::{Base, SqlType};

use super::parse::{self, Report, binding};
use super::scope::Scope;
use super::tree::{Asked, Cast, Datum, Node, Op};
use super::{Place, value};

pub(super) use meet::is_constant;

/// Constructs inside each other: the evaluator's recursion.
const DEPTH_MAX: usize = 150;

/// An expression whose type may still be open: a text in quotes, or NULL, is what its surroundings want.
#[derive(Clone, Debug)]
pub(super) enum Term {
    Unknown { text: Option<String>, place: Place },
    Node(Node),
}

impl Term {
    pub(super) const fn place(&self) -> Place {
        match self {
            Self::Unknown { place, .. } => *place,
            Self::Node(node) => node.place,
        }
    }

    pub(super) const fn base(&self) -> Option<&Base> {
        match self {
            Self::Unknown { .. } => None,
            Self::Node(node) => Some(&node.data_type.base),
        }
    }
}

/// Nothing means that a mistake was reported.
pub(super) type Checked<T> = Option<T>;

pub(super) struct Checker<'a, 'r> {
    pub(super) scope: &'a Scope,
    pub(super) report: &'r mut Report<'a>,
    depth: usize,
}

impl<'a, 'r> Checker<'a, 'r> {
    pub(super) const fn new(scope: &'a Scope, report: &'r mut Report<'a>) -> Self {
        Self { scope, report, depth: 0 }
    }

    /// A whole expression. One whose type is open is text.
    pub(super) fn whole(&mut self, expression: &Expr, place: Place) -> Checked<Node> {
        let term = self.term(expression, place)?;
        self.coerce(term, &Base::Text, None)
    }

    /// A whole expression that must be a condition.
    pub(super) fn condition(&mut self, expression: &Expr, place: Place) -> Checked<Node> {
        let term = self.term(expression, place)?;
        self.boolean(term)
    }

    pub(super) fn wrong<T>(&mut self, place: Place, message: impl Into<String>, hint: &str) -> Checked<T> {
        self.report.add(place, message, (!hint.is_empty()).then(|| hint.to_owned()));
        None
    }

    /// A part that may bind no looser than `least`, else Postgres would read the text in another way.
    pub(super) fn bound(&mut self, expression: &Expr, least: u8, outer: Place) -> Checked<Term> {
        if binding(expression) < least {
            let place = self.report.place_of(expression, outer);
            return self.wrong(place, "it is not plain what belongs together here", "write parentheses");
        }
        self.term(expression, outer)
    }

    pub(super) fn term(&mut self, expression: &Expr, outer: Place) -> Checked<Term> {
        let place = self.report.place_of(expression, outer);
        if self.depth == DEPTH_MAX {
            return self.wrong(
                place,
                "the expression is nested too deeply",
                "split it, or use a generated column",
            );
        }
        self.depth += 1;
        let term = self.construct(expression, place);
        self.depth -= 1;
        term
    }

    fn construct(&mut self, expression: &Expr, place: Place) -> Checked<Term> {
        match expression {
            Expr::Identifier(_) | Expr::CompoundIdentifier(_) | Expr::CompoundFieldAccess { .. } => {
                self.name(expression, place)
            }
            Expr::Value(literal) => self.literal(&literal.value, place),
            Expr::TypedString(typed) => {
                let data_type = self.data_type(&typed.data_type, place)?;
                let text = typed.value.value.clone().into_string();
                self.constant(text, &data_type, place).map(Term::Node)
            }
            Expr::Interval(interval) => self.interval(interval, place),
            Expr::Nested(inner) => self.term(inner, place),
            Expr::IsNull(inner) => self.is(inner, Asked::Null, false, place),
            Expr::IsNotNull(inner) => self.is(inner, Asked::Null, true, place),
            Expr::IsTrue(inner) => self.is(inner, Asked::True, false, place),
            Expr::IsNotTrue(inner) => self.is(inner, Asked::True, true, place),
            Expr::IsFalse(inner) => self.is(inner, Asked::False, false, place),
            Expr::IsNotFalse(inner) => self.is(inner, Asked::False, true, place),
            Expr::IsUnknown(inner) => self.is_unknown(inner, false, place),
            Expr::IsNotUnknown(inner) => self.is_unknown(inner, true, place),
            Expr::IsDistinctFrom(left, right) => self.distinct(left, right, false, place),
            Expr::IsNotDistinctFrom(left, right) => self.distinct(left, right, true, place),
            Expr::UnaryOp { op: UnaryOperator::Not, expr } => {
                let inner = self.bound(expr, 3, place)?;
                let inner = self.boolean(inner)?;
                Some(self.node(Op::Not(Box::new(inner)), Base::Bool, place))
            }
            Expr::UnaryOp { op: UnaryOperator::Minus, expr } => self.minus(expr, place),
            Expr::BinaryOp { left, op, right } => self.binary(left, op, right, place),
            Expr::InList { expr, list, negated } => self.in_list(expr, list, *negated, place),
            Expr::Between { expr, negated, low, high } => self.between([expr, low, high], *negated, place),
            Expr::Like { .. } | Expr::ILike { .. } => self.like(expression, place),
            Expr::AnyOp { left, compare_op, right, .. } => self.any(left, compare_op, right, place),
            Expr::Case { operand, conditions, else_result, .. } => {
                self.case(operand.as_deref(), conditions, else_result.as_deref(), place)
            }
            Expr::Cast { kind, expr, data_type, format: None } => {
                let least = if *kind == ast::CastKind::DoubleColon { 15 } else { 0 };
                let inner = self.bound(expr, least, place)?;
                let data_type = self.data_type(data_type, place)?;
                self.cast(inner, &data_type, place).map(Term::Node)
            }
            Expr::Collate { expr, collation } => self.collate(expr, &collation.to_string(), place),
            Expr::AtTimeZone { timestamp, time_zone } => self.at_time_zone(timestamp, time_zone, place),
            Expr::Function(_)
            | Expr::Extract { .. }
            | Expr::Ceil { .. }
            | Expr::Floor { .. }
            | Expr::Substring { .. }
            | Expr::Trim { .. } => self.function(expression, place),
            other => self.refused(other, place),
        }
    }

    /// What is SQL and not of this language.
    fn refused(&mut self, expression: &Expr, place: Place) -> Checked<Term> {
        let (what, hint) = match expression {
            Expr::Subquery(_) | Expr::Exists { .. } | Expr::InSubquery { .. } => (
                "a subquery is not part of the language",
                "an event tells of one row; use a generated column or an outbox",
            ),
            Expr::SimilarTo { .. } | Expr::RLike { .. } => (
                "regular expressions are not part of the language",
                "use like, split_part() or position of parts",
            ),
            Expr::AllOp { .. } => ("ALL is not part of the language", "use not (… = any (…))"),
            Expr::Array(_) => ("ARRAY[…] is not part of the language", "write '{a,b}'::text[]"),
            Expr::Tuple(_) => ("rows are not part of the language", "compare the columns one by one"),
            Expr::Wildcard(_) | Expr::QualifiedWildcard(..) => {
                ("* is not part of the language", "name the columns: their names are the event's contract")
            }
            Expr::Position { .. } => ("position() is not part of the language", "use like or split_part()"),
            Expr::Overlay { .. } => ("overlay() is not part of the language", "join the parts with ||"),
            _ => (
                "this is not part of the language",
                "use a generated column, or make the event with an outbox",
            ),
        };
        self.wrong(place, what, hint)
    }

    fn literal(&mut self, literal: &Value, place: Place) -> Checked<Term> {
        match literal {
            Value::Number(digits, _) => self.number(digits, false, place),
            Value::Boolean(value) => Some(self.node(Op::Constant(Datum::Bool(*value)), Base::Bool, place)),
            Value::Null => Some(Term::Unknown { text: None, place }),
            Value::SingleQuotedString(text) | Value::EscapedStringLiteral(text) => {
                Some(Term::Unknown { text: Some(text.clone()), place })
            }
            Value::DollarQuotedString(text) => Some(Term::Unknown { text: Some(text.value.clone()), place }),
            _ => self.wrong(place, "this kind of literal is not part of the language", "write '…' or E'…'"),
        }
    }

    /// The smallest of integer, bigint and numeric that holds it.
    fn number(&mut self, digits: &str, negative: bool, place: Place) -> Checked<Term> {
        let signed = if negative { format!("-{digits}") } else { digits.to_owned() };
        let (base, datum) = match signed.parse::<i64>() {
            Ok(int) if i32::try_from(int).is_ok() => (Base::Int4, Datum::Int(int)),
            Ok(int) => (Base::Int8, Datum::Int(int)),
            Err(_) => match super::number::Numeric::parse(&signed) {
                Ok(number) => (Base::Numeric, Datum::Numeric(number)),
                Err(fault) => return self.wrong(place, fault.message(), ""),
            },
        };
        Some(self.node(Op::Constant(datum), base, place))
    }

    /// A literal's sign belongs to it: `-2147483648` is an integer.
    fn minus(&mut self, inner: &Expr, place: Place) -> Checked<Term> {
        let mut naked = inner;
        while let Expr::Nested(within) = naked {
            naked = within;
        }
        if let Expr::Value(literal) = naked
            && let Value::Number(digits, _) = &literal.value
        {
            return self.number(digits, true, place);
        }
        let inner = self.bound(inner, 13, place)?;
        self.negated(inner, place)
    }

    fn interval(&mut self, interval: &ast::Interval, place: Place) -> Checked<Term> {
        let plain = interval.leading_field.is_none()
            && interval.leading_precision.is_none()
            && interval.fractional_seconds_precision.is_none();
        match &*interval.value {
            Expr::Value(literal) if plain => {
                let text = literal.value.clone().into_string();
                self.constant(text, &SqlType::plain(Base::Interval), place).map(Term::Node)
            }
            _ => self.wrong(place, "an interval is written as interval '1 day 02:00:00'", ""),
        }
    }

    fn data_type(&mut self, data_type: &ast::DataType, place: Place) -> Checked<SqlType> {
        match casts::named(data_type, self.scope) {
            Ok(data_type) => Some(data_type),
            Err(message) => self.wrong(place, message, ""),
        }
    }

    /// A text literal read as a value of a type; no text is NULL.
    pub(super) fn constant(&mut self, text: Option<String>, to: &SqlType, place: Place) -> Checked<Node> {
        let Some(text) = text else {
            let Term::Node(mut node) = self.node(Op::Constant(Datum::Null), to.base.clone(), place) else {
                return None;
            };
            node.nullable = true;
            node.data_type = to.clone();
            return Some(node);
        };
        if matches!(to.base, Base::Other(_)) {
            return self.wrong(
                place,
                format!("a literal of type {} is not part of the language", to.base),
                "",
            );
        }
        let read = match to.base {
            // Blanks beyond the length go; and what compares as equal has one form.
            Base::Text | Base::Varchar | Base::Bpchar => Datum::Text(Cow::Owned(text)),
            Base::Name => Datum::Text(Cow::Owned(names::cut(text))),
            _ => match value::parse(&to.base, &text) {
                Ok(datum) => names::detached(datum),
                Err(fault) => {
                    let hint = names::literal_hint(&to.base, &text);
                    let message = format!("{} ({}: '{text}')", fault.message(), to.base);
                    return self.wrong(place, message, &hint);
                }
            },
        };
        let Term::Node(node) = self.node(Op::Constant(read), to.base.clone(), place) else { return None };
        Some(self.fitted(node, to, place))
    }

    /// With the type's modifier applied.
    pub(super) fn fitted(&mut self, mut node: Node, to: &SqlType, place: Place) -> Node {
        node.data_type = SqlType::plain(to.base.clone());
        let Some(cast) = casts::fit(to) else { return node };
        let mut fitted = self.over(Op::Cast { cast, value: Box::new(node) }, to.base.clone(), place);
        fitted.data_type = to.clone();
        fitted
    }

    /// A term in the type that its surroundings want; nothing but Postgres' implicit casts.
    pub(super) fn coerce(&mut self, term: Term, to: &Base, what: Option<&str>) -> Checked<Node> {
        match term {
            Term::Unknown { text, place } => self.constant(text, &SqlType::plain(to.clone()), place),
            // At the top any type will do.
            Term::Node(node) if what.is_none() => Some(node),
            Term::Node(node) if node.data_type.base == *to => Some(node),
            Term::Node(node) if casts::is_implicit(&node.data_type.base, to) => self.stepped(node, to),
            Term::Node(node) => {
                let (from, place) = (node.data_type.base.clone(), node.place);
                let what = what.unwrap_or_default();
                self.wrong(place, format!("{what} must be {to}, not {from}"), "write a cast: (…)::type")
            }
        }
    }

    /// The steps of a cast that exists.
    pub(super) fn stepped(&mut self, node: Node, to: &Base) -> Checked<Node> {
        let place = node.place;
        let Some(steps) = casts::cast(&node.data_type.base, to) else {
            return self.wrong(
                place,
                format!("there is no cast from {} to {to} here", node.data_type.base),
                "",
            );
        };
        let mut node = node;
        for cast in steps {
            let nullable = cast == Cast::TimestampToTime;
            node = self.over(Op::Cast { cast, value: Box::new(node) }, to.clone(), place);
            node.nullable |= nullable;
        }
        node.data_type = SqlType::plain(to.clone());
        Some(node)
    }

    fn cast(&mut self, term: Term, to: &SqlType, place: Place) -> Checked<Node> {
        let node = match term {
            Term::Unknown { text, place } => return self.constant(text, to, place),
            Term::Node(node) => node,
        };
        let from = node.data_type.base.clone();
        if casts::cast(&from, &to.base).is_none() {
            let hint = match (&from, &to.base) {
                (Base::Other(_), _) => {
                    "a value of this type can only be passed on, compared with NULL, or cast to text"
                }
                (_, Base::Interval) => "only a literal becomes an interval",
                _ => "",
            };
            return self.wrong(place, format!("there is no cast from {from} to {} here", to.base), hint);
        }
        let mut node = self.stepped(node, &to.base)?;
        node.place = place;
        Some(self.fitted(node, to, place))
    }

    pub(super) fn boolean(&mut self, term: Term) -> Checked<Node> {
        self.coerce(term, &Base::Bool, Some("a condition"))
    }

    /// A node with what it takes from those below it.
    pub(super) fn node(&mut self, op: Op, base: Base, place: Place) -> Term {
        Term::Node(self.over(op, base, place))
    }

    #[expect(clippy::unused_self, reason = "reads as the others do")]
    pub(super) fn over(&mut self, op: Op, base: Base, place: Place) -> Node {
        let data_type = SqlType::plain(base);
        let mut node = Node { op, data_type, place, nullable: false, unavailable: false, tagged: None };
        let children = node.children();
        let nullable = children.iter().any(|child| child.nullable);
        let unavailable = children.iter().any(|child| child.unavailable);
        let tagged: Option<Arc<str>> = children.iter().find_map(|child| child.tagged.clone());
        (node.nullable, node.unavailable, node.tagged) = (nullable, unavailable, tagged);
        node
    }

    /// As [`node`](Self::node), where it is known whether it can be NULL.
    pub(super) fn node_nullable(&mut self, op: Op, base: Base, place: Place, nullable: bool) -> Term {
        let mut node = self.over(op, base, place);
        node.nullable = nullable;
        Term::Node(node)
    }
}
