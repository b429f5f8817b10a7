//! Strict functions: no argument is NULL or unavailable here.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hmac::Mac as _;
use md5::Digest as _;

use super::super::document::{self, Step};
use super::super::fault::{BAD_ENCODING, CELL, Computed, DIVISION_BY_ZERO, NO_KEY, TOO_MUCH};
use super::super::interval::Interval;
use super::super::row::Mac;
use super::super::tree::{Arithmetic, Class, Datum, Function, Rounding, Width};
use super::super::{array, float, moment, text, value};
use super::extract;

/// Bytes of the digest that `hmac()` shows: 128 bits are more than any two persons share by chance.
const PSEUDONYM: usize = 16;

/// Calls a function. What it makes of a text it may take from the arguments.
pub(super) fn apply<'a>(
    function: &Function,
    arguments: &mut [Datum<'a>; 3],
    mac: Option<&Mac>,
) -> Computed<Datum<'a>> {
    let [a, b, c] = arguments;
    match function {
        Function::Arithmetic(operator, class) => arithmetic(*operator, *class, a, b),
        Function::Negate(class) => negate(*class, a),
        Function::Absolute(class) => match a {
            Datum::Int(int) if *int >= 0 => Ok(Datum::Int(*int)),
            Datum::Int(_) => negate(*class, a),
            Datum::Numeric(number) => Ok(Datum::Numeric(number.abs())),
            Datum::Float(number) => Ok(Datum::Float(number.abs())),
            _ => Err(CELL),
        },
        Function::Rounded(rounding, class) => rounded(*rounding, *class, a, b),
        Function::AddDays { .. }
        | Function::DateDifference
        | Function::MomentDifference
        | Function::TimeDifference
        | Function::DateAndTime => moments(function, a, b),
        Function::AddInterval { .. }
        | Function::AddIntervalToTime { .. }
        | Function::IntervalSum { .. }
        | Function::NegateInterval => intervals(function, a, b),
        Function::Truncated(unit) => match a {
            Datum::Int(at) => extract::truncate(*unit, *at).map(Datum::Int),
            _ => Err(CELL),
        },
        Function::Extracted { unit, of, float } => extract::extract(*unit, *of, *float, a),
        _ => match std::mem::replace(a, Datum::Null) {
            Datum::Text(a) => with_text(function, a, b, c, mac),
            _ => Err(CELL),
        },
    }
}

fn arithmetic<'a>(operator: Arithmetic, class: Class, a: &Datum<'_>, b: &Datum<'_>) -> Computed<Datum<'a>> {
    match (class, a, b) {
        (Class::Int(width), Datum::Int(a), Datum::Int(b)) => {
            integers(operator, width, *a, *b).map(Datum::Int)
        }
        (Class::Numeric, Datum::Numeric(a), Datum::Numeric(b)) => match operator {
            Arithmetic::Add => a.add(b),
            Arithmetic::Subtract => a.add(&b.negated()),
            Arithmetic::Multiply => a.multiply(b),
            Arithmetic::Divide => a.divide(b),
            Arithmetic::Modulo => a.modulo(b),
        }
        .map(Datum::Numeric),
        (Class::Float { single }, Datum::Float(a), Datum::Float(b)) => {
            floats(operator, single, *a, *b).map(Datum::Float)
        }
        _ => Err(CELL),
    }
}

/// Arithmetic of integers, which must stay in their type's width.
///
/// # Errors
/// They do not, or it is a division by zero.
pub(in super::super) fn integers(operator: Arithmetic, width: Width, a: i64, b: i64) -> Computed<i64> {
    let result = match operator {
        Arithmetic::Add => a.checked_add(b),
        Arithmetic::Subtract => a.checked_sub(b),
        Arithmetic::Multiply => a.checked_mul(b),
        Arithmetic::Divide | Arithmetic::Modulo if b == 0 => return Err(DIVISION_BY_ZERO),
        Arithmetic::Divide => a.checked_div(b),
        Arithmetic::Modulo => return Ok(a.wrapping_rem(b)),
    };
    value::fit(result.ok_or(value::out_of_range(width))?, width)
}

#[expect(clippy::cast_possible_truncation, reason = "reals are computed as reals")]
fn floats(operator: Arithmetic, single: bool, a: f64, b: f64) -> Computed<f64> {
    if operator == Arithmetic::Divide && b == 0.0 && !a.is_nan() {
        return Err(DIVISION_BY_ZERO);
    }
    let result = if single {
        let (a, b) = (a as f32, b as f32);
        f64::from(match operator {
            Arithmetic::Add => a + b,
            Arithmetic::Subtract => a - b,
            Arithmetic::Multiply => a * b,
            Arithmetic::Divide | Arithmetic::Modulo => a / b,
        })
    } else {
        match operator {
            Arithmetic::Add => a + b,
            Arithmetic::Subtract => a - b,
            Arithmetic::Multiply => a * b,
            Arithmetic::Divide | Arithmetic::Modulo => a / b,
        }
    };
    match operator {
        Arithmetic::Add | Arithmetic::Subtract => {
            float::checked(result, a.is_infinite() || b.is_infinite(), true)
        }
        Arithmetic::Multiply => {
            float::checked(result, a.is_infinite() || b.is_infinite(), a == 0.0 || b == 0.0)
        }
        _ => float::checked(result, a.is_infinite(), a == 0.0 || b.is_infinite()),
    }
}

fn negate<'a>(class: Class, a: &Datum<'_>) -> Computed<Datum<'a>> {
    match (class, a) {
        (Class::Int(width), Datum::Int(a)) => {
            let negated = a.checked_neg().ok_or(value::out_of_range(width))?;
            value::fit(negated, width).map(Datum::Int)
        }
        (_, Datum::Numeric(a)) => Ok(Datum::Numeric(a.negated())),
        (_, Datum::Float(a)) => Ok(Datum::Float(-a)),
        _ => Err(CELL),
    }
}

/// With one argument or, of numeric, two.
fn rounded<'a>(rounding: Rounding, class: Class, a: &Datum<'_>, b: &Datum<'_>) -> Computed<Datum<'a>> {
    match (class, a, b) {
        (Class::Numeric, Datum::Numeric(a), places) => {
            let places = if let Datum::Int(places) = places { *places } else { 0 };
            match rounding {
                Rounding::Round => a.rounded(places, true),
                Rounding::Truncate => a.rounded(places, false),
                Rounding::Ceiling => a.whole(true),
                Rounding::Floor => a.whole(false),
                Rounding::Sign => Ok(a.signum()),
            }
            .map(Datum::Numeric)
        }
        (_, Datum::Float(a), _) => Ok(Datum::Float(match rounding {
            Rounding::Round => a.round_ties_even(),
            Rounding::Truncate => a.trunc(),
            Rounding::Ceiling => a.ceil(),
            Rounding::Floor => a.floor(),
            Rounding::Sign if *a > 0.0 => 1.0,
            Rounding::Sign if *a < 0.0 => -1.0,
            Rounding::Sign => 0.0,
        })),
        _ => Err(CELL),
    }
}

fn moments<'a>(function: &Function, a: &Datum<'_>, b: &Datum<'_>) -> Computed<Datum<'a>> {
    let (Datum::Int(a), Datum::Int(b)) = (a, b) else { return Err(CELL) };
    Ok(match function {
        Function::AddDays { subtract } => Datum::Int(moment::add_days(*a, if *subtract { -b } else { *b })?),
        Function::DateDifference => Datum::Int(value::fit(moment::date_difference(*a, *b)?, Width::Four)?),
        Function::MomentDifference => Datum::Interval(moment::difference(*a, *b)?),
        Function::TimeDifference => Datum::Interval(Interval { months: 0, days: 0, micros: a - b }),
        _ if moment::is_infinite(*a) => Datum::Int(*a),
        _ => Datum::Int(moment::in_range(moment::date_to_timestamp(*a)?.saturating_add(*b))?),
    })
}

fn intervals<'a>(function: &Function, a: &Datum<'_>, b: &Datum<'_>) -> Computed<Datum<'a>> {
    Ok(match (function, a, b) {
        (Function::AddInterval { subtract }, Datum::Int(at), Datum::Interval(interval)) => {
            let interval = if *subtract { interval.negated()? } else { *interval };
            Datum::Int(moment::add_interval(*at, interval)?)
        }
        (Function::AddIntervalToTime { subtract }, Datum::Int(at), Datum::Interval(interval)) => {
            // Beyond 64 bits the server's sum comes round at the other end; a time has no range to fall out of.
            let (at, micros) = (*at, interval.micros);
            let sum = if *subtract { at.wrapping_sub(micros) } else { at.wrapping_add(micros) };
            Datum::Int(sum.rem_euclid(moment::DAY))
        }
        (Function::IntervalSum { subtract }, Datum::Interval(a), Datum::Interval(b)) => {
            Datum::Interval(if *subtract { a.subtract(*b)? } else { a.add(*b)? })
        }
        (_, Datum::Interval(a), _) => Datum::Interval(a.negated()?),
        _ => return Err(CELL),
    })
}

/// Part of a text, without copying it where it is borrowed.
fn part(text: Cow<'_, str>, cut: impl Fn(&str) -> Computed<&str>) -> Computed<Datum<'_>> {
    Ok(Datum::Text(match text {
        Cow::Borrowed(text) => {
            let found = cut(text)?;
            // The same part of the text that outlives us.
            let start = found.as_ptr().addr().wrapping_sub(text.as_ptr().addr());
            let whole = text.get(start..start.saturating_add(found.len()));
            whole.map_or_else(|| Cow::Owned(found.to_owned()), Cow::Borrowed)
        }
        Cow::Owned(text) => Cow::Owned(cut(&text)?.to_owned()),
    }))
}

fn with_text<'a>(
    function: &Function,
    a: Cow<'a, str>,
    b: &Datum<'a>,
    c: &Datum<'a>,
    mac: Option<&Mac>,
) -> Computed<Datum<'a>> {
    let owned = |text: String| Ok(Datum::Text(Cow::Owned(text)));
    let of_b = || if let Datum::Text(b) = b { Ok(&**b) } else { Err(CELL) };
    let of_c = || if let Datum::Text(c) = c { Ok(&**c) } else { Err(CELL) };
    let number = |datum: &Datum<'a>| if let Datum::Int(int) = datum { Some(*int) } else { None };
    match function {
        Function::Join => {
            let b = of_b()?;
            if a.len() + b.len() > text::LENGTH_MAX {
                return Err(TOO_MUCH);
            }
            owned(a.into_owned() + b)
        }
        Function::Lower => owned(text::lower(&a)),
        Function::Upper => owned(text::upper(&a)),
        Function::Length => Ok(Datum::Int(text::length(&a))),
        Function::LengthOfBlanks => Ok(Datum::Int(text::length(a.trim_end_matches(' ')))),
        Function::LengthOfBytes => Ok(Datum::Int(i64::try_from(a.len() / 2).unwrap_or(i64::MAX) - 1)),
        Function::Trim { leading, trailing } => {
            let set = if let Datum::Text(set) = b { set } else { " " };
            part(a, |text| Ok(text::trim(text, set, *leading, *trailing)))
        }
        Function::Left => part(a, |text| Ok(text::left(text, number(b).unwrap_or_default()))),
        Function::Right => part(a, |text| Ok(text::right(text, number(b).unwrap_or_default()))),
        Function::Substring => part(a, |text| text::substring(text, number(b).ok_or(CELL)?, number(c))),
        Function::SplitPart => {
            let delimiter = of_b()?;
            part(a, |text| text::split_part(text, delimiter, number(c).ok_or(CELL)?))
        }
        Function::Replace => owned(text::replace(&a, of_b()?, of_c()?)?),
        Function::Like { fold: false, escape } => text::like(&a, of_b()?, *escape).map(Datum::Bool),
        Function::Like { fold: true, escape } => {
            text::like(&text::lower(&a), &text::lower(of_b()?), *escape).map(Datum::Bool)
        }
        Function::JsonKey { as_text } => json(&a, Some(Step::Key(of_b()?)), *as_text),
        Function::JsonElement { as_text, scalars } => match number(b) {
            Some(0 | -1) if *scalars && !a.starts_with(['{', '[']) => shown(Some(&a), *as_text),
            nth => json(&a, nth.map(Step::Element), *as_text),
        },
        Function::JsonPath { path, as_text } => json_path(&a, path, *as_text),
        Function::JsonHas => Ok(Datum::Bool(document::has(&a, of_b()?))),
        Function::Md5 { bytes } => {
            let digest =
                if *bytes { md5::Md5::digest(bytes_of(&a)?) } else { md5::Md5::digest(a.as_bytes()) };
            owned(hex(&digest))
        }
        Function::Encode { base64: false } => owned(a.get(2..).ok_or(CELL)?.to_owned()),
        Function::Encode { base64: true } => owned(wrapped(&STANDARD.encode(bytes_of(&a)?))),
        Function::Decode { base64 } => decode(&a, *base64).map(|bytes| Datum::Text(Cow::Owned(bytes))),
        Function::Hmac => pseudonym(&a, mac).map(|text| Datum::Text(Cow::Owned(text))),
        Function::Cardinality => {
            let shape = array::walk(&a, |_| true)?;
            let count = if shape.lengths.is_empty() { 0 } else { shape.lengths.iter().product() };
            Ok(Datum::Int(count))
        }
        Function::ArrayLength => {
            let shape = array::walk(&a, |_| true)?;
            let dimension = number(b).and_then(|nth| usize::try_from(nth - 1).ok());
            let length = dimension.and_then(|nth| shape.lengths.get(nth));
            Ok(length.map_or(Datum::Null, |&length| Datum::Int(length)))
        }
        Function::Element(base) => element(base, &a, number(b).ok_or(CELL)?),
        _ => Err(CELL),
    }
}

fn json<'a>(document: &str, step: Option<Step<'_>>, as_text: bool) -> Computed<Datum<'a>> {
    shown(step.and_then(|step| document::step(document, step)), as_text)
}

fn json_path<'a>(document: &str, path: &[Option<String>], as_text: bool) -> Computed<Datum<'a>> {
    let mut found = Some(document);
    for step in path {
        let Some(step) = step else { return Ok(Datum::Null) };
        found = found.and_then(|document| document::step(document, Step::Either(step)));
    }
    shown(found, as_text)
}

fn shown<'a>(value: Option<&str>, as_text: bool) -> Computed<Datum<'a>> {
    let Some(value) = value else { return Ok(Datum::Null) };
    if !as_text {
        return Ok(Datum::Text(Cow::Owned(value.to_owned())));
    }
    Ok(document::as_text(value)?.map_or(Datum::Null, |text| Datum::Text(Cow::Owned(text.into_owned()))))
}

fn element<'a>(base: &crate::types::Base, list: &str, nth: i64) -> Computed<Datum<'a>> {
    let (mut at, mut found) = (0, None);
    let mut all = Vec::new();
    let shape = array::walk(list, |item| {
        all.push(item.map(str::to_owned));
        true
    })?;
    if shape.lengths.len() == 1 {
        at = nth.saturating_sub(shape.lower);
        found = usize::try_from(at).ok().and_then(|at| all.get(at)).cloned().flatten();
    }
    let _: i64 = at;
    let Some(found) = found else { return Ok(Datum::Null) };
    Ok(match value::of_text(base, found.as_bytes())? {
        Datum::Text(text) => Datum::Text(Cow::Owned(text.into_owned())),
        Datum::Null => Datum::Null,
        Datum::Unavailable => Datum::Unavailable,
        Datum::Bool(value) => Datum::Bool(value),
        Datum::Int(value) => Datum::Int(value),
        Datum::Numeric(value) => Datum::Numeric(value),
        Datum::Float(value) => Datum::Float(value),
        Datum::Interval(value) => Datum::Interval(value),
    })
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| DIGITS.get(usize::from(nibble)).map_or('0', |&digit| char::from(digit));
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 0xF)]).collect()
}

/// Bytes of a bytea's text form.
fn bytes_of(text: &str) -> Computed<Vec<u8>> {
    unhex(text.strip_prefix("\\x").ok_or(CELL)?).ok_or(CELL)
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let nibble = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|[high, low]| Some(nibble(*high)? << 4 | nibble(*low)?)).collect()
}

/// Lines of 76 characters, as the server's `encode` has it.
fn wrapped(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 76);
    for (nth, letter) in text.chars().enumerate() {
        if nth > 0 && nth % 76 == 0 {
            out.push('\n');
        }
        out.push(letter);
    }
    out
}

fn decode(text: &str, base64: bool) -> Computed<String> {
    let compact: String = text.chars().filter(|letter| !matches!(letter, ' ' | '\t' | '\n' | '\r')).collect();
    let bytes = if base64 { STANDARD.decode(&compact).ok() } else { unhex(&compact) };
    Ok(format!("\\x{}", hex(&bytes.ok_or(BAD_ENCODING)?)))
}

/// `p_` and the first sixteen bytes of HMAC-SHA256 in base64url: 24 characters, the same for the same value and key.
fn pseudonym(text: &str, mac: Option<&Mac>) -> Computed<String> {
    let mut mac = mac.cloned().ok_or(NO_KEY)?;
    mac.update(text.as_bytes());
    let digest = mac.finalize().into_bytes();
    Ok(format!("p_{}", URL_SAFE_NO_PAD.encode(digest.get(..PSEUDONYM).unwrap_or(&digest))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_compute_in_their_own_width() {
        assert_eq!(integers(Arithmetic::Add, Width::Two, 32_767, 1), Err(value::out_of_range(Width::Two)));
        assert_eq!(
            integers(Arithmetic::Divide, Width::Eight, i64::MIN, -1),
            Err(value::out_of_range(Width::Eight))
        );
        assert_eq!(integers(Arithmetic::Modulo, Width::Eight, i64::MIN, -1), Ok(0));
        assert_eq!(integers(Arithmetic::Divide, Width::Four, -7, 2), Ok(-3));
    }

    #[test]
    fn base64_is_wrapped_as_the_server_does() {
        assert_eq!(wrapped(&"a".repeat(77)), format!("{}\na", "a".repeat(76)));
        assert_eq!(wrapped(&"a".repeat(76)).len(), 76);
        assert_eq!(decode("aGk=\n", true).as_deref(), Ok("\\x6869"));
        assert_eq!(decode("6g", false), Err(BAD_ENCODING));
    }
}
