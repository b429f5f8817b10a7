//! Observations of a reader. They decide whether sections leave it, and whether it hands over.

use tokio::time::Instant;

use crate::position::FrameNo;

/// Observations of one reader.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Watch {
    /// Since when the window has been at least half full and has hardly moved, with its watermark and head at
    /// that time.
    pub(super) full: Option<(Instant, FrameNo, FrameNo)>,
    /// When its speed was last measured, and its head at that time.
    pub(super) pace: Option<(Instant, FrameNo)>,
    /// When its hand-over began.
    pub(super) handing_over: Option<Instant>,
    /// Number of cancelled hand-overs, and the time before which none is tried.
    pub(super) cancelled: u32,
    pub(super) not_before: Option<Instant>,
    /// Whether it was created for sections that accept nothing.
    pub(super) refused: bool,
    /// How often it began again for sections of another catch-up reader. Its waiting time doubles each time.
    pub(super) pushed: u32,
}

impl Watch {
    /// The observations of a reader that begins again at a lower frame. `pushed`: for sections of another
    /// catch-up reader.
    pub(super) fn again(self, pushed: bool) -> Self {
        Self { full: None, pace: None, pushed: self.pushed + u32::from(pushed), ..self }
    }
}
