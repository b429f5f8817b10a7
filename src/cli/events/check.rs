//! `forebay events check`: the gate before a merge.

use crate::cli::Common;
use crate::config::Config;
use crate::contracts::check::{Finding, check};
use crate::contracts::lock::Lock;
use crate::pipeline::contract::today;

/// What can be asked.
#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    pub(super) common: Common,
    /// Ask the database for the tables, instead of what it said when the contracts were locked.
    #[arg(long)]
    database: bool,
}

pub(super) fn run(config: &Config, options: &Options) -> Result<(), String> {
    let directory = config.events.lock_directory();
    let shown = directory.display();
    let lock = Lock::read(&directory).map_err(|error| error.to_string())?.ok_or_else(|| {
        format!("{shown} does not exist: run `forebay events lock` and commit what it writes")
    })?;
    let model = if options.database {
        super::describe(config, &super::ask(config)?)?
    } else {
        crate::contracts::load(config).map_err(|error| error.to_string())?
    };
    let (warnings, errors): (Vec<_>, Vec<_>) =
        check(&model, &lock, &today()).into_iter().partition(Finding::is_warning);
    for warning in warnings {
        crate::cli::say(&format!("warning: {warning}\n"));
    }
    if !errors.is_empty() {
        return Err(super::list("what is published is not what was locked", &errors));
    }
    let types = lock.locked.len();
    crate::cli::say(&format!("{types} event types are published as locked in {shown}\n"));
    Ok(())
}
