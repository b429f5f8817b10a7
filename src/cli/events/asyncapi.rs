//! `forebay events asyncapi`: the contracts as an AsyncAPI document.

use std::path::PathBuf;

use crate::cli::{Common, say};
use crate::config::Config;
use crate::contracts::asyncapi::{Stream, document};
use crate::contracts::lock::put;

/// Where to.
#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    pub(super) common: Common,
    /// The file to write, JSON; without it, the document is printed.
    #[arg(long)]
    out: Option<PathBuf>,
    /// The version of the document, which is yours to count.
    #[arg(long, default_value = "1.0.0")]
    api_version: String,
}

pub(super) fn run(config: &Config, options: &Options) -> Result<(), String> {
    let (model, lock) = super::published(config)?;
    let stream = Stream {
        name: &config.name,
        stream: &config.kinesis.stream,
        region: config.kinesis.region.as_deref(),
        version: &options.api_version,
    };
    let document = document(stream, &model, &lock);
    let text = serde_json::to_string_pretty(&document).map_err(|error| error.to_string())? + "\n";
    let Some(file) = &options.out else {
        say(&text);
        return Ok(());
    };
    put(file, &text).map_err(|error| error.to_string())?;
    say(&format!("wrote {}: {} messages\n", file.display(), model.events.len()));
    Ok(())
}
