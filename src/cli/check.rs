//! `forebay check`: what the daemon would find in the database, the stream and the buffer directory when it
//! starts. Changes nothing.

use std::fmt::Write as _;

use serde_json::json;

use crate::daemon::check;
use crate::diagnosis::{Diagnosis, Severity};
use crate::visible::visible;

/// Options of `check`.
#[derive(Debug, clap::Args)]
pub struct SetupCheckOptions {
    #[command(flatten)]
    common: super::Common,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Runs the checks and prints the findings.
///
/// # Errors
/// The configuration has errors. `None`: a start would fail, and the reasons were printed.
pub fn run(options: &SetupCheckOptions) -> Result<(), Option<String>> {
    let config = super::load(&options.common)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start: {error}"))?;
    let found = runtime.block_on(check::check(&config));
    // A thread that is waiting for a DNS server must not delay the exit.
    runtime.shutdown_background();
    let ready = found.iter().all(|one| one.severity < Severity::Blocker);
    if options.json {
        super::say_exactly(&format!("{}\n", json!({ "ready": ready, "findings": found })));
    } else {
        super::say(&text(&found));
    }
    if ready { Ok(()) } else { Err(None) }
}

/// The findings as text, each with its hint on an indented line below.
pub(super) fn text(found: &[Diagnosis]) -> String {
    let mut text = String::new();
    for one in found {
        let severity = name(one.severity);
        let mut add = |label: &str, part: &str| {
            let part = visible(part);
            let written = writeln!(text, "{label:<9}{part}");
            debug_assert!(written.is_ok(), "writing to a String cannot fail");
        };
        add(severity, &format!("{}: {}", one.subject, one.fact));
        for line in one.hint.iter().flat_map(|hint| hint.lines()) {
            add("", &format!("  {line}"));
        }
        for line in one.command.iter().flat_map(|command| command.lines()) {
            add("", &format!("    {line}"));
        }
    }
    let count = |severity| found.iter().filter(|one| one.severity == severity).count();
    let (blockers, warnings) = (count(Severity::Blocker), count(Severity::Warning));
    let verdict = if blockers == 0 { "`forebay run` can start" } else { "`forebay run` would fail" };
    let counted = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    let (blockers, warnings) = (counted(blockers, "blocker"), counted(warnings, "warning"));
    let written = writeln!(text, "{verdict}: {blockers}, {warnings}");
    debug_assert!(written.is_ok(), "writing to a String cannot fail");
    text
}

const fn name(severity: Severity) -> &'static str {
    match severity {
        Severity::Ok => "ok",
        Severity::Warning => "warning",
        Severity::Blocker => "blocker",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_are_lines_with_their_fix_below() {
        let found = [
            Diagnosis::ok("server", "fine"),
            Diagnosis::warning("stream", "slow\nthing").with_hint("Do:\nthis").with_command("a\nb"),
            Diagnosis::blocker("role \"x\"", "may not").with_command("ALTER;"),
        ];
        assert_eq!(
            text(&found),
            "ok       server: fine\n\
             warning  stream: slow\\nthing\n           Do:\n           this\n             a\n             b\n\
             blocker  role \"x\": may not\n             ALTER;\n\
             `forebay run` would fail: 1 blocker, 1 warning\n"
        );
    }
}
