//! The two loops, and everything that both need: attempts, dead letters, status and metrics.
//!
//! Each attempt of either loop starts from the state of the buffer. So start, reconnect and crash recovery are one path.

pub mod attempts;
pub mod dead_letter;
pub mod ingest;
pub mod meters;
pub mod publish;
pub mod start;
pub mod status;

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
