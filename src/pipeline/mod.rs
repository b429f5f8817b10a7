//! The two loops, and everything that both need: attempts, dead letters, status and metrics.
//!
//! Each attempt of either loop starts from the state of the buffer. So start, reconnect and crash recovery
//! are one path.

pub mod attempts;
pub mod dead_letter;
pub mod ingest;
pub mod meters;
pub mod publish;
pub mod start;
pub mod status;

/// The phases of the process. Both loops watch it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Everything runs.
    Running,
    /// The source is no longer read. The process waits for requests in flight.
    Stopping,
    /// The last checkpoint is written. The ingest loop confirms it and closes the connection.
    LastConfirm,
}
