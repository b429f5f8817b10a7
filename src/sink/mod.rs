//! Where events go. The trait [`Publisher`] is one of the program's two network ends.

pub mod body;
pub mod credentials;
pub mod kinesis;
pub mod lanes;
pub mod order;
pub mod rate;
pub mod refusal;
pub mod request;
pub mod shards;
pub mod standing;
pub mod throttle;

use std::future::Future;

use bytes::Bytes;

/// One Kinesis record, lent: both are slices of the log's read buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// Partition key, UTF-8.
    pub key: Bytes,
    /// One or more lines of that key.
    pub data: Bytes,
}

/// What became of one record of a request that was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The stream has it.
    Accepted {
        /// Kinesis's sequence number.
        sequence: String,
        /// Which shard took it.
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

/// Why a request as a whole has no answer, or was refused as a whole. Every record of it must be sent again.
#[derive(Debug, thiserror::Error)]
pub enum PutError {
    /// The whole request was refused for throughput.
    #[error("Kinesis refused the request for throughput: {0}")]
    Throttled(String),
    /// No answer, or a 5xx: nobody knows whether the records were stored.
    #[error("no answer from Kinesis: {0}")]
    Unanswered(String),
    /// Refused before storing anything: permissions, credentials, validation.
    #[error("Kinesis refused the request: {0}")]
    Refused(String),
    /// Refused, because there is no such stream (now).
    #[error("Kinesis does not find the stream: {0}")]
    Missing(String),
}

/// The stream's settings, read at start and every minute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamFacts {
    /// ARN of the stream.
    pub arn: String,
    /// When it was created, milliseconds since the Unix epoch, as exactly as the service says it: tells a recreated stream from the old one.
    pub created: i64,
    /// Largest record in bytes, data and key together.
    pub max_record_size: usize,
    /// Open shards.
    pub shards: i32,
    /// Why nothing should be put into it now, if so: it is being made, or being deleted.
    pub closed: Option<&'static str>,
    /// `PROVISIONED` or `ON_DEMAND`, as the service calls it.
    pub mode: String,
    /// Whether the service ignores partition keys (`RecordDistributionStrategy` `AUTO`): order per key is gone.
    pub ignores_keys: bool,
}

/// A stream that takes records.
pub trait Publisher {
    /// Sends one request. The answers stand in the order of the records.
    fn put(&self, records: Vec<Outgoing>) -> impl Future<Output = Result<Vec<Answer>, PutError>> + 'static;

    /// Reads the stream's settings.
    fn describe(&self) -> impl Future<Output = Result<StreamFacts, PutError>> + 'static;
}
