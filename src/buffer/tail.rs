//! The end of the log.

use crate::buffer::checkpoint::Mark;
use crate::position::{FrameNo, Position, Transaction};

/// Facts from the last frame of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tail {
    /// Its last frame.
    pub frame: FrameNo,
    /// Position of the last change at or before that frame. Injected frames do not move it.
    pub position: Option<Position>,
    /// Transaction of that change. `None` after a start without a change in the log, until the first change.
    pub transaction: Option<Transaction>,
}

impl Tail {
    /// The form that a checkpoint stores.
    pub const fn mark(&self) -> Mark {
        Mark { frame: self.frame, position: self.position }
    }
}
