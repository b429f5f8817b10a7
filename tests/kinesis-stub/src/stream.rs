//! One data stream: its settings, its shards, and who takes a record.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::error::ApiError;
use crate::sequence;
use crate::shard::{Shard, Shards};

/// What a stream accepts unless configured otherwise: 1 MiB a record.
const DEFAULT_MAX_RECORD_KIB: u32 = 1_024;
const MAX_SHARDS: u32 = 10_000;

/// The life of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Not there yet for anybody who puts.
    Creating,
    /// As usual.
    Active,
    /// Takes records, as when it is resharded.
    Updating,
    /// May take records until it is gone, says the service; this one does.
    Deleting,
}

impl Status {
    const fn name(self) -> &'static str {
        match self {
            Self::Creating => "CREATING",
            Self::Active => "ACTIVE",
            Self::Updating => "UPDATING",
            Self::Deleting => "DELETING",
        }
    }
}

/// A stream.
#[derive(Clone, Debug)]
pub(crate) struct Stream {
    pub(crate) name: Arc<str>,
    pub(crate) created: SystemTime,
    pub(crate) shards: Shards,
    pub(crate) max_record_kib: u32,
    /// `AUTO`: partition keys are ignored.
    pub(crate) auto: bool,
    /// What `DescribeStreamSummary` says.
    pub(crate) status: Status,
    /// The sequence number of the next record.
    pub(crate) next: u64,
    /// How many records an `AUTO` stream has dealt out.
    dealt: usize,
}

impl Stream {
    /// An active stream.
    pub(crate) fn new(name: &str, shards: u32, created: SystemTime) -> Result<Self, ApiError> {
        let word = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
        if name.is_empty() || name.len() > 128 || !name.bytes().all(word) {
            return Err(ApiError::validation(format!("'{name}' is not a stream name.")));
        }
        if !(1..=MAX_SHARDS).contains(&shards) {
            return Err(ApiError::validation(format!("ShardCount must be 1 to {MAX_SHARDS}, not {shards}.")));
        }
        Ok(Self {
            name: name.into(),
            // Whole seconds, as DescribeStreamSummary's readers compare it.
            created: UNIX_EPOCH + Duration::from_secs(epoch(created).as_secs()),
            shards: Shards::new(shards),
            max_record_kib: DEFAULT_MAX_RECORD_KIB,
            auto: false,
            status: Status::Active,
            next: 1,
            dealt: 0,
        })
    }

    /// Its ARN.
    pub(crate) fn arn(&self) -> String {
        format!("arn:aws:kinesis:us-east-1:000000000000:stream/{}", self.name)
    }

    /// Largest record in bytes, data and key together.
    pub(crate) fn max_record(&self) -> usize {
        usize::try_from(self.max_record_kib).unwrap_or(usize::MAX).saturating_mul(1_024)
    }

    /// The place of the shard that takes a record of this hash now.
    pub(crate) fn route(&mut self, hash: u128) -> usize {
        if !self.auto {
            return self.shards.route(hash);
        }
        self.dealt = self.dealt.wrapping_add(1);
        self.shards.turn(self.dealt)
    }

    /// Sets the largest record.
    pub(crate) fn set_max_record_kib(&mut self, kib: u32) -> Result<(), ApiError> {
        if !(1_024..=10_240).contains(&kib) {
            return Err(ApiError::validation(format!(
                "MaxRecordSizeInKiB must be 1024 to 10240, not {kib}."
            )));
        }
        self.max_record_kib = kib;
        Ok(())
    }

    /// Sets whether partition keys count.
    pub(crate) fn set_strategy(&mut self, strategy: &str) -> Result<(), ApiError> {
        self.auto = match strategy {
            "AUTO" => true,
            "USER_PARTITION_KEY" => false,
            other => {
                return Err(ApiError::validation(format!("unknown RecordDistributionStrategy '{other}'.")));
            }
        };
        Ok(())
    }

    /// Reshards to equal shards.
    pub(crate) fn reshard(&mut self, count: u32) -> Result<(), ApiError> {
        if !(1..=MAX_SHARDS).contains(&count) {
            return Err(ApiError::validation(format!(
                "TargetShardCount must be 1 to {MAX_SHARDS}, not {count}."
            )));
        }
        let next = self.bump();
        self.shards.reshard(count, next)
    }

    /// A number between the records before and after a reshard.
    pub(crate) const fn bump(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// For `DescribeStreamSummary`.
    pub(crate) fn summary(&self) -> Value {
        json!({
            "StreamName": &*self.name,
            "StreamARN": self.arn(),
            "StreamStatus": self.status.name(),
            "StreamModeDetails": {"StreamMode": if self.auto { "ON_DEMAND" } else { "PROVISIONED" }},
            "RetentionPeriodHours": 24,
            "StreamCreationTimestamp": seconds(self.created),
            "EnhancedMonitoring": [{"ShardLevelMetrics": []}],
            "EncryptionType": "NONE",
            "OpenShardCount": self.shards.open_count(),
            "ConsumerCount": 0,
            "MaxRecordSizeInKiB": self.max_record_kib,
            "RecordDistributionStrategy": if self.auto { "AUTO" } else { "USER_PARTITION_KEY" },
        })
    }
}

/// A shard as `ListShards` shows it.
pub(crate) fn shard_json(shard: &Shard) -> Value {
    let mut sequences = json!({"StartingSequenceNumber": sequence::text(shard.first)});
    let mut value = json!({
        "ShardId": &*shard.id,
        "HashKeyRange": {"StartingHashKey": shard.start.to_string(), "EndingHashKey": shard.end.to_string()},
    });
    let mut set = |name: &str, content: Value| {
        if let Some(object) = value.as_object_mut() {
            object.insert(name.to_owned(), content);
        }
    };
    if let Some(parent) = &shard.parent {
        set("ParentShardId", json!(&**parent));
    }
    if let Some(adjacent) = &shard.adjacent {
        set("AdjacentParentShardId", json!(&**adjacent));
    }
    if let (Some(last), Some(object)) = (shard.last, sequences.as_object_mut()) {
        object.insert("EndingSequenceNumber".to_owned(), json!(sequence::text(last)));
    }
    set("SequenceNumberRange", sequences);
    value
}

/// Since 1970; a clock before that counts as 1970.
pub(crate) fn epoch(time: SystemTime) -> Duration {
    time.duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Seconds since 1970 with milliseconds, the protocol's timestamp.
pub(crate) fn seconds(time: SystemTime) -> f64 {
    (epoch(time).as_secs_f64() * 1_000.0).round() / 1_000.0
}
