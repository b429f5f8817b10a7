//! `forebay events schema`: prints or writes the locked schemas, closed or open for readers.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::cli::{Common, say, say_exactly};
use crate::config::Config;
use crate::contracts::lock::{Lock, Locked, path, put, url};
use crate::contracts::open;
use crate::failure::Problem;

/// Options of `events schema`.
#[derive(Debug, clap::Args)]
pub struct SchemaOptions {
    #[command(flatten)]
    pub(super) common: Common,
    /// Event type, with its major version; default with --out: all
    #[arg(value_name = "TYPE")]
    event_type: Option<String>,
    /// Allow additions, and use only keywords that validators and generators know
    #[arg(long)]
    open: bool,
    /// Minor version to print; default: the newest
    #[arg(long, conflicts_with = "out")]
    minor: Option<u32>,
    /// Directory for all minor versions, as `TYPE/MAJOR.MINOR.json`; default: standard output
    #[arg(long)]
    out: Option<PathBuf>,
}

fn missing(directory: &Path) -> String {
    let problem = Problem::new(format!("{} does not exist", directory.display()));
    problem.with_hint("Run `forebay events lock`.").lines()
}

pub(super) fn run(config: &Config, options: &SchemaOptions) -> Result<(), String> {
    let directory = config.events.lock_directory();
    let lock = Lock::read(&directory).map_err(crate::cli::problem)?.ok_or_else(|| missing(&directory))?;
    let wanted: Vec<&Locked> = match &options.event_type {
        Some(name) => vec![lock.of(name).ok_or_else(|| unknown(name, &lock))?],
        None => lock.locked.iter().collect(),
    };
    let Some(out) = &options.out else {
        let [locked] = wanted[..] else {
            return Err("name an event type, or a directory with --out".to_owned());
        };
        let minor = options.minor.unwrap_or_else(|| locked.minor());
        let found = locked.versions.iter().find(|(known, _)| *known == minor);
        let (_, schema) = found.ok_or_else(|| {
            format!(
                "{} has no version {}.{minor}; the newest is {}.{}",
                locked.event_type,
                locked.major,
                locked.major,
                locked.minor()
            )
        })?;
        say_exactly(&text(config, locked, (minor, schema), options.open)?);
        return Ok(());
    };
    let written = write(config, &wanted, options.open, out)?;
    say(&format!("wrote {written} schemas to {}\n", out.display()));
    Ok(())
}

/// Writes all minor versions of some types. Returns how many.
pub(super) fn write(config: &Config, wanted: &[&Locked], open: bool, out: &Path) -> Result<usize, String> {
    let mut written = 0_usize;
    for locked in wanted {
        for (minor, schema) in &locked.versions {
            let file = out.join(path(&locked.stem, locked.major, *minor));
            let text = text(config, locked, (*minor, schema), open)?;
            put(&file, &text).map_err(|error| error.to_string())?;
            written += 1;
        }
    }
    Ok(written)
}

fn text(
    config: &Config,
    locked: &Locked,
    (minor, schema): (u32, &Value),
    open: bool,
) -> Result<String, String> {
    let id = config.events.schemas.as_deref().map(|base| url(base, &locked.stem, locked.major, minor));
    let schema = if open { open::document(schema, id.as_deref()) } else { schema.clone() };
    serde_json::to_string_pretty(&schema).map(|text| text + "\n").map_err(|error| error.to_string())
}

fn unknown(name: &str, lock: &Lock) -> String {
    let known: Vec<&str> = lock.locked.iter().map(|locked| locked.event_type.as_str()).take(20).collect();
    format!("{name} is not locked; locked are {}", known.join(", "))
}
