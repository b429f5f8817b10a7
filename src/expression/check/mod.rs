//! Builds the typed tree: resolves names and types as PostgreSQL does, and makes implicit casts explicit.
//! Everything outside the language is a mistake with an alternative. An accepted text cannot fail because of
//! its form.

mod arrays;
mod casts;
mod documents;
mod forms;
mod functions;
mod measures;
mod meet;
mod names;
mod operators;
mod plain;
mod pseudonym;
mod regular;
mod rows;

use std::borrow::Cow;
use std::sync::Arc;

use sqlparser::ast::{self, Expr, UnaryOperator, Value};

use crate::types::{Base, SqlType};

use super::parse::{self, MistakeReport, binding};
use super::scope::Scope;
use super::tree::{Cast, Datum, Node, NullTest, Op};
use super::{SourceSpan, value};

pub(super) use meet::is_constant;

/// Largest nesting depth, which bounds the evaluator's recursion.
const DEPTH_MAX: usize = 150;

/// An expression whose type may be undecided: a string literal or NULL takes its type from the context.
#[derive(Clone, Debug)]
pub(super) enum Term {
    Unknown { text: Option<String>, place: SourceSpan },
    Node(Node),
}

impl Term {
    /// Whether it is the literal `null`.
    pub(super) const fn is_null(&self) -> bool {
        matches!(self, Self::Unknown { text: None, .. })
    }

    pub(super) const fn place(&self) -> SourceSpan {
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

/// `None`: an error was reported.
pub(super) type Checked<T> = Option<T>;

pub(super) struct Checker<'a, 'r> {
    pub(super) scope: &'a Scope,
    pub(super) report: &'r mut MistakeReport<'a>,
    depth: usize,
}

impl<'a, 'r> Checker<'a, 'r> {
    pub(super) const fn new(scope: &'a Scope, report: &'r mut MistakeReport<'a>) -> Self {
        Self { scope, report, depth: 0 }
    }

    /// Checks a whole expression. An undecided type becomes text.
    pub(super) fn whole(&mut self, expression: &Expr, place: SourceSpan) -> Checked<Node> {
        let term = self.term(expression, place)?;
        self.coerce(term, &Base::Text, None)
    }

    /// Checks a whole expression that must be a condition.
    pub(super) fn condition(&mut self, expression: &Expr, place: SourceSpan) -> Checked<Node> {
        let term = self.term(expression, place)?;
        self.boolean(term)
    }

    pub(super) fn wrong<T>(
        &mut self,
        place: SourceSpan,
        message: impl Into<String>,
        hint: &str,
    ) -> Checked<T> {
        self.report.add(place, message, (!hint.is_empty()).then(|| hint.to_owned()));
        None
    }

    /// Checks an operand, which must not bind less tightly than `least`: PostgreSQL would parse the text
    /// differently.
    pub(super) fn bound(&mut self, expression: &Expr, least: u8, outer: SourceSpan) -> Checked<Term> {
        if binding(expression) < least {
            let place = self.report.place_of(expression, outer);
            return self.wrong(
                place,
                "ambiguous operator precedence",
                "add parentheses; for two conditions write and, or",
            );
        }
        self.term(expression, outer)
    }

    pub(super) fn term(&mut self, expression: &Expr, outer: SourceSpan) -> Checked<Term> {
        let place = self.report.place_of(expression, outer);
        if self.depth == DEPTH_MAX {
            return self.wrong(
                place,
                "the expression is nested too deeply",
                "split it, or store the value in a column",
            );
        }
        self.depth += 1;
        let term = self.construct(expression, place);
        self.depth -= 1;
        term
    }

    fn construct(&mut self, expression: &Expr, place: SourceSpan) -> Checked<Term> {
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
            Expr::IsNull(inner) => self.is(inner, NullTest::Null, false, place),
            Expr::IsNotNull(inner) => self.is(inner, NullTest::Null, true, place),
            Expr::IsTrue(inner) => self.is(inner, NullTest::True, false, place),
            Expr::IsNotTrue(inner) => self.is(inner, NullTest::True, true, place),
            Expr::IsFalse(inner) => self.is(inner, NullTest::False, false, place),
            Expr::IsNotFalse(inner) => self.is(inner, NullTest::False, true, place),
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
            Expr::UnaryOp { op: UnaryOperator::Plus, expr } => self.plus(expr, place),
            Expr::UnaryOp { op: UnaryOperator::BitwiseNot, expr } => self.flipped(expr, place),
            Expr::BinaryOp { left, op, right } => self.binary(left, op, right, place),
            Expr::InList { expr, list, negated } => self.in_list(expr, list, *negated, place),
            Expr::Between { expr, negated, low, high } => self.between([expr, low, high], *negated, place),
            Expr::Like { .. } | Expr::ILike { .. } => self.like(expression, place),
            Expr::AnyOp { left, compare_op, right, .. } => self.any((left, compare_op, right), false, place),
            Expr::AllOp { left, compare_op, right } => self.any((left, compare_op, right), true, place),
            Expr::Array(ast::Array { elem, named: true }) => self.array(elem, place),
            Expr::Case { operand, conditions, else_result, .. } => {
                self.case(operand.as_deref(), conditions, else_result.as_deref(), place)
            }
            Expr::Cast { kind, expr, data_type, format: None } => {
                let least = if *kind == ast::CastKind::DoubleColon { 15 } else { 0 };
                let data_type = self.data_type(data_type, place)?;
                let inner = match &**expr {
                    // An empty array takes the type of the cast.
                    Expr::Array(ast::Array { elem, named: true }) if elem.is_empty() => {
                        Term::Unknown { text: Some("{}".to_owned()), place }
                    }
                    expr => self.bound(expr, least, place)?,
                };
                self.cast(inner, &data_type, place).map(Term::Node)
            }
            Expr::Collate { expr, collation } => self.collate(expr, &collation.to_string(), place),
            Expr::AtTimeZone { timestamp, time_zone } => self.at_time_zone(timestamp, time_zone, place),
            Expr::Function(_)
            | Expr::Extract { .. }
            | Expr::Ceil { .. }
            | Expr::Floor { .. }
            | Expr::Substring { .. }
            | Expr::Position { .. }
            | Expr::Trim { .. } => self.function(expression, place),
            other => self.refused(other, place),
        }
    }

    /// Reports SQL that is not supported.
    fn refused(&mut self, expression: &Expr, place: SourceSpan) -> Checked<Term> {
        let (what, hint) = match expression {
            Expr::Subquery(_) | Expr::Exists { .. } | Expr::InSubquery { .. } => (
                "a subquery is not supported",
                "an event describes one row; store the value in a column or an outbox",
            ),
            Expr::SimilarTo { .. } => {
                ("similar to is not supported", "write a regular expression: x ~ '^(a|b)[0-9]*$'")
            }
            Expr::RLike { .. } => {
                ("this operator is not PostgreSQL's", "write x ~ 'pattern', or ~* to ignore case")
            }
            Expr::Array(_) => ("[…] alone is no array", "write array[a, b]; a name has double quotes: \"x\""),
            Expr::Tuple(_) => (
                "a row can only be compared with another row",
                "write (a, b) = (c, d) or (a, b) in ((1, 2), (3, 4))",
            ),
            Expr::Wildcard(_) | Expr::QualifiedWildcard(..) => (
                "* is not supported",
                "list the columns: their names are part of the event's \
                    contract",
            ),
            Expr::Overlay { .. } => ("overlay() is not supported", "join the parts with ||"),
            _ => (
                "this is not supported",
                "store the value in a column, or publish the event through an outbox",
            ),
        };
        self.wrong(place, what, hint)
    }

    fn literal(&mut self, literal: &Value, place: SourceSpan) -> Checked<Term> {
        match literal {
            Value::Number(digits, _) => self.number(digits, false, place),
            Value::Boolean(value) => Some(self.node(Op::Constant(Datum::Bool(*value)), Base::Bool, place)),
            Value::Null => Some(Term::Unknown { text: None, place }),
            Value::SingleQuotedString(text) | Value::EscapedStringLiteral(text) => {
                Some(Term::Unknown { text: Some(text.clone()), place })
            }
            Value::DollarQuotedString(text) => Some(Term::Unknown { text: Some(text.value.clone()), place }),
            Value::Placeholder(_) => {
                self.wrong(place, "parameters are not supported", "write the value, or a column")
            }
            Value::HexStringLiteral(_) => self.wrong(
                place,
                "this kind of literal is not supported",
                "write a number in decimal digits, bytes as '\\x6869'::bytea",
            ),
            _ => self.wrong(place, "this kind of literal is not supported", "write '…' or E'…'"),
        }
    }

    /// The smallest of integer, bigint and numeric that fits.
    fn number(&mut self, digits: &str, negative: bool, place: SourceSpan) -> Checked<Term> {
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

    /// A sign belongs to its literal: `-2147483648` is an integer.
    fn minus(&mut self, inner: &Expr, place: SourceSpan) -> Checked<Term> {
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

    /// `~x`
    fn flipped(&mut self, inner: &Expr, place: SourceSpan) -> Checked<Term> {
        let inner = self.bound(inner, 8, place)?;
        self.plain("~", vec![inner], place)?
    }

    /// `+x`: the number itself.
    fn plus(&mut self, inner: &Expr, place: SourceSpan) -> Checked<Term> {
        match self.bound(inner, 13, place)? {
            Term::Node(node) if casts::rank(&node.data_type.base).is_some() => Some(Term::Node(node)),
            other => self.wrong(other.place(), "only a number has a sign", ""),
        }
    }

    fn interval(&mut self, interval: &ast::Interval, place: SourceSpan) -> Checked<Term> {
        let plain = interval.leading_field.is_none()
            && interval.leading_precision.is_none()
            && interval.fractional_seconds_precision.is_none();
        match &*interval.value {
            Expr::Value(literal) if plain => {
                let text = literal.value.clone().into_string();
                self.constant(text, &SqlType::plain(Base::Interval), place).map(Term::Node)
            }
            _ => {
                self.wrong(place, "this form of interval is not supported", "write interval '1 day 02:00:00'")
            }
        }
    }

    fn data_type(&mut self, data_type: &ast::DataType, place: SourceSpan) -> Checked<SqlType> {
        match casts::named(data_type, self.scope) {
            Ok(data_type) => Some(data_type),
            Err(message) => {
                let hint = super::advice::for_type(&data_type.to_string());
                self.wrong(place, message, hint)
            }
        }
    }

    /// Reads a string literal as a value of a type; `None` is NULL.
    pub(super) fn constant(
        &mut self,
        text: Option<String>,
        to: &SqlType,
        place: SourceSpan,
    ) -> Checked<Node> {
        let Some(text) = text else {
            let Term::Node(mut node) = self.node(Op::Constant(Datum::Null), to.base.clone(), place) else {
                return None;
            };
            node.nullable = true;
            node.data_type = to.clone();
            return Some(node);
        };
        if matches!(to.base, Base::Other(_)) {
            return self.wrong(place, format!("a literal of type {} is not supported", to.base), "");
        }
        let read = match to.base {
            // Blanks beyond the length are dropped, and equal values get one form.
            Base::Text | Base::Varchar | Base::Bpchar => Datum::Text(Cow::Owned(text)),
            Base::Name => Datum::Text(Cow::Owned(names::cut(text))),
            _ => match value::parse(&to.base, &text) {
                Ok(datum) => datum.into_owned(),
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

    /// Applies the type modifier.
    pub(super) fn fitted(&mut self, mut node: Node, to: &SqlType, place: SourceSpan) -> Node {
        node.data_type = SqlType::plain(to.base.clone());
        let Some(cast) = casts::fit(to) else { return node };
        let mut fitted = self.over(Op::Cast { cast, value: Box::new(node) }, to.base.clone(), place);
        fitted.data_type = to.clone();
        fitted
    }

    /// Casts a term implicitly to the type that the context requires.
    pub(super) fn coerce(&mut self, term: Term, to: &Base, what: Option<&str>) -> Checked<Node> {
        match term {
            Term::Unknown { text, place } => self.constant(text, &SqlType::plain(to.clone()), place),
            // The top level accepts any type.
            Term::Node(node) if what.is_none() => Some(node),
            Term::Node(node) if node.data_type.base == *to => Some(node),
            Term::Node(node) if casts::is_implicit(&node.data_type.base, to) => self.stepped(node, to),
            Term::Node(node) => {
                let (from, place) = (node.data_type.base.clone(), node.place);
                let what = what.unwrap_or_default();
                if *to == Base::Bool {
                    let hint = "write a comparison: x = 1 or x = 2, x in (1, 2), x is not null, x <> 0";
                    return self.wrong(place, format!("{what} must be true or false, not {from}"), hint);
                }
                let hint = format!("write a cast: (…)::{to}");
                self.wrong(place, format!("{what} must be {to}, not {from}"), &hint)
            }
        }
    }

    /// Applies the steps of a cast that exists.
    pub(super) fn stepped(&mut self, node: Node, to: &Base) -> Checked<Node> {
        let place = node.place;
        let Some(steps) = casts::cast(&node.data_type.base, to) else {
            return self.wrong(
                place,
                format!("casting {} to {to} is not supported", node.data_type.base),
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

    fn cast(&mut self, term: Term, to: &SqlType, place: SourceSpan) -> Checked<Node> {
        let node = match term {
            Term::Unknown { text, place } => return self.constant(text, to, place),
            Term::Node(node) => node,
        };
        let from = node.data_type.base.clone();
        if casts::cast(&from, &to.base).is_none() {
            let hint = match (&from, &to.base) {
                (Base::Other(_), _) => {
                    "a value of this type can only be published, compared with NULL or cast to text"
                }
                (Base::Enum(_), _) => "a label is a text: write x::text",
                (_, Base::Interval) => "only a literal can be cast to interval",
                _ => "",
            };
            return self.wrong(place, format!("casting {from} to {} is not supported", to.base), hint);
        }
        let mut node = self.stepped(node, &to.base)?;
        node.place = place;
        Some(self.fitted(node, to, place))
    }

    pub(super) fn boolean(&mut self, term: Term) -> Checked<Node> {
        self.coerce(term, &Base::Bool, Some("a condition"))
    }

    /// A node; its properties are derived from its children.
    pub(super) fn node(&mut self, op: Op, base: Base, place: SourceSpan) -> Term {
        Term::Node(self.over(op, base, place))
    }

    #[expect(clippy::unused_self, reason = "reads as the others do")]
    pub(super) fn over(&mut self, op: Op, base: Base, place: SourceSpan) -> Node {
        let data_type = SqlType::plain(base);
        let mut node =
            Node { op, data_type, place, nullable: false, unavailable: false, tagged: None, pseudonym: None };
        let children = node.children();
        let nullable = children.iter().any(|child| child.nullable);
        let unavailable = children.iter().any(|child| child.unavailable);
        let tagged: Option<Arc<str>> = children.iter().find_map(|child| child.tagged.clone());
        let pseudonym = children.iter().find_map(|child| child.pseudonym.clone());
        // An expression over a pseudonym can distinguish values: `hmac(age) in (hmac(41))` is the age.
        let may_pass = matches!(node.op, Op::Is { asked: NullTest::Null, .. } | Op::Coalesce(_));
        let tagged = tagged.or_else(|| pseudonym.clone().filter(|_| !may_pass));
        node.pseudonym = pseudonym.filter(|_| tagged.is_none() && matches!(node.op, Op::Coalesce(_)));
        (node.nullable, node.unavailable, node.tagged) = (nullable, unavailable, tagged);
        node
    }

    /// The same as [`node`](Self::node), with known nullability.
    pub(super) fn node_nullable(&mut self, op: Op, base: Base, place: SourceSpan, nullable: bool) -> Term {
        let mut node = self.over(op, base, place);
        node.nullable = nullable;
        Term::Node(node)
    }
}
