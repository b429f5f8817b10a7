//! Watches how late events are. Above `max_lag` Forebay is catching up. That is a finding, a metric, a log
//! line and, with `events.lag`, an event on the stream.
//!
//! The lag is the age of the oldest change that is unpublished or was published since the last measurement; a
//! heartbeat under way counts as a change. A change of state is reported once. To recover, the lag must stay
//! below half of the limit for a while, so that the state does not flap around the limit. Changes that the
//! database has not sent yet have no age here, so nothing recovers while the source is not read.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use crate::buffer::checkpoint::LagFacts;
use crate::buffer::ledger::SharedLedger;
use crate::config::units::Span;
use crate::pipeline::status::{Status, Traffic};
use crate::time;

/// Interval of the measurements.
const EVERY: Duration = Duration::from_secs(1);
/// Longest time for which the lag must be low before it counts as recovered.
const CALM_MAX: Duration = Duration::from_secs(30);

/// What is measured, and where it is reported.
#[derive(Debug)]
pub struct LagWatch<'a> {
    /// `max_lag`; `None`: the lag is only measured.
    pub max: Option<Duration>,
    /// Whether lag events are published (`events.lag`).
    pub publishes: bool,
    /// Source of the measurements, and where they are shown.
    pub status: &'a Status,
    /// Where lag events are requested.
    pub ledger: &'a SharedLedger,
}

impl LagWatch<'_> {
    /// Measures once a second.
    pub async fn watch(self) -> Infallible {
        let last_event = self.ledger.lock().checkpoint().lag.exceeded_at.filter(|_| self.publishes);
        let mut state = LagState::resuming(last_event);
        loop {
            let (lag, reads) = self.measure();
            if let Some(max) = self.max
                && let Some(facts) = state.look((time::now(), time::now_micros()), lag, max, reads)
            {
                log(&facts, max);
                if self.publishes {
                    self.ledger.lock().lag_changed(facts);
                }
            }
            let exceeded_at = state.exceeded.map(|exceeded| exceeded.at);
            self.status.lag(|part| (part.max, part.lag, part.exceeded_at) = (self.max, lag, exceeded_at));
            tokio::time::sleep(EVERY).await;
        }
    }

    /// The lag, and whether the source is read.
    fn measure(&self) -> (Duration, bool) {
        let slowest = self.status.traffic(Traffic::take_slowest);
        let oldest = self.status.publish(|part| part.oldest).map_or(Duration::ZERO, |oldest| {
            Duration::from_micros(time::now_micros().saturating_sub(oldest).max(0).unsigned_abs())
        });
        let heartbeat = self.status.heartbeat(|part| part.waiting(time::now())).unwrap_or_default();
        let reads = self.status.ingest(|part| part.connected.is_some() && part.paused.is_none());
        (slowest.max(oldest).max(heartbeat), reads)
    }
}

fn log(facts: &LagFacts, max: Duration) {
    let (lag_seconds, max_lag) = (facts.lag_seconds, Span(max).to_string());
    if facts.recovered {
        tracing::info!(
            event = "lag_recovered",
            lag_seconds,
            highest_seconds = facts.highest_seconds,
            max_lag,
            "events are on time again"
        );
    } else {
        tracing::warn!(
            event = "lag_exceeded",
            lag_seconds,
            max_lag,
            hint = "Run forebay status: its findings name the cause.",
            "events are late; catching up"
        );
    }
}

/// Since when the limit is exceeded, microseconds since the Unix epoch, and the highest lag since then.
#[derive(Clone, Copy, Debug)]
struct Exceeded {
    at: i64,
    highest: Duration,
}

/// Whether the limit is exceeded. Does no I/O; the time is a parameter.
#[derive(Debug, Default)]
struct LagState {
    exceeded: Option<Exceeded>,
    /// Since when the lag has been low.
    calm: Option<Instant>,
}

impl LagState {
    /// The state according to the last published event.
    fn resuming(last_event: Option<i64>) -> Self {
        Self { exceeded: last_event.map(|at| Exceeded { at, highest: Duration::ZERO }), calm: None }
    }

    /// Handles a measurement. Returns a change of state.
    fn look(
        &mut self,
        (now, wall): (Instant, i64),
        lag: Duration,
        max: Duration,
        reads: bool,
    ) -> Option<LagFacts> {
        let facts = |recovered, exceeded: Exceeded| LagFacts {
            recovered,
            at: wall,
            exceeded_at: exceeded.at,
            lag_seconds: lag.as_secs(),
            highest_seconds: exceeded.highest.as_secs(),
            max_seconds: max.as_secs(),
        };
        let Some(exceeded) = &mut self.exceeded else {
            if lag <= max {
                return None;
            }
            let exceeded = Exceeded { at: wall, highest: lag };
            (self.exceeded, self.calm) = (Some(exceeded), None);
            return Some(facts(false, exceeded));
        };
        exceeded.highest = exceeded.highest.max(lag);
        if lag > max / 2 || !reads {
            self.calm = None;
            return None;
        }
        let since = *self.calm.get_or_insert(now);
        if now.saturating_duration_since(since) < CALM_MAX.min(max / 2) {
            return None;
        }
        self.exceeded.take().map(|exceeded| facts(true, exceeded))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each step: second, lag, whether the source is read, and the expected change of state (`true`:
    /// recovered).
    fn check(state: &mut LagState, steps: &[(u64, u64, bool, Option<bool>)]) {
        let start = Instant::now();
        for (second, lag, reads, expected) in steps.iter().copied() {
            let now = (start + Duration::from_secs(second), i64::try_from(second).unwrap());
            let found = state.look(now, Duration::from_secs(lag), Duration::from_secs(20), reads);
            assert_eq!(found.map(|facts| facts.recovered), expected, "second {second}");
        }
    }

    #[test]
    fn lag_about_its_limit_does_not_flap() {
        let mut state = LagState::default();
        check(
            &mut state,
            &[
                (0, 20, true, None),
                (1, 21, true, Some(false)),
                (2, 19, true, None),
                (3, 25, true, None),
                (4, 11, true, None),
                (5, 10, true, None),
                (14, 10, true, None),
                (15, 11, true, None),
                (16, 3, true, None),
                (20, 0, false, None),
                (21, 0, true, None),
                (30, 0, true, None),
                (31, 0, true, Some(true)),
                (32, 0, true, None),
                (33, 22, true, Some(false)),
            ],
        );
    }

    #[test]
    fn restart_continues_what_the_stream_was_told() {
        let mut state = LagState::resuming(Some(-5));
        check(&mut state, &[(0, 30, true, None), (1, 0, true, None), (11, 0, true, Some(true))]);
        assert!(state.exceeded.is_none());
    }

    #[test]
    fn recovery_names_beginning_and_highest_lag() {
        let start = Instant::now();
        let mut state = LagState::default();
        let mut look = |second: u64, lag: u64| {
            let now = (start + Duration::from_secs(second), i64::try_from(second).unwrap());
            state.look(now, Duration::from_secs(lag), Duration::from_secs(4), true)
        };
        assert!(look(1, 5).is_some());
        assert_eq!(look(2, 9), None);
        assert_eq!(look(3, 1), None);
        let facts = LagFacts {
            recovered: true,
            at: 5,
            exceeded_at: 1,
            lag_seconds: 0,
            highest_seconds: 9,
            max_seconds: 4,
        };
        assert_eq!(look(5, 0), Some(facts));
    }
}
