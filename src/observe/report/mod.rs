//! `forebay report`: the outcomes of events, for readers without access to metrics.
//!
//! It reads the buffer directory of a running or a stopped daemon: totals from the checkpoint, events in
//! flight from the log, hours and days from the [activity history](crate::buffer::activity). Events in flight
//! are counted from the log and the progress of the lanes, and the totals by the publish loop. If both give
//! the same result, no event was lost.

mod collect;
mod html;
mod text;

pub use self::collect::{EventReport, ReportProgress, TypeTotals, read};
pub use self::html::html;
pub use self::text::{csv, text};
