//! Sums of everything sent since the process started, and samples of the last hour. The publish loop writes
//! the sums. A sample is taken every few seconds and kept for an hour, in memory of constant size.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::histogram::Histogram;
use super::report::Report;
use crate::sink::lanes::{HotKey, Settlement};
use crate::sink::shards::ShardLoad;
use crate::time;

/// Interval of the samples.
pub const SAMPLED_EVERY: Duration = Duration::from_secs(5);
/// Number of samples kept: one hour.
pub const SAMPLES_MAX: usize = 720;

/// What the publish loop has sent since the process started.
#[derive(Clone, Debug, Default)]
pub struct Traffic {
    /// Age of a change, since its commit, when its record was sent.
    pub age: Histogram,
    /// Time from the commit of a change until its record was acknowledged.
    pub latency: Histogram,
    /// The longest such time since the last call of [`take_slowest`](Self::take_slowest).
    pub slowest: Duration,
    /// Events that the stream has acknowledged.
    pub events: u64,
    /// Records that were throttled.
    pub throttled: u64,
    /// Load of each shard.
    pub shards: Vec<ShardLoad>,
    /// The keys with the most events in the last minutes.
    pub hot_keys: Vec<HotKey>,
    /// Number of all events in the last minutes.
    pub hot_total: u64,
}

impl Traffic {
    /// The longest time from a commit to its acknowledgement since the last call; zero if nothing was
    /// acknowledged.
    pub fn take_slowest(&mut self) -> Duration {
        std::mem::take(&mut self.slowest)
    }

    /// Adds the result of a request that was sent `took` ago.
    pub fn settled(&mut self, settlement: &Settlement, took: Duration) {
        self.events += settlement.accepted_events as u64;
        self.throttled += settlement.throttled as u64;
        if settlement.committed.is_empty() {
            return;
        }
        let now = time::now_micros();
        for committed in &settlement.committed {
            // Not below zero: the database's clock may be ahead.
            let latency = Duration::from_micros(now.saturating_sub(*committed).max(0).unsigned_abs());
            self.slowest = self.slowest.max(latency);
            self.latency.add(latency.as_secs_f64());
            self.age.add(latency.saturating_sub(took).as_secs_f64());
        }
    }
}

/// One point of the plots. Unknown values are left out.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Sample {
    /// Seconds since the Unix epoch.
    pub at: i64,
    /// Events received per second.
    pub received: f64,
    /// Events published per second.
    pub published: f64,
    /// Records throttled per second.
    pub throttled: f64,
    /// Changes received and not published.
    pub backlog: Option<u64>,
    /// Age of the oldest unpublished change in seconds.
    pub oldest: f64,
    /// Size of the log in bytes.
    pub log: Option<u64>,
    /// Bytes that the source's log retains for this process.
    pub retained: Option<u64>,
    /// Latency in seconds that half of the events since the last sample did not exceed.
    pub p50: Option<f64>,
    /// Latency in seconds that 99 % of them did not exceed.
    pub p99: Option<f64>,
    /// Whether the process was ready.
    pub ready: bool,
}

/// The sums at the last sample.
#[derive(Clone, Debug)]
struct SampledSums {
    at: Instant,
    received: u64,
    events: u64,
    throttled: u64,
    latency: Histogram,
}

/// The samples of the last hour.
#[derive(Clone, Debug, Default)]
pub struct Samples {
    kept: VecDeque<Sample>,
    last: Option<SampledSums>,
}

impl Samples {
    /// Takes a sample.
    pub(super) fn take(&mut self, report: &Report, retained: Option<u64>, received: u64, traffic: &Traffic) {
        let sums = SampledSums {
            at: time::now(),
            received,
            events: traffic.events,
            throttled: traffic.throttled,
            latency: traffic.latency,
        };
        if let Some(last) = self.last.replace(sums.clone()) {
            let seconds = sums.at.duration_since(last.at).as_secs_f64().max(0.001);
            #[expect(clippy::cast_precision_loss, reason = "a rate")]
            let rate = |now: u64, before: u64| now.saturating_sub(before) as f64 / seconds;
            let latency = sums.latency.since(&last.latency);
            let buffer = report.buffer.as_ref();
            if self.kept.len() >= SAMPLES_MAX {
                self.kept.pop_front();
            }
            self.kept.push_back(Sample {
                at: time::now_micros() / 1_000_000,
                received: rate(sums.received, last.received),
                published: rate(sums.events, last.events),
                throttled: rate(sums.throttled, last.throttled),
                backlog: buffer.map(|buffer| buffer.unpublished_frames),
                oldest: report.publish.oldest_unpublished_seconds,
                log: buffer.map(|buffer| buffer.bytes),
                retained,
                p50: latency.quantile(0.5),
                p99: latency.quantile(0.99),
                ready: report.ready,
            });
        }
    }

    /// The samples, oldest first.
    pub fn all(&self) -> impl Iterator<Item = &Sample> {
        self.kept.iter()
    }

    /// The newest sample.
    pub fn latest(&self) -> Option<&Sample> {
        self.kept.back()
    }
}
