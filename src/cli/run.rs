//! `forebay run`: the daemon.

use std::process;

use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::{Config, Log};
use crate::observe;
use crate::pipeline::supervise;

/// Runs until SIGTERM or SIGINT; a second SIGINT ends it at once.
///
/// # Errors
/// What a person must act on; it has been logged as well.
pub fn run(config: &Config) -> Result<(), String> {
    start_logging(&config.log);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start: {error}"))?;
    let outcome = runtime.block_on(async {
        outlive_file_limits().map_err(|error| format!("cannot listen for signals: {error}"))?;
        let stop = stop_signal().map_err(|error| format!("cannot listen for signals: {error}"))?;
        let observed = observe::http::serve(config).map_err(|error| error.to_string())?;
        tracing::info!(version = env!("CARGO_PKG_VERSION"), name = config.name, "forebay starts");
        tokio::select! {
            biased;
            outcome = supervise::run(config, stop) => outcome.map_err(|failure| failure.to_string()),
            ended = observed => Err(format!("the http server has ended: {ended:?}")),
        }
    });
    if let Err(error) = &outcome {
        tracing::error!(error, "stopping: a person must act");
    }
    // Threads that wait for a server that does not answer must not hold the process.
    runtime.shutdown_background();
    outcome
}

/// Where files may not be larger (`ulimit -f`, `LimitFSIZE`), a write fails, which pauses the source as a full disk does. By
/// itself the signal that comes with it would kill the process at each start anew.
fn outlive_file_limits() -> std::io::Result<()> {
    /// On Linux (but for MIPS) and macOS.
    const SIGXFSZ: i32 = 25;
    // Once it is listened to, the signal does nothing for as long as the process lives.
    signal(SignalKind::from_raw(SIGXFSZ)).map(drop)
}

/// Resolves at the first SIGTERM or SIGINT. From then on, SIGINT ends the process at once.
fn stop_signal() -> std::io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        #[expect(clippy::disallowed_methods, reason = "it only ends the process")]
        tokio::spawn(async move {
            interrupt.recv().await;
            process::exit(130);
        });
    })
}

fn start_logging(log: &Log) {
    let filter: Targets = log.filter.parse().unwrap_or_default();
    let registry = tracing_subscriber::registry().with(filter);
    let layer = tracing_subscriber::fmt::layer().with_target(false).with_writer(std::io::stderr);
    if log.json {
        registry.with(layer.json().flatten_event(true)).init();
    } else {
        registry.with(layer.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))).init();
    }
}
