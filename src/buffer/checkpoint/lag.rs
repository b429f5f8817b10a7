//! Lag events: the facts of a change of state, stored in the checkpoint until the event is published.

use serde::{Deserialize, Serialize};

use crate::position::CommitSeq;

/// The lag event that was published last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LagRecord {
    /// Number of the last event; 0 before the first.
    pub number: u32,
    /// Since when the lag exceeds its limit, microseconds since the Unix epoch; `None` while it does not.
    pub exceeded_at: Option<i64>,
}

impl LagRecord {
    /// Whether there was no event yet.
    pub fn is_unset(&self) -> bool {
        *self == Self::default()
    }
}

/// The lag has exceeded its limit or is back below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LagFacts {
    /// `true`: the lag is back below its limit; `false`: it has exceeded it.
    pub recovered: bool,
    /// When that was detected, microseconds since the Unix epoch.
    pub at: i64,
    /// When the lag exceeded its limit, microseconds since the Unix epoch.
    pub exceeded_at: i64,
    /// The lag at `at`, in seconds.
    pub lag_seconds: u64,
    /// The highest lag since `exceeded_at`, in seconds.
    pub highest_seconds: u64,
    /// The limit in seconds.
    pub max_seconds: u64,
}

/// A lag event that is to be published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LagNotice {
    /// Epoch of the event.
    pub epoch: u16,
    /// The position that was confirmed to the source when the event was created. It never decreases within an
    /// epoch, so together with `number` the `sequence` of these events increases.
    pub commit: CommitSeq,
    /// Number of the event in this directory.
    pub number: u32,
    /// The facts.
    #[serde(flatten)]
    pub facts: LagFacts,
}
