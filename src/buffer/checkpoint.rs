//! What cannot be derived, and the [file](CheckpointFile) that keeps it.

mod file;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use self::file::{CheckpointError, CheckpointFile, Peeked, SLOT_SIZE};
use super::dead_letter::LetterId;
use crate::position::{FrameNo, Lsn, Position, Transaction};

/// Everything Forebay remembers across a restart, beside the log itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Which database, slot and stream this directory belongs to.
    pub identity: Identity,
    /// Whether publication and slot were still being made when this was written.
    pub phase: Phase,
    /// Which history of the source; `adopt` begins a new one.
    pub epoch: u16,
    /// Highest LSN ever confirmed, or about to be: written before Postgres is told.
    pub told: Lsn,
    /// The highest transaction that `low`, `held` or any lane names, finished or not.
    pub tip: Option<Transaction>,
    /// Everything up to this frame is published.
    pub low: Mark,
    /// Everything up to this frame is fsynced in the log.
    pub held: Mark,
    /// What is published beyond `low`: lane, and the frame up to which all of its records are.
    pub lanes: Vec<(u8, FrameNo)>,
    /// Single records published beyond their lane's progress: frame and ordinal in the frame. Written at a clean stop.
    pub answered: Vec<(FrameNo, u16)>,
    /// Records that are not changes and are not settled yet.
    pub injections: Vec<Injection>,
    /// Totals per event type.
    pub books: BTreeMap<String, Totals>,
}

impl Checkpoint {
    /// Of a directory in which nothing has been received yet.
    pub const fn fresh(identity: Identity, phase: Phase, epoch: u16, told: Lsn) -> Self {
        Self {
            identity,
            phase,
            epoch,
            told,
            tip: None,
            low: Mark { frame: FrameNo(0), position: None },
            held: Mark { frame: FrameNo(0), position: None },
            lanes: Vec::new(),
            answered: Vec::new(),
            injections: Vec::new(),
            books: BTreeMap::new(),
        }
    }
}

/// What a directory belongs to. Another one is refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// `system_identifier` of the database cluster; text, because JSON numbers end at 2^53 for many readers.
    pub system_id: String,
    /// Timeline of the write-ahead log.
    pub timeline: u32,
    /// Database name.
    pub database: String,
    /// Replication slot.
    pub slot: String,
    /// Publication.
    pub publication: String,
    /// CloudEvents source, `urn:forebay:<name>`.
    pub source: String,
    /// The stream; unknown until Kinesis has answered for the first time.
    pub stream: Option<StreamIdentity>,
    /// How keys are spread over lanes. Lane progress counts only under the same.
    pub lane_hash: String,
}

/// Which stream, and which one of that name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamIdentity {
    /// ARN.
    pub arn: String,
    /// Creation time, milliseconds since the Unix epoch.
    pub created: i64,
}

/// How far the first start has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Publication and slot are to be made, or being made.
    Creating,
    /// Both exist.
    Running,
}

/// A frame, and the position of its change; no position before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Frame number.
    pub frame: FrameNo,
    /// Position of the last change at or before that frame.
    pub position: Option<Position>,
}

/// A record that is not a change, to be appended at a transaction boundary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Injection {
    /// `forebay.gap.v1`: a person has adopted a new history.
    Gap {
        /// Epoch that began with it.
        epoch: u16,
        /// Last position of the old history, if any.
        from: Option<Position>,
        /// Where the slot begins.
        to: Lsn,
        /// What the person wrote.
        reason: String,
        /// When, microseconds since the Unix epoch.
        at: i64,
    },
    /// A dead letter that is to be published after all. Its content stays in the dead-letter file.
    Retry(Retry),
}

impl Injection {
    /// Whether both are about the same thing, however far it has come.
    pub fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Retry(one), Self::Retry(other)) => one.letter == other.letter,
            (one, other) => one == other,
        }
    }

    /// The frame of a log that survives a restart, if it is in one.
    pub const fn frame(&self) -> Option<FrameNo> {
        match self {
            Self::Gap { .. } => None,
            Self::Retry(retry) => retry.frame,
        }
    }
}

/// How far the retry of a dead letter has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retry {
    /// Which one.
    pub letter: LetterId,
    /// Event type under which the books count it as quarantined.
    pub event_type: String,
    /// Where its line begins in the dead-letter file.
    pub offset: u64,
    /// The frame that brings it, once that is held: then it is not injected again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frame: Option<FrameNo>,
    /// `low` has passed the frame, and the books have moved. It stays until the dead-letter file says so too.
    #[serde(default, skip_serializing_if = "is_false")]
    pub settled: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
const fn is_false(flag: &bool) -> bool {
    !*flag
}

/// Books of one event type: received = published + quarantined + in flight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Accepted by the stream.
    pub published: u64,
    /// In the dead letter.
    pub quarantined: u64,
}
