//! The basin: a bounded log on disk, the checkpoint, and what follows from them.

pub mod checkpoint;
pub mod dead_letter;
pub mod disk;
pub mod frame;
pub mod keeper;
pub mod ledger;
pub mod log;
pub mod reader;
pub mod salvage;
pub mod scan;
pub mod segment;
pub mod stat;
pub mod verify;
pub mod writer;

pub use ledger::Settled;
