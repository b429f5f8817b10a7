//! The two loops, recovery, start and stop.
//!
//! Each attempt of either loop starts from what the buffer says, so start-up, reconnect and crash recovery are one path.

pub mod recover;
