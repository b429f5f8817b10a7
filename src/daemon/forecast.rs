//! How fast an amount grows, and when it reaches a limit. Pure: time is passed in.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Looks that are kept.
const LOOKS_MAX: usize = 60;
/// Growth over a shorter time says nothing.
const LEAST: Duration = Duration::from_mins(2);

/// The looks since the amount last fell. An amount that falls now and then does not grow without end.
#[derive(Clone, Debug, Default)]
pub struct Growth {
    looks: VecDeque<(Instant, u64)>,
}

impl Growth {
    /// Notes the amount at a point in time.
    pub fn look(&mut self, at: Instant, amount: u64) {
        if self.looks.back().is_some_and(|(_, last)| amount < *last) {
            self.looks.clear();
        }
        if self.looks.len() >= LOOKS_MAX {
            self.looks.pop_front();
        }
        self.looks.push_back((at, amount));
    }

    /// Nothing is known any more: the next look is at something else.
    pub fn forget(&mut self) {
        self.looks.clear();
    }

    /// By how much it grows a second; `None` if it does not, or for too short a time.
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    pub fn per_second(&self) -> Option<f64> {
        let ((first, before), (last, now)) = (*self.looks.front()?, *self.looks.back()?);
        let time = last.duration_since(first);
        (time >= LEAST && now > before).then(|| (now - before) as f64 / time.as_secs_f64())
    }

    /// When `left` more is reached.
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    pub fn reaches(&self, left: u64) -> Option<Duration> {
        Duration::try_from_secs_f64(left as f64 / self.per_second()?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
