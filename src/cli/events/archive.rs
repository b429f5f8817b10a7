//! `forebay events archive-ddl`: writes SQL for the archive.

use std::path::PathBuf;

use crate::cli::{Common, say, say_exactly};
use crate::config::Config;
use crate::contracts::archive::{ArchivePlace, Engine, ddl};
use crate::contracts::lock::put;

/// Options of `events archive-ddl`.
#[derive(Debug, clap::Args)]
pub struct ArchiveOptions {
    #[command(flatten)]
    pub(super) common: Common,
    /// The query engine
    #[arg(long)]
    engine: Engine,
    /// The archive: `s3://bucket`, or for DuckDB also a directory. Its objects are below `events/`
    #[arg(long)]
    location: String,
    /// The database in the Glue catalogue
    #[arg(long, default_value = "forebay")]
    database: String,
    /// The first day that has events, for Athena and Glue
    #[arg(long, default_value = "2026-01-01")]
    since: String,
    /// Look for repeats only within a day, so that a condition on `day` limits what is read
    #[arg(long)]
    daily: bool,
    /// File to write; default: standard output
    #[arg(long)]
    out: Option<PathBuf>,
}

pub(super) fn run(config: &Config, options: &ArchiveOptions) -> Result<(), String> {
    let (model, lock) = super::published(config)?;
    let place = ArchivePlace {
        location: options.location.trim_end_matches('/'),
        database: &options.database,
        since: &options.since,
        daily: options.daily,
    };
    let text = ddl(options.engine, place, &model, &lock);
    let Some(file) = &options.out else {
        say_exactly(&text);
        return Ok(());
    };
    put(file, &text).map_err(|error| error.to_string())?;
    say(&format!("wrote {}: {} event types\n", file.display(), model.events.len()));
    Ok(())
}
