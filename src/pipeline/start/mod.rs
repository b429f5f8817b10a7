//! The part of a start that does not depend on the source: opens the buffer directory and prepares the two
//! loops. The source itself decides whether it continues the known history.

pub mod directory;
pub mod recover;

pub use self::directory::{Decided, LockedDirectory, SourceTurn, Started};
