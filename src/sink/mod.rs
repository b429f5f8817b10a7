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

/// One record to send. Both fields are slices of the log's read buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// Partition key, UTF-8.
    pub key: Bytes,
    /// One or more lines, all of that key.
    pub data: Bytes,
}

/// The result of one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordResult {
    /// The stream has accepted it.
    Accepted {
        /// Its sequence number, which increases within a shard.
        sequence: String,
        /// The shard that accepted it.
        shard: String,
    },
    /// Rejected for throughput. It may be sent again after a pause.
    Throttled,
    /// Rejected because of an internal failure of the service. It may be sent again.
    Failed {
        /// The service's code and message.
        reason: String,
    },
}

/// Facts about a failed request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorResponse {
    /// The operation, the stream, and the service's response.
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
    /// There was no response, or a 5xx: it is unknown whether the records were stored.
    #[error("no response from Kinesis: {0}")]
    NoResponse(ErrorResponse),
    /// Rejected before anything was stored, because of the content: a record is invalid or too large.
    #[error("Kinesis rejected the content of the request: {0}")]
    Invalid(ErrorResponse),
    /// Rejected before anything was stored: permissions, credentials, KMS keys.
    #[error("Kinesis rejected the request: {0}")]
    Refused(ErrorResponse),
    /// Rejected, because the stream does not exist (now).
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

/// The stream's settings, read at the start and every minute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamFacts {
    /// Full name of the stream, such as its ARN.
    pub name: String,
    /// Creation time in milliseconds since the Unix epoch, as exact as the service reports it. A recreated
    /// stream has another one.
    pub created: i64,
    /// Largest record in bytes, data and key together.
    pub max_record_size: usize,
    /// Number of open shards.
    pub shards: i32,
    /// Why nothing should be sent to it now (it is being created or deleted); `None` if it can be used.
    pub closed: Option<&'static str>,
    /// `PROVISIONED` or `ON_DEMAND`, the service's own names.
    pub mode: String,
    /// Whether the service ignores partition keys (`RecordDistributionStrategy` is `AUTO`). It would not keep
    /// the order of a key.
    pub ignores_keys: bool,
}

/// The hash range of an open shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HashRange {
    /// The shard's id.
    pub id: String,
    /// The first 64-bit hash.
    pub first: u64,
    /// The last 64-bit hash.
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

    /// Checks whether records may be sent, without sending one. Returns `Ok` too if that cannot be known
    /// without sending one.
    fn may_put(&self) -> impl Future<Output = Result<(), PutError>> + 'static {
        std::future::ready(Ok(()))
    }

    /// Lists the hash ranges of the open shards; empty if the destination does not report them. Publishing
    /// does not wait for it.
    fn hash_ranges(&self) -> impl Future<Output = Result<Vec<HashRange>, PutError>> + 'static {
        std::future::ready(Ok(Vec::new()))
    }
}
