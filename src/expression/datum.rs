//! A value during evaluation.

use std::borrow::Cow;

use super::interval::Interval;
use super::number::Numeric;

/// A value. Dates (days), times and timestamps (microseconds) are integers. Types with a unique text form per
/// value are kept as text: texts, uuid, bytea in hex, enum labels, JSON documents, arrays, and unknown types.
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

impl Datum<'_> {
    /// The same value without borrowed parts.
    pub(super) fn into_owned<'a>(self) -> Datum<'a> {
        match self {
            Self::Text(text) => Datum::Text(Cow::Owned(text.into_owned())),
            Self::Null => Datum::Null,
            Self::Unavailable => Datum::Unavailable,
            Self::Bool(value) => Datum::Bool(value),
            Self::Int(value) => Datum::Int(value),
            Self::Numeric(value) => Datum::Numeric(value),
            Self::Float(value) => Datum::Float(value),
            Self::Interval(value) => Datum::Interval(value),
        }
    }
}
