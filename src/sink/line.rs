//! Capacity of the network line to the service: how many bytes may be in flight, and how long a response may take. Pure; time
//! is passed in.
//!
//! Requests share the line, and one that times out while it crosses a slow line has wasted it. So the bytes in flight follow the
//! measured throughput: the budget begins small, grows by the acknowledged bytes while responses are quick, and is the throughput
//! times `HORIZON` once they are slow. The time-out of a response is a constant plus twice the time that the line needs for
//! everything in flight.
//!
//! Bytes are those of data and keys. The measurement includes what the encoding adds.
//!
//! Invariants: the budget stays between `BUDGET_MIN` and its maximum; no measurement makes a time-out shorter than `ANSWER`.

use std::time::Duration;

use tokio::time::Instant;

/// First budget: a line of 64 kbit/s carries it in some seconds, a good one at once.
const BUDGET_FIRST: usize = 64 << 10;
/// The least that may be in flight. A larger record goes alone.
const BUDGET_MIN: usize = 16 << 10;
/// A response that takes longer has waited for the line.
const SLOW: Duration = Duration::from_secs(2);
/// Bytes in flight on a slow line, in seconds of its throughput: more than [`SLOW`], so that it is never idle.
const HORIZON: f64 = 3.0;
/// How long a response may take, besides the time on the line.
pub const ANSWER: Duration = Duration::from_secs(10);
/// Bytes a second of the slowest line that is served, 64 kbit/s, after encoding.
const SLOWEST: f64 = 5_500.0;
/// A failure makes a measurement doubtful: this part of it is believed.
const DOUBT: f64 = 0.25;
/// Longest time-out of a response: 10 MiB over the slowest line, and a little more.
const LONGEST: Duration = Duration::from_mins(40);

/// Measurements of the line.
#[derive(Clone, Copy, Debug)]
pub struct Line {
    budget: usize,
    budget_max: usize,
    /// Bytes a second: the most that was acknowledged, or the measurement while it was slow.
    rate: f64,
    /// Bytes acknowledged so far.
    carried: u64,
}

impl Line {
    /// A line of which nothing is known, for at most `budget_max` bytes in flight.
    pub fn new(budget_max: usize) -> Self {
        Self { budget: BUDGET_FIRST.min(budget_max), budget_max, rate: SLOWEST, carried: 0 }
    }

    /// How many bytes may be in flight.
    pub const fn budget(&self) -> usize {
        self.budget
    }

    /// Bytes acknowledged so far. To be stored with a request when it is sent.
    pub const fn carried(&self) -> u64 {
        self.carried
    }

    /// Time-out for the response to a request with which `in_flight` bytes are in flight.
    pub fn timeout(&self, in_flight: usize) -> Duration {
        let seconds = 2.0 * float(in_flight) / self.rate;
        (ANSWER + Duration::try_from_secs_f64(seconds).unwrap_or(LONGEST)).min(LONGEST)
    }

    /// Notes the response to a request of `bytes` that was sent at `sent`, when `before` bytes had been acknowledged.
    pub fn acknowledged(&mut self, bytes: usize, (sent, before): (Instant, u64), now: Instant) {
        self.carried += bytes as u64;
        let took = now.saturating_duration_since(sent);
        let passed = usize::try_from(self.carried - before).unwrap_or(usize::MAX);
        let rate = (float(passed) / took.as_secs_f64().max(0.001)).max(SLOWEST);
        if took > SLOW {
            self.rate = rate;
            self.budget = whole(rate * HORIZON).clamp(BUDGET_MIN.min(self.budget_max), self.budget_max);
        } else {
            self.rate = self.rate.max(rate);
            self.budget = self.budget.saturating_add(bytes).min(self.budget_max);
        }
    }

    /// A request as a whole failed.
    pub fn failed(&mut self) {
        self.rate = (self.rate * DOUBT).max(SLOWEST);
        self.budget = (self.budget / 2).max(BUDGET_MIN).min(self.budget_max);
    }
}

#[expect(clippy::cast_precision_loss, reason = "bytes in flight are far below 2^52")]
fn float(bytes: usize) -> f64 {
    bytes as f64
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "never negative, and clamped")]
fn whole(bytes: f64) -> usize {
    bytes as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quick_answers_open_the_budget_within_few_round_trips() {
        let (mut line, mut now) = (Line::new(8 << 20), Instant::now());
        for _ in 0..8 {
            let before = (now, line.carried());
            now += Duration::from_millis(20);
            line.acknowledged(line.budget(), before, now);
        }
        assert_eq!(line.budget(), 8 << 20);
        assert!(line.timeout(8 << 20) < Duration::from_secs(11), "{:?}", line.timeout(8 << 20));
    }

    #[test]
    fn slow_line_gets_what_it_carries_in_seconds() {
        for rate in [6_000, 24_000, 100_000, 1_000_000_usize] {
            let (mut line, mut now) = (Line::new(8 << 20), Instant::now());
            for _ in 0..40 {
                let before = (now, line.carried());
                let bytes = line.budget() / 2;
                let took =
                    Duration::from_secs(1) * u32::try_from(bytes).unwrap() / u32::try_from(rate).unwrap();
                assert!(line.timeout(bytes) > took, "{rate}: {bytes} bytes take {took:?}");
                now += took;
                line.acknowledged(bytes, before, now);
            }
            assert!(line.budget() <= (5 * rate).max(BUDGET_MIN), "{rate}: {}", line.budget());
        }
    }

    #[test]
    fn failures_shrink_the_budget_to_its_least() {
        let mut line = Line::new(8 << 20);
        (0..20).for_each(|_| line.failed());
        assert_eq!(line.budget(), BUDGET_MIN);
        assert!(line.timeout(10 << 20) <= LONGEST);
        let mut small = Line::new(1000);
        small.failed();
        assert_eq!(small.budget(), 1000);
    }
}
