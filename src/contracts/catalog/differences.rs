//! Differences between two versions of an event, as the catalogue lists them.

use serde::Serialize;
use serde_json::{Map, Value};

use super::words;

/// The differences between the fields of two versions.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct Differences {
    /// Fields that only the later version has.
    pub added: Vec<Difference>,
    /// Fields with another kind of value.
    pub changed: Vec<Difference>,
    /// Fields that only the earlier version has.
    pub removed: Vec<Difference>,
}

/// The difference of one field.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Its name.
    pub name: String,
    /// The field in the earlier version; empty if it had none.
    pub before: String,
    /// The field in the later version; empty if it has none.
    pub after: String,
}

impl Differences {
    /// Compares two schemas of `data`.
    pub fn between(before: &Value, after: &Value) -> Self {
        let (old, new) = (Fields::of(before), Fields::of(after));
        let mut differences = Self::default();
        for (name, schema) in new.properties.into_iter().flatten() {
            let after = new.say(name, schema);
            match old.get(name) {
                None => {
                    // A new field is always absent from earlier events; this needs no note.
                    let after = say(schema);
                    differences.added.push(Difference { name: name.clone(), before: String::new(), after });
                }
                Some(earlier) => {
                    let before = old.say(name, earlier);
                    if before != after {
                        differences.changed.push(Difference { name: name.clone(), before, after });
                    } else if exact(earlier) != exact(schema) {
                        let more = |kind: &str, schema| format!("{kind} ({})", precise(schema));
                        let (before, after) = (more(&before, earlier), more(&after, schema));
                        differences.changed.push(Difference { name: name.clone(), before, after });
                    }
                }
            }
        }
        for (name, schema) in old.properties.into_iter().flatten() {
            if new.get(name).is_none() {
                let before = old.say(name, schema);
                differences.removed.push(Difference { name: name.clone(), before, after: String::new() });
            }
        }
        differences
    }

    /// Whether there are no differences.
    pub const fn is_empty(&self) -> bool {
        self.added.is_empty() && self.changed.is_empty() && self.removed.is_empty()
    }
}

/// The fields of a schema of `data`.
struct Fields<'a> {
    properties: Option<&'a Map<String, Value>>,
    required: Option<&'a Vec<Value>>,
}

impl<'a> Fields<'a> {
    fn of(schema: &'a Value) -> Self {
        Self {
            properties: schema.get("properties").and_then(Value::as_object),
            required: schema.get("required").and_then(Value::as_array),
        }
    }

    fn get(&self, name: &str) -> Option<&'a Value> {
        self.properties?.get(name)
    }

    fn say(&self, name: &str, schema: &Value) -> String {
        let mut text = say(schema);
        let required = |names: &Vec<Value>| names.iter().any(|one| one.as_str() == Some(name));
        if !self.required.is_some_and(required) {
            text.push_str(" or absent");
        }
        text
    }
}

fn say(schema: &Value) -> String {
    let null = if words::nullable(schema) { " or null" } else { "" };
    words::kind(schema) + null
}

/// The SQL type, or without one the keywords that the description omits.
fn precise(schema: &Value) -> String {
    schema.get("x-type").and_then(Value::as_str).map_or_else(|| exact(schema), str::to_owned)
}

/// The keywords that the description omits but consumers may rely on.
fn exact(schema: &Value) -> String {
    let members = ["format", "x-format", "pattern", "items", "properties", "additionalProperties"];
    let values = members.iter().filter_map(|member| match schema.get(member)? {
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    });
    values.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn field_differences_are_added_changed_and_removed() {
        let before = json!({
            "properties": {"id": {"type": "integer", "format": "int32"}, "gone": {"type": "boolean"},
                           "name": {"type": "string"}, "same": {"type": "string", "description": "a"}},
            "required": ["id", "gone", "name", "same"]
        });
        let after = json!({
            "properties": {"id": {"type": "integer", "format": "int64"}, "new": {"type": ["number", "null"]},
                           "name": {"type": ["string", "null"]}, "same": {"type": "string", "description": "b"}},
            "required": ["id", "name", "same"]
        });
        let difference = |name: &str, before: &str, after: &str| Difference {
            name: name.into(),
            before: before.into(),
            after: after.into(),
        };
        assert_eq!(
            Differences::between(&before, &after),
            Differences {
                added: vec![difference("new", "", "number or null")],
                changed: vec![
                    difference("id", "integer (int32)", "integer (int64)"),
                    difference("name", "text", "text or null"),
                ],
                removed: vec![difference("gone", "boolean", "")],
            }
        );
        assert!(Differences::between(&before, &before).is_empty());
        assert!(Differences::between(&json!(null), &json!(3)).is_empty());
    }
}
