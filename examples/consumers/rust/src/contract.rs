//! What Forebay promises to consumers, as code; docs/CONSUMERS.md says why.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// One line of a record. Attributes that are not named here are ignored.
#[derive(Debug, Deserialize)]
pub(crate) struct Event {
    pub(crate) source: String,
    #[serde(rename = "type")]
    pub(crate) kind: String,
    #[serde(default)]
    pub(crate) subject: String,
    pub(crate) partitionkey: String,
    pub(crate) sequence: String,
    #[serde(default)]
    unavailable: String,
    #[serde(default)]
    pub(crate) data: Box<RawValue>,
}

/// The fields of an event, each value as the text that the event has: in an `f64`, 9007199254740993 and 1.50 would lose digits.
/// To calculate with a number, parse its text with a crate for decimals.
pub(crate) type Columns = BTreeMap<String, Box<RawValue>>;

/// The events of a Kinesis record. A record may hold several.
pub(crate) fn events(record: &[u8]) -> impl Iterator<Item = serde_json::Result<Event>> {
    record.split_inclusive(|&byte| byte == b'\n').map(serde_json::from_slice)
}

impl Event {
    /// The columns whose value the database did not send: SQL identifiers, in quotes where they need them.
    pub(crate) fn unavailable(&self) -> Vec<String> {
        let (mut columns, mut column, mut quoted) = (Vec::new(), String::new(), false);
        let mut characters = self.unavailable.chars().peekable();
        while let Some(character) = characters.next() {
            match character {
                '"' if quoted && characters.next_if_eq(&'"').is_some() => column.push('"'),
                '"' => quoted = !quoted,
                ',' if !quoted => columns.push(std::mem::take(&mut column)),
                _ => column.push(character),
            }
        }
        if !column.is_empty() {
            columns.push(column);
        }
        columns
    }
}

/// The last `sequence` by source and partition key.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Sequences(BTreeMap<String, BTreeMap<String, String>>);

impl Sequences {
    /// Whether an event is later than all others of its key, which is then noted. If it is not: a repeat, skip it.
    ///
    /// An event takes effect exactly once if the note and the effect are committed together.
    pub(crate) fn is_new(&mut self, event: &Event) -> bool {
        let keys = self.0.entry(event.source.clone()).or_default();
        let last = keys.entry(event.partitionkey.clone()).or_default();
        let is_new = event.sequence > *last;
        if is_new {
            last.clone_from(&event.sequence);
        }
        is_new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_columns_are_read_as_sql_identifiers() {
        let line = r#"{"source":"s","type":"t","partitionkey":"k","sequence":"1","unavailable":"a,\"b, \"\"c\"\"\",\"\"\"\",d"}"#;
        let event: Event = serde_json::from_str(line).unwrap();
        assert_eq!(event.unavailable(), ["a", "b, \"c\"", "\"", "d"]);
    }
}
