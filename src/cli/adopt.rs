//! `forebay adopt`: accepts a new slot, database or stream after a refusal.

use crate::config::Config;
use crate::daemon::adopt::{Adopted, Order, adopt};
use crate::position::CommitSeq;

use super::progress::Progress;

/// Options of `adopt`.
#[derive(Debug, clap::Args)]
pub struct AdoptOptions {
    #[command(flatten)]
    pub(super) common: super::Common,
    /// Reason, for the audit file and the published gap event
    #[arg(long)]
    reason: String,
    /// Drop and create this slot again, and lose the changes it retains; must be the configured slot
    #[arg(long, value_name = "SLOT")]
    recreate_slot: Option<String>,
    /// Give up the transaction that commits at this position, which the server cannot send; the log names it
    #[arg(long, value_name = "LSN")]
    skip_transaction: Option<CommitSeq>,
    /// For a polled source: publish again the rows of so many transactions, or "all"
    #[arg(long, value_name = "TRANSACTIONS", default_value = "1000000", value_parser = rewind)]
    rewind: Rewind,
}

/// How many transactions of a polled source are read again; `None`: all.
#[derive(Clone, Copy, Debug)]
struct Rewind(Option<u64>);

fn rewind(text: &str) -> Result<Rewind, String> {
    match text {
        "all" => Ok(Rewind(None)),
        number => number
            .parse()
            .map(|number| Rewind(Some(number)))
            .map_err(|_| "is no number, nor \"all\"".to_owned()),
    }
}

/// Adopts and prints the result.
///
/// # Errors
/// Nothing was adopted.
pub fn run(config: &Config, options: &AdoptOptions) -> Result<(), String> {
    if options.reason.trim().is_empty() {
        return Err("--reason is empty; state why, for the audit file and the gap event".to_owned());
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start: {error}"))?;
    let order = Order {
        reason: options.reason.clone(),
        recreate_slot: options.recreate_slot.clone(),
        skip_transaction: options.skip_transaction,
        rewind: options.rewind.0,
        at: crate::time::now_micros(),
    };
    let progress = Progress::waiting("opening the buffer directory");
    let adopted =
        runtime.block_on(adopt(config, &order, &|waits| progress.show(&waits))).map_err(super::explain)?;
    drop(progress);
    super::say(&describe(&adopted));
    Ok(())
}

fn describe(adopted: &Adopted) -> String {
    let known = |value: Option<String>| value.unwrap_or_else(|| "unknown".to_owned());
    let skipped = adopted.skipped.as_ref().map_or_else(String::new, |skipped| {
        let xid = known(skipped.transaction.map(|transaction| transaction.xid.to_string()));
        format!("  transaction given up: {xid}, commit {}\n", skipped.commit)
    });
    format!(
        "Epoch {} begins.\n  last change kept:     {}\n  last confirmed:       {}\n  resumes at:           {}\n  durable frames kept:  {} (will be published)\n  durable frames lost:  {}\n{skipped}The gap will be published as forebay.gap.v1. Start the daemon now.\n",
        adopted.epoch,
        known(adopted.from.map(|position| position.to_string())),
        known(adopted.ever_confirmed.map(|ever_confirmed| ever_confirmed.to_string())),
        adopted.to,
        adopted.kept,
        adopted.lost,
    )
}
