//! The lower bound of a `serial` or `updated_at` cursor: rows below it are all read, and need not be searched
//! again. Does no I/O.
//!
//! A value of such a cursor is drawn before its transaction has an id, so a row with a low value may be
//! committed late. A bound `M` is proven in two steps. `M` was the highest value at some time, so all lower
//! values were drawn before. When `grace` has passed, every transaction that drew one of them has an id (that
//! is the promise of `grace`), and the server's next id `X` is above it. As soon as a window ends at or
//! beyond `X`, all these transactions have ended and their rows were read.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Most candidates that are kept.
const CANDIDATES: u32 = 8;
/// A commit gets its timestamp before its record is written. A record that was written earlier may have a
/// value that was drawn this many microseconds after the timestamp.
const STAMPED_BEFORE: i64 = 1_000_000;

/// The clocks of a poll. `grace` must pass on both: the server's clock may be set, and a standby may replay
/// slower or faster than time passes.
#[derive(Clone, Copy, Debug)]
pub struct PollClock {
    /// Our monotonic clock.
    pub ours: Instant,
    /// The primary's clock, microseconds since the Unix epoch. On a standby it is the time of the last
    /// replayed commit. `None`: unknown.
    pub primary: Option<i64>,
}

impl PollClock {
    /// These clocks at a later time. On a standby, the time of the last commit stays.
    #[must_use]
    pub fn after(self, ours: Instant, in_recovery: bool) -> Self {
        let passed = i64::try_from(ours.saturating_duration_since(self.ours).as_micros()).unwrap_or(i64::MAX);
        let primary =
            self.primary.map(|micros| if in_recovery { micros } else { micros.saturating_add(passed) });
        Self { ours, primary }
    }
}

#[derive(Clone, Debug)]
struct Candidate {
    seen: PollClock,
    /// Whether the value has no time yet: the standby has replayed the sequence further than its last commit.
    /// The next commit gives it a time.
    undated: bool,
    value: String,
}

/// The bound of one table.
#[derive(Clone, Debug, Default)]
pub struct LowBound {
    candidates: VecDeque<Candidate>,
    /// A value whose `grace` has passed, and the horizon that proves it.
    ripe: Option<(u64, String)>,
}

impl LowBound {
    /// Whether this poll must read the highest value.
    pub fn wants_value(&self, now: Instant, grace: Duration) -> bool {
        let newest = self.candidates.back();
        newest.is_none_or(|newest| now.saturating_duration_since(newest.seen.ours) >= grace / CANDIDATES)
    }

    /// Notes the highest value that a poll has read. `undated`: a standby read it ahead of its last commit.
    pub fn saw(&mut self, seen: PollClock, undated: bool, value: String) {
        self.candidates.push_back(Candidate { seen, undated, value });
        if self.candidates.len() > CANDIDATES as usize * 2 {
            self.candidates.pop_front();
        }
    }

    /// Notes a poll. `next_id` is the next transaction id to be assigned.
    pub fn polled(&mut self, now: PollClock, next_id: u64, grace: Duration) {
        let micros = i64::try_from(grace.as_micros()).unwrap_or(i64::MAX);
        for candidate in self.candidates.iter_mut().filter(|candidate| candidate.undated) {
            if let Some(primary) = now.primary.filter(|primary| Some(*primary) > candidate.seen.primary) {
                candidate.seen.primary = Some(primary.saturating_add(STAMPED_BEFORE));
                candidate.undated = false;
            }
        }
        let has_passed = |candidate: &Candidate| {
            if candidate.undated {
                return false;
            }
            let by_ours = now.ours.saturating_duration_since(candidate.seen.ours) >= grace;
            let by_primary = match (now.primary, candidate.seen.primary) {
                (Some(now), Some(seen)) => now.saturating_sub(seen) >= micros,
                _ => false,
            };
            by_ours && by_primary
        };
        while self.ripe.is_none() && self.candidates.front().is_some_and(has_passed) {
            let passed = self.candidates.iter().take_while(|candidate| has_passed(candidate)).count();
            let newest = self.candidates.drain(..passed).next_back();
            self.ripe = newest.map(|newest| (next_id, newest.value));
        }
    }

    /// The bound that a window proves which ended at `horizon`; `None` if it proves none.
    pub fn proven(&mut self, horizon: u64) -> Option<String> {
        self.ripe.take_if(|(needed, _)| horizon >= *needed).map(|(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(80);

    fn at(start: Instant, seconds: u64) -> PollClock {
        let primary = Some(i64::try_from(seconds).unwrap() * 1_000_000);
        PollClock { ours: start + Duration::from_secs(seconds), primary }
    }

    #[test]
    fn bound_is_proven_by_grace_and_horizon() {
        let start = Instant::now();
        let mut low = LowBound::default();
        assert!(low.wants_value(start, GRACE));
        low.saw(at(start, 0), false, "100".to_owned());
        assert!(!low.wants_value(at(start, 9).ours, GRACE));
        assert!(low.wants_value(at(start, 10).ours, GRACE));
        low.polled(at(start, 79), 500, GRACE);
        assert_eq!(low.proven(1_000), None, "grace has not passed");
        low.polled(at(start, 80), 510, GRACE);
        assert_eq!(low.proven(509), None, "a transaction below 510 may run");
        assert_eq!(low.proven(510).as_deref(), Some("100"));
        assert_eq!(low.proven(900), None, "once");
    }

    #[test]
    fn both_clocks_must_pass_grace() {
        let start = Instant::now();
        for now in [
            PollClock { ours: start + GRACE * 2, primary: Some(79_000_000) },
            PollClock { ours: start + GRACE / 2, primary: Some(800_000_000) },
            PollClock { ours: start + GRACE * 2, primary: None },
        ] {
            let mut low = LowBound::default();
            low.saw(at(start, 0), false, "7".to_owned());
            low.polled(now, 5, GRACE);
            assert_eq!(low.proven(100), None, "{now:?}");
        }
    }

    /// A standby has replayed its last commit at 5 s of the primary's clock, and the sequence at 500 s.
    #[test]
    fn value_on_a_standby_is_dated_by_the_next_commit() {
        let start = Instant::now();
        let seconds = |ours: u64, primary: i64| PollClock {
            ours: start + Duration::from_secs(ours),
            primary: Some(primary * 1_000_000),
        };
        let mut low = LowBound::default();
        low.saw(seconds(500, 5), true, "9".to_owned());
        for (ours, primary) in [(501, 5), (590, 5), (600, 501), (700, 581)] {
            low.polled(seconds(ours, primary), 40, GRACE);
            assert_eq!(low.proven(1_000), None, "{ours} {primary}");
        }
        low.polled(seconds(701, 582), 50, GRACE);
        assert_eq!(low.proven(50).as_deref(), Some("9"));
    }

    #[test]
    fn newest_passed_value_counts_and_memory_is_bounded() {
        let start = Instant::now();
        let mut low = LowBound::default();
        for second in 0..1_000 {
            low.saw(at(start, second), false, second.to_string());
            assert!(low.candidates.len() <= 16);
        }
        low.polled(at(start, 1_075), 9, GRACE);
        assert_eq!(low.proven(9).as_deref(), Some("995"));
    }
}
