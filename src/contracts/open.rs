//! A given schema as readers should take it: open, because fields may be added; and at another place of another document.

use serde_json::{Map, Value};

use crate::rules::inside_mut;

/// The schema without what closes it. Where schemas are chosen from, denied or referred to, they stay as they are: what they close may
/// decide.
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

/// Makes what refers to places of the schema's own file refer to them where it stands now.
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
    fn a_schema_is_opened_where_fields_may_come_and_found_where_it_stands() {
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
