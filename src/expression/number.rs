//! `numeric`: exact decimals with PostgreSQL's scales. Up to 38 digits are computed in registers, larger ones
//! as big integers.

use std::cmp::Ordering;

use super::digits::Digits;
use super::fault::{Computed, DIVISION_BY_ZERO, NOT_FINITE, NUMERIC_FIELD, NUMERIC_FORMAT};
use super::scale::{DIVISION_SCALE_MAX, SCALE_MAX, Weight, division_scale};
use super::short::Short;

/// Largest number of digits before the decimal point.
pub(super) const WHOLE_MAX: u64 = 131_072;

/// One more digit than before the decimal point: rounding may still find a half there.
const PLACES_MIN: i64 = -WHOLE_MAX.cast_signed() - 1;

/// A value of type numeric.
#[derive(Clone, Debug)]
pub(super) enum Numeric {
    NaN,
    Infinity { negative: bool },
    Finite(Decimal),
}

/// `digits` · 10^-`scale`.
#[derive(Clone, Debug)]
pub(super) struct Decimal {
    pub(super) digits: Digits,
    pub(super) scale: u32,
}

impl Decimal {
    const fn small(digits: i128, scale: u32) -> Self {
        Self { digits: Digits::Small(digits), scale }
    }

    pub(super) fn checked(self) -> Computed<Numeric> {
        if let Digits::Large(_) = self.digits
            && self.digits.count().saturating_sub(u64::from(self.scale)) > WHOLE_MAX
        {
            return Err(NUMERIC_FORMAT);
        }
        Ok(Numeric::Finite(self))
    }

    fn aligned(&self, other: &Self) -> (Digits, Digits, u32) {
        let scale = self.scale.max(other.scale);
        (self.digits.shifted(scale - self.scale), other.digits.shifted(scale - other.scale), scale)
    }

    fn add(&self, other: &Self) -> Computed<Numeric> {
        let (a, b, scale) = self.aligned(other);
        let digits = match (&a, &b) {
            (Digits::Small(a), Digits::Small(b)) if a.checked_add(*b).is_some() => Digits::Small(a + b),
            _ => Digits::of(a.large() + b.large()),
        };
        Self { digits, scale }.checked()
    }

    fn negated(&self) -> Self {
        let digits = match &self.digits {
            Digits::Small(small) if *small != i128::MIN => Digits::Small(-small),
            other => Digits::of(-other.large()),
        };
        Self { digits, scale: self.scale }
    }

    fn multiply(&self, other: &Self) -> Computed<Numeric> {
        let digits = self.digits.times(&other.digits);
        Self { digits, scale: self.scale + other.scale }.rescaled_to_max().checked()
    }

    fn rescaled_to_max(self) -> Self {
        if self.scale > SCALE_MAX { self.rounded(i64::from(SCALE_MAX), true) } else { self }
    }

    fn weight(&self) -> Weight {
        if self.digits.is_zero() {
            return Weight::ZERO;
        }
        let count = self.digits.count().cast_signed();
        let exponent = count - 1 - i64::from(self.scale);
        let wanted = exponent.rem_euclid(4) + 1;
        let first = if count > wanted {
            let cut = Digits::power(u32::try_from(count - wanted).unwrap_or(u32::MAX));
            self.digits.divided(&cut, false)
        } else {
            self.digits.shifted(u32::try_from(wanted - count).unwrap_or_default())
        };
        let first = match first {
            Digits::Small(first) => u32::try_from(first.unsigned_abs()).unwrap_or_default(),
            Digits::Large(_) => 0,
        };
        Weight { exponent: exponent.div_euclid(4), first }
    }

    fn divide(&self, by: &Self) -> Computed<Numeric> {
        if by.digits.is_zero() {
            return Err(DIVISION_BY_ZERO);
        }
        let scale = division_scale((self.weight(), self.scale), (by.weight(), by.scale));
        let exponent = i64::from(scale) + i64::from(by.scale) - i64::from(self.scale);
        let size = u32::try_from(exponent.unsigned_abs()).unwrap_or(u32::MAX);
        let digits = if exponent >= 0 {
            self.digits.shifted(size).divided(&by.digits, true)
        } else {
            // The scale of an operand above 1000 digits is truncated to 1000.
            self.digits.divided(&by.digits.shifted(size), true)
        };
        Self { digits, scale }.checked()
    }

    fn modulo(&self, by: &Self) -> Computed<Numeric> {
        if by.digits.is_zero() {
            return Err(DIVISION_BY_ZERO);
        }
        let (a, b, scale) = self.aligned(by);
        Ok(Numeric::Finite(Self { digits: a.rest(&b), scale }))
    }

    /// Rounded to `places` after the point; negative places are before it.
    fn rounded(&self, places: i64, round: bool) -> Self {
        let scale = u32::try_from(places.max(0)).unwrap_or_default();
        let cut = i64::from(self.scale) - places;
        let Ok(cut) = u32::try_from(cut) else {
            return Self { digits: self.digits.shifted(scale - self.scale), scale };
        };
        let digits = self.digits.divided(&Digits::power(cut), round);
        // Restore the digits before the point.
        let digits = digits.shifted(u32::try_from(-places.min(0)).unwrap_or_default());
        Self { digits, scale }
    }

    fn compare(&self, other: &Self) -> Ordering {
        if self.scale == other.scale {
            return self.digits.compare(&other.digits);
        }
        let (a, b, _) = self.aligned(other);
        a.compare(&b)
    }
}

impl From<Short> for Numeric {
    #[inline]
    fn from(Short { size, scale }: Short) -> Self {
        Self::scaled(size.into(), scale)
    }
}

impl Numeric {
    pub(super) const fn from_int(int: i64) -> Self {
        Self::Finite(Decimal::small(int as i128, 0))
    }

    /// `int` · 10^-`scale`.
    pub(super) const fn scaled(int: i128, scale: u32) -> Self {
        Self::Finite(Decimal::small(int, scale))
    }

    /// The value in 64 bits, if it fits.
    pub(super) fn short(&self) -> Option<Short> {
        match self {
            Self::Finite(Decimal { digits: Digits::Small(small), scale }) => {
                Some(Short { size: i64::try_from(*small).ok()?, scale: *scale })
            }
            _ => None,
        }
    }

    fn sign(&self) -> i8 {
        match self {
            Self::NaN => 0,
            Self::Infinity { negative } => {
                if *negative {
                    -1
                } else {
                    1
                }
            }
            Self::Finite(decimal) if decimal.digits.is_zero() => 0,
            Self::Finite(decimal) => {
                if decimal.digits.is_negative() {
                    -1
                } else {
                    1
                }
            }
        }
    }

    pub(super) fn signum(&self) -> Self {
        if matches!(self, Self::NaN) { Self::NaN } else { Self::from_int(i64::from(self.sign())) }
    }

    pub(super) fn negated(&self) -> Self {
        match self {
            Self::NaN => Self::NaN,
            Self::Infinity { negative } => Self::Infinity { negative: !negative },
            Self::Finite(decimal) => Self::Finite(decimal.negated()),
        }
    }

    pub(super) fn abs(&self) -> Self {
        if self.sign() < 0 { self.negated() } else { self.clone() }
    }

    pub(super) fn add(&self, other: &Self) -> Computed<Self> {
        match (self, other) {
            (Self::Finite(a), Self::Finite(b)) => a.add(b),
            (Self::NaN, _) | (_, Self::NaN) => Ok(Self::NaN),
            (Self::Infinity { negative: a }, Self::Infinity { negative: b }) if a != b => Ok(Self::NaN),
            (Self::Infinity { negative }, _) | (_, Self::Infinity { negative }) => {
                Ok(Self::Infinity { negative: *negative })
            }
        }
    }

    pub(super) fn multiply(&self, other: &Self) -> Computed<Self> {
        match (self, other) {
            (Self::Finite(a), Self::Finite(b)) => a.multiply(b),
            (Self::NaN, _) | (_, Self::NaN) => Ok(Self::NaN),
            _ if self.sign() == 0 || other.sign() == 0 => Ok(Self::NaN),
            _ => Ok(Self::Infinity { negative: self.sign() != other.sign() }),
        }
    }

    pub(super) fn divide(&self, by: &Self) -> Computed<Self> {
        match (self, by) {
            (Self::Finite(a), Self::Finite(b)) => a.divide(b),
            (Self::NaN, _) | (_, Self::NaN) | (Self::Infinity { .. }, Self::Infinity { .. }) => Ok(Self::NaN),
            (Self::Infinity { .. }, _) if by.sign() == 0 => Err(DIVISION_BY_ZERO),
            (Self::Infinity { .. }, _) => Ok(Self::Infinity { negative: self.sign() != by.sign() }),
            (Self::Finite(_), Self::Infinity { .. }) => Ok(Self::from_int(0)),
        }
    }

    /// The quotient without its fraction.
    pub(super) fn quotient(&self, by: &Self) -> Computed<Self> {
        match (self, by) {
            (Self::Finite(a), Self::Finite(b)) if !b.digits.is_zero() => {
                let (a, b, _) = a.aligned(b);
                Decimal { digits: a.divided(&b, false), scale: 0 }.checked()
            }
            _ => self.divide(by),
        }
    }

    /// The square root; `None` for a negative number.
    pub(super) fn root(&self) -> Computed<Option<Self>> {
        let Self::Finite(decimal) = self else {
            return Ok((self.sign() >= 0).then(|| self.clone()));
        };
        if self.sign() < 0 {
            return Ok(None);
        }
        // `numeric_sqrt`: at least sixteen significant digits, and no fewer places than the number has.
        let weight = decimal.weight().exponent;
        let before = if weight >= 0 { weight * 2 + 1 } else { 1 - (1 - weight * 4) / 2 };
        let scale = (16 - before).max(decimal.scale.into()).clamp(0, DIVISION_SCALE_MAX);
        // One place more, or all that the number has: a root cut there is rounded as the exact one.
        let exact = u32::try_from(scale + 1).unwrap_or_default().max(decimal.scale.div_ceil(2));
        let root = decimal.digits.shifted(2 * exact - decimal.scale).root();
        Decimal { digits: root, scale: exact }.rounded(scale, true).checked().map(Some)
    }

    pub(super) fn modulo(&self, by: &Self) -> Computed<Self> {
        match (self, by) {
            (Self::Finite(a), Self::Finite(b)) => a.modulo(b),
            (Self::NaN, _) | (_, Self::NaN) => Ok(Self::NaN),
            (Self::Infinity { .. }, _) if by.sign() == 0 => Err(DIVISION_BY_ZERO),
            (Self::Infinity { .. }, _) => Ok(Self::NaN),
            (Self::Finite(a), Self::Infinity { .. }) => Ok(Self::Finite(a.clone())),
        }
    }

    /// To `places` after the point: halves away from zero, or truncated.
    pub(super) fn rounded(&self, places: i64, round: bool) -> Computed<Self> {
        match self {
            Self::Finite(decimal) => {
                decimal.rounded(places.clamp(PLACES_MIN, SCALE_MAX.into()), round).checked()
            }
            other => Ok(other.clone()),
        }
    }

    /// To the next integer above or below.
    pub(super) fn whole(&self, up: bool) -> Computed<Self> {
        let cut = self.rounded(0, false)?;
        match (cut.compare(self), up) {
            (Ordering::Less, true) => cut.add(&Self::from_int(1)),
            (Ordering::Greater, false) => cut.add(&Self::from_int(-1)),
            _ => Ok(cut),
        }
    }

    /// Cast to `numeric(precision, scale)`.
    pub(super) fn fitted(&self, precision: i64, scale: i64) -> Computed<Self> {
        let Self::Finite(decimal) = self else {
            return if matches!(self, Self::NaN) { Ok(Self::NaN) } else { Err(NUMERIC_FIELD) };
        };
        let rounded = decimal.rounded(scale, true);
        let whole = rounded.digits.count().cast_signed() - i64::from(rounded.scale);
        if !rounded.digits.is_zero() && whole > precision - scale {
            return Err(NUMERIC_FIELD);
        }
        Ok(Self::Finite(rounded))
    }

    /// Rounded to an integer; `None` outside bigint.
    pub(super) fn to_int(&self) -> Computed<Option<i64>> {
        let Self::Finite(decimal) = self else { return Err(NOT_FINITE) };
        Ok(match decimal.rounded(0, true).digits {
            Digits::Small(small) => i64::try_from(small).ok(),
            Digits::Large(_) => None,
        })
    }

    /// NaN equals itself and is greater than any other value.
    pub(super) fn compare(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Finite(a), Self::Finite(b)) => a.compare(b),
            (Self::NaN, Self::NaN) => Ordering::Equal,
            (Self::NaN, _) => Ordering::Greater,
            (_, Self::NaN) => Ordering::Less,
            (Self::Infinity { .. }, Self::Infinity { .. }) => self.sign().cmp(&other.sign()),
            (Self::Infinity { .. }, _) => self.sign().cmp(&0),
            (_, Self::Infinity { .. }) => 0.cmp(&other.sign()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(text: &str) -> Numeric {
        Numeric::parse(text).unwrap()
    }

    #[test]
    fn division_scale_matches_postgres() {
        for (a, b, expected) in [
            ("12.5", "1000", "0.01250000000000000000"),
            ("1", "3", "0.33333333333333333333"),
            ("10", "4", "2.5000000000000000"),
            ("100000000", "3", "33333333.333333333333"),
            ("0", "7", "0.00000000000000000000"),
            ("-7", "2", "-3.5000000000000000"),
        ] {
            assert_eq!(number(a).divide(&number(b)).unwrap().to_string(), expected, "{a} / {b}");
        }
        assert_eq!(number("1").divide(&number("0.00")).err(), Some(DIVISION_BY_ZERO));
    }

    #[test]
    fn large_numbers_are_exact() {
        let large = number("123456789012345678901234567890123456789012345678.5");
        let square = large.multiply(&large).unwrap();
        assert_eq!(square.divide(&large).unwrap().compare(&large), Ordering::Equal);
        assert_eq!(large.add(&large.negated()).unwrap().to_string(), "0.0");
        assert_eq!(
            number("1e30").multiply(&number("1e30")).unwrap().to_string(),
            format!("1{}", "0".repeat(60))
        );
    }

    #[test]
    fn rounding_is_half_away_from_zero_at_any_scale() {
        for (text, places, expected) in [
            ("2.5", 0, "3"),
            ("-2.5", 0, "-3"),
            ("1.005", 2, "1.01"),
            ("155", -1, "160"),
            ("1.5", 3, "1.500"),
            ("44", -2, "0"),
        ] {
            assert_eq!(number(text).rounded(places, true).unwrap().to_string(), expected, "{text} {places}");
        }
    }
}
