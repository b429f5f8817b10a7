//! `forebay events preview`: prints the events that rows would make. It does not change the slot, the buffer
//! or the stream.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use crate::config::units::duration;
use crate::preview::{self, Audience, Changes, Wanted};
use crate::visible::{visible, visible_lines};

/// Options of `events preview`.
#[derive(Debug, clap::Args)]
pub struct PreviewOptions {
    #[command(flatten)]
    common: crate::cli::Common,
    /// Show only events of this type
    #[arg(long = "type", value_name = "TYPE")]
    event_type: Option<String>,
    /// Show the newest rows of each table, as if they were written now; requires SELECT
    #[arg(long, value_name = "ROWS", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    last: u32,
    /// Show the next committed changes instead, through a temporary slot
    #[arg(long, value_name = "CHANGES", conflicts_with = "last", value_parser = clap::value_parser!(u32).range(1..))]
    live: Option<u32>,
    /// How long to wait for changes; 0s: no limit
    #[arg(long = "for", value_name = "TIME", default_value = "1min", requires = "live", value_parser = wait_time)]
    time: Duration,
}

fn wait_time(text: &str) -> Result<Duration, String> {
    duration(text).map_err(|problem| problem.lines())
}

/// Prints events to standard output and notes to standard error.
///
/// # Errors
/// Rules that the daemon would refuse, or a database that is not available.
pub(super) fn run(options: &PreviewOptions) -> Result<(), String> {
    let config = crate::cli::load(&options.common)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start: {error}"))?;
    let changes =
        options.live.map_or(Changes::Last(options.last), |count| Changes::Live(count, options.time));
    let wanted = Wanted { event_type: options.event_type.clone(), changes };
    let outcome = runtime.block_on(preview::run(&config, &wanted, &mut Terminal));
    runtime.shutdown_background();
    outcome.map_err(crate::cli::explain)
}

struct Terminal;

impl Audience for Terminal {
    fn event(&mut self, line: &[u8]) -> io::Result<()> {
        let mut out = io::stdout().lock();
        if out.is_terminal() {
            out.write_all(visible_lines(&String::from_utf8_lossy(line)).as_bytes())?;
        } else {
            out.write_all(line)?;
        }
        out.flush()
    }

    fn note(&mut self, text: &str) {
        // If standard error is closed, notes are dropped.
        drop(io::stderr().lock().write_all(format!("# {}\n", visible(text)).as_bytes()));
    }
}
