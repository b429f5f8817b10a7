//! Describes the values of a JSON Schema in words.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value};

use crate::contracts::shape;

/// The kind of value in a few words, without null.
pub fn kind(schema: &Value) -> String {
    let text = |member: &str| schema.get(member).and_then(Value::as_str);
    if let Some(kind) = text("x-format").and_then(known_format) {
        return kind.to_owned();
    }
    if text("contentEncoding") == Some("base64") {
        return "bytes, in base64".to_owned();
    }
    if let Some(several) = schema.get("anyOf").and_then(Value::as_array) {
        let values = several.iter().filter(|one| types(one) != ["null"]);
        let mut kinds: Vec<String> = values.map(kind).collect();
        kinds.dedup();
        return kinds.join(" or ");
    }
    let types: Vec<&str> = types(schema).into_iter().filter(|one| *one != "null").collect();
    match types[..] {
        [] if all_texts(schema.get("enum")) => "text".to_owned(),
        [] => "any JSON".to_owned(),
        ["array"] => array(schema.get("items")),
        ["object"] => object(schema),
        ["string"] => text("format").and_then(known_format).unwrap_or("text").to_owned(),
        _ => types.iter().map(|one| simple(one)).collect::<Vec<_>>().join(" or "),
    }
}

fn all_texts(list: Option<&Value>) -> bool {
    list.and_then(Value::as_array).is_some_and(|list| list.iter().all(Value::is_string))
}

/// The limits of a value, in words: `1 to 5`, `at most 20 characters`. Empty if no limit matters to a reader.
pub fn bounds(schema: &Map<String, Value>) -> String {
    let shown = |member: &str| schema.get(member).filter(|value| value.is_number()).map(Value::to_string);
    let range = |least: Option<String>, most: Option<String>, unit: &str| match (least, most) {
        (Some(least), Some(most)) if least == most => Some(format!("exactly {least}{unit}")),
        (Some(least), Some(most)) => Some(format!("{least} to {most}{unit}")),
        (Some(least), None) => Some(format!("at least {least}{unit}")),
        (None, Some(most)) => Some(format!("at most {most}{unit}")),
        (None, None) => None,
    };
    let width = schema.get("format").and_then(Value::as_str).and_then(|format| format.strip_prefix("int"));
    let (least, most) = (shown("minimum"), shown("maximum"));
    // The SQL type's own range, unless a narrower one is known.
    let width = width.filter(|_| least.is_none() && most.is_none()).map(|bits| format!("{bits} bits"));
    let all = [
        width,
        range(least, most, ""),
        shown("exclusiveMinimum").map(|least| format!("more than {least}")),
        shown("exclusiveMaximum").map(|most| format!("less than {most}")),
        shown("multipleOf").map(|step| format!("a multiple of {step}")),
        range(shown("minLength"), shown("maxLength"), " characters"),
        range(shown("minItems"), shown("maxItems"), " elements"),
    ];
    all.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// Whether null is valid.
pub fn nullable(schema: &Value) -> bool {
    schema.as_object().is_some_and(shape::names_null)
}

/// The known or allowed values.
pub fn labels(schema: &Value) -> Vec<String> {
    let list = ["x-known-values", "enum"].iter().find_map(|member| schema.get(*member)?.as_array());
    list.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn known_format(format: &str) -> Option<&'static str> {
    Some(match format {
        "decimal" => "decimal number",
        "double" => "number",
        "date" => "date",
        "local-date-time" => "date and time",
        "date-time" => "date and time, UTC",
        "time" => "time of day",
        "interval" => "interval",
        "uuid" => "uuid",
        _ => return None,
    })
}

fn simple(name: &str) -> &str {
    match name {
        "string" => "text",
        other => other,
    }
}

fn array(items: Option<&Value>) -> String {
    // PostgreSQL's arrays have any number of dimensions, so an element can be an array; the description omits
    // that.
    let Some(Value::Object(items)) = items else { return "array".to_owned() };
    let mut items = items.clone();
    let inner: Vec<Value> = types(&Value::Object(items.clone()))
        .into_iter()
        .filter(|one| !matches!(*one, "array" | "null"))
        .map(Value::from)
        .collect();
    if inner.is_empty() {
        return "array".to_owned();
    }
    items.insert("type".to_owned(), inner.into());
    format!("array of {}", kind(&Value::Object(items)))
}

fn object(schema: &Value) -> String {
    let names = |members: &Map<String, Value>| members.keys().cloned().collect::<Vec<_>>().join(", ");
    match schema.get("properties").and_then(Value::as_object) {
        Some(members) if !members.is_empty() => format!("object with {}", names(members)),
        _ => match schema.get("additionalProperties") {
            Some(of @ Value::Object(_)) => format!("object of {}", kind(of)),
            _ => "object".to_owned(),
        },
    }
}

fn types(schema: &Value) -> Vec<&str> {
    match schema.get("type") {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

/// The anchor of a type: the type itself, unless the table's name has special characters.
pub fn anchor(event_type: &str) -> String {
    const KEPT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'.').remove(b'_').remove(b'-');
    utf8_percent_encode(event_type, KEPT).to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn bounds_are_described_in_words() {
        for (schema, expected) in [
            (json!({"minimum": 1, "maximum": 5}), "1 to 5"),
            (json!({"format": "int16"}), "16 bits"),
            (json!({"format": "int32", "minimum": 0}), "at least 0"),
            (json!({"exclusiveMinimum": 0, "multipleOf": 0.5}), "more than 0, a multiple of 0.5"),
            (json!({"minLength": 3, "maxLength": 3}), "exactly 3 characters"),
            (json!({"minItems": 1}), "at least 1 elements"),
            (json!({"type": "string"}), ""),
        ] {
            assert_eq!(bounds(schema.as_object().unwrap()), expected, "{schema}");
        }
    }

    #[test]
    fn schema_is_described_in_words() {
        for (schema, expected, null) in [
            (json!({"type": "integer", "format": "int64"}), "integer", false),
            (json!({"type": ["integer", "null"]}), "integer", true),
            (json!({"type": ["number", "string"], "x-format": "decimal"}), "decimal number", false),
            (json!({"type": ["string", "null"], "x-format": "date-time"}), "date and time, UTC", true),
            (json!({"type": "string", "x-format": "never heard of"}), "text", false),
            (json!({"type": "string", "format": "uuid"}), "uuid", false),
            (json!({"type": "string", "contentEncoding": "base64"}), "bytes, in base64", false),
            (
                json!({"type": "array", "items": {"type": ["string", "null", "array"]}}),
                "array of text",
                false,
            ),
            (json!({"type": "array", "items": {}}), "array", false),
            (
                json!({"type": "object", "additionalProperties": {"type": ["string", "null"]}}),
                "object of text",
                false,
            ),
            (json!({"type": "object", "properties": {"a": {}, "b": {}}}), "object with a, b", false),
            (json!({"anyOf": [{"type": "integer"}, {"type": "string"}]}), "integer or text", false),
            (json!({"anyOf": [{"type": "integer"}, {"type": "null"}]}), "integer", true),
            (json!({}), "any JSON", false),
            (json!(true), "any JSON", false),
            (json!({"type": ["boolean", "string"]}), "boolean or text", false),
        ] {
            assert_eq!((kind(&schema).as_str(), nullable(&schema)), (expected, null), "{schema}");
        }
        assert_eq!(labels(&json!({"x-known-values": ["a", "b", 3]})), ["a", "b"]);
    }
}
