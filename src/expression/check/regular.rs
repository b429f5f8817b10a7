//! Regular expressions: `~`, `~*`, `!~`, `!~*`, `regexp_replace` and `substring(x from pattern)`.

use std::sync::Arc;

use sqlparser::ast::BinaryOperator;

use crate::types::Base;

use super::super::SourceSpan;
use super::super::regular::RegularExpression;
use super::super::tree::{Datum, Function, Node, Op};
use super::{Checked, Checker, Term};

/// A literal text.
fn literal(term: &Term) -> Option<&str> {
    match term {
        Term::Unknown { text, .. } => text.as_deref(),
        Term::Node(Node { op: Op::Constant(Datum::Text(text)), data_type, .. }) => {
            (data_type.base == Base::Text).then_some(&**text)
        }
        Term::Node(_) => None,
    }
}

impl Checker<'_, '_> {
    fn compiled(&mut self, pattern: &Term, fold: bool) -> Checked<Arc<RegularExpression>> {
        let Some(text) = literal(pattern) else {
            let hint = "write it into the rule: x ~ '^[A-Z]+$'; for a text of the row write like";
            return self.wrong(pattern.place(), "a pattern must be a literal", hint);
        };
        match RegularExpression::new(text, fold) {
            Ok(compiled) => Some(compiled.into()),
            Err((message, hint)) => self.wrong(pattern.place(), message, hint),
        }
    }

    /// `x ~ pattern`
    pub(super) fn regular(
        &mut self,
        subject: Term,
        operator: &BinaryOperator,
        pattern: &Term,
        place: SourceSpan,
    ) -> Checked<Term> {
        use BinaryOperator as B;
        let fold = matches!(operator, B::PGRegexIMatch | B::PGRegexNotIMatch);
        let negated = matches!(operator, B::PGRegexNotMatch | B::PGRegexNotIMatch);
        let compiled = self.compiled(pattern, fold)?;
        let subject = vec![self.like_subject(subject)?];
        if fold {
            self.not_of_bytes(&subject, "~*", place)?;
        }
        let op = Op::Call { function: Function::Matches(compiled), arguments: subject };
        let term = self.node(op, Base::Bool, place);
        self.negated_if(negated, term, place)
    }

    /// A pattern for which the longest match is also the first one.
    fn definite(&mut self, pattern: &Term, fold: bool) -> Checked<Arc<RegularExpression>> {
        let compiled = self.compiled(pattern, fold)?;
        if compiled.is_definite() {
            return Some(compiled);
        }
        self.wrong(
            pattern.place(),
            "it is not certain which of several matches of this pattern is taken",
            "write a sequence without groups in which each character fits one place, as in '[0-9]+' or '^0+'",
        )
    }

    /// `regexp_replace(x, pattern, text [, flags])`
    pub(super) fn substitute(&mut self, terms: Vec<Term>, place: SourceSpan) -> Checked<Term> {
        let mut terms = terms.into_iter();
        let (Some(subject), Some(pattern), Some(to), flags, None) =
            (terms.next(), terms.next(), terms.next(), terms.next(), terms.next())
        else {
            return self.count_is_wrong("regexp_replace", place);
        };
        let flags = match &flags {
            None => "",
            Some(flags) => {
                match literal(flags).filter(|text| text.chars().all(|flag| matches!(flag, 'g' | 'i'))) {
                    Some(text) => text,
                    None => return self.wrong(flags.place(), "the flags must be 'g', 'i' or both", ""),
                }
            }
        };
        let (every, fold) = (flags.contains('g'), flags.contains('i'));
        let Some(to) = literal(&to).filter(|to| !to.contains('\\')) else {
            let hint = "a reference to a part of the match is not supported";
            return self.wrong(to.place(), "the new text must be a literal without \\", hint);
        };
        let pattern = self.definite(&pattern, fold)?;
        let subject = vec![self.coerce(subject, &Base::Text, Some("the text"))?];
        if fold {
            self.not_of_bytes(&subject, "regexp_replace", place)?;
        }
        let function = Function::Substitute { pattern, to: to.into(), every };
        Some(self.node(Op::Call { function, arguments: subject }, Base::Text, place))
    }

    /// `substring(x from pattern)`
    pub(super) fn matched(&mut self, terms: Vec<Term>, place: SourceSpan) -> Checked<Term> {
        let Ok([subject, pattern]) = <[Term; 2]>::try_from(terms) else {
            let hint = "write substring(x from '[0-9]+') or substring(x, 2, 3)";
            return self.wrong(
                place,
                "substring() with a pattern and an escape character is not supported",
                hint,
            );
        };
        let pattern = self.definite(&pattern, false)?;
        let subject = self.coerce(subject, &Base::Text, Some("the text"))?;
        let op = Op::Call { function: Function::Matched(pattern), arguments: vec![subject] };
        Some(self.node_nullable(op, Base::Text, place, true))
    }
}
