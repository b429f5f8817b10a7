//! Metrics and health, around the two loops and never inside them.

pub mod http;
pub mod log;
mod page;
pub mod report;
