//! The end of the log.

use crate::buffer::checkpoint::Mark;
use crate::position::{FrameNo, Position, Transaction};

/// The last frame of the log, and the last change up to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tail {
    /// Its last frame.
    pub frame: FrameNo,
    /// Position of the last change at or before that frame. Injected frames do not move it.
    pub position: Option<Position>,
    /// Transaction of that change. After a start it is `None` until the first change, if the log has none.
    pub transaction: Option<Transaction>,
}

impl Tail {
    /// The part that a checkpoint stores.
    pub const fn mark(&self) -> Mark {
        Mark { frame: self.frame, position: self.position }
    }
}
