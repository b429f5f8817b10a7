//! Finds the subschemas of a draft-07 schema. A `$ref` inside `properties` is a field name, and inside
//! `const` a value.

use serde_json::{Map, Value};

/// The direct subschemas.
pub fn inside(schema: &Map<String, Value>) -> Vec<&Value> {
    let mut found = Vec::new();
    for (keyword, value) in schema {
        match (holds(keyword), value) {
            (Holds::Schemas, Value::Array(list)) => found.extend(list),
            (Holds::Schemas, one) => found.push(one),
            (Holds::Named, Value::Object(members)) => found.extend(members.values()),
            (Holds::Named | Holds::None, _) => {}
        }
    }
    found
}

/// The direct subschemas, mutable.
pub fn inside_mut(schema: &mut Map<String, Value>) -> Vec<&mut Value> {
    let mut found = Vec::new();
    for (keyword, value) in schema {
        match (holds(keyword), value) {
            (Holds::Schemas, Value::Array(list)) => found.extend(list),
            (Holds::Schemas, one) => found.push(one),
            (Holds::Named, Value::Object(members)) => found.extend(members.values_mut()),
            (Holds::Named | Holds::None, _) => {}
        }
    }
    found
}

enum Holds {
    /// A schema, or a list of schemas.
    Schemas,
    /// Schemas by name.
    Named,
    None,
}

fn holds(keyword: &str) -> Holds {
    match keyword {
        "additionalItems"
        | "additionalProperties"
        | "allOf"
        | "anyOf"
        | "contains"
        | "else"
        | "if"
        | "items"
        | "not"
        | "oneOf"
        | "propertyNames"
        | "then" => Holds::Schemas,
        "definitions" | "dependencies" | "patternProperties" | "properties" => Holds::Named,
        _ => Holds::None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn subschemas_are_found_only_in_schema_positions() {
        let mut schema = json!({
            "properties": {"$ref": {"type": "null"}}, "items": [{"title": "a"}, {"title": "b"}], "not": {"title": "c"},
            "enum": [{"title": "no"}], "const": {"title": "no"}, "default": {"title": "no"}, "required": ["x"],
            "oneOf": [{"title": "d"}], "additionalProperties": false, "x-own": {"title": "no"}
        });
        let expected = [
            json!(false),
            json!({"title": "a"}),
            json!({"title": "b"}),
            json!({"title": "c"}),
            json!({"title": "d"}),
            json!({"type": "null"}),
        ];
        let mut found: Vec<Value> = inside(schema.as_object().unwrap()).into_iter().cloned().collect();
        found.sort_by_key(ToString::to_string);
        let mut same: Vec<Value> =
            inside_mut(schema.as_object_mut().unwrap()).into_iter().map(|value| value.clone()).collect();
        same.sort_by_key(ToString::to_string);
        assert_eq!(found, same);
        let mut expected = expected.to_vec();
        expected.sort_by_key(ToString::to_string);
        assert_eq!(found, expected);
    }
}
