//! Amazon Kinesis behind the trait [`Publisher`], by the AWS SDK.
//!
//! The SDK is used for what it is good at: credentials, regions, signatures, one TLS stack. The body of a put is
//! written by [`body`]. The SDK's retries are off, because an attempt that nobody counts may still be running when the next
//! one is accepted, and would then land behind newer events.
//! For the same reason an attempt is given 10 s: nothing is sent again sooner than an answer can be expected.
//!
//! Every error is sorted into [`PutError`] by [`refusal`](super::refusal), with what was tried, the code and what to do.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use aws_config::{BehaviorVersion, Region};
use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::config::IdentityCache;
use aws_sdk_kinesis::config::StalledStreamProtectionConfig;
use aws_sdk_kinesis::config::retry::RetryConfig;
use aws_sdk_kinesis::config::timeout::TimeoutConfig;
use aws_sdk_kinesis::types::{
    PutRecordsResultEntry, RecordDistributionStrategy, StreamDescriptionSummary, StreamStatus,
};
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use bytes::Bytes;

use super::body::{self, Target};
use super::credentials::Credentials;
use super::refusal::{Tried, is_throttling, presentable};
use super::{Answer, Outgoing, Publisher, PutError, StreamFacts};

/// How long one attempt may take, until the answer is read: 4 MiB at 4 Mbit/s.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long connecting may take, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// What a stream takes that does not say otherwise.
const MAX_RECORD_SIZE_DEFAULT: usize = 1 << 20;

/// Which stream, and where. Credentials come from the AWS environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Name or ARN.
    pub stream: String,
    /// Default: that of the ARN, else the AWS environment's; with an `endpoint`, at last `us-east-1`.
    pub region: Option<String>,
    /// Another address than AWS's: LocalStack, tests, a VPC endpoint.
    pub endpoint: Option<String>,
}

/// A name, or an ARN with the name in it: the service takes both, emulators only the name.
#[derive(Clone, Debug)]
struct Stream {
    name: String,
    arn: Option<String>,
}

impl Stream {
    fn new(text: &str) -> Self {
        let name = text.rsplit_once(":stream/").map_or(text, |(_, name)| name);
        Self { name: name.to_owned(), arn: text.starts_with("arn:").then(|| text.to_owned()) }
    }
}

/// A stream on Kinesis.
#[derive(Clone, Debug)]
pub struct KinesisPublisher {
    client: Client,
    stream: Stream,
    credentials: Credentials,
    /// For messages: name or ARN, and where.
    place: Arc<str>,
}

impl KinesisPublisher {
    /// Reads the AWS environment. Does not talk to the stream yet.
    ///
    /// # Errors
    /// [`PutError::Refused`] if no region is known.
    pub async fn new(settings: &Settings) -> Result<Self, PutError> {
        let of_arn = region_of(&settings.stream);
        if let (Some(given), Some(of_arn)) = (settings.region.as_deref(), of_arn)
            && given != of_arn
        {
            let text = format!(
                "kinesis.stream is an ARN of the region {of_arn}, but kinesis.region is {given}: correct one of them, or leave \
                 kinesis.region out"
            );
            return Err(PutError::Refused(text));
        }
        let http = aws_smithy_http_client::Builder::new()
            .tls_provider(Provider::Rustls(CryptoMode::Ring))
            .build_https();
        let given = settings.region.as_deref().or(of_arn).map(|region| Region::new(region.to_owned()));
        let mut shared = aws_config::defaults(BehaviorVersion::latest()).http_client(http.clone());
        if let Some(region) = given {
            shared = shared.region(region);
        }
        if let Some(endpoint) = &settings.endpoint {
            shared = shared.endpoint_url(endpoint);
        }
        let shared = shared.load().await;
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .operation_attempt_timeout(ATTEMPT_TIMEOUT)
            .build();
        let credentials = Credentials::new(http, shared.region().cloned());
        let mut config = aws_sdk_kinesis::config::Builder::from(&shared)
            .retry_config(RetryConfig::disabled())
            .timeout_config(timeouts)
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .identity_cache(IdentityCache::no_cache())
            .credentials_provider(credentials.provider());
        let region = match (shared.region(), &settings.endpoint) {
            (Some(region), _) => region.clone(),
            (None, Some(_)) => Region::from_static("us-east-1"),
            (None, None) => {
                let text = "no AWS region is known: set kinesis.region or AWS_REGION";
                return Err(PutError::Refused(text.to_owned()));
            }
        };
        let place = match &settings.endpoint {
            Some(endpoint) => format!("{} at {endpoint}", settings.stream),
            None => format!("{} in {region}", settings.stream),
        };
        config = config.region(region);
        let client = Client::from_conf(config.build());
        Ok(Self { client, stream: Stream::new(&settings.stream), credentials, place: place.into() })
    }

    fn tried(&self, operation: &'static str) -> Tried {
        Tried { operation, place: Arc::clone(&self.place), credentials: self.credentials.clone() }
    }
}

/// The region of an ARN, `arn:aws:kinesis:<region>:<account>:stream/<name>`.
fn region_of(stream: &str) -> Option<&str> {
    let mut parts = stream.strip_prefix("arn:")?.split(':');
    parts.nth(2).filter(|region| !region.is_empty())
}

impl Publisher for KinesisPublisher {
    fn put(&self, records: Vec<Outgoing>) -> impl Future<Output = Result<Vec<Answer>, PutError>> + 'static {
        let Stream { name, arn } = &self.stream;
        let body = body::put_records(Target { name, arn: arn.as_deref() }, &records);
        // The SDK gets no records, only a stream (its endpoint may depend on it), and sends our body.
        let request = self.client.put_records().stream_name(name).set_stream_arn(arn.clone());
        let request = request.set_records(Some(Vec::new())).customize();
        let tried = self.tried("PutRecords");
        async move {
            let body = Bytes::from(body.map_err(|error| PutError::Refused(error.to_string()))?);
            let request = request.mutate_request(move |request| {
                request.headers_mut().insert("content-length", body.len().to_string());
                *request.body_mut() = body.clone().into();
            });
            let output = request.send().await.map_err(|error| tried.failed(&error))?;
            Ok(output.records.into_iter().map(answer).collect())
        }
    }

    fn describe(&self) -> impl Future<Output = Result<StreamFacts, PutError>> + 'static {
        let Stream { name, arn } = &self.stream;
        let request = self.client.describe_stream_summary().stream_name(name).set_stream_arn(arn.clone());
        let tried = self.tried("DescribeStreamSummary");
        async move {
            let output = request.send().await.map_err(|error| tried.failed(&error))?;
            match output.stream_description_summary {
                Some(summary) => Ok(facts(&summary)),
                None => Err(tried.empty()),
            }
        }
    }
}

fn answer(entry: PutRecordsResultEntry) -> Answer {
    match (entry.sequence_number, entry.shard_id, entry.error_code) {
        (Some(sequence), Some(shard), None) => Answer::Accepted { sequence, shard },
        (_, _, Some(code)) if is_throttling(&code) => Answer::Throttled,
        (_, _, code) => {
            let code = code.unwrap_or_else(|| "no sequence number".to_owned());
            let reason = entry.error_message.map(|text| format!("{code}: {}", presentable(&text)));
            Answer::Failed { reason: reason.unwrap_or(code) }
        }
    }
}

fn facts(summary: &StreamDescriptionSummary) -> StreamFacts {
    let kib = summary.max_record_size_in_kib.and_then(|kib| usize::try_from(kib).ok()).filter(|kib| *kib > 0);
    StreamFacts {
        arn: summary.stream_arn.clone(),
        created: summary.stream_creation_timestamp.to_millis().unwrap_or_default(),
        max_record_size: kib.map_or(MAX_RECORD_SIZE_DEFAULT, |kib| kib << 10),
        shards: summary.open_shard_count,
        closed: match summary.stream_status {
            StreamStatus::Creating => Some("CREATING: it takes records when it is ACTIVE"),
            StreamStatus::Deleting => Some(
                "DELETING: what it would still take is gone with it. When another one is there, `forebay adopt --reason \"…\"` goes \
                 on with that",
            ),
            // ACTIVE, UPDATING, and what the service may think of later: the puts will tell.
            _ => None,
        },
        mode: summary
            .stream_mode_details
            .as_ref()
            .map_or_else(|| "PROVISIONED".to_owned(), |details| details.stream_mode.as_str().to_owned()),
        ignores_keys: summary.record_distribution_strategy == Some(RecordDistributionStrategy::Auto),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_records_are_sorted() {
        let entry = |sequence: Option<&str>, code: Option<&str>, message: Option<&str>| {
            answer(
                PutRecordsResultEntry::builder()
                    .set_sequence_number(sequence.map(str::to_owned))
                    .set_shard_id(sequence.map(|_| "shardId-0".to_owned()))
                    .set_error_code(code.map(str::to_owned))
                    .set_error_message(message.map(str::to_owned))
                    .build(),
            )
        };
        let failed = |reason: &str| Answer::Failed { reason: reason.to_owned() };
        let accepted = Answer::Accepted { sequence: "49".to_owned(), shard: "shardId-0".to_owned() };
        let slow = Some("ProvisionedThroughputExceededException");
        assert_eq!(entry(Some("49"), None, None), accepted);
        assert_eq!(entry(None, slow, Some("Rate exceeded")), Answer::Throttled);
        assert_eq!(entry(None, Some("InternalFailure"), Some("oops")), failed("InternalFailure: oops"));
        assert_eq!(entry(None, Some("InternalFailure"), None), failed("InternalFailure"));
        assert_eq!(entry(None, None, None), failed("no sequence number"), "never taken as accepted");
    }

    #[test]
    fn an_arn_names_its_stream() {
        let arn = "arn:aws:kinesis:eu-central-1:123456789012:stream/lab";
        for (text, name, has_arn) in [(arn, "lab", true), ("lab", "lab", false)] {
            let stream = Stream::new(text);
            assert_eq!((stream.name.as_str(), stream.arn.as_deref()), (name, has_arn.then_some(text)));
        }
    }

    #[test]
    fn an_arn_names_its_region() {
        for (stream, region) in [
            ("arn:aws:kinesis:eu-central-1:123456789012:stream/lab", Some("eu-central-1")),
            ("arn:aws-cn:kinesis:cn-north-1:1:stream/x", Some("cn-north-1")),
            ("arn:aws:kinesis", None),
            ("arn:aws:kinesis::1:stream/x", None),
            ("lab-events", None),
        ] {
            assert_eq!(region_of(stream), region, "{stream}");
        }
    }
}
