//! `forebay report`: what became of the events, for people who do not read metrics.
//!
//! It reads the buffer directory, of a running daemon or of a stopped one: totals from the checkpoint, what is in flight from
//! the log, hours and days from the [activity history](crate::buffer::activity). In flight is counted from the log and the
//! progress of the lanes, and the event counts are kept by the publish loop: that both come to the same proves that no event
//! was lost.

mod collect;
mod html;
mod text;

pub use self::collect::{EventReport, ReportProgress, TypeTotals, read};
pub use self::html::html;
pub use self::text::{csv, text};
