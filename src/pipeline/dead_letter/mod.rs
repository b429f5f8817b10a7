//! Moves records that cannot be published into the dead-letter file, and retries them.
//!
//! The publish loop submits them in batches ([`quarantine`]). One thread writes them, with one fsync per
//! batch, and carries out the requests of `forebay dlq` ([`worker`]). A retry creates their records again
//! ([`retry`]).

mod already_written;
pub mod quarantine;
pub mod retry;
pub mod worker;
mod writer;

pub use self::already_written::AlreadyWritten;
pub use self::quarantine::{Quarantine, Verdict};
pub use self::worker::DeadLetterWorker;
