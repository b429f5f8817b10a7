//! Compares what was committed with what a reader of the stream gets. Trusts neither ids nor positions for it: an event
//! is recognised by table, key, operation and the row's version.
//!
//! - **lost**: committed, and no event shows it;
//! - **unexpected**: an event of something that was never committed (or committed less often);
//! - **reordered**: first appearances of one key do not follow the history, or their `sequence` does not grow;
//! - **altered**: a repeat of an id with other bytes, or one `sequence` under two ids;
//! - **misfiled**: the record's Kinesis key is not the event's `partitionkey`;
//! - **malformed**: not a line of JSON with the attributes of DESIGN §5.
//!
//! A new epoch (`forebay adopt`) may repeat what an older one published: order is checked within an epoch.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use serde_json::Value;

use super::history::{Change, Op};
use super::kinesis::StreamRecord;

pub mod past;

/// What was found. Every list holds sentences for a person.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Changes in the history.
    pub committed: usize,
    /// Distinct events in the stream, notices not counted.
    pub published: usize,
    /// Further appearances of an event with the same bytes.
    pub duplicates: usize,
    /// Distinct events about the stream itself (`forebay.…`).
    pub notices: usize,
    /// See the module.
    pub lost: Vec<String>,
    /// See the module.
    pub unexpected: Vec<String>,
    /// See the module.
    pub reordered: Vec<String>,
    /// See the module.
    pub altered: Vec<String>,
    /// See the module.
    pub misfiled: Vec<String>,
    /// See the module.
    pub malformed: Vec<String>,
}

impl Report {
    /// Whether the three promises were kept.
    pub fn is_clean(&self) -> bool {
        self.faults().iter().all(|(_, list)| list.is_empty())
    }

    /// Fails with all findings.
    #[track_caller]
    pub fn assert_clean(&self) {
        assert!(self.is_clean(), "{self}");
    }

    fn faults(&self) -> [(&'static str, &[String]); 6] {
        [
            ("lost", &self.lost),
            ("unexpected", &self.unexpected),
            ("reordered", &self.reordered),
            ("altered", &self.altered),
            ("misfiled", &self.misfiled),
            ("malformed", &self.malformed),
        ]
    }
}

impl std::ops::AddAssign for Report {
    /// Two windows of one stream.
    fn add_assign(&mut self, other: Self) {
        self.committed += other.committed;
        self.published += other.published;
        self.duplicates += other.duplicates;
        self.notices += other.notices;
        self.lost.extend(other.lost);
        self.unexpected.extend(other.unexpected);
        self.reordered.extend(other.reordered);
        self.altered.extend(other.altered);
        self.misfiled.extend(other.misfiled);
        self.malformed.extend(other.malformed);
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { committed, published, duplicates, notices, .. } = self;
        write!(f, "{committed} changes committed, {published} events published, {duplicates} duplicates")?;
        write!(f, ", {notices} notices")?;
        for (fault, list) in self.faults().into_iter().filter(|(_, list)| !list.is_empty()) {
            write!(f, "\n{} {fault}:", list.len())?;
            for finding in list.iter().take(10) {
                write!(f, "\n  {finding}")?;
            }
            if list.len() > 10 {
                write!(f, "\n  … and {} more", list.len() - 10)?;
            }
        }
        Ok(())
    }
}

/// An event at its first appearance.
#[derive(Clone, Debug)]
struct Event {
    id: String,
    source: String,
    change: Change,
    partition_key: String,
    sequence: String,
    line: Vec<u8>,
    place: String,
}

impl Event {
    fn epoch(&self) -> &str {
        self.sequence.get(..4).unwrap_or_default()
    }
}

/// Compares history and stream. Within a key, the history must be in commit order, the records as the stream gives them.
pub fn check(history: &[Change], records: &[StreamRecord]) -> Report {
    let mut report = Report { committed: history.len(), ..Report::default() };
    let events = first_appearances(records, &mut report);
    report.published = events.len();
    check_order_of_sequences(&events, &mut report);
    check_against_history(history, &events, &mut report);
    report
}

fn first_appearances(records: &[StreamRecord], report: &mut Report) -> Vec<Event> {
    let mut seen: HashMap<String, Vec<u8>> = HashMap::new();
    let mut events = Vec::new();
    for record in records {
        let place = format!("{} {}", record.shard, record.sequence);
        for line in record.data.split_inclusive(|&byte| byte == b'\n') {
            let Some((id, event)) = parse(line, &place) else {
                report.malformed.push(format!("{}: {}", place, shorten(line)));
                continue;
            };
            match seen.get(&id) {
                Some(first) if first == line => report.duplicates += 1,
                Some(first) => report.altered.push(format!(
                    "{id} at {place}: {} was before: {}",
                    shorten(line),
                    shorten(first)
                )),
                None => {
                    seen.insert(id, line.to_vec());
                    let Some(event) = event else {
                        report.notices += 1;
                        continue;
                    };
                    if event.partition_key != record.key {
                        let wrong = format!("{event}: under the Kinesis key {:?}", record.key);
                        report.misfiled.push(wrong);
                    }
                    events.push(event);
                }
            }
        }
    }
    events
}

/// The id, and the event unless it is a notice (`forebay.…`).
fn parse(line: &[u8], place: &str) -> Option<(String, Option<Event>)> {
    let json: Value = serde_json::from_slice(line.strip_suffix(b"\n")?).ok()?;
    let text = |name: &str| json.get(name).and_then(Value::as_str).map(str::to_owned);
    let (id, event_type) = (text("id")?, text("type")?);
    if event_type.starts_with("forebay.") {
        return Some((id, None));
    }
    let (name, _major) = event_type.rsplit_once(".v")?;
    let (table, op) = name.rsplit_once('.')?;
    let op = Op::parse(op)?;
    // A deleted row's image may hold its version (replica identity full); the history does not.
    let version = if op == Op::Deleted { None } else { json.get("data")?.get("version")?.as_i64() };
    let sequence = text("sequence").filter(|sequence| sequence.len() == 32)?;
    let change = Change { table: table.to_owned(), key: text("subject")?, op, version };
    let event = Event {
        id: id.clone(),
        source: text("source")?,
        change,
        partition_key: text("partitionkey")?,
        sequence,
        line: line.to_vec(),
        place: place.to_owned(),
    };
    Some((id, Some(event)))
}

/// The change that a line describes; `None` for a notice, or for what is no event.
pub fn change(line: &[u8]) -> Option<Change> {
    parse(line, "")?.1.map(|event| event.change)
}

/// What a reader is left with that follows the contract of docs/EVENTS.md: of each key, only what is beyond the last
/// `sequence`. Each line is a record of its own; what is no event of the database stays.
pub fn as_consumer(records: &[StreamRecord]) -> Vec<StreamRecord> {
    let mut kept = Vec::new();
    walk(records, |record, line, is_late| {
        if !is_late {
            kept.push(StreamRecord { data: line.to_vec(), ..record.clone() });
        }
    });
    kept
}

/// How many lines come after one of the same key that has the same or a higher `sequence`: repeats, and what was overtaken.
pub fn late(records: &[StreamRecord]) -> usize {
    let mut count = 0;
    walk(records, |_, _, is_late| count += usize::from(is_late));
    count
}

fn walk(records: &[StreamRecord], mut visit: impl FnMut(&StreamRecord, &[u8], bool)) {
    let mut last: HashMap<(String, String), String> = HashMap::new();
    for record in records {
        for line in record.data.split_inclusive(|&byte| byte == b'\n') {
            let Some((_, Some(event))) = parse(line, "") else {
                visit(record, line, false);
                continue;
            };
            let seen = last.entry((event.source, event.partition_key)).or_default();
            let is_late = event.sequence <= *seen;
            if !is_late {
                *seen = event.sequence;
            }
            visit(record, line, is_late);
        }
    }
}

fn check_order_of_sequences(events: &[Event], report: &mut Report) {
    let mut highest: HashMap<&str, &Event> = HashMap::new();
    let mut owner: HashMap<&str, &Event> = HashMap::new();
    for event in events {
        if let Some(other) = owner.insert(&event.sequence, event) {
            report.altered.push(format!("{event} has the sequence of {other}"));
        }
        match highest.get(event.partition_key.as_str()) {
            Some(before) if before.sequence > event.sequence => {
                report.reordered.push(format!("{event} comes after {before}, whose sequence is higher"));
            }
            _ => {
                highest.insert(&event.partition_key, event);
            }
        }
    }
}

fn check_against_history(history: &[Change], events: &[Event], report: &mut Report) {
    let mut places: HashMap<&Change, Vec<usize>> = HashMap::new();
    for (index, change) in history.iter().enumerate() {
        places.entry(change).or_default().push(index);
    }
    let mut found = vec![false; history.len()];
    let matched = match_events(events, &places);
    let mut last: HashMap<(&str, &str, &str), (usize, &Event)> = HashMap::new();
    for (event, place) in events.iter().zip(matched) {
        let Some(place) = place else {
            report.unexpected.push(format!("{event}: {}", shorten(&event.line)));
            continue;
        };
        found[place] = true;
        let key = (event.change.table.as_str(), event.change.key.as_str(), event.epoch());
        match last.get(&key) {
            Some((before, other)) if *before > place => {
                report.reordered.push(format!("{event} comes after {other}, but was committed before it"));
            }
            _ => {
                last.insert(key, (place, event));
            }
        }
    }
    let missing = history.iter().zip(found).filter(|(_, found)| !found);
    report.lost.extend(missing.map(|(change, _)| describe(change)));
}

/// For each event the index of the change it describes. Where changes look alike (a key that is deleted twice), the n-th by
/// `sequence` is the n-th of the history; in the last of several epochs counted from the end, where it ends.
fn match_events(events: &[Event], places: &HashMap<&Change, Vec<usize>>) -> Vec<Option<usize>> {
    let mut alike: BTreeMap<(&Change, &str), Vec<usize>> = BTreeMap::new();
    for (index, event) in events.iter().enumerate() {
        alike.entry((&event.change, event.epoch())).or_default().push(index);
    }
    let first = events.iter().map(Event::epoch).min();
    let last = events.iter().map(Event::epoch).max();
    let mut matched = vec![None; events.len()];
    for ((change, epoch), mut group) in alike {
        group.sort_by_key(|&index| &events[index].sequence);
        let places = places.get(change).map(Vec::as_slice).unwrap_or_default();
        let from_the_end = first != last && last == Some(epoch);
        let skip = if from_the_end { places.len().saturating_sub(group.len()) } else { 0 };
        for (event, place) in group.iter().zip(&places[skip..]) {
            matched[*event] = Some(*place);
        }
    }
    matched
}

fn describe(change: &Change) -> String {
    let version = change.version.map(|version| format!(", version {version}")).unwrap_or_default();
    format!("{} {:?} {:?}{version}", change.table, change.key, change.op)
}

fn shorten(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    let text = text.trim_end();
    text.char_indices().nth(300).map_or_else(|| text.to_owned(), |(end, _)| format!("{}…", &text[..end]))
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}, sequence {}, at {})", describe(&self.change), self.id, self.sequence, self.place)
    }
}

#[cfg(test)]
mod tests;
