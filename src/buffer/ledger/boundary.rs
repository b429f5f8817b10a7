//! Exact resume points, for a source that does not send a change again by itself.
//!
//! When such a source is read a second time, it may return other rows, so a position must not be used twice.
//! Its resume point belongs to exactly the last durable frame: the log becomes durable only up to a
//! [`Boundary`], at which no transaction is open, and the checkpoint stores the resume point of that
//! boundary.

use super::progress::Reached;
use crate::position::{FrameNo, ResumePoint};

/// An end of the log at which no transaction is open.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Boundary {
    reached: Reached,
    resume: ResumePoint,
}

/// The boundaries that matter: the latest, the one being fsynced, and the one fsynced last.
#[derive(Debug, Default)]
pub(super) struct Boundaries {
    latest: Option<Boundary>,
    syncing: Option<Boundary>,
    durable: Option<Boundary>,
}

impl Boundaries {
    /// Notes that everything received so far is written and consists of whole transactions.
    pub(super) fn complete(&mut self, reached: Reached, resume: &ResumePoint) {
        self.latest = Some(Boundary { reached, resume: resume.clone() });
    }

    /// The boundary up to which an fsync that begins now may make the log durable; `None` if there is no
    /// later one.
    pub(super) fn begin_sync(&mut self) -> Option<Reached> {
        self.syncing.clone_from(&self.latest);
        self.syncing.as_ref().map(|boundary| boundary.reached)
    }

    /// Notes that the fsync has succeeded.
    pub(super) fn synced(&mut self) {
        if let Some(boundary) = self.syncing.take() {
            self.durable = Some(boundary);
        }
    }

    /// The resume point for a log that is durable up to this frame.
    pub(super) fn resume(&self, durable: FrameNo) -> Option<&ResumePoint> {
        let is_durable = |boundary: &&Boundary| boundary.reached.mark.frame <= durable;
        let latest = self.latest.as_ref().filter(is_durable);
        latest.or_else(|| self.durable.as_ref().filter(is_durable)).map(|boundary| &boundary.resume)
    }
}
