//! Units of time, in microseconds, and how parts of them are written.

use std::fmt::Write as _;

/// A second.
pub(super) const SECOND: i64 = 1_000_000;
/// A day of 24 hours.
pub(super) const DAY: i64 = 86_400 * SECOND;

/// Writes the fraction: `.5` for 500,000 microseconds, nothing for zero.
pub(super) fn write_fraction(out: &mut String, micros: i64) {
    if micros != 0 {
        write(out, format_args!(".{micros:06}"));
        out.truncate(out.trim_end_matches('0').len());
    }
}

/// Formats into a string, which cannot fail.
pub(super) fn write(out: &mut String, text: std::fmt::Arguments<'_>) {
    match out.write_fmt(text) {
        Ok(()) | Err(std::fmt::Error) => {}
    }
}
