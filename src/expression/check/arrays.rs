//! Arrays: `ARRAY[…]`, `||`, `a[1:2]`, and `&& @> <@`.

use sqlparser::ast::{BinaryOperator, Expr};

use crate::types::Base;

use super::super::SourceSpan;
use super::super::function;
use super::super::tree::{Cast, Datum, Function, Node, Op, Sharing, Test};
use super::casts::{Category, category, is_implicit};
use super::meet::agreed;
use super::{Checked, Checker, Term};

/// Whether the array type stays the same when this element is appended. Of two text types, the server takes
/// the first.
fn is_element(base: &Base, element: &Base) -> bool {
    let alike = category(base) == category(element) && category(base) != Category::Text;
    base == element || alike && is_implicit(base, element)
}

pub(super) fn is_list(term: &Term) -> bool {
    matches!(term.base(), Some(Base::Array(_)))
}

impl Checker<'_, '_> {
    /// `&& @> <@` of arrays, whose elements must have the same type.
    pub(super) fn shared(
        &mut self,
        operator: &BinaryOperator,
        left: Term,
        right: Term,
        place: SourceSpan,
    ) -> Checked<Term> {
        let bases = (left.base().cloned(), right.base().cloned());
        let (Some(base), other) = (match &bases {
            (Some(base), other) | (None, other @ Some(base)) => (Some(base), other),
            (None, None) => (None, &None),
        }) else {
            return None;
        };
        if other.as_ref().is_some_and(|other| other != base) {
            let message = format!("{operator} requires arrays of the same type");
            return self.wrong(place, message, "cast one of them: (…)::type[]");
        }
        let Base::Array(element) = base else { return None };
        let how = self.how(element, Test::Equal, place)?;
        let sides = [
            self.coerce(left, base, Some("the left side"))?,
            self.coerce(right, base, Some("the right side"))?,
        ];
        let test = match operator {
            BinaryOperator::AtArrow => Sharing::Contains,
            BinaryOperator::ArrowAt => Sharing::IsContained,
            _ => Sharing::Overlaps,
        };
        let op = Op::Shared { how, test, sides: Box::new(sides), element: (**element).clone() };
        Some(self.node(op, Base::Bool, place))
    }

    /// `a[m:n]`; a missing bound is that of the array.
    pub(super) fn slice(
        &mut self,
        list: Node,
        bounds: [Option<&Expr>; 2],
        place: SourceSpan,
    ) -> Checked<Term> {
        let data_type = list.data_type.clone();
        let mut arguments = vec![list];
        // The server evaluates the upper bound first.
        for (bound, missing) in bounds.into_iter().zip([i64::from(i32::MIN), i64::from(i32::MAX)]).rev() {
            arguments.push(match bound {
                None => self.over(Op::Constant(Datum::Int(missing)), Base::Int4, place),
                Some(bound) => {
                    let bound = self.term(bound, place)?;
                    self.coerce(bound, &Base::Int4, Some("a subscript"))?
                }
            });
        }
        let op = Op::Call { function: Function::Slice, arguments };
        let mut node = self.over(op, data_type.base.clone(), place);
        node.data_type = data_type;
        Some(Term::Node(node))
    }

    /// `||` with an array on at least one side.
    pub(super) fn join_lists(&mut self, left: Term, right: Term, place: SourceSpan) -> Checked<Term> {
        let swapped = !is_list(&left);
        let (list, other) = if swapped { (&right, &left) } else { (&left, &right) };
        let Term::Node(list) = list.clone() else { return None };
        let Base::Array(element) = list.data_type.base.clone() else { return None };
        let (op, terms) = match other.base() {
            None => {
                let hint = "for an element write array['x'] or 'x'::type, for an array '{a,b}'::type[]";
                return self.wrong(place, "|| takes this literal for an array", hint);
            }
            Some(base) if *base == list.data_type.base => (&function::ARRAY_JOIN, [left, right]),
            Some(base) if is_element(base, &element) => {
                let Term::Node(other) = other.clone() else { return None };
                let node =
                    if other.data_type.base == *element { other } else { self.stepped(other, &element)? };
                let cast = Cast::Output((*element).clone());
                let node = self.over(Op::Cast { cast, value: Box::new(node) }, Base::Text, place);
                let list = Term::Node(list.clone());
                if swapped {
                    (&function::ARRAY_PREPEND, [Term::Node(node), list])
                } else {
                    (&function::ARRAY_APPEND, [list, Term::Node(node)])
                }
            }
            Some(base) => {
                let message = format!("{} || {base} is not supported", list.data_type.base);
                return self.wrong(
                    place,
                    message,
                    &format!("cast one of them: (…)::{element} or (…)::{element}[]"),
                );
            }
        };
        if matches!(*element, Base::Other(_)) {
            return self.wrong(place, format!("arrays of type {element} cannot be joined"), "publish both");
        }
        let arguments: Vec<Node> = terms
            .into_iter()
            .filter_map(|term| match term {
                Term::Node(node) => Some(node),
                Term::Unknown { .. } => None,
            })
            .collect();
        let nullable = arguments.iter().all(|argument| argument.nullable);
        let mut node = self.over(Op::Run { def: op, arguments }, list.data_type.base.clone(), place);
        node.nullable = nullable;
        Some(Term::Node(node))
    }

    /// `ARRAY[…]`
    pub(super) fn array(&mut self, elements: &[Expr], place: SourceSpan) -> Checked<Term> {
        if elements.is_empty() {
            return self.wrong(place, "an empty array needs a type", "write '{}'::text[]");
        }
        let mut terms = Vec::new();
        for element in elements {
            terms.push(self.term(element, place)?);
        }
        let (base, nodes) = self.common(terms, place, "ARRAY")?;
        if matches!(base, Base::Array(_)) {
            return self.wrong(
                place,
                "an array of arrays is not supported",
                "write a literal: '{{1,2},{3,4}}'",
            );
        }
        let modifier = agreed(&nodes, base.clone()).modifier;
        let mut arguments = Vec::new();
        for node in nodes {
            let place = node.place;
            let cast = Cast::Output(base.clone());
            arguments.push(self.over(Op::Cast { cast, value: Box::new(node) }, Base::Text, place));
        }
        let op = Op::Run { def: &function::ARRAY, arguments };
        let mut node = self.over(op, Base::Array(base.into()), place);
        node.nullable = false;
        node.data_type.modifier = modifier;
        Some(Term::Node(node))
    }
}
