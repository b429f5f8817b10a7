//! Converts values from and to PostgreSQL's text forms.

use std::borrow::Cow;

use crate::types::Base;

use super::fault::{
    BIGINT_RANGE, CELL, Computed, ENUM_LABEL, Fault, INTEGER_RANGE, NOT_TEXT, SMALLINT_RANGE, TEXT_SYNTAX,
};
use super::interval::Interval;
use super::number::Numeric;
use super::short::Short;
use super::tree::{Datum, Width};
use super::{array, document, float, iso, moment, text};

/// Reads a column value into `out`.
pub(super) fn read<'a>(base: &Base, bytes: &'a [u8], out: &mut Datum<'a>) -> Computed<()> {
    match base {
        Base::Int2 | Base::Int4 | Base::Int8 => *out = Datum::Int(digits(bytes).ok_or(CELL)?),
        Base::Numeric => match Short::read(bytes) {
            Some(short) => *out = Datum::Numeric(short.into()),
            None => *out = parsed(base, bytes)?,
        },
        Base::Bool
        | Base::Float4
        | Base::Float8
        | Base::Date
        | Base::Time
        | Base::Timestamp
        | Base::TimestampTz
        | Base::Interval => *out = parsed(base, bytes)?,
        _ => *out = Datum::Text(Cow::Borrowed(std::str::from_utf8(bytes).map_err(|_| NOT_TEXT)?)),
    }
    Ok(())
}

/// Reads a column value and returns it.
pub(super) fn of_text<'a>(base: &Base, bytes: &'a [u8]) -> Computed<Datum<'a>> {
    let mut value = Datum::Null;
    read(base, bytes, &mut value)?;
    Ok(value)
}

fn parsed<'a>(base: &Base, bytes: &'a [u8]) -> Computed<Datum<'a>> {
    match (base, bytes) {
        (Base::Bool, b"t") => Ok(Datum::Bool(true)),
        (Base::Bool, b"f") => Ok(Datum::Bool(false)),
        (Base::Bool, _) => Err(CELL),
        _ => parse(base, std::str::from_utf8(bytes).map_err(|_| CELL)?).map_err(|_| CELL),
    }
}

/// The common case: an integer in its shortest form.
pub(super) fn digits(bytes: &[u8]) -> Option<i64> {
    let (negative, digits) = match bytes {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    if digits.is_empty() {
        return None;
    }
    let mut value = 0_i64;
    for digit in digits {
        let digit = i64::from(digit.checked_sub(b'0').filter(|digit| *digit < 10)?);
        value = value.checked_mul(10)?.checked_sub(digit)?;
    }
    if negative { Some(value) } else { value.checked_neg() }
}

pub(super) const fn out_of_range(width: Width) -> Fault {
    match width {
        Width::Two => SMALLINT_RANGE,
        Width::Four => INTEGER_RANGE,
        Width::Eight => BIGINT_RANGE,
    }
}

pub(super) fn fit(int: i64, width: Width) -> Computed<i64> {
    let fits = match width {
        Width::Two => i16::try_from(int).is_ok(),
        Width::Four => i32::try_from(int).is_ok(),
        Width::Eight => true,
    };
    if fits { Ok(int) } else { Err(out_of_range(width)) }
}

/// Reads what the type's input function reads, but dates and times only in ISO 8601.
pub(super) fn parse<'a>(base: &Base, text: &'a str) -> Computed<Datum<'a>> {
    let borrowed = || Datum::Text(Cow::Borrowed(text));
    let owned = |text: String| Datum::Text(Cow::Owned(text));
    Ok(match base {
        Base::Bool => Datum::Bool(boolean(text).ok_or(TEXT_SYNTAX)?),
        Base::Int2 => Datum::Int(integer(text, Width::Two)?),
        Base::Int4 => Datum::Int(integer(text, Width::Four)?),
        Base::Int8 => Datum::Int(integer(text, Width::Eight)?),
        Base::Numeric => Datum::Numeric(Numeric::parse(text)?),
        Base::Float4 => Datum::Float(float::parse(text, true)?),
        Base::Float8 => Datum::Float(float::parse(text, false)?),
        Base::Date => Datum::Int(iso::parse_date(text)?),
        Base::Time => Datum::Int(iso::parse_time(text)?),
        Base::Timestamp => Datum::Int(iso::parse_timestamp(text, false)?),
        Base::TimestampTz => Datum::Int(iso::parse_timestamp(text, true)?),
        Base::Interval => Datum::Interval(Interval::parse(text)?),
        Base::Uuid => owned(uuid(text).ok_or(TEXT_SYNTAX)?),
        Base::Bytea => owned(bytea(text).ok_or(TEXT_SYNTAX)?),
        Base::Json => {
            document::check(text)?;
            borrowed()
        }
        Base::Jsonb => owned(document::canonical(text)?),
        Base::Enum(enumeration) => {
            let known = enumeration.labels.iter().any(|label| label == text);
            if known { borrowed() } else { return Err(ENUM_LABEL) }
        }
        Base::Array(element) => owned(array_of(element, text)?),
        Base::Text | Base::Varchar | Base::Bpchar | Base::Name | Base::Other(_) => borrowed(),
    })
}

/// Reads `true`, `yes`, `on`, `1` and their opposites, or an unambiguous prefix.
fn boolean(text: &str) -> Option<bool> {
    let word = text.trim_matches(text::is_space).to_ascii_lowercase();
    let begins = |full: &str, least: usize| word.len() >= least && full.starts_with(&word);
    if begins("true", 1) || begins("yes", 1) || word == "on" || word == "1" {
        Some(true)
    } else if begins("false", 1) || begins("no", 1) || begins("off", 2) || word == "0" {
        Some(false)
    } else {
        None
    }
}

/// Reads digit by digit, as the server does: an overflow is reported even if invalid characters follow.
fn integer(text: &str, width: Width) -> Computed<i64> {
    let text = text.trim_matches(text::is_space);
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let mut negated = 0_i64;
    let mut count = 0;
    for digit in digits.bytes().take_while(u8::is_ascii_digit) {
        let next = negated.checked_mul(10).and_then(|ten| ten.checked_sub(i64::from(digit - b'0')));
        negated = fit(next.ok_or(out_of_range(width))?, width)?;
        count += 1;
    }
    if count == 0 || count < digits.len() {
        return Err(TEXT_SYNTAX);
    }
    let value = if text.starts_with('-') { Some(negated) } else { negated.checked_neg() };
    fit(value.ok_or(out_of_range(width))?, width)
}

/// Reads 32 hexadecimal digits, with optional hyphens after groups of four, and optional braces.
fn uuid(text: &str) -> Option<String> {
    let inner = match text.strip_prefix('{') {
        Some(inner) => inner.strip_suffix('}')?,
        None => text,
    };
    let mut out = String::with_capacity(36);
    let mut count = 0;
    let mut after_hyphen = false;
    for letter in inner.chars() {
        if letter == '-' {
            if after_hyphen || count == 0 || count % 4 != 0 || count == 32 {
                return None;
            }
            after_hyphen = true;
            continue;
        }
        after_hyphen = false;
        if matches!(count, 8 | 12 | 16 | 20) {
            out.push('-');
        }
        out.push(letter.is_ascii_hexdigit().then(|| letter.to_ascii_lowercase())?);
        count += 1;
    }
    (count == 32).then_some(out)
}

/// Reads the hexadecimal form only: the escape form can write one value in many ways.
fn bytea(text: &str) -> Option<String> {
    let digits = text.strip_prefix("\\x")?;
    let is_hex = digits.len().is_multiple_of(2) && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hex.then(|| text.to_ascii_lowercase())
}

/// The text of an array, with each element in its type's canonical form.
fn array_of(element: &Base, text: &str) -> Computed<String> {
    let mut out = String::from("{");
    let mut fault = None;
    let shape = array::walk(text.trim_matches(text::is_space), |item| {
        if out.len() > 1 {
            out.push(',');
        }
        let printed = item.map(|item| {
            let mut printed = String::new();
            parse(element, item).map(|value| write(&mut printed, element, &value)).map(|()| printed)
        });
        match printed.transpose() {
            Ok(printed) => array::write_element(&mut out, printed.as_deref()),
            Err(found) => fault = Some(found),
        }
        fault.is_none()
    });
    fault.map_or(Ok(()), Err)?;
    let shape = shape.map_err(|_| TEXT_SYNTAX)?;
    if shape.lengths.len() > 1 || shape.lower != 1 {
        return Err(TEXT_SYNTAX); // More than a list is never needed as a literal.
    }
    out.push('}');
    Ok(out)
}

/// Appends a value as the type's output function writes it. The value must not be NULL.
pub(super) fn write(out: &mut String, base: &Base, value: &Datum<'_>) {
    match value {
        Datum::Null | Datum::Unavailable => {}
        Datum::Bool(value) => out.push(if *value { 't' } else { 'f' }),
        Datum::Int(value) => match base {
            Base::Date => moment::write_date(out, *value),
            Base::Time => moment::write_time(out, *value),
            Base::Timestamp => moment::write_timestamp(out, *value, false),
            Base::TimestampTz => moment::write_timestamp(out, *value, true),
            _ => out.push_str(itoa::Buffer::new().format(*value)),
        },
        Datum::Numeric(value) => value.write(out),
        Datum::Float(value) => float::write(out, *value, *base == Base::Float4),
        Datum::Interval(value) => value.write(out),
        Datum::Text(value) => out.push_str(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_input_matches_postgres() {
        for (base, text, expected) in [
            (Base::Bool, " TR ", Some("t")),
            (Base::Bool, "of", Some("f")),
            (Base::Bool, "o", None),
            (Base::Int2, " +7 ", Some("7")),
            (Base::Int2, "32768", None),
            (Base::Int4, "1_000", None),
            (Base::Numeric, "1.50e2", Some("150")),
            (Base::Numeric, ".5", Some("0.5")),
            (
                Base::Uuid,
                "{A0EEBC99-9C0B4EF8-BB6D6BB9BD380A11}",
                Some("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
            ),
            (Base::Uuid, "a0eebc99-9c0b4ef8-bb6d6bb9bd380a1", None),
            (Base::Bytea, "\\xAB", Some("\\xab")),
            (Base::Array(Base::Int4.into()), "{ 1,02,NULL}", Some("{1,2,NULL}")),
            (Base::Float8, "1e400", None),
            (Base::Float8, "-inf", Some("-Infinity")),
        ] {
            let printed = parse(&base, text).ok().map(|value| {
                let mut out = String::new();
                write(&mut out, &base, &value);
                out
            });
            assert_eq!(printed.as_deref(), expected, "{base} {text}");
        }
        assert_eq!(digits(b"-9223372036854775808"), Some(i64::MIN));
        assert_eq!((digits(b"9223372036854775808"), digits(b""), digits(b"1x")), (None, None, None));
    }
}
