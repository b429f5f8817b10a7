//! Amazon Kinesis as a [`Destination`].
//!
//! Puts use our own `client`: `body` writes them, `sign` signs them, `pool` keeps connections, and `answer`
//! parses the responses. The AWS SDK finds region, credentials and addresses, and makes the few control
//! calls.
//!
//! Nothing here retries. An attempt that nobody counts may still be in flight when a later one is accepted,
//! and its records would then appear after newer events. For the same reason an attempt gets its full time:
//! nothing is sent again while a response may still arrive.
//!
//! `classify` maps every error to a [`PutError`], with the operation, the service's code and a hint.

mod address;
mod answer;
mod body;
mod bounded;
pub mod check;
mod classify;
mod client;
mod clock;
mod connect;
mod credentials;
mod environment;
mod network;
mod pool;
pub mod read;
mod sign;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::config::IdentityCache;
use aws_sdk_kinesis::config::StalledStreamProtectionConfig;
use aws_sdk_kinesis::config::retry::RetryConfig;
use aws_sdk_kinesis::config::timeout::TimeoutConfig;
use aws_sdk_kinesis::types::{
    RecordDistributionStrategy, Shard, ShardFilter, ShardFilterType, StreamDescriptionSummary, StreamStatus,
};
use tokio::time::timeout;

pub use self::environment::Settings;

use self::address::AddressRules;
use self::body::Target;
use self::classify::Tried;
use self::client::{PutClient, PutClientParts};
use self::clock::ServiceClock;
use self::connect::{CONNECT_TIMEOUT, Dialer};
use self::credentials::Credentials;
use self::environment::Environment;
use super::shards::SHARDS_MAX;
use super::{Destination, HashRange, Outgoing, PutError, RecordResult, StreamFacts};
use crate::failure::Problem;

/// Timeout of a description. The timeout of a put depends on its size (see
/// [`bandwidth`](crate::sink::bandwidth)); the caller applies it.
const DESCRIBE_TIMEOUT: Duration = Duration::from_secs(10);
/// Assumed limit of a stream that does not report its largest record.
const MAX_RECORD_SIZE_DEFAULT: usize = 1 << 20;

/// A stream's name, or an ARN that contains it. The service accepts both, emulators only the name.
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

/// A stream of Kinesis.
#[derive(Clone, Debug)]
pub struct KinesisDestination {
    /// The SDK's client for control calls.
    client: Client,
    puts: Arc<PutClient>,
    stream: Stream,
    /// For messages: name or ARN, and address.
    place: Arc<str>,
    /// For messages about policies: the stream's ARN, with `*` for an unknown account.
    resource: Arc<str>,
    /// Whether requests are sent to AWS. An emulator may not know dry runs.
    is_aws: bool,
}

impl KinesisDestination {
    /// Reads the AWS environment. Sends nothing to the stream yet.
    ///
    /// # Errors
    /// No region is known, or a value of the environment cannot be used.
    pub async fn new(settings: &Settings) -> Result<Self, Problem> {
        let environment = Environment::read(settings).await?;
        let stream = Stream::new(&settings.stream);
        let rules = AddressRules::new(&environment, stream.arn.as_deref());
        let Environment { shared, network, region, endpoint } = environment;
        let timeouts = TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT).build();
        let credentials = Credentials::new(network.sdk.clone(), region.clone(), &shared);
        let clock = ServiceClock::default();
        let config = aws_sdk_kinesis::config::Builder::from(&shared)
            .retry_config(RetryConfig::disabled())
            .timeout_config(timeouts)
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .identity_cache(IdentityCache::no_cache())
            .credentials_provider(credentials.provider())
            .time_source(clock.clone())
            .region(region.clone());
        let place = match &endpoint {
            Some(endpoint) => format!("{} at {endpoint}", settings.stream),
            None => format!("{} in {region}", settings.stream),
        };
        let resource = stream.arn.clone().unwrap_or_else(|| address::resource(region.as_ref(), &stream.name));
        let is_aws = endpoint.as_deref().is_none_or(address::is_aws);
        let client = Client::from_conf(config.build());
        let puts = PutClient::new(PutClientParts {
            credentials,
            clock,
            rules,
            region: region.to_string(),
            app: shared.app_name().map(ToString::to_string),
            dialer: Dialer::new(network),
        });
        let (place, resource) = (place.into(), resource.into());
        Ok(Self { client, puts: Arc::new(puts), stream, place, resource, is_aws })
    }

    fn tried(&self, operation: &'static str) -> Tried {
        Tried {
            operation,
            place: Arc::clone(&self.place),
            resource: Arc::clone(&self.resource),
            credentials: self.puts.credentials.clone(),
            clock: self.puts.clock.clone(),
        }
    }

    /// Describes the stream.
    fn summary(&self) -> impl Future<Output = Result<StreamDescriptionSummary, PutError>> + 'static {
        let Stream { name, arn } = &self.stream;
        let request = self.client.describe_stream_summary().stream_name(name).set_stream_arn(arn.clone());
        let tried = self.tried("DescribeStreamSummary");
        async move {
            let output = timeout(DESCRIBE_TIMEOUT, request.send())
                .await
                .map_err(|_| tried.silent(DESCRIBE_TIMEOUT))?;
            let summary = output.map_err(|error| tried.failed(&error))?.stream_description_summary;
            summary.ok_or_else(|| tried.empty())
        }
    }

    async fn list_shards(&self, tried: &Tried) -> Result<Vec<HashRange>, PutError> {
        let (mut ranges, mut token) = (Vec::new(), None);
        loop {
            // The request for a later page has only the token.
            let request = if token.is_some() {
                self.client.list_shards().set_next_token(token)
            } else {
                let open = ShardFilter::builder().r#type(ShardFilterType::AtLatest).build().ok();
                let request = self.client.list_shards().set_shard_filter(open);
                request.stream_name(&self.stream.name).set_stream_arn(self.stream.arn.clone())
            };
            let output = request.send().await.map_err(|error| tried.failed(&error))?;
            ranges.extend(output.shards.unwrap_or_default().iter().filter_map(range));
            token = output.next_token;
            if token.is_none() || ranges.len() >= SHARDS_MAX {
                return Ok(ranges);
            }
        }
    }
}

impl Destination for KinesisDestination {
    fn put(
        &self,
        records: Vec<Outgoing>,
    ) -> impl Future<Output = Result<Vec<RecordResult>, PutError>> + 'static {
        let Stream { name, arn } = &self.stream;
        let body = body::put_records(Target { name, arn: arn.as_deref() }, &records);
        let (puts, tried) = (Arc::clone(&self.puts), self.tried("PutRecords"));
        async move {
            let body = body.map_err(|error| PutError::Refused(error.to_string().into()))?;
            let sent = puts.put_records(body.into()).await;
            let (parts, body) = sent.map_err(|error| tried.not_sent(&error))?;
            let status = parts.status.as_u16();
            if !parts.status.is_success() {
                return Err(tried.rejected(&answer::refusal(status, &parts.headers, &body)));
            }
            answer::answers(&body).map_err(|error| {
                let kind = parts.headers.get("content-type").and_then(|kind| kind.to_str().ok());
                tried.unreadable(&error, kind)
            })
        }
    }

    fn describe(&self) -> impl Future<Output = Result<StreamFacts, PutError>> + 'static {
        let summary = self.summary();
        self.puts.prune();
        async move { summary.await.map(|summary| facts(&summary)) }
    }

    fn may_put(&self) -> impl Future<Output = Result<(), PutError>> + 'static {
        let Stream { name, arn } = &self.stream;
        // An emulator might store the record, so it gets none.
        let body = body::dry_run(Target { name, arn: arn.as_deref() }, self.is_aws);
        let (puts, tried) = (Arc::clone(&self.puts), self.tried("PutRecords"));
        async move {
            let Ok(Ok((parts, body))) = timeout(DESCRIBE_TIMEOUT, puts.put_records(body.into())).await else {
                return Ok(());
            };
            let reply = answer::refusal(parts.status.as_u16(), &parts.headers, &body);
            if parts.status.is_success() || !reply.code.as_deref().is_some_and(classify::is_about_rights) {
                return Ok(());
            }
            Err(tried.rejected(&reply))
        }
    }

    fn hash_ranges(&self) -> impl Future<Output = Result<Vec<HashRange>, PutError>> + 'static {
        let (publisher, tried) = (self.clone(), self.tried("ListShards"));
        async move {
            let listed = timeout(DESCRIBE_TIMEOUT, publisher.list_shards(&tried)).await;
            listed.map_err(|_| tried.silent(DESCRIBE_TIMEOUT))?
        }
    }
}

/// The range of an open shard, by the first 64 of 128 bits. A 64-bit hash that contains the boundary is
/// assigned to the lower shard.
fn range(shard: &Shard) -> Option<HashRange> {
    let open = shard.sequence_number_range.as_ref().is_none_or(|of| of.ending_sequence_number.is_none());
    let hashes = shard.hash_key_range.as_ref().filter(|_| open)?;
    let (first, last): (u128, u128) =
        (hashes.starting_hash_key.parse().ok()?, hashes.ending_hash_key.parse().ok()?);
    let first = u64::try_from(first.div_ceil(1 << 64)).ok()?;
    let last = u64::try_from(last >> 64).ok()?;
    (first <= last).then(|| HashRange { id: shard.shard_id.clone(), first, last })
}

fn facts(summary: &StreamDescriptionSummary) -> StreamFacts {
    let kib = summary.max_record_size_in_kib.and_then(|kib| usize::try_from(kib).ok()).filter(|kib| *kib > 0);
    StreamFacts {
        name: summary.stream_arn.clone(),
        created: summary.stream_creation_timestamp.to_millis().unwrap_or_default(),
        max_record_size: kib.map_or(MAX_RECORD_SIZE_DEFAULT, |kib| kib << 10),
        shards: summary.open_shard_count,
        closed: match summary.stream_status {
            StreamStatus::Creating => Some("CREATING; it accepts records once it is ACTIVE"),
            StreamStatus::Deleting => Some(
                "DELETING. Once another stream of this name exists, run `forebay adopt --reason \"…\"` to continue with it",
            ),
            // ACTIVE, UPDATING, and states that the service may add. Puts show whether the stream accepts
            // records.
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
    use aws_sdk_kinesis::types::{HashKeyRange, SequenceNumberRange};

    use super::*;

    #[test]
    fn open_shard_ranges_are_read() {
        let shard = |first: &str, last: &str, closed: Option<&str>| {
            let hashes = HashKeyRange::builder().starting_hash_key(first).ending_hash_key(last).build();
            let numbers = SequenceNumberRange::builder().starting_sequence_number("1");
            let numbers = numbers.set_ending_sequence_number(closed.map(str::to_owned)).build().unwrap();
            let shard = Shard::builder().shard_id("s").hash_key_range(hashes.unwrap());
            range(&shard.sequence_number_range(numbers).build().unwrap()).map(|of| (of.first, of.last))
        };
        let (third, end) = (u128::MAX / 3, u128::MAX.to_string());
        let hash = 0x5555_5555_5555_5555;
        assert_eq!(shard("0", &end, None), Some((0, u64::MAX)));
        assert_eq!(shard("0", &third.to_string(), None), Some((0, hash)));
        assert_eq!(shard(&(third + 1).to_string(), &end, None), Some((hash + 1, u64::MAX)));
        assert_eq!(shard("0", &end, Some("2")), None, "a closed one");
        assert_eq!(shard("0", "", None), None);
    }

    #[test]
    fn arn_names_its_stream() {
        let arn = "arn:aws:kinesis:eu-central-1:123456789012:stream/lab";
        for (text, name, has_arn) in [(arn, "lab", true), ("lab", "lab", false)] {
            let stream = Stream::new(text);
            assert_eq!((stream.name.as_str(), stream.arn.as_deref()), (name, has_arn.then_some(text)));
        }
    }
}
