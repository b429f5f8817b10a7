//! Growing pauses with jitter. All waiting before a retry uses this module.
//!
//! Many processes may lose the same server at the same moment. Their pauses must differ, so each process
//! seeds its own jitter.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::time::Duration;

/// A seed that differs between processes: the standard library seeds its hashers from the system's
/// randomness.
pub fn seed() -> u64 {
    RandomState::new().hash_one(std::process::id())
}

/// A small random generator (xorshift64*) for jitter. The caller seeds it, so that a test can repeat a
/// sequence.
#[derive(Clone, Debug)]
pub struct Jitter(u64);

impl Jitter {
    /// Any seed is valid.
    pub const fn new(seed: u64) -> Self {
        // Xorshift would stay at zero forever.
        Self(if seed == 0 { 0x9E37_79B9_7F4A_7C15 } else { seed })
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// "Equal jitter": between half of `pause` and all of it. Full jitter could be almost no pause at all.
    pub fn spread(&mut self, pause: Duration) -> Duration {
        let half = pause / 2;
        let nanos = u64::try_from(half.as_nanos()).unwrap_or(u64::MAX).max(1);
        half + Duration::from_nanos(self.next() % nanos)
    }
}

/// The pause before attempt `step` (from 1): `first` doubled each time, up to `cap`, jittered.
pub fn pause(first: Duration, cap: Duration, step: u32, jitter: &mut Jitter) -> Duration {
    let doubled = first.saturating_mul(1u32.checked_shl(step.saturating_sub(1)).unwrap_or(u32::MAX));
    jitter.spread(doubled.min(cap))
}

/// Pauses that grow with each failure in a row.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    cap: Duration,
    failures: u32,
    jitter: Jitter,
}

impl Backoff {
    /// Pauses from about `first` up to about `cap`, with a seed for this process.
    pub fn new(first: Duration, cap: Duration) -> Self {
        Self::seeded(first, cap, seed())
    }

    /// Pauses with this seed for the jitter.
    pub const fn seeded(first: Duration, cap: Duration, seed: u64) -> Self {
        Self { first, cap, failures: 0, jitter: Jitter::new(seed) }
    }

    /// The pause after one more failure.
    pub fn failed(&mut self) -> Duration {
        self.failures = self.failures.saturating_add(1);
        pause(self.first, self.cap, self.failures, &mut self.jitter)
    }

    /// Resets after a success: the next pause is the first one again.
    pub const fn reset(&mut self) {
        self.failures = 0;
    }

    /// Failures in a row.
    pub const fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_millis(200);
    const CAP: Duration = Duration::from_secs(15);

    fn pauses(mut backoff: Backoff) -> Vec<Duration> {
        (0..8).map(|_| backoff.failed()).collect()
    }

    #[test]
    fn pauses_grow_up_to_the_cap_and_begin_again() {
        let mut backoff = Backoff::new(FIRST, CAP);
        for step in 0..100u32 {
            let full = FIRST.saturating_mul(1 << step.min(20)).min(CAP);
            let pause = backoff.failed();
            assert!((full / 2..=full).contains(&pause), "step {step}: {pause:?}");
        }
        assert_eq!(backoff.failures(), 100);
        backoff.reset();
        assert!(backoff.failed() <= FIRST);
    }

    /// With the same seed, all processes would connect to a server that returns at the same moments.
    #[test]
    fn instances_have_different_jitter() {
        assert_ne!(pauses(Backoff::new(FIRST, CAP)), pauses(Backoff::new(FIRST, CAP)));
    }
}
