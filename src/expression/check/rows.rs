//! Comparisons of rows: `(a, b) = (c, d)`, `(a, b) < (c, d)`, `(a, b) in ((1, 2), (3, 4))`.

use sqlparser::ast::Expr;

use crate::types::Base;

use super::super::SourceSpan;
use super::super::tree::{Datum, Node, Op, Test};
use super::{Checked, Checker, Term};

impl Checker<'_, '_> {
    /// Compares two rows. The first columns that differ decide.
    pub(super) fn rows(
        &mut self,
        left: &[Expr],
        test: Test,
        right: &[Expr],
        place: SourceSpan,
    ) -> Checked<Term> {
        if left.len() != right.len() {
            let message = format!("rows of {} and {} columns are compared", left.len(), right.len());
            return self.wrong(place, message, "give both the same number of columns");
        }
        let mut pairs = Vec::new();
        for (left, right) in left.iter().zip(right) {
            pairs.push((self.term(left, place)?, self.term(right, place)?));
        }
        // The comparison for all pairs but the last, and for the last pair.
        let (strict, last) = match test {
            Test::Equal => return self.every_pair(pairs, place),
            Test::NotEqual => {
                let term = self.every_pair(pairs, place)?;
                return self.negated_if(true, term, place);
            }
            Test::Less | Test::LessOrEqual => (Test::Less, test),
            Test::Greater | Test::GreaterOrEqual => (Test::Greater, test),
        };
        let mut decided: Option<Node> = None;
        let count = pairs.len();
        for (nth, (left, right)) in pairs.into_iter().enumerate().rev() {
            let test = if nth + 1 == count { last } else { strict };
            let unequal = self.truth(left.clone(), test, right.clone(), place)?;
            let Some(rest) = decided else {
                decided = Some(unequal);
                continue;
            };
            // Pairs after the first difference, or after a NULL, are not evaluated.
            let equal = self.truth(left, Test::Equal, right, place)?;
            let yes = self.over(Op::Constant(Datum::Bool(true)), Base::Bool, place);
            let otherwise = Some(Box::new(equal.clone()));
            let arms = vec![(unequal, yes), (equal, rest)];
            decided = Some(self.over(Op::Case { arms, otherwise }, Base::Bool, place));
        }
        decided.map(Term::Node)
    }

    fn truth(&mut self, left: Term, test: Test, right: Term, place: SourceSpan) -> Checked<Node> {
        let term = self.compared(left, test, right, place)?;
        self.boolean(term)
    }

    fn every_pair(&mut self, pairs: Vec<(Term, Term)>, place: SourceSpan) -> Checked<Term> {
        let mut nodes = Vec::new();
        for (left, right) in pairs {
            nodes.push(self.truth(left, Test::Equal, right, place)?);
        }
        Some(self.node(Op::And(nodes), Base::Bool, place))
    }

    /// `(a, b) in (…)` of rows.
    pub(super) fn rows_in(
        &mut self,
        subject: &[Expr],
        list: &[Expr],
        negated: bool,
        place: SourceSpan,
    ) -> Checked<Term> {
        let mut nodes = Vec::new();
        for item in list {
            let Expr::Tuple(item) = item else {
                return self.wrong(
                    place,
                    "a row is compared with a single value",
                    "write (a, b) in ((1, 2))",
                );
            };
            let term = self.rows(subject, Test::Equal, item, place)?;
            nodes.push(self.boolean(term)?);
        }
        let term = self.node(Op::Or(nodes), Base::Bool, place);
        self.negated_if(negated, term, place)
    }
}
