//! Events that the application wrote itself: rows of an outbox table, or logical messages. The payload is
//! passed through.
//!
//! An insert is an event. Updates and deletes only clean up the outbox, and are ignored. A row or message
//! with an invalid type, key or payload becomes a dead letter as a whole.

mod event;
mod table;

pub use self::event::{Names, Tools, message};
pub use self::table::OutboxPlan;

#[cfg(test)]
mod tests;
