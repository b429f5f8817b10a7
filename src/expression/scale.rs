//! Scales of numeric: PostgreSQL's limits, and its choice for a quotient.

/// Largest number of digits after the decimal point (`NUMERIC_DSCALE_MAX`).
pub(super) const SCALE_MAX: u32 = 16_383;

/// Largest scale of a quotient (`NUMERIC_MAX_DISPLAY_SCALE`).
pub(super) const DIVISION_SCALE_MAX: i64 = 1000;

/// Exponent in base 10,000 and the first digit in that base, as PostgreSQL stores numbers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weight {
    pub(super) exponent: i64,
    pub(super) first: u32,
}

impl Weight {
    pub(super) const ZERO: Self = Self { exponent: 0, first: 0 };
}

/// The scale of a quotient: `select_div_scale` of the server's numeric.c, at least sixteen significant
/// digits.
pub(super) fn division_scale((weight, scale): (Weight, u32), (by, by_scale): (Weight, u32)) -> u32 {
    let quotient_weight = weight.exponent - by.exponent - i64::from(weight.first <= by.first);
    let wanted = (16 - quotient_weight * 4).max(i64::from(scale)).max(i64::from(by_scale));
    u32::try_from(wanted.clamp(0, DIVISION_SCALE_MAX)).unwrap_or_default()
}
