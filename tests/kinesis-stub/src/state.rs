//! Everything a stub knows. Pure: the server hands in requests and the time, and acts on the [`Course`] it gets back.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::config::Config;
use crate::error::{ApiError, Reply};
use crate::fault::{Dice, Rule};
use crate::latency::Histogram;
use crate::null::Templates;
use crate::puts::Put;
use crate::stats::Requests;
use crate::stream::Stream;

/// A record that was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Name of the stream.
    pub stream: Arc<str>,
    /// Id of the shard.
    pub shard: Arc<str>,
    /// Partition key.
    pub key: String,
    /// The data, decoded.
    pub data: Bytes,
    /// Sequence number, 56 digits.
    pub sequence: String,
    /// When it was stored.
    pub arrival: Instant,
    pub(crate) number: u64,
    pub(crate) arrived: SystemTime,
}

/// The time of a request, on both clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    pub(crate) instant: Instant,
    pub(crate) system: SystemTime,
}

impl Now {
    /// Reads both clocks.
    pub(crate) fn read() -> Self {
        Self { instant: Instant::now(), system: SystemTime::now() }
    }
}

/// What the server does with a request.
#[derive(Debug)]
pub(crate) enum Course {
    /// Answers after a time.
    Answer(Reply, Duration),
    /// Answers when the test releases it.
    Wait(oneshot::Receiver<Reply>),
    /// Closes the connection.
    Close,
    /// Resets the connection.
    Reset,
    /// Says nothing, ever.
    Hang,
}

impl Course {
    /// Answers at once.
    pub(crate) fn answer(reply: impl Into<Reply>) -> Self {
        Self::Answer(reply.into(), Duration::ZERO)
    }
}

/// A rule with what is left of it.
#[derive(Clone, Debug)]
pub(crate) struct Active {
    pub(crate) rule: Rule,
    pub(crate) skip: u64,
    pub(crate) times: Option<u64>,
}

impl From<Rule> for Active {
    fn from(rule: Rule) -> Self {
        Self { skip: rule.skip, times: rule.times, rule }
    }
}

/// A request that a test holds back.
#[derive(Debug)]
pub(crate) enum Held {
    /// Not stored yet.
    Request(Put, oneshot::Sender<Reply>),
    /// Stored; this is the answer.
    Answer(Reply, oneshot::Sender<Reply>),
}

/// A request that is stored after newer ones.
#[derive(Debug)]
pub(crate) struct Late {
    pub(crate) put: Put,
    pub(crate) remaining: u32,
}

/// The stub's whole state.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) config: Config,
    pub(crate) streams: BTreeMap<String, Stream>,
    /// When streams were created that are deleted: the next one of that name is younger by a second at least.
    pub(crate) graves: BTreeMap<String, SystemTime>,
    /// Access key id of the request that is being answered.
    pub(crate) caller: String,
    /// All records in the order of their storing.
    pub(crate) records: Vec<Record>,
    pub(crate) rules: Vec<Active>,
    pub(crate) script: VecDeque<Rule>,
    pub(crate) held: VecDeque<Held>,
    pub(crate) late: Vec<Late>,
    pub(crate) requests: Requests,
    pub(crate) latency: Histogram,
    pub(crate) dice: Dice,
    pub(crate) templates: Templates,
}

impl State {
    /// The state at the start.
    pub(crate) fn new(config: Config) -> Result<Self, ApiError> {
        let mut streams = BTreeMap::new();
        // A null sink has nothing to lose: one that was started again is still the same stream to its producer.
        let created =
            if config.keep { SystemTime::now() } else { UNIX_EPOCH + Duration::from_hours(500_000) };
        for (name, shards) in &config.streams {
            let mut stream = Stream::new(name, *shards, created)?;
            if !config.keep {
                // For the same reason its numbers go on: the clock has gone further than it has counted.
                let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                stream.next = u64::try_from(clock.as_nanos()).unwrap_or(stream.next);
            }
            streams.insert(name.clone(), stream);
        }
        Ok(Self {
            dice: Dice::new(config.seed),
            config,
            streams,
            graves: BTreeMap::new(),
            caller: String::new(),
            records: Vec::new(),
            rules: Vec::new(),
            script: VecDeque::new(),
            held: VecDeque::new(),
            late: Vec::new(),
            requests: Requests::default(),
            latency: Histogram::default(),
            templates: Templates::default(),
        })
    }

    /// One request of the service.
    pub(crate) fn call(&mut self, operation: &str, body: &[u8], now: Now) -> Course {
        self.requests.count(operation);
        if matches!(operation, "PutRecord" | "PutRecords") {
            return self.put(operation, body, now);
        }
        match self.strike_request(operation) {
            Some(fault) => self.course_without_put(&fault, Reply::empty),
            None => Course::answer(Reply::from(self.manage(operation, body, now))),
        }
    }

    /// The stream of this name or ARN.
    pub(crate) fn stream(&mut self, name: Option<&str>, arn: Option<&str>) -> Result<&mut Stream, ApiError> {
        let name = name
            .or_else(|| arn.and_then(|arn| arn.rsplit_once("stream/")).map(|(_, name)| name))
            .ok_or_else(|| ApiError::validation("Either StreamName or StreamARN must be given."))?;
        self.streams.get_mut(name).ok_or_else(|| {
            ApiError::not_found(format!("Stream {name} under account 000000000000 not found."))
        })
    }

    /// Deletes a stream at once.
    pub(crate) fn delete(&mut self, name: &str) -> Result<(), ApiError> {
        let created = self.stream(Some(name), None)?.created;
        self.graves.insert(name.to_owned(), created);
        self.streams.remove(name);
        Ok(())
    }

    /// Makes a stream.
    pub(crate) fn make(&mut self, name: &str, shards: u32, now: SystemTime) -> Result<&mut Stream, ApiError> {
        if self.streams.contains_key(name) {
            return Err(ApiError::in_use(format!(
                "Stream {name} under account 000000000000 already exists."
            )));
        }
        let after = self.graves.get(name).map(|created| *created + Duration::from_secs(1));
        let stream = Stream::new(name, shards, after.map_or(now, |after| after.max(now)))?;
        Ok(self.streams.entry(name.to_owned()).or_insert(stream))
    }

    /// Lets everything go that a test holds back, in the order it came.
    pub(crate) fn release(&mut self, now: Now) -> usize {
        let held = std::mem::take(&mut self.held);
        let count = held.len();
        for held in held {
            let (reply, to) = match held {
                Held::Request(put, to) => (self.store(put, now), to),
                Held::Answer(reply, to) => (reply, to),
            };
            // The client may have gone; then nobody wants the answer.
            drop(to.send(reply));
        }
        count
    }

    /// Forgets all records; sequence numbers go on.
    pub(crate) fn forget(&mut self) {
        drop(self.take());
    }

    /// Gives all records and forgets them.
    pub(crate) fn take(&mut self) -> Vec<Record> {
        for shard in self.streams.values_mut().flat_map(|stream| stream.shards.all_mut()) {
            shard.records.clear();
        }
        std::mem::take(&mut self.records)
    }
}
