//! `real` and `double precision`: PostgreSQL's text forms and range errors.

use std::borrow::Cow;
use std::cmp::Ordering;

use num_bigint::BigInt;

use super::fault::{Computed, FLOAT_OVERFLOW, FLOAT_RANGE, FLOAT_UNDERFLOW, TEXT_SYNTAX};

/// NaN equals itself and is greater than any other value; zeros are equal.
pub(super) fn compare(a: f64, b: f64) -> Ordering {
    a.partial_cmp(&b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
}

/// Reads what the input functions read: decimal numbers and, as `strtod`, hexadecimal ones.
pub(super) fn parse(text: &str, single: bool) -> Computed<f64> {
    let text = text.trim_matches(super::text::is_space);
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let negative = text.starts_with('-');
    let signed = |value: f64| if negative { -value } else { value };
    if unsigned.eq_ignore_ascii_case("nan") {
        return Ok(f64::NAN);
    }
    if unsigned.eq_ignore_ascii_case("infinity") || unsigned.eq_ignore_ascii_case("inf") {
        return Ok(signed(f64::INFINITY));
    }
    if !unsigned.bytes().next().is_some_and(|byte| byte.is_ascii_digit() || byte == b'.') {
        return Err(TEXT_SYNTAX);
    }
    // Check the range before the characters that follow, as the server does.
    let decimal = || unsigned.split_at(numeral(unsigned));
    let (number, rest) = hexadecimal(unsigned)
        .map_or_else(|| (Cow::Borrowed(decimal().0), decimal().1), |(number, rest)| (number.into(), rest));
    let value = if single {
        number.parse::<f32>().map_err(|_| TEXT_SYNTAX)?.into()
    } else {
        number.parse::<f64>().map_err(|_| TEXT_SYNTAX)?
    };
    let mantissa = number.split(['e', 'E']).next().unwrap_or_default();
    let vanished = value == 0.0 && mantissa.bytes().any(|byte| matches!(byte, b'1'..=b'9'));
    if value.is_infinite() || vanished {
        return Err(FLOAT_RANGE);
    }
    if !rest.is_empty() {
        return Err(TEXT_SYNTAX);
    }
    Ok(signed(value))
}

/// The hexadecimal number at the start of a text (`0x1.8p-3`) in decimal digits with an exponent, and what
/// follows.
fn hexadecimal(text: &str) -> Option<(String, &str)> {
    // Digits beyond these only decide how a half is rounded.
    const DIGITS_MAX: usize = 64;
    let mut rest = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"))?;
    let (mut mantissa, mut count, mut point, mut exponent) = (BigInt::ZERO, 0, false, 0_i64);
    let mut any = false;
    loop {
        let letter = rest.chars().next().unwrap_or_default();
        if let Some(digit) = letter.to_digit(16) {
            any = true;
            exponent -= if point { 4 } else { 0 };
            if count < DIGITS_MAX {
                mantissa = mantissa * 16 + digit;
                count += usize::from(mantissa != BigInt::ZERO);
            } else {
                exponent += 4;
                // An odd last digit is beyond a half.
                mantissa |= BigInt::from(u8::from(digit > 0));
            }
        } else if letter == '.' && !point {
            point = true;
        } else {
            break;
        }
        rest = rest.get(1..)?;
    }
    if !any {
        return None;
    }
    if let Some(after) = rest.strip_prefix(['p', 'P']) {
        let unsigned = after.strip_prefix(['+', '-']).unwrap_or(after);
        let length = unsigned.bytes().take_while(u8::is_ascii_digit).count();
        let (digits, behind) = unsigned.split_at(length);
        if length > 0 {
            let size = digits.parse::<i64>().map_or(LARGE, |size| size.min(LARGE));
            exponent += if after.starts_with('-') { -size } else { size };
            rest = behind;
        }
    }
    // With a larger exponent, every number is infinite or zero.
    let exponent = i32::try_from(exponent.clamp(-LARGE, LARGE)).ok()?;
    let size = exponent.unsigned_abs();
    Some((
        if exponent < 0 {
            format!("{}e-{size}", mantissa * BigInt::from(5).pow(size))
        } else {
            (mantissa << size).to_string()
        },
        rest,
    ))
}

/// An exponent of two beyond those of all numbers, with room for the digits.
const LARGE: i64 = 2000;

/// Length of the decimal number at the start of a text.
fn numeral(text: &str) -> usize {
    let digits = |from: usize| {
        let rest = text.as_bytes().get(from..).unwrap_or_default();
        from + rest.iter().take_while(|byte| byte.is_ascii_digit()).count()
    };
    let at = |position: usize| text.as_bytes().get(position).copied();
    let mut end = digits(0);
    if at(end) == Some(b'.') {
        end = digits(end + 1);
    }
    if let Some(b'e' | b'E') = at(end) {
        let sign = usize::from(matches!(at(end + 1), Some(b'+' | b'-')));
        let exponent = digits(end + 1 + sign);
        if exponent > end + 1 + sign {
            end = exponent;
        }
    }
    end
}

/// Converts to `real`; overflow and underflow are errors.
#[expect(clippy::cast_possible_truncation, reason = "rounding is intended; the range is checked")]
pub(super) fn to_single(value: f64) -> Computed<f64> {
    let single = f64::from(value as f32);
    if single.is_infinite() && !value.is_infinite() {
        return Err(FLOAT_OVERFLOW);
    }
    if single == 0.0 && value != 0.0 {
        return Err(FLOAT_UNDERFLOW);
    }
    Ok(single)
}

/// Checks a result for overflow and underflow, as the server's float.h does.
pub(super) fn checked(result: f64, infinite_operand: bool, zero_is_right: bool) -> Computed<f64> {
    if result.is_infinite() && !infinite_operand {
        return Err(FLOAT_OVERFLOW);
    }
    if result == 0.0 && !zero_is_right {
        return Err(FLOAT_UNDERFLOW);
    }
    Ok(result)
}

/// Appends the shortest text that reads back as the same value.
pub(super) fn write(out: &mut String, value: f64, single: bool) {
    if value.is_nan() {
        return out.push_str("NaN");
    }
    if value.is_infinite() {
        return out.push_str(if value < 0.0 { "-Infinity" } else { "Infinity" });
    }
    if value.is_sign_negative() {
        out.push('-');
    }
    let value = value.abs();
    if value == 0.0 {
        return out.push('0');
    }
    let (digits, exponent) = shortest(value, single);
    let fixed_below = if single { 6 } else { 15 };
    if (-4..fixed_below).contains(&exponent) {
        write_fixed(out, &digits, exponent);
    } else {
        let (first, rest) = digits.split_at(1);
        out.push_str(first);
        if !rest.is_empty() {
            out.push('.');
            out.push_str(rest);
        }
        let sign = if exponent < 0 { '-' } else { '+' };
        super::units::write(out, format_args!("e{sign}{:02}", exponent.unsigned_abs()));
    }
}

fn write_fixed(out: &mut String, digits: &str, exponent: i32) {
    let whole = exponent + 1;
    if whole <= 0 {
        out.push_str("0.");
        out.extend(std::iter::repeat_n('0', whole.unsigned_abs() as usize));
        return out.push_str(digits);
    }
    let whole = whole.unsigned_abs() as usize;
    if digits.len() <= whole {
        out.push_str(digits);
        out.extend(std::iter::repeat_n('0', whole - digits.len()));
    } else {
        let (before, after) = digits.split_at(whole);
        out.push_str(before);
        out.push('.');
        out.push_str(after);
    }
}

/// The shortest digits, without a point, and the power of ten of the first digit.
#[expect(clippy::cast_possible_truncation, reason = "a real is an f32")]
fn shortest(value: f64, single: bool) -> (String, i32) {
    let text = if single { format!("{:e}", value as f32) } else { format!("{value:e}") };
    let places = split(&text).0.len() - 1;
    // Of two equally near texts of this length, the one with the even digit.
    let even = if single { format!("{:.places$e}", value as f32) } else { format!("{value:.places$e}") };
    let text = if parse(&even, single) == Ok(value) { even } else { text };
    let (digits, exponent) = split(&text);
    if !on_a_bound(value, single, &digits, exponent) {
        return (digits, exponent);
    }
    // PostgreSQL writes no text exactly halfway between two values, because readers round it differently.
    let more = digits.len();
    for places in more..20 {
        let text = if single { format!("{:.places$e}", value as f32) } else { format!("{value:.places$e}") };
        let (longer, exponent) = split(&text);
        if !on_a_bound(value, single, &longer, exponent) {
            return (longer.trim_end_matches('0').to_owned(), exponent);
        }
    }
    (digits, exponent)
}

fn split(text: &str) -> (String, i32) {
    let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
    (mantissa.replace('.', ""), exponent.parse().unwrap_or_default())
}

/// Whether the decimal is exactly halfway between the value and a neighbour.
#[expect(clippy::cast_possible_truncation, reason = "a real is an f32")]
fn on_a_bound(value: f64, single: bool, digits: &str, exponent: i32) -> bool {
    let (mantissa, power) = if single {
        let bits = (value as f32).to_bits();
        let (raw, field) = (u64::from(bits & 0x7F_FFFF), (bits >> 23).cast_signed() & 0xFF);
        if field == 0 { (raw, -149) } else { (raw | 0x80_0000, field - 150) }
    } else {
        let bits = value.to_bits();
        let field = i32::try_from(bits >> 52 & 0x7FF).unwrap_or_default();
        let raw = bits & 0xF_FFFF_FFFF_FFFF;
        if field == 0 { (raw, -1074) } else { (raw | 1 << 52, field - 1075) }
    };
    if mantissa % 2 == 1 {
        return false; // A reader would round the middle to the even neighbour: the shortest text is not there.
    }
    let lowest = mantissa == if single { 1 << 23 } else { 1 << 52 };
    // |decimal - mantissa·2^power| = 2^power / 2 (or a quarter of it below a power of two), all times 4·10^k·2^j.
    let scale = exponent - i32::try_from(digits.len()).unwrap_or_default() + 1;
    let Ok(decimal) = digits.parse::<BigInt>() else { return false };
    let tens = BigInt::from(10).pow(scale.unsigned_abs());
    let twos = BigInt::from(2).pow(power.unsigned_abs());
    let (mut left, mut right, mut unit) = (decimal * 4, BigInt::from(mantissa) * 4, BigInt::from(1));
    if scale >= 0 {
        left *= &tens;
    } else {
        right *= &tens;
        unit *= &tens;
    }
    if power >= 0 {
        right *= &twos;
        unit *= &twos;
    } else {
        left *= &twos;
    }
    let distance: BigInt = left - right;
    let below = lowest && distance.sign() == num_bigint::Sign::Minus;
    let distance = distance.magnitude().clone();
    let half: BigInt = &unit * 2;
    distance == *half.magnitude() || below && distance == *unit.magnitude()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values are those of PostgreSQL 14 to 18.
    #[test]
    fn hexadecimal_floats_are_read() {
        for (text, single, expected) in [
            ("0x1p3", false, Ok(8.0)),
            ("0X1P+3", false, Ok(8.0)),
            ("-0x.8p1", false, Ok(-1.0)),
            ("0x1F", false, Ok(31.0)),
            ("0x1.fffffffffffff8p0", false, Ok(2.0)),
            ("0x1.fffffffffffff7p0", false, Ok(1.999_999_999_999_999_8)),
            ("0x1.000001p0", true, Ok(1.0)),
            ("0x1.000003p0", true, Ok(f64::from(1.000_000_2_f32))),
            ("0x1.8p-1074", false, Ok(1e-323)),
            ("0x0p99999", false, Ok(0.0)),
            ("0x1p-1075", false, Err(FLOAT_RANGE)),
            ("0x1p99999999999999999999", false, Err(FLOAT_RANGE)),
            ("0x1p", false, Err(TEXT_SYNTAX)),
            ("0x.p1", false, Err(TEXT_SYNTAX)),
            ("0x1g", false, Err(TEXT_SYNTAX)),
        ] {
            assert_eq!(parse(text, single), expected, "{text}");
        }
    }

    #[test]
    fn float_output_matches_postgres() {
        for (value, single, expected) in [
            (0.1, false, "0.1"),
            (1e15, false, "1e+15"),
            (123_456_789_012_345.0, false, "123456789012345"),
            (0.0001, false, "0.0001"),
            (0.00001, false, "1e-05"),
            (-1.5e300, false, "-1.5e+300"),
            (1e23, false, "9.999999999999999e+22"),
            (5e-324, false, "5e-324"),
            (f64::from(0.1_f32), true, "0.1"),
            (1_000_000.0, true, "1e+06"),
            (3_355_443.25, true, "3.3554432e+06"),
            (2.0_f64.powi(87), true, "1.5474251e+26"),
            (-0.0, false, "-0"),
        ] {
            let mut out = String::new();
            write(&mut out, value, single);
            assert_eq!(out, expected);
        }
    }
}
