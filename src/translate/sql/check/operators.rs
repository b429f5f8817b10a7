//! Binary operators: arithmetic over numbers and moments, comparison, joining texts, parts of JSON documents.

use std::sync::Arc;

use sqlparser::ast::{BinaryOperator, Expr};

use crate::types::Base;

use super::super::parse::binding;
use super::super::tree::{Arithmetic, Cast, Class, Datum, Function, Node, Op, Test};
use super::super::{Place, array};
use super::casts::{Category, category, rank, width};
use super::{Checked, Checker, Term};

pub(super) fn class(base: &Base) -> Option<Class> {
    match base {
        Base::Numeric => Some(Class::Numeric),
        Base::Float4 => Some(Class::Float { single: true }),
        Base::Float8 => Some(Class::Float { single: false }),
        _ => width(base).map(Class::Int),
    }
}

impl Checker<'_, '_> {
    pub(super) fn binary(
        &mut self,
        left: &Expr,
        operator: &BinaryOperator,
        right: &Expr,
        place: Place,
    ) -> Checked<Term> {
        use BinaryOperator as B;
        let level = match operator {
            B::Or | B::And => return self.logic(operator, left, right, place),
            B::Eq | B::NotEq | B::Lt | B::LtEq | B::Gt | B::GtEq => {
                return self.comparison(left, operator, right, place);
            }
            B::Plus | B::Minus => 8,
            B::Multiply | B::Divide | B::Modulo => 9,
            B::StringConcat | B::Arrow | B::LongArrow | B::HashArrow | B::HashLongArrow | B::Question => 7,
            other => return self.no_operator(other, place),
        };
        let (left, right) = (self.bound(left, level, place), self.bound(right, level + 1, place));
        let (left, right) = (left?, right?);
        match operator {
            B::Plus => self.arithmetic(Arithmetic::Add, left, right, place),
            B::Minus => self.arithmetic(Arithmetic::Subtract, left, right, place),
            B::Multiply => self.arithmetic(Arithmetic::Multiply, left, right, place),
            B::Divide => self.arithmetic(Arithmetic::Divide, left, right, place),
            B::Modulo => self.arithmetic(Arithmetic::Modulo, left, right, place),
            B::StringConcat => self.join(left, right, place),
            _ => self.document(left, operator, right, place),
        }
    }

    fn no_operator(&mut self, operator: &BinaryOperator, place: Place) -> Checked<Term> {
        use BinaryOperator as B;
        let hint = match operator {
            B::PGRegexMatch | B::PGRegexIMatch | B::PGRegexNotMatch | B::PGRegexNotIMatch => {
                "a regular expression's work has no bound: use like or split_part()"
            }
            B::PGLikeMatch | B::PGILikeMatch | B::PGNotLikeMatch | B::PGNotILikeMatch => {
                "write like or ilike"
            }
            B::PGExp => "multiply; a power of any numbers is a generated column's work",
            B::AtArrow | B::ArrowAt => "compare the parts: x ->> 'a' = '…'",
            _ => "use a generated column",
        };
        self.wrong(place, format!("operator {operator} is not part of the language"), hint)
    }

    /// AND and OR of any length are one node, so that a long condition is no deep one.
    fn logic(&mut self, operator: &BinaryOperator, left: &Expr, right: &Expr, place: Place) -> Checked<Term> {
        let level = if *operator == BinaryOperator::Or { 1 } else { 2 };
        let mut parts = vec![right];
        let mut rest = left;
        while let Expr::BinaryOp { left, op, right } = rest
            && op == operator
        {
            parts.push(right);
            rest = left;
        }
        parts.push(rest);
        let mut nodes = Vec::new();
        let mut wrong = false;
        for (nth, part) in parts.iter().rev().enumerate() {
            let least = if nth == 0 { level } else { level + 1 };
            let node = self.bound(part, least, place).and_then(|term| self.boolean(term));
            wrong |= node.is_none();
            nodes.extend(node);
        }
        if wrong {
            return None;
        }
        let op = if level == 1 { Op::Or(nodes) } else { Op::And(nodes) };
        Some(self.node(op, Base::Bool, place))
    }

    fn comparison(
        &mut self,
        left: &Expr,
        operator: &BinaryOperator,
        right: &Expr,
        place: Place,
    ) -> Checked<Term> {
        let test = test_of(operator)?;
        let (left, right) = (self.bound(left, 6, place), self.bound(right, 6, place));
        self.compared(left?, test, right?, place)
    }

    pub(super) fn compared(&mut self, left: Term, test: Test, right: Term, place: Place) -> Checked<Term> {
        let (how, sides) = self.comparable(left, right, test, place)?;
        Some(self.node(Op::Compare { how, test, sides: Box::new(sides) }, Base::Bool, place))
    }

    fn arithmetic(&mut self, operator: Arithmetic, left: Term, right: Term, place: Place) -> Checked<Term> {
        let bases = (left.base().cloned(), right.base().cloned());
        if let Some(result) = self.numbers(operator, &left, &right, place) {
            return result;
        }
        let swapped = operator == Arithmetic::Add
            && matches!(bases.0, Some(Base::Interval | Base::Time | Base::Int2 | Base::Int4))
            && matches!(bases.1, Some(Base::Date | Base::Timestamp | Base::TimestampTz | Base::Time))
            && bases.0 != bases.1;
        let (left, right, bases) =
            if swapped { (right, left, (bases.1, bases.0)) } else { (left, right, bases) };
        let Some((function, to, result)) = moments(operator, bases.0.as_ref(), bases.1.as_ref()) else {
            let name =
                |base: Option<Base>| base.map_or_else(|| "a literal".to_owned(), |base| base.to_string());
            let message =
                format!("there is no such arithmetic over {} and {} here", name(bases.0), name(bases.1));
            return self.wrong(place, message, "say which types are meant: (…)::type, interval '…'");
        };
        let left = self.coerce(left, &to.0, Some("the left side"))?;
        let right = self.coerce(right, &to.1, Some("the right side"))?;
        Some(self.node(Op::Call { function, arguments: vec![left, right] }, result, place))
    }

    /// Arithmetic over numbers; nothing if these are none.
    fn numbers(
        &mut self,
        operator: Arithmetic,
        left: &Term,
        right: &Term,
        place: Place,
    ) -> Option<Checked<Term>> {
        let base = match (left.base(), right.base()) {
            (Some(base), None) | (None, Some(base)) if rank(base).is_some() => base.clone(),
            (Some(a), Some(b)) => {
                let higher = if rank(a)? < rank(b)? { b } else { a };
                let float = *higher == Base::Float4 && a != b;
                if float { Base::Float8 } else { higher.clone() }
            }
            _ => return None,
        };
        let class = class(&base)?;
        if operator == Arithmetic::Modulo && matches!(class, Class::Float { .. }) {
            return None;
        }
        Some(self.computed(Function::Arithmetic(operator, class), base, [left.clone(), right.clone()], place))
    }

    /// A function of two values of a type that gives one of it.
    pub(super) fn computed(
        &mut self,
        function: Function,
        base: Base,
        sides: [Term; 2],
        place: Place,
    ) -> Checked<Term> {
        let mut arguments = Vec::new();
        for side in sides {
            arguments.push(self.coerce(side, &base, Some("an operand"))?);
        }
        Some(self.node(Op::Call { function, arguments }, base, place))
    }

    /// `-x`
    pub(super) fn negated(&mut self, inner: Term, place: Place) -> Checked<Term> {
        let Term::Node(inner) = inner else {
            return self.wrong(place, "a text has no sign", "write the number without quotes");
        };
        let base = inner.data_type.base.clone();
        let function = match class(&base) {
            Some(class) => Function::Negate(class),
            None if base == Base::Interval => Function::NegateInterval,
            None => return self.wrong(place, format!("type {base} has no sign"), ""),
        };
        Some(self.node(Op::Call { function, arguments: vec![inner] }, base, place))
    }

    fn join(&mut self, left: Term, right: Term, place: Place) -> Checked<Term> {
        let is_text = |term: &Term| term.base().is_some_and(|base| category(base) == Category::Text);
        let is_unknown = |term: &Term| term.base().is_none();
        let plain =
            |term: &Term| !term.base().is_some_and(|base| matches!(base, Base::Array(_) | Base::Jsonb));
        let texts = is_text(&left) || is_text(&right) || is_unknown(&left) || is_unknown(&right);
        if !plain(&left) || !plain(&right) || !texts {
            return self.wrong(place, "|| joins texts", "cast a value to text: (…)::text");
        }
        // To the server, a literal beside one of these is one of them, too.
        let has_own = |term: &Term| matches!(term.base(), Some(Base::Bytea | Base::Other(_)));
        if has_own(&left) && is_unknown(&right) || is_unknown(&left) && has_own(&right) {
            return self.wrong(
                place,
                "|| would not join texts here",
                "say that the literal is one: '…'::text",
            );
        }
        let (left, right) = (self.as_text(left)?, self.as_text(right)?);
        Some(self.node(
            Op::Call { function: Function::Join, arguments: vec![left, right] },
            Base::Text,
            place,
        ))
    }

    /// As the cast to text does it.
    pub(super) fn as_text(&mut self, term: Term) -> Checked<Node> {
        match term {
            Term::Node(node) => self.stepped(node, &Base::Text),
            unknown @ Term::Unknown { .. } => self.coerce(unknown, &Base::Text, Some("a text")),
        }
    }

    /// `-> ->> #> #>> ?`
    fn document(
        &mut self,
        left: Term,
        operator: &BinaryOperator,
        right: Term,
        place: Place,
    ) -> Checked<Term> {
        let Some(base @ (Base::Json | Base::Jsonb)) = left.base().cloned() else {
            return self.wrong(place, format!("{operator} takes parts of json or jsonb"), "");
        };
        let Term::Node(left) = left else { return None };
        let as_text = matches!(operator, BinaryOperator::LongArrow | BinaryOperator::HashLongArrow);
        let result = if as_text { Base::Text } else { base.clone() };
        if let BinaryOperator::HashArrow | BinaryOperator::HashLongArrow = operator {
            let path = self.path(&right)?;
            let op = Op::Call { function: Function::JsonPath { path, as_text }, arguments: vec![left] };
            return Some(self.node_nullable(op, result, place, true));
        }
        let is_number =
            right.base().and_then(width).is_some_and(|width| width != super::super::tree::Width::Eight);
        let (function, wanted) = match operator {
            BinaryOperator::Question if base == Base::Jsonb => (Function::JsonHas, Base::Text),
            BinaryOperator::Question => {
                return self.wrong(place, "? looks into jsonb only", "cast it: (…)::jsonb");
            }
            _ if is_number => (Function::JsonElement { as_text, scalars: base == Base::Jsonb }, Base::Int4),
            _ => (Function::JsonKey { as_text }, Base::Text),
        };
        let has = matches!(function, Function::JsonHas);
        let right = self.coerce(right, &wanted, Some("a key"))?;
        let nullable = !has || left.nullable || right.nullable;
        let op = Op::Call { function, arguments: vec![left, right] };
        Some(self.node_nullable(op, if has { Base::Bool } else { result }, place, nullable))
    }

    /// The keys of `'{a,b}'`, which must be a literal.
    fn path(&mut self, term: &Term) -> Checked<Arc<[Option<String>]>> {
        let text = match term {
            Term::Unknown { text: Some(text), .. } => text.as_str(),
            Term::Node(Node { op: Op::Constant(Datum::Text(text)), data_type, .. }) if matches!(&data_type.base, Base::Array(element) if **element == Base::Text) => {
                text
            }
            _ => return self.wrong(term.place(), "a path is a literal: '{a,b}'", ""),
        };
        let mut path = Vec::new();
        let walked = array::walk(text, |step| {
            path.push(step.map(str::to_owned));
            true
        });
        if walked.is_err() {
            return self.wrong(term.place(), "a path is an array of keys: '{a,b}'", "");
        }
        Some(path.into())
    }

    pub(super) fn collate(&mut self, inner: &Expr, collation: &str, place: Place) -> Checked<Term> {
        if collation != "\"C\"" && collation != "\"POSIX\"" {
            return self.wrong(
                place,
                format!("collation {collation} is not part of the language"),
                "write collate \"C\"",
            );
        }
        let inner =
            if binding(inner) >= 12 { self.term(inner, place)? } else { self.bound(inner, 12, place)? };
        let inner = match inner {
            Term::Node(node) if category(&node.data_type.base) == Category::Text => node,
            unknown @ Term::Unknown { .. } => self.coerce(unknown, &Base::Text, Some("a text"))?,
            Term::Node(node) => {
                let message = format!("type {} has no collation", node.data_type.base);
                return self.wrong(place, message, "");
            }
        };
        let data_type = inner.data_type.clone();
        let mut node = self.over(
            Op::Cast { cast: Cast::Collate, value: Box::new(inner) },
            data_type.base.clone(),
            place,
        );
        node.data_type = data_type;
        Some(Term::Node(node))
    }
}

pub(super) const fn test_of(operator: &BinaryOperator) -> Option<Test> {
    Some(match operator {
        BinaryOperator::Eq => Test::Equal,
        BinaryOperator::NotEq => Test::NotEqual,
        BinaryOperator::Lt => Test::Less,
        BinaryOperator::LtEq => Test::LessOrEqual,
        BinaryOperator::Gt => Test::Greater,
        BinaryOperator::GtEq => Test::GreaterOrEqual,
        _ => return None,
    })
}

/// Arithmetic over moments: the function, the types of its sides, that of its result.
fn moments(
    operator: Arithmetic,
    left: Option<&Base>,
    right: Option<&Base>,
) -> Option<(Function, (Base, Base), Base)> {
    let subtract = match operator {
        Arithmetic::Add => false,
        Arithmetic::Subtract => true,
        _ => return None,
    };
    let (left, right) = (left?, right?);
    // A sum has its sides in any order, but is written moment first in the tree.
    let interval = Base::Interval;
    Some(match (left, right) {
        (Base::Date, Base::Int2 | Base::Int4) => {
            (Function::AddDays { subtract }, (Base::Date, Base::Int4), Base::Date)
        }
        (Base::Date, Base::Date) if subtract => {
            (Function::DateDifference, (Base::Date, Base::Date), Base::Int4)
        }
        (Base::Date, Base::Time) if !subtract => {
            (Function::DateAndTime, (Base::Date, Base::Time), Base::Timestamp)
        }
        (Base::Date | Base::Timestamp, Base::Interval) => {
            (Function::AddInterval { subtract }, (Base::Timestamp, interval), Base::Timestamp)
        }
        (Base::TimestampTz, Base::Interval) => {
            (Function::AddInterval { subtract }, (Base::TimestampTz, interval), Base::TimestampTz)
        }
        (Base::Timestamp, Base::Timestamp | Base::Date) | (Base::Date, Base::Timestamp) if subtract => {
            (Function::MomentDifference, (Base::Timestamp, Base::Timestamp), interval)
        }
        (Base::TimestampTz, Base::TimestampTz | Base::Timestamp | Base::Date)
        | (Base::Timestamp | Base::Date, Base::TimestampTz)
            if subtract =>
        {
            (Function::MomentDifference, (Base::TimestampTz, Base::TimestampTz), interval)
        }
        (Base::Time, Base::Time) if subtract => {
            (Function::TimeDifference, (Base::Time, Base::Time), interval)
        }
        (Base::Time, Base::Interval) => {
            (Function::AddIntervalToTime { subtract }, (Base::Time, interval), Base::Time)
        }
        (Base::Interval, Base::Interval) => {
            (Function::IntervalSum { subtract }, (interval.clone(), interval), Base::Interval)
        }
        _ => return None,
    })
}
