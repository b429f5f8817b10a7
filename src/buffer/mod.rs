//! The write-ahead buffer: a bounded log on disk, its checkpoint, and the rules for what may be confirmed to
//! the source.

pub mod activity;
pub mod checkpoint;
pub mod checkpointer;
pub mod demand;
pub mod disk;
pub mod frame;
pub mod ledger;
pub mod log;
pub mod reader;
pub mod salvage;
pub mod scan;
pub mod segment;
pub mod stat;
pub mod tail;
pub mod unpublished;
pub mod verify;
pub mod writer;

pub use ledger::Settled;
