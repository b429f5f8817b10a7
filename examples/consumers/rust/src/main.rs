//! A copy of tables in a JSON file, made from their events alone.
//!
//! ```sh
//! cargo run -- --database view.json --stream lab-events [--endpoint http://127.0.0.1:4566] [--until-idle]
//! ```
//!
//! It reads the automatic events of the tables: `<table>.inserted`, `.updated`, `.deleted` and `.truncated`. The view then has
//! what the database has: one row for each key, with the columns as JSON. `--print` prints it, one row on each line.
//!
//! Stop the program at any time, also with kill -9: it continues after the last batch that it committed.

mod contract;
mod state;
mod stream;
mod view;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use aws_config::BehaviorVersion;
use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::error::DisplayErrorContext;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use clap::Parser;

use crate::state::State;
use crate::stream::Stream;

/// Any reason to stop.
type Error = Box<dyn std::error::Error>;

/// A copy of tables in a JSON file, made from their events alone.
#[derive(Debug, Parser)]
struct Arguments {
    /// The file that has the view.
    #[arg(long)]
    database: PathBuf,
    /// The stream to read.
    #[arg(long)]
    stream: Option<String>,
    /// The address of Kinesis, if it is not AWS's.
    #[arg(long)]
    endpoint: Option<String>,
    /// Stop when all shards are read to their end.
    #[arg(long)]
    until_idle: bool,
    /// Print the view.
    #[arg(long)]
    print: bool,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(&Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            drop(writeln!(std::io::stderr(), "{}", DisplayErrorContext(&*error)));
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &Arguments) -> Result<(), Error> {
    let mut state = State::load(&arguments.database)?;
    if let Some(name) = &arguments.stream {
        let kinesis = kinesis(arguments.endpoint.as_deref()).await;
        Stream::new(kinesis, name, &mut state, handle_record).run(arguments.until_idle).await?;
    }
    if arguments.print {
        state.view.print(&mut std::io::stdout().lock())?;
    }
    Ok(())
}

/// A client with the region and the credentials that the AWS command line would use.
async fn kinesis(endpoint: Option<&str>) -> Client {
    let tls = Provider::Rustls(CryptoMode::Ring);
    let http = aws_smithy_http_client::Builder::new().tls_provider(tls).build_https();
    let settings = aws_config::defaults(BehaviorVersion::latest()).http_client(http).load().await;
    let mut config = aws_sdk_kinesis::config::Builder::from(&settings);
    if let Some(endpoint) = endpoint {
        config = config.endpoint_url(endpoint);
    }
    Client::from_conf(config.build())
}

fn handle_record(state: &mut State, data: &[u8]) -> Result<(), Error> {
    for event in contract::events(data) {
        let event = event?;
        if state.sequences.is_new(&event) {
            state.view.handle(&event);
        }
    }
    Ok(())
}
