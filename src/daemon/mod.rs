//! The process: PostgreSQL and Kinesis as the two ends of a pipeline, its start, its adoption and its stop.
//!
//! Only this layer knows which ends there are. Everything below it is written against `Source` and
//! `Destination`.

pub mod activity;
pub mod adopt;
mod assembly;
mod audit;
pub mod check;
pub mod connector;
pub mod contract;
pub mod fill;
pub mod forecast;
mod heartbeat;
pub mod init;
pub mod lag;
pub mod polled;
pub mod polling;
pub mod recover;
pub mod start;
pub mod supervise;
pub mod takeover;
pub mod teardown;
pub mod watchdog;
