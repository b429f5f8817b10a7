//! What a reader was seen to do, by which it is judged whether lanes leave it or come back from it.

use tokio::time::Instant;

use crate::position::FrameNo;

/// What a reader was seen to do.
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
    /// Whether it was made for lanes that are refused.
    pub(super) refused: bool,
    /// How often it began again for lanes that were pushed out of another one behind the main: it pushes ever more slowly.
    pub(super) pushed: u32,
}

impl Watch {
    /// Of a reader that begins again further back; perhaps for lanes that were pushed out of another one behind the main.
    pub(super) fn again(self, pushed: bool) -> Self {
        Self { full: None, pace: None, pushed: self.pushed + u32::from(pushed), ..self }
    }
}
