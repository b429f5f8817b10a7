//! `forebay events catalog`: writes the catalogue for consumers of the stream.

use std::path::PathBuf;

use crate::cli::{Common, say};
use crate::config::Config;
use crate::contracts::asyncapi::{self, Stream};
use crate::contracts::catalog::{build, html};
use crate::contracts::lock::put;

/// Options of `events catalog`.
#[derive(Debug, clap::Args)]
pub struct CatalogOptions {
    #[command(flatten)]
    pub(super) common: Common,
    /// Directory for index.html, asyncapi.json and schemas; created if missing
    #[arg(long)]
    out: PathBuf,
}

pub(super) fn run(config: &Config, options: &CatalogOptions) -> Result<(), String> {
    let (model, lock) = super::published(config)?;
    let page = build::page(&config.name, &config.kinesis.stream, &model, &lock);
    let text = html(&page).map_err(|error| format!("cannot render the page: {error:#}"))?;
    let file = options.out.join("index.html");
    put(&file, &text).map_err(|error| error.to_string())?;
    let stream = Stream {
        name: &config.name,
        stream: &config.kinesis.stream,
        region: config.kinesis.region.as_deref(),
        version: "1.0.0",
    };
    let document = asyncapi::document(stream, &model, &lock);
    let document = serde_json::to_string_pretty(&document).map_err(|error| error.to_string())? + "\n";
    put(&options.out.join(build::ASYNCAPI), &document).map_err(|error| error.to_string())?;
    super::schema::write(
        config,
        &lock.locked.iter().collect::<Vec<_>>(),
        true,
        &options.out.join(build::SCHEMAS),
    )?;
    let types = model.events.len();
    say(&format!("wrote {}: {types} event types, {} KB\n", file.display(), text.len().div_ceil(1000)));
    Ok(())
}
