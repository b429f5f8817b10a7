//! One file per subcommand.

pub mod adopt;
pub mod buffer;
pub mod dlq;
pub mod events;
pub mod run;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::Config;

/// Change data capture from PostgreSQL to Amazon Kinesis: versioned domain events, nothing lost, nothing overtaken.
#[derive(Debug, Parser)]
#[command(name = "forebay", version, about)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Receive, hold and publish until stopped.
    Run(Common),
    /// Take over a slot, a database or a stream that is not the one this directory knows; begins a new epoch.
    Adopt(adopt::Options),
    /// What could not leave: list, show, retry or discard dead letters.
    #[command(subcommand)]
    Dlq(dlq::Command),
    /// Look at the log and the checkpoint, with or without a running daemon.
    #[command(subcommand)]
    Buffer(buffer::Command),
    /// What is published: try rules before they are used, lock it as a contract, check it.
    #[command(subcommand)]
    Events(events::Command),
    /// Print the configuration in force, secrets hidden.
    Config(Common),
}

/// What every subcommand takes.
#[derive(Debug, clap::Args)]
pub struct Common {
    /// The configuration file; `FOREBAY_<SECTION>__<KEY>` in the environment overrides it.
    #[arg(long, short, default_value = "forebay.toml")]
    pub config: PathBuf,
}

/// Runs the program. Usage errors exit with 64 (by clap), failures with 1.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Nothing can be done if even the message cannot be printed.
            drop(error.print());
            return if error.use_stderr() { ExitCode::from(64) } else { ExitCode::SUCCESS };
        }
    };
    let outcome = match arguments.command {
        Command::Run(common) => load(&common).and_then(|config| run::run(&config)),
        Command::Adopt(options) => load(&options.common).and_then(|config| adopt::run(&config, &options)),
        Command::Dlq(command) => dlq::run(&command),
        Command::Events(command) => events::run(&command),
        Command::Buffer(command) => buffer::run(&command),
        Command::Config(common) => load(&common).map(|config| {
            say(&format!("{config}\n"));
        }),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            complain(&message);
            ExitCode::FAILURE
        }
    }
}

fn load(common: &Common) -> Result<Config, String> {
    Config::load(&common.config).map_err(|errors| errors.to_string())
}

/// Adds a line.
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

/// An error with its causes.
fn explain(error: impl Into<crate::failure::Failure>) -> String {
    error.into().to_string()
}

/// Prints to standard output; a reader that has gone is no error.
fn say(text: &str) {
    use std::io::Write as _;
    drop(std::io::stdout().lock().write_all(text.as_bytes()));
}

fn complain(message: &str) {
    use std::io::Write as _;
    drop(std::io::stderr().lock().write_all(format!("forebay: {message}\n").as_bytes()));
}
