//! Dates and times: days and microseconds since 2000, as Postgres counts them, in UTC. The text forms are ISO 8601 and what Postgres prints.

use std::fmt::Write as _;

use super::fault::{
    Computed, DATE_RANGE, DATETIME_SYNTAX, FIELD_RANGE, INFINITE_DATES, INFINITE_DIFFERENCE, TIMESTAMP_RANGE,
};
use super::interval::Interval;

pub(super) const SECOND: i64 = 1_000_000;
pub(super) const DAY: i64 = 86_400 * SECOND;

/// `infinity` and `-infinity`, of dates and of timestamps.
pub(super) const LATEST: i64 = i64::MAX;
pub(super) const EARLIEST: i64 = i64::MIN;

/// Bounds that Postgres sets: the first day is 4714-11-24 BC; the last of a date is in 5874897, of a timestamp in 294276.
const FIRST_DAY: i64 = days(-4713, 11, 24);
const DATE_END: i64 = days(5_874_898, 1, 1);
const TIMESTAMP_END_DAY: i64 = days(294_277, 1, 1);

/// A moment taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Parts {
    /// Astronomical: 0 is 1 BC.
    pub(super) year: i64,
    pub(super) month: i64,
    pub(super) day: i64,
    /// Microseconds within the day.
    pub(super) micros: i64,
}

/// Day number of a date of the Gregorian calendar (Howard Hinnant's `days_from_civil`).
pub(super) const fn days(year: i64, month: i64, day: i64) -> i64 {
    let shifted = if month <= 2 { year - 1 } else { year };
    let era = shifted.div_euclid(400);
    let year_of_era = shifted.rem_euclid(400);
    let shifted_month = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * shifted_month + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 730_425
}

/// Year, month and day of a day number.
pub(super) const fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 730_425;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + if month <= 2 { 1 } else { 0 }, month, day)
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

/// A timestamp from day and time, within Postgres' bounds.
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

/// A date as the timestamp of its midnight.
pub(super) fn date_to_timestamp(days: i64) -> Computed<i64> {
    const OUT: super::fault::Fault = super::fault::Fault(&("22008", "date out of range for timestamp"));
    if is_infinite(days) {
        return Ok(days);
    }
    if days >= TIMESTAMP_END_DAY { Err(OUT) } else { Ok(days * DAY) }
}

/// As for a comparison with a timestamp: beyond the last timestamp it is later than all of them.
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

/// `timestamp + interval`: months first, where the day is cut to the month's last, then days, then time.
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
        // More days than the microseconds of an i64 make.
        let micros = i64::from(interval.days).checked_mul(DAY);
        moment = micros.and_then(|micros| moment.checked_add(micros)).ok_or(TIMESTAMP_RANGE)?;
        moment = in_range(moment)?;
    }
    in_range(moment.checked_add(interval.micros).ok_or(TIMESTAMP_RANGE)?)
}

/// Takes decimal digits, `count` or more.
fn number(text: &str, count: std::ops::RangeInclusive<usize>) -> Option<(i64, &str)> {
    let length = text.bytes().take_while(u8::is_ascii_digit).count();
    if !count.contains(&length) {
        return None;
    }
    let (digits, rest) = text.split_at(length);
    Some((digits.parse().ok()?, rest))
}

/// Takes `2026-10-01`.
fn day_of(text: &str) -> Option<((i64, i64, i64), &str)> {
    let (year, rest) = number(text, 4..=7)?;
    let (month, rest) = number(rest.strip_prefix('-')?, 2..=2)?;
    let (day, rest) = number(rest.strip_prefix('-')?, 2..=2)?;
    Some(((year, month, day), rest))
}

/// Takes `12:00`, `12:00:00`, `12:00:00.123456`.
fn time_of(text: &str) -> Option<((i64, i64, i64), &str)> {
    let (hour, rest) = number(text, 2..=2)?;
    let (minute, rest) = number(rest.strip_prefix(':')?, 2..=2)?;
    let Some(seconds) = rest.strip_prefix(':') else { return Some(((hour, minute, 0), rest)) };
    let (second, rest) = number(seconds, 2..=2)?;
    let (fraction, rest) = match rest.strip_prefix('.') {
        Some(fraction) => {
            let length = fraction.bytes().take_while(u8::is_ascii_digit).count();
            let (value, rest) = number(fraction, 1..=6)?;
            (value * 10_i64.pow(u32::try_from(6 - length).ok()?), rest)
        }
        None => (0, rest),
    };
    if second > 59 {
        return None; // Postgres takes 60; nothing prints it.
    }
    Some(((hour, minute, second * SECOND + fraction), rest))
}

fn checked_time((hour, minute, micros): (i64, i64, i64)) -> Computed<i64> {
    let total = hour * 3600 * SECOND + minute * 60 * SECOND + micros;
    if minute > 59 || total > DAY { Err(FIELD_RANGE) } else { Ok(total) }
}

fn checked_day((year, month, day): (i64, i64, i64), before: bool) -> Computed<i64> {
    if year == 0 {
        return Err(FIELD_RANGE);
    }
    let year = if before { 1 - year } else { year };
    if !(1..=12).contains(&month) || !(1..=days_in_month(year, month)).contains(&day) {
        return Err(FIELD_RANGE);
    }
    Ok(days(year, month, day))
}

fn infinite(text: &str) -> Option<i64> {
    match text {
        _ if text.eq_ignore_ascii_case("infinity") => Some(LATEST),
        _ if text.eq_ignore_ascii_case("-infinity") => Some(EARLIEST),
        _ => None,
    }
}

/// Splits off ` BC`.
fn era(text: &str) -> (&str, bool) {
    text.strip_suffix(" BC").map_or((text, false), |before| (before, true))
}

pub(super) fn parse_date(text: &str) -> Computed<i64> {
    let text = text.trim_matches(super::text::is_space);
    if let Some(infinite) = infinite(text) {
        return Ok(infinite);
    }
    let (text, before) = era(text);
    match day_of(text) {
        Some((day, "")) => date_in_range(checked_day(day, before)?),
        _ => Err(DATETIME_SYNTAX),
    }
}

pub(super) fn parse_time(text: &str) -> Computed<i64> {
    match time_of(text.trim_matches(super::text::is_space)) {
        Some((time, "")) => checked_time(time),
        _ => Err(DATETIME_SYNTAX),
    }
}

/// A timestamp; with a zone only where the type has one, and in UTC where none is given.
pub(super) fn parse_timestamp(text: &str, with_zone: bool) -> Computed<i64> {
    let text = text.trim_matches(super::text::is_space);
    if let Some(infinite) = infinite(text) {
        return Ok(infinite);
    }
    let (text, before) = era(text);
    let (day, rest) = day_of(text).ok_or(DATETIME_SYNTAX)?;
    if rest.is_empty() {
        return timestamp(checked_day(day, before)?, 0);
    }
    let (time, rest) = rest.strip_prefix([' ', 'T']).and_then(time_of).ok_or(DATETIME_SYNTAX)?;
    let offset = match rest {
        "" => 0,
        _ if with_zone => offset_of(rest).ok_or(DATETIME_SYNTAX)?,
        _ => return Err(DATETIME_SYNTAX),
    };
    timestamp(checked_day(day, before)?, checked_time(time)? - offset)
}

/// `Z`, `+02`, `-05:30`.
fn offset_of(text: &str) -> Option<i64> {
    if text == "Z" {
        return Some(0);
    }
    let sign = match text.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let (hours, rest) = number(text.get(1..)?, 2..=2)?;
    let (minutes, rest) = match rest.strip_prefix(':') {
        Some(minutes) => number(minutes, 2..=2)?,
        None => (0, rest),
    };
    (rest.is_empty() && hours <= 15 && minutes <= 59).then_some(sign * (hours * 3600 + minutes * 60) * SECOND)
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

/// `.5` for 500,000 microseconds, nothing for none.
pub(super) fn write_fraction(out: &mut String, micros: i64) {
    if micros != 0 {
        write(out, format_args!(".{micros:06}"));
        out.truncate(out.trim_end_matches('0').len());
    }
}

/// A string takes everything that is written to it.
pub(super) fn write(out: &mut String, text: std::fmt::Arguments<'_>) {
    match out.write_fmt(text) {
        Ok(()) | Err(std::fmt::Error) => {}
    }
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
    use super::*;

    #[test]
    fn moments_are_read_as_they_are_printed() {
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
        assert_eq!(
            parse_timestamp("2026-10-01T10:00:00+02:00", true),
            parse_timestamp("2026-10-01 08:00", true)
        );
        for (text, fault) in [
            ("2026-02-30", FIELD_RANGE),
            ("2026-2-3", DATETIME_SYNTAX),
            ("now", DATETIME_SYNTAX),
            ("5874898-01-01", DATE_RANGE),
        ] {
            assert_eq!(parse_date(text), Err(fault), "{text}");
        }
    }

    #[test]
    fn months_end_where_they_end() {
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
