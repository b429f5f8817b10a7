//! Findings about what fills up or is late: the log, the disk, the lag and the heartbeat. This module does no
//! I/O.

use std::time::{Duration, Instant};

use super::report::{Facts, text};
use crate::config::units::{ByteAmount, Span};
use crate::diagnosis::Diagnosis;

/// An event that is forecast within this time is a warning.
const FORESEEN: Duration = Duration::from_hours(24);

/// A growth in bytes per second, for display.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bytes a second for people")]
const fn rate(growth: f64) -> ByteAmount {
    ByteAmount(growth as u64)
}

impl Facts<'_> {
    /// A warning if the lag exceeds `max_lag`.
    pub(super) fn late(&self) -> Option<Diagnosis> {
        let (Some(since), Some(max)) = (self.lag.exceeded_at, self.lag.max) else { return None };
        let fact = format!(
            "catching up: events have been late by more than {} since {}; now by {} s",
            Span(max),
            text(since),
            self.lag.lag.as_secs()
        );
        let hint = "See the other findings. Without one, Forebay or the stream has too little capacity for the rate of changes.";
        Some(Diagnosis::warning("lag", fact).with_hint(hint))
    }

    /// Warnings that log or disk will be full soon.
    pub(super) fn filling(&self, now: Instant) -> Vec<Diagnosis> {
        let left = |at: Option<Instant>| {
            at.map(|at| at.saturating_duration_since(now)).filter(|left| *left < FORESEEN)
        };
        let mut found = Vec::new();
        if let (Some(left), Some(growth)) = (left(self.fill.log_full_at), self.fill.log_growth)
            && self.ingest.paused.is_none()
        {
            let minutes = left.as_secs() / 60;
            let fact = format!(
                "the log grows by {} a second; at this rate it is full in {minutes} min (buffer.max_size)",
                rate(growth)
            );
            let hint = "Find out what keeps events from being published: see the other findings. Then the source is paused.";
            found.push(Diagnosis::warning("buffer", fact).with_hint(hint));
        }
        if let (Some(left), Some(free)) = (left(self.fill.disk_full_at), self.fill.disk_free) {
            let fact = format!(
                "the disk of buffer.dir has {} left; at the present rate it is full in {} min",
                ByteAmount(free),
                left.as_secs() / 60
            );
            found.push(Diagnosis::warning("disk", fact).with_hint("Find out what fills it, or enlarge it."));
        }
        found
    }

    /// A warning if the heartbeat does not come back.
    pub(super) fn without_heartbeat(&self, now: Instant) -> Option<Diagnosis> {
        let waiting = self.heartbeat.late(now)?;
        let fact = format!("the heartbeat written {} s ago has not been published", waiting.as_secs());
        let hint = "See the other findings: the database, the log or the stream stands still.";
        Some(Diagnosis::warning("heartbeat", fact).with_hint(hint))
    }
}
