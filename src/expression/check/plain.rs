//! Calls of functions and operators of the table. Chooses among overloads as PostgreSQL does, and refuses a
//! call for which it would have to guess.

use sqlparser::ast::{Expr, FunctionArg, FunctionArgExpr};

use crate::types::Base;

use super::super::SourceSpan;
use super::super::def::{Def, Nulls, Slot};
use super::super::function::{BUILD_ARRAY, BUILD_OBJECT, called};
use super::super::jsonb;
use super::super::parse::identifier;
use super::super::tree::{Cast, Datum, Node, Op};
use super::casts::{Category, category, is_implicit, is_preferred};
use super::{Checked, Checker, Term};

/// How well a definition matches a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Fit {
    exact: usize,
    preferred: usize,
}

fn takes(slot: Slot, base: &Base) -> bool {
    match slot {
        Slot::AnyArray => matches!(base, Base::Array(_)),
        slot => is_implicit(base, &slot.base()),
    }
}

fn fit(def: &Def, terms: &[Term]) -> Option<Fit> {
    if !(def.least..=def.arguments.len()).contains(&terms.len()) {
        return None;
    }
    let mut fit = Fit { exact: 0, preferred: 0 };
    for (term, slot) in terms.iter().zip(def.arguments) {
        let Some(base) = term.base() else { continue };
        if !takes(*slot, base) {
            return None;
        }
        let is_exact = slot.base() == *base;
        fit.exact += usize::from(is_exact);
        fit.preferred += usize::from(is_exact || is_preferred(&slot.base()));
    }
    Some(fit)
}

/// The definition that PostgreSQL would call. `Err(true)`: the argument types do not decide.
fn chosen(name: &str, terms: &[Term]) -> Result<&'static Def, bool> {
    let mut found: Vec<_> = called(name).filter_map(|def| Some((fit(def, terms)?, def))).collect();
    // A literal next to a value is first tried as the same type.
    if let [one, other] = terms
        && let (Some(base), None) | (None, Some(base)) = (one.base(), other.base())
        && let Some((_, def)) =
            found.iter().find(|(_, def)| def.arguments.iter().all(|slot| slot.base() == *base))
    {
        return Ok(def);
    }
    let best = found.iter().map(|(fit, _)| fit.exact).max();
    found.retain(|(fit, _)| Some(fit.exact) == best);
    let best = found.iter().map(|(fit, _)| fit.preferred).max();
    found.retain(|(fit, _)| Some(fit.preferred) == best);
    for (nth, term) in terms.iter().enumerate() {
        let is_text = |def: &Def| def.arguments.get(nth).is_some_and(|slot| *slot == Slot::Text);
        if term.base().is_none() && found.len() > 1 && found.iter().any(|(_, def)| is_text(def)) {
            found.retain(|(_, def)| is_text(def));
        }
    }
    match found.as_slice() {
        [(_, def)] => Ok(def),
        rest => Err(!rest.is_empty()),
    }
}

impl Checker<'_, '_> {
    /// A call of a function of the table. `None`: the table has no such name.
    pub(super) fn plain(&mut self, name: &str, terms: Vec<Term>, place: SourceSpan) -> Option<Checked<Term>> {
        called(name).next()?;
        Some(match chosen(name, &terms) {
            Ok(def) => self.run(def, terms, place),
            Err(true) => {
                let message = format!("{name} has several meanings for these literals");
                self.wrong(place, message, "give them types: (…)::type, date '…'")
            }
            Err(false) => self.no_such_call(name, &terms, place),
        })
    }

    /// Reports the argument types that the function accepts.
    fn no_such_call(&mut self, name: &str, terms: &[Term], place: SourceSpan) -> Checked<Term> {
        let bases = |def: &Def| {
            let names = def.arguments.iter().enumerate().map(|(nth, slot)| {
                let name =
                    if *slot == Slot::AnyArray { "an array".to_owned() } else { slot.base().to_string() };
                if nth < def.least || !def.names.is_empty() { name } else { format!("[{name}]") }
            });
            names.collect::<Vec<_>>().join(", ")
        };
        let is_word = name.starts_with(|letter: char| letter.is_ascii_alphabetic());
        let known: Vec<_> = called(name)
            .map(|def| match def.arguments {
                [left, right] if !is_word => format!("{} {name} {}", left.base(), right.base()),
                _ => format!("{name}({})", bases(def)),
            })
            .collect();
        let given = |term: &Term| term.base().map_or_else(|| "a literal".to_owned(), ToString::to_string);
        let counted = called(name).any(|def| (def.least..=def.arguments.len()).contains(&terms.len()));
        let message = match (counted, terms) {
            (false, _) if is_word => format!("wrong number of arguments for {name}()"),
            (_, [left, right]) if !is_word => {
                format!("{} {name} {} is not supported", given(left), given(right))
            }
            _ => {
                let given: Vec<_> = terms.iter().map(given).collect();
                format!("{name}({}) is not supported", given.join(", "))
            }
        };
        if terms.iter().any(|term| matches!(term.base(), Some(Base::Other(_)))) {
            let hint = "a value of this type can only be published, compared with NULL or cast to text";
            return self.wrong(place, message, hint);
        }
        self.wrong(place, message, &format!("write {}; cast a value: (…)::type", known.join(" or ")))
    }

    fn run(&mut self, def: &'static Def, terms: Vec<Term>, place: SourceSpan) -> Checked<Term> {
        let mut arguments = Vec::new();
        for (term, slot) in terms.into_iter().zip(def.arguments) {
            arguments.push(match (slot, term) {
                (Slot::AnyArray, Term::Node(node)) => node,
                (_, term) => self.coerce(term, &slot.base(), Some("an argument"))?,
            });
        }
        // Arguments that a call by name leaves out are zero.
        for slot in def.arguments.iter().skip(arguments.len()).filter(|_| !def.names.is_empty()) {
            arguments.push(self.zero(*slot, place));
        }
        let nullable = match def.nulls {
            Nulls::Strict => arguments.iter().any(|argument| argument.nullable),
            Nulls::Seen => true,
        };
        Some(self.node_nullable(Op::Run { def, arguments }, def.result.base(), place, nullable))
    }

    fn zero(&mut self, slot: Slot, place: SourceSpan) -> Node {
        let zero = if slot == Slot::Float8 { Datum::Float(0.0) } else { Datum::Int(0) };
        self.over(Op::Constant(zero), slot.base(), place)
    }

    /// `make_interval(days => 3)`; the arguments in their order.
    pub(super) fn named_arguments(
        &mut self,
        name: &str,
        arguments: &[FunctionArg],
        place: SourceSpan,
    ) -> Checked<Term> {
        let Some(def) = called(name).find(|def| !def.names.is_empty()) else {
            return self.wrong(
                place,
                format!("{name}() has no named arguments"),
                "write the arguments in order",
            );
        };
        let mut terms: Vec<_> =
            def.arguments.iter().map(|slot| Term::Node(self.zero(*slot, place))).collect();
        let mut given = vec![false; terms.len()];
        for (nth, argument) in arguments.iter().enumerate() {
            let (at, expression) = match argument {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(expression)) => (Some(nth), expression),
                FunctionArg::Named { name, arg: FunctionArgExpr::Expr(expression), .. }
                | FunctionArg::ExprNamed {
                    name: Expr::Identifier(name),
                    arg: FunctionArgExpr::Expr(expression),
                    ..
                } => {
                    let wanted = identifier(&name.value, name.quote_style);
                    (def.names.iter().position(|name| *name == wanted), expression)
                }
                _ => return self.wrong(place, format!("{name}() takes values"), ""),
            };
            let (Some(slot), Some(seen)) =
                (at.and_then(|at| terms.get_mut(at)), at.and_then(|at| given.get_mut(at)))
            else {
                let hint = format!("its arguments are {}", def.names.join(", "));
                return self.wrong(place, format!("{name}() has no such argument"), &hint);
            };
            if std::mem::replace(seen, true) {
                return self.wrong(place, format!("an argument of {name}() is given twice"), "");
            }
            *slot = self.term(expression, place)?;
        }
        self.run(def, terms, place)
    }

    /// `jsonb_build_object(…)`, `jsonb_build_array(…)`, `to_jsonb(…)`
    pub(super) fn built_json(&mut self, name: &str, terms: Vec<Term>, place: SourceSpan) -> Checked<Term> {
        let is_object = name == "jsonb_build_object";
        if is_object && !terms.len().is_multiple_of(2) {
            return self.wrong(
                place,
                "jsonb_build_object() requires pairs of key and value",
                "write jsonb_build_object('a', x, 'b', y)",
            );
        }
        let mut arguments = Vec::new();
        for (nth, term) in terms.into_iter().enumerate() {
            if is_object && nth % 2 == 0 {
                arguments.push(self.key(term)?);
            } else {
                arguments.push(self.as_jsonb(term)?);
            }
        }
        let def = if is_object { &BUILD_OBJECT } else { &BUILD_ARRAY };
        Some(self.node_nullable(Op::Run { def, arguments }, Base::Jsonb, place, false))
    }

    /// A key of an object: a text, or a whole number as text.
    fn key(&mut self, term: Term) -> Checked<Node> {
        let is_key = |base: &Base| {
            category(base) == Category::Text
                || matches!(base, Base::Int2 | Base::Int4 | Base::Int8 | Base::Enum(_) | Base::Uuid)
        };
        match term.base() {
            Some(base) if !is_key(base) => {
                let message = format!("a key must be a text, not {base}");
                self.wrong(term.place(), message, "cast it: (…)::text")
            }
            _ => self.output(term),
        }
    }

    pub(super) fn as_jsonb(&mut self, term: Term) -> Checked<Node> {
        let node = match term {
            unknown @ Term::Unknown { .. } => self.coerce(unknown, &Base::Text, Some("a value"))?,
            Term::Node(node) => node,
        };
        let (base, place) = (node.data_type.base.clone(), node.place);
        if !jsonb::is_known(&base) {
            let message = format!("a value of type {base} cannot be made jsonb");
            return self.wrong(place, message, "cast it to text: (…)::text");
        }
        if base == Base::Jsonb {
            return Some(node);
        }
        Some(self.over(Op::Cast { cast: Cast::ToJsonb(base), value: Box::new(node) }, Base::Jsonb, place))
    }
}
