//! A consumer by the rule of docs/EVENTS.md, and what it must have in the end.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::rows::{RowKey, Rows, Step, Written};
use super::shared::{State, Violation};

/// One event of the stream.
#[derive(Clone, Debug)]
pub struct Line {
    pub key: String,
    pub sequence: String,
    pub id: String,
    /// Its process was gone when it arrived.
    pub late: bool,
    /// The row, and its value if it has one now; none for what is no row's event.
    row: Option<(RowKey, Option<Written>)>,
}

impl Line {
    pub fn read(key: &str, text: &[u8]) -> Result<Self, Violation> {
        let value: Value = serde_json::from_slice(text).map_err(|error| format!("no event: {error}"))?;
        let field = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
        if field("partitionkey") != key {
            return Err(format!("under the key {key:?}: {value}"));
        }
        let event_type = field("type");
        let mut parts = event_type.split('.');
        let table = match (parts.next(), parts.next()) {
            (Some("lab"), Some("plates")) => Some(0),
            (Some("lab"), Some("wells")) => Some(1),
            _ => None,
        };
        let gone = parts.next() == Some("deleted");
        let row = table.map(|table| {
            let id = value["data"]["id"].as_u64().and_then(|id| u8::try_from(id).ok()).unwrap_or(u8::MAX);
            let written = value["data"]["value"].as_str().and_then(Written::read);
            if written.is_some() == gone {
                return Err(format!("not the row that was written: {value}"));
            }
            Ok((RowKey { table, id }, written))
        });
        let row = row.transpose()?;
        Ok(Self { key: key.to_owned(), sequence: field("sequence"), id: field("id"), late: false, row })
    }
}

impl Line {
    /// Epoch, commit and ordinal, without leading zeros.
    pub fn short(&self) -> String {
        let parts = [&self.sequence[..4], &self.sequence[4..20], &self.sequence[20..28]];
        parts.map(|part| part.trim_start_matches('0').to_owned()).join(":")
    }
}

/// Drops what is not beyond the last `sequence` of its key.
#[derive(Debug, Default)]
struct Consumer {
    last: BTreeMap<String, String>,
    rows: Rows,
}

impl Consumer {
    fn handle(&mut self, line: &Line) {
        let last = self.last.entry(line.key.clone()).or_default();
        if line.sequence <= *last {
            return;
        }
        last.clone_from(&line.sequence);
        match &line.row {
            Some((key, Some(value))) => drop(self.rows.0.insert(*key, *value)),
            Some((key, None)) => drop(self.rows.0.remove(key)),
            None => {}
        }
    }
}

/// Whether everything has come, once, in order, and leads to the tables as they are.
pub fn check(state: &State) -> Result<(), Violation> {
    let mut consumer = Consumer::default();
    let (mut first, mut seen) = (BTreeMap::<&str, &str>::new(), BTreeSet::new());
    for line in state.stream.read() {
        // What is of an earlier epoch and was under way when its process was killed, readers drop.
        let stale =
            line.late && first.get(line.key.as_str()).is_some_and(|last| line.sequence[..4] < last[..4]);
        if !stale && seen.insert((line.key.as_str(), line.sequence.as_str())) {
            let before = first.insert(&line.key, &line.sequence);
            if before.is_some_and(|before| before > line.sequence.as_str()) {
                return Err(format!("key {}: {} comes first after {before:?}", line.key, line.sequence));
            }
        }
        consumer.handle(line);
    }
    check_events(state)?;
    let (mut expected, mut found) = (state.rows.clone(), consumer.rows);
    for key in &state.tainted {
        expected.0.remove(key);
        found.0.remove(key);
    }
    if expected != found {
        return Err(format!("the consumer has {found:?}\n  the tables have {expected:?}"));
    }
    Ok(())
}

/// No event of a committed transaction is missing.
fn check_events(state: &State) -> Result<(), Violation> {
    let events: BTreeSet<(RowKey, Option<Written>, &str)> = state
        .stream
        .read()
        .filter_map(|line| line.row.map(|(key, value)| (line, key, value)))
        // Without the epoch: what was published in an earlier one counts.
        .map(|(line, key, value)| (key, value, &line.sequence[4..28]))
        .collect();
    let mut rows = Rows::default();
    for txn in &state.world.server.txns {
        for index in 0..txn.changes.len() {
            let at = format!("{:016X}{index:08X}", txn.commit());
            let step = rows.apply(txn, index);
            let expected = match &step {
                Step::Foreign => vec![],
                Step::Insert(key, value) | Step::Update(None, key, value) => {
                    vec![(*key, Some(*value))]
                }
                Step::Update(Some(old), key, value) => vec![(*old, None), (*key, Some(*value))],
                Step::Delete(key) => vec![(*key, None)],
            };
            for (key, value) in expected {
                if !state.excused.contains(&txn.uid) && !events.contains(&(key, value, &at)) {
                    return Err(format!("lost: {step:?} of {} at {at}", txn.id));
                }
            }
        }
    }
    Ok(())
}
