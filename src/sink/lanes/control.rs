//! Decides which records can be a control, and when one may be sent: see `dispatch/control.rs`.

use std::time::Duration;

use tokio::time::Instant;

use super::finished::RecordStatus;
use super::reader::Reader;
use super::types::Outcome;
use super::window::Entry;
use crate::event::RecordKind;

/// Shortest time between two controls.
const DISTANCE: Duration = Duration::from_secs(1);

/// Whether a control is in flight, and when the next one may be sent.
#[derive(Debug, Default)]
pub(super) struct ControlPace {
    in_flight: bool,
    next: Option<Instant>,
}

impl ControlPace {
    /// When the next control may be sent; `None` while one is in flight.
    pub(super) fn next(&self, now: Instant) -> Option<Instant> {
        (!self.in_flight).then(|| self.next.map_or(now, |next| next.max(now)))
    }

    /// Notes that a control was sent.
    pub(super) fn sent(&mut self, now: Instant) {
        (self.in_flight, self.next) = (true, now.checked_add(DISTANCE));
    }

    /// Notes that the result of a control is known.
    pub(super) const fn over(&mut self) {
        self.in_flight = false;
    }
}

impl Reader {
    /// Whether a record that was finished before it was read can be a control: an event of the current stream
    /// that is not a dead letter. Only at the start are all dead letters known.
    pub(super) fn is_control(&self, entry: &Entry, status: RecordStatus, is_of_epoch: bool) -> bool {
        let is_published = match status {
            RecordStatus::Unfinished | RecordStatus::Acknowledged(Some(Outcome::Quarantined)) => false,
            RecordStatus::Acknowledged(_) => true,
            RecordStatus::Passed => self.finished.of(entry.section).after().is_some(),
        };
        is_published
            && is_of_epoch
            && self.from_start
            && self.last_published.is_none()
            && entry.kind == RecordKind::Event
    }

    /// Keeps a copy of an accepted record as a control, if it is small.
    pub(super) fn note_published(&mut self, seq: u64) {
        self.last_published = self.window.entry(seq).and_then(Entry::control).or(self.last_published.take());
    }
}
