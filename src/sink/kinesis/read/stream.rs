//! Reads a stream from its oldest record to its newest one.

use std::time::Duration;

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::config::retry::RetryConfig;
use aws_sdk_kinesis::types::ShardIteratorType;
use tokio::time::sleep;

use super::RESPONSE_MAX;
use crate::sink::kinesis::Stream;
use crate::sink::kinesis::address;
use crate::sink::kinesis::connect::chain;
use crate::sink::kinesis::environment::{Environment, Settings};

/// Attempts of a call. The SDK pauses between them.
const ATTEMPTS: u32 = 8;
/// Pause between reads of a shard. It allows five reads a second, shared by all consumers.
const PAUSE: Duration = Duration::from_millis(250);
/// Most shards, open or closed.
const SHARDS_MAX: usize = 50_000;

/// Reads a stream.
#[derive(Debug)]
pub struct StreamReader {
    client: Client,
    stream: Stream,
    place: String,
}

impl StreamReader {
    /// Reads the AWS environment.
    ///
    /// # Errors
    /// No region is known, or a value of the environment cannot be used.
    pub async fn open(settings: &Settings) -> Result<Self, String> {
        let environment =
            Environment::read_with(settings, RESPONSE_MAX).await.map_err(|problem| problem.lines())?;
        let config = aws_sdk_kinesis::config::Builder::from(&environment.shared)
            .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS))
            .region(environment.region.clone());
        let stream = Stream::new(&settings.stream);
        let resource = address::resource(environment.region.as_ref(), &stream.name);
        let place = stream.arn.clone().unwrap_or(resource);
        Ok(Self { client: Client::from_conf(config.build()), stream, place })
    }

    /// Passes the data of every record to `take`, shard by shard. The end of a shard is its newest record
    /// when the reader gets there.
    ///
    /// # Errors
    /// The service rejects a request or does not respond, or `take` fails.
    pub async fn read(&self, mut take: impl FnMut(&[u8]) -> Result<(), String>) -> Result<(), String> {
        for shard in self.shards().await? {
            let request = self.client.get_shard_iterator().stream_name(&self.stream.name);
            let request = request.set_stream_arn(self.stream.arn.clone()).shard_id(&shard);
            let request = request.shard_iterator_type(ShardIteratorType::TrimHorizon);
            let iterator = request.send().await.map_err(|error| self.failed("GetShardIterator", &error))?;
            let mut iterator = iterator.shard_iterator;
            while let Some(at) = iterator {
                let request =
                    self.client.get_records().shard_iterator(at).set_stream_arn(self.stream.arn.clone());
                let answer = request.send().await.map_err(|error| self.failed("GetRecords", &error))?;
                for record in &answer.records {
                    take(record.data.as_ref())?;
                }
                let at_end =
                    answer.records.is_empty() && answer.millis_behind_latest.is_none_or(|behind| behind == 0);
                iterator = answer.next_shard_iterator.filter(|_| !at_end);
                if iterator.is_some() {
                    sleep(PAUSE).await;
                }
            }
        }
        Ok(())
    }

    async fn shards(&self) -> Result<Vec<String>, String> {
        let (mut shards, mut token) = (Vec::new(), None);
        loop {
            // The request for a later page has only the token.
            let request = if token.is_some() {
                self.client.list_shards().set_next_token(token)
            } else {
                let request = self.client.list_shards().stream_name(&self.stream.name);
                request.set_stream_arn(self.stream.arn.clone())
            };
            let answer = request.send().await.map_err(|error| self.failed("ListShards", &error))?;
            shards.extend(answer.shards.unwrap_or_default().into_iter().map(|shard| shard.shard_id));
            token = answer.next_token;
            if token.is_none() || shards.len() >= SHARDS_MAX {
                return Ok(shards);
            }
        }
    }

    fn failed(&self, operation: &str, error: &dyn std::error::Error) -> String {
        format!(
            "{operation} on {} failed: {}\n  hint: An audit of the stream needs kinesis:ListShards, kinesis:GetShardIterator and \
             kinesis:GetRecords.",
            self.place,
            chain(error)
        )
    }
}
