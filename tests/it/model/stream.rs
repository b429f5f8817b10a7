//! The stream of the model: takes records, keeps them, and sees at once when one overtakes another.

use std::collections::{HashMap, HashSet};

use forebay::position::{CommitSeq, Position};
use forebay::sink::Outgoing;

use super::world::{Txn, Uid};

/// A record in the stream: what it is, and what it says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Line {
    pub uid: Uid,
    pub part: u16,
    pub position: Position,
}

impl Line {
    pub fn write(&self) -> Vec<u8> {
        let Position { epoch, commit, index } = self.position;
        format!("{} {} {} {epoch} {} {index}", self.uid.0, self.uid.1, self.part, commit.get()).into_bytes()
    }

    fn read(line: &[u8]) -> Self {
        let text = std::str::from_utf8(line).unwrap();
        let fields: Vec<u64> = text.split(' ').map(|field| field.parse().unwrap()).collect();
        let small = |field: usize| u32::try_from(fields[field]).unwrap();
        let short = |field: usize| u16::try_from(fields[field]).unwrap();
        Self {
            uid: (fields[0], small(1)),
            part: short(2),
            position: Position { epoch: short(3), commit: CommitSeq::new(fields[4]), index: small(5) },
        }
    }
}

/// A record's place in the order of its key.
type Order = (Position, u16);

/// See the module.
#[derive(Debug, Default)]
pub struct Stream {
    /// First appearances per key, in the order of the stream.
    first: HashMap<Vec<u8>, Vec<Line>>,
    last: HashMap<Vec<u8>, Order>,
    seen: HashSet<(Uid, u16)>,
    known: HashSet<Line>,
    identity: HashMap<(Uid, u16, u16), Position>,
    /// Transactions that the server does not have now.
    gone: HashSet<u64>,
    /// Transactions that were published, and of which a power cut has left no trace. Nothing local can tell that a server lacks
    /// them, unless its timeline does.
    forgotten: HashSet<u64>,
    /// Requests whose sender has given them up; they may still arrive.
    /// Where the slot stood when a person began each epoch but the first.
    starts: Vec<CommitSeq>,
    limbo: Vec<Outgoing>,
    given_up: HashSet<Line>,
    gaps: HashSet<Vec<u8>>,
}

/// Most records that are still under way when their sender has forgotten them.
const LIMBO_MAX: usize = 16;

impl Stream {
    pub fn store(&mut self, record: &Outgoing) -> Result<(), String> {
        if record.key.starts_with(b"gap") {
            self.gaps.insert(record.data.to_vec());
            return Ok(());
        }
        let line = Line::read(&record.data);
        let identity = (line.uid, line.part, line.position.epoch);
        let before = *self.identity.entry(identity).or_insert(line.position);
        if before != line.position {
            return Err(format!("{line:?} repeats under another identity than {before:?}"));
        }
        if !self.known.insert(line) {
            return Ok(());
        }
        self.seen.insert((line.uid, line.part));
        self.first.entry(record.key.to_vec()).or_default().push(line);
        if self.is_unknowable(&line) || self.is_before_its_epoch(&line) {
            return Ok(());
        }
        let order = (line.position, line.part);
        match self.last.get(&record.key[..]) {
            Some(last) if order < *last => {
                Err(format!("{line:?} of key {:?} was overtaken by {last:?}", record.key))
            }
            _ => {
                self.last.insert(record.key.to_vec(), order);
                Ok(())
            }
        }
    }

    /// After a crash of the server its slot may fall back to before the epoch, and what was settled in an older one comes
    /// again in this one, when it comes.
    fn is_before_its_epoch(&self, line: &Line) -> bool {
        let epoch = usize::from(line.position.epoch);
        epoch
            .checked_sub(1)
            .and_then(|before| self.starts.get(before))
            .is_some_and(|start| line.position.commit < *start)
    }

    /// A transaction that the server lacks and of which no trace is left.
    fn is_unknowable(&self, line: &Line) -> bool {
        self.gone.contains(&line.uid.0) && self.forgotten.contains(&line.uid.0)
    }

    /// A power cut: what was published beyond this is not known any more.
    pub fn forget(&mut self, evidence: Option<(u16, CommitSeq)>) {
        let sent = self.limbo.iter().filter(|record| !record.key.starts_with(b"gap"));
        let lines = sent.map(|record| Line::read(&record.data)).chain(self.first.values().flatten().copied());
        let beyond = lines.filter(|line| Some((line.position.epoch, line.position.commit)) > evidence);
        self.forgotten.extend(beyond.map(|line| line.uid.0));
        self.recount();
    }

    /// A new epoch begins here.
    pub fn begin_epoch(&mut self, start: CommitSeq) {
        self.starts.push(start);
    }

    /// A request whose answer nobody waits for any more may arrive much later.
    pub fn lose(&mut self, records: impl IntoIterator<Item = Outgoing>) {
        self.limbo.extend(records);
        self.limbo.truncate(LIMBO_MAX);
    }

    /// One of them arrives. What nobody would send again in its place (its key has gone on to another epoch, its frame was
    /// damaged and given up) readers drop by its sequence.
    pub fn arrive(&mut self, pick: usize) -> Result<(), String> {
        if self.limbo.is_empty() {
            return Ok(());
        }
        let record = self.limbo.swap_remove(pick % self.limbo.len());
        if !record.key.starts_with(b"gap") {
            let line = Line::read(&record.data);
            let last = self.last.get(&record.key[..]);
            let stale = last.is_some_and(|(last, _)| line.position.epoch < last.epoch);
            if stale || self.given_up.contains(&line) {
                return Ok(());
            }
        }
        self.store(&record)
    }

    /// These were durable, are damaged, and a person has given them up.
    pub fn give_up(&mut self, lines: impl IntoIterator<Item = Line>) {
        self.given_up.extend(lines);
    }

    /// How many gaps were published, repeats excluded.
    pub fn gaps(&self) -> usize {
        self.gaps.len()
    }

    pub fn has(&self, uid: Uid, part: u16) -> bool {
        self.seen.contains(&(uid, part))
    }

    /// The server has another history now: of the changes made so far, these transactions are in it.
    pub fn switch(&mut self, txns: &[Txn], last_uid: u64) {
        let alive: HashSet<u64> = txns.iter().map(|txn| txn.uid).collect();
        self.gone = (1..=last_uid).filter(|uid| !alive.contains(uid)).collect();
        self.recount();
    }

    /// A reader knows nothing of histories: what it has got of a transaction that is gone keeps its sequence.
    fn recount(&mut self) {
        let counts = |line: &&Line| !self.is_unknowable(line) && !self.is_before_its_epoch(line);
        let mut last: HashMap<Vec<u8>, Order> = HashMap::new();
        for (key, lines) in &self.first {
            let highest = lines.iter().filter(counts).map(|line| (line.position, line.part)).max();
            last.extend(highest.map(|order| (key.clone(), order)));
        }
        self.last = last;
    }
}
