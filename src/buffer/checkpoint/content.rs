//! The state that a restart cannot derive from the log.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::lag::{LagNotice, LagRecord};
use crate::failure::Explain;
use crate::identity::Identity;
use crate::letter_id::LetterId;
use crate::position::{CommitSeq, FrameNo, Position, ResumePoint, Transaction};

/// Everything that survives a restart, except the log itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Which source and stream this directory belongs to.
    pub identity: Identity,
    /// Whether the source's slot or cursor existed when this was written.
    pub phase: Phase,
    /// Number of the source's history. Within one epoch, Forebay has followed the history without a gap.
    pub epoch: u16,
    /// Highest position ever confirmed to the source. It is written before the confirmation is sent.
    #[serde(alias = "told")]
    pub ever_confirmed: ResumePoint,
    /// The highest transaction of `watermark`, `durable` or any lane, complete or not.
    #[serde(alias = "tip")]
    pub last_seen: Option<Transaction>,
    /// Everything up to this frame is published.
    #[serde(alias = "low")]
    pub watermark: Mark,
    /// Everything up to this frame is fsynced in the log.
    #[serde(alias = "held")]
    pub durable: Mark,
    /// Progress of lanes beyond `watermark`: the lane, and the frame up to which all its records are
    /// published.
    pub lanes: Vec<(u8, FrameNo)>,
    /// Progress of parts of lanes beyond their lane's progress. A lane has parts if two shards share its hash
    /// range.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lane_parts: Vec<LanePart>,
    /// Single records published beyond their lane's progress: the frame, and the index of the record in it.
    /// Written at a clean stop.
    #[serde(alias = "answered")]
    pub acknowledged: Vec<(FrameNo, u16)>,
    /// Records that are not changes (gaps, retries) and are not settled yet.
    pub injections: Vec<Injection>,
    /// The lag event that was published last (`events.lag`).
    #[serde(default, skip_serializing_if = "LagRecord::is_unset")]
    pub lag: LagRecord,
    /// Offset in bytes of the first line in the dead-letter file whose record is beyond `watermark`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub letters_from: u64,
    /// Totals per event type, of exactly the records that the progress above covers.
    #[serde(alias = "books")]
    pub event_counts: BTreeMap<String, Totals>,
    /// Whether `event_counts` include what lanes have published beyond `watermark`. Earlier versions counted
    /// only what `watermark` had passed.
    #[serde(default)]
    pub counted_by_lane: bool,
    /// Whether the process that wrote this stopped in order, so that nothing beyond `last_seen` was
    /// published. Missing in checkpoints of earlier versions.
    #[serde(default)]
    pub clean: bool,
}

impl Checkpoint {
    /// The checkpoint of a directory that has received nothing yet.
    pub fn fresh(
        identity: Identity,
        phase: Phase,
        epoch: u16,
        ever_confirmed: impl Into<ResumePoint>,
    ) -> Self {
        Self {
            identity,
            phase,
            epoch,
            ever_confirmed: ever_confirmed.into(),
            last_seen: None,
            watermark: Mark { frame: FrameNo(0), position: None },
            durable: Mark { frame: FrameNo(0), position: None },
            lanes: Vec::new(),
            lane_parts: Vec::new(),
            acknowledged: Vec::new(),
            injections: Vec::new(),
            lag: LagRecord::default(),
            letters_from: 0,
            event_counts: BTreeMap::new(),
            counted_by_lane: true,
            clean: false,
        }
    }

    /// Begins a new epoch with the number `least` or higher, which receives from `to` on. Remaining frames of
    /// the old epoch are published before the gap event, which has the reason and the time.
    ///
    /// # Errors
    /// The epoch has its highest number. The checkpoint is unchanged.
    pub fn begin_epoch(
        &mut self,
        least: u16,
        from: Option<Position>,
        to: CommitSeq,
        reason: String,
        at: i64,
    ) -> Result<(), LastEpoch> {
        self.epoch = epoch_after(self.epoch)?.max(least);
        self.ever_confirmed = to.into();
        self.last_seen = None;
        self.clean = false;
        self.injections.push(Injection::Gap { epoch: self.epoch, from, to, reason, at, skipped: None });
        Ok(())
    }

    /// Whether nothing was received into the directory, and nothing waits to be published.
    pub fn has_received_nothing(&self) -> bool {
        let nothing = FrameNo(0);
        self.durable.frame == nothing
            && self.watermark.frame == nothing
            && self.last_seen.is_none()
            && self.injections.is_empty()
    }

    /// Adds the skipped transaction to the gap event of the epoch that has just begun.
    pub fn note_skipped(&mut self, what: Option<Skipped>) {
        if let Some(Injection::Gap { skipped, .. }) = self.injections.last_mut() {
            *skipped = what;
        }
    }
}

/// The epoch has its highest number. The next one would have the same, and consumers would discard its events
/// as repeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no epoch can follow epoch {}", u16::MAX)]
pub struct LastEpoch;

impl Explain for LastEpoch {
    fn code(&self) -> Option<&'static str> {
        Some("epochs_used_up")
    }

    fn detail(&self) -> Option<String> {
        Some("The number of an epoch has 16 bits.".to_owned())
    }

    fn hint(&self) -> Option<String> {
        Some("Set another `name`, an empty buffer.dir and a new slot, and tell the consumers of the new source.".to_owned())
    }
}

/// The number of the next epoch.
///
/// # Errors
/// This is the highest number.
pub fn epoch_after(epoch: u16) -> Result<u16, LastEpoch> {
    epoch.checked_add(1).ok_or(LastEpoch)
}

/// Progress of the first start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The source's slot or cursor does not exist yet, or is being created.
    Creating,
    /// The source's slot or cursor exists.
    Running,
}

/// A frame, and the position of the last change up to it; no position before the first change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Frame number.
    pub frame: FrameNo,
    /// Position of the last change at or before that frame.
    pub position: Option<Position>,
}

/// A part of a lane, and the frame up to which all of its records are published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LanePart {
    /// The first 64-bit hash of the part.
    pub first: u64,
    /// The last 64-bit hash of the part.
    pub last: u64,
    /// The frame up to which all its records are published.
    pub frame: FrameNo,
}

/// A record that is not a change, to be appended at a transaction boundary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Injection {
    /// `forebay.gap.v1`: a new epoch begins, because an operator adopted another history, or because a start
    /// could not prove that it continues the known one.
    Gap {
        /// The new epoch.
        epoch: u16,
        /// Last position of the old epoch; `None` if it had no change.
        from: Option<Position>,
        /// Where the source resumes.
        to: CommitSeq,
        /// The operator's reason, or what could not be proven.
        reason: String,
        /// Time of the adoption, microseconds since the Unix epoch.
        at: i64,
        /// The transaction that the operator skipped, because the source could not send it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        skipped: Option<Skipped>,
    },
    /// The retry of a dead letter. The letter's content stays in the dead-letter file.
    Retry(Retry),
    /// `forebay.lag_exceeded.v1` or `forebay.lag_recovered.v1`.
    Lag(LagNotice),
}

/// A transaction that was skipped: none of its events from the failing change on are published.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// The position of its commit, as the operator gave it.
    pub commit: CommitSeq,
    /// The transaction; `None` if the source did not report it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transaction: Option<Transaction>,
    /// Why the source could not send it.
    pub cause: String,
}

impl Checkpoint {
    /// The unsettled injections that are in a log with this tail after a restart, with their frames.
    pub fn injections_in_the_log(&self, tail: FrameNo) -> Vec<(FrameNo, Injection)> {
        let found = self.injections.iter().filter(|injection| injection.settled().is_none());
        found
            .filter_map(|injection| {
                Some((injection.frame().filter(|frame| *frame <= tail)?, injection.clone()))
            })
            .collect()
    }
}

impl Injection {
    /// Whether both are the same gap, the same notice, or the retry of the same letter, whatever their
    /// progress.
    pub fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Retry(one), Self::Retry(other)) => one.letter == other.letter,
            (one, other) => one == other,
        }
    }

    /// The frame that contains the injection, once that frame is durable.
    pub const fn frame(&self) -> Option<FrameNo> {
        match self {
            Self::Gap { .. } | Self::Lag(_) => None,
            Self::Retry(retry) => retry.frame,
        }
    }

    /// The retry, if the watermark has passed it.
    pub fn settled(&self) -> Option<&Retry> {
        match self {
            Self::Retry(retry) if retry.settled => Some(retry),
            Self::Retry(_) | Self::Gap { .. } | Self::Lag(_) => None,
        }
    }
}

/// The progress of a dead letter's retry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retry {
    /// The dead letter.
    pub letter: LetterId,
    /// The event type under which the event counts include it as quarantined.
    pub event_type: String,
    /// Byte offset of its line in the dead-letter file.
    pub offset: u64,
    /// Byte offset of the line that stores its raw change, if another letter does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raw_offset: Option<u64>,
    /// The frame that contains its records, once that frame is durable. From then on, the retry is not
    /// injected again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frame: Option<FrameNo>,
    /// Whether `watermark` has passed the frame and the event counts are updated. The entry stays until the
    /// dead-letter file has the result too.
    #[serde(default, skip_serializing_if = "is_false")]
    pub settled: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
const fn is_false(flag: &bool) -> bool {
    !*flag
}

/// Counts of one event type. Outcomes are counted when a lane's progress passes an event; received events are
/// counted when the watermark passes them. If no lane is ahead of the watermark, `received` equals the sum of
/// the outcomes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Events in the log up to the watermark, whatever their outcome.
    #[serde(default)]
    pub received: u64,
    /// Events acknowledged by the stream.
    pub published: u64,
    /// Events written to the dead-letter file.
    pub quarantined: u64,
}

impl Totals {
    /// Adds the counts of `other`, which are of the same type.
    pub const fn add(&mut self, other: Self) {
        self.received += other.received;
        self.published += other.published;
        self.quarantined += other.quarantined;
    }
}
