//! Lag events: the facts of a change of state, as the checkpoint keeps them until they are published.

use serde::{Deserialize, Serialize};

use crate::position::CommitSeq;

/// The lag event that was published last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LagRecord {
    /// Number of the last notice; 0 before the first.
    pub number: u32,
    /// Since when the lag is exceeded, microseconds since the Unix epoch; `None`: it is not.
    pub exceeded_at: Option<i64>,
}

impl LagRecord {
    /// Whether there was no notice yet.
    pub fn is_unset(&self) -> bool {
        *self == Self::default()
    }
}

/// A change of state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LagFacts {
    /// Whether the lag is back below its limit; otherwise it has exceeded it.
    pub recovered: bool,
    /// When that was found, microseconds since the Unix epoch.
    pub at: i64,
    /// When the lag exceeded its limit.
    pub exceeded_at: i64,
    /// The lag at `at`, in seconds.
    pub lag_seconds: u64,
    /// The highest lag since `exceeded_at`.
    pub highest_seconds: u64,
    /// The limit.
    pub max_seconds: u64,
}

/// The event about a change of state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LagNotice {
    /// Epoch of the event.
    pub epoch: u16,
    /// The position that was confirmed to the source when the event was made. It never falls within an epoch, so that with
    /// `number` the events have rising sequences.
    pub commit: CommitSeq,
    /// Counts the notices of a directory.
    pub number: u32,
    /// The facts.
    #[serde(flatten)]
    pub facts: LagFacts,
}
