//! SQL's special forms: IS, IN, BETWEEN, LIKE, ANY, CASE, AT TIME ZONE.

use sqlparser::ast::{BinaryOperator, CaseWhen, Expr, Value};

use crate::types::{Base, Kind};

use super::super::SourceSpan;
use super::super::tree::{Cast, Function, Node, NullTest, Op, Test};
use super::casts::{self, Category, category};
use super::meet::{agreed, is_constant};
use super::operators::test_of;
use super::{Checked, Checker, Term};

impl Checker<'_, '_> {
    pub(super) fn is(
        &mut self,
        inner: &Expr,
        asked: NullTest,
        negated: bool,
        place: SourceSpan,
    ) -> Checked<Term> {
        let inner = self.bound(inner, 5, place)?;
        let inner = match asked {
            NullTest::True | NullTest::False => self.boolean(inner)?,
            _ => self.coerce(inner, &Base::Text, None)?,
        };
        let (asked, negated) = match (asked, negated, inner.kind()) {
            (NullTest::Null, false, Kind::Composite { .. }) => (NullTest::NoField, false),
            (NullTest::Null, true, Kind::Composite { .. }) => (NullTest::AllFields, false),
            (asked, negated, _) => (asked, negated),
        };
        let op = Op::Is { asked, negated, value: Box::new(inner) };
        Some(self.node_nullable(op, Base::Bool, place, false))
    }

    /// IS UNKNOWN of a truth value is IS NULL.
    pub(super) fn is_unknown(&mut self, inner: &Expr, negated: bool, place: SourceSpan) -> Checked<Term> {
        let inner = self.bound(inner, 5, place)?;
        let inner = self.boolean(inner)?;
        let op = Op::Is { asked: NullTest::Null, negated, value: Box::new(inner) };
        Some(self.node_nullable(op, Base::Bool, place, false))
    }

    pub(super) fn distinct(
        &mut self,
        left: &Expr,
        right: &Expr,
        negated: bool,
        place: SourceSpan,
    ) -> Checked<Term> {
        let (left, right) = (self.bound(left, 5, place), self.bound(right, 5, place));
        let (how, sides) = self.comparable(left?, right?, Test::Equal, place)?;
        let op = Op::Distinct { how, negated, sides: Box::new(sides) };
        Some(self.node_nullable(op, Base::Bool, place, false))
    }

    pub(super) fn negated_if(&mut self, negated: bool, term: Term, place: SourceSpan) -> Checked<Term> {
        if !negated {
            return Some(term);
        }
        let node = self.boolean(term)?;
        Some(self.node(Op::Not(Box::new(node)), Base::Bool, place))
    }

    /// Constants of a list have a common type and are compared first, as in PostgreSQL. Items that read the
    /// row are compared one by one.
    pub(super) fn in_list(
        &mut self,
        subject: &Expr,
        list: &[Expr],
        negated: bool,
        place: SourceSpan,
    ) -> Checked<Term> {
        if let Expr::Tuple(subject) = subject {
            return self.rows_in(subject, list, negated, place);
        }
        let subject = self.bound(subject, 7, place);
        let items: Vec<_> = list.iter().map(|item| self.term(item, place)).collect();
        let (subject, mut items) = (subject?, items.into_iter().collect::<Option<Vec<_>>>()?);
        if let Some(null) = items.iter().find(|item| item.is_null()) {
            let message =
                if negated { "not in a list with null is never true" } else { "no value is equal to null" };
            let place = null.place();
            return self.wrong(place, message, "leave it out, and write or x is null where null is meant");
        }
        let is_fixed = |item: &Term| match item {
            Term::Unknown { .. } => true,
            Term::Node(node) => is_constant(node),
        };
        if items.iter().filter(|item| is_fixed(item)).count() > 1 {
            let mut fixed = vec![subject.clone()];
            fixed.extend(items.iter().filter(|item| is_fixed(item)).cloned());
            let base = self.common_base(&fixed, place, "IN")?;
            for item in items.iter_mut().filter(|item| is_fixed(item)) {
                *item = Term::Node(self.coerce(item.clone(), &base, Some("IN"))?);
            }
            // Constants first: a row value is not computed if a constant decides.
            items.sort_by_key(|item| !is_fixed(item));
        }
        let mut tests = Vec::new();
        for item in items {
            let at = item.place();
            tests.push(self.comparable(subject.clone(), item, Test::Equal, at)?);
        }
        let term = self.joined_tests(tests, place);
        self.negated_if(negated, term, place)
    }

    /// Combines comparisons of the same value in the same way into one node.
    fn joined_tests(&mut self, tests: Vec<(super::super::tree::How, [Node; 2])>, place: SourceSpan) -> Term {
        let alike = match tests.as_slice() {
            [(how, [value, _]), rest @ ..] => rest.iter().all(|(other, [same, _])| {
                other == how
                    && same.data_type == value.data_type
                    && is_plain(same) == is_plain(value)
                    && is_plain(value)
            }),
            [] => false,
        };
        if alike && let Some((how, [value, _])) = tests.first().cloned() {
            let items = tests.into_iter().map(|(_, [_, item])| item).collect();
            return self.node(Op::In { how, value: Box::new(value), items }, Base::Bool, place);
        }
        let mut nodes = Vec::new();
        for (how, sides) in tests {
            let op = Op::Compare { how, test: Test::Equal, sides: Box::new(sides) };
            nodes.push(self.over(op, Base::Bool, place));
        }
        self.node(Op::Or(nodes), Base::Bool, place)
    }

    pub(super) fn between(&mut self, parts: [&Expr; 3], negated: bool, place: SourceSpan) -> Checked<Term> {
        let [subject, low, high] = parts.map(|part| self.bound(part, 7, place));
        let (subject, low, high) = (subject?, low?, high?);
        let low = self.compared(subject.clone(), Test::GreaterOrEqual, low, place);
        let high = self.compared(subject, Test::LessOrEqual, high, place);
        let (low, high) = (self.boolean(low?)?, self.boolean(high?)?);
        let term = self.node(Op::And(vec![low, high]), Base::Bool, place);
        self.negated_if(negated, term, place)
    }

    pub(super) fn like(&mut self, expression: &Expr, place: SourceSpan) -> Checked<Term> {
        let (fold, parts) = match expression {
            Expr::Like { negated, any: false, expr, pattern, escape_char } => {
                (false, (*negated, expr, pattern, escape_char))
            }
            Expr::ILike { negated, any: false, expr, pattern, escape_char } => {
                (true, (*negated, expr, pattern, escape_char))
            }
            _ => {
                return self.wrong(place, "LIKE ANY is not supported", "write x like 'a%' or x like 'b%'");
            }
        };
        let (negated, subject, pattern, escape) = parts;
        let escape = match escape.as_deref() {
            None => Some('\\'),
            Some(expression) => self.escape(expression, place)?,
        };
        let (subject, pattern) = (self.bound(subject, 7, place), self.bound(pattern, 7, place));
        let (subject, pattern) = (subject?, pattern?);
        if pattern.is_null() {
            return self.wrong(place, "a pattern that is null never matches", "write x is null");
        }
        let subject = self.like_subject(subject)?;
        let pattern = self.coerce(pattern, &Base::Text, Some("the side of a pattern match"))?;
        let arguments = vec![subject, pattern];
        if fold {
            self.not_of_bytes(&arguments, "ilike", place)?;
        }
        let op = Op::Call { function: Function::Like { fold, escape }, arguments };
        let term = self.node(op, Base::Bool, place);
        self.negated_if(negated, term, place)
    }

    fn escape(&mut self, expression: &Expr, place: SourceSpan) -> Checked<Option<char>> {
        let place = self.report.place_of(expression, place);
        if let Expr::Value(literal) = expression
            && let Value::SingleQuotedString(text) = &literal.value
        {
            let mut letters = text.chars();
            if let (escape, None) = (letters.next(), letters.next()) {
                return Some(escape);
            }
        }
        self.wrong(place, "ESCAPE must be one character in quotes, or empty", "")
    }

    /// LIKE takes text or `character` with its blanks; the pattern is always text.
    pub(super) fn like_subject(&mut self, term: Term) -> Checked<Node> {
        match term {
            Term::Node(node) if node.data_type.base == Base::Bpchar => {
                let place = node.place;
                Some(self.over(Op::Cast { cast: Cast::Relabel, value: Box::new(node) }, Base::Text, place))
            }
            term => self.coerce(term, &Base::Text, Some("the side of a pattern match")),
        }
    }

    pub(super) fn any(
        &mut self,
        (left, operator, right): (&Expr, &BinaryOperator, &Expr),
        every: bool,
        place: SourceSpan,
    ) -> Checked<Term> {
        let word = if every { "all" } else { "any" };
        let Some(test) = test_of(operator) else {
            return self.wrong(place, format!("{operator} {word} is not supported"), "");
        };
        let (left, right) = (self.bound(left, 6, place), self.term(right, place));
        let (left, right) = (left?, right?);
        let array = match right {
            Term::Node(node) => node,
            unknown @ Term::Unknown { .. } => {
                let element = left.base().cloned().unwrap_or(Base::Text);
                self.coerce(unknown, &Base::Array(element.into()), Some("ANY's array"))?
            }
        };
        let Base::Array(element) = array.data_type.base.clone() else {
            let list = if every { "not in" } else { "in" };
            return self.wrong(
                place,
                format!("{word} (…) requires an array"),
                &format!("for a list, write {list} (…)"),
            );
        };
        // One comparison stands for all elements: they must be comparable without a cast.
        let probe = Node { data_type: crate::types::SqlType::plain((*element).clone()), ..array.clone() };
        let (how, [value, as_is]) = self.comparable(left, Term::Node(probe), test, place)?;
        let met = &as_is.data_type.base;
        let lift = match (&*element, met) {
            (Base::Varchar, _) => Some(Vec::new()),
            (Base::Date, Base::Timestamp | Base::TimestampTz) => Some(vec![Cast::DateToCompare]),
            (element, met) => casts::cast(element, met),
        };
        let Some(lift) = lift else {
            let message = format!("the elements have type {element}, but the value has another type");
            return self.wrong(place, message, "cast the value: (…)::type");
        };
        let op = Op::AnyOf {
            how,
            test,
            every,
            value: Box::new(value),
            array: Box::new(array),
            element: (*element).clone(),
            lift,
        };
        Some(self.node_nullable(op, Base::Bool, place, true))
    }

    pub(super) fn case(
        &mut self,
        operand: Option<&Expr>,
        arms: &[CaseWhen],
        otherwise: Option<&Expr>,
        place: SourceSpan,
    ) -> Checked<Term> {
        let operand = match operand {
            Some(operand) => Some(self.term(operand, place)?),
            None => None,
        };
        let mut conditions = Vec::new();
        // PostgreSQL considers ELSE first when it resolves the common type.
        let mut results = vec![match otherwise {
            Some(otherwise) => self.term(otherwise, place),
            None => Some(Term::Unknown { text: None, place }),
        }];
        for CaseWhen { condition, result } in arms {
            let condition = self.term(condition, place);
            conditions.push(condition.and_then(|condition| match &operand {
                Some(operand) => {
                    let at = condition.place();
                    let operand = match operand {
                        // A literal that is compared is text.
                        Term::Unknown { .. } => {
                            Term::Node(self.coerce(operand.clone(), &Base::Text, Some("CASE"))?)
                        }
                        Term::Node(_) => operand.clone(),
                    };
                    let compared = self.compared(operand, Test::Equal, condition, at)?;
                    self.boolean(compared)
                }
                None => self.boolean(condition),
            }));
            results.push(self.term(result, place));
        }
        let conditions: Vec<_> = conditions.into_iter().collect::<Option<_>>()?;
        let results: Vec<_> = results.into_iter().collect::<Option<_>>()?;
        let (base, nodes) = self.common(results, place, "CASE")?;
        let nullable = nodes.iter().any(|node| node.nullable);
        let data_type = agreed(&nodes, base.clone());
        let mut nodes = nodes.into_iter();
        let otherwise = nodes.next().map(Box::new);
        let arms = conditions.into_iter().zip(nodes).collect();
        let mut node = self.over(Op::Case { arms, otherwise }, base, place);
        node.nullable = nullable;
        node.data_type = data_type;
        Some(Term::Node(node))
    }

    pub(super) fn at_time_zone(&mut self, moment: &Expr, zone: &Expr, place: SourceSpan) -> Checked<Term> {
        let moment = self.bound(moment, 11, place)?;
        let is_utc = matches!(zone, Expr::Value(literal) if matches!(&literal.value,
            Value::SingleQuotedString(name) if name.eq_ignore_ascii_case("utc")));
        if !is_utc {
            if !matches!(zone, Expr::Value(_))
                && let Some(zone) = self.bound(zone, 12, place)
                && zone.base() == Some(&Base::Interval)
            {
                return self.plain("timezone", vec![zone, moment], place)?;
            }
            let hint = "write at time zone 'UTC', or a fixed offset as at time zone interval '2 hours'; consumers know their zone";
            let message = "the rules of a time zone change with each release of its data: only UTC and intervals are supported";
            return self.wrong(place, message, hint);
        }
        let Term::Node(node) = moment else {
            return self.wrong(place, "the literal needs a type", "write timestamptz '…' at time zone 'UTC'");
        };
        let (from, to) = match node.data_type.base {
            Base::Timestamp => (Base::Timestamp, Base::TimestampTz),
            Base::TimestampTz | Base::Date => (Base::TimestampTz, Base::Timestamp),
            _ => return self.wrong(place, format!("type {} has no time zone", node.data_type.base), ""),
        };
        let node = self.coerce(Term::Node(node), &from, Some("a moment"))?;
        Some(self.node(Op::Cast { cast: Cast::Relabel, value: Box::new(node) }, to, place))
    }

    /// Converts a value for `concat`.
    pub(super) fn output(&mut self, term: Term) -> Checked<Node> {
        match term {
            unknown @ Term::Unknown { .. } => self.coerce(unknown, &Base::Text, Some("a text")),
            Term::Node(node) if category(&node.data_type.base) == Category::Text => Some(node),
            Term::Node(node) => {
                let (base, place) = (node.data_type.base.clone(), node.place);
                Some(self.over(
                    Op::Cast { cast: Cast::Output(base), value: Box::new(node) },
                    Base::Text,
                    place,
                ))
            }
        }
    }
}

/// Whether a node is a value as read, without a cast.
fn is_plain(node: &Node) -> bool {
    matches!(node.op, Op::Column(_))
}
