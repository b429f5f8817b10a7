//! Casts of values.

use std::borrow::Cow;

use crate::types::Base;

use super::super::fault::{CELL, Computed, JSON_CAST};
use super::super::interval::Interval;
use super::super::number::Numeric;
use super::super::tree::{Cast, Datum, Width};
use super::super::units::DAY;
use super::super::{array, float, jsonb, moment, value};

/// Length of type name, in bytes.
const NAME_MAX: usize = 63;

/// Casts a value in place. NULL and unavailable stay as they are.
pub(super) fn apply(cast: &Cast, value: &mut Datum<'_>) -> Computed<()> {
    match (cast, &*value) {
        (_, Datum::Null | Datum::Unavailable) | (Cast::Relabel | Cast::Collate, _) => {}
        (Cast::IntToNumeric, &Datum::Int(int)) => *value = Datum::Numeric(Numeric::from_int(int)),
        _ => *value = converted(cast, std::mem::replace(value, Datum::Null))?,
    }
    Ok(())
}

fn converted<'a>(cast: &Cast, from: Datum<'a>) -> Computed<Datum<'a>> {
    Ok(match (cast, from) {
        (Cast::ToJsonb(base), value) => Datum::Text(Cow::Owned(jsonb::of_value(base, &value)?)),
        (Cast::Elements { from, casts, to }, Datum::Text(text)) => {
            elements_converted(&text, from, casts, to)?
        }
        (Cast::NameFit, Datum::Text(text)) => {
            let end = text.floor_char_boundary(NAME_MAX);
            Datum::Text(cut_at(text, end))
        }
        (Cast::ToText(_), Datum::Bool(value)) => {
            Datum::Text(Cow::Borrowed(if value { "true" } else { "false" }))
        }
        (Cast::ToText(_) | Cast::Output(_), value @ Datum::Text(_)) => value,
        (Cast::ToText(base) | Cast::Output(base), value) => {
            let mut out = String::new();
            value::write(&mut out, base, &value);
            Datum::Text(Cow::Owned(out))
        }
        (Cast::FromText(base), Datum::Text(Cow::Borrowed(text))) => value::parse(base, text)?,
        (Cast::FromText(base), Datum::Text(Cow::Owned(text))) => value::parse(base, &text)?.into_owned(),
        (Cast::IntToInt(width), Datum::Int(int)) => Datum::Int(value::fit(int, *width)?),
        (Cast::IntToFloat { single }, Datum::Int(int)) => Datum::Float(float_of(int, *single)),
        (Cast::NumericToInt(width), Datum::Numeric(number)) => {
            let int = number.to_int()?.ok_or(value::out_of_range(*width))?;
            Datum::Int(value::fit(int, *width)?)
        }
        (Cast::NumericToFloat { single }, Datum::Numeric(number)) => {
            Datum::Float(float::parse(&number.to_string(), *single)?)
        }
        (Cast::FloatToInt(width), Datum::Float(number)) => Datum::Int(int_of(number, *width)?),
        (Cast::FloatToNumeric { single }, Datum::Float(number)) => {
            Datum::Numeric(numeric_of(number, *single)?)
        }
        (Cast::FloatToSingle, Datum::Float(number)) => Datum::Float(float::to_single(number)?),
        (Cast::IntToBool, Datum::Int(int)) => Datum::Bool(int != 0),
        (Cast::BoolToInt, Datum::Bool(value)) => Datum::Int(i64::from(value)),
        (Cast::DateToTimestamp, Datum::Int(days)) => Datum::Int(moment::date_to_timestamp(days)?),
        (Cast::DateToCompare, Datum::Int(days)) => Datum::Int(moment::date_to_compare(days)),
        (Cast::TimestampToDate, Datum::Int(at)) => Datum::Int(moment::timestamp_to_date(at)),
        (Cast::TimestampToTime, Datum::Int(at)) if moment::is_infinite(at) => Datum::Null,
        (Cast::TimestampToTime, Datum::Int(at)) => Datum::Int(at.rem_euclid(DAY)),
        (Cast::TimeToInterval, Datum::Int(micros)) => {
            Datum::Interval(Interval { months: 0, days: 0, micros })
        }
        (Cast::IntervalToTime, Datum::Interval(interval)) => Datum::Int(interval.micros.rem_euclid(DAY)),
        (Cast::NumericFit { precision, scale }, Datum::Numeric(number)) => {
            Datum::Numeric(number.fitted(*precision, *scale)?)
        }
        (Cast::TextFit(limit), Datum::Text(text)) => Datum::Text(cut(text, *limit)),
        (Cast::BlankFit(limit), Datum::Text(text)) => Datum::Text(padded(text, *limit)),
        (Cast::TrimBlanks, Datum::Text(text)) => {
            let end = text.trim_end_matches(' ').len();
            Datum::Text(cut_at(text, end))
        }
        (Cast::Jsonb, Datum::Text(text)) => value::parse(&Base::Jsonb, &text)?.into_owned(),
        (Cast::JsonbToNumeric, Datum::Text(text)) => match text.as_bytes().first() {
            Some(b'-' | b'0'..=b'9') => Datum::Numeric(Numeric::parse(&text)?),
            _ => return Err(JSON_CAST),
        },
        (Cast::JsonbToBool, Datum::Text(text)) => match &*text {
            "true" => Datum::Bool(true),
            "false" => Datum::Bool(false),
            _ => return Err(JSON_CAST),
        },
        _ => return Err(CELL),
    })
}

#[expect(clippy::cast_precision_loss, reason = "PostgreSQL rounds as well")]
fn float_of(int: i64, single: bool) -> f64 {
    if single { f64::from(int as f32) } else { int as f64 }
}

/// Rounds halves to even, as `rint` does.
#[expect(clippy::cast_possible_truncation, reason = "the range is checked")]
fn int_of(number: f64, width: Width) -> Computed<i64> {
    const BIGINT_END: f64 = 9_223_372_036_854_775_808.0;
    let rounded = number.round_ties_even();
    if !(-BIGINT_END..BIGINT_END).contains(&rounded) {
        return Err(value::out_of_range(width));
    }
    value::fit(rounded as i64, width)
}

/// Converts through fifteen (or six) significant digits, as PostgreSQL does.
fn numeric_of(number: f64, single: bool) -> Computed<Numeric> {
    if !number.is_finite() {
        return Numeric::parse(if number.is_nan() {
            "NaN"
        } else if number > 0.0 {
            "inf"
        } else {
            "-inf"
        });
    }
    let text = if single { format!("{number:.5e}") } else { format!("{number:.14e}") };
    let (mantissa, exponent) = text.split_once('e').ok_or(CELL)?;
    // As `%g`: trailing zeros are dropped.
    let mantissa = mantissa.trim_end_matches('0').trim_end_matches('.');
    Numeric::parse(&format!("{mantissa}e{exponent}"))
}

fn cut_at(text: Cow<'_, str>, end: usize) -> Cow<'_, str> {
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.get(..end).unwrap_or_default()),
        Cow::Owned(mut text) => {
            text.truncate(end);
            Cow::Owned(text)
        }
    }
}

/// The first `limit` characters.
fn cut(text: Cow<'_, str>, limit: usize) -> Cow<'_, str> {
    match text.char_indices().nth(limit) {
        Some((end, _)) => cut_at(text, end),
        None => text,
    }
}

/// Exactly `limit` characters: truncated, or padded with blanks.
fn padded(text: Cow<'_, str>, limit: usize) -> Cow<'_, str> {
    let count = text.chars().count();
    if count >= limit {
        return cut(text, limit);
    }
    let mut text = text.into_owned();
    text.extend(std::iter::repeat_n(' ', limit - count));
    Cow::Owned(text)
}

/// The elements of an array in another type.
fn elements_converted<'a>(text: &str, from: &Base, casts: &[Cast], to: &Base) -> Computed<Datum<'a>> {
    let rewritten = array::rewritten(text, &array::PLAIN, |out, item| {
        let Some(item) = item else {
            array::write_element(out, None);
            return Ok(());
        };
        let mut item = value::of_text(from, item.as_bytes())?;
        casts.iter().try_for_each(|step| apply(step, &mut item))?;
        let mut printed = String::new();
        value::write(&mut printed, to, &item);
        array::write_element(out, (!matches!(item, Datum::Null)).then_some(printed.as_str()));
        Ok(())
    })?;
    Ok(Datum::Text(Cow::Owned(rewritten)))
}
