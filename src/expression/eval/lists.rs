//! Comparisons with the elements of arrays, and the functions of the table.

use super::super::def::{CallValues, Def, Nulls};
use super::super::fault::{Computed, TOO_MUCH};
use super::super::tree::{Cast, Datum, How, Node, Sharing, Test};
use super::super::{SourceSpan, array, value};
use super::{Evaluated, Evaluator, Failure, cast, equal, tested, truth};
use crate::types::Base;

/// Largest number of comparisons of two arrays.
const PAIRS_MAX: usize = 50_000_000;

/// What `ANY` and `ALL` compare with each element.
pub(super) struct AnyOf<'t> {
    pub(super) how: &'t How,
    pub(super) test: Test,
    pub(super) every: bool,
    pub(super) element: &'t Base,
    pub(super) lift: &'t [Cast],
}

impl AnyOf<'_> {
    /// Compares a value with the elements of a list, until one decides.
    pub(super) fn of<'a>(&self, value: &Datum<'_>, list: &Datum<'_>) -> Computed<Datum<'a>> {
        let list = match list {
            Datum::Text(list) => list,
            Datum::Unavailable => return Ok(Datum::Unavailable),
            _ => return Ok(Datum::Null),
        };
        let mut result = truth(self.every);
        let mut fault = None;
        array::walk(list, |item| {
            match self.item(item).map(|item| tested(self.how, self.test, value, &item)) {
                Ok(Datum::Bool(found)) if found == self.every => {}
                Ok(found) => result = found,
                Err(found) => fault = Some(found),
            }
            fault.is_none() && !matches!(result, Datum::Bool(decisive) if decisive != self.every)
        })?;
        fault.map_or(Ok(result), Err)
    }

    fn item<'a>(&self, item: Option<&'a str>) -> Computed<Datum<'a>> {
        let Some(item) = item else { return Ok(Datum::Null) };
        let mut item = value::of_text(self.element, item.as_bytes())?;
        self.lift.iter().try_for_each(|step| cast::apply(step, &mut item))?;
        Ok(item)
    }
}

/// `&&`, `@>` and `<@`. NULL equals no element.
pub(super) fn shared<'a>(
    how: &How,
    asked: Sharing,
    (left, right): (&Datum<'_>, &Datum<'_>),
    element: &Base,
) -> Computed<Datum<'a>> {
    let (left, right) = match (left, right) {
        (Datum::Text(left), Datum::Text(right)) => (left, right),
        (Datum::Null, _) | (_, Datum::Null) => return Ok(Datum::Null),
        _ => return Ok(Datum::Unavailable),
    };
    let (left, right) = (elements(left, element)?, elements(right, element)?);
    let (left, right) = if asked == Sharing::IsContained { (right, left) } else { (left, right) };
    if left.len().saturating_mul(right.len()) > PAIRS_MAX {
        return Err(TOO_MUCH);
    }
    let is_in_left = |wanted: &Option<Datum<'_>>| {
        let same = |other: &Datum<'_>| wanted.as_ref().is_some_and(|wanted| equal(how, other, wanted));
        left.iter().flatten().any(same)
    };
    Ok(truth(if asked == Sharing::Overlaps {
        right.iter().any(is_in_left)
    } else {
        right.iter().all(is_in_left)
    }))
}

fn elements<'a>(list: &str, element: &Base) -> Computed<Vec<Option<Datum<'a>>>> {
    let (mut all, mut fault) = (Vec::new(), None);
    array::walk(list, |item| {
        let item =
            item.map(|item| value::of_text(element, item.as_bytes()).map(Datum::into_owned)).transpose();
        match item {
            Ok(item) => all.push(item),
            Err(found) => fault = Some(found),
        }
        fault.is_none()
    })?;
    fault.map_or(Ok(all), Err)
}

impl<'a> Evaluator<'a> {
    /// A function of the table.
    pub(super) fn run(
        &self,
        def: &'static Def,
        arguments: &'a [Node],
        place: &'a SourceSpan,
        out: &mut Datum<'a>,
    ) -> Evaluated<'a> {
        let mut values = Vec::with_capacity(arguments.len());
        let (mut null, mut unavailable) = (false, false);
        for argument in arguments {
            let value = self.value(argument)?;
            null |= matches!(value, Datum::Null);
            unavailable |= matches!(value, Datum::Unavailable);
            values.push(value);
        }
        *out = match (null && def.nulls != Nulls::Seen, unavailable) {
            (true, _) => Datum::Null,
            (_, true) => Datum::Unavailable,
            _ => (def.run)(CallValues(&values)).map_err(|fault| Failure { fault, place })?,
        };
        Ok(())
    }
}
