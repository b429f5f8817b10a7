//! `forebay events check`: compares rules and contracts, for example before a merge.

use crate::cli::Common;
use crate::config::Config;
use crate::contracts::check::{ContractFinding, check};
use crate::contracts::lock::Lock;
use crate::time::today;

/// Options of `events check`.
#[derive(Debug, clap::Args)]
pub struct CheckOptions {
    #[command(flatten)]
    pub(super) common: Common,
    /// Read the table definitions from the database instead of the locked snapshot
    #[arg(long)]
    database: bool,
}

pub(super) fn run(config: &Config, options: &CheckOptions) -> Result<(), String> {
    let directory = config.events.lock_directory();
    let shown = directory.display();
    let lock = Lock::read(&directory)
        .map_err(crate::cli::problem)?
        .ok_or_else(|| format!("{shown} does not exist; run `forebay events lock` and commit its output"))?;
    let model = if options.database {
        super::describe(config, &super::ask(config)?)?
    } else {
        crate::contracts::load(config).map_err(crate::cli::problem)?
    };
    let (warnings, errors): (Vec<_>, Vec<_>) =
        check(&model, &lock, &today()).into_iter().partition(ContractFinding::is_warning);
    for warning in warnings {
        crate::cli::say(&format!("warning: {warning}\n"));
    }
    if !errors.is_empty() {
        return Err(super::list("event schemas differ from the locked contracts", &errors));
    }
    let types = lock.locked.len();
    crate::cli::say(&format!("{types} event types match the contracts in {shown}\n"));
    Ok(())
}
