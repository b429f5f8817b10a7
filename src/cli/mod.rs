//! The command line: one file per subcommand.

pub mod adopt;
pub mod audit;
pub mod buffer;
pub mod check;
pub mod completions;
pub mod dlq;
pub mod events;
pub mod init;
#[cfg(target_os = "linux")]
mod notify;
mod progress;
pub mod report;
pub mod run;
pub mod status;
mod stop;
pub mod teardown;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::Config;
use crate::source::postgres::conninfo::Settings;
use crate::visible::visible_lines;

/// Change data capture from PostgreSQL to Amazon Kinesis, as versioned domain events, at least once and in
/// order
#[derive(Debug, Parser)]
#[command(name = "forebay", version, about)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Look at a database and write a first configuration file
    Init(init::InitOptions),
    /// Look at the database, the stream and the directory, change nothing; exits with 1 if a start would fail
    Check(check::SetupCheckOptions),
    /// Run the daemon: receive, buffer and publish until stopped
    Run(Common),
    /// Show the state of a running daemon; exits with 1 if it is not ready
    Status(status::StatusOptions),
    /// Report received, filtered, published and quarantined events by type, hour and day; exits with 1 if
    /// they do not balance
    Report(report::ReportOptions),
    /// Adopt a new slot, database or stream after a refusal, and begin a new epoch
    Adopt(adopt::AdoptOptions),
    /// Stop for good: drop the replication slot; without --yes, print what would be done
    Teardown(teardown::TeardownOptions),
    /// Compare a table with its events in the archive or in the stream; exits with 1 if they differ
    Audit(audit::AuditOptions),
    /// List, show, retry or discard dead letters
    #[command(subcommand)]
    Dlq(dlq::Command),
    /// Inspect the log and the checkpoint; works while the daemon runs
    #[command(subcommand)]
    Buffer(buffer::Command),
    /// Preview and test rules; lock and check contracts
    #[command(subcommand)]
    Events(events::Command),
    /// Print the effective configuration without secrets
    Config(Common),
    /// Print a script that completes the command line in a shell
    Completions(completions::CompletionsOptions),
    /// Print a manual page, for `man`
    Man(completions::ManOptions),
}

/// Options of every subcommand.
#[derive(Debug, clap::Args)]
pub struct Common {
    /// Configuration file; environment variables `FOREBAY_<SECTION>__<KEY>` override it
    #[arg(long, short, default_value = "forebay.toml")]
    pub config: PathBuf,
}

/// Runs the program. Usage errors exit with 64 (by clap), failures with 1.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // There is no way to report that the message cannot be printed.
            drop(error.print());
            return if error.use_stderr() { ExitCode::from(64) } else { ExitCode::SUCCESS };
        }
    };
    let outcome = match arguments.command {
        Command::Run(common) => load(&common).map_err(Some).and_then(|config| run::run(&config)),
        Command::Init(options) => init::run(&options).map_err(Some),
        Command::Check(options) => check::run(&options),
        Command::Status(options) => status::run(&options),
        Command::Report(options) => report::run(&options),
        Command::Adopt(options) => {
            load(&options.common).and_then(|config| adopt::run(&config, &options)).map_err(Some)
        }
        Command::Teardown(options) => {
            load(&options.common).and_then(|config| teardown::run(&config, &options)).map_err(Some)
        }
        Command::Audit(options) => return audit::run(&options),
        Command::Dlq(command) => dlq::run(&command).map_err(Some),
        Command::Events(command) => events::run(&command).map_err(Some),
        Command::Buffer(command) => buffer::run(&command).map_err(Some),
        Command::Completions(options) => {
            completions::completions(&options);
            Ok(())
        }
        Command::Man(options) => completions::man(&options).map_err(Some),
        Command::Config(common) => load(&common).map(|config| say(&format!("{config}\n"))).map_err(Some),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            if let Some(message) = message {
                complain(&message);
            }
            ExitCode::FAILURE
        }
    }
}

fn load(common: &Common) -> Result<Config, String> {
    let check_url = |url: &str| Settings::from_url(url).map(drop).map_err(crate::failure::Problem::from);
    Config::load(&common.config, check_url).map_err(|errors| errors.to_string())
}

/// Appends a line.
fn add(out: &mut String, line: std::fmt::Arguments<'_>) {
    use std::fmt::Write as _;
    let written = writeln!(out, "{line}");
    debug_assert!(written.is_ok(), "writing to a String cannot fail");
}

/// The members of a JSON object.
fn members(value: serde_json::Value) -> serde_json::Map<String, serde_json::Value> {
    match value {
        serde_json::Value::Object(members) => members,
        _ => serde_json::Map::new(),
    }
}

/// An error with its causes, detail and hint on separate lines.
fn explain(error: impl Into<crate::failure::Failure>) -> String {
    error.into().problem().lines()
}

/// The same for an error that has no [`Failure`](crate::failure::Failure) of its own.
fn problem(error: impl crate::failure::Explain) -> String {
    crate::failure::Problem::from(error).lines()
}

/// Prints text to standard output. A closed pipe is not an error. Control characters are escaped.
fn say(text: &str) {
    use std::io::Write as _;
    drop(std::io::stdout().lock().write_all(visible_lines(text).as_bytes()));
}

/// Prints text byte for byte, for other programs. On a terminal, control characters are escaped.
fn say_exactly(text: &str) {
    use std::io::{IsTerminal as _, Write as _};
    if std::io::stdout().is_terminal() {
        say(text);
    } else {
        drop(std::io::stdout().lock().write_all(text.as_bytes()));
    }
}

fn complain(message: &str) {
    use std::io::Write as _;
    drop(std::io::stderr().lock().write_all(visible_lines(&format!("forebay: {message}\n")).as_bytes()));
}
