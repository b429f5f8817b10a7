//! The report as text for a terminal, and as CSV for a spreadsheet.

use std::fmt::Write as _;

use super::collect::{EventReport, TypeTotals};
use crate::buffer::activity::{ActivityCounts, ActivityPeriod};
use crate::time::write_rfc3339;
use crate::visible::visible;

/// Most days that the terminal shows: the newest ones. CSV and HTML show all.
const DAYS_SHOWN: usize = 31;

/// Appends a line.
fn line(out: &mut String, line: std::fmt::Arguments<'_>) {
    let written = writeln!(out, "{line}");
    debug_assert!(written.is_ok(), "writing to a String cannot fail");
}

/// The first characters of a point in time. `2026-11-30T10:00` has 16.
pub(super) fn moment(micros: i64, characters: usize) -> String {
    let mut text = Vec::new();
    write_rfc3339(&mut text, micros);
    text.truncate(characters);
    String::from_utf8_lossy(&text).replace('T', " ")
}

/// Time from `micros` until `at`, in its largest unit.
pub(super) fn age(at: i64, micros: i64) -> String {
    duration(at.saturating_sub(micros).max(0) / 1_000_000)
}

/// Seconds in their largest unit.
pub(super) fn duration(seconds: i64) -> String {
    match seconds {
        ..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// A number with its digits grouped: `1 234 567`.
pub(super) fn grouped(count: i64) -> String {
    let digits = count.unsigned_abs().to_string();
    let mut out = String::from(if count < 0 { "-" } else { "" });
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(' ');
        }
        out.push(digit);
    }
    out
}

pub(super) fn grouped_unsigned(count: u64) -> String {
    grouped(i64::try_from(count).unwrap_or(i64::MAX))
}

/// The report for a terminal.
pub fn text(report: &EventReport) -> String {
    let mut out = String::new();
    let stream = report.stream.as_deref().map(|name| format!(" to stream {name}")).unwrap_or_default();
    let daemon =
        report.daemon.as_deref().map_or("not running".to_owned(), |pid| format!("running (pid {pid})"));
    line(
        &mut out,
        format_args!("{}{}, {} UTC", visible(&report.name), visible(&stream), moment(report.at, 19)),
    );
    line(&mut out, format_args!("{}; daemon {}", visible(&report.directory), visible(&daemon)));
    let width = report.types.keys().map(|name| visible(name).chars().count()).max().unwrap_or(0).max(24);
    line(&mut out, format_args!("\n{}", head(&format!("{:<width$}", "All events"), "in flight")));
    let row = |name: &str, totals: &TypeTotals| {
        let oldest = totals.oldest.map_or(String::new(), |oldest| age(report.at, oldest));
        let [received, filtered, published, quarantined, in_flight] =
            [totals.received, totals.filtered, totals.published, totals.quarantined, totals.in_flight]
                .map(grouped_unsigned);
        format!(
            "{:<width$} {received:>13} {filtered:>13} {published:>13} {quarantined:>12} {in_flight:>12} {oldest:>8}",
            visible(name)
        )
    };
    for (name, totals) in &report.types {
        line(&mut out, format_args!("{}", row(name, totals)));
    }
    line(&mut out, format_args!("{}", row("total", &report.sum())));
    let days = report.days.get(report.days.len().saturating_sub(DAYS_SHOWN)..).unwrap_or_default();
    for (title, periods, characters) in [("By hour (UTC)", &*report.hours, 16), ("By day (UTC)", days, 10)] {
        line(&mut out, format_args!("\n{}", head(&format!("{title:<width$}"), "backlog")));
        for period in periods {
            line(&mut out, format_args!("{}", period_row(period, characters, width)));
        }
        if periods.is_empty() {
            out.push_str("no record\n");
        }
    }
    out.push('\n');
    for finding in &report.findings {
        let severity =
            if finding.severity == crate::diagnosis::Severity::Blocker { "ERROR" } else { "warning" };
        line(&mut out, format_args!("{severity}: {}: {}", visible(&finding.subject), visible(&finding.fact)));
        for more in [&finding.hint, &finding.command].into_iter().flatten() {
            line(&mut out, format_args!("  {}", visible(more)));
        }
    }
    if !report.is_unbalanced() {
        out.push_str("The counts balance: every event received is published, quarantined or in flight.\n");
    }
    out
}

fn head(title: &str, last: &str) -> String {
    format!(
        "{title} {:>13} {:>13} {:>13} {:>12} {last:>12} {:>8}",
        "received", "filtered", "published", "quarantined", "oldest"
    )
}

fn period_row(period: &ActivityPeriod, characters: usize, width: usize) -> String {
    let ActivityCounts { received, filtered, published, quarantined } = period.sum();
    let [received, filtered, published, quarantined] =
        [received, filtered, published, quarantined].map(grouped);
    let oldest = if period.oldest == 0 {
        String::new()
    } else {
        duration(i64::try_from(period.oldest).unwrap_or(i64::MAX))
    };
    format!(
        "{:<width$} {received:>13} {filtered:>13} {published:>13} {quarantined:>12} {:>12} {oldest:>8}",
        moment(period.start.saturating_mul(1_000_000), characters),
        grouped_unsigned(period.backlog)
    )
}

/// The report as CSV: one line for each period and event type. `oldest` is a commit time for `all`, and an
/// age in seconds for hours and days.
pub fn csv(report: &EventReport) -> String {
    let mut out = String::from(
        "period,start,event_type,received,filtered,published,quarantined,in_flight,backlog_frames,oldest_commit,oldest_seconds\r\n",
    );
    for (name, totals) in &report.types {
        let TypeTotals { received, filtered, published, quarantined, in_flight, oldest } = totals;
        let commit = oldest.map_or(String::new(), rfc3339);
        let row = format_args!(
            "all,,{},{received},{filtered},{published},{quarantined},{in_flight},,{commit},\r",
            field(name)
        );
        line(&mut out, row);
    }
    for (kind, periods) in [("hour", &report.hours), ("day", &report.days)] {
        for period in periods {
            let start = rfc3339(period.start.saturating_mul(1_000_000));
            for (name, counts) in &period.types {
                let ActivityCounts { received, filtered, published, quarantined } = counts;
                let row = format_args!(
                    "{kind},{start},{},{received},{filtered},{published},{quarantined},,,,\r",
                    field(name)
                );
                line(&mut out, row);
            }
            let ActivityPeriod { backlog, oldest, .. } = period;
            line(&mut out, format_args!("{kind},{start},,,,,,,{backlog},,{oldest}\r"));
        }
    }
    out
}

fn rfc3339(micros: i64) -> String {
    let mut text = Vec::new();
    write_rfc3339(&mut text, micros);
    String::from_utf8_lossy(&text).into_owned()
}

/// A field in the format of RFC 4180. A name of an application's event can have any character. A name that a
/// spreadsheet would interpret as a formula is written as text.
fn field(text: &str) -> String {
    let formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let text = if formula { format!("'{text}") } else { text.to_owned() };
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn csv_field_is_quoted_and_is_no_formula() {
        for (text, expected) in [
            ("lab.a.v1", "lab.a.v1"),
            ("a,b", "\"a,b\""),
            ("a\"b", "\"a\"\"b\""),
            ("a\nb", "\"a\nb\""),
            ("=1+1", "'=1+1"),
            ("@x,", "\"'@x,\""),
        ] {
            assert_eq!(field(text), expected);
        }
    }

    #[test]
    fn counts_and_ages_are_short() {
        for (count, text) in [(0, "0"), (999, "999"), (1_000, "1 000"), (-1_234_567, "-1 234 567")] {
            assert_eq!(grouped(count), text);
        }
        for (seconds, text) in [(5, "5 s"), (600, "10 min"), (86_400, "24 h"), (864_000, "10 d")] {
            assert_eq!(duration(seconds), text);
        }
    }
}
