//! When a control may leave: see `dispatch/control.rs`.

use std::time::Duration;

use tokio::time::Instant;

/// Least distance between two controls.
const DISTANCE: Duration = Duration::from_secs(1);

/// Whether a control is in flight, and when the next one may be.
#[derive(Debug, Default)]
pub(super) struct ControlPace {
    in_flight: bool,
    next: Option<Instant>,
}

impl ControlPace {
    /// When the next one may leave; `None` while one is in flight.
    pub(super) fn next(&self, now: Instant) -> Option<Instant> {
        (!self.in_flight).then(|| self.next.map_or(now, |next| next.max(now)))
    }

    /// One has left.
    pub(super) fn sent(&mut self, now: Instant) {
        (self.in_flight, self.next) = (true, now.checked_add(DISTANCE));
    }

    /// Its result is known.
    pub(super) const fn over(&mut self) {
        self.in_flight = false;
    }
}
