//! Splits a union of types in one `type` into `anyOf`, which validators accept without an option and for
//! which generators make named types. A type and null stay together.

use serde_json::{Map, Value, json};

/// The keywords that apply only to values of one type.
fn only_for(keyword: &str) -> Option<&'static [&'static str]> {
    Some(match keyword {
        "contentEncoding" | "contentMediaType" | "maxLength" | "minLength" | "pattern" => &["string"],
        "exclusiveMaximum" | "exclusiveMinimum" | "maximum" | "minimum" | "multipleOf" => {
            &["integer", "number"]
        }
        "contains" | "items" | "maxItems" | "minItems" | "uniqueItems" => &["array"],
        "additionalProperties"
        | "dependencies"
        | "minProperties"
        | "patternProperties"
        | "properties"
        | "propertyNames"
        | "required"
        | "title" => &["object"],
        _ => return None,
    })
}

/// The schema with one type in each alternative.
pub(super) fn separate(mut schema: Map<String, Value>) -> Map<String, Value> {
    let Some(Value::Array(types)) = schema.get("type") else { return schema };
    let types: Vec<String> = types.iter().filter_map(Value::as_str).map(str::to_owned).collect();
    let others = types.iter().filter(|one| *one != "null").count();
    let is_simple = others < 2 && types.len() < 3 && !(types.len() > 1 && schema.contains_key("properties"));
    if is_simple || schema.contains_key("anyOf") {
        return schema;
    }
    schema.remove("type");
    let alternatives = types.iter().map(|one| {
        let mut members: Map<String, Value> = Map::from_iter([("type".to_owned(), json!(one))]);
        for (keyword, value) in &schema {
            if only_for(keyword).is_some_and(|types| types.contains(&one.as_str())) {
                members.insert(keyword.clone(), value.clone());
            }
        }
        Value::Object(members)
    });
    let alternatives: Vec<Value> = alternatives.collect();
    schema.retain(|keyword, _| only_for(keyword).is_none());
    schema.insert("anyOf".to_owned(), alternatives.into());
    schema
}
