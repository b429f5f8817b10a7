//! Parses the line of an event as far as an audit needs it: type, subject, order, and a digest of each field.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

/// Digits of `sequence`.
const SEQUENCE_DIGITS: usize = 32;

/// An event as it is parsed from its line.
#[derive(Debug, Deserialize)]
pub(super) struct EventLine<'a> {
    #[serde(borrow)]
    pub(super) source: Cow<'a, str>,
    #[serde(borrow, rename = "type")]
    pub(super) event_type: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) subject: Cow<'a, str>,
    #[serde(borrow)]
    sequence: Cow<'a, str>,
    #[serde(borrow, default)]
    recordedtime: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    unavailable: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub(super) data: DataFields<'a>,
}

/// The fields of `data` in their order, unparsed.
#[derive(Debug, Default)]
pub(super) struct DataFields<'a>(pub(super) Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for DataFields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = DataFields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the fields of an event")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::new();
                while let Some((FieldName(name), value)) = map.next_entry::<FieldName<'de>, &RawValue>()? {
                    fields.push((name, value));
                }
                Ok(DataFields(fields))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

/// A name that is borrowed from the line unless it has escapes.
#[derive(Deserialize)]
struct FieldName<'a>(#[serde(borrow)] Cow<'a, str>);

impl EventLine<'_> {
    /// The event's position in the order of all events: epoch, commit, index and part, from the highest bits
    /// down.
    pub(super) fn order(&self) -> Option<u128> {
        let is_hex = self.sequence.bytes().all(|digit| digit.is_ascii_hexdigit());
        (is_hex && self.sequence.len() == SEQUENCE_DIGITS)
            .then(|| u128::from_str_radix(&self.sequence, 16).ok())
            .flatten()
    }

    /// The commit time.
    pub(super) fn recorded(&self) -> &str {
        self.recordedtime.as_deref().unwrap_or_default()
    }

    /// The columns whose value the database did not send, as SQL identifiers, quoted where necessary.
    pub(super) fn unavailable(&self) -> Vec<String> {
        let (mut names, mut name, mut quoted) = (Vec::new(), String::new(), false);
        let mut rest = self.unavailable.as_deref().unwrap_or_default().chars().peekable();
        while let Some(character) = rest.next() {
            match (character, quoted) {
                ('"', true) if rest.peek() == Some(&'"') => {
                    rest.next();
                    name.push('"');
                }
                ('"', _) => quoted = !quoted,
                (',', false) => names.push(std::mem::take(&mut name)),
                (other, _) => name.push(other),
            }
        }
        if !name.is_empty() {
            names.push(name);
        }
        names
    }
}

/// The first 128 bits of SHA-256.
pub(super) fn digest(bytes: &[u8]) -> u128 {
    let digest: [u8; 32] = Sha256::digest(bytes).into();
    let (high, _) = digest.split_at(16);
    high.try_into().map_or(0, u128::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_gives_order_fields_and_unsent_columns() {
        let line = r#"{"specversion":"1.0","id":"a","source":"urn:forebay:lab","type":"t","subject":"a\"b","time":"x",
            "sequence":"0001000000000000000A000000020003","unavailable":"notes,\"A,\"\"b\"","data":{"n":1.50,"we\"ird":[1, 2]}}"#;
        let event: EventLine<'_> = serde_json::from_str(line).unwrap();
        assert_eq!(event.subject, "a\"b");
        assert_eq!(event.order(), Some(1 << 112 | 10 << 48 | 2 << 16 | 3));
        assert_eq!(event.unavailable(), ["notes", "A,\"b"]);
        let fields: Vec<_> = event.data.0.iter().map(|(name, value)| (name.as_ref(), value.get())).collect();
        assert_eq!(fields, [("n", "1.50"), ("we\"ird", "[1, 2]")]);
    }

    #[test]
    fn malformed_sequence_has_no_order() {
        for sequence in ["", "0001", "+001000000000000000A000000020003", "000100000000000000000A00000002000x"]
        {
            let line = format!(r#"{{"source":"s","type":"t","subject":"1","sequence":"{sequence}"}}"#);
            assert_eq!(serde_json::from_str::<EventLine<'_>>(&line).unwrap().order(), None, "{sequence}");
        }
    }
}
