//! The parts of the status: what each loop knows of itself.

use std::time::{Duration, Instant};

use crate::diagnosis::Diagnosis;
use crate::position::CommitSeq;
use crate::sink::lanes::Lag;
use crate::sink::rate::Summary;
use crate::time;

/// A point in time on both clocks: one to measure by, one to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Monotonic.
    pub at: Instant,
    /// Microseconds since the Unix epoch.
    pub micros: i64,
}

impl Moment {
    /// Now.
    pub fn now() -> Self {
        Self { at: time::now(), micros: time::now_micros() }
    }

    /// How long ago that was.
    pub fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.at)
    }
}

/// What the ingest loop knows. Until it runs, the start writes it.
#[derive(Clone, Debug, Default)]
pub struct IngestStatus {
    /// Since when the stream of changes is open.
    pub connected: Option<Moment>,
    /// Why it is not open, or why it was closed last.
    pub error: Option<String>,
    /// When the server sent anything. Time in which the loop does not read does not count.
    pub last_received: Option<Instant>,
    /// Since when the log is full and the source is not read.
    pub paused: Option<Moment>,
    /// The highest position confirmed to the server in this process.
    pub confirmed: Option<(CommitSeq, Moment)>,
}

/// What the publish loop knows.
#[derive(Clone, Debug, Default)]
pub struct PublishStatus {
    /// Whether the stream was ever described.
    pub begun: bool,
    /// Whether the last look at the stream's settings succeeded.
    pub described: bool,
    /// Why nothing is sent, or why the last request failed as a whole.
    pub unavailable: Option<String>,
    /// What the service said of the record it refused last, while there are such records.
    pub refused: Option<String>,
    /// Keys that were refused since the service last took something of them.
    pub rejected_keys: usize,
    /// When a record was acknowledged.
    pub acknowledged: Option<Moment>,
    /// Since when something waits to be acknowledged, and nothing was. What is refused while other keys are taken does not
    /// count.
    pub waiting: Option<Instant>,
    /// When the oldest unpublished change was committed, microseconds since the Unix epoch.
    pub oldest: Option<i64>,
    /// Whether publishing is halted before a poison record (`on_poison = "stop"`).
    pub halted: bool,
    /// Bytes of log that the windows hold.
    pub window_bytes: usize,
    /// Requests without an answer.
    pub in_flight: usize,
    /// Lanes that wait after a refusal.
    pub paused_lanes: usize,
    /// Lanes that a catch-up reader serves.
    pub lag: Lag,
    /// Rates of shards.
    pub rates: Summary,
}

impl PublishStatus {
    /// Records were acknowledged; whether others wait.
    pub fn acknowledged(&mut self, others_wait: bool) {
        let now = Moment::now();
        self.acknowledged = Some(now);
        self.waiting = others_wait.then_some(now.at);
    }

    /// How many keys are refused.
    pub fn refuses(&mut self, keys: usize) {
        self.rejected_keys = keys;
        if keys == 0 {
            self.refused = None;
        }
    }

    /// Whether something waits to be acknowledged.
    pub fn waits(&mut self, waits: bool) {
        self.waiting = waits.then(|| self.waiting.unwrap_or_else(time::now));
    }
}

/// What the watchdog has seen at the source.
#[derive(Clone, Debug, Default)]
pub struct SourceStatus {
    /// When it looked.
    pub looked: Option<Moment>,
    /// Bytes of its log that the source retains for this process, and bytes beyond the confirmed position.
    pub retained_bytes: Option<(u64, u64)>,
    /// By how many bytes a second what it retains grows, if it has grown for minutes.
    pub growth: Option<f64>,
    /// When it gives up what it retains, at this growth.
    pub lost_at: Option<Instant>,
    /// Since when the oldest running transaction of a polled source is the same.
    pub horizon_since: Option<Instant>,
    /// Tables that the source stopped sending since the start.
    pub tables_gone: usize,
    /// Tables of `source.tables` that the source does not send.
    pub tables_missing: usize,
    /// Whether the last look succeeded.
    pub watched: bool,
    /// Warnings about the set-up of the source.
    pub warnings: Vec<Diagnosis>,
}

/// How late events are, against a limit.
#[derive(Clone, Copy, Debug, Default)]
pub struct LagStatus {
    /// `max_lag`; `None`: there is no limit.
    pub max: Option<Duration>,
    /// Age of the oldest change that is unpublished or was published just now.
    pub lag: Duration,
    /// Since when the limit is exceeded, microseconds since the Unix epoch.
    pub exceeded_at: Option<i64>,
}

/// When log and disk are full, at the growth of the last minutes.
#[derive(Clone, Copy, Debug, Default)]
pub struct FillStatus {
    /// By how many bytes a second the log grows, if it has grown for minutes.
    pub log_growth: Option<f64>,
    /// When it reaches `buffer.max_size`.
    pub log_full_at: Option<Instant>,
    /// Bytes that may still be written to the file system of `buffer.dir`.
    pub disk_free: Option<u64>,
    /// When none is left.
    pub disk_full_at: Option<Instant>,
}
