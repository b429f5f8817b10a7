//! A put request from its JSON to a checked [`Put`].

use std::borrow::Cow;
use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde::Deserialize;

use super::{Entry, MAX_ENTRIES, Put, Tricks};
use crate::error::ApiError;
use crate::null::decoded_len;
use crate::shard::hash_of;
use crate::state::State;
use crate::stream::Status;

const MAX_REQUEST: usize = 10 << 20;
const MAX_KEY_CHARS: usize = 256;
const MAX_RECORD: usize = 10 << 20;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct PutRecordsInput<'a> {
    #[serde(borrow)]
    records: Vec<EntryInput<'a>>,
    stream_name: Option<String>,
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
    #[serde(default)]
    dry_run: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct PutRecordInput<'a> {
    #[serde(borrow)]
    data: Cow<'a, str>,
    partition_key: String,
    explicit_hash_key: Option<String>,
    sequence_number_for_ordering: Option<String>,
    stream_name: Option<String>,
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
    #[serde(default)]
    dry_run: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct EntryInput<'a> {
    #[serde(borrow)]
    data: Cow<'a, str>,
    #[serde(borrow)]
    partition_key: Cow<'a, str>,
    explicit_hash_key: Option<String>,
}

/// Whether nothing is to be stored.
pub(super) fn is_dry_run(body: &[u8]) -> bool {
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "PascalCase", default)]
    struct Flag {
        dry_run: bool,
    }
    body.len() < 1024 && serde_json::from_slice(body).is_ok_and(|Flag { dry_run }| dry_run)
}

impl State {
    /// Reads and checks a request.
    pub(super) fn parse(&mut self, operation: &str, body: &[u8]) -> Result<Put, ApiError> {
        let bad = |error: serde_json::Error| ApiError::new(400, "SerializationException", error.to_string());
        let decode = self.config.keep || self.config.measure;
        let single = operation == "PutRecord";
        let (inputs, name, arn, dry_run, ordered) = if single {
            let input: PutRecordInput<'_> = serde_json::from_slice(body).map_err(bad)?;
            let ordered = input.sequence_number_for_ordering.is_some();
            let entry = EntryInput {
                data: input.data,
                partition_key: input.partition_key.into(),
                explicit_hash_key: input.explicit_hash_key,
            };
            (vec![entry], input.stream_name, input.stream_arn, input.dry_run, ordered)
        } else {
            let input: PutRecordsInput<'_> = serde_json::from_slice(body).map_err(bad)?;
            (input.records, input.stream_name, input.stream_arn, input.dry_run, false)
        };
        if !(1..=MAX_ENTRIES).contains(&inputs.len()) {
            let count = inputs.len();
            return Err(ApiError::validation(format!(
                "Records must have 1 to {MAX_ENTRIES} members, not {count}."
            )));
        }
        let stream = self.stream(name.as_deref(), arn.as_deref())?;
        if stream.status == Status::Creating {
            return Err(ApiError::not_found(format!(
                "Stream {} under account 000000000000 not found.",
                stream.name
            )));
        }
        if stream.auto && ordered {
            return Err(ApiError::argument(
                "SequenceNumberForOrdering is not supported with AUTO distribution.",
            ));
        }
        let (stream, max_record) = (Arc::clone(&stream.name), stream.max_record());
        let entries = inputs
            .into_iter()
            .map(|input| checked(input, max_record, decode))
            .collect::<Result<Vec<_>, _>>()?;
        if entries.iter().map(Entry::size).sum::<usize>() > MAX_REQUEST {
            return Err(ApiError::argument("Records size exceeds 10 MB limit"));
        }
        Ok(Put { stream, entries, single, dry_run, tricks: Tricks::default() })
    }
}

fn checked(input: EntryInput<'_>, max_record: usize, decode: bool) -> Result<Entry, ApiError> {
    let key = input.partition_key.into_owned();
    if key.is_empty() || key.chars().nth(MAX_KEY_CHARS).is_some() {
        return Err(ApiError::validation(format!("PartitionKey must have 1 to {MAX_KEY_CHARS} characters.")));
    }
    let (data, data_len) = if decode {
        let data = STANDARD
            .decode(input.data.as_bytes())
            .map_err(|error| ApiError::new(400, "SerializationException", error.to_string()))?;
        let length = data.len();
        (Bytes::from(data), length)
    } else {
        (Bytes::new(), decoded_len(input.data.as_bytes()))
    };
    if data_len > MAX_RECORD {
        return Err(ApiError::validation(format!("Data must have at most {MAX_RECORD} bytes.")));
    }
    if data_len + key.len() > max_record {
        let message =
            format!("Record of {} bytes exceeds the stream's maximum of {max_record}.", data_len + key.len());
        return Err(ApiError::argument(message));
    }
    let key_hash = hash_of(&key);
    let hash = match input.explicit_hash_key {
        None => key_hash,
        Some(text) => text.parse().map_err(|_| {
            ApiError::argument(format!("Invalid ExplicitHashKey {text}: not 0 to 2^128 - 1."))
        })?,
    };
    Ok(Entry { key, key_hash, hash, data, data_len, refusal: None })
}
