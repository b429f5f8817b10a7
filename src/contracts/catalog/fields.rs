//! The fields of an event as rows of its table. The members of objects follow their field, with the path to
//! them.

use serde_json::{Map, Value};

use super::view::FieldRow;
use super::words;
use crate::contracts::model::{EventModel, FieldModel};
use crate::contracts::shape::resolved;

/// Objects inside objects that are listed. A definition that refers to itself ends here.
const DEPTH_MAX: usize = 4;

/// The rows of an event's table of fields. `hmac_key`: the name of the pseudonym key.
pub(super) fn rows(event: &EventModel, locked: &[(u32, Value)], hmac_key: Option<&str>) -> Vec<FieldRow> {
    let empty = Map::new();
    let root = event.payload.as_ref().map_or(&empty, |payload| &payload.schema);
    let mut rows = Vec::new();
    for field in &event.fields {
        let row = of_field(event, field, locked, hmac_key);
        let (since, closed) = (row.since.clone(), row.closed);
        rows.push(row);
        members(root, &field.schema, &field.name, DEPTH_MAX, &mut |path, schema, optional| {
            let text =
                |member: &str| schema.get(member).and_then(Value::as_str).unwrap_or_default().to_owned();
            let value = Value::Object(schema.clone());
            rows.push(FieldRow {
                name: path.to_owned(),
                kind: words::kind(&value),
                sql: text("x-type"),
                bounds: words::bounds(schema),
                nested: true,
                nullable: words::nullable(&value),
                optional,
                meaning: text("description"),
                labels: words::labels(&value),
                closed,
                origin: String::new(),
                personal: String::new(),
                since: since.clone(),
            });
        });
    }
    rows
}

fn of_field(
    event: &EventModel,
    field: &FieldModel,
    locked: &[(u32, Value)],
    hmac_key: Option<&str>,
) -> FieldRow {
    let schema = field.value_schema();
    let bounds = words::bounds(&schema);
    let schema = Value::Object(schema);
    let has = |schema: &Value| schema.get("properties").is_some_and(|all| all.get(&field.name).is_some());
    let since = locked.iter().find(|(_, schema)| has(schema)).map(|(minor, _)| *minor);
    let since = since.or_else(|| locked.last().map(|(minor, _)| minor.saturating_add(1)));
    FieldRow {
        name: field.name.clone(),
        kind: words::kind(&schema),
        sql: field.sql_type.clone(),
        bounds,
        nested: false,
        nullable: field.nullable,
        optional: field.optional,
        meaning: field.meaning.clone().unwrap_or_default(),
        labels: words::labels(&schema),
        closed: event.payload.is_some(),
        origin: if field.columns == [field.name.as_str()] { String::new() } else { field.columns.join(", ") },
        personal: match hmac_key {
            _ if !field.hmac => String::new(),
            Some(key) => format!("pseudonym, key {key}"),
            None => "pseudonym".to_owned(),
        },
        since: since.map(|minor| format!("{}.{minor}", event.major)).unwrap_or_default(),
    }
}

/// Receives the path of a member, its schema, and whether it can be absent.
type MemberVisitor<'a> = dyn FnMut(&str, &Map<String, Value>, bool) + 'a;

/// Calls `found` for each member of the objects in a schema: its path, its schema, and whether it can be
/// absent.
fn members(
    root: &Map<String, Value>,
    schema: &Map<String, Value>,
    path: &str,
    depth: usize,
    found: &mut MemberVisitor<'_>,
) {
    let schema = resolved(root, schema);
    let Some(depth) = depth.checked_sub(1) else { return };
    for keyword in ["anyOf", "oneOf", "allOf"] {
        let parts = schema.get(keyword).and_then(Value::as_array).into_iter().flatten();
        // Other alternatives, such as null and text, have no members.
        parts.filter_map(Value::as_object).for_each(|part| members(root, part, path, depth, found));
    }
    if let Some(items) = schema.get("items").and_then(Value::as_object) {
        members(root, items, &format!("{path}[]"), depth, found);
    }
    let required = schema.get("required").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    for (name, member) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let Some(own) = member.as_object() else { continue };
        let path = format!("{path}.{name}");
        let mut shown = resolved(root, own).clone();
        if let Some(text) = own.get("description") {
            shown.insert("description".to_owned(), text.clone());
        }
        found(&path, &shown, !required.iter().any(|one| one.as_str() == Some(name)));
        members(root, &shown, &path, depth, found);
    }
}
