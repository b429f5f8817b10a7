//! `forebay events preview`: what rows of the database would make, without touching slot, buffer or stream.

use std::io::{self, Write as _};
use std::time::Duration;

use crate::config::units::duration;
use crate::preview::{self, Audience, Changes, Wanted};

/// Options of `preview`.
#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    common: crate::cli::Common,
    /// Only events of this type.
    #[arg(long = "type", value_name = "TYPE")]
    event_type: Option<String>,
    /// The newest rows of each table, as if they were written now; needs SELECT.
    #[arg(long, value_name = "ROWS", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    last: u32,
    /// Instead, the next changes that are committed, through a temporary slot.
    #[arg(long, value_name = "CHANGES", conflicts_with = "last", value_parser = clap::value_parser!(u32).range(1..))]
    live: Option<u32>,
    /// How long to wait for them; 0s: for ever.
    #[arg(long = "for", value_name = "TIME", default_value = "1min", requires = "live", value_parser = duration)]
    time: Duration,
}

/// Prints events to standard output, and what there is to say to standard error.
///
/// # Errors
/// Rules that the daemon would refuse, or a database that cannot be asked.
pub(super) fn run(options: &Options) -> Result<(), String> {
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
    outcome.map_err(|failure| failure.to_string())
}

struct Terminal;

impl Audience for Terminal {
    fn event(&mut self, line: &[u8]) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(line)?;
        out.flush()
    }

    fn note(&mut self, text: &str) {
        // Nobody can be told that nobody can be told.
        drop(io::stderr().lock().write_all(format!("# {text}\n").as_bytes()));
    }
}
