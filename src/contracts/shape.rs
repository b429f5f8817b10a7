//! The JSON Schema (draft-07) of values as `json` writes them, and example values.
//!
//! A schema is exact: dates can be infinite or BC, a numeric can be NaN, an array can have dimensions and
//! NULLs. The usual form is in `x-format`. Enums have `x-known-values`, because labels may be added at any
//! time. Text lengths are left out: a longer text breaks no consumer.

use serde_json::{Map, Value, json};

use crate::types::{Base, Kind};

/// A schema, as the members of an object.
pub type Schema = Map<String, Value>;

/// `NaN` and the infinities, which JSON numbers cannot represent.
const NOT_FINITE: &str = "^(NaN|-?Infinity)$";
const DATE: &str = "^(-?infinity|[0-9]{4,}-[0-9]{2}-[0-9]{2}( BC)?)$";
const TIMESTAMP: &str =
    r"^(-?infinity|[0-9]{4,}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?( BC)?)$";
const TIMESTAMPTZ: &str =
    r"^(-?infinity|[0-9]{4,}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?Z( BC)?)$";
const TIME: &str = r"^[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?$";

/// The schema of values other than NULL.
pub fn schema(kind: &Kind, base: &Base) -> Schema {
    let made = match kind {
        Kind::Bool => json!({"type": "boolean"}),
        Kind::Number => match base {
            Base::Int2 => json!({"type": "integer", "format": "int16"}),
            Base::Int4 => json!({"type": "integer", "format": "int32"}),
            Base::Int8 => json!({"type": "integer", "format": "int64"}),
            _ => json!({"type": ["number", "string"], "pattern": NOT_FINITE, "x-format": "decimal"}),
        },
        Kind::Float => json!({"type": ["number", "string"], "pattern": NOT_FINITE, "x-format": "double"}),
        Kind::Date => json!({"type": "string", "pattern": DATE, "x-format": "date"}),
        Kind::Timestamp => json!({"type": "string", "pattern": TIMESTAMP, "x-format": "local-date-time"}),
        Kind::TimestampTz => json!({"type": "string", "pattern": TIMESTAMPTZ, "x-format": "date-time"}),
        Kind::Bytea => json!({"type": "string", "contentEncoding": "base64"}),
        Kind::Json => json!({}),
        Kind::Hstore => json!({"type": "object", "additionalProperties": {"type": ["string", "null"]}}),
        Kind::Text => match base {
            Base::Enum(enumeration) => json!({"type": "string", "x-known-values": enumeration.labels}),
            Base::Uuid => json!({"type": "string", "format": "uuid"}),
            Base::Time => json!({"type": "string", "pattern": TIME, "x-format": "time"}),
            Base::Interval => json!({"type": "string", "x-format": "interval"}),
            _ => json!({"type": "string"}),
        },
        Kind::Array { element, .. } => {
            let base = if let Base::Array(base) = base { base } else { base_of_unknown() };
            // An element can be NULL, or an array itself: PostgreSQL's arrays have any number of dimensions.
            let mut items = or_type(or_null(schema(element, base)), "array");
            if matches!(**element, Kind::Array { .. } | Kind::Vector { .. }) {
                // A further dimension looks like such an element, so the schema cannot describe what is
                // inside.
                items.remove("items");
            }
            json!({"type": "array", "items": items})
        }
        Kind::Vector { element } => json!({"type": "array", "items": schema(element, base_of_unknown())}),
        Kind::Composite { fields } => {
            let properties: Schema = fields
                .iter()
                .map(|(name, kind)| (name.clone(), or_null(schema(kind, base_of_unknown())).into()))
                .collect();
            let mut required: Vec<&String> = fields.iter().map(|(name, _)| name).collect();
            required.sort_unstable();
            json!({
                "type": "object", "properties": properties, "required": required, "additionalProperties": false
            })
        }
    };
    if let Value::Object(members) = made { members } else { Schema::new() }
}

/// For a type of which only the JSON form is known.
const fn base_of_unknown() -> &'static Base {
    &Base::Text
}

/// The schema with null added.
#[must_use]
pub fn or_null(mut schema: Schema) -> Schema {
    let null = serde_json::json!({"type": "null"});
    if let Some(Value::Array(several)) = schema.get_mut("anyOf")
        && !several.iter().any(|one| one.as_object().is_some_and(allows_null))
    {
        several.push(null);
    }
    or_type(schema, "null")
}

/// Values of either schema.
#[must_use]
pub fn either(one: Schema, other: &Schema) -> Schema {
    if one == *other {
        return one;
    }
    let mut several = match one.get("anyOf") {
        Some(Value::Array(several)) => several.clone(),
        _ => vec![Value::Object(one)],
    };
    let more = match other.get("anyOf") {
        Some(Value::Array(more)) => more.clone(),
        _ => vec![Value::Object(other.clone())],
    };
    for one in more {
        if !several.contains(&one) {
            several.push(one);
        }
    }
    match &mut several[..] {
        [Value::Object(only)] => std::mem::take(only),
        _ => Schema::from_iter([("anyOf".to_owned(), Value::Array(several))]),
    }
}

/// Whether null is valid. Only for schemas made in this module.
pub fn allows_null(schema: &Schema) -> bool {
    match schema.get("anyOf") {
        Some(Value::Array(several)) => several.iter().any(|one| one.as_object().is_none_or(allows_null)),
        _ => types(schema).is_empty() || names_null(schema),
    }
}

/// Whether the schema names null explicitly.
pub fn names_null(schema: &Schema) -> bool {
    match schema.get("anyOf") {
        Some(Value::Array(several)) => several.iter().any(|one| one.as_object().is_some_and(names_null)),
        _ => types(schema).contains(&"null"),
    }
}

/// The types that a schema allows. Empty: all types.
pub fn types(schema: &Schema) -> Vec<&str> {
    match schema.get("type") {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

fn or_type(mut schema: Schema, more: &str) -> Schema {
    let mut all: Vec<String> = types(&schema).into_iter().map(str::to_owned).collect();
    if !all.is_empty() && !all.iter().any(|one| one == more) {
        all.push(more.to_owned());
        schema.insert("type".to_owned(), all.into());
    }
    schema
}

/// An example value of this kind and name. It is valid for [`schema`].
pub fn example(kind: &Kind, base: &Base, name: &str) -> Value {
    match kind {
        Kind::Bool => json!(true),
        Kind::Number => match base {
            Base::Int2 | Base::Int4 | Base::Int8 => json!(42),
            _ => json!(12.5),
        },
        Kind::Float => json!(0.25),
        Kind::Date => json!("2026-11-21"),
        Kind::Timestamp => json!("2026-11-21T08:00:00.5"),
        Kind::TimestampTz => json!("2026-11-21T07:00:00.5Z"),
        Kind::Bytea => json!("3q2+7w=="),
        Kind::Json => json!({"note": "as it was written"}),
        Kind::Hstore => json!({"colour": "blue"}),
        Kind::Text => text(base, name),
        Kind::Array { element, .. } => {
            let base = if let Base::Array(base) = base { base } else { base_of_unknown() };
            json!([example(element, base, name)])
        }
        Kind::Vector { element } => json!([example(element, base_of_unknown(), name)]),
        Kind::Composite { fields } => fields
            .iter()
            .map(|(name, kind)| (name.clone(), example(kind, base_of_unknown(), name)))
            .collect::<Schema>()
            .into(),
    }
}

fn text(base: &Base, name: &str) -> Value {
    match base {
        Base::Enum(enumeration) => json!(enumeration.labels.first().map_or("", String::as_str)),
        Base::Uuid => json!("5f66167a-f8a9-5965-a8cf-f6045a4dcfd2"),
        Base::Time => json!("08:00:00"),
        Base::Interval => json!("1 day 02:00:00"),
        Base::Other(named) => match named.name.rsplit('.').next().unwrap_or_default() {
            "inet" => json!("192.0.2.7"),
            "cidr" => json!("192.0.2.0/24"),
            "macaddr" => json!("08:00:2b:01:02:03"),
            "money" => json!("$12.34"),
            "int4range" | "int8range" | "numrange" => json!("[1,5)"),
            "daterange" => json!("[2026-11-21,2026-11-28)"),
            "xml" => json!("<note/>"),
            "point" => json!("(1,2)"),
            "oid" | "xid" => json!("42"),
            _ => json!(format!("{name}-7")),
        },
        _ => json!(format!("{name}-7")),
    }
}

/// A schema, or the definition that it refers to.
pub fn resolved<'a>(root: &'a Map<String, Value>, schema: &'a Map<String, Value>) -> &'a Map<String, Value> {
    let mut found = schema;
    // The limit ends a definition that refers to itself.
    for _ in 0..8 {
        let Some(to) = found.get("$ref").and_then(Value::as_str) else { break };
        let name = to.strip_prefix("#/definitions/").map(|name| name.replace("~1", "/").replace("~0", "~"));
        let target = match name {
            Some(name) => root.get("definitions").and_then(|all| all.get(&name)?.as_object()),
            None => Some(root),
        };
        let Some(target) = target else { break };
        found = target;
    }
    found
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::types::Enumeration;

    #[test]
    fn schema_of_each_kind_describes_written_json() {
        let labels = vec!["empty".to_owned(), "full".to_owned()];
        let status = Base::Enum(Arc::new(Enumeration { oid: 0, name: "s".into(), labels }));
        let array = |kind| Kind::Array { element: Arc::new(kind), delimiter: b',' };
        for (kind, base, expected) in [
            (Kind::Number, Base::Int8, json!({"type": "integer", "format": "int64"})),
            (
                Kind::Number,
                Base::Numeric,
                json!({"type": ["number", "string"], "pattern": NOT_FINITE, "x-format": "decimal"}),
            ),
            (Kind::Text, status, json!({"type": "string", "x-known-values": ["empty", "full"]})),
            (Kind::Text, Base::Varchar, json!({"type": "string"})),
            (Kind::Json, Base::Jsonb, json!({})),
            (
                array(Kind::Bool),
                Base::Array(Arc::new(Base::Bool)),
                json!({"type": "array", "items": {"type": ["boolean", "null", "array"]}}),
            ),
            (
                array(Kind::Vector { element: Arc::new(Kind::Number) }),
                Base::Array(Arc::new(Base::Text)),
                json!({"type": "array", "items": {"type": ["array", "null"]}}),
            ),
            (array(Kind::Json), Base::Array(Arc::new(Base::Json)), json!({"type": "array", "items": {}})),
            (
                Kind::Composite { fields: [("no".to_owned(), Kind::Bool)].into() },
                Base::Text,
                json!({"type": "object", "properties": {"no": {"type": ["boolean", "null"]}}, "required": ["no"],
                       "additionalProperties": false}),
            ),
        ] {
            assert_eq!(Value::from(schema(&kind, &base)), expected, "{kind:?}");
        }
        let (bool, text) = (schema(&Kind::Bool, &Base::Bool), schema(&Kind::Text, &Base::Text));
        let both = either(either(bool.clone(), &text), &bool);
        assert_eq!(Value::from(both.clone()), json!({"anyOf": [{"type": "boolean"}, {"type": "string"}]}));
        assert!(!allows_null(&both) && allows_null(&or_null(both.clone())));
        assert_eq!(or_null(or_null(both))["anyOf"].as_array().map(Vec::len), Some(3));
        assert_eq!(either(text.clone(), &text), text);
        assert_eq!(or_null(or_null(schema(&Kind::Bool, &Base::Bool)))["type"], json!(["boolean", "null"]));
    }
}
