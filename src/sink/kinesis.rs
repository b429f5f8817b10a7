//! Amazon Kinesis behind the trait [`Publisher`], by the AWS SDK.
//!
//! The SDK is used for what it is good at: credentials, regions, signatures, one TLS stack. The body of a put is
//! written by [`body`]. The SDK's retries are off, because an attempt that nobody counts may still be running when the next
//! one is accepted, and would then land behind newer events.
//! For the same reason an attempt is given 10 s: nothing is sent again sooner than an answer can be expected.
//!
//! Every error is sorted into [`PutError`] by its code and HTTP status, with code and request id in the text.

use std::error::Error;
use std::future::Future;
use std::time::Duration;

use aws_config::{BehaviorVersion, Region};
use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::config::StalledStreamProtectionConfig;
use aws_sdk_kinesis::config::retry::RetryConfig;
use aws_sdk_kinesis::config::timeout::TimeoutConfig;
use aws_sdk_kinesis::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_kinesis::operation::RequestId as _;
use aws_sdk_kinesis::types::{
    PutRecordsResultEntry, RecordDistributionStrategy, StreamDescriptionSummary, StreamStatus,
};
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use bytes::Bytes;

use super::body::{self, Target};
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
}

impl KinesisPublisher {
    /// Reads the AWS environment. Does not talk to the stream yet.
    ///
    /// # Errors
    /// [`PutError::Refused`] if no region is known.
    pub async fn new(settings: &Settings) -> Result<Self, PutError> {
        let http = aws_smithy_http_client::Builder::new()
            .tls_provider(Provider::Rustls(CryptoMode::Ring))
            .build_https();
        let mut loader = aws_config::defaults(BehaviorVersion::latest()).http_client(http);
        let given = settings.region.as_deref().or_else(|| region_of(&settings.stream));
        if let Some(region) = given {
            loader = loader.region(Region::new(region.to_owned()));
        }
        if let Some(endpoint) = &settings.endpoint {
            loader = loader.endpoint_url(endpoint);
        }
        let shared = loader.load().await;
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .operation_attempt_timeout(ATTEMPT_TIMEOUT)
            .build();
        let mut config = aws_sdk_kinesis::config::Builder::from(&shared)
            .retry_config(RetryConfig::disabled())
            .timeout_config(timeouts)
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
        if shared.region().is_none() {
            if settings.endpoint.is_none() {
                let text = "no AWS region is known: set kinesis.region or AWS_REGION";
                return Err(PutError::Refused(text.to_owned()));
            }
            config = config.region(Region::from_static("us-east-1"));
        }
        Ok(Self { client: Client::from_conf(config.build()), stream: Stream::new(&settings.stream) })
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
        async move {
            let body = Bytes::from(body.map_err(|error| PutError::Refused(error.to_string()))?);
            let request = request.mutate_request(move |request| {
                request.headers_mut().insert("content-length", body.len().to_string());
                *request.body_mut() = body.clone().into();
            });
            let output = request.send().await.map_err(|error| put_error(&error))?;
            Ok(output.records.into_iter().map(answer).collect())
        }
    }

    fn describe(&self) -> impl Future<Output = Result<StreamFacts, PutError>> + 'static {
        let Stream { name, arn } = &self.stream;
        let request = self.client.describe_stream_summary().stream_name(name).set_stream_arn(arn.clone());
        async move {
            let output = request.send().await.map_err(|error| put_error(&error))?;
            match output.stream_description_summary {
                Some(summary) => Ok(facts(&summary)),
                None => Err(PutError::Unanswered("the description of the stream is empty".to_owned())),
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
        writable: matches!(summary.stream_status, StreamStatus::Active | StreamStatus::Updating),
        ignores_keys: summary.record_distribution_strategy == Some(RecordDistributionStrategy::Auto),
    }
}

/// The service's codes that mean "slower".
fn is_throttling(code: &str) -> bool {
    matches!(
        code,
        "ProvisionedThroughputExceededException"
            | "LimitExceededException"
            | "KMSThrottlingException"
            | "ThrottlingException"
            | "Throttling"
            | "RequestLimitExceeded"
            | "SlowDown"
            | "TooManyRequestsException"
    )
}

/// Sorts an answer that is an error. What the service gives up on (5xx) may have been stored; any other 4xx was refused
/// before that: permissions, KMS keys, a missing or inactive stream, validation.
fn sort(code: &str, status: u16, text: String) -> PutError {
    if is_throttling(code) || status == 429 {
        PutError::Throttled(text)
    } else if status >= 500 || status == 408 || matches!(code, "InternalFailure" | "InternalFailureException")
    {
        PutError::Unanswered(text)
    } else {
        PutError::Refused(text)
    }
}

fn put_error<E>(error: &SdkError<E>) -> PutError
where
    E: ProvideErrorMetadata + Error + 'static,
{
    match error {
        SdkError::ServiceError(context) => {
            let status = context.raw().status().as_u16();
            let meta = context.err().meta();
            let code = meta.code().unwrap_or("no error code");
            let message = presentable(meta.message().unwrap_or("no message"));
            let id = meta.request_id().map_or_else(String::new, |id| format!(", request {id}"));
            sort(code, status, format!("{code}: {message} (HTTP {status}{id})"))
        }
        SdkError::ConstructionFailure(_) => PutError::Refused(chain(error)),
        // Credentials are looked for before anything is sent; the SDK calls that a dispatch failure.
        SdkError::DispatchFailure(context) if context.is_other() || context.is_user() => {
            let text = chain(error);
            if context.is_user() || text.contains("credential") {
                PutError::Refused(text)
            } else {
                PutError::Unanswered(text)
            }
        }
        // Timeouts, connections refused or broken off, answers that cannot be read. The SDK's enum may grow.
        _ => PutError::Unanswered(chain(error)),
    }
}

/// A message of the service without the values it quotes, which may be keys, and not longer than a line or two.
fn presentable(message: &str) -> String {
    const LONGEST: usize = 400;
    let parts = message.split_once("Value '").zip(message.rsplit_once("' at '"));
    let spared = match parts {
        Some(((before, _), (_, after))) => format!("{before}Value (left out) at '{after}"),
        None => message.to_owned(),
    };
    spared.chars().take(LONGEST).collect()
}

/// An error and its causes, each said once.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(error: &PutError) -> &'static str {
        match error {
            PutError::Throttled(_) => "throttled",
            PutError::Unanswered(_) => "unanswered",
            PutError::Refused(_) => "refused",
        }
    }

    #[test]
    fn errors_of_a_request_are_sorted() {
        for (code, status, expected) in [
            ("ProvisionedThroughputExceededException", 400, "throttled"),
            ("LimitExceededException", 400, "throttled"),
            ("KMSThrottlingException", 400, "throttled"),
            ("ThrottlingException", 400, "throttled"),
            ("no error code", 429, "throttled"),
            ("InternalFailure", 500, "unanswered"),
            ("InternalFailureException", 400, "unanswered"),
            ("no error code", 503, "unanswered"),
            ("ServiceUnavailable", 503, "unanswered"),
            ("AccessDeniedException", 400, "refused"),
            ("ResourceNotFoundException", 400, "refused"),
            ("ResourceInUseException", 400, "refused"),
            ("KMSDisabledException", 400, "refused"),
            ("KMSAccessDeniedException", 400, "refused"),
            ("ValidationException", 400, "refused"),
            ("ExpiredTokenException", 400, "refused"),
            ("UnrecognizedClientException", 400, "refused"),
            ("no error code", 413, "refused"),
        ] {
            assert_eq!(kind(&sort(code, status, String::new())), expected, "{code} {status}");
        }
    }

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
    fn a_message_is_presented_without_the_values_it_quotes() {
        let (long, cut) = ("x".repeat(1000), "x".repeat(400));
        for (message, expected) in [
            ("Rate exceeded for shard shardId-1", "Rate exceeded for shard shardId-1"),
            (
                "1 error: Value 'alice@x.org' at 'records.1.partitionKey' failed",
                "1 error: Value (left out) at 'records.1.partitionKey' failed",
            ),
            ("Value 'a' at 'b' bad; Value 'it's' at 'c' bad", "Value (left out) at 'c' bad"),
            (&long, &cut),
        ] {
            assert_eq!(presentable(message), expected);
        }
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
