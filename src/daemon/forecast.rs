//! How fast an amount grows, and when it reaches a limit. Does no I/O; the time is a parameter.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::diagnosis::Severity;

/// Most measurements that are kept.
const LOOKS_MAX: usize = 60;
/// Growth over a shorter time is not significant.
const LEAST: Duration = Duration::from_mins(2);

/// Only what is forecast within this time is reported.
const FORESEEN: Duration = Duration::from_hours(24);
const SOON: Duration = Duration::from_hours(1);

/// The severity of the last report. It rises at once, and falls only when nothing is forecast any more.
#[derive(Clone, Copy, Debug, Default)]
pub struct Foreseen(Option<Severity>);

impl Foreseen {
    /// Handles a forecast. Returns severity and minutes if it must be reported: once for each severity.
    pub fn take(&mut self, left: Option<Duration>) -> Option<(Severity, u64)> {
        let now = match left {
            Some(left) if left < SOON => Some(Severity::Blocker),
            Some(left) if left < FORESEEN => Some(Severity::Warning),
            Some(_) | None => None,
        };
        let is_new = now > self.0;
        if is_new || now.is_none() {
            self.0 = now;
        }
        now.filter(|_| is_new).map(|severity| (severity, left.unwrap_or_default().as_secs() / 60))
    }
}

/// Measurements since the amount last decreased. An amount that decreases now and then does not grow without
/// limit.
#[derive(Clone, Debug, Default)]
pub struct Growth {
    looks: VecDeque<(Instant, u64)>,
}

impl Growth {
    /// Adds a measurement.
    pub fn look(&mut self, at: Instant, amount: u64) {
        if self.looks.back().is_some_and(|(_, last)| amount < *last) {
            self.looks.clear();
        }
        if self.looks.len() >= LOOKS_MAX {
            self.looks.pop_front();
        }
        self.looks.push_back((at, amount));
    }

    /// Removes all measurements, because the next one will be about something else.
    pub fn forget(&mut self) {
        self.looks.clear();
    }

    /// Growth per second; `None` if it does not grow, or if the measurements span too short a time.
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    pub fn per_second(&self) -> Option<f64> {
        let ((first, before), (last, now)) = (*self.looks.front()?, *self.looks.back()?);
        let time = last.duration_since(first);
        (time >= LEAST && now > before).then(|| (now - before) as f64 / time.as_secs_f64())
    }

    /// Time until `left` more is reached.
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    pub fn reaches(&self, left: u64) -> Option<Duration> {
        Duration::try_from_secs_f64(left as f64 / self.per_second()?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forecast_is_said_once_for_each_severity() {
        let mut foreseen = Foreseen::default();
        let minutes = |minutes: u64| Some(Duration::from_mins(minutes));
        for (left, expected) in [
            (minutes(3_000), None),
            (minutes(1_400), Some((Severity::Warning, 1_400))),
            (minutes(1_300), None),
            (minutes(59), Some((Severity::Blocker, 59))),
            (minutes(61), None),
            (minutes(59), None),
            (None, None),
            (minutes(59), Some((Severity::Blocker, 59))),
        ] {
            assert_eq!(foreseen.take(left), expected, "{left:?}");
        }
    }

    #[test]
    fn only_lasting_growth_has_a_forecast() {
        let start = Instant::now();
        let mut growth = Growth::default();
        let mut look = |seconds: u64, amount| {
            growth.look(start + Duration::from_secs(seconds), amount);
            growth.reaches(1_000)
        };
        assert_eq!(look(0, 100), None);
        assert_eq!(look(60, 160), None, "too short");
        assert_eq!(look(120, 220), Some(Duration::from_secs(1_000)), "one a second");
        assert_eq!(look(240, 460), Some(Duration::from_secs_f64(1_000.0 / 1.5)));
        assert_eq!(look(300, 50), None, "it has drained");
        assert_eq!(look(600, 50), None, "it does not grow");
        for n in 0..1_000 {
            look(700 + n * 30, 100 + n * 30);
        }
        assert_eq!(look(700 + 30_000, 100 + 30_000), Some(Duration::from_secs(1_000)));
        assert!(growth.looks.len() <= LOOKS_MAX);
        growth.forget();
        assert_eq!(growth.per_second(), None);
    }
}
