//! The parts of the status. Each is written by one loop.

use std::time::{Duration, Instant};

use crate::diagnosis::Diagnosis;
use crate::position::CommitSeq;
use crate::sink::lanes::Lag;
use crate::sink::rate::Summary;
use crate::time;

/// A point in time on two clocks: one to measure with, one to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// On the monotonic clock.
    pub at: Instant,
    /// On the wall clock, microseconds since the Unix epoch.
    pub micros: i64,
}

impl Moment {
    /// Now.
    pub fn now() -> Self {
        Self { at: time::now(), micros: time::now_micros() }
    }

    /// Time from this moment until `now`.
    pub fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.at)
    }
}

/// The state of the ingest loop. During the start, the start-up code writes it.
#[derive(Clone, Debug, Default)]
pub struct IngestStatus {
    /// When the connection was opened; `None` while it is closed.
    pub connected: Option<Moment>,
    /// Why the connection is closed, or why the last one was.
    pub error: Option<String>,
    /// When the server last sent anything. Time in which the loop does not read is left out.
    pub last_received: Option<Instant>,
    /// When the source was paused because the log is full; `None` while it is read.
    pub paused: Option<Moment>,
    /// The highest position confirmed to the server in this process.
    pub confirmed: Option<(CommitSeq, Moment)>,
}

/// The state of the publish loop.
#[derive(Clone, Debug, Default)]
pub struct PublishStatus {
    /// Whether the stream was ever described.
    pub begun: bool,
    /// Whether the last description of the stream succeeded.
    pub described: bool,
    /// Why nothing is sent, or why the last request failed as a whole.
    pub unavailable: Option<String>,
    /// The service's error for the last rejected record; `None` once no record is rejected.
    pub refused: Option<String>,
    /// Number of keys whose records are rejected.
    pub rejected_keys: usize,
    /// When a record was last acknowledged.
    pub acknowledged: Option<Moment>,
    /// Since when records have waited without any acknowledgement; `None` if none wait. Rejected records do
    /// not count while the stream accepts other keys.
    pub waiting: Option<Instant>,
    /// When the oldest unpublished change was committed, microseconds since the Unix epoch.
    pub oldest: Option<i64>,
    /// Whether publishing is halted before a poison record (`on_poison = "stop"`).
    pub halted: bool,
    /// Bytes of the log in the windows.
    pub window_bytes: usize,
    /// Requests in flight.
    pub in_flight: usize,
    /// Lanes that pause after a rejection.
    pub paused_lanes: usize,
    /// Lag of the lanes that catch-up readers serve.
    pub lag: Lag,
    /// Send rates of the shards.
    pub rates: Summary,
}

impl PublishStatus {
    /// Notes that records were acknowledged, and whether others still wait.
    pub fn acknowledged(&mut self, others_wait: bool) {
        let now = Moment::now();
        self.acknowledged = Some(now);
        self.waiting = others_wait.then_some(now.at);
    }

    /// Sets the number of keys whose records are rejected.
    pub fn refuses(&mut self, keys: usize) {
        self.rejected_keys = keys;
        if keys == 0 {
            self.refused = None;
        }
    }

    /// Sets whether records wait for an acknowledgement.
    pub fn waits(&mut self, waits: bool) {
        self.waiting = waits.then(|| self.waiting.unwrap_or_else(time::now));
    }
}

/// What the watchdog has seen in the source.
#[derive(Clone, Debug, Default)]
pub struct SourceStatus {
    /// When it last checked.
    pub looked: Option<Moment>,
    /// Bytes that the source's log retains for this process, and bytes after the confirmed position.
    pub retained_bytes: Option<(u64, u64)>,
    /// Growth of the retained bytes per second; `None` unless they have grown for minutes.
    pub growth: Option<f64>,
    /// When the source will remove retained changes that are needed, at this growth.
    pub lost_at: Option<Instant>,
    /// Since when a polled source has had the same oldest running transaction.
    pub horizon_since: Option<Instant>,
    /// Tables that the source stopped sending since the start.
    pub tables_gone: usize,
    /// Tables of `source.tables` that the source does not send.
    pub tables_missing: usize,
    /// Whether the last check succeeded.
    pub watched: bool,
    /// Warnings about the configuration of the source.
    pub warnings: Vec<Diagnosis>,
}

/// How late events are, compared with the limit.
#[derive(Clone, Copy, Debug, Default)]
pub struct LagStatus {
    /// The limit (`max_lag`); `None` if there is none.
    pub max: Option<Duration>,
    /// Age of the oldest change that is unpublished or was published within the last second.
    pub lag: Duration,
    /// Since when the limit is exceeded, microseconds since the Unix epoch.
    pub exceeded_at: Option<i64>,
}

/// When log and disk will be full, at the growth of the last minutes.
#[derive(Clone, Copy, Debug, Default)]
pub struct FillStatus {
    /// Growth of the log in bytes per second; `None` unless it has grown for minutes.
    pub log_growth: Option<f64>,
    /// When the log reaches `buffer.max_size`.
    pub log_full_at: Option<Instant>,
    /// Free bytes in the file system of `buffer.dir`.
    pub disk_free: Option<u64>,
    /// When the file system has no free bytes.
    pub disk_full_at: Option<Instant>,
}
