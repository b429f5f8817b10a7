//! `PutRecord` and `PutRecords`: check, let the faults strike, store, answer.

mod parse;
mod strike;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::error::{ApiError, Reply};
use crate::fault::{Fault, Refusal};
use crate::null;
use crate::sequence;
use crate::state::{Course, Held, Late, Now, Record, State};

const MAX_ENTRIES: usize = 500;

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
    tricks: Tricks,
}

/// What is played on a request that is stored and answered.
#[derive(Clone, Copy, Debug, Default)]
struct Tricks {
    /// It is stored in another order.
    shuffle: bool,
    /// The answer's numbers fall.
    falling: bool,
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
        // Rights come before contents.
        if parse::is_dry_run(body)
            && let Some(denial) = self.denial(operation)
        {
            return self.course_without_put(&denial, Reply::empty);
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
                Fault::Shuffle => put.tricks.shuffle = true,
                Fault::FallingNumbers => put.tricks.falling = true,
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
        let request = null::request(stream.next);
        stream.next = null::after(request);
        let shard = stream.shards.at(stream.shards.turn(0))?;
        Some(Reply::json(self.templates.answer(records, request, &shard.id)))
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
            Fault::Error { status, code } => ApiError::of_the_service(*status, code),
            Fault::Accept
            | Fault::Reject { .. }
            | Fault::AcceptSome { .. }
            | Fault::Shuffle
            | Fault::FallingNumbers => {
                return Course::answer(otherwise());
            }
        };
        Course::answer(error)
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
        let Put { stream, entries, single, dry_run, tricks } = put;
        let mut order: Vec<usize> = (0..entries.len()).collect();
        if tricks.shuffle {
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
        let fall = |outcome| match outcome {
            Outcome::Stored(sequence, shard) if tricks.falling => {
                Outcome::Stored(sequence::falling(sequence::parse(&sequence).unwrap_or_default()), shard)
            }
            outcome => outcome,
        };
        answer(outcomes.into_iter().flatten().map(fall), single)
    }

    fn store_entry(&mut self, name: &Arc<str>, entry: Entry, dry_run: bool, now: Now) -> Outcome {
        if let Some(code) = entry.refusal {
            self.requests.refused += 1;
            return Outcome::Refused(code, "scripted by the test".to_owned());
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
