//! Intervals: months, days and microseconds, stored separately as in PostgreSQL.

use std::cmp::Ordering;

use super::fault::{Computed, DATETIME_SYNTAX, INTERVAL_RANGE};
use super::units::{DAY, SECOND, write, write_fraction};

/// A value of type interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Interval {
    pub(super) months: i32,
    pub(super) days: i32,
    pub(super) micros: i64,
}

impl Interval {
    /// Parses `1 year 2 mons -3 days +04:05:06.7`, with the usual unit names.
    pub(super) fn parse(text: &str) -> Computed<Self> {
        let mut interval = Self::default();
        let mut words = text.split(super::text::is_space).filter(|word| !word.is_empty()).peekable();
        if words.peek().is_none() {
            return Err(DATETIME_SYNTAX);
        }
        let mut seen = 0_u32;
        while let Some(word) = words.next() {
            let field = if word.contains(':') {
                interval.micros = add(interval.micros, clock(word)?)?;
                0b111
            } else {
                let unit = words.next().ok_or(DATETIME_SYNTAX)?;
                interval.take(word, &unit.to_ascii_lowercase())?
            };
            // PostgreSQL accepts each unit once.
            if seen & field != 0 {
                return Err(DATETIME_SYNTAX);
            }
            seen |= field;
        }
        Ok(interval)
    }

    /// Adds an amount of a unit; returns the unit's bit.
    fn take(&mut self, amount: &str, unit: &str) -> Computed<u32> {
        if matches!(unit, "second" | "seconds" | "sec" | "secs" | "s") {
            self.micros = add(self.micros, seconds(amount)?)?;
            return Ok(1);
        }
        let amount = whole(amount)?;
        let days = |times: i64| amount.checked_mul(times).and_then(|days| i32::try_from(days).ok());
        let micros = |times: i64| amount.checked_mul(times * SECOND).ok_or(INTERVAL_RANGE);
        let (bit, months, days, micros) = match unit {
            "year" | "years" | "yr" | "yrs" | "y" => (64, days(12), Some(0), Ok(0)),
            "month" | "months" | "mon" | "mons" => (32, days(1), Some(0), Ok(0)),
            "week" | "weeks" | "w" => (16, Some(0), days(7), Ok(0)),
            "day" | "days" | "d" => (8, Some(0), days(1), Ok(0)),
            "hour" | "hours" | "hr" | "hrs" | "h" => (4, Some(0), Some(0), micros(3600)),
            "minute" | "minutes" | "min" | "mins" | "m" => (2, Some(0), Some(0), micros(60)),
            _ => return Err(DATETIME_SYNTAX),
        };
        self.months = months.and_then(|months| self.months.checked_add(months)).ok_or(INTERVAL_RANGE)?;
        self.days = days.and_then(|days| self.days.checked_add(days)).ok_or(INTERVAL_RANGE)?;
        self.micros = add(self.micros, micros?)?;
        Ok(bit)
    }

    pub(super) fn add(self, other: Self) -> Computed<Self> {
        Ok(Self {
            months: self.months.checked_add(other.months).ok_or(INTERVAL_RANGE)?,
            days: self.days.checked_add(other.days).ok_or(INTERVAL_RANGE)?,
            micros: add(self.micros, other.micros)?,
        })
    }

    /// Subtracts field by field. Negating first would overflow for `-2147483648 days`.
    pub(super) fn subtract(self, other: Self) -> Computed<Self> {
        Ok(Self {
            months: self.months.checked_sub(other.months).ok_or(INTERVAL_RANGE)?,
            days: self.days.checked_sub(other.days).ok_or(INTERVAL_RANGE)?,
            micros: self.micros.checked_sub(other.micros).ok_or(INTERVAL_RANGE)?,
        })
    }

    pub(super) fn negated(self) -> Computed<Self> {
        Ok(Self {
            months: self.months.checked_neg().ok_or(INTERVAL_RANGE)?,
            days: self.days.checked_neg().ok_or(INTERVAL_RANGE)?,
            micros: self.micros.checked_neg().ok_or(INTERVAL_RANGE)?,
        })
    }

    /// Compares as PostgreSQL does: a month has 30 days, a day 24 hours.
    pub(super) fn compare(self, other: Self) -> Ordering {
        let total = |interval: Self| {
            (i128::from(interval.months) * 30 + i128::from(interval.days)) * i128::from(DAY)
                + i128::from(interval.micros)
        };
        total(self).cmp(&total(other))
    }

    pub(super) fn write(self, out: &mut String) {
        let mut empty = true;
        let mut before = false;
        for (value, unit) in [(self.months / 12, "year"), (self.months % 12, "mon"), (self.days, "day")] {
            if value != 0 {
                let (blank, plus) =
                    (if empty { "" } else { " " }, if before && value > 0 { "+" } else { "" });
                let plural = if value == 1 { "" } else { "s" };
                write(out, format_args!("{blank}{plus}{value} {unit}{plural}"));
                before = value < 0;
                empty = false;
            }
        }
        if empty || self.micros != 0 {
            let blank = if empty { "" } else { " " };
            let sign = if self.micros < 0 {
                "-"
            } else if before {
                "+"
            } else {
                ""
            };
            let micros = self.micros.unsigned_abs();
            let seconds = micros / SECOND.unsigned_abs();
            let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
            write(out, format_args!("{blank}{sign}{hours:02}:{minutes:02}:{:02}", seconds % 60));
            write_fraction(out, i64::try_from(micros % SECOND.unsigned_abs()).unwrap_or_default());
        }
    }
}

fn add(a: i64, b: i64) -> Computed<i64> {
    a.checked_add(b).ok_or(INTERVAL_RANGE)
}

fn whole(text: &str) -> Computed<i64> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(DATETIME_SYNTAX);
    }
    text.parse().map_err(|_| INTERVAL_RANGE)
}

/// `-1.5` in microseconds.
fn seconds(text: &str) -> Computed<i64> {
    let (whole_part, fraction) = text.split_once('.').unwrap_or((text, "0"));
    if !(1..=6).contains(&fraction.len()) || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(DATETIME_SYNTAX);
    }
    let fraction: i64 = format!("{fraction:0<6}").parse().map_err(|_| DATETIME_SYNTAX)?;
    let whole = whole(whole_part)?.checked_mul(SECOND).ok_or(INTERVAL_RANGE)?;
    add(whole, if whole_part.starts_with('-') { -fraction } else { fraction })
}

/// `-04:05:06.7` in microseconds.
fn clock(text: &str) -> Computed<i64> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let mut parts = unsigned.split(':');
    let hours = whole(parts.next().unwrap_or_default())?;
    let minutes = whole(parts.next().ok_or(DATETIME_SYNTAX)?)?;
    let seconds = parts.next().map_or(Ok(0), seconds)?;
    if parts.next().is_some() || minutes > 59 || seconds >= 60 * SECOND || unsigned.contains(['+', '-']) {
        return Err(DATETIME_SYNTAX);
    }
    let total =
        hours.checked_mul(3600 * SECOND).and_then(|hours| hours.checked_add(minutes * 60 * SECOND + seconds));
    let total = total.ok_or(INTERVAL_RANGE)?;
    Ok(if text.starts_with('-') { -total } else { total })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interval_output_matches_postgres() {
        for (text, expected) in [
            ("1 year 2 mons -3 days +04:05:06.7", "1 year 2 mons -3 days +04:05:06.7"),
            ("90 minutes", "01:30:00"),
            ("-1 day", "-1 days"),
            ("2 weeks", "14 days"),
            ("0 days", "00:00:00"),
            ("-1.5 seconds", "-00:00:01.5"),
            ("14 months", "1 year 2 mons"),
        ] {
            let mut out = String::new();
            Interval::parse(text).unwrap().write(&mut out);
            assert_eq!(out, expected);
        }
        for text in ["", "1", "day", "1 fortnight", "1.5 days", "1 day 2 days", "P1D"] {
            assert_eq!(Interval::parse(text), Err(DATETIME_SYNTAX), "{text}");
        }
    }
}
