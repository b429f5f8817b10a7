//! Reads dates and times from text: ISO 8601 in its long and compact forms, as PostgreSQL, Java, Go and
//! Python print them. What is read has PostgreSQL's value. Other texts that PostgreSQL reads (`epoch`, `Oct 1
//! 2026`) are an error.

use super::fault::{Computed, DATETIME_SYNTAX, FIELD_RANGE, Fault};
use super::moment::{self, EARLIEST, LATEST, date_in_range, days, days_in_month, timestamp};
use super::units::{DAY, SECOND};

/// Longest text, in bytes. The server's buffer for the parts has 128 bytes (`MAXDATELEN`), and no date needs
/// as many.
const LENGTH_MAX: usize = 120;

const ZONE_RANGE: Fault = Fault(&("22009", "time zone displacement out of range"));

/// The parts of a parsed text. The zone is in microseconds east of UTC.
#[derive(Default)]
struct MomentText {
    day: Option<(i64, i64, i64)>,
    time: Option<(i64, i64, i64)>,
    zone: Option<i64>,
    before_christ: bool,
    /// `2026-10-01 10:00`: hyphens, a blank and a colon.
    plain: bool,
}

/// A number of digits in the given range.
fn number(text: &str, count: std::ops::RangeInclusive<usize>) -> Option<(i64, &str)> {
    let length = text.bytes().take_while(u8::is_ascii_digit).count();
    if !count.contains(&length) {
        return None;
    }
    let (digits, rest) = text.split_at(length);
    Some((digits.parse().ok()?, rest))
}

/// Cuts exactly `count` digits, of which more may follow.
fn cut(text: &str, count: usize) -> Option<(i64, &str)> {
    let (digits, rest) = text.split_at_checked(count)?;
    Some((number(digits, count..=count)?.0, rest))
}

/// `2026-10-01` or `20261001`.
fn day_of(text: &str) -> Option<((i64, i64, i64), &str)> {
    if text.bytes().take_while(u8::is_ascii_digit).count() == 8 && !text.get(8..)?.starts_with('-') {
        let ((year, rest), day) = (cut(text, 4)?, |rest| cut(rest, 2));
        let (month, rest) = day(rest)?;
        let (day, rest) = day(rest)?;
        return Some(((year, month, day), rest));
    }
    let (year, rest) = number(text, 4..=7)?;
    let (month, rest) = number(rest.strip_prefix('-')?, 1..=2)?;
    let (day, rest) = number(rest.strip_prefix('-')?, 1..=2)?;
    Some(((year, month, day), rest))
}

/// `12:00`, `12:00:00`, `12:00:00.123456789`, and the same without colons.
fn time_of(text: &str) -> Option<((i64, i64, i64), &str)> {
    let compact = match text.bytes().take_while(u8::is_ascii_digit).count() {
        4 => false,
        6 => true,
        _ => return with_colons(text),
    };
    let (hour, rest) = cut(text, 2)?;
    let (minute, rest) = cut(rest, 2)?;
    if !compact {
        return Some(((hour, minute, 0), rest));
    }
    let (second, rest) = cut(rest, 2)?;
    let (fraction, rest) = fraction(rest)?;
    Some(((hour, minute, seconds(second, fraction)), rest))
}

fn with_colons(text: &str) -> Option<((i64, i64, i64), &str)> {
    let (hour, rest) = number(text, 1..=2)?;
    let (minute, rest) = number(rest.strip_prefix(':')?, 1..=2)?;
    let Some(after) = rest.strip_prefix(':') else { return Some(((hour, minute, 0), rest)) };
    let (second, rest) = number(after, 1..=2)?;
    let (fraction, rest) = fraction(rest)?;
    Some(((hour, minute, seconds(second, fraction)), rest))
}

/// A minute may have 60 seconds; more is not a number of seconds. The marker is out of any range.
const fn seconds(second: i64, fraction: i64) -> i64 {
    if second > 60 { 2 * DAY } else { second * SECOND + fraction }
}

/// `.123456789` in microseconds, rounded as the server does: through a double, halves to even.
#[expect(clippy::cast_possible_truncation, reason = "at most a million")]
fn fraction(text: &str) -> Option<(i64, &str)> {
    let Some(digits) = text.strip_prefix('.') else { return Some((0, text)) };
    let length = digits.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, rest) = digits.split_at(length);
    // An exponent would be part of the server's number.
    if length == 0 || rest.starts_with(['e', 'E']) {
        return None;
    }
    let fraction: f64 = format!("0.{digits}").parse().ok()?;
    Some(((fraction * 1_000_000.0).round_ties_even() as i64, rest))
}

/// `Z`, `UTC`, `+02`, `+0200`, `-05:30`, `+01:02:03`.
fn zone_of(text: &str) -> Option<Computed<(i64, &str)>> {
    for name in ["utc", "z"] {
        if let Some((word, rest)) = text.split_at_checked(name.len())
            && word.eq_ignore_ascii_case(name)
            && !rest.starts_with(|letter: char| letter.is_alphanumeric())
        {
            return Some(Ok((0, rest)));
        }
    }
    let sign = match text.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let text = text.get(1..)?;
    let (hours, minutes, seconds, rest) = match text.bytes().take_while(u8::is_ascii_digit).count() {
        // The last two digits are minutes.
        3 | 4 => {
            let (both, rest) = number(text, 3..=4)?;
            (both / 100, both % 100, 0, rest)
        }
        _ => {
            let (hours, rest) = number(text, 1..=2)?;
            let (minutes, rest) = match rest.strip_prefix(':') {
                Some(minutes) => number(minutes, 1..=2)?,
                None => (0, rest),
            };
            let (seconds, rest) = match rest.strip_prefix(':') {
                Some(seconds) => number(seconds, 1..=2)?,
                None => (0, rest),
            };
            (hours, minutes, seconds, rest)
        }
    };
    if rest.starts_with(['.', ':']) {
        return None;
    }
    if hours > 15 || minutes > 59 || seconds > 59 {
        return Some(Err(ZONE_RANGE));
    }
    Some(Ok((sign * (hours * 3600 + minutes * 60 + seconds) * SECOND, rest)))
}

fn blanks(text: &str) -> &str {
    text.trim_start_matches(super::text::is_space)
}

/// Reads a day, a time after it, a zone and an era, each of which may be missing.
fn read(text: &str) -> Computed<MomentText> {
    let mut read = MomentText::default();
    let mut rest = text;
    if text.len() > LENGTH_MAX {
        return Err(DATETIME_SYNTAX);
    }
    let mut alone = true;
    if let Some((day, after)) = day_of(text) {
        read.day = Some(day);
        (rest, alone) = (after, false);
    }
    let begun = match rest.strip_prefix(['T', 't']) {
        Some(after) => Some(after),
        None if alone => Some(rest),
        None => Some(blanks(rest)).filter(|after| after.len() < rest.len()),
    };
    let named = rest.starts_with(['T', 't']);
    if let Some(found) = begun.and_then(time_of) {
        let clock = begun.unwrap_or_default().bytes().take(3).any(|byte| byte == b':');
        read.plain = clock && !named && text.bytes().take(8).any(|byte| byte == b'-');
        read.time = Some(found.0);
        rest = found.1;
    } else if named || alone {
        return Err(DATETIME_SYNTAX);
    }
    if let Some(zone) = zone_of(blanks(rest)) {
        let (zone, after) = zone?;
        read.zone = Some(zone);
        rest = after;
    }
    let after = blanks(rest);
    let era = after.len() < rest.len();
    match after {
        "" => {}
        _ if era && after.eq_ignore_ascii_case("bc") => read.before_christ = true,
        _ if era && after.eq_ignore_ascii_case("ad") => {}
        _ => return Err(DATETIME_SYNTAX),
    }
    Ok(read)
}

fn checked_time((hour, minute, micros): (i64, i64, i64)) -> Computed<i64> {
    let total = hour * 3600 * SECOND + minute * 60 * SECOND + micros;
    if minute > 59 || total > DAY { Err(FIELD_RANGE) } else { Ok(total) }
}

/// The day number of year, month and day.
pub(super) fn checked_day((year, month, day): (i64, i64, i64), before: bool) -> Computed<i64> {
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

impl MomentText {
    /// The day number, and the time of the day.
    fn moment(&self) -> Computed<(i64, i64)> {
        let day = self.day.ok_or(DATETIME_SYNTAX)?;
        let time = self.time.map_or(Ok(0), checked_time)?;
        Ok((checked_day(day, self.before_christ)?, time))
    }
}

/// Reads a date. A time after it is checked and dropped.
pub(super) fn parse_date(text: &str) -> Computed<i64> {
    let text = text.trim_matches(super::text::is_space);
    match infinite(text) {
        Some(infinite) => Ok(infinite),
        None => date_in_range(read(text)?.moment()?.0),
    }
}

/// Reads a time of day. A day before it and a zone behind it are checked and dropped.
pub(super) fn parse_time(text: &str) -> Computed<i64> {
    let read = read(text.trim_matches(super::text::is_space))?;
    let time = checked_time(read.time.ok_or(DATETIME_SYNTAX)?)?;
    match read.day {
        // The server takes a day before a time of day only in this form.
        Some(_) if !read.plain => Err(DATETIME_SYNTAX),
        Some(day) => checked_day(day, read.before_christ).map(|_| time),
        None => Ok(time),
    }
}

/// Reads a timestamp. A type without a zone drops it, as in the server; a missing zone is UTC.
pub(super) fn parse_timestamp(text: &str, with_zone: bool) -> Computed<i64> {
    let text = text.trim_matches(super::text::is_space);
    if let Some(infinite) = infinite(text) {
        return Ok(infinite);
    }
    let read = read(text)?;
    let (day, time) = read.moment()?;
    let zone = read.zone.filter(|_| with_zone).unwrap_or_default();
    timestamp(day, time - zone).and_then(moment::in_range)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timestamp(text: &str) -> Result<String, &'static str> {
        let mut out = String::new();
        let moment = parse_timestamp(text, true).map_err(Fault::sqlstate)?;
        moment::write_timestamp(&mut out, moment, true);
        Ok(out)
    }

    /// The values are those of PostgreSQL 14 to 18.
    #[test]
    fn timestamps_of_other_languages_are_read() {
        for (text, expected) in [
            ("2026-10-01T10:00:00.123456789Z", Ok("2026-10-01 10:00:00.123457+00")),
            ("2026-10-01T10:00:00.1234565Z", Ok("2026-10-01 10:00:00.123456+00")),
            ("2026-10-01T23:59:59.9999999Z", Ok("2026-10-02 00:00:00+00")),
            ("2026-10-01T10:00:00+0200", Ok("2026-10-01 08:00:00+00")),
            ("2026-10-01T10:00:00-05:30", Ok("2026-10-01 15:30:00+00")),
            ("2026-10-01T10:00:00+023", Ok("2026-10-01 09:37:00+00")),
            ("2026-10-01t10:00:00z", Ok("2026-10-01 10:00:00+00")),
            ("2026-10-01 10:00:00 UTC", Ok("2026-10-01 10:00:00+00")),
            ("20261001T100000.5Z", Ok("2026-10-01 10:00:00.5+00")),
            ("20261001", Ok("2026-10-01 00:00:00+00")),
            ("2026-10-01 +02", Ok("2026-09-30 22:00:00+00")),
            ("2026-10-01T1000", Ok("2026-10-01 10:00:00+00")),
            ("2026-10-01T10:00:60Z", Ok("2026-10-01 10:01:00+00")),
            ("2026-1-2 3:4:5", Ok("2026-01-02 03:04:05+00")),
            ("2026-10-01 10:00:00+02 bc", Ok("2026-10-01 08:00:00+00 BC")),
            ("2026-10-01T10:00:00+16:00", Err("22009")),
            ("2026-10-01T10:60:00", Err("22008")),
            ("2026-10-01T10:00:61", Err("22008")),
            ("20260230", Err("22008")),
            ("2026-10-01T10", Err("22007")),
            ("2026-10-01T10000", Err("22007")),
            ("2026-10-01T10:00:00,5", Err("22007")),
            ("2026-10-01T10:00:00.5e3Z", Err("22007")),
            ("2026-10-01 10:00:00 +0000 UTC", Err("22007")),
            ("2026-10-01T10:00:00−02:00", Err("22007")),
            ("2026-10-01T", Err("22007")),
            ("10:00", Err("22007")),
            ("", Err("22007")),
            ("é", Err("22007")),
        ] {
            assert_eq!(timestamp(text).as_deref(), expected.as_ref().copied(), "{text}");
        }
    }

    #[test]
    fn dates_and_times_drop_what_they_do_not_hold() {
        let time = |text| parse_time(text).map(|micros| micros / SECOND);
        assert_eq!(parse_date("2026-10-01T23:00:00-08:00"), parse_date("20261001"));
        assert_eq!(
            (time("2026-10-01 10:00+02"), time("t100000"), time("10:00 z")),
            (Ok(36000), Ok(36000), Ok(36000))
        );
        assert_eq!((time("24:00"), time("23:59:60")), (Ok(86_400), Ok(86_400)));
        for (text, fault) in [
            ("2026-02-30", FIELD_RANGE),
            ("0000-01-01", FIELD_RANGE),
            ("2026-10-01T25:00", FIELD_RANGE),
            ("now", DATETIME_SYNTAX),
            ("5874898-01-01", super::super::fault::DATE_RANGE),
        ] {
            assert_eq!(parse_date(text), Err(fault), "{text}");
        }
        for text in ["2026-10-01", "2026-10-01T10:00:00", "20261001 100000", "2026-10-01 100000"] {
            assert_eq!(parse_time(text), Err(DATETIME_SYNTAX), "{text}");
        }
    }
}
