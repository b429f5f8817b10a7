//! `forebay events check`: compares rules and contracts, for example before a merge.

use crate::cli::Common;
use crate::config::Config;
use crate::contracts::check::{ContractFinding, check};
use crate::contracts::lock::Lock;
use crate::contracts::published::Published;
use crate::failure::Problem;
use crate::time::today;

use super::git;

/// Options of `events check`.
#[derive(Debug, clap::Args)]
pub struct CheckOptions {
    #[command(flatten)]
    pub(super) common: Common,
    /// Read the table definitions from the database instead of the locked snapshot
    #[arg(long)]
    database: bool,
    /// Compare the contracts with those of a commit too, such as origin/main: a schema that is published
    /// there must be here unchanged, and another meaning must have been accepted since
    #[arg(long, value_name = "GIT REF")]
    against: Option<String>,
}

pub(super) fn run(config: &Config, options: &CheckOptions) -> Result<(), String> {
    let directory = config.events.lock_directory();
    let shown = directory.display();
    let before = match &options.against {
        Some(commit) => Some((commit, Published::read(git::files(&directory, commit)?)?)),
        None => None,
    };
    let lock = Lock::read(&directory).map_err(crate::cli::problem)?.ok_or_else(|| {
        let problem = Problem::new(format!("{shown} does not exist"));
        problem.with_hint("Run `forebay events lock` and commit its output.").lines()
    })?;
    let model = if options.database {
        super::describe(config, &super::tables(config)?)?
    } else {
        crate::contracts::load(config).map_err(crate::cli::problem)?
    };
    if let Some((commit, before)) = before {
        let publishes = |event_type: &str| model.event(event_type).is_some();
        let (retired, wrong) = before.compare(&lock, publishes);
        for event_type in retired {
            crate::cli::say(&format!("warning: {event_type} is published at {commit}, and no longer here\n"));
        }
        if !wrong.is_empty() {
            let lines = wrong.iter().fold(String::new(), |text, line| text + "\n- " + line);
            return Err(format!(
                "contracts that are published at {commit} were changed:{lines}\nRestore them with git \
                 checkout, and let `forebay events lock` write new versions."
            ));
        }
    }
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
