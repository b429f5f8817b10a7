//! `schemas = "schemas/shop/"`: JSON Schemas (draft-07) for outbox payloads, one file per event type,
//! compiled at the start.
//!
//! References must stay within the file (`#/definitions/…`). Patterns are matched in linear time.
//!
//! A locked schema is copied to another file, under another `$id`. Nothing in a schema may therefore depend
//! on its file or `$id`.

mod payload;
mod strict;
mod walk;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use jsonschema::{Draft, PatternOptions, Validator};
use serde_json::{Map, Value};

use crate::small_file;

use self::payload::{PayloadNode, PayloadText, is_shallow};
use super::error::Wrong;
use super::type_name::TypeName;

pub use self::walk::{inside, inside_mut};

/// Largest schema file, in bytes.
const FILE_MAX: u64 = 1 << 20;

/// The value that `$schema` may have.
const DIALECT: &str = "http://json-schema.org/draft-07/schema";

/// The schemas of an outbox, by event type.
#[derive(Debug, Default)]
pub struct Schemas {
    by_type: BTreeMap<String, Schema>,
}

/// The schema of one event type's payloads.
#[derive(Debug)]
pub struct Schema {
    /// Event type.
    pub event_type: TypeName,
    /// Path of the file.
    pub file: PathBuf,
    /// The schema itself.
    pub text: Map<String, Value>,
    validator: Validator<PayloadText>,
}

impl Schema {
    /// Whether a payload is valid.
    pub fn allows(&self, payload: &Value) -> bool {
        let text = payload.to_string();
        is_shallow(&text) && self.validator.is_valid(PayloadNode::At(&text))
    }
}

impl Schemas {
    /// Loads every `<event type>.json` of a directory.
    ///
    /// # Errors
    /// All problems found.
    pub(super) fn load(folder: &Path) -> Result<Self, Vec<Wrong>> {
        let failed =
            |error: std::io::Error| vec![Wrong::from(format!("cannot read {}: {error}", folder.display()))];
        let mut schemas = Self::default();
        let mut wrong = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            match read(&path) {
                Ok(schema) => {
                    schemas.by_type.insert(schema.event_type.to_string(), schema);
                }
                Err(Wrong { message, hint }) => {
                    wrong.push(Wrong { message: format!("{}: {message}", path.display()), hint });
                }
            }
        }
        if schemas.by_type.is_empty() && wrong.is_empty() {
            let message = format!("{} contains no schema", folder.display());
            let hint = "Name each file like its event type, such as shop.order_placed.v1.json.";
            wrong.push(Wrong::from((message, hint)));
        }
        wrong.sort_unstable_by(|one: &Wrong, other| one.message.cmp(&other.message));
        if wrong.is_empty() { Ok(schemas) } else { Err(wrong) }
    }

    /// Whether the event type has a schema.
    pub fn has(&self, event_type: &str) -> bool {
        self.by_type.contains_key(event_type)
    }

    /// All schemas, by event type.
    pub fn iter(&self) -> impl Iterator<Item = &Schema> {
        self.by_type.values()
    }

    /// The schema of an event type.
    pub fn of(&self, event_type: &str) -> Option<&Schema> {
        self.by_type.get(event_type)
    }

    /// Validates a payload as [`crate::json`] has written it. Needs no more memory than for one of its
    /// strings.
    ///
    /// # Errors
    /// The payload is invalid. The message has the position in the schema and no payload values.
    pub fn check(&self, event_type: &str, payload: &[u8]) -> Result<(), String> {
        let Some(Schema { validator, .. }) = self.by_type.get(event_type) else { return Ok(()) };
        let payload = std::str::from_utf8(payload).map_err(|_| "the payload is not UTF-8".to_owned())?;
        if !is_shallow(payload) {
            return Err("the payload is nested too deeply to validate".to_owned());
        }
        validator
            .validate(PayloadNode::At(payload))
            .map_err(|error| format!("the payload does not match its schema at {}", error.schema_path()))
    }
}

fn read(path: &Path) -> Result<Schema, Wrong> {
    let name = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let event_type = TypeName::parse(name)?;
    let text = small_file::read_text(path, FILE_MAX).map_err(|error| error.to_string())?;
    let whole: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    let Value::Object(text) = &whole else {
        let message = "not a JSON Schema (draft-07): the file does not contain an object";
        return Err((message, "Write an object, such as {\"type\": \"object\"}.").into());
    };
    match text.get("$schema").map(|dialect| dialect.as_str().unwrap_or_default()) {
        Some(dialect) if dialect.trim_end_matches('#') != DIALECT => {
            let hint = format!("Write {DIALECT:?}: only draft-07 is supported.");
            return Err((format!("unsupported $schema {dialect:?}"), hint).into());
        }
        _ => {}
    }
    let validator = jsonschema::options_for::<PayloadText>()
        .with_draft(Draft::Draft7)
        .with_pattern_options(PatternOptions::regex())
        // draft-07 does not define this format, but validators of consumers check it.
        .with_format("uuid", is_uuid)
        .build(&whole)
        .map_err(|error| format!("not a JSON Schema (draft-07) at {}: {error}", error.instance_path()))?;
    stands_alone(text, true)?;
    strict::check(text)?;
    let examples = text.get("examples").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    for example in examples {
        validator
            .validate(PayloadNode::At(&example.to_string()))
            .map_err(|error| format!("an example does not match the schema at {}", error.schema_path()))?;
    }
    Ok(Schema { event_type, file: path.to_owned(), text: text.clone(), validator })
}

fn is_uuid(text: &str) -> bool {
    const HYPHENATED: usize = 36;
    text.len() == HYPHENATED && uuid::Uuid::try_parse(text).is_ok()
}

/// Checks that a schema means the same in another file and under another `$id`.
fn stands_alone(schema: &Map<String, Value>, is_root: bool) -> Result<(), Wrong> {
    if let Some(to) = schema.get("$ref").and_then(Value::as_str)
        && to != "#"
        && to.strip_prefix("#/definitions/").is_none_or(|name| name.contains('/'))
    {
        let hint = "Let the schema refer only to its own \"#/definitions/…\" or to \"#\".";
        return Err((format!("unsupported reference {to:?}"), hint).into());
    }
    if !is_root && schema.contains_key("$id") {
        return Err(("a subschema has an $id", "Refer to it by \"#/definitions/…\" instead.").into());
    }
    inside(schema).into_iter().filter_map(Value::as_object).try_for_each(|part| stands_alone(part, false))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        folder
    }

    #[test]
    fn payload_is_checked_by_schema_of_its_type() {
        let schema =
            r#"{"type":"object","required":["total"],"properties":{"total":{"type":"number","minimum":0}}}"#;
        let folder = folder(&[("shop.order_placed.v1.json", schema), ("README.md", "x")]);
        let schemas = Schemas::load(folder.path()).unwrap();
        let check = |name: &str, payload: &str| schemas.check(name, payload.as_bytes());
        assert_eq!(check("shop.order_placed.v1", r#"{"total":1.50,"more":[]}"#), Ok(()));
        assert_eq!(check("shop.other.v1", "not even JSON"), Ok(()), "no schema, no look");
        for (payload, place) in [
            ("{}", "/required"),
            (r#"{"total":"secret"}"#, "/properties/total/type"),
            (r#"{"total":-77}"#, "/properties/total/minimum"),
            ("[]", "/type"),
        ] {
            let why = check("shop.order_placed.v1", payload).unwrap_err();
            assert!(why.ends_with(place), "{why}");
            assert!(!why.contains("secret") && !why.contains("77"), "{why}");
        }
        assert!(check("shop.order_placed.v1", &"[".repeat(200)).is_err());
    }

    #[test]
    fn every_invalid_schema_is_reported() {
        for (name, text, why) in [
            ("order.json", "{}", "major version"),
            ("a.b.v1.json", "{", "EOF"),
            ("a.b.v1.json", r#"{"type":"nonsense"}"#, "not a JSON Schema"),
            ("a.b.v1.json", r#"{"$ref":"elsewhere.json"}"#, "a.b.v1.json"),
            ("a.b.v1.json", r##"{"properties":{"a":{},"b":{"$ref":"#/properties/a"}}}"##, "its own"),
            ("a.b.v1.json", r#"{"pattern":"(?=x)"}"#, "a.b.v1.json"),
            ("a.b.v1.json", r#"{"properties":{"a":{"requried":["b"]}}}"#, "did you mean \"required\"?"),
            (
                "a.b.v1.json",
                r#"{"type":"string","format":"uuid","examples":["5f66167a"]}"#,
                "an example does not match the schema at /format",
            ),
            ("a.b.v1.json", "true", "Write an object"),
            ("a.b.v1.json", r#"{"$schema":"https://json-schema.org/draft/2020-12/schema"}"#, "only draft-07"),
            ("a.b.v1.json", r##"{"items":{"$ref":"#x"},"definitions":{"x":{"$id":"#x"}}}"##, "a.b.v1.json"),
            (
                "a.b.v1.json",
                r#"{"type":"string","examples":["a",7]}"#,
                "an example does not match the schema at /type",
            ),
            ("readme.txt", "", "Name each file like its event type"),
        ] {
            let folder = folder(&[(name, text)]);
            let wrong = Schemas::load(folder.path()).unwrap_err();
            let [Wrong { message, hint }] = wrong.as_slice() else { panic!("{name} {text}: {wrong:?}") };
            let texts = [message.as_str(), hint.as_deref().unwrap_or_default()];
            assert!(texts.iter().any(|text| text.contains(why)), "{name} {text}: {wrong:?}");
        }
        assert!(Schemas::load(Path::new("/nonexistent")).is_err());
    }
}
