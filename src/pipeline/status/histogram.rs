//! A histogram of durations with fixed bounds: its size is constant, and two histograms can be subtracted.

use std::fmt::Write as _;

/// Upper bounds of the buckets in seconds. One more bucket has no upper bound.
const BOUNDS: [f64; 19] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1_800.0,
    7_200.0, 43_200.0,
];

/// Counts of durations per bucket, and their sum.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Histogram {
    counts: [u64; BOUNDS.len() + 1],
    sum: f64,
}

impl Histogram {
    /// Adds a duration.
    pub fn add(&mut self, seconds: f64) {
        let bucket = BOUNDS.iter().position(|bound| seconds <= *bound).unwrap_or(BOUNDS.len());
        if let Some(count) = self.counts.get_mut(bucket) {
            *count += 1;
        }
        self.sum += seconds;
    }

    /// Number of durations.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The difference from an earlier state of the same histogram.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut counts = self.counts;
        for (count, before) in counts.iter_mut().zip(earlier.counts) {
            *count = count.saturating_sub(before);
        }
        Self { counts, sum: self.sum - earlier.sum }
    }

    /// The duration that this share of durations does not exceed, interpolated within its bucket; `None` if
    /// the histogram is empty.
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let wanted = self.count() as f64 * share;
        let (mut below, mut low) = (0.0, 0.0);
        let bounds = BOUNDS.iter().copied().chain(BOUNDS.last().copied());
        for (count, high) in self.counts.iter().zip(bounds) {
            let count = *count as f64;
            if count > 0.0 && below + count >= wanted {
                return Some(low + (high - low) * ((wanted - below) / count).clamp(0.0, 1.0));
            }
            below += count;
            low = high;
        }
        None
    }

    /// The histogram in Prometheus text format.
    pub fn expose(&self, name: &str, meaning: &str) -> String {
        let mut out = format!("# HELP {name} {meaning}\n# TYPE {name} histogram\n");
        let mut sum = 0;
        let bounds = BOUNDS.iter().map(f64::to_string).chain(["+Inf".to_owned()]);
        for (count, bound) in self.counts.iter().zip(bounds) {
            sum += count;
            let written = writeln!(out, "{name}_bucket{{le=\"{bound}\"}} {sum}");
            debug_assert!(written.is_ok(), "writing to a String cannot fail");
        }
        let written = write!(out, "{name}_sum {}\n{name}_count {sum}\n\n", self.sum);
        debug_assert!(written.is_ok(), "writing to a String cannot fail");
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantile_is_within_its_bucket() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(0.5), None);
        for _ in 0..90 {
            histogram.add(0.004);
        }
        let before = histogram;
        for _ in 0..10 {
            histogram.add(7.0);
        }
        let within = |share, low, high| {
            let found = histogram.quantile(share).unwrap();
            assert!((low..=high).contains(&found), "{share}: {found}");
        };
        within(0.5, 0.0025, 0.005);
        within(0.99, 5.0, 10.0);
        let later = histogram.since(&before);
        assert_eq!(later.count(), 10);
        assert!(later.quantile(0.5).unwrap() > 5.0);
        histogram.add(1e9);
        assert_eq!(histogram.quantile(1.0), Some(43_200.0));
        let text = histogram.expose("x_seconds", "X");
        assert!(text.contains("x_seconds_bucket{le=\"0.005\"} 90\n"), "{text}");
        assert!(
            text.contains("x_seconds_bucket{le=\"+Inf\"} 101\n") && text.contains("x_seconds_count 101\n")
        );
    }
}
