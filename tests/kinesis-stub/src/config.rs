//! What a stub is before any fault.

use std::time::{Duration, SystemTime};

/// How a stub starts.
#[derive(Clone, Debug)]
pub struct Config {
    /// Port on 127.0.0.1; 0 takes a free one.
    pub port: u16,
    /// Streams that exist from the start: name and number of shards (1 to 10,000).
    pub streams: Vec<(String, u32)>,
    /// Whether records are kept. If not (a null sink), they are only counted, `GetRecords` finds none, and the streams of the
    /// start have a fixed time of creation.
    pub keep: bool,
    /// Whether a shard takes no more than 1,000 records and 1 MiB a second.
    pub limits: bool,
    /// Every put is answered after this time; it is stored at once.
    pub latency: Duration,
    /// Whether the data are Forebay lines whose `recordedtime` is measured.
    pub measure: bool,
    /// The secret access key of all callers; with it, signatures are checked.
    pub secret: Option<String>,
    /// Seconds by which the service's clock is ahead of this machine's, for signatures and the header `date`.
    pub clock_ahead: i64,
    /// For everything random.
    pub seed: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            port: 0,
            streams: Vec::new(),
            keep: true,
            limits: false,
            latency: Duration::ZERO,
            measure: false,
            secret: None,
            clock_ahead: 0,
            seed: 1,
        }
    }
}

impl Config {
    /// The service's time.
    pub(crate) fn time(&self) -> SystemTime {
        let by = Duration::from_secs(self.clock_ahead.unsigned_abs());
        if self.clock_ahead < 0 { SystemTime::now() - by } else { SystemTime::now() + by }
    }

    /// Adds a stream.
    #[must_use]
    pub fn stream(mut self, name: &str, shards: u32) -> Self {
        self.streams.push((name.to_owned(), shards));
        self
    }
}
