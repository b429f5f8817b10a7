//! The two clocks: the monotonic clock for decisions, and the wall clock in microseconds since the Unix
//! epoch. Also formats points in time as RFC 3339 text in UTC.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Now on the monotonic clock. It follows a paused tokio clock, so that a simulation controls time.
pub fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Now, in microseconds since the Unix epoch; 0 if the clock is set to an earlier time.
pub fn now_micros() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// Today's date in UTC, such as `2026-11-21`.
pub fn today() -> String {
    let mut text = Vec::new();
    write_rfc3339(&mut text, now_micros());
    text.truncate("2026-11-21".len());
    String::from_utf8_lossy(&text).into_owned()
}

/// Appends microseconds since the Unix epoch as `2026-10-01T10:00:00.123456Z`. Years beyond 9999 or before 0
/// get a sign, as ISO 8601 requires; PostgreSQL has no commit times there.
pub fn write_rfc3339(out: &mut Vec<u8>, micros: i64) {
    const DAY: i64 = 86_400_000_000;
    let (days, within) = (micros.div_euclid(DAY), micros.rem_euclid(DAY));
    let (year, month, day) = civil(days);
    let (seconds, fraction) = (within / 1_000_000, within % 1_000_000);
    if !(0..=9999).contains(&year) {
        out.push(if year < 0 { b'-' } else { b'+' });
    }
    digits(out, year.unsigned_abs(), 4);
    out.push(b'-');
    digits(out, month.unsigned_abs(), 2);
    out.push(b'-');
    digits(out, day.unsigned_abs(), 2);
    for (mark, value, width) in [
        (b'T', seconds / 3600, 2),
        (b':', seconds / 60 % 60, 2),
        (b':', seconds % 60, 2),
        (b'.', fraction, 6),
    ] {
        out.push(mark);
        digits(out, value.unsigned_abs(), width);
    }
    out.push(b'Z');
}

/// The day number of a date since 1970-01-01; `None` if the date does not exist.
pub fn days_of(year: i64, month: i64, day: i64) -> Option<i64> {
    let days = day_number(year, month, day);
    (civil(days) == (year, month, day)).then_some(days)
}

/// The day number since 1970-01-01 of a Gregorian date that exists (Howard Hinnant's `days_from_civil`).
pub const fn day_number(year: i64, month: i64, day: i64) -> i64 {
    let shifted = if month <= 2 { year - 1 } else { year };
    let era = shifted.div_euclid(400);
    let year_of_era = shifted.rem_euclid(400);
    let shifted_month = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * shifted_month + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// Year, month and day of a day number since 1970-01-01 (Howard Hinnant's `civil_from_days`).
pub const fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + if month <= 2 { 1 } else { 0 }, month, day)
}

fn digits(out: &mut Vec<u8>, value: u64, width: u32) {
    let mut divisor = 10_u64.pow(width - 1);
    while value / divisor >= 10 {
        divisor *= 10;
    }
    while divisor > 0 {
        out.push(b'0' + u8::try_from(value / divisor % 10).unwrap_or_default());
        divisor /= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_instants_print_as_rfc_3339() {
        for (micros, text) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (-1, "1969-12-31T23:59:59.999999Z"),
            (946_684_800_000_000, "2000-01-01T00:00:00.000000Z"),
            (1_790_848_800_123_456, "2026-10-01T10:00:00.123456Z"),
            (951_782_400_000_000, "2000-02-29T00:00:00.000000Z"),
            (4_107_542_400_000_000, "2100-03-01T00:00:00.000000Z"),
            (253_402_300_800_000_000, "+10000-01-01T00:00:00.000000Z"),
        ] {
            let mut out = Vec::new();
            write_rfc3339(&mut out, micros);
            assert_eq!(String::from_utf8(out).unwrap(), text);
        }
    }
}
