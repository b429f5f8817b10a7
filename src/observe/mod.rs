//! Metrics and health. They observe the two loops from outside.

pub mod http;
pub mod log;
mod page;
pub mod report;
