//! What one shard takes: 1,000 records and 1 MiB a second, with one second of burst.
//!
//! A record larger than what a full bucket holds (streams may allow 10 MiB) is taken when the bucket is full and leaves a
//! debt, as the service's burst bucket does.

use std::time::Instant;

const RECORDS_A_SECOND: f64 = 1_000.0;
const BYTES_A_SECOND: f64 = 1_048_576.0;

/// A token bucket for records and one for bytes. Full at first.
#[derive(Clone, Debug)]
pub(crate) struct Bucket {
    records: f64,
    bytes: f64,
    filled: Option<Instant>,
}

impl Default for Bucket {
    fn default() -> Self {
        Self { records: RECORDS_A_SECOND, bytes: BYTES_A_SECOND, filled: None }
    }
}

impl Bucket {
    /// Takes one record of `size` bytes (data and key), or refuses it and takes nothing.
    pub(crate) fn take(&mut self, size: usize, now: Instant) -> bool {
        let passed = self.filled.map_or(0.0, |then| now.saturating_duration_since(then).as_secs_f64());
        self.filled = Some(now);
        self.records = (self.records + passed * RECORDS_A_SECOND).min(RECORDS_A_SECOND);
        self.bytes = (self.bytes + passed * BYTES_A_SECOND).min(BYTES_A_SECOND);
        let size = u32::try_from(size).map_or(f64::MAX, f64::from);
        if self.records < 1.0 || self.bytes < size.min(BYTES_A_SECOND) {
            return false;
        }
        self.records -= 1.0;
        self.bytes -= size;
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn taken(bucket: &mut Bucket, size: usize, count: usize, now: Instant) -> usize {
        (0..count).filter(|_| bucket.take(size, now)).count()
    }

    #[test]
    fn each_second_allows_a_thousand_records() {
        let (mut bucket, start) = (Bucket::default(), Instant::now());
        assert_eq!(taken(&mut bucket, 10, 1_500, start), 1_000);
        assert_eq!(taken(&mut bucket, 10, 1_500, start + Duration::from_millis(250)), 250);
        assert_eq!(taken(&mut bucket, 10, 3_000, start + Duration::from_mins(1)), 1_000);
    }

    #[test]
    fn large_records_hit_byte_limit_first() {
        let (mut bucket, start) = (Bucket::default(), Instant::now());
        assert_eq!(taken(&mut bucket, 256 * 1024, 10, start), 4);
    }

    #[test]
    fn record_larger_than_a_second_leaves_debt() {
        let (mut bucket, start) = (Bucket::default(), Instant::now());
        assert!(bucket.take(3 << 20, start));
        assert!(!bucket.take(1, start + Duration::from_millis(1_900)));
        assert!(bucket.take(1, start + Duration::from_millis(2_100)));
    }
}
