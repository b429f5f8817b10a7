//! What the model of the lanes does wrong on purpose, and what it has seen.

/// What the model does wrong on purpose, so that it is known to find it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Planted {
    /// A request that is still out is settled as refused: its records are sent again beside themselves.
    SendsWhatIsOut,
    /// After a restart the counts go on from what was counted, not from what was written with the progress.
    CountsTwice,
    /// A restart believes that a lane has come further than it has.
    ResumesTooFar,
}

/// What has happened.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    pub(super) detached: usize,
    pub(super) back: usize,
    /// Lanes were detached while a part of a lane was beyond the others of it.
    pub(super) parts: usize,
    pub(super) apart_at_start: usize,
    pub(super) controls: usize,
}
