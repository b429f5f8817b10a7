//! The scriptable Kinesis as a program, for benches and demos. Told at run time through `/_stub/…` (see `control`).

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use kinesis_stub::{Config, Stub};

/// A scriptable Amazon Kinesis on 127.0.0.1.
#[derive(Debug, Parser)]
struct Arguments {
    /// Port; 0 takes a free one.
    #[arg(long, default_value_t = 4568)]
    port: u16,
    /// A stream that exists from the start, as name:shards. May be given several times or as a comma list.
    #[arg(long = "streams", value_delimiter = ',', value_parser = stream)]
    streams: Vec<(String, u32)>,
    /// Count records and drop them.
    #[arg(long)]
    null: bool,
    /// Answer every put after so many milliseconds.
    #[arg(long, default_value_t = 0)]
    latency_ms: u64,
    /// Enforce 1,000 records and 1 MiB a second on each shard.
    #[arg(long)]
    limits: bool,
    /// The data are Forebay lines: measure arrival − recordedtime.
    #[arg(long)]
    measure: bool,
    /// Check signatures with this secret access key.
    #[arg(long)]
    secret: Option<String>,
    /// Seed of everything random.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Write the port to this file once the stub listens.
    #[arg(long)]
    port_file: Option<PathBuf>,
}

fn stream(text: &str) -> Result<(String, u32), String> {
    let (name, shards) = text.split_once(':').unwrap_or((text, "1"));
    let shards = shards.parse().map_err(|_| format!("'{shards}' is not a number of shards"))?;
    Ok((name.to_owned(), shards))
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            drop(writeln!(std::io::stderr(), "kinesis-stub: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> std::io::Result<()> {
    let stub = Stub::start(Config {
        port: arguments.port,
        streams: arguments.streams,
        keep: !arguments.null,
        limits: arguments.limits,
        latency: Duration::from_millis(arguments.latency_ms),
        measure: arguments.measure,
        secret: arguments.secret,
        clock_ahead: 0,
        seed: arguments.seed,
    })?;
    writeln!(std::io::stdout(), "listening on {} (seed {})", stub.endpoint(), arguments.seed)?;
    if let Some(path) = arguments.port_file {
        // Written whole under another name first, so that a reader never sees half a number.
        let partial = path.with_extension("partial");
        std::fs::write(&partial, stub.port().to_string())?;
        std::fs::hard_link(&partial, &path).or_else(|_| std::fs::copy(&partial, &path).map(drop))?;
        std::fs::remove_file(&partial)?;
    }
    loop {
        std::thread::park();
    }
}
