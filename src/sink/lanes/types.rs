//! Values that the windows take and return, apart from requests.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::event::{KeyHash, RecordKind};
use crate::position::{FrameNo, Position, Transaction};
use crate::sink::PutError;
use crate::sink::order::Fall;
use crate::sink::shards::Cut;

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
    /// The event's type; for the counts.
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
    /// The record is larger than the stream allows.
    TooLarge {
        /// Bytes of data and key.
        size: usize,
        /// The stream's limit.
        limit: usize,
    },
    /// The stream rejects its content: it failed alone again and again, and others were accepted meanwhile.
    Rejected,
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
    /// The service's response, if it rejected the record.
    pub response: Option<Arc<str>>,
    /// The event's type.
    pub event_type: Arc<str>,
    /// Partition key.
    pub key: Bytes,
    /// A dead letter, or an event that is too large.
    pub line: Bytes,
}

/// The service accepted the records of a key in order, and numbered them in another order; see
/// [`order`](crate::sink::order).
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

/// The result of a request, for metrics and log lines.
#[derive(Debug, Default)]
pub struct Settlement {
    /// Records the stream has.
    pub accepted: usize,
    /// Events in them.
    pub accepted_events: usize,
    /// Bytes of them, data and keys.
    pub accepted_bytes: usize,
    /// When the changes of accepted records were committed, in microseconds since the Unix epoch. An injected
    /// record has that of the change before it.
    pub committed: Vec<i64>,
    /// Records refused for throughput.
    pub throttled: usize,
    /// Records refused for an internal failure of the service.
    pub failed: usize,
    /// Records whose request failed as a whole, or got no response.
    pub without_response: usize,
    /// Lanes with refused records, sorted, each once.
    pub lanes: Vec<u8>,
    /// Records that were not numbered above the one before of their key.
    pub violations: usize,
    /// The first of them.
    pub violation: Option<Violation>,
    /// The service's code and message for the first failed record.
    pub reason: Option<String>,
    /// Why the request failed as a whole.
    pub error: Option<PutError>,
    /// What that failure says about the stream.
    pub cause: Cause,
    /// How long nothing but a probe is sent from now on, if this request shut the gate or kept it shut.
    pub pause: Option<Duration>,
    /// Shards whose rate is lower from now on.
    pub cuts: Vec<Cut>,
    /// The record that failed alone, if others are accepted meanwhile.
    pub failed_alone: Option<FailedAlone>,
}

/// What a request that failed as a whole says about the stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cause {
    /// The stream may be unavailable.
    #[default]
    Stream,
    /// Nothing: the service responded to other requests at the time.
    Record,
    /// Unknown: the record has failed alone before, but the service has not responded to others recently. Only a
    /// description of the stream shows.
    Unknown,
}

/// A record that failed alone while others are accepted: it blocks its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedAlone {
    /// Its frame.
    pub frame: FrameNo,
    /// Its ordinal in the frame.
    pub part: u16,
    /// The event's type.
    pub event_type: Arc<str>,
    /// Bytes of data and key.
    pub size: usize,
    /// How often in a row.
    pub failures: u32,
    /// Whether it goes to the dead-letter file.
    pub rejected: bool,
}

impl Settlement {
    /// Takes note of a violation.
    pub(super) fn violated(&mut self, violation: Violation) {
        self.violations += 1;
        self.violation.get_or_insert(violation);
    }
}

/// Names a reader for as long as the process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReaderId(pub(super) u64);

impl ReaderId {
    /// The reader that reads what is new. There is always one.
    pub const MAIN: Self = Self(0);
    /// Not a reader that sends: it counts what all others have finished.
    pub const AUDIT: Self = Self(u64::MAX);
}

/// A change of which reader serves lanes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A catch-up reader serves these lanes now.
    Detached {
        /// The lanes, in order.
        lanes: Vec<u8>,
        /// Frames that the main reader has read beyond them.
        behind: u64,
        /// The shard that accepted the last records of them, if any were accepted.
        shard: Option<String>,
    },
    /// The main reader serves these lanes again.
    Back {
        /// The lanes, in order.
        lanes: Vec<u8>,
    },
}

/// How far detached lanes are behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lag {
    /// How many lanes.
    pub lanes: usize,
    /// Frames that the others have read beyond the last of them.
    pub frames: u64,
    /// When their oldest unfinished change was committed, microseconds since the Unix epoch; `None` if
    /// nothing of theirs is read and unfinished.
    pub oldest: Option<i64>,
}
