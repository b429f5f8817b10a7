//! Decides how a start continues, from the state of the buffer directory and the source's admission: where
//! the log is truncated, which lane progress counts, and which epoch begins. This module does no I/O.
//!
//! [`alone`] decides whether a start may publish durable changes at once while the source does not respond.
//! That is safe because no later response of the source can invalidate them:
//!
//! - A durable change was committed in the history that this directory belongs to, and the source may have
//!   removed it.
//! - Every response leads to publishing it first. That is clear for a source that is admitted. After a
//!   refusal, `adopt` keeps durable changes and publishes them before the gap.
//! - Where the log is truncated does not depend on the source, unless durable frames are damaged. In that
//!   case the source must respond first.
//! - The directory must already know its stream. That proves one of the two ends, so a wrong configuration
//!   cannot send one system's events to another's stream.
//!
//! The first connection is then judged like a start, and a refusal stops the process.

use crate::buffer::checkpoint::{Checkpoint, LastEpoch, Mark, Phase};
use crate::buffer::ledger::highest;
use crate::failure::{Explain, Failure};
use crate::identity::{Identity, SourceIdentity};
use crate::position::{CommitSeq, FrameNo, Transaction};
use crate::source::Resumption;

/// The hash that distributes keys over lanes. Lane progress counts only under the same hash.
pub const LANE_HASH: &str = "md5/256";

/// The state of the log between `watermark` and `durable`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogState {
    /// The last frame up to which all frames after `watermark` are readable; `watermark` itself if the first
    /// is unreadable.
    pub good: Mark,
    /// Why the frame after `good` cannot be read, if there should be one.
    pub damage: Option<String>,
    /// Whether there are any segments at all.
    pub any: bool,
    /// The highest transaction in any readable frame beyond `watermark`, durable or not, with its epoch. Only
    /// the highest epoch counts. The transaction was received, and its events may have been published.
    pub seen: Option<(u16, Transaction)>,
}

/// How the process begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// The source must create its slot or cursor first.
    pub create: bool,
    /// All frames after this one are truncated.
    pub truncate_after: FrameNo,
    /// The checkpoint to continue from. If it differs from the one on disk, it must be written before
    /// anything is received.
    pub checkpoint: Checkpoint,
    /// Nothing may be confirmed until the source has delivered exactly this transaction.
    pub expect: Option<Transaction>,
    /// The checkpoint begins a new epoch, because it could not be proven that the known one continues.
    pub new_epoch: bool,
}

/// Why a start from this directory is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogRefusal {
    /// There is a log without a checkpoint.
    #[error("the buffer directory has log segments but no checkpoint file")]
    CheckpointMissing,
    /// Durable frames cannot be read, and the source has already removed their changes.
    #[error("the log is damaged: {damage}")]
    Damaged {
        /// What is wrong with the first missing frame.
        damage: String,
        /// First missing frame.
        first: FrameNo,
        /// Last missing frame.
        last: FrameNo,
        /// The last readable position.
        good: String,
        /// Where the source would resume.
        resumes_at: CommitSeq,
    },
    /// A new epoch must begin, but the epoch has its highest number.
    #[error(transparent)]
    LastEpoch(#[from] LastEpoch),
}

impl Explain for LogRefusal {
    fn code(&self) -> Option<&'static str> {
        Some(match self {
            Self::CheckpointMissing => "checkpoint_missing",
            Self::Damaged { .. } => "log_damaged",
            Self::LastEpoch(error) => return error.code(),
        })
    }

    fn detail(&self) -> Option<String> {
        Some(match self {
            Self::CheckpointMissing => "The directory was damaged, or copied in part.".to_owned(),
            Self::Damaged { first, last, good, resumes_at, .. } => format!(
                "Frames {first} to {last} are durable but unpublished. The last readable change is {good}. The source resumes at \
                 {resumes_at}, so it has forgotten them."
            ),
            Self::LastEpoch(error) => return error.detail(),
        })
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::CheckpointMissing => {
                "Restore the checkpoint file. Otherwise run `forebay adopt --reason \"…\"` to publish what the segments hold again \
                 and continue."
                    .to_owned()
            }
            Self::Damaged { .. } => {
                "Restore the directory. Otherwise run `forebay adopt --reason \"…\"` to keep the readable frames and publish a gap \
                 event."
                    .to_owned()
            }
            Self::LastEpoch(error) => return error.hint(),
        })
    }
}

impl From<LogRefusal> for Failure {
    fn from(refusal: LogRefusal) -> Self {
        match refusal {
            LogRefusal::CheckpointMissing | LogRefusal::Damaged { .. } | LogRefusal::LastEpoch(_) => {
                Self::stop(refusal)
            }
        }
    }
}

/// The known history: that of the checkpoint, and after an unclean stop also that of the log. `None` at a
/// first start.
///
/// # Errors
/// There is a log without a checkpoint.
pub fn known(checkpoint: Option<&Checkpoint>, log: &LogState) -> Result<Option<Checkpoint>, LogRefusal> {
    match checkpoint {
        None if log.any => Err(LogRefusal::CheckpointMissing),
        None => Ok(None),
        Some(found) if found.phase == Phase::Creating => Ok(Some(found.clone())),
        Some(found) => Ok(Some(with_evidence(found, log))),
    }
}

/// Decides how a process starts on a source that has admitted the [`known`] history. `at` is the time of a
/// gap event, microseconds since the Unix epoch.
///
/// # Errors
/// Durable frames are damaged and the source has removed their changes, or the epoch has its highest number.
pub fn recover(
    known: Option<Checkpoint>,
    log: &LogState,
    admission: Resumption,
    at: i64,
) -> Result<Start, LogRefusal> {
    let Resumption { source, name, create, resumes_at, expect, unproven, epoch_least } = admission;
    let Some(known) = known else {
        let phase = if create { Phase::Creating } else { Phase::Running };
        let checkpoint = Checkpoint::fresh(identity(source, name), phase, epoch_least, resumes_at);
        return Ok(Start { create, truncate_after: FrameNo(0), checkpoint, expect: None, new_epoch: false });
    };
    let mut next = with_lanes_of_this_hash(&known);
    if create {
        return Ok(Start {
            create,
            truncate_after: FrameNo(0),
            checkpoint: next,
            expect: None,
            new_epoch: false,
        });
    }
    truncate_damage(&mut next, log, resumes_at)?;
    next.identity.source = source;
    next.clean = false;
    let truncate_after = truncation(&mut next);
    let new_epoch = unproven.is_some();
    if let Some(reason) = unproven {
        let from = if next.durable.frame > next.watermark.frame { next.durable } else { next.watermark };
        next.begin_epoch(epoch_least, from.position, resumes_at, reason, at)?;
    }
    Ok(Start { create: false, truncate_after, checkpoint: next, expect, new_epoch })
}

/// The identity of a new directory for this source.
pub fn identity(source: SourceIdentity, name: String) -> Identity {
    Identity { source, name, stream: None, lane_hash: LANE_HASH.to_owned() }
}

/// Decides whether a process may publish durable changes while the source does not respond; `None` if it must
/// wait.
pub fn alone(checkpoint: Option<&Checkpoint>, log: &LogState) -> Option<Start> {
    let found = checkpoint?;
    let stream_is_known = found.identity.stream.is_some();
    if found.phase != Phase::Running || !stream_is_known || is_damaged(found, log) {
        return None;
    }
    let mut next = with_lanes_of_this_hash(found);
    next.last_seen = with_evidence(found, log).last_seen;
    next.clean = false;
    let truncate_after = truncation(&mut next);
    Some(Start { create: false, truncate_after, checkpoint: next, expect: None, new_epoch: false })
}

/// The checkpoint with the last seen transaction. After an unclean stop, the log may have a higher one than
/// the checkpoint.
fn with_evidence(found: &Checkpoint, log: &LogState) -> Checkpoint {
    let seen = log.seen.filter(|(epoch, _)| !found.clean && *epoch == found.epoch);
    let last_seen = highest(found.last_seen, seen.map(|(_, transaction)| transaction));
    Checkpoint { last_seen, ..found.clone() }
}

fn with_lanes_of_this_hash(found: &Checkpoint) -> Checkpoint {
    let mut next = found.clone();
    if found.identity.lane_hash != LANE_HASH {
        LANE_HASH.clone_into(&mut next.identity.lane_hash);
        next.lanes.clear();
        next.lane_parts.clear();
        next.acknowledged.clear();
    }
    next
}

/// Decides where the log is truncated, and limits the lane progress to it.
fn truncation(next: &mut Checkpoint) -> FrameNo {
    let (watermark, truncate_after) = (next.watermark.frame, next.watermark.frame.max(next.durable.frame));
    next.lanes.retain_mut(|(_, frame)| {
        *frame = (*frame).min(truncate_after);
        *frame > watermark
    });
    next.lane_parts.retain_mut(|part| {
        part.frame = part.frame.min(truncate_after);
        part.frame > watermark
    });
    next.acknowledged.retain(|(frame, _)| *frame <= truncate_after);
    truncate_after
}

/// Whether durable, unpublished frames cannot be read.
fn is_damaged(found: &Checkpoint, log: &LogState) -> bool {
    found.durable.frame > found.watermark.frame && log.good.frame < found.durable.frame
}

/// Lowers `durable` to the last readable frame, if the source still has the missing changes.
fn truncate_damage(next: &mut Checkpoint, log: &LogState, resumes_at: CommitSeq) -> Result<(), LogRefusal> {
    let (watermark, durable) = (next.watermark, next.durable);
    if !is_damaged(next, log) {
        return Ok(());
    }
    let good = if log.good.frame > watermark.frame { log.good } else { watermark };
    // The missing changes come after `good`. The source sends every transaction again that was committed at
    // or after `resumes_at`.
    if good.position.is_some_and(|position| position.epoch == next.epoch && resumes_at <= position.commit) {
        next.durable = good;
        // The source sends confirmed changes beyond the truncation again. If it later resumes further ahead
        // (a failover and back), it skips the missing changes; the lowered value makes that detectable.
        next.ever_confirmed = next.ever_confirmed.clone().min(resumes_at.into());
        return Ok(());
    }
    Err(LogRefusal::Damaged {
        damage: log.damage.clone().unwrap_or_else(|| "the log ends early".to_owned()),
        first: good.frame.next(),
        last: durable.frame,
        good: good.position.map_or_else(|| "none".to_owned(), |position| position.to_string()),
        resumes_at,
    })
}
