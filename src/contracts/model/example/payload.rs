//! An example payload: that of the schema, or one generated from the schema that is valid.

use serde_json::{Map, Number, Value, json};

use crate::contracts::shape::resolved;
use crate::rules::Schema;

/// Largest nesting depth of an example.
const DEPTH_MAX: usize = 6;

/// The schema's own example, or a generated one; `None`: the generated one is not valid.
pub(in crate::contracts::model) fn of_schema(schema: &Schema) -> Option<Value> {
    if let Some([first, ..]) = schema.text.get("examples").and_then(Value::as_array).map(Vec::as_slice) {
        return Some(first.clone());
    }
    let root = Value::Object(schema.text.clone());
    let invented = Inventor { root: &schema.text }.value(&root, "payload", 0);
    schema.allows(&invented).then_some(invented)
}

struct Inventor<'a> {
    root: &'a Map<String, Value>,
}

impl Inventor<'_> {
    fn value(&self, schema: &Value, name: &str, depth: usize) -> Value {
        let Some(schema) = schema.as_object().filter(|_| depth < DEPTH_MAX) else { return Value::Null };
        let schema = resolved(self.root, schema);
        let listed =
            |member: &str| schema.get(member).and_then(Value::as_array).and_then(|list| list.first());
        if let Some(known) = schema.get("const").or_else(|| listed("enum")).or_else(|| listed("examples")) {
            return known.clone();
        }
        match kind(schema) {
            "object" => self.object(schema, depth),
            "array" => {
                let item = schema.get("items").filter(|items| items.is_object());
                let item = item.map_or_else(|| json!(name), |items| self.value(items, name, depth + 1));
                let count = schema.get("minItems").and_then(Value::as_u64).unwrap_or(1).clamp(1, 3);
                (0..count).map(|_| item.clone()).collect()
            }
            "boolean" => json!(true),
            "integer" => number(schema, 42.0).as_i64().map_or_else(|| json!(42), Value::from),
            "number" => Value::Number(number(schema, 12.5)),
            "null" => Value::Null,
            _ => json!(text(schema, name)),
        }
    }

    fn object(&self, schema: &Map<String, Value>, depth: usize) -> Value {
        let properties = schema.get("properties").and_then(Value::as_object);
        let members = properties.into_iter().flatten();
        let made = members.map(|(name, schema)| (name.clone(), self.value(schema, name, depth + 1)));
        Value::Object(made.collect())
    }
}

fn kind(schema: &Map<String, Value>) -> &str {
    let said = match schema.get("type") {
        Some(Value::String(one)) => Some(one.as_str()),
        Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).find(|one| *one != "null"),
        _ => None,
    };
    said.unwrap_or(if schema.contains_key("properties") { "object" } else { "string" })
}

/// A number within the bounds, an integer if possible.
fn number(schema: &Map<String, Value>, usual: f64) -> Number {
    let bound = |member: &str| schema.get(member).and_then(Value::as_f64);
    let least = bound("minimum").or_else(|| bound("exclusiveMinimum").map(|least| least + 1.0));
    let most = bound("maximum").or_else(|| bound("exclusiveMaximum").map(|most| most - 1.0));
    let mut number = usual.max(least.unwrap_or(usual)).min(most.unwrap_or(f64::INFINITY));
    if let Some(step) = bound("multipleOf").filter(|step| *step > 0.0) {
        number = (number / step).floor() * step;
    }
    whole(number).map(Number::from).or_else(|| Number::from_f64(number)).unwrap_or_else(|| Number::from(0))
}

/// The number as an integer if it is one.
fn whole(number: f64) -> Option<i64> {
    format!("{number}").parse().ok()
}

fn text(schema: &Map<String, Value>, name: &str) -> String {
    let known = match schema.get("format").and_then(Value::as_str).unwrap_or_default() {
        "date-time" => Some("2026-11-21T07:00:00Z"),
        "date" => Some("2026-11-21"),
        "time" => Some("07:00:00Z"),
        "uuid" => Some("5f66167a-f8a9-5965-a8cf-f6045a4dcfd2"),
        "email" => Some("somebody@example.org"),
        "uri" => Some("https://example.org/7"),
        _ => None,
    };
    if let Some(known) = known {
        return known.to_owned();
    }
    let length = |member: &str| {
        schema.get(member).and_then(Value::as_u64).and_then(|length| usize::try_from(length).ok())
    };
    let mut text = format!("{name}-7");
    while text.len() < length("minLength").unwrap_or_default().min(1_000) {
        text.push('7');
    }
    text.chars().take(length("maxLength").unwrap_or(usize::MAX)).collect()
}
