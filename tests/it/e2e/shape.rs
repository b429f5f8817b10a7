//! Every line is a `CloudEvents` line of the documented shape: attributes and their order, ids, sequences, the line feed.

use std::collections::{HashMap, HashSet};
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;

use crate::support::kinesis::StreamRecord;

const ATTRIBUTES: [&str; 10] = [
    "specversion",
    "id",
    "source",
    "type",
    "subject",
    "time",
    "recordedtime",
    "partitionkey",
    "sequence",
    "data",
];

/// Members of an object in their order, repeated ones too.
struct Members(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Members;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

/// Fails if any line of any record is not as documented. Repeats of a line are allowed.
#[track_caller]
pub fn assert_shape(records: &[StreamRecord]) {
    let mut lines: HashMap<String, &[u8]> = HashMap::new();
    let mut sequences = HashSet::new();
    let mut last: HashMap<&str, String> = HashMap::new();
    for record in records {
        assert_eq!(record.data.last(), Some(&b'\n'), "{record:?}");
        assert_eq!(
            record.data.split_inclusive(|&byte| byte == b'\n').count(),
            1,
            "pack is off: one line a record"
        );
        let event: Members = serde_json::from_slice(&record.data).unwrap();
        let text = |name: &str| {
            let member = event.0.iter().find(|(key, _)| key == name);
            member.unwrap_or_else(|| panic!("no {name}: {record:?}")).1.as_str().unwrap().to_owned()
        };
        let names: Vec<_> = event.0.iter().map(|(name, _)| name.as_str()).collect();
        let expected: Vec<_> = ATTRIBUTES.into_iter().filter(|name| names.contains(name)).collect();
        let named: Vec<_> = names.iter().copied().filter(|name| *name != "unavailable").collect();
        assert_eq!(named, expected, "attributes in another order, or unknown ones");
        assert_eq!(expected.len(), ATTRIBUTES.len(), "attributes are missing: {names:?}");
        if let Some(at) = names.iter().position(|name| *name == "unavailable") {
            assert_eq!((names[at - 1], names[at + 1]), ("sequence", "data"));
        }
        assert_eq!(text("specversion"), "1.0");
        assert_eq!(text("source"), "urn:forebay:lab");
        assert_uuid5(&text("id"));
        assert_time(&text("time"));
        assert_eq!(text("time"), text("recordedtime"));
        assert_eq!(text("partitionkey"), record.key);
        let (major, name) = (text("type").rsplit_once(".v").map(|(_, major)| major.to_owned()), text("type"));
        assert!(major.is_some_and(|major| major.parse::<u16>().is_ok()), "{name}");
        let sequence = text("sequence");
        assert!(
            sequence.len() == 32
                && sequence.bytes().all(|b| b.is_ascii_digit() || (b'A'..=b'F').contains(&b)),
            "{sequence}"
        );
        if let Some(first) = lines.insert(text("id"), &record.data) {
            assert_eq!(first, record.data, "a repeat has other bytes");
            continue;
        }
        assert!(sequences.insert(sequence.clone()), "two events with the sequence {sequence}");
        let before = last.insert(&record.key, sequence.clone());
        assert!(before.as_ref().is_none_or(|before| *before < sequence), "{before:?}, then {sequence}");
    }
}

fn assert_uuid5(id: &str) {
    let groups: Vec<_> = id.split('-').map(str::len).collect();
    assert_eq!(groups, [8, 4, 4, 4, 12], "{id}");
    assert!(id.bytes().all(|b| b == b'-' || b.is_ascii_digit() || (b'a'..=b'f').contains(&b)), "{id}");
    assert_eq!(id.as_bytes()[14], b'5', "{id}");
    assert!(matches!(id.as_bytes()[19], b'8' | b'9' | b'a' | b'b'), "{id}");
}

/// RFC 3339 in UTC.
fn assert_time(time: &str) {
    let shape: String = time.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    assert!(
        shape == "0000-00-00T00:00:00Z" || shape.starts_with("0000-00-00T00:00:00.0") && shape.ends_with('Z'),
        "{time}"
    );
}
