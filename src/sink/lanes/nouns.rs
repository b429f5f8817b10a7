//! What goes into the window and what comes out of it, beside requests.

use std::hash::Hasher;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::event::{KeyHash, RecordKind};
use crate::position::{FrameNo, Position, Transaction};
use crate::sink::PutError;
use crate::sink::order::Fall;
use crate::sink::shards::Cut;

/// The key is a prefix of an MD5: hashing it again would only cost.
#[derive(Clone, Copy, Debug, Default)]
pub struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, n: u64) {
        self.0 = n;
    }
}

/// What the window must know of a frame beside its records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    /// Its number: the one after the last admitted.
    pub number: FrameNo,
    /// Position of its change; `None` for injected records.
    pub position: Option<Position>,
    /// Transaction of its change; `None` for injected records.
    pub transaction: Option<Transaction>,
    /// Its bytes in the log.
    pub bytes: usize,
}

/// One record of a frame, lent from the log's read buffer.
#[derive(Clone, Debug)]
pub struct Admission<'a> {
    /// Event or dead letter.
    pub kind: RecordKind,
    /// Hash of the key.
    pub hash: KeyHash,
    /// The event's type; for the books.
    pub event_type: &'a str,
    /// Partition key.
    pub key: Bytes,
    /// What is sent.
    pub line: Bytes,
}

/// How a record was finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The stream has it.
    Published,
    /// The dead-letter file has it.
    Quarantined,
}

/// Why a record goes to the dead-letter file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeadReason {
    /// The change could not be translated; the line says why.
    Untranslated,
    /// The record is larger than the stream takes.
    TooLarge {
        /// Bytes of data and key.
        size: usize,
        /// The stream's limit.
        limit: usize,
    },
}

/// A record whose turn it is, and that must be written to the dead-letter file.
#[derive(Clone, Debug)]
pub struct DeadLetter {
    /// Its frame.
    pub frame: FrameNo,
    /// Its ordinal in the frame.
    pub part: u16,
    /// Why.
    pub reason: DeadReason,
    /// The event's type.
    pub event_type: Arc<str>,
    /// Partition key.
    pub key: Bytes,
    /// A dead letter, or an event that is too large.
    pub line: Bytes,
}

/// The service has accepted the records of a key in order and numbered them otherwise, see [`order`](crate::sink::order).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Shard and numbers.
    pub fall: Fall,
    /// Frame of the later record's first event.
    pub frame: FrameNo,
    /// Its type.
    pub event_type: Arc<str>,
    /// Lane of the key.
    pub lane: u8,
}

/// What became of a request; for metrics and the warning.
#[derive(Debug, Default)]
pub struct Settlement {
    /// Records the stream has.
    pub accepted: usize,
    /// Events in them.
    pub accepted_events: usize,
    /// Bytes of them, data and keys.
    pub accepted_bytes: usize,
    /// Records refused for throughput.
    pub throttled: usize,
    /// Records refused for an internal failure of the service.
    pub failed: usize,
    /// Records whose request failed as a whole, or has no answer.
    pub unanswered: usize,
    /// Lanes with refused records, sorted, each once.
    pub lanes: Vec<u8>,
    /// Records that were not numbered above the one before of their key.
    pub violations: usize,
    /// The first of them.
    pub violation: Option<Violation>,
    /// What the service said of the first failed record.
    pub reason: Option<String>,
    /// Why the request failed as a whole.
    pub error: Option<PutError>,
    /// How long nothing but a probe is sent from now on, if this request shut the gate or kept it shut.
    pub pause: Option<Duration>,
    /// Shards that are sent to more slowly from now on.
    pub cuts: Vec<Cut>,
}

impl Settlement {
    /// Takes note of a violation.
    pub(super) fn violated(&mut self, violation: Violation) {
        self.violations += 1;
        self.violation.get_or_insert(violation);
    }
}
