//! The reasons to refuse a start or a connection. Each has a remedy.

use crate::failure::{Explain, Failure};
use crate::position::CommitSeq;

/// A reason to refuse. [`Explain`] adds the facts and the remedy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SourceRefusal {
    /// A standby has not replayed everything yet that this directory has seen.
    #[error("the standby has not caught up with this directory; waiting for it")]
    StandbyBehind {
        /// Replay position of the standby.
        wal_end: CommitSeq,
        /// The highest position that this directory has seen.
        seen: CommitSeq,
    },
    /// Nothing was received into this directory, but the slot exists.
    #[error("the buffer directory is empty, but replication slot \"{slot}\" exists")]
    UsedBefore {
        /// The slot's name.
        slot: String,
        /// The slot's confirmed position.
        confirmed: CommitSeq,
    },
    /// `confirm_after` is `"never"`, so only the slot has the progress, but the slot does not exist.
    #[error("replication slot \"{slot}\" does not exist, but publication \"{publication}\" does")]
    OnlySlotMissing {
        /// The slot's name.
        slot: String,
        /// The publication's name.
        publication: String,
    },
    /// The directory belongs to another source or stream.
    #[error("the buffer directory belongs to a different {what}")]
    Identity {
        /// The part of the identity that differs.
        what: &'static str,
        /// Its value in the checkpoint.
        found: String,
        /// Its value now.
        now: String,
    },
    /// The slot does not exist.
    #[error("replication slot \"{slot}\" does not exist")]
    SlotMissing {
        /// The slot's name.
        slot: String,
        /// The last confirmed position.
        ever_confirmed: CommitSeq,
    },
    /// The slot cannot be read any more.
    #[error("replication slot \"{slot}\" cannot be used: {why}")]
    SlotUnusable {
        /// The slot's name.
        slot: String,
        /// Why.
        why: String,
    },
    /// The slot is still being created, perhaps by a session of an earlier process of Forebay.
    #[error("replication slot \"{slot}\" is still being created; waiting for it")]
    SlotInTheMaking {
        /// The slot's name.
        slot: String,
    },
    /// Another client has confirmed changes on the slot.
    #[error("replication slot \"{slot}\" is ahead of this directory")]
    SlotAhead {
        /// The slot's name.
        slot: String,
        /// The slot's confirmed position.
        confirmed: CommitSeq,
        /// The highest position that this directory has confirmed.
        ever_confirmed: CommitSeq,
    },
    /// The server is a restored or lagging copy, and would use LSNs again.
    #[error("the server has a different history")]
    OtherHistory {
        /// The evidence.
        what: String,
        /// Highest LSN that this directory has seen.
        seen: CommitSeq,
    },
    /// The last stop was not clean, and the server is on another timeline since.
    #[error("the server changed its timeline after an unclean stop of Forebay")]
    Unproven {
        /// The checkpoint's timeline.
        known: u32,
        /// The server's timeline.
        now: u32,
    },
    /// After a failover, an instance without this directory would begin a later epoch (`confirm_after =
    /// "never"`).
    #[error("the server changed its timeline, and this directory's epoch is behind it")]
    EpochBehind {
        /// The epoch of the checkpoint.
        epoch: u16,
        /// The server's timeline.
        timeline: u32,
    },
}

impl Explain for SourceRefusal {
    fn code(&self) -> Option<&'static str> {
        Some(match self {
            Self::StandbyBehind { .. } => "standby_behind",
            Self::UsedBefore { .. } => "directory_empty",
            Self::OnlySlotMissing { .. } | Self::SlotMissing { .. } => "slot_missing",
            Self::Identity { .. } => "directory_of_other_source",
            Self::SlotUnusable { .. } => "slot_unusable",
            Self::SlotInTheMaking { .. } => "slot_being_created",
            Self::SlotAhead { .. } => "slot_ahead",
            Self::OtherHistory { .. } => "history_differs",
            Self::Unproven { .. } => "history_unproven",
            Self::EpochBehind { .. } => "epoch_behind",
        })
    }

    fn detail(&self) -> Option<String> {
        Some(match self {
            Self::StandbyBehind { wal_end, seen } => {
                format!("The standby has replayed up to {wal_end}. This directory has seen {seen}.")
            }
            Self::UsedBefore { confirmed, .. } => {
                format!("The slot stands at {confirmed}. Another directory used it, or somebody created it by hand.")
            }
            Self::OnlySlotMissing { .. } => {
                "With confirm_after = \"never\", only the slot records what was published. Changes after its last position may be \
                 lost."
                    .to_owned()
            }
            Self::Identity { found, now, .. } => format!("The checkpoint has {found:?}. It is now {now:?}."),
            Self::SlotMissing { ever_confirmed, .. } => {
                format!("Forebay has confirmed up to {ever_confirmed}. Later changes may be lost.")
            }
            Self::SlotUnusable { .. } => return None,
            Self::SlotInTheMaking { .. } => "PostgreSQL waits for running transactions to end.".to_owned(),
            Self::SlotAhead { confirmed, ever_confirmed, .. } => format!(
                "The slot stands at {confirmed}. This directory has confirmed up to {ever_confirmed}. Another reader received \
                 the changes between them, or somebody advanced the slot."
            ),
            Self::OtherHistory { what, seen } => format!(
                "Seen here: {seen}. Server: {what}. It was restored from an older copy, or a standby that lagged was promoted. \
                 Log sequence numbers are used a second time, so no change can be skipped safely."
            ),
            Self::Unproven { known, now } => format!(
                "The server is on timeline {now}, this directory on timeline {known}. Its checkpoint does not name the last \
                 transactions published, so nothing proves that the server still has them."
            ),
            Self::EpochBehind { epoch, timeline } => format!(
                "This directory is in epoch {epoch}. With confirm_after = \"never\", an empty directory would begin a later one on \
                 timeline {timeline}, and readers would discard what follows here."
            ),
        })
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::StandbyBehind { .. } => return None,
            Self::UsedBefore { .. } => {
                "Look for the directory that belongs to the slot: it may hold unpublished events. Otherwise run \
                 `forebay adopt --reason \"…\"` to take the slot over and publish a gap event."
                    .to_owned()
            }
            Self::OnlySlotMissing { .. } | Self::SlotMissing { .. } => {
                "If a failover left the slot behind, restore it. Otherwise run `forebay adopt --reason \"…\"` to create it and \
                 publish a gap event."
                    .to_owned()
            }
            Self::Identity { .. } => {
                "Correct the configuration if it names the wrong directory or database. If the change is intended, run \
                 `forebay adopt --reason \"…\"` to begin a new epoch."
                    .to_owned()
            }
            Self::SlotUnusable { slot, .. } => format!(
                "If others use the slot, choose another name with source.slot. If it may be dropped, run \
                 `forebay adopt --reason \"…\" --recreate-slot {slot}` to create it again and publish a gap event."
            ),
            Self::SlotInTheMaking { slot } => {
                format!("If no session is creating it, run SELECT pg_drop_replication_slot('{slot}').")
            }
            Self::SlotAhead { .. } => {
                "Find the other reader and stop it. Then run `forebay adopt --reason \"…\"` to continue from the slot and publish a \
                 gap event. If a second instance has taken over (confirm_after = \"never\"), let it run: empty this directory \
                 instead, and this instance waits in its turn."
                    .to_owned()
            }
            Self::OtherHistory { .. } => {
                "Check that this is the right server. Then run `forebay adopt --reason \"…\"` to continue in its history; nothing \
                 of it is lost."
                    .to_owned()
            }
            Self::Unproven { .. } | Self::EpochBehind { .. } => {
                "Start `forebay run` again: it begins a new epoch by itself and publishes a gap event.".to_owned()
            }
        })
    }
}

impl SourceRefusal {
    /// Whether the reason may pass without the operator.
    pub const fn passes(&self) -> bool {
        matches!(self, Self::StandbyBehind { .. } | Self::SlotInTheMaking { .. })
    }

    /// Whether the server may lack a transaction that was seen.
    pub const fn is_of_history(&self) -> bool {
        matches!(self, Self::OtherHistory { .. } | Self::Unproven { .. })
    }

    /// The reason in the gap event, if a start begins a new epoch instead of refusing.
    pub(super) fn as_reason(&self) -> String {
        match self {
            Self::Unproven { known, now } => {
                format!(
                    "unclean stop, then a switch from timeline {known} to {now}: the last events published may not be in it"
                )
            }
            Self::OtherHistory { what, seen } => {
                format!("unclean stop, then another history: {what}, events up to {seen} were seen")
            }
            other => other.to_string(),
        }
    }
}

impl From<SourceRefusal> for Failure {
    fn from(refusal: SourceRefusal) -> Self {
        if refusal.passes() { Self::retry(refusal) } else { Self::stop(refusal) }
    }
}
