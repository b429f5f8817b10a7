//! Integers of any size, with decimal operations: the digits of a decimal number.

use std::cmp::Ordering;

use num_bigint::{BigInt, Sign};

/// An integer, stored in a register as long as it fits.
#[derive(Clone, Debug)]
pub(super) enum Digits {
    Small(i128),
    Large(Box<BigInt>),
}

/// The powers of ten that fit.
const POWERS: [i128; 39] = {
    let mut powers = [1; 39];
    let mut exponent = 1;
    #[expect(clippy::indexing_slicing, reason = "const evaluation checks the bounds")]
    while exponent < powers.len() {
        powers[exponent] = powers[exponent - 1] * 10;
        exponent += 1;
    }
    powers
};

/// 10^`exponent`, if it fits.
pub(super) fn power(exponent: u32) -> Option<i128> {
    POWERS.get(exponent as usize).copied()
}

/// Both numbers in 64 bits. Most numbers fit, and 64-bit division is one processor instruction.
fn halves(a: i128, b: i128) -> Option<(i64, i64)> {
    Some((i64::try_from(a).ok()?, i64::try_from(b).ok()?))
}

fn product(a: i128, b: i128) -> Option<i128> {
    match halves(a, b) {
        Some((a, b)) => Some(i128::from(a) * i128::from(b)),
        None => a.checked_mul(b),
    }
}

/// Quotient and remainder; `None` for a zero divisor and for overflow.
fn quotient(a: i128, b: i128) -> Option<(i128, i128)> {
    if let Some((a, b)) = halves(a, b)
        && let Some(quotient) = a.checked_div(b)
    {
        return Some((i128::from(quotient), i128::from(a.wrapping_sub(quotient.wrapping_mul(b)))));
    }
    let quotient = a.checked_div(b)?;
    Some((quotient, a.wrapping_sub(quotient.wrapping_mul(b))))
}

fn large_power(exponent: u32) -> BigInt {
    BigInt::from(10).pow(exponent)
}

impl Digits {
    pub(super) fn large(&self) -> BigInt {
        match self {
            Self::Small(small) => BigInt::from(*small),
            Self::Large(large) => (**large).clone(),
        }
    }

    pub(super) fn of(large: BigInt) -> Self {
        i128::try_from(&large).map_or_else(|_| Self::Large(Box::new(large)), Self::Small)
    }

    pub(super) fn is_zero(&self) -> bool {
        matches!(self, Self::Small(0))
    }

    pub(super) fn is_negative(&self) -> bool {
        match self {
            Self::Small(small) => *small < 0,
            Self::Large(large) => large.sign() == Sign::Minus,
        }
    }

    /// 10^`exponent`.
    pub(super) fn power(exponent: u32) -> Self {
        power(exponent).map_or_else(|| Self::of(large_power(exponent)), Self::Small)
    }

    /// Times 10^`exponent`.
    pub(super) fn shifted(&self, exponent: u32) -> Self {
        match self {
            _ if exponent == 0 => self.clone(),
            Self::Small(0) => Self::Small(0),
            Self::Small(small) => power(exponent)
                .and_then(|power| product(*small, power))
                .map_or_else(|| Self::of(self.large() * large_power(exponent)), Self::Small),
            Self::Large(large) => Self::of(&**large * large_power(exponent)),
        }
    }

    /// Divided by a nonzero divisor: halves away from zero, or truncated.
    pub(super) fn divided(&self, by: &Self, round: bool) -> Self {
        if let (Self::Small(a), Self::Small(b)) = (self, by)
            && let Some((quotient, rest)) = quotient(*a, *b)
        {
            let away = round && rest.unsigned_abs() >= b.unsigned_abs() - rest.unsigned_abs();
            let one = if (*a < 0) == (*b < 0) { 1 } else { -1 };
            return Self::Small(if away { quotient + one } else { quotient });
        }
        let (a, b) = (self.large(), by.large());
        let (quotient, rest) = (&a / &b, &a % &b);
        let away = round && rest.magnitude() * 2_u32 >= *b.magnitude();
        let one = if (a.sign() == Sign::Minus) == (b.sign() == Sign::Minus) { 1 } else { -1 };
        Self::of(if away { quotient + one } else { quotient })
    }

    /// The product.
    pub(super) fn times(&self, by: &Self) -> Self {
        let small = match (self, by) {
            (Self::Small(a), Self::Small(b)) => product(*a, *b),
            _ => None,
        };
        small.map_or_else(|| Self::of(self.large() * by.large()), Self::Small)
    }

    /// The square root without its fraction.
    pub(super) fn root(&self) -> Self {
        match self {
            Self::Small(small) => Self::Small(small.max(&0).isqrt()),
            Self::Large(large) => Self::of(large.sqrt()),
        }
    }

    pub(super) fn rest(&self, by: &Self) -> Self {
        match (self, by) {
            (Self::Small(a), Self::Small(b)) => Self::Small(a.checked_rem(*b).unwrap_or_default()),
            _ => Self::of(self.large() % by.large()),
        }
    }

    /// Number of decimal digits; 1 for zero.
    pub(super) fn count(&self) -> u64 {
        match self {
            Self::Small(small) => u64::from(small.unsigned_abs().checked_ilog10().unwrap_or(0)) + 1,
            Self::Large(large) => {
                // An estimate from below (log10(2) = 0.30103), corrected by at most two steps.
                let mut count = (large.bits().saturating_sub(1) * 30_102 / 100_000) + 1;
                while u32::try_from(count)
                    .is_ok_and(|digits| *large.magnitude() >= *large_power(digits).magnitude())
                {
                    count += 1;
                }
                count
            }
        }
    }

    pub(super) fn compare(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Small(a), Self::Small(b)) => a.cmp(b),
            _ => self.large().cmp(&other.large()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn register_and_big_integer_arithmetic_agree() {
        let powers = POWERS.iter().flat_map(|power| [power - 1, *power, power + 1]);
        let bounds = [i64::MIN.into(), i64::MAX.into(), i128::from(i64::MAX) + 1, i128::MAX, i128::MIN];
        let near = bounds.into_iter().chain([0, 2, 7, 15, 96]);
        let numbers: Vec<i128> = powers.chain(near).flat_map(|n| [n, n.checked_neg().unwrap_or(n)]).collect();
        for &a in &numbers {
            for exponent in [0, 1, 18, 19, 38, 39, 60] {
                let shifted = Digits::Small(a).shifted(exponent);
                assert_eq!(shifted.large(), BigInt::from(a) * large_power(exponent), "{a} by 10^{exponent}");
            }
            for &b in &numbers {
                let (one, other) = (Digits::Small(a), Digits::Small(b));
                assert_eq!(one.times(&other).large(), BigInt::from(a) * BigInt::from(b), "{a} * {b}");
                if b == 0 {
                    continue;
                }
                for round in [false, true] {
                    let large = |n: i128| Digits::Large(Box::new(BigInt::from(n)));
                    let expected = large(a).divided(&large(b), round).large();
                    assert_eq!(one.divided(&other, round).large(), expected, "{a} / {b}, rounded: {round}");
                }
            }
        }
    }
}
