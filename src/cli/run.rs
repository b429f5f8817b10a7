//! `forebay run`: the daemon.

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tracing::Level;

use crate::cli::stop;
use crate::config::Config;
use crate::daemon::supervise;
use crate::failure::Problem;
use crate::observe;
use crate::observe::log::LogQueue;
use crate::pipeline::status::Status;
use crate::visible::visible_lines;

/// How long the exit waits for the last log lines to be written to standard error.
const LAST_LINES_WITHIN: Duration = Duration::from_secs(2);

/// Runs until SIGTERM or SIGINT, and exits within 5 s of it. A second SIGINT exits immediately.
///
/// # Errors
/// The log cannot be started. `None`: the error that stopped the daemon was written.
pub fn run(config: &Config) -> Result<(), Option<String>> {
    let log = observe::log::start(&config.log)
        .map_err(|error| Some(format!("cannot write the log to standard error: {error}")))?;
    let outcome = run_logged(config, &log);
    // A program that reads a JSON log could not parse a plain line.
    if let Err(problem) = &outcome
        && !config.log.json
    {
        log.push(visible_lines(&format!("forebay: {}\n", problem.lines())).as_bytes(), Level::ERROR);
    }
    log.flush(LAST_LINES_WITHIN);
    outcome.map_err(|_| None)
}

fn run_logged(config: &Config, log: &LogQueue) -> Result<(), Problem> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Problem::new(format!("cannot start: {error}")))?;
    let outcome = runtime.block_on(async {
        outlive_file_limits().map_err(|error| no_signals(&error))?;
        let stop = stop::signalled(log.clone()).map_err(|error| no_signals(&error))?;
        outlive_hangups().map_err(|error| no_signals(&error))?;
        let status = Status::with_keys(&config.name, config.pii.columns.is_empty());
        let observed = observe::http::serve(config, &status)?;
        #[cfg(target_os = "linux")]
        super::notify::started();
        tracing::info!(event = "starting", version = env!("CARGO_PKG_VERSION"), name = config.name, "forebay starts");
        tokio::select! {
            biased;
            outcome = supervise::run(config, &status, stop) => outcome.map_err(|failure| failure.problem().clone()),
            never = observed => match never {},
        }
    });
    if let Err(problem) = &outcome {
        tracing::error!(
            event = "stopping",
            code = problem.code(),
            error = problem.primary(),
            detail = problem.detail(),
            hint = problem.hint(),
            "stopping after an error that a retry cannot fix"
        );
    }
    // A thread that is waiting for a DNS server must not delay the exit.
    runtime.shutdown_background();
    outcome
}

fn no_signals(error: &std::io::Error) -> Problem {
    Problem::new(format!("cannot register signal handlers: {error}"))
}

/// Handles SIGXFSZ, which would end the process. A write beyond a file size limit (`ulimit -f`, `LimitFSIZE`)
/// then fails with an error and pauses the source, as a full disk does.
fn outlive_file_limits() -> std::io::Result<()> {
    /// The number on Linux (except MIPS) and macOS.
    const SIGXFSZ: i32 = 25;
    // Once registered, the signal has no effect for the rest of the process.
    signal(SignalKind::from_raw(SIGXFSZ)).map(drop)
}

/// Handles SIGHUP, so that closing the terminal, or a tool that expects a reload, does not end the daemon.
/// The configuration is read at start only.
fn outlive_hangups() -> std::io::Result<()> {
    let mut hangup = signal(SignalKind::hangup())?;
    #[expect(clippy::disallowed_methods, reason = "it ends with the runtime")]
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            tracing::info!(
                event = "hangup_ignored",
                hint = "Restart the process to read the configuration again.",
                "SIGHUP ignored"
            );
        }
    });
    Ok(())
}
