//! Examines a stream without writing to it, for `forebay check`: its state and settings, and whether the
//! credentials have every permission that a daemon needs.

use aws_sdk_kinesis::types::{
    EncryptionType, RecordDistributionStrategy, StreamDescriptionSummary, StreamMode, StreamStatus,
};
use serde_json::json;

use super::{KinesisDestination, facts};
use crate::config::units::ByteAmount;
use crate::diagnosis::{Diagnosis, Severity};
use crate::failure::Problem;
use crate::sink::{Destination as _, PutError};

/// Every permission that a daemon uses.
const RIGHTS: [&str; 3] = ["kinesis:PutRecords", "kinesis:DescribeStreamSummary", "kinesis:ListShards"];
/// Largest record that Firehose accepts, in bytes: less than a stream's default.
const FIREHOSE_RECORD_MAX: usize = 1_000 << 10;
/// Bytes and records per second that a provisioned shard accepts.
const SHARD_RATE: (u64, i32) = (1 << 20, 1_000);

/// The findings about a stream.
#[derive(Clone, Debug)]
pub struct StreamDiagnoses {
    /// The findings.
    pub found: Vec<Diagnosis>,
    /// Bytes per second that its shards accept; `None` in on-demand mode, or if the stream could not be
    /// described.
    pub capacity: Option<u64>,
}

impl KinesisDestination {
    /// Examines the stream. Each call takes at most 10 s.
    pub async fn diagnose(&self) -> StreamDiagnoses {
        let subject = format!("stream {}", self.place);
        let summary = match self.summary().await {
            Ok(summary) => summary,
            Err(error) => {
                return StreamDiagnoses { found: vec![self.failed(&subject, &error)], capacity: None };
            }
        };
        let mut found = judge(&summary, &subject, &self.stream.name);
        if let Err(error) = self.hash_ranges().await {
            // Forebay works without this permission.
            found.push(Diagnosis { severity: Severity::Warning, ..self.failed(&subject, &error) });
        }
        found.push(match self.may_put().await {
            Ok(()) => Diagnosis::ok(
                &subject,
                "these credentials allow PutRecords, as far as can be checked without sending a record",
            ),
            Err(error) => self.failed(&subject, &error),
        });
        StreamDiagnoses { found, capacity: capacity(&summary) }
    }

    /// The finding about a failed call, with the policy statement that would allow it.
    fn failed(&self, subject: &str, error: &PutError) -> Diagnosis {
        let found = Diagnosis::of_problem(subject, &Problem::of(error));
        match error {
            PutError::Missing(_) => found.with_command(format!(
                "aws kinesis create-stream --stream-name {} --stream-mode-details StreamMode=ON_DEMAND",
                self.stream.name
            )),
            PutError::Refused(reply) if reply.text.contains("AccessDenied") => {
                found.with_command(self.policy())
            }
            PutError::Refused(_)
            | PutError::Throttled(_)
            | PutError::NoResponse(_)
            | PutError::Invalid(_) => found,
        }
    }

    fn policy(&self) -> String {
        let name = &self.stream.name;
        let arn = self.stream.arn.clone();
        let arn = arn.unwrap_or_else(|| format!("arn:aws:kinesis:{}:*:stream/{name}", self.puts.region));
        let statement = json!({ "Effect": "Allow", "Action": RIGHTS, "Resource": arn });
        let policy = json!({ "Version": "2012-10-17", "Statement": [statement] });
        format!("aws iam put-role-policy --role-name ROLE --policy-name forebay --policy-document '{policy}'")
    }
}

/// Bytes per second that a provisioned stream accepts.
fn capacity(summary: &StreamDescriptionSummary) -> Option<u64> {
    let on_demand =
        summary.stream_mode_details.as_ref().is_some_and(|mode| mode.stream_mode == StreamMode::OnDemand);
    let shards = u64::try_from(summary.open_shard_count).ok().filter(|_| !on_demand)?;
    Some(shards * SHARD_RATE.0)
}

/// Findings about state and settings. Does no I/O.
fn judge(summary: &StreamDescriptionSummary, subject: &str, name: &str) -> Vec<Diagnosis> {
    let facts = facts(summary);
    let mut found = vec![match (&summary.stream_status, facts.closed) {
        (StreamStatus::Creating, _) => {
            Diagnosis::warning(subject, "it is being created; Forebay waits until it is ACTIVE")
        }
        (_, Some(closed)) => Diagnosis::blocker(subject, closed),
        (status, None) => Diagnosis::ok(subject, status.as_str()),
    }];
    if summary.record_distribution_strategy == Some(RecordDistributionStrategy::Auto) {
        let fact = "RecordDistributionStrategy is AUTO: it ignores partition keys, so it would reorder the events of a key";
        found.push(
            Diagnosis::blocker(subject, fact)
                .with_hint("Set RecordDistributionStrategy to USER_PARTITION_KEY."),
        );
    }
    let shards = facts.shards;
    found.push(match capacity(summary) {
        None => Diagnosis::ok(subject, format!("{}, {shards} open shards", facts.mode)),
        Some(bytes) => {
            let (rate, records) = (ByteAmount(bytes), shards.saturating_mul(SHARD_RATE.1));
            let fact = format!(
                "{}, {shards} open shards: it accepts {records} records and {rate} a second",
                facts.mode
            );
            Diagnosis::ok(subject, fact)
        }
    });
    let largest =
        Diagnosis::ok(subject, format!("a record may have {}", ByteAmount(facts.max_record_size as u64)));
    found.push(if facts.max_record_size > FIREHOSE_RECORD_MAX {
        largest.with_hint("A Firehose that reads the stream accepts records of 1,000 KiB, and a Lambda function batches of 6 MB.")
    } else {
        largest
    });
    found.push(match (&summary.encryption_type, &summary.key_id) {
        (Some(EncryptionType::Kms), Some(key)) => Diagnosis::ok(subject, format!("encrypted with the KMS key {key}"))
            .with_hint("With a key of your own, allow kms:GenerateDataKey on it."),
        _ => Diagnosis::warning(subject, "not encrypted at rest").with_command(format!(
            "aws kinesis start-stream-encryption --stream-name {name} --encryption-type KMS --key-id alias/aws/kinesis"
        )),
    });
    found.push(Diagnosis::ok(subject, format!("keeps records for {} hours", summary.retention_period_hours)));
    found
}

#[cfg(test)]
mod tests {
    use aws_sdk_kinesis::types::StreamModeDetails;
    use aws_smithy_types::DateTime;

    use super::*;

    fn summary() -> aws_sdk_kinesis::types::builders::StreamDescriptionSummaryBuilder {
        StreamDescriptionSummary::builder()
            .stream_name("lab")
            .stream_arn("arn:aws:kinesis:eu-central-1:123456789012:stream/lab")
            .stream_status(StreamStatus::Active)
            .retention_period_hours(24)
            .stream_creation_timestamp(DateTime::from_secs(1))
            .enhanced_monitoring(aws_sdk_kinesis::types::EnhancedMetrics::builder().build())
            .encryption_type(EncryptionType::Kms)
            .key_id("alias/aws/kinesis")
            .open_shard_count(2)
    }

    #[test]
    fn stream_settings_are_judged() {
        use Severity::{Blocker, Ok, Warning};
        let on_demand = StreamModeDetails::builder().stream_mode(StreamMode::OnDemand).build().unwrap();
        for (summary, worst, fact) in [
            (summary(), Ok, "2 open shards: it accepts 2000 records and 2.0 MiB a second"),
            (summary().stream_mode_details(on_demand), Ok, "ON_DEMAND, 2 open shards"),
            (summary().encryption_type(EncryptionType::None), Warning, "not encrypted"),
            (summary().stream_status(StreamStatus::Creating), Warning, "being created"),
            (summary().stream_status(StreamStatus::Deleting), Blocker, "DELETING"),
            (summary().record_distribution_strategy(RecordDistributionStrategy::Auto), Blocker, "AUTO"),
        ] {
            let found = judge(&summary.build().unwrap(), "stream lab", "lab");
            assert_eq!(found.iter().map(|one| one.severity).max(), Some(worst), "{found:?}");
            assert_eq!(found.iter().filter(|one| one.fact.contains(fact)).count(), 1, "{fact}: {found:?}");
        }
    }
}
