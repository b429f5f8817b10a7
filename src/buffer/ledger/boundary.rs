//! Exact resume points, for a source that does not send anything again by itself.
//!
//! What such a source reads a second time may have other rows, so a position must not be given twice. Its resume point
//! belongs to exactly the last durable frame: the log becomes durable only up to a [`Boundary`], at which no transaction is
//! open, and the checkpoint stores the resume point of that boundary.

use super::progress::Reached;
use crate::position::{FrameNo, ResumePoint};

/// A point of the log at which no transaction is open.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Boundary {
    reached: Reached,
    resume: ResumePoint,
}

/// The boundaries that matter: the latest, the one that is being fsynced, and the last that was.
#[derive(Debug, Default)]
pub(super) struct Boundaries {
    latest: Option<Boundary>,
    syncing: Option<Boundary>,
    durable: Option<Boundary>,
}

impl Boundaries {
    /// Everything received so far is written, and is whole transactions.
    pub(super) fn complete(&mut self, reached: Reached, resume: &ResumePoint) {
        self.latest = Some(Boundary { reached, resume: resume.clone() });
    }

    /// Up to where the log may become durable by an fsync that begins now; `None`: no further than it is.
    pub(super) fn begin_sync(&mut self) -> Option<Reached> {
        self.syncing.clone_from(&self.latest);
        self.syncing.as_ref().map(|boundary| boundary.reached)
    }

    /// The fsync has succeeded.
    pub(super) fn synced(&mut self) {
        if let Some(boundary) = self.syncing.take() {
            self.durable = Some(boundary);
        }
    }

    /// The resume point of a log that is durable up to this frame.
    pub(super) fn resume(&self, durable: FrameNo) -> Option<&ResumePoint> {
        let is_durable = |boundary: &&Boundary| boundary.reached.mark.frame <= durable;
        let latest = self.latest.as_ref().filter(is_durable);
        latest.or_else(|| self.durable.as_ref().filter(is_durable)).map(|boundary| &boundary.resume)
    }
}
