//! The status of the process in one place. Each loop writes its own part; everything else reads a [`Report`].
//!
//! Metrics, `/health/ready`, `/status` and log lines are views of the report. Times are points on the
//! monotonic clock, so a view made while a loop hangs shows how long it has hung.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::buffer::checkpoint::Totals;
use crate::buffer::ledger::SharedLedger;
use crate::buffer::log::Log;
use crate::time;

pub use self::heartbeat::{HeartbeatStatus, PendingHeartbeat};
pub use self::parts::{FillStatus, IngestStatus, LagStatus, Moment, PublishStatus, SourceStatus};
pub use self::received::{ReceivedCounts, TypeCounts};
pub use self::report::Report;
pub use self::traffic::{SAMPLED_EVERY, SAMPLES_MAX, Sample, Samples, Traffic};

mod findings;
mod heartbeat;
mod histogram;
mod parts;
mod received;
mod report;
mod traffic;

/// What the facts about the buffer are computed from.
#[derive(Debug)]
struct BufferParts {
    log: Arc<Log>,
    ledger: SharedLedger,
    max_bytes: u64,
}

/// The counts of one event type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventTypeCounts {
    /// Events appended to the log since the process started.
    pub received: u64,
    /// Changes that rules have excluded since the process started.
    pub filtered: u64,
    /// Events that the stream has acknowledged since the directory was created.
    pub published: u64,
    /// Events written to the dead-letter file since the directory was created.
    pub quarantined: u64,
}

/// A shared handle to the status of the process.
#[derive(Clone, Debug)]
pub struct Status(Arc<StatusParts>);

#[derive(Debug)]
struct StatusParts {
    name: String,
    started: Moment,
    ingest: Mutex<IngestStatus>,
    publish: Mutex<PublishStatus>,
    source: Mutex<SourceStatus>,
    lag: Mutex<LagStatus>,
    heartbeat: Mutex<HeartbeatStatus>,
    fill: Mutex<FillStatus>,
    received: Mutex<ReceivedCounts>,
    traffic: Mutex<Traffic>,
    samples: Mutex<Samples>,
    /// Whether the page may show keys of events.
    shows_keys: bool,
    buffer: OnceLock<BufferParts>,
}

impl Status {
    /// The status of a process that has just started.
    pub fn new(name: &str) -> Self {
        Self::with_keys(name, false)
    }

    /// Like [`new`](Self::new), with the setting whether the status page may show keys of events.
    pub fn with_keys(name: &str, shows_keys: bool) -> Self {
        Self(Arc::new(StatusParts {
            name: name.to_owned(),
            started: Moment::now(),
            ingest: Mutex::default(),
            publish: Mutex::default(),
            source: Mutex::default(),
            lag: Mutex::default(),
            heartbeat: Mutex::default(),
            fill: Mutex::default(),
            received: Mutex::default(),
            traffic: Mutex::default(),
            samples: Mutex::default(),
            shows_keys,
            buffer: OnceLock::new(),
        }))
    }

    /// Changes the part of the ingest loop.
    pub fn ingest<T>(&self, change: impl FnOnce(&mut IngestStatus) -> T) -> T {
        change(&mut self.0.ingest.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes the part of the publish loop.
    pub fn publish<T>(&self, change: impl FnOnce(&mut PublishStatus) -> T) -> T {
        change(&mut self.0.publish.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes the part of the watchdog.
    pub fn source<T>(&self, change: impl FnOnce(&mut SourceStatus) -> T) -> T {
        change(&mut self.0.source.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes the part about lag.
    pub fn lag<T>(&self, change: impl FnOnce(&mut LagStatus) -> T) -> T {
        change(&mut self.0.lag.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes the part about the heartbeat.
    pub fn heartbeat<T>(&self, change: impl FnOnce(&mut HeartbeatStatus) -> T) -> T {
        change(&mut self.0.heartbeat.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes the part about free space of log and disk.
    pub fn fill<T>(&self, change: impl FnOnce(&mut FillStatus) -> T) -> T {
        change(&mut self.0.fill.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Size of the log and its limit; `None` before it is open.
    pub fn log_room(&self) -> Option<(u64, u64)> {
        self.0.buffer.get().map(|buffer| (buffer.log.bytes(), buffer.max_bytes))
    }

    /// Changes the counts of received and filtered events.
    pub fn received<T>(&self, change: impl FnOnce(&mut ReceivedCounts) -> T) -> T {
        change(&mut self.0.received.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes the figures of what was sent.
    pub fn traffic<T>(&self, change: impl FnOnce(&mut Traffic) -> T) -> T {
        change(&mut self.0.traffic.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads or changes the samples of the last hour.
    pub fn samples<T>(&self, look: impl FnOnce(&mut Samples) -> T) -> T {
        look(&mut self.0.samples.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes a sample for the plots of the last hour. Call it every [`SAMPLED_EVERY`].
    pub fn sample(&self) {
        let report = self.report();
        let received = self.received(|all| all.iter().map(|(_, counts)| counts.received).sum());
        let retained = self.source(|part| part.retained_bytes.map(|(retained, _)| retained));
        let traffic = self.traffic(|traffic| traffic.clone());
        self.samples(|samples| samples.take(&report, retained, received, &traffic));
    }

    /// Whether keys of events may be shown. Tables with columns tagged as personal data show only hashes of
    /// keys.
    pub fn shows_keys(&self) -> bool {
        self.0.shows_keys
    }

    /// The counts per event type: received and filtered since the process started, published and quarantined
    /// since the directory was created.
    pub fn event_counts(&self) -> BTreeMap<String, EventTypeCounts> {
        let mut counts: BTreeMap<String, EventTypeCounts> = BTreeMap::new();
        if let Some(buffer) = self.0.buffer.get() {
            for (name, totals) in buffer.ledger.lock().event_counts() {
                let Totals { published, quarantined, .. } = totals;
                counts.insert(name, EventTypeCounts { published, quarantined, ..EventTypeCounts::default() });
            }
        }
        self.received(|all| {
            for (name, TypeCounts { received, filtered }) in all.iter() {
                let of = counts.entry(name.to_owned()).or_default();
                (of.received, of.filtered) = (received, filtered);
            }
        });
        counts
    }

    /// Notes that the buffer is open.
    pub fn opened(&self, log: &Arc<Log>, ledger: &SharedLedger, max_bytes: u64) {
        let buffer = BufferParts { log: Arc::clone(log), ledger: ledger.clone(), max_bytes };
        self.0.buffer.get_or_init(|| buffer);
    }

    /// A snapshot of the status at this moment.
    pub fn report(&self) -> Report {
        let parts = &*self.0;
        let buffer = parts.buffer.get().map(|buffer| {
            let ledger = buffer.ledger.lock();
            report::BufferFacts {
                bytes: buffer.log.bytes(),
                max_bytes: buffer.max_bytes,
                received: ledger.tail(),
                published: ledger.watermark(),
            }
        });
        let facts = report::Facts {
            name: &parts.name,
            started: parts.started,
            ingest: self.ingest(|part| part.clone()),
            publish: self.publish(|part| part.clone()),
            source: self.source(|part| part.clone()),
            lag: self.lag(|part| *part),
            heartbeat: self.heartbeat(|part| *part),
            fill: self.fill(|part| *part),
            buffer,
        };
        facts.report(time::now())
    }
}
