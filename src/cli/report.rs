//! `forebay report`: how many events were published, quarantined or filtered, by type, hour and day.

use crate::buffer::disk::Directory;
use crate::config::units;
use crate::failure::Problem;
use crate::observe::report::{self, ReportProgress};
use crate::time;

use super::progress::Progress;

/// Options of `report`.
#[derive(Debug, clap::Args)]
pub struct ReportOptions {
    #[command(flatten)]
    common: super::Common,
    /// Hours and days to show: a duration such as `24h` or `30d`, or a date such as `2026-11-30`; hours are
    /// kept for a week, days for thirteen months
    #[arg(long, default_value = "24h", value_parser = since, allow_hyphen_values = false)]
    since: Since,
    /// Print comma-separated values, for a spreadsheet
    #[arg(long, conflicts_with = "html")]
    csv: bool,
    /// Print one HTML page, to send or to print
    #[arg(long)]
    html: bool,
}

/// The beginning of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Since {
    /// This many microseconds before now.
    Before(i64),
    /// Microseconds since the Unix epoch.
    At(i64),
}

/// Parses a duration before now, or a date in UTC.
fn since(text: &str) -> Result<Since, String> {
    if let Ok(duration) = units::duration(text) {
        return Ok(Since::Before(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)));
    }
    date(text).map(Since::At).ok_or_else(|| {
        format!("{text:?} is neither a duration such as \"24h\" nor a date such as \"2026-11-30\"")
    })
}

/// The beginning of a day in UTC, in microseconds since the Unix epoch.
fn date(text: &str) -> Option<i64> {
    let mut parts = text.splitn(3, '-');
    let mut part = |digits: usize| -> Option<i64> {
        let text = parts.next()?;
        (text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok())?
    };
    let (year, month, day) = (part(4)?, part(2)?, part(2)?);
    time::days_of(year, month, day).map(|days| days * 86_400_000_000)
}

/// Prints the report.
///
/// # Errors
/// The directory cannot be read. `None`: the event counts do not balance, and the report says so.
pub fn run(options: &ReportOptions) -> Result<(), Option<String>> {
    let config = super::load(&options.common)?;
    let directory = Directory::open(&config.buffer.dir).map_err(super::explain)?;
    let now = time::now_micros();
    let since = match options.since {
        Since::Before(back) => now.saturating_sub(back),
        Since::At(at) => at,
    };
    let bar = Progress::of_bytes("reading the log", 0);
    let show = |progress| match progress {
        ReportProgress::Total(bytes) => bar.begin(bytes),
        ReportProgress::Read(bytes) => bar.add(bytes),
    };
    let report = report::read(&directory, (&config.name, since, now), show).map_err(super::explain)?;
    drop(bar);
    if options.csv {
        super::say_exactly(&report::csv(&report));
    } else if options.html {
        super::say_exactly(&report::html(&report));
    } else {
        super::say(&report::text(&report));
    }
    if !report.is_unbalanced() {
        return Ok(());
    }
    if options.csv || options.html {
        let problem = Problem::new("the event counts do not balance");
        return Err(Some(problem.with_hint("Run `forebay report` without options to see where.").lines()));
    }
    Err(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_is_a_duration_or_a_date() {
        assert_eq!(since("24h"), Ok(Since::Before(86_400_000_000)));
        assert_eq!(since("1970-01-02"), Ok(Since::At(86_400_000_000)));
        assert_eq!(since("2026-11-30"), Ok(Since::At(1_795_996_800_000_000)));
        for wrong in ["", "yesterday", "2026-13-01", "2026-02-30", "2026-2-3", "-1h", "2026-11-30T10"] {
            assert!(since(wrong).is_err(), "{wrong}");
        }
    }
}
