//! `events.lock/<type>/<major>.meaning.json`: the locked meaning, the checksums of the schemas in the same
//! directory, and the accepted changes of meaning.
//!
//! Unlike a schema it is rewritten, but only by `events lock`; a checksum of its own shows other changes. A
//! directory that an older version locked has no such files; then the meaning is not compared.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::MeaningSource;

/// Format version of the file.
const FORMAT: u32 = 1;

/// Version of the parsed forms ([`crate::expression::ParsedForm`]). Increment it when a form changes: then
/// texts are compared instead, until the next lock.
const PARSER: u32 = 1;

/// The content of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockedMeaning {
    format: u32,
    parser: u32,
    /// The event type.
    pub event: String,
    /// Checksums of the schemas, by version.
    pub schemas: BTreeMap<String, String>,
    /// The origins of the event.
    pub sources: Vec<MeaningSource>,
    /// The accepted changes of meaning, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub accepted: Vec<Acceptance>,
    #[serde(default)]
    checksum: String,
}

/// An accepted change of meaning.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acceptance {
    /// The first version with the new meaning.
    pub version: String,
    /// The day, `YYYY-MM-DD`.
    pub on: String,
    /// The reason given with `--accept`.
    pub reason: String,
    /// What changed, as sentences.
    pub changes: Vec<String>,
}

impl LockedMeaning {
    /// The meaning of an event with these schemas.
    pub fn new<'a>(
        event: &str,
        schemas: impl Iterator<Item = (String, &'a Value)>,
        sources: Vec<MeaningSource>,
        accepted: Vec<Acceptance>,
    ) -> Self {
        let schemas = schemas.map(|(version, schema)| (version, checksum(schema))).collect();
        let event = event.to_owned();
        Self { format: FORMAT, parser: PARSER, event, schemas, sources, accepted, checksum: String::new() }
    }

    /// Parses the file.
    ///
    /// # Errors
    /// It is not such a file, or a newer version wrote it.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let found: Self = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if found.format > FORMAT {
            return Err(format!("it has format {}, but this version reads format {FORMAT}", found.format));
        }
        Ok(found)
    }

    /// The file's text.
    ///
    /// # Errors
    /// Never in practice: texts and numbers can always be written as JSON.
    pub fn text(&self) -> Result<String, serde_json::Error> {
        let checksum = self.sum()?;
        serde_json::to_string_pretty(&Self { checksum, ..self.clone() }).map(|text| text + "\n")
    }

    /// Whether the file is as it was written.
    pub fn is_untouched(&self) -> bool {
        self.sum().is_ok_and(|sum| sum == self.checksum)
    }

    /// Whether the parsed forms are those of this version.
    pub const fn is_of_this_parser(&self) -> bool {
        self.parser == PARSER
    }

    fn sum(&self) -> Result<String, serde_json::Error> {
        let mut whole = serde_json::to_value(self)?;
        if let Some(members) = whole.as_object_mut() {
            members.remove("checksum");
        }
        Ok(checksum(&whole))
    }
}

/// The checksum of a JSON document, independent of its layout.
pub fn checksum(document: &Value) -> String {
    use std::fmt::Write as _;
    let mut text = String::new();
    for byte in Sha256::digest(document.to_string()) {
        let written = write!(text, "{byte:02x}");
        debug_assert!(written.is_ok(), "writing to a String cannot fail");
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn changed_file_is_noticed() {
        let schema = json!({"x-version": "1.0"});
        let sources = vec![crate::contracts::meaning::of_outbox("lab.plates", None)];
        let written =
            LockedMeaning::new("a.b.v1", [("1.0".to_owned(), &schema)].into_iter(), sources, vec![]);
        let text = written.text().unwrap();
        let read = LockedMeaning::parse(text.as_bytes()).unwrap();
        assert!(read.is_untouched() && read.is_of_this_parser());
        assert_eq!(read.text().unwrap(), text);
        let compact = serde_json::to_string(&serde_json::from_str::<Value>(&text).unwrap()).unwrap();
        assert!(LockedMeaning::parse(compact.as_bytes()).unwrap().is_untouched(), "layout is no change");
        let edited = text.replace("lab.plates", "lab.samples");
        assert!(!LockedMeaning::parse(edited.as_bytes()).unwrap().is_untouched());
        let newer = text.replace("\"format\": 1", "\"format\": 2");
        assert!(LockedMeaning::parse(newer.as_bytes()).unwrap_err().contains("format 2"));
    }
}
