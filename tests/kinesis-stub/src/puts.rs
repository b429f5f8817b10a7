//! `PutRecord` and `PutRecords`: check, let the faults strike, store, answer.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde::Deserialize;
use tokio::sync::oneshot;

use crate::error::{ApiError, Reply};
use crate::fault::{Fault, Refusal, Rule};
use crate::null::{self, decoded_len};
use crate::sequence;
use crate::shard::hash_of;
use crate::state::{Active, Course, Held, Late, Now, Record, State};

const MAX_ENTRIES: usize = 500;
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

/// One record on its way.
#[derive(Debug)]
pub(crate) struct Entry {
    key: String,
    /// MD5 of the key.
    key_hash: u128,
    /// What it is routed by.
    hash: u128,
    /// Decoded; empty where nobody looks at it.
    data: Bytes,
    data_len: usize,
    refusal: Option<Refusal>,
}

impl Entry {
    const fn size(&self) -> usize {
        self.data_len + self.key.len()
    }
}

/// A checked put request.
#[derive(Debug)]
pub(crate) struct Put {
    stream: Arc<str>,
    entries: Vec<Entry>,
    /// `PutRecord`: its answer has another shape.
    single: bool,
    dry_run: bool,
    shuffle: bool,
}

/// What became of an entry.
enum Outcome {
    Stored(String, Arc<str>),
    Refused(Refusal, String),
}

impl State {
    /// A put request from its body to its course.
    pub(crate) fn put(&mut self, operation: &str, body: &[u8], now: Now) -> Course {
        if let Some(reply) = self.put_short(operation, body) {
            return Course::Answer(reply, self.config.latency);
        }
        let mut put = match self.parse(operation, body) {
            Ok(put) => put,
            Err(error) => return Course::answer(error),
        };
        self.requests.puts += 1;
        self.requests.entries += put.entries.len() as u64;
        let faults = self.strike(operation, &mut put);
        let mut delay = self.config.latency;
        let mut decisive = None;
        for fault in faults {
            match fault {
                Fault::Slow { millis } => delay += Duration::from_millis(millis),
                Fault::Shuffle => put.shuffle = true,
                Fault::Accept => {}
                other => {
                    decisive.get_or_insert(other);
                }
            }
        }
        self.run(put, decisive.as_ref(), delay, now)
    }

    /// The null sink's short way, if nothing needs the long one.
    fn put_short(&mut self, operation: &str, body: &[u8]) -> Option<Reply> {
        let counted_only = !self.config.keep && !self.config.measure && !self.config.limits;
        let undisturbed = self.rules.is_empty() && self.script.is_empty() && self.late.is_empty();
        if !counted_only || !undisturbed || operation != "PutRecords" || self.streams.len() != 1 {
            return None;
        }
        let stream = self.streams.values_mut().next()?;
        if stream.shards.open_count() != 1 {
            return None;
        }
        let (records, bytes) = null::count(body);
        if !(1..=MAX_ENTRIES).contains(&records) {
            return None;
        }
        self.requests.puts += 1;
        self.requests.entries += records as u64;
        self.requests.stored += records as u64;
        self.requests.bytes += bytes as u64;
        let shard = stream.shards.at(stream.shards.turn(0))?;
        Some(Reply::json(self.templates.answer(records, self.requests.puts, &shard.id)))
    }

    fn run(&mut self, put: Put, fault: Option<&Fault>, delay: Duration, now: Now) -> Course {
        match fault {
            None => Course::Answer(self.store(put, now), delay),
            Some(Fault::AcceptThenLoseAnswer) => {
                self.store(put, now);
                Course::Close
            }
            Some(Fault::AcceptLate { after_requests }) => {
                self.late.push(Late { put, remaining: (*after_requests).max(1) });
                Course::Close
            }
            Some(Fault::Hold) => {
                let (to, from) = oneshot::channel();
                self.held.push_back(Held::Request(put, to));
                Course::Wait(from)
            }
            Some(Fault::HoldAnswer) => {
                let (to, from) = oneshot::channel();
                let reply = self.store(put, now);
                self.held.push_back(Held::Answer(reply, to));
                Course::Wait(from)
            }
            Some(Fault::ServerErrorAfter) => {
                self.store(put, now);
                self.course_without_put(&Fault::ServerErrorBefore, Reply::empty)
            }
            Some(fault) => self.course_without_put(fault, Reply::empty),
        }
    }

    /// The course of a fault that stores nothing (or where there is nothing to store).
    pub(crate) fn course_without_put(&mut self, fault: &Fault, otherwise: impl FnOnce() -> Reply) -> Course {
        let error = match fault {
            Fault::AcceptThenLoseAnswer | Fault::AcceptLate { .. } => return Course::Close,
            Fault::Reset => return Course::Reset,
            Fault::Hang => return Course::Hang,
            Fault::Hold | Fault::HoldAnswer => {
                let (to, from) = oneshot::channel();
                self.held.push_back(Held::Answer(otherwise(), to));
                return Course::Wait(from);
            }
            Fault::Slow { millis } => return Course::Answer(otherwise(), Duration::from_millis(*millis)),
            Fault::ServerErrorBefore | Fault::ServerErrorAfter => {
                ApiError::new(500, "InternalFailure", "Internal service failure.")
            }
            Fault::Throttle => ApiError::throughput("Rate exceeded for the whole request."),
            Fault::ExpiredCredentials => ApiError::new(
                400,
                "ExpiredTokenException",
                "The security token included in the request is expired",
            ),
            Fault::Error { status, code } => ApiError::new(*status, code, "told by the test"),
            Fault::Accept | Fault::Reject { .. } | Fault::AcceptSome { .. } | Fault::Shuffle => {
                return Course::answer(otherwise());
            }
        };
        Course::answer(error)
    }

    fn parse(&mut self, operation: &str, body: &[u8]) -> Result<Put, ApiError> {
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
        Ok(Put { stream, entries, single, dry_run, shuffle: false })
    }

    /// Lets script and rules strike; refusals stand in the entries, other faults are handed back.
    fn strike(&mut self, operation: &str, put: &mut Put) -> Vec<Fault> {
        let mut faults = Vec::new();
        let mut rules = std::mem::take(&mut self.rules);
        let mut step = self.script.pop_front().map(Active::from);
        for active in step.iter_mut().chain(rules.iter_mut()) {
            if !active.rule.hits_operation(operation) || active.times == Some(0) {
                continue;
            }
            let hit = self.hit_entries(&active.rule, put);
            if hit.is_empty() {
                continue;
            }
            if active.skip > 0 {
                active.skip -= 1;
                continue;
            }
            let struck = if active.rule.fault.is_per_entry() {
                self.refuse(&active.rule, put, &hit)
            } else {
                let struck = self.dice.hits(active.rule.share);
                faults.extend(struck.then(|| active.rule.fault.clone()));
                struck
            };
            if struck {
                active.times = active.times.map(|times| times.saturating_sub(1));
                self.requests.faults += u64::from(active.rule.fault != Fault::Accept);
            }
        }
        rules.retain(|active| active.times != Some(0));
        self.rules = rules;
        faults
    }

    /// For requests that are no puts: the first fault that hits the operation.
    pub(crate) fn strike_request(&mut self, operation: &str) -> Option<Fault> {
        let dice = &mut self.dice;
        let active = self.rules.iter_mut().find_map(|active| {
            let may = !active.rule.fault.is_per_entry() && active.times != Some(0);
            if !may || !active.rule.hits_operation(operation) {
                return None;
            }
            if active.skip > 0 {
                active.skip -= 1;
                return None;
            }
            dice.hits(active.rule.share).then_some(active)
        })?;
        active.times = active.times.map(|times| times.saturating_sub(1));
        self.requests.faults += 1;
        let fault = active.rule.fault.clone();
        self.rules.retain(|active| active.times != Some(0));
        Some(fault)
    }

    fn hit_entries(&self, rule: &Rule, put: &Put) -> Vec<usize> {
        let shard_of = |entry: &Entry| {
            let shards = self.streams.get(&*put.stream).map(|stream| &stream.shards);
            shards.and_then(|shards| shards.at(shards.route(entry.hash))).map_or("", |shard| &*shard.id)
        };
        let hit = |entry: &Entry| rule.hits_entry(&entry.key, entry.key_hash, shard_of(entry));
        put.entries.iter().enumerate().filter(|(_, entry)| hit(entry)).map(|(index, _)| index).collect()
    }

    fn refuse(&mut self, rule: &Rule, put: &mut Put, hit: &[usize]) -> bool {
        let mut struck = false;
        for index in hit {
            let code = match &rule.fault {
                Fault::Reject { code } => Some(*code),
                Fault::AcceptSome { pattern, code } => {
                    let sign = pattern.bytes().cycle().nth(*index);
                    (sign == Some(b'-')).then_some(*code)
                }
                _ => None,
            };
            if let (Some(code), Some(entry)) = (code, put.entries.get_mut(*index))
                && self.dice.hits(rule.share)
            {
                entry.refusal = Some(code);
                struck = true;
            }
        }
        struck
    }

    /// Stores a request, then those that waited to be late.
    pub(crate) fn store(&mut self, put: Put, now: Now) -> Reply {
        let reply = self.store_one(put, now);
        for late in &mut self.late {
            late.remaining -= 1;
        }
        let (due, rest) = std::mem::take(&mut self.late).into_iter().partition(|late| late.remaining == 0);
        self.late = rest;
        let due: Vec<Late> = due;
        for late in due {
            self.store_one(late.put, now);
        }
        reply
    }

    fn store_one(&mut self, put: Put, now: Now) -> Reply {
        let Put { stream, entries, single, dry_run, shuffle } = put;
        let mut order: Vec<usize> = (0..entries.len()).collect();
        if shuffle {
            order.sort_by_cached_key(|_| self.dice.next());
        }
        let mut entries: Vec<Option<Entry>> = entries.into_iter().map(Some).collect();
        let mut outcomes: Vec<Option<Outcome>> = entries.iter().map(|_| None).collect();
        for index in order {
            if let (Some(entry), Some(outcome)) =
                (entries.get_mut(index).and_then(Option::take), outcomes.get_mut(index))
            {
                *outcome = Some(self.store_entry(&stream, entry, dry_run, now));
            }
        }
        answer(outcomes.into_iter().flatten(), single)
    }

    fn store_entry(&mut self, name: &Arc<str>, entry: Entry, dry_run: bool, now: Now) -> Outcome {
        if let Some(code) = entry.refusal {
            self.requests.refused += 1;
            return Outcome::Refused(code, "told by the test".to_owned());
        }
        let Some(stream) = self.streams.get_mut(&**name) else {
            return Outcome::Refused(Refusal::InternalFailure, "the stream was deleted".to_owned());
        };
        let place = stream.route(entry.hash);
        let number = stream.next;
        let Some(shard) = stream.shards.at_mut(place) else {
            return Outcome::Refused(Refusal::InternalFailure, "no open shard".to_owned());
        };
        let id = Arc::clone(&shard.id);
        if dry_run {
            return Outcome::Stored(sequence::text(0), id);
        }
        if self.config.limits && !shard.bucket.take(entry.size(), now.instant) {
            self.requests.throttled += 1;
            let message =
                format!("Rate exceeded for shard {id} in stream {name} under account 000000000000.");
            return Outcome::Refused(Refusal::Throttled, message);
        }
        stream.next += 1;
        self.requests.stored += 1;
        self.requests.bytes += entry.data_len as u64;
        if self.config.measure {
            self.latency.add_lines(&entry.data, now.system);
        }
        let sequence = sequence::text(number);
        if self.config.keep {
            shard.records.push(self.records.len());
            self.records.push(Record {
                stream: Arc::clone(name),
                shard: Arc::clone(&id),
                key: entry.key,
                data: entry.data,
                sequence: sequence.clone(),
                arrival: now.instant,
                number,
                arrived: now.system,
            });
        }
        Outcome::Stored(sequence, id)
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

fn answer(outcomes: impl Iterator<Item = Outcome>, single: bool) -> Reply {
    if single {
        return match outcomes.last() {
            Some(Outcome::Stored(sequence, shard)) => {
                Reply::json(format!(r#"{{"SequenceNumber":"{sequence}","ShardId":"{shard}"}}"#))
            }
            Some(Outcome::Refused(Refusal::Throttled, message)) => ApiError::throughput(message).into(),
            Some(Outcome::Refused(Refusal::InternalFailure, message)) => {
                ApiError::new(500, "InternalFailure", message).into()
            }
            None => ApiError::validation("no record").into(),
        };
    }
    let (mut failed, mut records) = (0, String::new());
    for outcome in outcomes {
        let separator = if records.is_empty() { "" } else { "," };
        let record = match outcome {
            Outcome::Stored(sequence, shard) => {
                format!(r#"{{"SequenceNumber":"{sequence}","ShardId":"{shard}"}}"#)
            }
            Outcome::Refused(code, message) => {
                failed += 1;
                let code = match code {
                    Refusal::Throttled => "ProvisionedThroughputExceededException",
                    Refusal::InternalFailure => "InternalFailure",
                };
                serde_json::json!({"ErrorCode": code, "ErrorMessage": message}).to_string()
            }
        };
        records.push_str(separator);
        records.push_str(&record);
    }
    Reply::json(format!(r#"{{"FailedRecordCount":{failed},"Records":[{records}]}}"#))
}
