//! The report as one HTML page without external assets, for a screen and for paper.

use std::fmt::Write as _;

use super::collect::{EventReport, TypeTotals};
use super::text::{age, duration, grouped, grouped_unsigned, moment};
use crate::buffer::activity::ActivityPeriod;
use crate::diagnosis::Severity;

const STYLE: &str = include_str!("report.css");

/// Text escaped for HTML.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            control if control.is_control() => out.push('\u{fffd}'),
            other => out.push(other),
        }
    }
    out
}

fn add(out: &mut String, text: std::fmt::Arguments<'_>) {
    let written = out.write_fmt(text);
    debug_assert!(written.is_ok(), "writing to a String cannot fail");
}

/// The whole page.
pub fn html(report: &EventReport) -> String {
    let mut out = String::new();
    let name = escaped(&report.name);
    let sum = report.sum();
    add(
        &mut out,
        format_args!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Event report of {name}</title>\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
             <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\
             <style>{STYLE}</style></head><body><main>\n<header><h1>Events of {name}</h1><p>{} UTC{} · daemon {}</p></header>\n",
            moment(report.at, 19),
            report.stream.as_deref().map(|name| format!(" · stream {}", escaped(name))).unwrap_or_default(),
            report
                .daemon
                .as_deref()
                .map_or("not running".to_owned(), |pid| format!("running (pid {})", escaped(pid))),
        ),
    );
    let balance = if report.is_unbalanced() {
        "<p class=\"bad\" role=\"alert\">The counts do <strong>not</strong> balance: see below.</p>"
    } else {
        "<p class=\"good\">The counts balance: every event received is published, quarantined or in flight.</p>"
    };
    let tile = |value: String, label: &str| format!("<div><b>{value}</b><span>{label}</span></div>");
    add(
        &mut out,
        format_args!(
            "<section class=\"tiles\" aria-label=\"Totals\">{}{}{}{}</section>\n{balance}\n",
            tile(grouped_unsigned(sum.received), "received"),
            tile(grouped_unsigned(sum.published), "published"),
            tile(grouped_unsigned(sum.quarantined), "quarantined"),
            tile(
                grouped_unsigned(sum.in_flight),
                &sum.oldest.map_or("in flight".to_owned(), |oldest| format!(
                    "in flight, oldest {}",
                    age(report.at, oldest)
                ))
            ),
        ),
    );
    for finding in &report.findings {
        let class = if finding.severity == Severity::Blocker { "bad" } else { "warn" };
        let hint = finding.hint.as_deref().map(|hint| format!("<br>{}", escaped(hint))).unwrap_or_default();
        add(
            &mut out,
            format_args!(
                "<p class=\"{class}\">{}: {}{hint}</p>\n",
                escaped(&finding.subject),
                escaped(&finding.fact)
            ),
        );
    }
    types(&mut out, report);
    periods(&mut out, "By hour", &report.hours, 16);
    periods(&mut out, "By day", &report.days, 10);
    out.push_str(
        "<footer><p>Received: appended to Forebay's log. Filtered: row changes that the conditions of a rule exclude. \
         Published: acknowledged by the stream. Quarantined: in the dead-letter file. In flight: received and neither. \
         Backlog: most changes that waited at once. Oldest: how long the oldest of them had waited. Times are UTC.</p></footer>\
         </main></body></html>\n",
    );
    out
}

fn types(out: &mut String, report: &EventReport) {
    out.push_str(
        "<section><h2>By event type</h2><div class=\"wide\" tabindex=\"0\" role=\"region\" aria-label=\"By event type\"><table>\
         <thead><tr><th scope=\"col\">Event type</th><th scope=\"col\">Received</th><th scope=\"col\">Filtered</th>\
         <th scope=\"col\">Published</th><th scope=\"col\">Quarantined</th><th scope=\"col\">In flight</th>\
         <th scope=\"col\">Oldest</th></tr></thead><tbody>\n",
    );
    for (name, totals) in &report.types {
        row(out, name, totals, report.at);
    }
    out.push_str("</tbody><tfoot>");
    row(out, "All types", &report.sum(), report.at);
    out.push_str("</tfoot></table></div></section>\n");
}

fn row(out: &mut String, name: &str, totals: &TypeTotals, at: i64) {
    let mark = if totals.quarantined > 0 { " class=\"mark\"" } else { "" };
    add(
        out,
        format_args!(
            "<tr><th scope=\"row\">{}</th><td>{}</td><td>{}</td><td>{}</td><td{mark}>{}</td><td>{}</td><td>{}</td></tr>\n",
            escaped(name),
            grouped_unsigned(totals.received),
            grouped_unsigned(totals.filtered),
            grouped_unsigned(totals.published),
            grouped_unsigned(totals.quarantined),
            grouped_unsigned(totals.in_flight),
            totals.oldest.map_or(String::new(), |oldest| age(at, oldest)),
        ),
    );
}

fn periods(out: &mut String, title: &str, periods: &[ActivityPeriod], characters: usize) {
    add(out, format_args!("<section><h2>{title}</h2>"));
    if periods.is_empty() {
        out.push_str("<p>No record of this time.</p></section>\n");
        return;
    }
    add(
        out,
        format_args!(
            "<div class=\"wide\" tabindex=\"0\" role=\"region\" aria-label=\"{title}\"><table><thead><tr>\
             <th scope=\"col\">From</th><th scope=\"col\">Received</th><th scope=\"col\">Filtered</th><th scope=\"col\">Published</th>\
             <th scope=\"col\">Quarantined</th><th scope=\"col\">Backlog</th><th scope=\"col\">Oldest</th>\
             <th scope=\"col\" class=\"bar\">Published</th></tr></thead><tbody>\n"
        ),
    );
    let most = periods.iter().map(|period| period.sum().published).max().unwrap_or(0).max(1);
    for period in periods.iter().rev() {
        let sum = period.sum();
        let share = sum.published.max(0).saturating_mul(100) / most;
        let oldest = if period.oldest == 0 {
            String::new()
        } else {
            duration(i64::try_from(period.oldest).unwrap_or(i64::MAX))
        };
        let mark = if sum.quarantined > 0 { " class=\"mark\"" } else { "" };
        add(
            out,
            format_args!(
                "<tr><th scope=\"row\">{}</th><td>{}</td><td>{}</td><td>{}</td><td{mark}>{}</td><td>{}</td><td>{oldest}</td>\
                 <td class=\"bar\"><span style=\"width:{share}%\"></span></td></tr>\n",
                moment(period.start.saturating_mul(1_000_000), characters),
                grouped(sum.received),
                grouped(sum.filtered),
                grouped(sum.published),
                grouped(sum.quarantined),
                grouped_unsigned(period.backlog),
            ),
        );
    }
    out.push_str("</tbody></table></div></section>\n");
}
