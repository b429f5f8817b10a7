//! Functions and operators over dates, times and intervals.

use super::super::fault::{
    Computed, DATE_RANGE, DIVISION_BY_ZERO, FIELD_RANGE, Fault, INFINITE_DIFFERENCE, INTERVAL_RANGE,
    TIMESTAMP_RANGE,
};
use super::super::interval::Interval as Span;
use super::super::iso;
use super::super::moment::{self, EARLIEST, LATEST, Parts, days_in_month};
use super::super::tree::Datum;
use super::super::units::{DAY, SECOND};
use super::Slot::{Bool, Date, Float8, Int4, Interval, Time, Timestamp, TimestampTz};
use super::{CallValues, Def, def};

const NO_NUMBER: Fault = Fault(&("22008", "timestamp cannot be NaN"));
const STRIDE_MONTHS: Fault =
    Fault(&("0A000", "timestamps cannot be binned into intervals containing months or years"));
const STRIDE_SIGN: Fault = Fault(&("22008", "stride must be greater than zero"));
const ZONE: Fault = Fault(&("22023", "interval time zone must not include months or days"));
const ORIGIN: Fault = Fault(&("22008", "origin out of range"));

/// Seconds from the Unix epoch to PostgreSQL's epoch.
const UNIX: f64 = 946_684_800.0;

pub(super) const TABLE: &[Def] = &[
    def("make_date", &[Int4, Int4, Int4], Date, |given| moment::date_in_range(day(given)?).map(Datum::Int)),
    def("make_time", &[Int4, Int4, Float8], Time, |given| time(given, 0).map(Datum::Int)),
    def("make_timestamp", &[Int4, Int4, Int4, Int4, Int4, Float8], Timestamp, timestamp),
    def("make_timestamptz", &[Int4, Int4, Int4, Int4, Int4, Float8], TimestampTz, timestamp),
    def("make_interval", &[Int4, Int4, Int4, Int4, Int4, Int4, Float8], Interval, span)
        .named(&["years", "months", "weeks", "days", "hours", "mins", "secs"]),
    def("to_timestamp", &[Float8], TimestampTz, of_epoch),
    def("age", &[Timestamp, Timestamp], Interval, age),
    def("age", &[TimestampTz, TimestampTz], Interval, age),
    def("justify_hours", &[Interval], Interval, |given| hours(given.interval(0)?).map(Datum::Interval)),
    def("justify_days", &[Interval], Interval, |given| days(given.interval(0)?).map(Datum::Interval)),
    def("justify_interval", &[Interval], Interval, |given| both(given.interval(0)?).map(Datum::Interval)),
    def("date_bin", &[Interval, Timestamp, Timestamp], Timestamp, bin),
    def("date_bin", &[Interval, TimestampTz, TimestampTz], TimestampTz, bin),
    def("timezone", &[Interval, TimestampTz], Timestamp, |given| shifted(given, 1)),
    def("timezone", &[Interval, Timestamp], TimestampTz, |given| shifted(given, -1)),
    def("isfinite", &[Date], Bool, is_finite),
    def("isfinite", &[Timestamp], Bool, is_finite),
    def("isfinite", &[TimestampTz], Bool, is_finite),
    def("isfinite", &[Interval], Bool, |given| given.interval(0).map(|_| Datum::Bool(true))),
    def("*", &[Interval, Float8], Interval, |given| {
        scaled(given.interval(0)?, given.float(1)?, |a, b| a * b)
    }),
    def("*", &[Float8, Interval], Interval, |given| {
        scaled(given.interval(1)?, given.float(0)?, |a, b| a * b)
    }),
    def("/", &[Interval, Float8], Interval, |given| {
        let by = given.float(1)?;
        if by == 0.0 { Err(DIVISION_BY_ZERO) } else { scaled(given.interval(0)?, by, |a, b| a / b) }
    }),
];

/// `at time zone interval '2 hours'`: whole seconds, in 32 bits as the server counts them.
#[expect(clippy::cast_possible_truncation, reason = "as the server computes")]
fn shifted(given: CallValues<'_>, sign: i64) -> Computed<Datum<'static>> {
    let (zone, at) = (given.interval(0)?, given.int(1)?);
    if moment::is_infinite(at) {
        return Ok(Datum::Int(at));
    }
    if zone.months != 0 || zone.days != 0 {
        return Err(ZONE);
    }
    let seconds = i64::from((sign * (zone.micros / SECOND)) as i32);
    moment::in_range(at.checked_add(seconds * SECOND).ok_or(TIMESTAMP_RANGE)?).map(Datum::Int)
}

fn is_finite(given: CallValues<'_>) -> Computed<Datum<'static>> {
    Ok(Datum::Bool(!moment::is_infinite(given.int(0)?)))
}

/// Year, month and day; a negative year is before Christ.
fn day(given: CallValues<'_>) -> Computed<i64> {
    let (year, month, day) = (given.int(0)?, given.int(1)?, given.int(2)?);
    iso::checked_day((year.abs(), month, day), year < 0).map_err(|_| DATE_RANGE)
}

#[expect(clippy::cast_possible_truncation, reason = "the range is checked")]
fn time(given: CallValues<'_>, first: usize) -> Computed<i64> {
    let (hour, minute, second) = (given.int(first)?, given.int(first + 1)?, given.float(first + 2)?);
    let micros = (second * 1e6).round_ties_even();
    if !(0..=24).contains(&hour) || !(0..60).contains(&minute) || !(0.0..=60e6).contains(&micros) {
        return Err(FIELD_RANGE);
    }
    let total = (hour * 60 + minute) * 60 * SECOND + micros as i64;
    if total > DAY { Err(FIELD_RANGE) } else { Ok(total) }
}

fn timestamp(given: CallValues<'_>) -> Computed<Datum<'static>> {
    moment::timestamp(day(given)?, time(given, 3)?).map(Datum::Int)
}

#[expect(clippy::cast_possible_truncation, reason = "the range is checked")]
fn whole(number: f64) -> Computed<i64> {
    const END: f64 = 9_223_372_036_854_775_808.0;
    if (-END..END).contains(&number) { Ok(number as i64) } else { Err(INTERVAL_RANGE) }
}

/// The server's result from version 17 on: an overflow is an error.
fn span(given: CallValues<'_>) -> Computed<Datum<'static>> {
    let part = |nth, size: i64| given.int(nth).map(|count| count * size);
    let narrow = |sum: i64| i32::try_from(sum).map_err(|_| INTERVAL_RANGE);
    let seconds = whole((given.float(6)? * 1e6).round_ties_even())?;
    let clock = part(4, 3600 * SECOND)? + part(5, 60 * SECOND)?;
    Ok(Datum::Interval(Span {
        months: narrow(part(0, 12)? + part(1, 1)?)?,
        days: narrow(part(2, 7)? + part(3, 1)?)?,
        micros: clock.checked_add(seconds).ok_or(INTERVAL_RANGE)?,
    }))
}

fn of_epoch(given: CallValues<'_>) -> Computed<Datum<'static>> {
    let seconds = given.float(0)?;
    if seconds.is_nan() {
        return Err(NO_NUMBER);
    }
    if seconds.is_infinite() {
        return Ok(Datum::Int(if seconds > 0.0 { LATEST } else { EARLIEST }));
    }
    // Of the days that a timestamp can have.
    if !(-210_866_803_200.0..9_224_318_016_000.0).contains(&seconds) {
        return Err(TIMESTAMP_RANGE);
    }
    let micros = whole(((seconds - UNIX) * 1e6).round_ties_even()).map_err(|_| TIMESTAMP_RANGE)?;
    moment::in_range(micros).map(Datum::Int)
}

/// Years, months and days between two timestamps, counted from the earlier one.
fn age(given: CallValues<'_>) -> Computed<Datum<'static>> {
    let (one, other) = (given.int(0)?, given.int(1)?);
    if moment::is_infinite(one) || moment::is_infinite(other) {
        return Err(INFINITE_DIFFERENCE);
    }
    let (a, b) = (Parts::of(one), Parts::of(other));
    let sign = if one < other { -1 } else { 1 };
    let mut micros = (a.micros - b.micros) * sign;
    let mut days = (a.day - b.day) * sign;
    let mut months = ((a.year - b.year) * 12 + a.month - b.month) * sign;
    if micros < 0 {
        micros += DAY;
        days -= 1;
    }
    let earlier = if one < other { a } else { b };
    while days < 0 {
        days += days_in_month(earlier.year, earlier.month);
        months -= 1;
    }
    let narrow = |count: i64| i32::try_from(count * sign).map_err(|_| INTERVAL_RANGE);
    Ok(Datum::Interval(Span { months: narrow(months)?, days: narrow(days)?, micros: micros * sign }))
}

fn hours(span: Span) -> Computed<Span> {
    let whole = i32::try_from(span.micros / DAY).map_err(|_| INTERVAL_RANGE)?;
    let days = span.days.checked_add(whole).ok_or(INTERVAL_RANGE)?;
    Ok(balanced_hours(Span { days, micros: span.micros % DAY, ..span }))
}

const fn balanced_hours(span: Span) -> Span {
    if span.days > 0 && span.micros < 0 {
        Span { days: span.days - 1, micros: span.micros + DAY, ..span }
    } else if span.days < 0 && span.micros > 0 {
        Span { days: span.days + 1, micros: span.micros - DAY, ..span }
    } else {
        span
    }
}

/// Days beyond thirty become months.
fn months(span: Span) -> Computed<Span> {
    let months = span.months.checked_add(span.days / 30).ok_or(INTERVAL_RANGE)?;
    Ok(Span { months, days: span.days % 30, ..span })
}

fn days(span: Span) -> Computed<Span> {
    let span = months(span)?;
    Ok(if span.months > 0 && span.days < 0 {
        Span { months: span.months - 1, days: span.days + 30, ..span }
    } else if span.months < 0 && span.days > 0 {
        Span { months: span.months + 1, days: span.days - 30, ..span }
    } else {
        span
    })
}

fn both(span: Span) -> Computed<Span> {
    let alike = span.days > 0 && span.micros > 0 || span.days < 0 && span.micros < 0;
    let span = if alike { months(span)? } else { span };
    let whole = i32::try_from(span.micros / DAY).map_err(|_| INTERVAL_RANGE)?;
    let days = span.days.checked_add(whole).ok_or(INTERVAL_RANGE)?;
    let mut span = months(Span { days, micros: span.micros % DAY, ..span })?;
    if span.months > 0 && (span.days < 0 || span.days == 0 && span.micros < 0) {
        span.days += 30;
        span.months -= 1;
    } else if span.months < 0 && (span.days > 0 || span.days == 0 && span.micros > 0) {
        span.days -= 30;
        span.months += 1;
    }
    Ok(balanced_hours(span))
}

fn bin(given: CallValues<'_>) -> Computed<Datum<'static>> {
    let (stride, at, origin) = (given.interval(0)?, given.int(1)?, given.int(2)?);
    if moment::is_infinite(at) {
        return Ok(Datum::Int(at));
    }
    if moment::is_infinite(origin) {
        return Err(ORIGIN);
    }
    if stride.months != 0 {
        return Err(STRIDE_MONTHS);
    }
    let width = i64::from(stride.days).checked_mul(DAY).and_then(|days| days.checked_add(stride.micros));
    let width = width.ok_or(INTERVAL_RANGE)?;
    if width <= 0 {
        return Err(STRIDE_SIGN);
    }
    let distance = at.checked_sub(origin).ok_or(INTERVAL_RANGE)?;
    let start = origin.checked_add(distance.div_euclid(width).checked_mul(width).ok_or(TIMESTAMP_RANGE)?);
    moment::in_range(start.ok_or(TIMESTAMP_RANGE)?).map(Datum::Int)
}

/// Multiplied or divided: fractions of months become days of thirty to a month, and fractions of days become
/// time. The order of the operations is the server's, so that they round alike.
#[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "as the server computes")]
fn scaled(span: Span, by: f64, operation: fn(f64, f64) -> f64) -> Computed<Datum<'static>> {
    const DAY_SECONDS: f64 = 86_400.0;
    let narrow = |number: f64| {
        let fits = (f64::from(i32::MIN)..=f64::from(i32::MAX)).contains(&number);
        if fits { Ok(number as i32) } else { Err(INTERVAL_RANGE) }
    };
    let rounded = |number: f64| (number * 1e6).round_ties_even() / 1e6;
    let (months, mut days) =
        (narrow(operation(span.months.into(), by))?, narrow(operation(span.days.into(), by))?);
    let rest = rounded((operation(span.months.into(), by) - f64::from(months)) * 30.0);
    let whole_rest = rest.trunc();
    let mut seconds =
        rounded((operation(span.days.into(), by) - f64::from(days) + rest - whole_rest) * DAY_SECONDS);
    if seconds.abs() >= DAY_SECONDS {
        let more = (seconds / DAY_SECONDS).trunc();
        days = days.checked_add(narrow(more)?).ok_or(INTERVAL_RANGE)?;
        seconds -= more * DAY_SECONDS;
    }
    days = days.checked_add(narrow(whole_rest)?).ok_or(INTERVAL_RANGE)?;
    let micros = whole((operation(span.micros as f64, by) + seconds * 1e6).round_ties_even())?;
    Ok(Datum::Interval(Span { months, days, micros }))
}
