//! Binary operators: arithmetic, comparison, concatenation, access to JSON documents.

use sqlparser::ast::{BinaryOperator, Expr};

use crate::types::Base;

use super::super::SourceSpan;
use super::super::parse::binding;
use super::super::tree::{Arithmetic, Cast, Class, Function, Node, Op, Test};
use super::arrays::is_list;
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
        place: SourceSpan,
    ) -> Checked<Term> {
        use BinaryOperator as B;
        let level = match operator {
            B::Or | B::And => return self.logic(operator, left, right, place),
            B::Eq | B::NotEq | B::Lt | B::LtEq | B::Gt | B::GtEq => {
                return self.comparison(left, operator, right, place);
            }
            B::Plus | B::Minus => 8,
            B::Multiply | B::Divide | B::Modulo => 9,
            B::StringConcat
            | B::Arrow
            | B::LongArrow
            | B::HashArrow
            | B::HashLongArrow
            | B::Question
            | B::QuestionPipe
            | B::QuestionAnd
            | B::HashMinus
            | B::AtArrow
            | B::ArrowAt
            | B::PGOverlap
            | B::BitwiseAnd
            | B::BitwiseOr
            | B::PGBitwiseXor
            | B::PGBitwiseShiftLeft
            | B::PGBitwiseShiftRight
            | B::PGRegexMatch
            | B::PGRegexIMatch
            | B::PGRegexNotMatch
            | B::PGRegexNotIMatch => 7,
            other => return self.no_operator(other, place),
        };
        if let (B::Arrow | B::LongArrow, Expr::Identifier(key)) = (operator, right)
            && key.quote_style.is_none()
            && !self.scope.names.iter().any(|name| name.name == key.value.to_ascii_lowercase())
        {
            let hint = format!("write {operator} '{}'", key.value);
            return self.wrong(place, "a key of a document is a text", &hint);
        }
        if let (B::Arrow | B::LongArrow, Expr::BinaryOp { left: key, op, .. }) = (operator, right)
            && let Expr::Value(key) = &**key
        {
            let hint = format!("write (x {operator} {key})::int {op} …");
            return self.wrong(place, format!("{op} binds tighter than {operator}"), &hint);
        }
        let (left, right) = (self.bound(left, level, place), self.bound(right, level + 1, place));
        let (left, right) = (left?, right?);
        match operator {
            B::Plus => self.arithmetic(Arithmetic::Add, left, right, place),
            B::Minus => self.arithmetic(Arithmetic::Subtract, left, right, place),
            B::Multiply => self.arithmetic(Arithmetic::Multiply, left, right, place),
            B::Divide => self.arithmetic(Arithmetic::Divide, left, right, place),
            B::Modulo => self.arithmetic(Arithmetic::Modulo, left, right, place),
            B::StringConcat if is_list(&left) || is_list(&right) => self.join_lists(left, right, place),
            B::StringConcat => self.join(left, right, place),
            B::PGRegexMatch | B::PGRegexIMatch | B::PGRegexNotMatch | B::PGRegexNotIMatch => {
                self.regular(left, operator, &right, place)
            }
            B::PGOverlap | B::AtArrow | B::ArrowAt if is_list(&left) || is_list(&right) => {
                self.shared(operator, left, right, place)
            }
            B::Arrow | B::LongArrow | B::HashArrow | B::HashLongArrow | B::Question => {
                self.document(left, operator, right, place)
            }
            _ => match self.plain(&operator.to_string(), vec![left, right], place) {
                Some(term) => term,
                None => self.no_operator(operator, place),
            },
        }
    }

    fn no_operator(&mut self, operator: &BinaryOperator, place: SourceSpan) -> Checked<Term> {
        use BinaryOperator as B;
        let hint = match operator {
            B::PGLikeMatch | B::PGILikeMatch | B::PGNotLikeMatch | B::PGNotILikeMatch => {
                "write like or ilike"
            }
            B::Spaceship => "write is not distinct from",
            B::Xor => "write a <> b for two conditions",
            B::MyIntegerDivide | B::DuckIntegerDivide => "write x / y for whole numbers, or div(x, y)",
            B::PGExp => "multiply, or store the value in a column",
            B::PGOverlap => "for two conditions write and; && is for arrays",
            B::Custom(name) if name == "==" => "write =",
            _ => "store the value in a column",
        };
        self.wrong(place, format!("operator {operator} is not supported"), hint)
    }

    /// AND and OR chains become one node, so that a long condition is not a deep one.
    fn logic(
        &mut self,
        operator: &BinaryOperator,
        left: &Expr,
        right: &Expr,
        place: SourceSpan,
    ) -> Checked<Term> {
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
        place: SourceSpan,
    ) -> Checked<Term> {
        let test = test_of(operator)?;
        if let (Expr::Tuple(left), Expr::Tuple(right)) = (left, right) {
            return self.rows(left, test, right, place);
        }
        let (left, right) = (self.bound(left, 6, place), self.bound(right, 6, place));
        self.compared(left?, test, right?, place)
    }

    /// A comparison. With null it is never true, so null is refused: in `=`, `between`, `case x when`, and
    /// rows.
    pub(super) fn compared(
        &mut self,
        left: Term,
        test: Test,
        right: Term,
        place: SourceSpan,
    ) -> Checked<Term> {
        if left.is_null() || right.is_null() {
            let (message, hint) = match test {
                Test::Equal => {
                    ("= null is never true", "write x is null; in a case: case when x is null then …")
                }
                Test::NotEqual => ("this null is never true", "write x is not null"),
                _ => ("a comparison with null is never true", "write x is null or x is not null"),
            };
            return self.wrong(place, message, hint);
        }
        let (how, sides) = self.comparable(left, right, test, place)?;
        Some(self.node(Op::Compare { how, test, sides: Box::new(sides) }, Base::Bool, place))
    }

    fn arithmetic(
        &mut self,
        operator: Arithmetic,
        left: Term,
        right: Term,
        place: SourceSpan,
    ) -> Checked<Term> {
        let bases = (left.base().cloned(), right.base().cloned());
        if let Some(result) = self.numbers(operator, &left, &right, place) {
            return result;
        }
        let sign = match operator {
            Arithmetic::Add => "+",
            Arithmetic::Subtract => "-",
            Arithmetic::Multiply => "*",
            Arithmetic::Divide => "/",
            Arithmetic::Modulo => "%",
        };
        // A date compared with a JSON document, or an interval with a number.
        let in_table = [&bases.0, &bases.1].into_iter().flatten().any(|base| match operator {
            Arithmetic::Subtract => *base == Base::Jsonb,
            Arithmetic::Multiply | Arithmetic::Divide => *base == Base::Interval,
            _ => false,
        });
        if in_table && let Some(term) = self.plain(sign, vec![left.clone(), right.clone()], place) {
            return term;
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
            let message = format!(
                "this operation on {} and {} is not supported",
                name(bases.0.clone()),
                name(bases.1.clone())
            );
            let is_text =
                |base: &Option<Base>| base.as_ref().is_some_and(|base| category(base) == Category::Text);
            let is_moment =
                |base: &Option<Base>| matches!(base, Some(Base::Timestamp | Base::TimestampTz | Base::Time));
            let is_number = |base: &Option<Base>| base.as_ref().is_some_and(|base| rank(base).is_some());
            let is_other = |base: &Option<Base>| matches!(base, Some(Base::Other(_)));
            let hint = match operator {
                _ if is_other(&bases.0) || is_other(&bases.1) => {
                    "a value of this type can only be published, compared with NULL or cast to text"
                }
                _ if is_moment(&bases.0) && is_number(&bases.1)
                    || is_number(&bases.0) && is_moment(&bases.1) =>
                {
                    "a number has no unit: write interval '7 days', or x * interval '1 day'"
                }
                Arithmetic::Add if is_text(&bases.0) || is_text(&bases.1) => {
                    "to join texts write ||; a number needs a cast: (…)::numeric"
                }
                _ => "add types: (…)::type, interval '…'",
            };
            return self.wrong(place, message, hint);
        };
        let left = self.coerce(left, &to.0, Some("the left side"))?;
        let right = self.coerce(right, &to.1, Some("the right side"))?;
        Some(self.node(Op::Call { function, arguments: vec![left, right] }, result, place))
    }

    /// Arithmetic over numbers; `None` for other types.
    fn numbers(
        &mut self,
        operator: Arithmetic,
        left: &Term,
        right: &Term,
        place: SourceSpan,
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

    /// A function whose two arguments and result have the same type.
    pub(super) fn computed(
        &mut self,
        function: Function,
        base: Base,
        sides: [Term; 2],
        place: SourceSpan,
    ) -> Checked<Term> {
        let mut arguments = Vec::new();
        for side in sides {
            arguments.push(self.coerce(side, &base, Some("an operand"))?);
        }
        Some(self.node(Op::Call { function, arguments }, base, place))
    }

    /// `-x`
    pub(super) fn negated(&mut self, inner: Term, place: SourceSpan) -> Checked<Term> {
        let Term::Node(inner) = inner else {
            return self.wrong(place, "a string has no sign", "write the number without quotes");
        };
        let base = inner.data_type.base.clone();
        let function = match class(&base) {
            Some(class) => Function::Negate(class),
            None if base == Base::Interval => Function::NegateInterval,
            None => return self.wrong(place, format!("type {base} has no sign"), ""),
        };
        Some(self.node(Op::Call { function, arguments: vec![inner] }, base, place))
    }

    fn join(&mut self, left: Term, right: Term, place: SourceSpan) -> Checked<Term> {
        let is_document = |term: &Term| term.base() == Some(&Base::Jsonb);
        if is_document(&left) && (is_document(&right) || right.base().is_none())
            || is_document(&right) && left.base().is_none()
        {
            return self.plain("||", vec![left, right], place)?;
        }
        let is_text = |term: &Term| term.base().is_some_and(|base| category(base) == Category::Text);
        let is_unknown = |term: &Term| term.base().is_none();
        let plain = |term: &Term| term.base() != Some(&Base::Jsonb);
        let texts = is_text(&left) || is_text(&right) || is_unknown(&left) || is_unknown(&right);
        if !plain(&left) || !plain(&right) || !texts {
            let is_condition = |term: &Term| term.base() == Some(&Base::Bool);
            let hint = if is_condition(&left) && is_condition(&right) {
                "for two conditions write or"
            } else {
                "cast a value to text: (…)::text"
            };
            return self.wrong(place, "|| requires texts", hint);
        }
        // If one side has one of these types, the server gives a literal on the other side the same type.
        let has_own = |term: &Term| matches!(term.base(), Some(Base::Bytea | Base::Other(_)));
        if has_own(&left) && is_unknown(&right) || is_unknown(&left) && has_own(&right) {
            return self.wrong(
                place,
                "|| would not concatenate texts here",
                "make the literal a text: '…'::text",
            );
        }
        let (left, right) = (self.as_text(left)?, self.as_text(right)?);
        Some(self.node(
            Op::Call { function: Function::Join, arguments: vec![left, right] },
            Base::Text,
            place,
        ))
    }

    /// Converts as the cast to text does.
    pub(super) fn as_text(&mut self, term: Term) -> Checked<Node> {
        match term {
            Term::Node(node) => self.stepped(node, &Base::Text),
            unknown @ Term::Unknown { .. } => self.coerce(unknown, &Base::Text, Some("a text")),
        }
    }

    pub(super) fn collate(&mut self, inner: &Expr, collation: &str, place: SourceSpan) -> Checked<Term> {
        if collation != "\"C\"" && collation != "\"POSIX\"" {
            return self.wrong(
                place,
                format!("collation {collation} is not supported"),
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

/// Arithmetic over dates and times: the function, the argument types and the result type.
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
    // The operands of a sum may have any order; in the tree the timestamp is first.
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
        (Base::Date | Base::Timestamp, Base::Interval | Base::Time) => {
            (Function::AddInterval { subtract }, (Base::Timestamp, interval), Base::Timestamp)
        }
        (Base::TimestampTz, Base::Interval | Base::Time) => {
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
