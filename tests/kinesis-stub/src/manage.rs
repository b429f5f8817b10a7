//! Streams and shards: create, delete, describe, list, reshard.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::error::{ApiError, Reply};
use crate::shard::Shard;
use crate::state::{Now, State};
use crate::stream::{Stream, seconds, shard_json};

/// Members of every operation but the puts; each reads what it needs.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Input {
    pub(crate) stream_name: Option<String>,
    #[serde(rename = "StreamARN")]
    pub(crate) stream_arn: Option<String>,
    pub(crate) shard_id: Option<String>,
    pub(crate) shard_iterator: Option<String>,
    pub(crate) shard_iterator_type: Option<String>,
    pub(crate) starting_sequence_number: Option<String>,
    pub(crate) timestamp: Option<f64>,
    pub(crate) limit: Option<usize>,
    shard_count: Option<u32>,
    target_shard_count: Option<u32>,
    new_starting_hash_key: Option<String>,
    shard_to_split: Option<String>,
    shard_to_merge: Option<String>,
    adjacent_shard_to_merge: Option<String>,
    #[serde(rename = "MaxRecordSizeInKiB")]
    max_record_size_in_kib: Option<u32>,
    record_distribution_strategy: Option<String>,
    exclusive_start_stream_name: Option<String>,
    exclusive_start_shard_id: Option<String>,
    next_token: Option<String>,
    max_results: Option<usize>,
    shard_filter: Option<ShardFilter>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ShardFilter {
    r#type: String,
    shard_id: Option<String>,
}

/// The member, or the error that it is missing.
pub(crate) fn need<'a, T>(value: Option<&'a T>, name: &str) -> Result<&'a T, ApiError> {
    value.ok_or_else(|| ApiError::validation(format!("{name} is missing.")))
}

fn reply(value: &Value) -> Reply {
    Reply::json(value.to_string())
}

impl State {
    /// Every operation but the puts.
    pub(crate) fn manage(&mut self, operation: &str, body: &[u8], now: Now) -> Result<Reply, ApiError> {
        let input: Input = serde_json::from_slice(body)
            .map_err(|error| ApiError::new(400, "SerializationException", error.to_string()))?;
        match operation {
            "CreateStream" => return self.create(&input, now),
            "ListStreams" => return Ok(self.list_streams(&input)),
            "GetRecords" => return self.get_records(&input, now),
            "ListShards" if input.next_token.is_some() => return self.list_shards(&input),
            _ => {}
        }
        let stream = self.stream(input.stream_name.as_deref(), input.stream_arn.as_deref())?;
        match operation {
            "DescribeStreamSummary" => Ok(reply(&json!({"StreamDescriptionSummary": stream.summary()}))),
            "DescribeStream" => Ok(describe(stream, &input)),
            "ListShards" => self.list_shards(&input),
            "GetShardIterator" => self.iterator(&input),
            "DeleteStream" => {
                let name = stream.name.to_string();
                self.delete(&name)?;
                Ok(Reply::empty())
            }
            "SplitShard" => {
                let key = need(input.new_starting_hash_key.as_ref(), "NewStartingHashKey")?;
                let middle = key.parse().map_err(|_| ApiError::argument(format!("bad hash key {key}")))?;
                let next = stream.bump();
                stream.shards.split(need(input.shard_to_split.as_ref(), "ShardToSplit")?, middle, next)?;
                Ok(Reply::empty())
            }
            "MergeShards" => {
                let next = stream.bump();
                let one = need(input.shard_to_merge.as_ref(), "ShardToMerge")?;
                let other = need(input.adjacent_shard_to_merge.as_ref(), "AdjacentShardToMerge")?;
                stream.shards.merge(one, other, next)?;
                Ok(Reply::empty())
            }
            "UpdateShardCount" => update_shard_count(stream, &input),
            "UpdateMaxRecordSize" => {
                stream.set_max_record_kib(*need(
                    input.max_record_size_in_kib.as_ref(),
                    "MaxRecordSizeInKiB",
                )?)?;
                Ok(Reply::empty())
            }
            "UpdateStreamRecordDistributionStrategy" => {
                let strategy = input.record_distribution_strategy.as_ref();
                stream.set_strategy(need(strategy, "RecordDistributionStrategy")?)?;
                Ok(Reply::empty())
            }
            other => {
                Err(ApiError::new(400, "UnknownOperationException", format!("no operation {other} here")))
            }
        }
    }

    fn create(&mut self, input: &Input, now: Now) -> Result<Reply, ApiError> {
        let name = need(input.stream_name.as_ref(), "StreamName")?;
        // An on-demand stream has no ShardCount and starts with four.
        let mut stream = self.make(name, input.shard_count.unwrap_or(4), now.system)?.clone();
        self.streams.remove(name);
        if let Some(kib) = input.max_record_size_in_kib {
            stream.set_max_record_kib(kib)?;
        }
        if let Some(strategy) = &input.record_distribution_strategy {
            stream.set_strategy(strategy)?;
        }
        self.streams.insert(name.clone(), stream);
        Ok(Reply::empty())
    }

    fn list_streams(&self, input: &Input) -> Reply {
        let after = input.exclusive_start_stream_name.as_ref().or(input.next_token.as_ref());
        let limit = input.limit.unwrap_or(100).clamp(1, 10_000);
        let mut rest =
            self.streams.values().filter(|stream| after.is_none_or(|after| &*stream.name > after.as_str()));
        let page: Vec<&Stream> = rest.by_ref().take(limit).collect();
        let more = rest.next().is_some();
        let summaries: Vec<Value> = page
            .iter()
            .map(|stream| {
                json!({
                    "StreamName": &*stream.name,
                    "StreamARN": stream.arn(),
                    "StreamStatus": "ACTIVE",
                    "StreamCreationTimestamp": seconds(stream.created),
                })
            })
            .collect();
        let names: Vec<&str> = page.iter().map(|stream| &*stream.name).collect();
        let token = names.last().filter(|_| more);
        let mut value = json!({"HasMoreStreams": more, "StreamNames": names, "StreamSummaries": summaries});
        if let (Some(token), Some(object)) = (token, value.as_object_mut()) {
            object.insert("NextToken".to_owned(), json!(token));
        }
        reply(&value)
    }

    fn list_shards(&mut self, input: &Input) -> Result<Reply, ApiError> {
        let token = input.next_token.as_deref().and_then(|token| token.split_once('/'));
        if input.next_token.is_some() && token.is_none() {
            return Err(ApiError::argument("NextToken is not one of ours."));
        }
        let name = token.map(|(name, _)| name).or(input.stream_name.as_deref());
        let after = token.map(|(_, after)| after).or(input.exclusive_start_shard_id.as_deref());
        let stream = self.stream(name, input.stream_arn.as_deref())?;
        let filter = input.shard_filter.as_ref();
        let wanted = |shard: &&Shard| match filter.map(|filter| filter.r#type.as_str()) {
            Some("AT_LATEST") => shard.last.is_none(),
            Some("AFTER_SHARD_ID") => {
                filter.and_then(|f| f.shard_id.as_deref()).is_none_or(|id| &*shard.id > id)
            }
            _ => true,
        };
        let mut rest = stream
            .shards
            .all()
            .iter()
            .filter(|shard| after.is_none_or(|after| &*shard.id > after))
            .filter(wanted);
        let limit = input.max_results.unwrap_or(1_000).clamp(1, 10_000);
        let page: Vec<&Shard> = rest.by_ref().take(limit).collect();
        let mut value = json!({"Shards": page.iter().map(|shard| shard_json(shard)).collect::<Vec<_>>()});
        if let (Some(_), Some(last), Some(object)) = (rest.next(), page.last(), value.as_object_mut()) {
            object.insert("NextToken".to_owned(), json!(format!("{}/{}", stream.name, last.id)));
        }
        Ok(reply(&value))
    }
}

fn describe(stream: &Stream, input: &Input) -> Reply {
    let after = input.exclusive_start_shard_id.as_deref();
    let limit = input.limit.unwrap_or(100).clamp(1, 10_000);
    let mut rest = stream.shards.all().iter().filter(|shard| after.is_none_or(|after| &*shard.id > after));
    let shards: Vec<Value> = rest.by_ref().take(limit).map(shard_json).collect();
    let mut value = stream.summary();
    if let Some(object) = value.as_object_mut() {
        for name in ["OpenShardCount", "ConsumerCount", "MaxRecordSizeInKiB", "RecordDistributionStrategy"] {
            object.remove(name);
        }
        object.insert("Shards".to_owned(), json!(shards));
        object.insert("HasMoreShards".to_owned(), json!(rest.next().is_some()));
    }
    reply(&json!({"StreamDescription": value}))
}

fn update_shard_count(stream: &mut Stream, input: &Input) -> Result<Reply, ApiError> {
    let target = *need(input.target_shard_count.as_ref(), "TargetShardCount")?;
    let current = stream.shards.open_count();
    stream.reshard(target)?;
    Ok(reply(&json!({
        "StreamName": &*stream.name,
        "StreamARN": stream.arn(),
        "CurrentShardCount": current,
        "TargetShardCount": target,
    })))
}
