//! `hmac(x, domain => 'person', weak => true)`: the only function that may publish a personal-data value.
//!
//! The domain makes pseudonyms of the same value in different places differ, so that a person who chooses a
//! value for one column learns no pseudonym of another column. It consists of the source, the table and the
//! columns, unless the rule names one.
//!
//! `hmac_previous()` is the same with the previous key, and NULL without one.
//!
//! The pseudonym of a value that is one of few hides nothing: its frequency shows which value it is. Such an
//! argument is refused unless the rule says `weak => true`.

use std::collections::BTreeSet;

use sqlparser::ast::{Expr, FunctionArg, FunctionArgExpr, Value};

use crate::config::selector;
use crate::types::{Base, SqlType};

use super::super::SourceSpan;
use super::super::parse::identifier;
use super::super::tree::{Arithmetic, Cast, Datum, Function, Node, Op, PseudonymDomain, Rounding, Unit};
use super::{Checked, Checker, Term};

/// Texts up to this length, in characters, count as one of few values.
const SHORT: i64 = 2;

/// Remainders of a divisor up to this count as one of few values.
const FEW: i64 = 366;

/// Largest domain, in bytes.
const DOMAIN_MAX: usize = 256;

/// The named arguments of `hmac()`.
#[derive(Default)]
struct PseudonymOptions {
    /// The domain. `None`: derived from the columns. Empty: no domain.
    domain: Option<String>,
    /// Whether an argument with few possible values is accepted (`weak => true`).
    weak: bool,
}

impl Checker<'_, '_> {
    /// `hmac()`, or `hmac_previous()`.
    pub(super) fn pseudonym(
        &mut self,
        previous: bool,
        arguments: &[FunctionArg],
        place: SourceSpan,
    ) -> Checked<Term> {
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
        let is_personal = argument.tagged.is_some() || argument.pseudonym.is_some();
        if is_personal && !options.weak && is_one_of_few(&argument) {
            return self.wrong(
                place,
                "hmac() of one of a few values is no pseudonym: each value is known by how often its pseudonym comes",
                "leave the field out, publish hmac() of what identifies the person, or write hmac(x, weak => true) \
                 if readers may know the value",
            );
        }
        let domain = self.domain(&argument, options.domain).into();
        // Trailing blanks are not part of a `character` value.
        let argument = if argument.data_type.base == Base::Bpchar {
            self.over(Op::Cast { cast: Cast::TrimBlanks, value: Box::new(argument) }, Base::Text, place)
        } else {
            argument
        };
        let function = Function::Hmac { domain, previous };
        let mut node = self.over(Op::Call { function, arguments: vec![argument] }, Base::Text, place);
        // Without a previous key it is NULL.
        node.nullable |= previous;
        node.pseudonym = node.tagged.take();
        Some(Term::Node(node))
    }

    /// The domain that the rule names, or that of the columns that the argument reads.
    fn domain(&self, argument: &Node, named: Option<String>) -> PseudonymDomain {
        let origin = &self.scope.origin;
        let own = || {
            let mut columns = BTreeSet::new();
            columns_of(argument, &mut columns);
            let columns: Vec<_> = columns.into_iter().map(selector::quoted).collect();
            let dot = if columns.is_empty() { "" } else { "." };
            format!("{}/{}{dot}{}", origin.source, origin.table, columns.join(","))
        };
        let text = named.unwrap_or_else(own);
        // Installations with the same contracts may have different sources.
        let shown = match text.strip_prefix(&origin.source).filter(|rest| rest.starts_with('/')) {
            Some(rest) => format!("~{rest}"),
            None => text.clone(),
        };
        PseudonymDomain { text, shown }
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
            ("domain", Some(Value::SingleQuotedString(domain)))
                if domain.len() <= DOMAIN_MAX && !domain.contains('\0') =>
            {
                options.domain = Some(domain.clone());
            }
            ("domain", _) => {
                let message = format!("the domain is a literal of at most {DOMAIN_MAX} bytes");
                return self.wrong(place, message, "write hmac(x, domain => 'person')");
            }
            ("weak", _) => return self.wrong(place, "weak is true or false", "write hmac(x, weak => true)"),
            _ => {
                let message = format!("hmac() has no argument {name}");
                return self.wrong(
                    place,
                    message,
                    "write hmac(x), hmac(x, domain => 'person') or hmac(x, weak => true)",
                );
            }
        }
        Some(())
    }
}

/// The columns that a value is computed from, by their names.
fn columns_of<'n>(node: &'n Node, found: &mut BTreeSet<&'n str>) {
    if let Op::Column(column) = &node.op {
        found.insert(&column.name);
    }
    for child in node.children() {
        columns_of(child, found);
    }
}

/// Whether the value has so few possibilities that its pseudonym can be looked up: a boolean, a label of an
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
        // A function of a value with few possibilities has few possibilities.
        _ => !arguments.is_empty() && arguments.iter().all(is_known),
    }
}

/// Whether it is a constant or has few possible values.
fn is_known(node: &Node) -> bool {
    matches!(node.op, Op::Constant(_)) || is_one_of_few(node)
}

/// Whether a type has few values.
fn is_of_few(data_type: &SqlType) -> bool {
    match data_type.base {
        Base::Bool | Base::Enum(_) => true,
        // The type modifier is the length plus four (`VARHDRSZ`).
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
