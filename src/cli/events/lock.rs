//! `forebay events lock`: what is published becomes a contract.

use std::path::Path;

use crate::cli::Common;
use crate::config::Config;
use crate::contracts::check::{Finding, check, to_lock};
use crate::contracts::lock::{Lock, path, put};
use crate::contracts::snapshot;
use crate::pipeline::contract::today;

/// What can be ordered.
#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    pub(super) common: Common,
    /// Lock automatic events too. They follow their tables: a table that changes in another way than by a new column is then
    /// an error, until a rule keeps the form of its events.
    #[arg(long)]
    automatic: bool,
}

pub(super) fn run(config: &Config, options: &Options) -> Result<(), String> {
    let directory = config.events.lock_directory();
    let lock = Lock::read(&directory).map_err(|error| error.to_string())?.unwrap_or_default();
    let tables = super::ask(config)?;
    let model = super::describe(config, &tables)?;
    let hindrances: Vec<Finding> = check(&model, &lock, &today())
        .into_iter()
        .filter(|finding| !finding.is_warning() && !finding.is_for_lock())
        .collect();
    if !hindrances.is_empty() {
        return Err(super::list("nothing was locked: what is published is not what was locked", &hindrances));
    }
    let mut said = String::new();
    let mut write = |file: &Path, text: &str| -> Result<(), String> {
        if put(&directory.join(file), text).map_err(|error| error.to_string())? {
            crate::cli::add(&mut said, format_args!("wrote {}", directory.join(file).display()));
        }
        Ok(())
    };
    for (event, minor, schema) in to_lock(&model, &lock, options.automatic) {
        let text = serde_json::to_string_pretty(&schema).map_err(|error| error.to_string())? + "\n";
        write(&path(&event.stem, event.major, minor), &text)?;
    }
    let text = snapshot::text(&tables).map_err(|error| error.to_string())?;
    write(Path::new(snapshot::FILE), &text)?;
    if said.is_empty() {
        said.push_str("nothing to lock: everything is as it was\n");
    }
    let only_automatic = model.events.iter().all(|event| event.automatic);
    if only_automatic && !options.automatic && lock.locked.is_empty() {
        said.push_str("there are no rules, and no schemas of outboxes; with --automatic, the automatic events are locked\n");
    }
    crate::cli::say(&said);
    Ok(())
}
