//! `forebay events lock`: locks what is published as contracts.

use std::path::Path;

use crate::cli::Common;
use crate::config::Config;
use crate::contracts::check::{ContractFinding, case_only, check, to_lock};
use crate::contracts::lock::{Lock, put};
use crate::contracts::locking::{LockRequest, Turn, files};
use crate::contracts::model::EventModel;
use crate::contracts::snapshot;
use crate::time::today;

/// Longest reason of `--accept`, in characters. It is shown in the catalogue.
const REASON_MAX: usize = 500;

/// Options of `events lock`.
#[derive(Debug, clap::Args)]
pub struct LockOptions {
    #[command(flatten)]
    pub(super) common: Common,
    /// Lock automatic events too. A table change other than a new column is then an error, until a rule keeps
    /// the form of its events
    #[arg(long)]
    automatic: bool,
    /// Accept events that have the locked form and another meaning, for this reason: another table,
    /// operation, condition or expression. It is kept beside the contract and shown in the catalogue
    #[arg(long, value_name = "REASON", value_parser = reason)]
    accept: Option<String>,
}

fn reason(text: &str) -> Result<String, String> {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match text.chars().count() {
        0 => Err("say why consumers may take it for the same event".to_owned()),
        count if count > REASON_MAX => {
            Err(format!("the reason has {count} characters; the limit is {REASON_MAX}"))
        }
        _ => Ok(text),
    }
}

pub(super) fn run(config: &Config, options: &LockOptions) -> Result<(), String> {
    let directory = config.events.lock_directory();
    // Held until the end. Everything below must be read after other processes have finished.
    let wait = || crate::cli::say("another `forebay events lock` is running here; waiting for its end\n");
    let turn = Turn::take(&directory, wait).map_err(crate::cli::problem)?;
    let lock = Lock::read(&directory).map_err(crate::cli::problem)?.unwrap_or_default();
    let tables = super::tables(config)?;
    let model = super::describe(config, &tables)?;
    let accepts = |finding: &ContractFinding| options.accept.is_some() && finding.is_for_accept();
    let found = check(&model, &lock, &today());
    let is_accepted = found.iter().any(accepts);
    let mut blockers: Vec<ContractFinding> = found
        .into_iter()
        .filter(|finding| !finding.is_warning() && !finding.is_for_lock() && !accepts(finding))
        .collect();
    let schemas = to_lock(&model, &lock, options.automatic, options.accept.is_some());
    let is_first = |event: &EventModel| event.automatic && lock.of(&event.event_type).is_none();
    let of_tables: Vec<_> = schemas.iter().filter(|(event, ..)| is_first(event)).cloned().collect();
    blockers.extend(case_only(&of_tables, &lock));
    if !blockers.is_empty() {
        return Err(super::list(
            "nothing was locked: event schemas differ from the locked contracts, or cannot be contracts",
            &blockers,
        ));
    }
    let mut report = String::new();
    let mut write = |file: &Path, text: &str| -> Result<(), String> {
        if put(&directory.join(file), text).map_err(crate::cli::problem)? {
            crate::cli::add(&mut report, format_args!("wrote {}", directory.join(file).display()));
        }
        Ok(())
    };
    let day = today();
    let request = LockRequest {
        automatic: options.automatic,
        accepted: options.accept.as_deref().map(|reason| (reason, day.as_str())),
    };
    for (file, text) in files(&model, &lock, &request).map_err(|error| error.to_string())? {
        write(&file, &text)?;
    }
    let text = snapshot::text(&tables).map_err(|error| error.to_string())?;
    write(Path::new(snapshot::FILE), &text)?;
    if report.is_empty() {
        report.push_str("nothing to lock: no changes\n");
    }
    if options.accept.is_some() && !is_accepted {
        report.push_str("nothing to accept: every event means what was locked\n");
    }
    let only_automatic = model.events.iter().all(|event| event.automatic);
    if only_automatic && !options.automatic && lock.locked.is_empty() {
        report.push_str("no rules and no outbox schemas; use --automatic to lock the automatic events\n");
    }
    crate::cli::say(&report);
    drop(turn);
    Ok(())
}
