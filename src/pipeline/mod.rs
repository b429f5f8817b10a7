//! The two loops, recovery, start and stop.
//!
//! Each attempt of either loop starts from what the buffer says, so start-up, reconnect and crash recovery are one path.

pub mod adopt;
pub mod append;
pub mod attempts;
pub mod contract;
pub mod database;
pub mod desk;
pub mod health;
pub mod history;
pub mod ingest;
pub mod meters;
pub mod notice;
pub mod poison;
pub mod publish;
mod readers;
pub mod recover;
mod remarks;
pub mod retry;
mod seldom;
pub mod start;
mod stream;
pub mod supervise;
pub mod watchdog;

/// How far the process is on its way out. Both loops watch it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Everything runs.
    Running,
    /// The source is no longer read; requests that are out are waited for.
    Stopping,
    /// The last checkpoint is written: confirm it and hang up.
    LastConfirm,
}
