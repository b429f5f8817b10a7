//! `schemas = "schemas/shop/"`: what payloads must be, as JSON Schemas (draft-07) named by event type. Read and compiled at start;
//! what they refer to must be in the same file, and their patterns match in linear time.

use std::collections::HashMap;
use std::path::Path;

use jsonschema::{Draft, PatternOptions, Validator};
use serde_json::Value;

use super::TypeName;

/// Largest schema file, in bytes.
const FILE_MAX: u64 = 1 << 20;

/// Schemas by event type.
#[derive(Debug, Default)]
pub struct Schemas {
    by_type: HashMap<String, Validator>,
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
                Ok((name, validator)) => {
                    schemas.by_type.insert(name.to_string(), validator);
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

    /// The types, in no order.
    pub fn types(&self) -> impl Iterator<Item = &str> {
        self.by_type.keys().map(String::as_str)
    }

    /// Checks a payload. What is wrong names the place in the schema and nothing of the payload.
    ///
    /// # Errors
    /// It is not what its schema says.
    pub fn check(&self, event_type: &str, payload: &[u8]) -> Result<(), String> {
        let Some(validator) = self.by_type.get(event_type) else { return Ok(()) };
        let payload: Value = serde_json::from_slice(payload)
            .map_err(|_| "the payload is not JSON, or nested deeper than a schema can follow".to_owned())?;
        validator
            .validate(&payload)
            .map_err(|error| format!("the payload is not what its schema says at {}", error.schema_path()))
    }
}

fn read(path: &Path) -> Result<(TypeName, Validator), String> {
    let name = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let name = TypeName::parse(name)?;
    let size = std::fs::metadata(path).map_err(|error| error.to_string())?.len();
    if size > FILE_MAX {
        return Err(format!("it has {size} bytes, at most {FILE_MAX} are allowed"));
    }
    let text = std::fs::read(path).map_err(|error| error.to_string())?;
    let schema: Value = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
    let validator = jsonschema::options()
        .with_draft(Draft::Draft7)
        .with_pattern_options(PatternOptions::regex())
        .build(&schema)
        .map_err(|error| format!("no JSON Schema (draft-07) at {}: {error}", error.instance_path()))?;
    Ok((name, validator))
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
            ("a.b.v1.json", r#"{"pattern":"(?=x)"}"#, "a.b.v1.json"),
            ("readme.txt", "", "holds no schema"),
        ] {
            let folder = folder(&[(name, text)]);
            let wrong = Schemas::load(folder.path()).unwrap_err();
            assert!(wrong.len() == 1 && wrong[0].contains(why), "{name} {text}: {wrong:?}");
        }
        assert!(Schemas::load(Path::new("/nonexistent")).is_err());
    }
}
