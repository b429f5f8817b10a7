//! Dates and times: days and microseconds since 2000-01-01 UTC, as PostgreSQL stores them, and their text
//! forms. `iso` reads texts.

use crate::time;

use super::fault::{Computed, DATE_RANGE, INFINITE_DATES, INFINITE_DIFFERENCE, TIMESTAMP_RANGE};
use super::interval::Interval;
use super::units::{DAY, SECOND, write, write_fraction};

/// `infinity` and `-infinity` of timestamps; dates use the same values.
pub(super) const LATEST: i64 = i64::MAX;
pub(super) const EARLIEST: i64 = i64::MIN;

/// 2000-01-01 as a day number since 1970-01-01.
const EPOCH_DAY: i64 = time::day_number(2000, 1, 1);

/// PostgreSQL's limits: the first day is 4714-11-24 BC; the last year is 5874897 for dates, 294276 for
/// timestamps.
const FIRST_DAY: i64 = days(-4713, 11, 24);
const DATE_END: i64 = days(5_874_898, 1, 1);
const TIMESTAMP_END_DAY: i64 = days(294_277, 1, 1);

/// A timestamp split into fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Parts {
    /// Astronomical year: 0 is 1 BC.
    pub(super) year: i64,
    pub(super) month: i64,
    pub(super) day: i64,
    /// Microseconds within the day.
    pub(super) micros: i64,
}

/// Day number of a Gregorian date.
pub(super) const fn days(year: i64, month: i64, day: i64) -> i64 {
    time::day_number(year, month, day) - EPOCH_DAY
}

/// Year, month and day of a day number.
pub(super) const fn civil(days: i64) -> (i64, i64, i64) {
    time::civil(days + EPOCH_DAY)
}

pub(super) const fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

impl Parts {
    pub(super) const fn of(micros: i64) -> Self {
        let (year, month, day) = civil(micros.div_euclid(DAY));
        Self { year, month, day, micros: micros.rem_euclid(DAY) }
    }

    pub(super) fn to_micros(self) -> Computed<i64> {
        timestamp(days(self.year, self.month, self.day), self.micros)
    }
}

pub(super) const fn is_infinite(moment: i64) -> bool {
    moment == LATEST || moment == EARLIEST
}

/// A timestamp from day and time, within PostgreSQL's limits.
pub(super) fn timestamp(days: i64, micros: i64) -> Computed<i64> {
    let moment = days.checked_mul(DAY).and_then(|start| start.checked_add(micros)).ok_or(TIMESTAMP_RANGE)?;
    in_range(moment)
}

pub(super) fn in_range(moment: i64) -> Computed<i64> {
    if (FIRST_DAY * DAY..TIMESTAMP_END_DAY * DAY).contains(&moment) {
        Ok(moment)
    } else {
        Err(TIMESTAMP_RANGE)
    }
}

pub(super) fn date_in_range(days: i64) -> Computed<i64> {
    if (FIRST_DAY..DATE_END).contains(&days) { Ok(days) } else { Err(DATE_RANGE) }
}

/// Converts a date to the timestamp of its midnight.
pub(super) fn date_to_timestamp(days: i64) -> Computed<i64> {
    const OUT: super::fault::Fault = super::fault::Fault(&("22008", "date out of range for timestamp"));
    if is_infinite(days) {
        return Ok(days);
    }
    if days >= TIMESTAMP_END_DAY { Err(OUT) } else { Ok(days * DAY) }
}

/// The same for a comparison with a timestamp: a date after the last timestamp is later than all timestamps.
pub(super) fn date_to_compare(days: i64) -> i64 {
    date_to_timestamp(days).unwrap_or(TIMESTAMP_END_DAY * DAY)
}

pub(super) const fn timestamp_to_date(moment: i64) -> i64 {
    if is_infinite(moment) { moment } else { moment.div_euclid(DAY) }
}

/// `date + integer`.
pub(super) fn add_days(date: i64, days: i64) -> Computed<i64> {
    if is_infinite(date) { Ok(date) } else { date_in_range(date.checked_add(days).ok_or(DATE_RANGE)?) }
}

/// `date - date`.
pub(super) fn date_difference(a: i64, b: i64) -> Computed<i64> {
    if is_infinite(a) || is_infinite(b) { Err(INFINITE_DATES) } else { Ok(a - b) }
}

/// `timestamp - timestamp`: days and time.
pub(super) fn difference(a: i64, b: i64) -> Computed<Interval> {
    if is_infinite(a) || is_infinite(b) {
        return Err(INFINITE_DIFFERENCE);
    }
    let micros = a.checked_sub(b).ok_or(super::fault::INTERVAL_RANGE)?;
    let days = i32::try_from(micros / DAY).map_err(|_| super::fault::INTERVAL_RANGE)?;
    Ok(Interval { months: 0, days, micros: micros % DAY })
}

/// `timestamp + interval`: first months (a day after the month's end becomes its last day), then days, then
/// time.
pub(super) fn add_interval(moment: i64, interval: Interval) -> Computed<i64> {
    if is_infinite(moment) {
        return Ok(moment);
    }
    let mut moment = moment;
    if interval.months != 0 {
        let mut parts = Parts::of(moment);
        let month = parts.month - 1 + i64::from(interval.months);
        parts.year += month.div_euclid(12);
        parts.month = month.rem_euclid(12) + 1;
        parts.day = parts.day.min(days_in_month(parts.year, parts.month));
        moment = parts.to_micros()?;
    }
    if interval.days != 0 {
        // The days may exceed the microseconds of an i64.
        let micros = i64::from(interval.days).checked_mul(DAY);
        moment = micros.and_then(|micros| moment.checked_add(micros)).ok_or(TIMESTAMP_RANGE)?;
        moment = in_range(moment)?;
    }
    in_range(moment.checked_add(interval.micros).ok_or(TIMESTAMP_RANGE)?)
}

pub(super) fn write_date(out: &mut String, days: i64) {
    match days {
        LATEST => out.push_str("infinity"),
        EARLIEST => out.push_str("-infinity"),
        _ => {
            let (year, month, day) = civil(days);
            write_day(out, year, month, day);
            out.push_str(if year <= 0 { " BC" } else { "" });
        }
    }
}

fn write_day(out: &mut String, year: i64, month: i64, day: i64) {
    let year = if year <= 0 { 1 - year } else { year };
    write(out, format_args!("{year:04}-{month:02}-{day:02}"));
}

pub(super) fn write_time(out: &mut String, micros: i64) {
    let seconds = micros / SECOND;
    write(out, format_args!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60));
    write_fraction(out, micros % SECOND);
}

pub(super) fn write_timestamp(out: &mut String, moment: i64, with_zone: bool) {
    if is_infinite(moment) {
        return write_date(out, moment);
    }
    let Parts { year, month, day, micros } = Parts::of(moment);
    write_day(out, year, month, day);
    out.push(' ');
    write_time(out, micros);
    out.push_str(if with_zone { "+00" } else { "" });
    out.push_str(if year <= 0 { " BC" } else { "" });
}

#[cfg(test)]
mod tests {
    use super::super::iso::parse_timestamp;
    use super::*;

    #[test]
    fn timestamp_output_round_trips() {
        for text in [
            "2026-10-01 10:00:00.5",
            "0001-01-01 00:00:00",
            "0044-03-15 23:59:59.999999 BC",
            "infinity",
            "294276-12-31 23:59:59.999999",
        ] {
            let mut out = String::new();
            write_timestamp(&mut out, parse_timestamp(text, false).unwrap(), false);
            assert_eq!(out, text);
        }
    }

    #[test]
    fn month_arithmetic_clamps_to_month_end() {
        let add = |text, months| {
            let mut out = String::new();
            let interval = Interval { months, days: 0, micros: 0 };
            write_timestamp(
                &mut out,
                add_interval(parse_timestamp(text, false).unwrap(), interval).unwrap(),
                false,
            );
            out
        };
        assert_eq!(add("2026-01-31", 1), "2026-02-28 00:00:00");
        for days in [i32::MIN, i32::MAX] {
            assert_eq!(add_interval(0, Interval { months: 0, days, micros: 0 }), Err(TIMESTAMP_RANGE));
        }
        assert_eq!(add("2024-02-29 12:00:00", -12), "2023-02-28 12:00:00");
    }
}
