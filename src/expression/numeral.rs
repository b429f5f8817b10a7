//! Reads and writes the text form of `numeric`.

use std::fmt;

use num_bigint::BigInt;

use super::digits::Digits;
use super::fault::{Computed, NUMERIC_FORMAT, TEXT_SYNTAX};
use super::number::{Decimal, Numeric, WHOLE_MAX};
use super::scale::SCALE_MAX;
use super::short::Short;

impl Numeric {
    /// Reads what PostgreSQL's input function reads: surrounding whitespace, `.5`, `5.`, `1e3`, NaN and
    /// infinities.
    pub(super) fn parse(text: &str) -> Computed<Self> {
        if let Some(short) = Short::read(text.as_bytes()) {
            return Ok(short.into());
        }
        let text = text.trim_matches(super::text::is_space);
        let (negative, unsigned) = match text.as_bytes().first() {
            Some(b'-') => (true, text.get(1..).unwrap_or_default()),
            Some(b'+') => (false, text.get(1..).unwrap_or_default()),
            _ => (false, text),
        };
        if text.eq_ignore_ascii_case("nan") {
            return Ok(Self::NaN);
        }
        if unsigned.eq_ignore_ascii_case("infinity") || unsigned.eq_ignore_ascii_case("inf") {
            return Ok(Self::Infinity { negative });
        }
        let (mantissa, exponent) = match unsigned.find(['e', 'E']) {
            Some(at) => {
                let (mantissa, exponent) = unsigned.split_at(at);
                (mantissa, exponent_of(exponent.get(1..).unwrap_or_default())?)
            }
            None => (unsigned, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let is_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if (whole.is_empty() && fraction.is_empty()) || !is_digits(whole) || !is_digits(fraction) {
            return Err(TEXT_SYNTAX);
        }
        let whole = whole.trim_start_matches('0');
        let scale = i64::try_from(fraction.len()).map_err(|_| NUMERIC_FORMAT)? - exponent;
        let before_point = i64::try_from(whole.len()).map_err(|_| NUMERIC_FORMAT)? + exponent;
        // Check the size first, because reading the digits takes quadratic time.
        if scale > i64::from(SCALE_MAX) || (-scale).max(before_point) > WHOLE_MAX.cast_signed() {
            return Err(NUMERIC_FORMAT);
        }
        let digits = digits_of(whole, fraction, negative)?;
        let size = u32::try_from(scale.unsigned_abs()).map_err(|_| NUMERIC_FORMAT)?;
        let decimal = if scale >= 0 {
            Decimal { digits, scale: size }
        } else {
            Decimal { digits: digits.shifted(size), scale: 0 }
        };
        decimal.checked()
    }
}

fn exponent_of(text: &str) -> Computed<i64> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if unsigned.is_empty() || !unsigned.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(TEXT_SYNTAX);
    }
    let size: i64 = unsigned.parse().map_err(|_| NUMERIC_FORMAT)?;
    Ok(if text.starts_with('-') { -size } else { size })
}

fn digits_of(whole: &str, fraction: &str, negative: bool) -> Computed<Digits> {
    if whole.len() + fraction.len() <= 38 {
        let digits = whole.bytes().chain(fraction.bytes());
        let size = digits.fold(0_i128, |size, byte| size * 10 + i128::from(byte - b'0'));
        return Ok(Digits::Small(if negative { -size } else { size }));
    }
    let digits = BigInt::parse_bytes(format!("{whole}{fraction}").as_bytes(), 10).ok_or(TEXT_SYNTAX)?;
    Ok(Digits::of(if negative { -digits } else { digits }))
}

impl Numeric {
    /// Appends the value as PostgreSQL's output function writes it.
    pub(super) fn write(&self, out: &mut String) {
        match self {
            Self::NaN => out.push_str("NaN"),
            Self::Infinity { negative } => out.push_str(if *negative { "-Infinity" } else { "Infinity" }),
            Self::Finite(decimal) => decimal.write(out),
        }
    }
}

impl fmt::Display for Numeric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        self.write(&mut text);
        f.write_str(&text)
    }
}

impl Decimal {
    fn write(&self, out: &mut String) {
        if self.digits.is_negative() {
            out.push('-');
        }
        match &self.digits {
            Digits::Small(small) => {
                let size = small.unsigned_abs();
                match u64::try_from(size) {
                    Ok(size) => self.write_digits(out, itoa::Buffer::new().format(size)),
                    Err(_) => self.write_digits(out, itoa::Buffer::new().format(size)),
                }
            }
            Digits::Large(large) => self.write_digits(out, &large.magnitude().to_string()),
        }
    }

    /// Writes the decimal point, with at least one digit before it.
    fn write_digits(&self, out: &mut String, digits: &str) {
        let scale = self.scale as usize;
        let (whole, fraction) = digits.split_at(digits.len().saturating_sub(scale));
        out.push_str(if whole.is_empty() { "0" } else { whole });
        if scale > 0 {
            out.push('.');
            out.extend(std::iter::repeat_n('0', scale - fraction.len()));
            out.push_str(fraction);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numeric_output_round_trips() {
        for (text, expected) in [
            ("0", Some("0")),
            ("-0.00", Some("0.00")),
            ("-0.05", Some("-0.05")),
            ("007.50", Some("7.50")),
            ("5.", Some("5")),
            (".5", Some("0.5")),
            ("-.000000000000005", Some("-0.000000000000005")),
            ("999999999999999999", Some("999999999999999999")),
            ("-9999999999999999999", Some("-9999999999999999999")),
            (
                "0.0000000000000000000000000000000000000001",
                Some("0.0000000000000000000000000000000000000001"),
            ),
            ("98765432109876543210.98765432109876543210", Some("98765432109876543210.98765432109876543210")),
            (
                "-1234567890123456789012345678901234567890.5",
                Some("-1234567890123456789012345678901234567890.5"),
            ),
            (" +1 ", Some("1")),
            ("", None),
            ("-", None),
            (".", None),
            ("1.2.3", None),
            ("1-", None),
            ("1:", None),
            ("00000000000000000000.5e20", Some("50000000000000000000")),
        ] {
            let printed = Numeric::parse(text).ok().map(|number| number.to_string());
            assert_eq!(printed.as_deref(), expected, "{text:?}");
        }
    }

    #[test]
    fn too_many_digits_are_refused_before_parsing() {
        let digits = "9".repeat(2 << 20);
        for text in [
            digits.clone(),
            format!("0.{digits}"),
            format!("{digits}.{digits}e-9"),
            format!("-{digits}e-20000000"),
        ] {
            assert_eq!(Numeric::parse(&text).err(), Some(NUMERIC_FORMAT));
        }
        assert!(Numeric::parse(&"9".repeat(131_072)).is_ok());
        assert_eq!(Numeric::parse(&"9".repeat(131_073)).err(), Some(NUMERIC_FORMAT));
        assert!(Numeric::parse(&format!("{}{}", "0".repeat(2 << 20), 7)).is_ok());
    }
}
