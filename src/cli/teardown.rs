//! `forebay teardown`: drops the replication slot when an installation is removed.

use std::fmt::Write as _;

use crate::config::Config;
use crate::config::units::ByteAmount;
use crate::daemon::teardown::{Teardown, TeardownOrder, TeardownPlan};
use crate::failure::Failure;

/// Options of `teardown`.
#[derive(Debug, clap::Args)]
pub struct TeardownOptions {
    #[command(flatten)]
    pub(super) common: super::Common,
    /// Do it; without this option only the plan is printed
    #[arg(long)]
    yes: bool,
    /// Drop the publication as well
    #[arg(long)]
    drop_publication: bool,
    /// Give up changes that are in the buffer directory and not in the stream
    #[arg(long)]
    discard_unpublished: bool,
}

/// Prints the plan. With `--yes`, carries it out.
///
/// # Errors
/// The plan cannot be made or carried out.
pub fn run(config: &Config, options: &TeardownOptions) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start: {error}"))?;
    let order = TeardownOrder {
        drop_publication: options.drop_publication,
        discard_unpublished: options.discard_unpublished,
        at: crate::time::now_micros(),
    };
    let done = runtime.block_on(async {
        let teardown = Teardown::prepare(config).await?;
        super::say(&describe(teardown.plan(), order));
        if !options.yes {
            super::say("Nothing was changed. Add --yes to do it.\n");
            return Ok::<_, Failure>(None);
        }
        teardown.carry_out(order).await.map(Some)
    });
    // A thread that is waiting for a DNS server must not delay the exit.
    runtime.shutdown_background();
    if let Some(done) = done.map_err(super::explain)? {
        super::say(&finished(&done));
    }
    Ok(())
}

fn describe(plan: &TeardownPlan, order: TeardownOrder) -> String {
    let mut text = String::new();
    let mut line = |label: &str, fact: &str| {
        let written = writeln!(text, "{label:<13}{fact}");
        debug_assert!(written.is_ok(), "writing to a String cannot fail");
    };
    match (&plan.slot, plan.polled) {
        (_, true) => line("slot", "none: the source is polled"),
        (None, false) => line("slot", "does not exist: nothing to drop"),
        (Some((name, retained)), false) => {
            line("slot", &format!("\"{name}\" will be dropped; it retains {} of WAL", ByteAmount(*retained)));
            if plan.not_received > 0 {
                let wal = ByteAmount(plan.not_received);
                line("", &format!("{wal} of WAL are not confirmed: changes in it will not reach the stream"));
            }
        }
    }
    match &plan.publication {
        None => {}
        Some(name) if order.drop_publication => line("publication", &format!("\"{name}\" will be dropped")),
        Some(name) => {
            line("publication", &format!("\"{name}\" stays; --drop-publication drops it"));
        }
    }
    match (&plan.directory, plan.unpublished) {
        (None, _) => line("directory", "does not exist: which changes were published is unknown"),
        (Some(path), unpublished) => {
            let fact = match unpublished {
                Some(0) => "its changes are published".to_owned(),
                Some(changes) => format!("it has up to {changes} unpublished changes"),
                None => "which of its changes are published is unknown".to_owned(),
            };
            line("directory", &format!("{} stays, with its dead letters; {fact}", path.display()));
        }
    }
    line("stream", "stays as it is");
    text
}

fn finished(plan: &TeardownPlan) -> String {
    let mut text = match &plan.slot {
        Some((name, _)) => format!("Replication slot \"{name}\" is dropped.\n"),
        None => "Nothing was left to drop.\n".to_owned(),
    };
    if let Some(path) = &plan.directory {
        let written =
            writeln!(text, "{} can be deleted once its dead letters are not needed.", path.display());
        debug_assert!(written.is_ok(), "writing to a String cannot fail");
    }
    text
}
