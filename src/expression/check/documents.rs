//! Access to JSON documents.

use std::sync::Arc;

use sqlparser::ast::BinaryOperator;

use crate::types::Base;

use super::super::tree::{Datum, Function, Node, Op};
use super::super::{SourceSpan, array};
use super::casts::width;
use super::{Checked, Checker, Term};

/// Longest path into a document: each step is a level of recursion.
const STEPS_MAX: usize = 64;

impl Checker<'_, '_> {
    /// `-> ->> #> #>> ?`
    pub(super) fn document(
        &mut self,
        left: Term,
        operator: &BinaryOperator,
        right: Term,
        place: SourceSpan,
    ) -> Checked<Term> {
        let Some(base @ (Base::Json | Base::Jsonb)) = left.base().cloned() else {
            return self.wrong(place, format!("{operator} requires json or jsonb"), "");
        };
        let Term::Node(left) = left else { return None };
        let as_text = matches!(operator, BinaryOperator::LongArrow | BinaryOperator::HashLongArrow);
        let result = if as_text { Base::Text } else { base.clone() };
        if let BinaryOperator::HashArrow | BinaryOperator::HashLongArrow = operator {
            let path = self.path(&right)?;
            let op = Op::Call {
                function: Function::JsonPath { path, as_text, binary: base == Base::Jsonb },
                arguments: vec![left],
            };
            return Some(self.node_nullable(op, result, place, true));
        }
        let is_number =
            right.base().and_then(width).is_some_and(|width| width != super::super::tree::Width::Eight);
        let (function, wanted) = match operator {
            BinaryOperator::Question if base == Base::Jsonb => (Function::JsonHas, Base::Text),
            BinaryOperator::Question => {
                return self.wrong(place, "? requires jsonb", "cast it: (…)::jsonb");
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
            Term::Node(Node { op: Op::Constant(Datum::Text(text)), data_type, .. })
                if data_type.base == Base::Array(Base::Text.into()) =>
            {
                text
            }
            _ => return self.wrong(term.place(), "a path must be a literal such as '{a,b}'", ""),
        };
        let mut path = Vec::new();
        let walked = array::walk(text, |step| {
            path.push(step.map(str::to_owned));
            true
        });
        if walked.is_err() {
            return self.wrong(term.place(), "a path must be an array of keys such as '{a,b}'", "");
        }
        if path.len() > STEPS_MAX {
            return self.wrong(term.place(), format!("a path has at most {STEPS_MAX} steps"), "");
        }
        Some(path.into())
    }
}
