//! Opens a schema for consumers, because fields may be added, and moves it to another place in another document.

use serde_json::{Map, Value};

use crate::rules::inside_mut;

/// The schema without `additionalProperties: false`. Schemas below `oneOf`, `not`, `$ref` and the like are unchanged,
/// because closing them can decide which alternative applies.
pub fn schema(given: &Map<String, Value>) -> Value {
    let mut open = given.clone();
    for own in ["$schema", "$id", "examples"] {
        open.remove(own);
    }
    opened(&mut open);
    open.into()
}

fn opened(schema: &mut Map<String, Value>) {
    if schema.get("additionalProperties") == Some(&Value::Bool(false)) {
        schema.remove("additionalProperties");
    }
    if let Some(Value::Object(properties)) = schema.get_mut("properties") {
        properties.values_mut().filter_map(Value::as_object_mut).for_each(opened);
    }
    if let Some(Value::Object(items)) = schema.get_mut("items") {
        opened(items);
    }
}

/// Rewrites references so that they are valid at the schema's new place.
pub fn move_to(schema: &mut Value, place: &str) {
    let Some(members) = schema.as_object_mut() else { return };
    if let Some(Value::String(to)) = members.get_mut("$ref")
        && let Some(rest) = to.strip_prefix('#')
    {
        *to = format!("{place}{rest}");
    }
    for part in inside_mut(members) {
        move_to(part, place);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn schema_allows_added_fields_and_references_are_relocated() {
        let given = json!({
            "$id": "x", "type": "object", "additionalProperties": false,
            "properties": {
                "$ref": {"$ref": "#/definitions/a"},
                "list": {"items": {"additionalProperties": false, "default": {"$ref": "#"}}},
                "chosen": {"oneOf": [{"additionalProperties": false}, {"$ref": "#"}]}
            },
            "definitions": {"a": {"additionalProperties": false}}
        });
        let mut moved = schema(given.as_object().unwrap());
        move_to(&mut moved, "#/components/schemas/x");
        assert_eq!(
            moved,
            json!({
                "type": "object",
                "properties": {
                    "$ref": {"$ref": "#/components/schemas/x/definitions/a"},
                    "list": {"items": {"default": {"$ref": "#"}}},
                    "chosen": {"oneOf": [{"additionalProperties": false}, {"$ref": "#/components/schemas/x"}]}
                },
                "definitions": {"a": {"additionalProperties": false}}
            })
        );
    }
}
