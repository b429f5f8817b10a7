//! The state that a restart cannot derive from the log, and the [file](CheckpointFile) that stores it.

mod content;
mod file;
mod lag;

pub use self::content::{
    Checkpoint, Injection, LanePart, LastEpoch, Mark, Phase, Retry, Skipped, Totals, epoch_after,
};
pub use self::file::{CheckpointError, CheckpointFile, Peeked, SLOT_SIZE};
pub use self::lag::{LagFacts, LagNotice, LagRecord};
