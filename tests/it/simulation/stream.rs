//! The destination of the simulation: shards that take, throttle, lose answers, store late, divide anew and go away.

use std::collections::BTreeMap;
use std::time::Duration;

use forebay::event::KeyHash;
use forebay::sink::{Destination, HashRange, Outgoing, PutError, RecordResult, StreamFacts};
use tokio::time::Instant;

use super::planted::Planted;
use super::reader::Line;
use super::shared::{Shared, Violation};

/// A shard; it holds what it has taken, in order.
#[derive(Debug)]
struct Shard {
    id: String,
    first: u64,
    throttles: bool,
    lines: Vec<Line>,
}

/// The next shard, of the hashes from `first` on.
fn made(count: &mut u32, first: u64) -> Shard {
    *count += 1;
    Shard { id: format!("shardId-{count:012}"), first, throttles: false, lines: Vec::new() }
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Answered,
    /// It is stored, and its response is lost.
    AnswerLost,
    /// Nothing of it is stored.
    Fails,
}

#[derive(Debug)]
struct Request {
    arrives: Instant,
    number: u64,
    records: Vec<Outgoing>,
    fate: Fate,
    /// Number of the process that has sent it.
    life: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Stream {
    /// Open ones, by the first hash.
    open: Vec<Shard>,
    /// Closed ones, parents before children.
    closed: Vec<Shard>,
    made: u32,
    pub away: bool,
    /// Percent of requests that fail in some way.
    pub trouble: u64,
    under_way: Vec<Request>,
    /// Number of the process that runs, or ran last.
    pub life: u64,
    answers: BTreeMap<u64, Vec<RecordResult>>,
    number: u64,
    /// By key and sequence: id and line as they came first.
    pub first: BTreeMap<(String, String), (String, String)>,
    pub violation: Option<Violation>,
    pub repeats: u64,
}

impl Stream {
    pub fn new(shards: u64) -> Self {
        let mut stream = Self::default();
        stream.reshard(shards);
        stream
    }

    /// Other shards of equal ranges take the place of those that are.
    pub fn reshard(&mut self, count: u64) {
        let width = u64::MAX / count;
        self.closed.append(&mut self.open);
        self.open.extend((0..count).map(|number| width * number).map(|first| made(&mut self.made, first)));
    }

    /// The shard of a hash is split there, unless it begins there.
    pub fn split(&mut self, hash: u64) {
        let at = self.place(hash);
        let first = self.open[at].first;
        if first < hash {
            let children = [first, hash].map(|first| made(&mut self.made, first));
            self.closed.extend(self.open.splice(at..=at, children));
        }
    }

    /// The shard of a hash and the next one become one, unless it is the last.
    pub fn merge(&mut self, hash: u64) {
        let at = self.place(hash);
        if at + 1 < self.open.len() {
            let child = made(&mut self.made, self.open[at].first);
            self.closed.extend(self.open.splice(at..=at + 1, [child]));
        }
    }

    /// Where the shard of a hash is among the open ones.
    fn place(&self, hash: u64) -> usize {
        self.open.partition_point(|shard| shard.first <= hash) - 1
    }

    /// The ranges of the open ones.
    fn ranges(&self) -> Vec<HashRange> {
        let ends = self.open.iter().skip(1).map(|next| next.first - 1).chain([u64::MAX]);
        let range =
            |(shard, last): (&Shard, u64)| HashRange { id: shard.id.clone(), first: shard.first, last };
        self.open.iter().zip(ends).map(range).collect()
    }

    /// How many are open.
    pub fn shards(&self) -> usize {
        self.open.len()
    }

    /// Whether one of the shards takes nothing.
    pub fn throttle(&mut self, at: u64, throttles: bool) {
        let at = usize::try_from(at).unwrap() % self.open.len();
        self.open[at].throttles = throttles;
    }

    pub fn heal(&mut self) {
        (self.away, self.trouble) = (false, 0);
        self.open.iter_mut().for_each(|shard| shard.throttles = false);
    }

    /// Stores what has arrived by now.
    pub fn advance(&mut self, now: Instant) {
        self.under_way.sort_by_key(|request| (request.arrives, request.number));
        while self.under_way.first().is_some_and(|request| request.arrives <= now) {
            let request = self.under_way.remove(0);
            if request.fate == Fate::Fails {
                continue;
            }
            let late = request.life < self.life;
            let store = |record| self.store(record, request.number, late);
            let answers = request.records.iter().map(store).collect();
            if request.fate == Fate::Answered {
                self.answers.insert(request.number, answers);
            }
        }
    }

    fn store(&mut self, record: &Outgoing, number: u64, late: bool) -> RecordResult {
        let key = std::str::from_utf8(&record.key).unwrap();
        let hash = KeyHash::of(key).0;
        let at = self.place(hash);
        if self.open[at].throttles {
            return RecordResult::Throttled;
        }
        if self.trouble > 0 && (hash ^ number).is_multiple_of(13) {
            return RecordResult::Failed { reason: "InternalFailure".to_owned() };
        }
        for text in record.data.split_inclusive(|byte| *byte == b'\n') {
            match Line::read(key, text) {
                Ok(mut line) => {
                    self.note(&line, text);
                    line.late = late;
                    self.open[at].lines.push(line);
                }
                Err(error) => drop(self.violation.get_or_insert(error)),
            }
        }
        let sequence = format!("{}", self.first.len() as u64 + self.repeats);
        RecordResult::Accepted { sequence, shard: self.open[at].id.clone() }
    }

    /// A repeat must be what came first.
    fn note(&mut self, line: &Line, text: &[u8]) {
        let text = String::from_utf8_lossy(text).into_owned();
        let now = (line.id.clone(), text);
        let place = (line.key.clone(), line.sequence.clone());
        match self.first.get(&place) {
            None => drop(self.first.insert(place, now)),
            Some(before) if *before == now => self.repeats += 1,
            Some(before) => {
                self.violation.get_or_insert(format!("a repeat differs:\n  {before:?}\n  {now:?}"));
            }
        }
    }

    /// Everything, as a consumer reads it that reads parents before their children.
    pub fn read(&self) -> impl Iterator<Item = &Line> {
        self.closed.iter().chain(&self.open).flat_map(|shard| &shard.lines)
    }
}

/// The publisher that the publish loop gets.
#[derive(Clone, Debug)]
pub struct ScriptedDestination(pub Shared);

impl Destination for ScriptedDestination {
    fn put(
        &self,
        records: Vec<Outgoing>,
    ) -> impl Future<Output = Result<Vec<RecordResult>, PutError>> + 'static {
        let shared = self.0.clone();
        let now = Instant::now();
        let (number, back) = {
            let mut shared = shared.borrow_mut();
            let away = shared.stream.away;
            let fate = match (away, shared.random.below(100) < shared.stream.trouble) {
                (false, true) if shared.random.one_in(2) => Fate::AnswerLost,
                (true, _) | (false, true) => Fate::Fails,
                (false, false) => Fate::Answered,
            };
            let delay = Duration::from_millis(1 + shared.random.below(40));
            let mut arrives = now + delay;
            if fate == Fate::AnswerLost && shared.random.one_in(2) {
                arrives += Duration::from_millis(shared.random.below(5_000));
            }
            let back = now + delay + Duration::from_millis(shared.random.below(40));
            shared.stream.number += 1;
            let number = shared.stream.number;
            shared.note(|| format!("put {number}, {fate:?}: {}", places(&records)));
            let request = Request { arrives, number, records, fate, life: shared.stream.life };
            if shared.planted == Some(Planted::AcknowledgesBeforeStoring) && shared.random.one_in(4) {
                let answers = request.records.iter().map(|_| accepted()).collect();
                let late =
                    Request { fate: Fate::AnswerLost, arrives: now + Duration::from_secs(3), ..request };
                shared.stream.answers.insert(number, answers);
                shared.stream.under_way.push(late);
            } else {
                shared.stream.under_way.push(request);
            }
            (number, back)
        };
        async move {
            tokio::time::sleep_until(back).await;
            let mut shared = shared.borrow_mut();
            shared.stream.advance(Instant::now());
            match shared.stream.answers.remove(&number) {
                Some(answers) => Ok(answers),
                None => Err(PutError::NoResponse("the connection was closed".into())),
            }
        }
    }

    fn describe(&self) -> impl Future<Output = Result<StreamFacts, PutError>> + 'static {
        let shared = self.0.clone();
        async move {
            tokio::time::sleep(Duration::from_millis(5)).await;
            let shared = shared.borrow();
            if shared.stream.away {
                return Err(PutError::NoResponse("the connection was refused".into()));
            }
            Ok(StreamFacts {
                name: "simulation".to_owned(),
                created: 1,
                max_record_size: 1 << 20,
                shards: i32::try_from(shared.stream.open.len()).unwrap(),
                closed: None,
                mode: "PROVISIONED".to_owned(),
                ignores_keys: false,
            })
        }
    }

    /// Half of the time the right to ask is missing: ranges are learned from acknowledgements then.
    fn hash_ranges(&self) -> impl Future<Output = Result<Vec<HashRange>, PutError>> + 'static {
        let shared = self.0.clone();
        async move {
            tokio::time::sleep(Duration::from_millis(5)).await;
            let mut shared = shared.borrow_mut();
            if shared.stream.away || shared.random.one_in(2) {
                return Err(PutError::NoResponse("the connection was refused".into()));
            }
            Ok(shared.stream.ranges())
        }
    }
}

/// Keys and sequences, for the trace.
fn places(records: &[Outgoing]) -> String {
    let mut text = String::new();
    for record in records {
        let key = String::from_utf8_lossy(&record.key);
        for line in record.data.split_inclusive(|byte| *byte == b'\n') {
            let sequence = Line::read(&key, line).map_or_else(|error| error, |line| line.short());
            text.extend([" ", &key, "@", &sequence]);
        }
    }
    text
}

fn accepted() -> RecordResult {
    RecordResult::Accepted { sequence: "0".to_owned(), shard: "shardId-0".to_owned() }
}
