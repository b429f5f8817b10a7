//! The destination of events. The trait [`Destination`] is one of the program's two network ends.

pub mod bandwidth;
pub mod kinesis;
mod lane;
pub mod lanes;

pub mod order;
pub mod pacing;
pub mod rate;
mod sections;
pub mod shards;
pub mod stream_state;
pub mod throttle;

use std::fmt;
use std::future::Future;

use bytes::Bytes;

use crate::failure::Explain;

/// One record to send: both are slices of the log's read buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// Partition key, UTF-8.
    pub key: Bytes,
    /// One or more lines of that key.
    pub data: Bytes,
}

/// Result of one record in a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordResult {
    /// The stream has it.
    Accepted {
        /// The destination's number for it, which rises within a shard.
        sequence: String,
        /// Which shard accepted it.
        shard: String,
    },
    /// Refused for throughput; may be sent again after a pause.
    Throttled,
    /// Refused for an internal failure of the service; may be sent again.
    Failed {
        /// The service's code and message.
        reason: String,
    },
}

/// Facts about a failed request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorResponse {
    /// The operation, the stream, and the response.
    pub text: String,
    /// Advice for the operator, as an imperative sentence.
    pub hint: Option<String>,
}

impl fmt::Display for ErrorResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl<T: Into<String>> From<T> for ErrorResponse {
    fn from(text: T) -> Self {
        Self { text: text.into(), hint: None }
    }
}

/// Why a request failed as a whole. All of its records must be sent again.
#[derive(Debug, thiserror::Error)]
pub enum PutError {
    /// The whole request was throttled.
    #[error("Kinesis throttled the request: {0}")]
    Throttled(ErrorResponse),
    /// No response, or a 5xx: it is unknown whether the records were stored.
    #[error("no response from Kinesis: {0}")]
    NoResponse(ErrorResponse),
    /// Refused before storing anything, for its content: a record in it is invalid or too large.
    #[error("Kinesis rejected the content of the request: {0}")]
    Invalid(ErrorResponse),
    /// Refused before storing anything: permissions, credentials, keys.
    #[error("Kinesis rejected the request: {0}")]
    Refused(ErrorResponse),
    /// Refused, because there is no such stream (now).
    #[error("stream not found: {0}")]
    Missing(ErrorResponse),
}

impl Explain for PutError {
    fn hint(&self) -> Option<String> {
        let (Self::Throttled(reply)
        | Self::NoResponse(reply)
        | Self::Invalid(reply)
        | Self::Refused(reply)
        | Self::Missing(reply)) = self;
        reply.hint.clone()
    }
}

/// The stream's settings, read at start and every minute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamFacts {
    /// Full name of the stream, such as its ARN.
    pub name: String,
    /// Creation time in milliseconds since the Unix epoch, as exact as the service reports it. It identifies a recreated stream.
    pub created: i64,
    /// Largest record in bytes, data and key together.
    pub max_record_size: usize,
    /// Open shards.
    pub shards: i32,
    /// Why nothing should be sent to it now: it is being created or deleted. `None` if it may be used.
    pub closed: Option<&'static str>,
    /// `PROVISIONED` or `ON_DEMAND`, as the service calls it.
    pub mode: String,
    /// Whether the service ignores partition keys (`RecordDistributionStrategy` `AUTO`): it would not keep the order of a key.
    pub ignores_keys: bool,
}

/// The range of hashes that an open shard serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HashRange {
    /// The shard's id.
    pub id: String,
    /// The first 64-bit hash.
    pub first: u64,
    /// The last one.
    pub last: u64,
}

/// A stream to publish to.
pub trait Destination {
    /// Sends one request. The results are in the order of the records.
    fn put(
        &self,
        records: Vec<Outgoing>,
    ) -> impl Future<Output = Result<Vec<RecordResult>, PutError>> + 'static;

    /// Reads the stream's settings.
    fn describe(&self) -> impl Future<Output = Result<StreamFacts, PutError>> + 'static;

    /// Asks whether records may be sent, and sends none. Also `Ok` where that is unknown without sending one.
    fn may_put(&self) -> impl Future<Output = Result<(), PutError>> + 'static {
        std::future::ready(Ok(()))
    }

    /// Reads the ranges of the open shards; none if the destination does not report them. Publishing does not wait for it.
    fn hash_ranges(&self) -> impl Future<Output = Result<Vec<HashRange>, PutError>> + 'static {
        std::future::ready(Ok(Vec::new()))
    }
}
