//! Fields of dates and times: `extract`, `date_part`, `date_trunc`, `to_char`.

use std::borrow::Cow;

use super::super::fault::{CELL, Computed, Fault, TIMESTAMP_RANGE};
use super::super::interval::Interval;
use super::super::moment::{self, EARLIEST, Parts};
use super::super::number::Numeric;
use super::super::tree::{Datum, Of, PatternPiece, Shown, Unit};
use super::super::units::{DAY, SECOND};

/// Seconds from the Unix epoch to PostgreSQL's epoch.
const UNIX: i128 = 946_684_800;

/// `extract` returns numeric, `date_part` a float. Infinite timestamps: infinity for fields that only grow,
/// otherwise NULL.
pub(super) fn extract<'a>(unit: Unit, of: Of, float: bool, from: &Datum<'_>) -> Computed<Datum<'a>> {
    let (whole, scale) = match (of, from) {
        (Of::Interval, Datum::Interval(interval)) if float && unit == Unit::Epoch => {
            return Ok(Datum::Float(float_epoch(*interval)));
        }
        (Of::Interval, Datum::Interval(interval)) => of_interval(unit, *interval),
        (Of::Time, Datum::Int(micros)) => of_day(unit, *micros, *micros),
        (Of::Date | Of::Timestamp, Datum::Int(at)) if moment::is_infinite(*at) => {
            return Ok(infinite(unit, *at == EARLIEST, float));
        }
        (Of::Date, Datum::Int(days)) if unit == Unit::Epoch => (i128::from(*days) * 86_400 + UNIX, 0),
        (Of::Date, Datum::Int(days)) => of_date(unit, *days),
        (Of::Timestamp, Datum::Int(at)) => match unit {
            Unit::Microsecond | Unit::Millisecond | Unit::Second | Unit::Minute | Unit::Hour => {
                of_day(unit, at.rem_euclid(DAY), *at)
            }
            Unit::Epoch => (i128::from(*at) + UNIX * i128::from(SECOND), 6),
            _ => of_date(unit, at.div_euclid(DAY)),
        },
        _ => return Err(CELL),
    };
    Ok(if float {
        Datum::Float(as_float(unit, whole, scale))
    } else {
        Datum::Numeric(Numeric::scaled(whole, scale))
    })
}

/// As the server computes it: it adds the fraction to the seconds, and divides an epoch.
#[expect(clippy::cast_precision_loss, reason = "a float is required")]
fn as_float(unit: Unit, whole: i128, scale: u32) -> f64 {
    let micros = whole as f64;
    match (unit, scale) {
        (_, 0) => micros,
        (Unit::Second, _) => (whole / 1_000_000) as f64 + (whole % 1_000_000) as f64 / 1_000_000.0,
        (Unit::Millisecond, _) => (whole / 1_000_000 * 1000) as f64 + (whole % 1_000_000) as f64 / 1000.0,
        _ => micros / 1_000_000.0,
    }
}

fn infinite<'a>(unit: Unit, negative: bool, float: bool) -> Datum<'a> {
    let grows = matches!(
        unit,
        Unit::Year | Unit::Decade | Unit::Century | Unit::Millennium | Unit::Epoch | Unit::IsoYear
    );
    match (grows, float) {
        (false, _) => Datum::Null,
        (true, true) => Datum::Float(if negative { f64::NEG_INFINITY } else { f64::INFINITY }),
        (true, false) => Datum::Numeric(Numeric::Infinity { negative }),
    }
}

/// Fields of a time of day; `epoch` returns `total`.
fn of_day(unit: Unit, micros: i64, total: i64) -> (i128, u32) {
    let second = micros % (60 * SECOND);
    match unit {
        Unit::Microsecond => (second.into(), 0),
        Unit::Millisecond => (second.into(), 3),
        Unit::Second => (second.into(), 6),
        Unit::Minute => ((micros / (60 * SECOND) % 60).into(), 0),
        Unit::Hour => ((micros / (3600 * SECOND)).into(), 0),
        _ => (total.into(), 6),
    }
}

fn of_interval(unit: Unit, interval: Interval) -> (i128, u32) {
    let (months, days) = (i128::from(interval.months), i128::from(interval.days));
    match unit {
        Unit::Year => (months / 12, 0),
        Unit::Month => (months % 12, 0),
        Unit::Day => (days, 0),
        Unit::Epoch => {
            // A year has 365.25 days, a month 30.
            let quarters = months / 12 * 1461 + months % 12 * 120 + days * 4;
            (quarters * 21_600 * i128::from(SECOND) + i128::from(interval.micros), 6)
        }
        _ => of_day(unit, interval.micros, interval.micros),
    }
}

/// Sums the epoch in the server's order.
#[expect(clippy::cast_precision_loss, reason = "a float is required")]
fn float_epoch(interval: Interval) -> f64 {
    const DAY_SECONDS: f64 = 86_400.0;
    let mut seconds = interval.micros as f64 / 1_000_000.0;
    seconds += 365.25 * DAY_SECONDS * f64::from(interval.months / 12);
    seconds += 30.0 * DAY_SECONDS * f64::from(interval.months % 12);
    seconds + DAY_SECONDS * f64::from(interval.days)
}

fn of_date(unit: Unit, days: i64) -> (i128, u32) {
    let (year, month, day) = moment::civil(days);
    // There is no year zero in the BC era.
    let shown = if year <= 0 { year - 1 } else { year };
    let field = match unit {
        Unit::Year => shown,
        Unit::Month => month,
        Unit::Day => day,
        Unit::Quarter => (month - 1) / 3 + 1,
        Unit::DayOfWeek => (days + 6).rem_euclid(7),
        Unit::IsoDayOfWeek => (days + 5).rem_euclid(7) + 1,
        Unit::DayOfYear => days - moment::days(year, 1, 1) + 1,
        Unit::Week => iso_week(days).1,
        Unit::IsoYear => {
            let iso = iso_week(days).0;
            if iso <= 0 { iso - 1 } else { iso }
        }
        Unit::Decade => year.div_euclid(10),
        Unit::Century => beginning_count(shown, 100),
        Unit::Millennium => beginning_count(shown, 1000),
        _ => 0,
    };
    (field.into(), 0)
}

/// Century or millennium: the first one has the years 1 to 100, the one before it -1 to -100.
const fn beginning_count(year: i64, length: i64) -> i64 {
    if year > 0 { (year + length - 1) / length } else { -((-year + length - 1) / length) }
}

/// ISO year and week number: those of the week's Thursday.
fn iso_week(days: i64) -> (i64, i64) {
    let thursday = days - (days + 5).rem_euclid(7) + 3;
    let (year, _, _) = moment::civil(thursday);
    (year, (thursday - moment::days(year, 1, 1)) / 7 + 1)
}

/// `date_trunc` of a timestamp.
pub(super) fn truncate(unit: Unit, at: i64) -> Computed<i64> {
    const UNSUPPORTED: Fault = TIMESTAMP_RANGE;
    if moment::is_infinite(at) {
        return Ok(at);
    }
    let step = match unit {
        Unit::Microsecond => 1,
        Unit::Millisecond => 1000,
        Unit::Second => SECOND,
        Unit::Minute => 60 * SECOND,
        Unit::Hour => 3600 * SECOND,
        Unit::Day => DAY,
        _ => 0,
    };
    if step > 0 {
        return moment::in_range(at - at.rem_euclid(step));
    }
    let Parts { year, month, .. } = Parts::of(at);
    let day = at.div_euclid(DAY);
    let first = |year, month| moment::days(year, month, 1);
    let day = match unit {
        Unit::Week => day - (day + 5).rem_euclid(7),
        Unit::Month => first(year, month),
        Unit::Quarter => first(year, (month - 1) / 3 * 3 + 1),
        Unit::Year => first(year, 1),
        Unit::Decade => first(year.div_euclid(10) * 10, 1),
        Unit::Century => first((year - 1).div_euclid(100) * 100 + 1, 1),
        Unit::Millennium => first((year - 1).div_euclid(1000) * 1000 + 1, 1),
        _ => return Err(UNSUPPORTED),
    };
    moment::timestamp(day, 0)
}

/// `date_trunc` of an interval: towards zero.
pub(super) const fn truncate_interval(unit: Unit, interval: Interval) -> Interval {
    let Interval { months, days, micros } = interval;
    let count = match unit {
        Unit::Microsecond => return interval,
        Unit::Millisecond => return Interval { months, days, micros: micros - micros % 1000 },
        Unit::Second => return Interval { months, days, micros: micros - micros % SECOND },
        Unit::Minute => return Interval { months, days, micros: micros - micros % (60 * SECOND) },
        Unit::Hour => return Interval { months, days, micros: micros - micros % (3600 * SECOND) },
        Unit::Day => return Interval { months, days, micros: 0 },
        Unit::Quarter => 3,
        Unit::Year => 12,
        Unit::Decade => 120,
        Unit::Century => 1200,
        Unit::Millennium => 12_000,
        _ => 1,
    };
    Interval { months: months - months % count, days: 0, micros: 0 }
}

/// `to_char` of a timestamp; NULL if it is infinite, or if there is no pattern.
pub(super) fn to_char<'a>(pieces: &[PatternPiece], at: i64) -> Datum<'a> {
    if moment::is_infinite(at) || pieces.is_empty() {
        return Datum::Null;
    }
    let micros = at.rem_euclid(DAY);
    let mut out = String::new();
    for piece in pieces {
        match piece {
            PatternPiece::Literal(text) => out.push_str(text),
            PatternPiece::Field(shown, width) => {
                let number = match shown {
                    Shown::Unit(unit @ (Unit::Second | Unit::Minute | Unit::Hour)) => {
                        i128::from(micros / SECOND / if *unit == Unit::Hour { 3600 } else { 1 })
                            / if *unit == Unit::Minute { 60 } else { 1 }
                            % if *unit == Unit::Hour { 24 } else { 60 }
                    }
                    Shown::Hour12 => (micros / SECOND / 3600 + 11).rem_euclid(12).saturating_add(1).into(),
                    Shown::Milliseconds => (micros % SECOND / 1000).into(),
                    Shown::Microseconds => (micros % SECOND).into(),
                    // A year before Christ has no sign.
                    Shown::Unit(unit) => of_date(*unit, at.div_euclid(DAY)).0.abs(),
                };
                super::super::units::write(&mut out, format_args!("{number:0width$}"));
            }
        }
    }
    Datum::Text(Cow::Owned(out))
}
