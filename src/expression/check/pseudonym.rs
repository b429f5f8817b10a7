//! `hmac(x, weak => true)`: the only function that may publish a personal-data value.
//!
//! A pseudonym of one of a few values hides nothing: how often it comes tells which it is. Such an argument is refused
//! unless the rule says `weak`.

use sqlparser::ast::{Expr, FunctionArg, FunctionArgExpr, Value};

use crate::types::{Base, SqlType};

use super::super::SourceSpan;
use super::super::parse::identifier;
use super::super::tree::{Arithmetic, Cast, Datum, Function, Node, Op, Rounding, Unit};
use super::{Checked, Checker, Term};

/// Texts up to this length are one of a few.
const SHORT: i64 = 2;

/// Remainders by a divisor up to this are one of a few.
const FEW: i64 = 366;

/// The named arguments of `hmac()`.
#[derive(Default)]
struct PseudonymOptions {
    /// Whether one of a few values is accepted.
    weak: bool,
}

impl Checker<'_, '_> {
    /// `hmac()`.
    pub(super) fn pseudonym(&mut self, arguments: &[FunctionArg], place: SourceSpan) -> Checked<Term> {
        let Some((FunctionArg::Unnamed(FunctionArgExpr::Expr(value)), named)) = arguments.split_first()
        else {
            return self.count_is_wrong("hmac", place);
        };
        let term = self.term(value, place)?;
        let mut options = PseudonymOptions::default();
        for argument in named {
            self.option(argument, &mut options, place)?;
        }
        let argument = self.output(term)?;
        if argument.tagged.is_some() && !options.weak && is_one_of_few(&argument) {
            return self.wrong(
                place,
                "hmac() of one of a few values is no pseudonym: each value is known by how often its pseudonym comes",
                "leave the field out, publish hmac() of what identifies the person, or write hmac(x, weak => true) \
                 if readers may know the value",
            );
        }
        // Trailing blanks are not part of a `character` value.
        let argument = if argument.data_type.base == Base::Bpchar {
            self.over(Op::Cast { cast: Cast::TrimBlanks, value: Box::new(argument) }, Base::Text, place)
        } else {
            argument
        };
        let mut node =
            self.over(Op::Call { function: Function::Hmac, arguments: vec![argument] }, Base::Text, place);
        node.pseudonym = node.tagged.take();
        Some(Term::Node(node))
    }

    /// Reads a named argument.
    fn option(
        &mut self,
        argument: &FunctionArg,
        options: &mut PseudonymOptions,
        place: SourceSpan,
    ) -> Checked<()> {
        let (name, value) = match argument {
            FunctionArg::Named { name, arg: FunctionArgExpr::Expr(value), .. }
            | FunctionArg::ExprNamed {
                name: Expr::Identifier(name),
                arg: FunctionArgExpr::Expr(value),
                ..
            } => (identifier(&name.value, name.quote_style), value),
            FunctionArg::Unnamed(_) => return self.count_is_wrong("hmac", place).map(|_: Term| ()),
            _ => (String::new(), &Expr::Value(Value::Null.into())),
        };
        let literal = if let Expr::Value(literal) = value { Some(&literal.value) } else { None };
        match (name.as_str(), literal) {
            ("weak", Some(Value::Boolean(weak))) => options.weak = *weak,
            ("weak", _) => return self.wrong(place, "weak is true or false", "write hmac(x, weak => true)"),
            _ => {
                let message = format!("hmac() has no argument {name}");
                return self.wrong(place, message, "write hmac(x) or hmac(x, weak => true)");
            }
        }
        Some(())
    }
}

/// Whether the value is one of a handful, so that its pseudonym can be looked up: two truth values, the labels of an
/// enum, the constants of a `case`, one or two characters, a month, the remainder of a small divisor.
fn is_one_of_few(node: &Node) -> bool {
    if is_of_few(&node.data_type) {
        return true;
    }
    match &node.op {
        Op::Operation => true,
        Op::Case { arms, otherwise } => {
            arms.iter().all(|(_, then)| is_known(then)) && otherwise.as_deref().is_none_or(is_known)
        }
        Op::Cast { value, .. } => is_one_of_few(value),
        Op::Call { function, arguments } => is_function_of_few(function, arguments),
        Op::Run { def, arguments } => {
            let names_kinds = ["json_typeof", "jsonb_typeof", "isfinite", "starts_with"].contains(&def.name);
            names_kinds || (!arguments.is_empty() && arguments.iter().all(is_known))
        }
        Op::Coalesce(items) | Op::Concat { items, .. } | Op::Extreme { items, .. } => {
            items.iter().all(is_known)
        }
        Op::NullIf { result, .. } => is_one_of_few(result),
        _ => false,
    }
}

fn is_function_of_few(function: &Function, arguments: &[Node]) -> bool {
    let number = |nth: usize| arguments.get(nth).and_then(constant_int);
    match function {
        Function::Left | Function::Right => number(1).is_some_and(|n| (-SHORT..=SHORT).contains(&n)),
        Function::Substring => number(2).is_some_and(|n| n <= SHORT),
        Function::Matched(pattern) => pattern.longest().is_some_and(|longest| i64::from(longest) <= SHORT),
        Function::Arithmetic(Arithmetic::Modulo, _) => {
            number(1).is_some_and(|n| n.unsigned_abs() <= FEW.unsigned_abs())
        }
        Function::Rounded(Rounding::Sign, _)
        | Function::Length
        | Function::LengthOfBlanks
        | Function::LengthOfBytes
        | Function::Cardinality
        | Function::ArrayLength => true,
        Function::Extracted { unit, .. } => !matches!(unit, Unit::Epoch),
        // The same of each of a few.
        _ => !arguments.is_empty() && arguments.iter().all(is_known),
    }
}

/// Whether it is a constant or one of a few values.
fn is_known(node: &Node) -> bool {
    matches!(node.op, Op::Constant(_)) || is_one_of_few(node)
}

/// Whether a type has a handful of values.
fn is_of_few(data_type: &SqlType) -> bool {
    match data_type.base {
        Base::Bool | Base::Enum(_) => true,
        // The modifier is the length and four more.
        Base::Varchar | Base::Bpchar => (5..=4 + SHORT).contains(&i64::from(data_type.modifier)),
        _ => false,
    }
}

const fn constant_int(node: &Node) -> Option<i64> {
    match node.op {
        Op::Constant(Datum::Int(value)) => Some(value),
        _ => None,
    }
}
