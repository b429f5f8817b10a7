//! `forebay events catalog`: writes the catalogue for consumers of the stream.

use std::path::PathBuf;

use crate::cli::{Common, say};
use crate::config::Config;
use crate::contracts::catalog::{build, html};
use crate::contracts::lock::put;

/// Options of `events catalog`.
#[derive(Debug, clap::Args)]
pub struct CatalogOptions {
    #[command(flatten)]
    pub(super) common: Common,
    /// Directory for index.html; created if missing
    #[arg(long)]
    out: PathBuf,
}

pub(super) fn run(config: &Config, options: &CatalogOptions) -> Result<(), String> {
    let (model, lock) = super::published(config)?;
    let page = build::page(&config.name, &config.kinesis.stream, &model, &lock);
    let text = html(&page).map_err(|error| format!("cannot render the page: {error:#}"))?;
    let file = options.out.join("index.html");
    put(&file, &text).map_err(|error| error.to_string())?;
    let types = model.events.len();
    say(&format!("wrote {}: {types} event types, {} KB\n", file.display(), text.len().div_ceil(1000)));
    Ok(())
}
