//! Calls of strict functions. Callers have handled NULL and unavailable arguments.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::Digest as _;

use super::super::document::{self, Step};
use super::super::fault::{BAD_ENCODING, CELL, Computed, DIVISION_BY_ZERO, TOO_MUCH};
use super::super::function::slice;
use super::super::hex::{bytes_of, hex, nibble};
use super::super::interval::Interval;
use super::super::row::Macs;
use super::super::tree::{Arithmetic, Class, Datum, Function, Rounding, Width};
use super::super::units::DAY;
use super::super::{array, float, moment, text, value};
use super::{extract, pseudonym};

/// Calls a function. It may take the text of its arguments.
pub(super) fn apply<'a>(
    function: &Function,
    arguments: &mut [Datum<'a>; 3],
    macs: &Macs,
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
        Function::TruncatedInterval(unit) => match a {
            Datum::Interval(interval) => Ok(Datum::Interval(extract::truncate_interval(*unit, *interval))),
            _ => Err(CELL),
        },
        Function::ToChar(pieces) => match a {
            Datum::Int(at) => Ok(extract::to_char(pieces, *at)),
            _ => Err(CELL),
        },
        Function::Extracted { unit, of, float } => extract::extract(*unit, *of, *float, a),
        _ => match std::mem::replace(a, Datum::Null) {
            Datum::Text(a) => with_text(function, a, b, c, macs),
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

/// Integer arithmetic in the width of the type.
///
/// # Errors
/// Overflow or division by zero.
pub(super) fn integers(operator: Arithmetic, width: Width, a: i64, b: i64) -> Computed<i64> {
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

#[expect(clippy::cast_possible_truncation, reason = "reals are computed in single precision")]
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

/// A rounding function with one argument or, for numeric, two.
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
            // The server's sum wraps around beyond 64 bits; a time of day has no range error.
            let (at, micros) = (*at, interval.micros);
            let sum = if *subtract { at.wrapping_sub(micros) } else { at.wrapping_add(micros) };
            Datum::Int(sum.rem_euclid(DAY))
        }
        (Function::IntervalSum { subtract }, Datum::Interval(a), Datum::Interval(b)) => {
            Datum::Interval(if *subtract { a.subtract(*b)? } else { a.add(*b)? })
        }
        (_, Datum::Interval(a), _) => Datum::Interval(a.negated()?),
        _ => return Err(CELL),
    })
}

/// A part of a text, not copied if the text is borrowed.
fn part(text: Cow<'_, str>, cut: impl Fn(&str) -> Computed<&str>) -> Computed<Datum<'_>> {
    Ok(Datum::Text(match text {
        Cow::Borrowed(text) => {
            let found = cut(text)?;
            // The same part, with the lifetime of the borrowed text.
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
    macs: &Macs,
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
        Function::JsonPath { path, as_text, binary } => json_path(&a, path, *as_text, *binary),
        Function::JsonHas => Ok(Datum::Bool(document::has(&a, of_b()?))),
        Function::Md5 { bytes } => {
            let digest =
                if *bytes { md5::Md5::digest(bytes_of(&a)?) } else { md5::Md5::digest(a.as_bytes()) };
            owned(hex(&digest))
        }
        Function::Encode { base64: false } => owned(a.get(2..).ok_or(CELL)?.to_owned()),
        Function::Encode { base64: true } => owned(wrapped(&STANDARD.encode(bytes_of(&a)?))),
        Function::Decode { base64 } => decode(&a, *base64).map(|bytes| Datum::Text(Cow::Owned(bytes))),
        Function::BytesOfText if a.len() > text::LENGTH_MAX / 2 => Err(TOO_MUCH),
        Function::BytesOfText => owned(format!("\\x{}", hex(a.as_bytes()))),
        Function::Hmac { domain, previous } => pseudonym::made(&a, macs, &domain.text, *previous),
        _ => of_pattern_or_list(function, &a, (number(b), number(c))),
    }
}

/// Regular expressions, and functions of arrays.
fn of_pattern_or_list<'a>(
    function: &Function,
    a: &str,
    (b, c): (Option<i64>, Option<i64>),
) -> Computed<Datum<'a>> {
    let owned = |text: String| Ok(Datum::Text(Cow::Owned(text)));
    match function {
        Function::Matches(pattern) => pattern.is_match(a).map(Datum::Bool),
        Function::Matched(pattern) => {
            let found = pattern.found(a)?;
            Ok(found.map_or(Datum::Null, |found| Datum::Text(Cow::Owned(found.to_owned()))))
        }
        Function::Substitute { pattern, to, every } => owned(pattern.replaced(a, to, *every)?),
        Function::Cardinality => {
            let shape = array::walk(a, |_| true)?;
            let count = if shape.lengths.is_empty() { 0 } else { shape.lengths.iter().product() };
            Ok(Datum::Int(count))
        }
        Function::ArrayLength => {
            let shape = array::walk(a, |_| true)?;
            let dimension = b.and_then(|nth| usize::try_from(nth - 1).ok());
            let length = dimension.and_then(|nth| shape.lengths.get(nth));
            Ok(length.map_or(Datum::Null, |&length| Datum::Int(length)))
        }
        Function::Slice => {
            let (Some(to), Some(from)) = (b, c) else { return Err(CELL) };
            owned(slice(a, from, to)?)
        }
        Function::Element(base) => element(base, a, b.ok_or(CELL)?),
        _ => Err(CELL),
    }
}

fn json<'a>(document: &str, step: Option<Step<'_>>, as_text: bool) -> Computed<Datum<'a>> {
    shown(step.and_then(|step| document::step(document, step)), as_text)
}

fn json_path<'a>(
    document: &str,
    path: &[Option<String>],
    as_text: bool,
    binary: bool,
) -> Computed<Datum<'a>> {
    let Some(path) = path.iter().map(Option::as_deref).collect::<Option<Vec<_>>>() else {
        return Ok(Datum::Null);
    };
    let found = if binary {
        path.iter().try_fold(document, |document, step| document::step(document, Step::Either(step)))
    } else {
        document::path_of_json(document, &path)
    };
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
    Ok(value::of_text(base, found.as_bytes())?.into_owned())
}

/// Lines of 76 characters, as the server's `encode` writes them.
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

const fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

fn decode(text: &str, base64: bool) -> Computed<String> {
    let bytes = if base64 { of_base64(text) } else { of_hex(text) };
    Ok(format!("\\x{}", hex(&bytes.ok_or(BAD_ENCODING)?)))
}

/// Blanks may stand between bytes, but not between the two digits of one.
fn of_hex(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() / 2);
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        if is_blank(*first) {
            rest = after;
            continue;
        }
        let [second, after @ ..] = after else { return None };
        out.push(nibble(*first)? << 4 | nibble(*second)?);
        rest = after;
    }
    Some(out)
}

/// Decodes base64 as the server does: whitespace may be anywhere, and `=` ends a group of four, after which
/// further groups may follow. Bits beyond the last byte are not checked.
fn of_base64(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    let (mut group, mut count, mut end) = (0_u32, 0_u32, 0_u32);
    for byte in text.bytes().filter(|byte| !is_blank(*byte)) {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            b'=' if end > 0 || matches!(count, 2 | 3) => {
                end = if end == 0 { count - 1 } else { end };
                0
            }
            _ => return None,
        };
        group = group << 6 | u32::from(value);
        count += 1;
        if count == 4 {
            let [_, bytes @ ..] = group.to_be_bytes();
            let kept = if end == 0 { 3 } else { usize::try_from(end).ok()? };
            out.extend(bytes.into_iter().take(kept));
            (group, count) = (0, 0);
        }
    }
    (count == 0).then_some(out)
}

/// `p_` and the first sixteen bytes of HMAC-SHA256 in base64url: 24 characters.
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_compute_in_their_own_width() {
        assert_eq!(integers(Arithmetic::Add, Width::Two, 32_767, 1), Err(value::out_of_range(Width::Two)));
        assert_eq!(
            integers(Arithmetic::Divide, Width::Eight, i64::MIN, -1),
            Err(value::out_of_range(Width::Eight))
        );
        assert_eq!(integers(Arithmetic::Modulo, Width::Eight, i64::MIN, -1), Ok(0));
        assert_eq!(integers(Arithmetic::Divide, Width::Four, -7, 2), Ok(-3));
    }

    #[test]
    fn base64_is_wrapped_like_postgres() {
        assert_eq!(wrapped(&"a".repeat(77)), format!("{}\na", "a".repeat(76)));
        assert_eq!(wrapped(&"a".repeat(76)).len(), 76);
    }

    /// The values are those of PostgreSQL 14 to 18.
    #[test]
    fn decoded_text_may_have_blanks_where_postgres_has() {
        for (text, base64, expected) in [
            ("AB CD", false, Some("\\xabcd")),
            (" AB\nCD ", false, Some("\\xabcd")),
            ("A B", false, None),
            ("A", false, None),
            ("6g", false, None),
            ("aGk=\n", true, Some("\\x6869")),
            ("a G k =", true, Some("\\x6869")),
            ("aGk=aGk=", true, Some("\\x68696869")),
            ("aGl=", true, Some("\\x6869")),
            ("aG=k", true, Some("\\x68")),
            ("aGk", true, None),
            ("aGk==", true, None),
            ("a===", true, None),
            ("aG==x", true, None),
            ("é", true, None),
            ("", true, Some("\\x")),
        ] {
            assert_eq!(decode(text, base64).ok().as_deref(), expected, "{text:?}");
        }
    }
}
