//! Bandwidth of the connection to the service: how many bytes may be in flight, and how long a response may
//! take. Does no I/O; the time is a parameter.
//!
//! Requests share the connection, and a request that times out during its transfer has wasted bandwidth. So
//! the bytes in flight follow the measured throughput. The budget begins small and grows by the acknowledged
//! bytes while responses are quick. Once they are slow, it is the throughput times `SECONDS_IN_FLIGHT`. The
//! timeout of a response is a constant plus twice the time that the connection needs for everything in
//! flight.
//!
//! Bytes are those of data and keys. The measurement includes what the encoding adds.
//!
//! Invariants: the budget stays between `BUDGET_MIN` and its maximum; no measurement makes a timeout shorter
//! than `RESPONSE_TIMEOUT`.

use std::time::Duration;

use tokio::time::Instant;

/// First budget: a connection of 64 kbit/s transfers it within seconds.
const BUDGET_FIRST: usize = 64 << 10;
/// Smallest budget. A larger record is sent alone.
const BUDGET_MIN: usize = 16 << 10;
/// A response slower than this means that the connection is saturated.
const SLOW_RESPONSE: Duration = Duration::from_secs(2);
/// Bytes in flight on a slow connection, in seconds of its throughput. It is more than [`SLOW_RESPONSE`], so
/// that the connection is never idle.
const SECONDS_IN_FLIGHT: f64 = 3.0;
/// Timeout of a response, without the time for the transfer.
pub const RESPONSE_TIMEOUT: Duration = Duration::from_secs(10);
/// Throughput of the slowest supported connection (64 kbit/s) in bytes per second, after encoding.
const RATE_MIN: f64 = 5_500.0;
/// Share of the measured rate that is kept after a failed request.
const KEPT_AFTER_FAILURE: f64 = 0.25;
/// Longest timeout of a response: slightly more than 10 MiB take on the slowest connection.
const TIMEOUT_MAX: Duration = Duration::from_mins(40);

/// The measured bandwidth and what follows from it.
#[derive(Clone, Copy, Debug)]
pub struct Bandwidth {
    budget: usize,
    budget_max: usize,
    /// Bytes per second: the highest measurement, or the last one if responses were slow.
    rate: f64,
    /// Bytes acknowledged so far.
    acknowledged_bytes: u64,
}

impl Bandwidth {
    /// Starts without a measurement, for at most `budget_max` bytes in flight.
    pub fn new(budget_max: usize) -> Self {
        Self { budget: BUDGET_FIRST.min(budget_max), budget_max, rate: RATE_MIN, acknowledged_bytes: 0 }
    }

    /// Bytes that may be in flight.
    pub const fn budget(&self) -> usize {
        self.budget
    }

    /// Bytes acknowledged so far. The caller stores this value when it sends a request.
    pub const fn acknowledged_bytes(&self) -> u64 {
        self.acknowledged_bytes
    }

    /// Timeout of the response to a request, if `in_flight` bytes are in flight with it.
    pub fn timeout(&self, in_flight: usize) -> Duration {
        let seconds = 2.0 * float(in_flight) / self.rate;
        (RESPONSE_TIMEOUT + Duration::try_from_secs_f64(seconds).unwrap_or(TIMEOUT_MAX)).min(TIMEOUT_MAX)
    }

    /// Notes the response to a request of `bytes` that was sent at `sent`, when `before` bytes had been
    /// acknowledged.
    pub fn acknowledged(&mut self, bytes: usize, (sent, before): (Instant, u64), now: Instant) {
        self.acknowledged_bytes += bytes as u64;
        let took = now.saturating_duration_since(sent);
        let passed = usize::try_from(self.acknowledged_bytes - before).unwrap_or(usize::MAX);
        let rate = (float(passed) / took.as_secs_f64().max(0.001)).max(RATE_MIN);
        if took > SLOW_RESPONSE {
            self.rate = rate;
            self.budget =
                whole(rate * SECONDS_IN_FLIGHT).clamp(BUDGET_MIN.min(self.budget_max), self.budget_max);
        } else {
            self.rate = self.rate.max(rate);
            self.budget = self.budget.saturating_add(bytes).min(self.budget_max);
        }
    }

    /// Notes that a request failed as a whole.
    pub fn failed(&mut self) {
        self.rate = (self.rate * KEPT_AFTER_FAILURE).max(RATE_MIN);
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
    fn quick_responses_open_the_budget_within_few_round_trips() {
        let (mut bandwidth, mut now) = (Bandwidth::new(8 << 20), Instant::now());
        for _ in 0..8 {
            let before = (now, bandwidth.acknowledged_bytes());
            now += Duration::from_millis(20);
            bandwidth.acknowledged(bandwidth.budget(), before, now);
        }
        assert_eq!(bandwidth.budget(), 8 << 20);
        assert!(bandwidth.timeout(8 << 20) < Duration::from_secs(11), "{:?}", bandwidth.timeout(8 << 20));
    }

    #[test]
    fn slow_line_gets_what_it_carries_in_seconds() {
        for rate in [6_000, 24_000, 100_000, 1_000_000_usize] {
            let (mut bandwidth, mut now) = (Bandwidth::new(8 << 20), Instant::now());
            for _ in 0..40 {
                let before = (now, bandwidth.acknowledged_bytes());
                let bytes = bandwidth.budget() / 2;
                let took =
                    Duration::from_secs(1) * u32::try_from(bytes).unwrap() / u32::try_from(rate).unwrap();
                assert!(bandwidth.timeout(bytes) > took, "{rate}: {bytes} bytes take {took:?}");
                now += took;
                bandwidth.acknowledged(bytes, before, now);
            }
            assert!(bandwidth.budget() <= (5 * rate).max(BUDGET_MIN), "{rate}: {}", bandwidth.budget());
        }
    }

    #[test]
    fn failures_shrink_the_budget_to_its_least() {
        let mut bandwidth = Bandwidth::new(8 << 20);
        (0..20).for_each(|_| bandwidth.failed());
        assert_eq!(bandwidth.budget(), BUDGET_MIN);
        assert!(bandwidth.timeout(10 << 20) <= TIMEOUT_MAX);
        let mut small = Bandwidth::new(1000);
        small.failed();
        assert_eq!(small.budget(), 1000);
    }
}
