//! The status of the process: one value. Each loop writes its own part; everything else reads it.
//!
//! Metrics, `/health/ready`, `/status` and log lines are views of [`Report`]. Times are kept as points on the monotonic
//! clock, so that a view made while a loop hangs shows how long it has hung.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::buffer::ledger::SharedLedger;
use crate::buffer::log::Log;
use crate::time;

pub use self::parts::{IngestStatus, Moment, PublishStatus, SourceStatus};
pub use self::received::{ReceivedCounts, TypeCounts};
pub use self::report::Report;

mod parts;
mod received;
mod report;

/// Where the facts about the buffer come from.
#[derive(Debug)]
struct BufferParts {
    log: Arc<Log>,
    ledger: SharedLedger,
    max_bytes: u64,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Status(Arc<StatusParts>);

#[derive(Debug)]
struct StatusParts {
    name: String,
    started: Moment,
    ingest: Mutex<IngestStatus>,
    publish: Mutex<PublishStatus>,
    source: Mutex<SourceStatus>,
    received: Mutex<ReceivedCounts>,
    buffer: OnceLock<BufferParts>,
}

impl Status {
    /// The status of a process that has just started.
    pub fn new(name: &str) -> Self {
        Self(Arc::new(StatusParts {
            name: name.to_owned(),
            started: Moment::now(),
            ingest: Mutex::default(),
            publish: Mutex::default(),
            source: Mutex::default(),
            received: Mutex::default(),
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

    /// What was received and filtered, per event type.
    pub fn received<T>(&self, change: impl FnOnce(&mut ReceivedCounts) -> T) -> T {
        change(&mut self.0.received.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The buffer is open.
    pub fn opened(&self, log: &Arc<Log>, ledger: &SharedLedger, max_bytes: u64) {
        let buffer = BufferParts { log: Arc::clone(log), ledger: ledger.clone(), max_bytes };
        self.0.buffer.get_or_init(|| buffer);
    }

    /// What it says now.
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
            buffer,
        };
        facts.report(time::now())
    }
}
