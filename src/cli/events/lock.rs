//! `forebay events lock`: locks what is published as contracts.

use std::path::Path;

use crate::cli::Common;
use crate::config::Config;
use crate::contracts::check::{ContractFinding, case_only, check, to_lock};
use crate::contracts::lock::{Lock, path, put};
use crate::contracts::model::EventModel;
use crate::contracts::snapshot;
use crate::time::today;

/// Options of `events lock`.
#[derive(Debug, clap::Args)]
pub struct LockOptions {
    #[command(flatten)]
    pub(super) common: Common,
    /// Lock automatic events too. A table change other than a new column is then an error, until a rule keeps the
    /// form of its events
    #[arg(long)]
    automatic: bool,
}

pub(super) fn run(config: &Config, options: &LockOptions) -> Result<(), String> {
    let directory = config.events.lock_directory();
    let lock = Lock::read(&directory).map_err(crate::cli::problem)?.unwrap_or_default();
    let tables = super::ask(config)?;
    let model = super::describe(config, &tables)?;
    let mut blockers: Vec<ContractFinding> = check(&model, &lock, &today())
        .into_iter()
        .filter(|finding| !finding.is_warning() && !finding.is_for_lock())
        .collect();
    let schemas = to_lock(&model, &lock, options.automatic);
    let is_first = |event: &EventModel| event.automatic && lock.of(&event.event_type).is_none();
    let of_tables: Vec<_> = schemas.iter().filter(|(event, ..)| is_first(event)).cloned().collect();
    blockers.extend(case_only(&of_tables, &lock));
    if !blockers.is_empty() {
        return Err(super::list(
            "nothing was locked: event schemas differ from the locked contracts, or cannot be contracts",
            &blockers,
        ));
    }
    let mut said = String::new();
    let mut write = |file: &Path, text: &str| -> Result<(), String> {
        if put(&directory.join(file), text).map_err(crate::cli::problem)? {
            crate::cli::add(&mut said, format_args!("wrote {}", directory.join(file).display()));
        }
        Ok(())
    };
    for (event, minor, schema) in schemas {
        let text = serde_json::to_string_pretty(&schema).map_err(|error| error.to_string())? + "\n";
        write(&path(&event.stem, event.major, minor), &text)?;
    }
    let text = snapshot::text(&tables).map_err(|error| error.to_string())?;
    write(Path::new(snapshot::FILE), &text)?;
    if said.is_empty() {
        said.push_str("nothing to lock: no changes\n");
    }
    let only_automatic = model.events.iter().all(|event| event.automatic);
    if only_automatic && !options.automatic && lock.locked.is_empty() {
        said.push_str("no rules and no outbox schemas; use --automatic to lock the automatic events\n");
    }
    crate::cli::say(&said);
    Ok(())
}
