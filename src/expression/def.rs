//! The definition of a plain function: its name, argument types, result and code. `function` has the table.

use std::borrow::Cow;

use crate::types::Base;

use super::datum::Datum;
use super::fault::{CELL, Computed, TOO_MUCH};
use super::interval::Interval;
use super::number::Numeric;
use super::text::LENGTH_MAX;

/// The type of an argument or a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    Bool,
    Int2,
    Int4,
    Int8,
    Numeric,
    Float8,
    Text,
    Bpchar,
    Date,
    Time,
    Timestamp,
    TimestampTz,
    Interval,
    Json,
    Jsonb,
    Bytea,
    TextArray,
    /// An array of any type. Its elements are read as texts.
    AnyArray,
}

impl Slot {
    pub(super) fn base(self) -> Base {
        match self {
            Self::Bool => Base::Bool,
            Self::Int2 => Base::Int2,
            Self::Int4 => Base::Int4,
            Self::Int8 => Base::Int8,
            Self::Numeric => Base::Numeric,
            Self::Float8 => Base::Float8,
            Self::Text => Base::Text,
            Self::Bpchar => Base::Bpchar,
            Self::Date => Base::Date,
            Self::Time => Base::Time,
            Self::Timestamp => Base::Timestamp,
            Self::TimestampTz => Base::TimestampTz,
            Self::Interval => Base::Interval,
            Self::Json => Base::Json,
            Self::Jsonb => Base::Jsonb,
            Self::Bytea => Base::Bytea,
            Self::TextArray | Self::AnyArray => Base::Array(Base::Text.into()),
        }
    }
}

/// How a function treats NULL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Nulls {
    /// The result is NULL exactly if an argument is.
    Strict,
    /// The code receives NULL, and may return it.
    Seen,
}

/// The code of a function.
pub(super) type Run = fn(CallValues<'_>) -> Computed<Datum<'static>>;

/// A function or an operator.
#[derive(Debug)]
pub(super) struct Def {
    pub(super) name: &'static str,
    pub(super) arguments: &'static [Slot],
    /// Names of the arguments, if a call may name them. A missing one is then zero.
    pub(super) names: &'static [&'static str],
    /// How many arguments a call must have.
    pub(super) least: usize,
    pub(super) result: Slot,
    pub(super) nulls: Nulls,
    pub(super) run: Run,
}

pub(super) const fn def(name: &'static str, arguments: &'static [Slot], result: Slot, run: Run) -> Def {
    Def { name, arguments, names: &[], least: arguments.len(), result, nulls: Nulls::Strict, run }
}

impl Def {
    pub(super) const fn least(self, least: usize) -> Self {
        Self { least, ..self }
    }

    pub(super) const fn nulls(self, nulls: Nulls) -> Self {
        Self { nulls, ..self }
    }

    pub(super) const fn named(self, names: &'static [&'static str]) -> Self {
        Self { names, least: 0, ..self }
    }
}

/// The arguments of a call. Those of a strict function are not NULL.
#[derive(Clone, Copy, Debug)]
pub(super) struct CallValues<'v>(pub(super) &'v [Datum<'v>]);

impl<'v> CallValues<'v> {
    pub(super) fn text(self, nth: usize) -> Computed<&'v str> {
        match self.0.get(nth) {
            Some(Datum::Text(text)) => Ok(text),
            _ => Err(CELL),
        }
    }

    /// A text, or `None` if it is NULL or missing.
    pub(super) fn optional(self, nth: usize) -> Option<&'v str> {
        self.text(nth).ok()
    }

    pub(super) fn int(self, nth: usize) -> Computed<i64> {
        match self.0.get(nth) {
            Some(Datum::Int(int)) => Ok(*int),
            _ => Err(CELL),
        }
    }

    pub(super) fn float(self, nth: usize) -> Computed<f64> {
        match self.0.get(nth) {
            Some(Datum::Float(float)) => Ok(*float),
            _ => Err(CELL),
        }
    }

    pub(super) fn numeric(self, nth: usize) -> Computed<&'v Numeric> {
        match self.0.get(nth) {
            Some(Datum::Numeric(number)) => Ok(number),
            _ => Err(CELL),
        }
    }

    pub(super) fn interval(self, nth: usize) -> Computed<Interval> {
        match self.0.get(nth) {
            Some(Datum::Interval(interval)) => Ok(*interval),
            _ => Err(CELL),
        }
    }
}

/// A text as a result.
pub(super) fn made(text: String) -> Computed<Datum<'static>> {
    if text.len() > LENGTH_MAX { Err(TOO_MUCH) } else { Ok(Datum::Text(Cow::Owned(text))) }
}
