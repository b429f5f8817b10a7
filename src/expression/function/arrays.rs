//! Functions that make arrays from others: `ARRAY[…]`, `||`, `a[1:2]`. Elements are cut out and joined as
//! text.

use super::super::array;
use super::super::fault::{Computed, Fault, INTEGER_RANGE, TOO_MUCH};
use super::super::text::LENGTH_MAX;
use super::super::tree::Datum;
use super::Slot::TextArray;
use super::{Def, Nulls, def, made};

const DIMENSIONS: Fault = Fault(&("2202E", "cannot concatenate incompatible arrays"));
const NOT_A_LIST: Fault = Fault(&("22000", "argument must be empty or one-dimensional array"));

/// `ARRAY[…]`: elements in the form that their type's output function writes.
pub(in super::super) static ARRAY: Def = def("array", &[], TextArray, |given| {
    let mut out = String::from("{");
    for (nth, _) in given.0.iter().enumerate() {
        if nth > 0 {
            out.push(',');
        }
        array::write_element(&mut out, given.optional(nth));
        if out.len() > LENGTH_MAX {
            return Err(TOO_MUCH);
        }
    }
    out.push('}');
    made(out)
})
.nulls(Nulls::Seen);

/// `array || array`
pub(in super::super) static ARRAY_JOIN: Def =
    def("array_cat", &[], TextArray, |given| match (given.optional(0), given.optional(1)) {
        (None, None) => Ok(Datum::Null),
        (Some(one), None) | (None, Some(one)) => made(one.to_owned()),
        (Some(left), Some(right)) => made(joined(left, right)?),
    })
    .nulls(Nulls::Seen);

/// `array || element`
pub(in super::super) static ARRAY_APPEND: Def =
    def("array_append", &[], TextArray, |given| with_element(given.optional(0), given.optional(1), false))
        .nulls(Nulls::Seen);

/// `element || array`
pub(in super::super) static ARRAY_PREPEND: Def =
    def("array_prepend", &[], TextArray, |given| with_element(given.optional(1), given.optional(0), true))
        .nulls(Nulls::Seen);

/// `a[m:n]`, by the first subscript. The parts of the other dimensions stay whole.
pub(in super::super) fn slice(list: &str, from: i64, to: i64) -> Computed<String> {
    let (bounds, items) = parts(list)?;
    let Some(&(lower, _)) = bounds.first() else { return Ok("{}".to_owned()) };
    let skipped = usize::try_from(from.saturating_sub(lower)).unwrap_or_default();
    let count = usize::try_from(to.saturating_sub(from.max(lower)).saturating_add(1)).unwrap_or_default();
    let kept: Vec<_> = items.into_iter().skip(skipped).take(count).collect();
    Ok(format!("{{{}}}", kept.join(",")))
}

/// Lower bound and length of each dimension, and the items of the first one.
type ArrayParts<'t> = (Vec<(i64, i64)>, Vec<&'t str>);

fn parts(list: &str) -> Computed<ArrayParts<'_>> {
    let lengths = array::walk(list, |_| true)?.lengths;
    let (lowers, items) = array::items(list)?;
    Ok((
        lengths
            .into_iter()
            .enumerate()
            .map(|(nth, length)| (lowers.get(nth).copied().unwrap_or(1), length))
            .collect(),
        items,
    ))
}

fn joined(left: &str, right: &str) -> Computed<String> {
    let ((a, mut items), (b, others)) = (parts(left)?, parts(right)?);
    if a.is_empty() || b.is_empty() {
        return Ok(if b.is_empty() { left } else { right }.to_owned());
    }
    let (mut bounds, inner) =
        if a.len() >= b.len() { (a.clone(), b.clone()) } else { (b.clone(), a.clone()) };
    let added = match (a.len(), b.len()) {
        (x, y) if x == y => {
            items.extend(others);
            b.first().map_or(0, |(_, length)| *length)
        }
        (x, y) if x == y + 1 => {
            items.push(
                right.split_once('=').filter(|_| right.starts_with('[')).map_or(right, |(_, body)| body),
            );
            1
        }
        (x, y) if x + 1 == y => {
            let first = left.split_once('=').filter(|_| left.starts_with('[')).map_or(left, |(_, body)| body);
            items = std::iter::once(first).chain(others).collect();
            1
        }
        _ => return Err(DIMENSIONS),
    };
    let below = if a.len() == b.len() { inner.get(1..) } else { inner.get(..) };
    if bounds.get(1..) != below {
        return Err(DIMENSIONS);
    }
    if let Some((_, length)) = bounds.first_mut() {
        *length += added;
    }
    Ok(array::with_bounds(&bounds, &items.join(",")))
}

fn with_element(list: Option<&str>, element: Option<&str>, first: bool) -> Computed<Datum<'static>> {
    let (mut bounds, mut items) = parts(list.unwrap_or("{}"))?;
    let mut written = String::new();
    array::write_element(&mut written, element);
    match bounds.as_mut_slice() {
        [] => return made(format!("{{{written}}}")),
        [(lower, length)] => {
            let end = if first { *lower - 1 } else { *lower + *length };
            i32::try_from(end).map_err(|_| INTEGER_RANGE)?;
            *length += 1;
        }
        _ => return Err(NOT_A_LIST),
    }
    if first {
        items.insert(0, &written);
    } else {
        items.push(&written);
    }
    made(array::with_bounds(&bounds, &items.join(",")))
}
