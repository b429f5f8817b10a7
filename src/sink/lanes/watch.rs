//! Observations of a reader: they decide whether sections leave it, or it hands over.

use tokio::time::Instant;

use crate::position::FrameNo;

/// Observations of one reader.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Watch {
    /// Since when the window has been half full and hardly moved, where `watermark` stood then, and the head.
    pub(super) full: Option<(Instant, FrameNo, FrameNo)>,
    /// When it was looked at for speed, and where the head stood then.
    pub(super) pace: Option<(Instant, FrameNo)>,
    /// Since when it hands over.
    pub(super) handing: Option<Instant>,
    /// How often a hand-over was called off, and until when none is tried.
    pub(super) called_off: u32,
    pub(super) not_before: Option<Instant>,
    /// Whether it was made for sections of which nothing is accepted.
    pub(super) refused: bool,
    /// How often it began again for sections that were pushed out of another catch-up reader: its patience
    /// doubles each time.
    pub(super) pushed: u32,
}

impl Watch {
    /// The observations of a reader that begins again further back; `pushed`: for sections of another
    /// catch-up reader.
    pub(super) fn again(self, pushed: bool) -> Self {
        Self { full: None, pace: None, pushed: self.pushed + u32::from(pushed), ..self }
    }
}
