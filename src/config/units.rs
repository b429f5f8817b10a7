//! Sizes and durations: a number and a unit.

use std::fmt;
use std::time::Duration;

use crate::failure::Problem;

const SIZES: [(&str, u64); 8] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("B", 1),
];

const DURATIONS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1_000), ("min", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

fn number_and_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    let number: u64 = number.parse().ok()?;
    let (_, factor) = units.iter().find(|(name, _)| *name == unit.trim())?;
    number.checked_mul(*factor)
}

/// Parses a size such as `10 GiB`, `64MiB`, `512 B`, in bytes.
pub fn size(text: &str) -> Result<u64, Problem> {
    number_and_unit(text, &SIZES).ok_or_else(|| {
        Problem::new(format!("{text:?} is not a size"))
            .with_hint("Write a whole number and a unit, such as \"10 GiB\" or \"512 MiB\".")
    })
}

/// Parses a duration such as `5s`, `500ms`, `2 min`.
pub fn duration(text: &str) -> Result<Duration, Problem> {
    number_and_unit(text, &DURATIONS).map(Duration::from_millis).ok_or_else(|| {
        Problem::new(format!("{text:?} is not a duration"))
            .with_hint("Write a whole number and a unit, such as \"5s\" or \"500ms\".")
    })
}

/// Prints a size in the largest binary unit that divides it.
#[derive(Clone, Copy, Debug)]
pub struct Size(pub u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, factor) in [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)] {
            if self.0 >= factor && self.0.is_multiple_of(factor) {
                return write!(f, "{} {unit}", self.0 / factor);
            }
        }
        write!(f, "{} B", self.0)
    }
}

/// Prints an amount of bytes, rounded down to one decimal: `1.4 GiB`.
#[derive(Clone, Copy, Debug)]
pub struct ByteAmount(pub u64);

impl fmt::Display for ByteAmount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, factor) in [("TiB", 1_u64 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)] {
            if self.0 >= factor {
                let tenths = self.0 % factor * 10 / factor;
                return write!(f, "{}.{tenths} {unit}", self.0 / factor);
            }
        }
        write!(f, "{} B", self.0)
    }
}

/// Prints a duration in the largest unit that divides it.
#[derive(Clone, Copy, Debug)]
pub struct Span(pub Duration);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0.as_millis();
        for (unit, factor) in [("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1_000)] {
            if ms >= factor && ms.is_multiple_of(factor) {
                return write!(f, "{}{unit}", ms / factor);
            }
        }
        if ms == 0 { f.write_str("0s") } else { write!(f, "{ms}ms") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_requires_unit_and_round_trips() {
        for (text, bytes) in
            [("10 GiB", 10 << 30), ("64MiB", 64 << 20), ("1 GB", 1_000_000_000), ("7 B", 7), ("0 B", 0)]
        {
            assert_eq!(size(text), Ok(bytes));
            assert_eq!(size(&Size(bytes).to_string()), Ok(bytes));
        }
        for text in ["", "10", "GiB", "-1 MiB", "1.5 GiB", "1 gib", "99999999999 TiB"] {
            assert!(size(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn amount_is_rounded_down_to_one_decimal() {
        for (bytes, text) in [
            (0, "0 B"),
            (1_023, "1023 B"),
            (1_024, "1.0 KiB"),
            (1_600, "1.5 KiB"),
            ((10 << 30) - 1, "9.9 GiB"),
            (u64::MAX, "16777215.9 TiB"),
        ] {
            assert_eq!(ByteAmount(bytes).to_string(), text);
        }
    }

    #[test]
    fn duration_requires_unit_and_round_trips() {
        for (text, ms) in [("5s", 5_000), ("0s", 0), ("500ms", 500), ("2 min", 120_000), ("1d", 86_400_000)] {
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)));
            assert_eq!(duration(&Span(Duration::from_millis(ms)).to_string()), Ok(Duration::from_millis(ms)));
        }
        for text in ["", "5", "s", "-5s", "1.5s", "5 seconds"] {
            assert!(duration(text).is_err(), "{text:?}");
        }
    }
}
