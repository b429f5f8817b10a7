//! Values that the windows take and return, except requests.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::event::{KeyHash, RecordKind};
use crate::position::{FrameNo, Position, Transaction};
use crate::sink::PutError;
use crate::sink::order::Fall;
use crate::sink::shards::Cut;

/// What the window needs to know of a frame besides its records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    /// Its number, which follows that of the last admitted frame.
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
    /// The event's type, for the counts.
    pub event_type: &'a str,
    /// Partition key.
    pub key: Bytes,
    /// The bytes to send.
    pub line: Bytes,
}

/// How a record was finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The stream has accepted it.
    Published,
    /// It is in the dead-letter file.
    Quarantined,
}

/// Why a record goes to the dead-letter file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeadReason {
    /// The change could not be translated. The dead letter has the reason.
    Untranslated,
    /// The record is larger than the stream allows.
    TooLarge {
        /// Bytes of data and key.
        size: usize,
        /// The stream's limit.
        limit: usize,
    },
    /// The stream rejects its content: it failed alone repeatedly, while others were accepted.
    Rejected,
}

/// A record that must be written to the dead-letter file, and is the first of its key.
#[derive(Clone, Debug)]
pub struct DeadLetter {
    /// Its frame.
    pub frame: FrameNo,
    /// Its index in the frame.
    pub part: u16,
    /// Why it cannot be published.
    pub reason: DeadReason,
    /// The service's response, if it rejected the record.
    pub response: Option<Arc<str>>,
    /// The event's type.
    pub event_type: Arc<str>,
    /// Partition key.
    pub key: Bytes,
    /// A dead letter, or an event that cannot be published.
    pub line: Bytes,
}

/// The service accepted the records of a key in order, but numbered them in another order: see
/// [`order`](crate::sink::order).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The shard, and both sequence numbers.
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
    /// Accepted records.
    pub accepted: usize,
    /// Events in them.
    pub accepted_events: usize,
    /// Bytes of them, data and keys.
    pub accepted_bytes: usize,
    /// When the changes of accepted records were committed, in microseconds since the Unix epoch. An injected
    /// record has that of the change before it.
    pub committed: Vec<i64>,
    /// Records rejected for throughput.
    pub throttled: usize,
    /// Records rejected because of an internal failure of the service.
    pub failed: usize,
    /// Records whose request failed as a whole, or got no response.
    pub without_response: usize,
    /// Lanes with rejected records, sorted, without duplicates.
    pub lanes: Vec<u8>,
    /// Records whose sequence number is not above that of their key's previous record.
    pub violations: usize,
    /// The first of them.
    pub violation: Option<Violation>,
    /// The service's code and message for the first failed record.
    pub reason: Option<String>,
    /// Why the request failed as a whole; `None` if it did not.
    pub error: Option<PutError>,
    /// What that failure means for the stream.
    pub cause: Cause,
    /// How long only a probe may be sent from now on, if this request shut the gate or kept it shut.
    pub pause: Option<Duration>,
    /// Shards whose rate was reduced.
    pub cuts: Vec<Cut>,
    /// The record that failed alone, if others are accepted in the meantime.
    pub failed_alone: Option<FailedAlone>,
}

/// What the failure of a whole request means for the stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cause {
    /// The stream may be unavailable.
    #[default]
    Stream,
    /// The stream is available: the service responded to other requests at the time.
    Record,
    /// Unknown: the record has failed alone before, but the service has not responded to others recently.
    /// Only a description of the stream can show.
    Unknown,
}

/// A record that failed alone while others are accepted. It blocks its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedAlone {
    /// Its frame.
    pub frame: FrameNo,
    /// Its index in the frame.
    pub part: u16,
    /// The event's type.
    pub event_type: Arc<str>,
    /// Bytes of data and key.
    pub size: usize,
    /// Number of failures in a row.
    pub failures: u32,
    /// Whether it goes to the dead-letter file.
    pub rejected: bool,
}

impl Settlement {
    /// Adds a violation.
    pub(super) fn violated(&mut self, violation: Violation) {
        self.violations += 1;
        self.violation.get_or_insert(violation);
    }
}

/// Identifies a reader for the life of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReaderId(pub(super) u64);

impl ReaderId {
    /// The reader of new records. It always exists.
    pub const MAIN: Self = Self(0);
    /// Not a reader that sends: it counts what all others have finished.
    pub const AUDIT: Self = Self(u64::MAX);
}

/// A change of the reader that serves lanes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A catch-up reader serves these lanes now.
    Detached {
        /// The lanes, in order.
        lanes: Vec<u8>,
        /// Frames that the main reader is ahead of them.
        behind: u64,
        /// The shard that accepted their last records; `None` if none was accepted.
        shard: Option<String>,
    },
    /// The main reader serves these lanes again.
    Back {
        /// The lanes, in order.
        lanes: Vec<u8>,
    },
}

/// How far detached lanes lag behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lag {
    /// Number of detached lanes.
    pub lanes: usize,
    /// Frames that the main reader is ahead of the slowest of them.
    pub frames: u64,
    /// When their oldest unfinished change was committed, microseconds since the Unix epoch; `None` if every
    /// admitted record of theirs is finished.
    pub oldest: Option<i64>,
}
