//! `forebay audit`: compares a table with its events in the archive or the stream.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use crate::audit::{AuditReport, Wanted, run as audit};

use super::{Common, complain, explain, load, say, say_exactly};

/// The exit code of an audit that could not be completed.
const NOT_MADE: u8 = 2;

/// Options of `audit`.
#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "they are switches of the command line")]
pub struct AuditOptions {
    #[command(flatten)]
    common: Common,
    /// The table, such as `lab.plates`
    #[arg(long)]
    table: String,
    /// The archive: `s3://bucket`, `s3://bucket/prefix`, or a directory with a copy of it
    #[arg(long, required_unless_present = "stream")]
    archive: Option<String>,
    /// Read the stream, from its oldest record on; with --archive, both together
    #[arg(long)]
    stream: bool,
    /// The stream has an event of every row: report rows without one. Implied by --archive
    #[arg(long)]
    complete: bool,
    /// No UPDATE changes a key of the table: a row without an event of a rule that reads inserts only is
    /// missing
    #[arg(long)]
    fixed_keys: bool,
    /// Look for new objects of the archive this many seconds before a difference counts: longer than Firehose
    /// buffers
    #[arg(long, default_value_t = 0, value_name = "SECONDS")]
    wait: u64,
    /// Most keys to list of each kind of difference
    #[arg(long, default_value_t = 20, value_name = "KEYS")]
    list: u32,
    /// Another address of S3; default: `AWS_ENDPOINT_URL_S3`, `AWS_ENDPOINT_URL`
    #[arg(long, value_name = "URL")]
    s3_endpoint: Option<String>,
    /// Directory for temporary files, about 100 bytes for each event and row and 18 for each of its fields
    #[arg(long, value_name = "DIR")]
    temp: Option<PathBuf>,
    /// Memory for sorting, in MiB
    #[arg(long, default_value_t = 128, value_name = "MIB", value_parser = clap::value_parser!(u16).range(1..))]
    memory: u16,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Runs an audit: exits with 0 if both sides agree, 1 if they differ, 2 if it could not be made.
pub fn run(options: &AuditOptions) -> ExitCode {
    match report(options) {
        Ok(report) => {
            if options.json {
                match serde_json::to_string(&report) {
                    Ok(text) => say_exactly(&format!("{text}\n")),
                    Err(error) => complain(&error.to_string()),
                }
            } else {
                say(&text(&report));
            }
            ExitCode::from(u8::from(!report.agrees))
        }
        Err(message) => {
            complain(&message);
            ExitCode::from(NOT_MADE)
        }
    }
}

fn report(options: &AuditOptions) -> Result<AuditReport, String> {
    let config = load(&options.common)?;
    let wanted = Wanted {
        table: options.table.clone(),
        archive: options.archive.clone(),
        s3_endpoint: options.s3_endpoint.clone(),
        stream: options.stream,
        complete: options.complete,
        fixed_keys: options.fixed_keys,
        wait: Duration::from_secs(options.wait),
        list: usize::try_from(options.list).unwrap_or(usize::MAX),
        temp: options.temp.clone().unwrap_or_else(std::env::temp_dir),
        memory: usize::from(options.memory) << 20,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start: {error}"))?;
    let quiet = options.json;
    let note = |text: &str| {
        if !quiet {
            complain(text);
        }
    };
    let report = runtime.block_on(audit(&config, &wanted, note)).map_err(explain);
    // A thread that is waiting for a DNS server must not delay the exit.
    runtime.shutdown_background();
    report
}

/// The report as text.
fn text(report: &AuditReport) -> String {
    let mut text = String::new();
    let mut add = |line: std::fmt::Arguments<'_>| {
        let written = writeln!(text, "{line}");
        debug_assert!(written.is_ok(), "writing to a String cannot fail");
    };
    add(format_args!(
        "{} of {} at position {}, epoch {}",
        report.table, report.source, report.position, report.epoch
    ));
    add(format_args!(
        "{} rows in the database; {} events, {} of them after the position; {} objects; newest event of the source: {}",
        report.rows,
        report.events,
        report.later,
        report.objects,
        if report.newest.is_empty() { "none" } else { &report.newest }
    ));
    if report.untranslatable > 0 {
        add(format_args!("{} rows make no event: they are dead letters", report.untranslatable));
    }
    for counts in &report.scopes {
        add(format_args!("\n{}: {}", counts.events, counts.compared));
        add(format_args!("{:>12}  rows of the database", counts.rows));
        add(format_args!("{:>12}  keys with a row in the archive", counts.archived));
        add(format_args!("{:>12}  agree", counts.equal));
        for (kind, count) in &counts.differences {
            add(format_args!("{count:>12}  {}", kind.name()));
        }
        for (count, what) in [
            (counts.repeated, "repeated events, byte for byte: allowed, delivery is at least once"),
            (counts.unseen, "rows whose events are older than the stream's retention: not compared"),
            (counts.shared, "rows that share their subject with others: not compared"),
            (counts.undecided, "keys that only one side has, which these events cannot judge: not compared"),
        ] {
            if count > 0 {
                add(format_args!("{count:>12}  {what}"));
            }
        }
        for (field, count) in &counts.not_compared {
            add(format_args!("{count:>12}  rows without a value of {field} on one side: not compared"));
        }
    }
    for note in &report.notes {
        add(format_args!("\nnote: {note}"));
    }
    if !report.differences.is_empty() {
        add(format_args!("\ndifferences, at most the first of each kind:"));
    }
    for difference in &report.differences {
        let fields = if difference.fields.is_empty() {
            String::new()
        } else {
            format!(": {}", difference.fields.join(", "))
        };
        add(format_args!(
            "{:<9} {}  key {}{fields}",
            difference.kind.name(),
            difference.events,
            difference.key
        ));
    }
    add(format_args!("\n{}", if report.agrees { "they agree" } else { "they differ" }));
    text
}
