//! How long an event took from its commit to its arrival: `arrival − recordedtime` of every Forebay line, in a histogram.
//!
//! The buckets are log-linear, 32 to an octave: a quantile is at most 3.2 % too high. Nothing is allocated per event.

use std::time::{SystemTime, UNIX_EPOCH};

use memchr::memmem;
use serde::Serialize;

const SUB_BITS: u32 = 5;
const BUCKETS: usize = 64 << SUB_BITS;

/// Quantiles, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Latency {
    /// Lines with a readable `recordedtime`.
    pub events: u64,
    /// Median.
    pub p50_us: u64,
    /// 99th percentile.
    pub p99_us: u64,
    /// The slowest, exactly.
    pub max_us: u64,
}

/// Counts of microseconds.
#[derive(Clone, Debug)]
pub(crate) struct Histogram {
    buckets: Vec<u64>,
    count: u64,
    max: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: vec![0; BUCKETS], count: 0, max: 0 }
    }
}

fn bucket_of(micros: u64) -> usize {
    let octave = micros.checked_ilog2().unwrap_or(0).saturating_sub(SUB_BITS);
    usize::try_from((u64::from(octave) << SUB_BITS) + (micros >> octave)).unwrap_or(usize::MAX)
}

/// The highest value of a bucket.
fn top_of(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    let octave = (bucket >> SUB_BITS).saturating_sub(1);
    (((bucket - (octave << SUB_BITS)) + 1) << octave).wrapping_sub(1)
}

impl Histogram {
    /// Counts one.
    pub(crate) fn add(&mut self, micros: u64) {
        if let Some(bucket) = self.buckets.get_mut(bucket_of(micros)) {
            *bucket += 1;
        }
        self.count += 1;
        self.max = self.max.max(micros);
    }

    /// Counts every line of a record's data that carries a `recordedtime`; a time in the future counts as 0.
    pub(crate) fn add_lines(&mut self, data: &[u8], now: SystemTime) {
        let now =
            now.duration_since(UNIX_EPOCH).map_or(0, |t| i64::try_from(t.as_micros()).unwrap_or(i64::MAX));
        for line in data.split(|b| *b == b'\n') {
            if let Some(micros) = recorded_micros(line) {
                self.add(u64::try_from(now.saturating_sub(micros)).unwrap_or(0));
            }
        }
    }

    fn quantile(&self, permille: u64) -> u64 {
        let wanted = (self.count * permille).div_ceil(1_000);
        let mut seen = 0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= wanted && seen > 0 {
                return top_of(bucket).min(self.max);
            }
        }
        0
    }

    /// The quantiles now.
    pub(crate) fn summary(&self) -> Latency {
        Latency {
            events: self.count,
            p50_us: self.quantile(500),
            p99_us: self.quantile(990),
            max_us: self.max,
        }
    }
}

/// The first `recordedtime` of a line (the envelope's: it stands before `data`), in microseconds since 1970.
fn recorded_micros(line: &[u8]) -> Option<i64> {
    const NAME: &[u8] = b"\"recordedtime\":";
    let rest = line.get(memmem::find(line, NAME)? + NAME.len()..)?.trim_ascii_start().strip_prefix(b"\"")?;
    let end = memchr::memchr(b'"', rest)?;
    rfc3339_micros(std::str::from_utf8(rest.get(..end)?).ok()?)
}

/// `2026-11-21T07:56:58.123456Z`, with 0 to 9 digits of fraction, UTC only.
fn rfc3339_micros(text: &str) -> Option<i64> {
    let text = text.strip_suffix('Z').or_else(|| text.strip_suffix("+00:00"))?;
    let (date, time) = text.split_once('T')?;
    let (time, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let numbers = |text: &str, by: char| -> Option<[i64; 3]> {
        let mut parts = text.split(by).map(|part| part.parse::<i64>().ok());
        let all = [parts.next()??, parts.next()??, parts.next()??];
        parts.next().is_none().then_some(all)
    };
    let [year, month, day] = numbers(date, '-')?;
    let [hour, minute, second] = numbers(time, ':')?;
    let ranges = (1..=12).contains(&month) && (1..=31).contains(&day) && (0..24).contains(&hour);
    if !ranges || !(1..=9_999).contains(&year) || !(0..60).contains(&minute) || !(0..=60).contains(&second) {
        return None;
    }
    if fraction.is_empty() || fraction.len() > 9 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let nanos: i64 = format!("{fraction:0<9}").parse().ok()?;
    let days = days_since_1970(year, month, day);
    Some((((days * 24 + hour) * 60 + minute) * 60 + second) * 1_000_000 + nanos / 1_000)
}

/// Howard Hinnant's `days_from_civil`.
const fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year - era * 400;
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn times_are_parsed_to_the_microsecond() {
        for (text, expected) in [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2000-02-29T12:00:00.5Z", Some(951_825_600_500_000)),
            ("2026-11-21T07:56:58.123456Z", Some(1_795_247_818_123_456)),
            ("2026-11-21T07:56:58.123456789Z", Some(1_795_247_818_123_456)),
            ("2026-11-21T07:56:58.123456+01:00", None),
            ("2026-13-21T07:56:58Z", None),
            ("2026-11-21T07:56:58.Z", None),
            ("yesterday", None),
        ] {
            assert_eq!(rfc3339_micros(text), expected, "{text}");
        }
    }

    #[test]
    fn each_line_is_measured_by_its_envelope() {
        let line = |micros: u64| {
            let rest = r#""data":{"recordedtime":"1970-01-01T00:00:00Z"}}"#;
            format!("{{\"recordedtime\":\"1970-01-01T00:00:01.{micros:06}Z\",{rest}\n")
        };
        let mut histogram = Histogram::default();
        let now = UNIX_EPOCH + Duration::from_millis(1_500);
        histogram.add_lines(format!("{}{}no line of ours\n", line(400_000), line(499_990)).as_bytes(), now);
        histogram.add_lines(line(900_000).as_bytes(), now);
        let summary = histogram.summary();
        assert_eq!((summary.events, summary.p50_us, summary.max_us), (3, 10, 100_000));
    }

    #[test]
    fn quantiles_are_at_most_3_percent_high() {
        let mut histogram = Histogram::default();
        (1..=100_000).for_each(|micros| histogram.add(micros));
        let Latency { events, p50_us, p99_us, max_us } = histogram.summary();
        assert_eq!((events, max_us), (100_000, 100_000));
        assert!((50_000..51_700).contains(&p50_us), "{p50_us}");
        assert!((99_000..=100_000).contains(&p99_us), "{p99_us}");
        for value in [0, 1, 31, 32, 33, 63, 64, 1_000, u64::MAX >> 1, u64::MAX] {
            let top = top_of(bucket_of(value).min(BUCKETS - 1));
            assert!(top >= value && top - value <= value / 31, "{value} {top}");
        }
        assert_eq!(Histogram::default().summary(), Latency::default());
    }
}
