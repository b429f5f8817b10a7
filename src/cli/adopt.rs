//! `forebay adopt`: the way forward from every refusal.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::config::Config;
use crate::pipeline::adopt::{Adopted, Order, adopt};
use crate::pipeline::database;

/// What can be ordered.
#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    pub(super) common: super::Common,
    /// Why; it goes into the audit file and into the published gap.
    #[arg(long)]
    reason: String,
    /// Drop this slot and make it again, giving up what it still holds; the name must be the configured one.
    #[arg(long, value_name = "SLOT")]
    recreate_slot: Option<String>,
}

/// Adopts, and says what that means.
///
/// # Errors
/// Nothing was adopted.
pub fn run(config: &Config, options: &Options) -> Result<(), String> {
    if options.reason.trim().is_empty() {
        return Err("--reason is empty: say why, it is what the next person reads".to_owned());
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start: {error}"))?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let order = Order {
        reason: options.reason.clone(),
        recreate_slot: options.recreate_slot.clone(),
        at: i64::try_from(now.as_micros()).unwrap_or(i64::MAX),
    };
    let settings = database::settings(config).map_err(|error| error.to_string())?;
    let adopted =
        runtime.block_on(adopt(config, &settings, &order)).map_err(|failure| failure.to_string())?;
    super::say(&describe(&adopted));
    Ok(())
}

fn describe(adopted: &Adopted) -> String {
    let known = |value: Option<String>| value.unwrap_or_else(|| "unknown".to_owned());
    format!(
        "Epoch {} begins.\n  last change kept:   {}\n  last confirmed:     {}\n  the slot begins at: {}\n  held frames kept:   {} (they will be published)\n  held frames lost:   {}\nThe gap will be published as forebay.gap.v1. Start the daemon now.\n",
        adopted.epoch,
        known(adopted.from.map(|position| position.to_string())),
        known(adopted.told.map(|told| told.to_string())),
        adopted.to,
        adopted.kept,
        adopted.lost,
    )
}
