//! `GetShardIterator` and `GetRecords`.
//!
//! An iterator is `stream/shard/number` in base64: the next record is the first of that shard whose sequence number is not
//! lower. It never expires.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::error::{ApiError, Reply};
use crate::manage::{Input, need};
use crate::sequence;
use crate::shard::Shard;
use crate::state::{Now, Record, State};
use crate::stream::{epoch, seconds, shard_json};

const MAX_RECORDS: usize = 10_000;
const MAX_BYTES: usize = 10 << 20;

fn token(stream: &str, shard: &str, number: u64) -> String {
    STANDARD.encode(format!("{stream}/{shard}/{number}"))
}

fn read_token(text: &str) -> Option<(String, String, u64)> {
    let text = String::from_utf8(STANDARD.decode(text).ok()?).ok()?;
    let mut parts = text.splitn(3, '/');
    Some((parts.next()?.to_owned(), parts.next()?.to_owned(), parts.next()?.parse().ok()?))
}

impl State {
    /// `GetShardIterator`.
    pub(crate) fn iterator(&mut self, input: &Input) -> Result<Reply, ApiError> {
        let id = need(input.shard_id.as_ref(), "ShardId")?;
        let kind = need(input.shard_iterator_type.as_ref(), "ShardIteratorType")?;
        let sequence = || {
            let text = need(input.starting_sequence_number.as_ref(), "StartingSequenceNumber")?;
            sequence::parse(text)
                .ok_or_else(|| ApiError::argument(format!("{text} is not a number of this stream")))
        };
        let stream = self.stream(input.stream_name.as_deref(), input.stream_arn.as_deref())?;
        let (name, next) = (Arc::clone(&stream.name), stream.next);
        let shard = stream.shards.by_id(id)?;
        let (first, places) = (shard.first, shard.records.clone());
        let number = match kind.as_str() {
            "TRIM_HORIZON" => first,
            "LATEST" => next,
            "AT_SEQUENCE_NUMBER" => sequence()?,
            "AFTER_SEQUENCE_NUMBER" => sequence()?.saturating_add(1),
            "AT_TIMESTAMP" => {
                let from = *need(input.timestamp.as_ref(), "Timestamp")?;
                let mut records = places.iter().filter_map(|place| self.records.get(*place));
                records.find(|record| epoch(record.arrived).as_secs_f64() >= from).map_or(next, |r| r.number)
            }
            other => return Err(ApiError::validation(format!("unknown ShardIteratorType {other}"))),
        };
        Ok(Reply::json(json!({"ShardIterator": token(&name, id, number)}).to_string()))
    }

    /// `GetRecords`.
    pub(crate) fn get_records(&mut self, input: &Input, now: Now) -> Result<Reply, ApiError> {
        let iterator = need(input.shard_iterator.as_ref(), "ShardIterator")?;
        let (name, id, from) =
            read_token(iterator).ok_or_else(|| ApiError::argument("Invalid ShardIterator."))?;
        let limit = input.limit.unwrap_or(MAX_RECORDS);
        if !(1..=MAX_RECORDS).contains(&limit) {
            return Err(ApiError::validation(format!("Limit must be 1 to {MAX_RECORDS}, not {limit}.")));
        }
        self.stream(Some(&name), None)?;
        let Some(stream) = self.streams.get(&name) else {
            return Err(ApiError::not_found(name));
        };
        let shard = stream.shards.by_id(&id)?;
        let number_at = |place: &usize| self.records.get(*place).map_or(0, |record| record.number);
        let start = shard.records.partition_point(|place| number_at(place) < from);
        let (mut page, mut size): (Vec<&Record>, usize) = (Vec::new(), 0);
        let mut rest =
            shard.records.iter().skip(start).filter_map(|place| self.records.get(*place)).peekable();
        while let Some(record) = rest.peek() {
            size += record.data.len() + record.key.len();
            if page.len() == limit || (size > MAX_BYTES && !page.is_empty()) {
                break;
            }
            page.extend(rest.next());
        }
        let behind = rest.peek().map_or(0, |record| {
            now.system.duration_since(record.arrived).map_or(0, |passed| passed.as_millis())
        });
        let next = page.last().map_or(from, |record| record.number + 1);
        let ended = rest.peek().is_none() && shard.last.is_some();
        let mut value = json!({
            "Records": page.into_iter().map(record_json).collect::<Vec<_>>(),
            "MillisBehindLatest": u64::try_from(behind).unwrap_or(u64::MAX),
            "NextShardIterator": if ended { Value::Null } else { json!(token(&name, &id, next)) },
        });
        if let (true, Some(object)) = (ended, value.as_object_mut()) {
            object.insert("ChildShards".to_owned(), children(stream.shards.all(), &id));
        }
        Ok(Reply::json(value.to_string()))
    }
}

fn record_json(record: &Record) -> Value {
    json!({
        "SequenceNumber": record.sequence,
        "ApproximateArrivalTimestamp": seconds(record.arrived),
        "Data": STANDARD.encode(&record.data),
        "PartitionKey": record.key,
        "EncryptionType": "NONE",
    })
}

fn children(all: &[Shard], parent: &str) -> Value {
    let of = |shard: &Shard| -> Vec<String> {
        shard.parent.iter().chain(&shard.adjacent).map(ToString::to_string).collect()
    };
    let child = |shard: &Shard| {
        let shown = shard_json(shard);
        json!({"ShardId": &*shard.id, "ParentShards": of(shard), "HashKeyRange": shown.get("HashKeyRange")})
    };
    all.iter().filter(|shard| of(shard).iter().any(|id| id == parent)).map(child).collect()
}
