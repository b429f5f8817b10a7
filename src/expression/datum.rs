//! A value while an expression is evaluated.

use std::borrow::Cow;

use super::interval::Interval;
use super::number::Numeric;

/// A value. Dates (days), times and timestamps (microseconds) are integers. Types with a unique text form per value
/// are kept as text: texts, uuid, bytea in hex, enum labels, JSON documents, arrays, and unknown types.
#[derive(Clone, Debug)]
pub(super) enum Datum<'a> {
    Null,
    Unavailable,
    Bool(bool),
    Int(i64),
    Numeric(Numeric),
    Float(f64),
    Interval(Interval),
    Text(Cow<'a, str>),
}
