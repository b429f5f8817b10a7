//! Arithmetic in 64 bits, which is enough for most numbers, without allocation.
//!
//! Errors and inexact results are not represented: a function then returns `None`, and the caller uses
//! [`Numeric`](super::number::Numeric).

use super::digits;
use super::scale::{SCALE_MAX, Weight, division_scale};

/// `size` · 10^-`scale`: an integer, or a numeric with its scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Short {
    pub(super) size: i64,
    pub(super) scale: u32,
}

/// 10^`exponent`; `None` on overflow.
fn power(exponent: u32) -> Option<i64> {
    i64::try_from(digits::power(exponent)?).ok()
}

impl Short {
    pub(super) const fn whole(size: i64) -> Self {
        Self { size, scale: 0 }
    }

    /// Reads digits with an optional sign and decimal point.
    pub(super) fn read(text: &[u8]) -> Option<Self> {
        const LONGEST: usize = 18;
        let (negative, unsigned) = match text {
            [b'-', unsigned @ ..] => (true, unsigned),
            unsigned => (false, unsigned),
        };
        if unsigned.len() > LONGEST {
            return None;
        }
        let (mut size, mut count, mut point) = (0_i64, 0_u32, None);
        for &byte in unsigned {
            match byte.wrapping_sub(b'0') {
                digit @ 0..10 => {
                    size = size * 10 + i64::from(digit);
                    count += 1;
                }
                _ if byte == b'.' && point.is_none() => point = Some(count),
                _ => return None,
            }
        }
        let scale = point.map_or(0, |point| count - point);
        (count > 0).then_some(Self { size: if negative { -size } else { size }, scale })
    }

    /// Appends the value as PostgreSQL's output function writes it, which is valid JSON.
    pub(super) fn write(self, out: &mut Vec<u8>) {
        if self.size < 0 {
            out.push(b'-');
        }
        let mut buffer = itoa::Buffer::new();
        let digits = buffer.format(self.size.unsigned_abs()).as_bytes();
        let scale = self.scale as usize;
        if scale == 0 {
            out.extend_from_slice(digits);
            return;
        }
        let (whole, fraction) = digits.split_at(digits.len().saturating_sub(scale));
        out.extend_from_slice(if whole.is_empty() { b"0" } else { whole });
        out.push(b'.');
        out.resize(out.len() + scale - fraction.len(), b'0');
        out.extend_from_slice(fraction);
    }

    /// The digits at a scale that is not smaller than its own.
    fn at(self, scale: u32) -> Option<i64> {
        self.size.checked_mul(power(scale.checked_sub(self.scale)?)?)
    }

    pub(super) fn add(self, other: Self) -> Option<Self> {
        let scale = self.scale.max(other.scale);
        Some(Self { size: self.at(scale)?.checked_add(other.at(scale)?)?, scale })
    }

    pub(super) fn times(self, by: Self) -> Option<Self> {
        let scale = self.scale + by.scale;
        // Half of the limit: the server does not round yet.
        (scale < SCALE_MAX / 2).then_some(Self { size: self.size.checked_mul(by.size)?, scale })
    }

    pub(super) fn divided(self, by: Self) -> Option<Self> {
        let scale = division_scale((self.weight()?, self.scale), (by.weight()?, by.scale));
        let dividend = self.at(scale + by.scale)?;
        Some(Self { size: quotient(dividend, by.size)?, scale })
    }

    pub(super) fn rounded(self, places: i64) -> Option<Self> {
        let scale = u32::try_from(places).ok()?;
        let size = match self.scale.checked_sub(scale) {
            Some(cut) => quotient(self.size, power(cut)?)?,
            None => self.at(scale)?,
        };
        Some(Self { size, scale })
    }

    /// The weight, as defined by [`Weight`].
    fn weight(self) -> Option<Weight> {
        let size = self.size.unsigned_abs();
        let Some(log) = size.checked_ilog10() else { return Some(Weight::ZERO) };
        let exponent = i64::from(log) - i64::from(self.scale);
        let more = i64::from(log) - exponent.rem_euclid(4);
        let shift = power(u32::try_from(more.unsigned_abs()).ok()?)?.unsigned_abs();
        let first = if more < 0 { size * shift } else { size / shift };
        Some(Weight { exponent: exponent.div_euclid(4), first: u32::try_from(first).ok()? })
    }
}

/// The quotient rounded to an integer, halves away from zero; `None` for a zero divisor.
fn quotient(a: i64, b: i64) -> Option<i64> {
    let (quotient, rest) = (a.checked_div(b)?, a.checked_rem(b)?);
    let away = rest.unsigned_abs() >= b.unsigned_abs() - rest.unsigned_abs();
    let one = if (a < 0) == (b < 0) { 1 } else { -1 };
    Some(if away { quotient + one } else { quotient })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expression::number::Numeric;

    fn text(short: Short) -> String {
        let mut out = Vec::new();
        short.write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn decimal64_equals_numeric() {
        let sizes =
            [0, 1, 2, 5, 7, 9, 10, 15, 96, 100, 9_999, 10_000, 100_123, 999_999_999_999_999_999, i64::MAX];
        let all = sizes.into_iter().flat_map(|size| [size, -size]).chain([i64::MIN]);
        let shorts: Vec<Short> = all
            .flat_map(|size| [0, 1, 2, 3, 4, 5, 9, 17, 18, 40].map(|scale| Short { size, scale }))
            .collect();
        let mut computed = [0; 5];
        for &a in &shorts {
            let number = Numeric::from(a);
            assert_eq!((text(a), number.short()), (number.to_string(), Some(a)));
            for places in -2..24 {
                if let Some(rounded) = a.rounded(places) {
                    computed[0] += 1;
                    assert_eq!(
                        text(rounded),
                        number.rounded(places, true).unwrap().to_string(),
                        "{a:?} {places}"
                    );
                }
            }
            for &b in &shorts {
                let other = Numeric::from(b);
                let results = [
                    (a.add(b), number.add(&other)),
                    (a.times(b), number.multiply(&other)),
                    (a.divided(b), number.divide(&other)),
                ];
                for (nth, (short, expected)) in results.into_iter().enumerate() {
                    if let Some(short) = short {
                        computed[nth + 1] += 1;
                        assert_eq!(
                            text(short),
                            expected.unwrap().to_string(),
                            "{a:?} {b:?}, operation {nth}"
                        );
                    }
                }
            }
            computed[4] += 1;
        }
        assert!(computed.iter().all(|&count| count > 300), "too few had a result: {computed:?}");
    }
}
