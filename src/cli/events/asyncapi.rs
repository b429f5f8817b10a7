//! `forebay events asyncapi`: writes the contracts as an AsyncAPI document.

use std::path::PathBuf;

use crate::cli::{Common, say, say_exactly};
use crate::config::Config;
use crate::contracts::asyncapi::{Stream, document};
use crate::contracts::lock::put;

/// Options of `events asyncapi`.
#[derive(Debug, clap::Args)]
pub struct AsyncapiOptions {
    #[command(flatten)]
    pub(super) common: Common,
    /// JSON file to write; default: standard output
    #[arg(long)]
    out: Option<PathBuf>,
    /// Version of the document, which you manage
    #[arg(long, default_value = "1.0.0")]
    api_version: String,
}

pub(super) fn run(config: &Config, options: &AsyncapiOptions) -> Result<(), String> {
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
        say_exactly(&text);
        return Ok(());
    };
    put(file, &text).map_err(|error| error.to_string())?;
    say(&format!("wrote {}: {} messages\n", file.display(), model.events.len()));
    Ok(())
}
