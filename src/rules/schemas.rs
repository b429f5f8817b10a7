//! `schemas = "schemas/shop/"`: what payloads must be, as JSON Schemas (draft-07) named by event type. Read and compiled at start;
//! what they refer to must be in the same file, by its place (`#/definitions/…`), and their patterns match in linear time.
//!
//! A schema is a contract once it is locked: then it stands in another file, under another `$id`. So nothing in it may hang on those.

mod walk;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use jsonschema::{Draft, PatternOptions, Validator};
use serde_json::{Map, Value};

use super::TypeName;

pub use self::walk::{inside, inside_mut};

/// Largest schema file, in bytes.
const FILE_MAX: u64 = 1 << 20;

/// What `$schema` may say.
const DIALECT: &str = "http://json-schema.org/draft-07/schema";

/// Schemas by event type.
#[derive(Debug, Default)]
pub struct Schemas {
    by_type: BTreeMap<String, Schema>,
}

/// What payloads of one event type must be.
#[derive(Debug)]
pub struct Schema {
    /// The event type.
    pub event_type: TypeName,
    /// The file.
    pub file: PathBuf,
    /// What it says.
    pub text: Map<String, Value>,
    validator: Validator,
}

impl Schema {
    /// Whether a payload is what it says.
    pub fn allows(&self, payload: &Value) -> bool {
        self.validator.is_valid(payload)
    }
}

impl Schemas {
    /// Reads `<event type>.json` of a folder, all of them.
    ///
    /// # Errors
    /// Everything that is wrong.
    pub(super) fn load(folder: &Path) -> Result<Self, Vec<String>> {
        let failed = |error: std::io::Error| vec![format!("cannot read {}: {error}", folder.display())];
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
                Err(why) => wrong.push(format!("{}: {why}", path.display())),
            }
        }
        if schemas.by_type.is_empty() && wrong.is_empty() {
            wrong.push(format!(
                "{} holds no schema; one is called like its event type, such as shop.order_placed.v1.json",
                folder.display()
            ));
        }
        wrong.sort_unstable();
        if wrong.is_empty() { Ok(schemas) } else { Err(wrong) }
    }

    /// Whether payloads of this type are looked at.
    pub fn has(&self, event_type: &str) -> bool {
        self.by_type.contains_key(event_type)
    }

    /// All of them, by event type.
    pub fn iter(&self) -> impl Iterator<Item = &Schema> {
        self.by_type.values()
    }

    /// The schema of a type.
    pub fn of(&self, event_type: &str) -> Option<&Schema> {
        self.by_type.get(event_type)
    }

    /// Checks a payload. What is wrong names the place in the schema and nothing of the payload.
    ///
    /// # Errors
    /// It is not what its schema says.
    pub fn check(&self, event_type: &str, payload: &[u8]) -> Result<(), String> {
        let Some(Schema { validator, .. }) = self.by_type.get(event_type) else { return Ok(()) };
        let payload: Value = serde_json::from_slice(payload)
            .map_err(|_| "the payload is not JSON, or nested deeper than a schema can follow".to_owned())?;
        validator
            .validate(&payload)
            .map_err(|error| format!("the payload is not what its schema says at {}", error.schema_path()))
    }
}

fn read(path: &Path) -> Result<Schema, String> {
    let name = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let event_type = TypeName::parse(name)?;
    let size = std::fs::metadata(path).map_err(|error| error.to_string())?.len();
    if size > FILE_MAX {
        return Err(format!("it has {size} bytes, at most {FILE_MAX} are allowed"));
    }
    let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
    let whole: Value = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
    let Value::Object(text) = &whole else {
        return Err("no JSON Schema (draft-07): it is an object, such as {\"type\": \"object\"}".to_owned());
    };
    match text.get("$schema").map(|dialect| dialect.as_str().unwrap_or_default()) {
        Some(dialect) if dialect.trim_end_matches('#') != DIALECT => {
            return Err(format!("its $schema is {dialect:?}; only draft-07 is understood: {DIALECT:?}"));
        }
        _ => {}
    }
    let validator = jsonschema::options()
        .with_draft(Draft::Draft7)
        .with_pattern_options(PatternOptions::regex())
        .build(&whole)
        .map_err(|error| format!("no JSON Schema (draft-07) at {}: {error}", error.instance_path()))?;
    stands_alone(text, true)?;
    let examples = text.get("examples").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    for example in examples {
        validator
            .validate(example)
            .map_err(|error| format!("one of its examples is not what it says at {}", error.schema_path()))?;
    }
    Ok(Schema { event_type, file: path.to_owned(), text: text.clone(), validator })
}

/// Whether a schema means the same in another file, under another `$id`.
fn stands_alone(schema: &Map<String, Value>, is_root: bool) -> Result<(), String> {
    if let Some(to) = schema.get("$ref").and_then(Value::as_str)
        && to != "#"
        && to.strip_prefix("#/definitions/").is_none_or(|name| name.contains('/'))
    {
        return Err(format!(
            "it refers to {to:?}; a schema refers to its own \"#/definitions/…\", or to \"#\""
        ));
    }
    if !is_root && schema.contains_key("$id") {
        return Err("a part of it has an $id; refer to its place, \"#/definitions/…\"".to_owned());
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
    fn a_payload_is_checked_by_the_schema_of_its_type() {
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
    fn every_schema_that_is_none_is_told() {
        for (name, text, why) in [
            ("order.json", "{}", "major version"),
            ("a.b.v1.json", "{", "EOF"),
            ("a.b.v1.json", r#"{"type":"nonsense"}"#, "no JSON Schema"),
            ("a.b.v1.json", r#"{"$ref":"elsewhere.json"}"#, "a.b.v1.json"),
            ("a.b.v1.json", r##"{"properties":{"a":{},"b":{"$ref":"#/properties/a"}}}"##, "its own"),
            ("a.b.v1.json", r#"{"pattern":"(?=x)"}"#, "a.b.v1.json"),
            ("a.b.v1.json", "true", "it is an object"),
            ("a.b.v1.json", r#"{"$schema":"https://json-schema.org/draft/2020-12/schema"}"#, "only draft-07"),
            ("a.b.v1.json", r##"{"items":{"$ref":"#x"},"definitions":{"x":{"$id":"#x"}}}"##, "a.b.v1.json"),
            (
                "a.b.v1.json",
                r#"{"type":"string","examples":["a",7]}"#,
                "examples is not what it says at /type",
            ),
            ("readme.txt", "", "holds no schema"),
        ] {
            let folder = folder(&[(name, text)]);
            let wrong = Schemas::load(folder.path()).unwrap_err();
            assert!(wrong.len() == 1 && wrong[0].contains(why), "{name} {text}: {wrong:?}");
        }
        assert!(Schemas::load(Path::new("/nonexistent")).is_err());
    }
}
