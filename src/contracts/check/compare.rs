//! Compares one event with its locked schema.

use serde_json::{Map, Value, json};

use crate::contracts::document::{orders, property};
use crate::contracts::model::{EventModel, FieldModel};
use crate::contracts::shape::{self, Schema};
use crate::expression::tidied;

use super::nested::{self, Excess};

/// The result of a comparison.
#[derive(Debug, Default)]
pub(super) struct Comparison {
    /// The differences, as sentences.
    pub(super) differences: Vec<String>,
    /// Fields that the locked schema does not have.
    pub(super) added: Vec<String>,
    /// Fields that the locked schema requires.
    pub(super) required: Vec<String>,
    /// Differences of meaning, as sentences. The form is the locked one.
    pub(super) changed: Vec<String>,
    /// Fields whose schema is unchanged and whose values differ.
    pub(super) retyped: Vec<String>,
}

/// The state of one locked field.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Unchanged.
    Kept,
    /// Gone; with its probable new name.
    Gone(Option<String>),
    /// Its values are of a different kind.
    Retyped,
    /// It may be null or absent now.
    Weaker,
}

/// Compares the published event with the locked schema, except for its order. Also returns the fields that
/// differ.
pub(super) fn compare(event: &EventModel, locked: &Value) -> (Comparison, Vec<String>) {
    let mut fields = Vec::new();
    let properties = properties(locked);
    let mut compared = Comparison { required: required(locked), ..Comparison::default() };
    let is_new = |field: &&FieldModel| !properties.contains_key(&field.name);
    compared.added = event.fields.iter().filter(is_new).map(|field| field.name.clone()).collect();
    for (name, was) in properties {
        let Some(was) = was.as_object() else { continue };
        match event.fields.iter().find(|field| field.name == *name) {
            None => compared.differences.push(match renamed(event, locked, name) {
                Some(now) => format!("field {name} is gone; perhaps it was renamed to {now}"),
                None => format!("field {name} is gone"),
            }),
            Some(field) => {
                let always = compared.required.contains(name);
                let found = of_field(field, was, always);
                if !found.is_empty() {
                    fields.push(name.clone());
                }
                compared.differences.extend(found);
                let now = property(field);
                nested::added(name, &form(was), &form(&now), &mut compared.added);
            }
        }
    }
    (compared, fields)
}

/// The state of a locked field.
pub(super) fn fate(event: &EventModel, locked: &Value, name: &str) -> Fate {
    let Some(field) = event.fields.iter().find(|field| field.name == name) else {
        return Fate::Gone(renamed(event, locked, name));
    };
    let Some(was) = properties(locked).get(name).and_then(Value::as_object) else { return Fate::Kept };
    let now = property(field);
    if types_without_null(was) != types_without_null(&now) || !fits(was, &now, Excess::Present) {
        return Fate::Retyped;
    }
    let always = required(locked).iter().any(|required| required == name);
    if of_field(field, was, always).is_empty() { Fate::Kept } else { Fate::Weaker }
}

/// The properties of a schema.
pub(in crate::contracts) fn properties(schema: &Value) -> &Map<String, Value> {
    static NONE: std::sync::LazyLock<Map<String, Value>> = std::sync::LazyLock::new(Map::new);
    schema.get("properties").and_then(Value::as_object).unwrap_or(&NONE)
}

/// The fields that a schema requires.
pub(in crate::contracts) fn required(schema: &Value) -> Vec<String> {
    let required = schema.get("required").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    required.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect()
}

/// The only new field that has the same values as the missing one.
fn renamed(event: &EventModel, locked: &Value, name: &str) -> Option<String> {
    let properties = properties(locked);
    let was = properties.get(name)?.as_object()?;
    let mut alike = event.fields.iter().filter(|field| {
        let now = property(field);
        !properties.contains_key(&field.name)
            && now.get("x-type") == was.get("x-type")
            && form(&now) == form(was)
    });
    match (alike.next(), alike.next()) {
        (Some(field), None) => Some(field.name.clone()),
        _ => None,
    }
}

fn of_field(field: &FieldModel, was: &Schema, always: bool) -> Vec<String> {
    let now = property(field);
    let name = &field.name;
    let mut differences = Vec::new();
    let sql = |schema: &Schema| {
        let text = schema.get("x-type").and_then(Value::as_str).unwrap_or("unknown");
        text.to_owned()
    };
    if types_without_null(was) != types_without_null(&now) {
        let (was_sql, now_sql) = (sql(was), sql(&now));
        let (was, now) = (shown(was), shown(&now));
        differences.push(format!("field {name} changed from {was} ({was_sql}) to {now} ({now_sql})"));
    } else if !fits(was, &now, Excess::Present) {
        differences.push(format!(
            "field {name} changed its form from {} to {}",
            form_text(was),
            form_text(&now)
        ));
    }
    if !shape::allows_null(was) && shape::allows_null(&now) {
        differences.push(format!("field {name} can now be null"));
    }
    if always && field.optional {
        differences.push(format!(
            "field {name} can now be absent: a large value that an update left unchanged, or a column \
             that the replica identity does not provide"
        ));
    }
    let labels = |schema: &Schema| -> Vec<String> {
        let labels = schema.get("x-known-values").or_else(|| schema.get("items")?.get("x-known-values"));
        let values = labels.and_then(Value::as_array).cloned().unwrap_or_default();
        values.iter().filter_map(|value| value.as_str().map(str::to_owned)).collect()
    };
    let (had, has) = (labels(was), labels(&now));
    // A label that is only gone is no longer used. A label that is gone while another is new may have been
    // renamed.
    if has.iter().any(|label| !had.contains(label)) {
        for label in had.iter().filter(|label| !has.contains(label)) {
            differences.push(format!("field {name} lost the label {label:?}"));
        }
    }
    match (was.contains_key("x-pii"), field.hmac) {
        (true, false) => differences.push(format!("field {name} is no longer a pseudonym (hmac)")),
        (false, true) => differences.push(format!("field {name} is now a pseudonym (hmac)")),
        _ => {}
    }
    differences
}

fn types_without_null(schema: &Schema) -> Vec<&str> {
    let mut types: Vec<&str> = shape::types(schema).into_iter().filter(|one| *one != "null").collect();
    types.sort_unstable();
    types
}

fn shown(schema: &Schema) -> String {
    let types = types_without_null(schema);
    if types.is_empty() { "any JSON value".to_owned() } else { types.join(" or ") }
}

/// Whether all values except null are valid for the locked schema.
pub(in crate::contracts) fn is_of_form(was: &Schema, now: &Schema) -> bool {
    let fits =
        |was: &Schema| types_without_null(was) == types_without_null(now) && fits(was, now, Excess::Locked);
    match was.get("anyOf") {
        Some(Value::Array(several)) => several.iter().filter_map(Value::as_object).any(fits),
        _ => fits(was),
    }
}

/// Whether values have the locked form, except for types and nullability.
fn fits(was: &Schema, now: &Schema, excess: Excess) -> bool {
    nested::fits(&form(was), &form(now), excess)
}

/// The constraints of a schema besides its types, without annotations.
fn form(schema: &Schema) -> Value {
    fn demanded(value: &Value) -> Value {
        match value {
            Value::Object(members) => {
                let kept = members.iter().filter(|(key, _)| {
                    !matches!(key.as_str(), "description" | "x-type" | "x-pii" | "x-known-values")
                });
                let kept = kept.map(|(key, value)| match (key.as_str(), value) {
                    // The keys here are names of fields, not keywords.
                    ("properties", Value::Object(fields)) => {
                        let fields = fields.iter().map(|(name, field)| (name.clone(), demanded(field)));
                        (key.clone(), Value::Object(fields.collect()))
                    }
                    _ => (key.clone(), demanded(value)),
                });
                Value::Object(kept.collect())
            }
            Value::Array(items) => Value::Array(items.iter().map(demanded).collect()),
            other => other.clone(),
        }
    }
    let mut members = schema.clone();
    members.remove("type");
    if let Some(Value::Array(several)) = members.get_mut("anyOf") {
        // Nullability is compared separately.
        several.retain(|one| one.get("type").is_none_or(|kind| kind != "null"));
    }
    demanded(&members.into())
}

fn form_text(schema: &Schema) -> String {
    let named = ["format", "x-format", "contentEncoding"].iter().find_map(|key| schema.get(*key)?.as_str());
    let sql = schema.get("x-type").and_then(Value::as_str).unwrap_or("unknown");
    named.map_or_else(|| sql.to_owned(), |named| format!("{named} ({sql})"))
}

/// Compares key, subject, time and id with the locked schema, for contracts without a locked meaning.
pub(super) fn of_order(event: &EventModel, locked: &Value) -> Vec<String> {
    let now = orders(event);
    let was = locked.get("x-order").cloned().unwrap_or(json!([]));
    if was == now {
        return Vec::new();
    }
    let (Some([was]), Some([now])) = (was.as_array().map(Vec::as_slice), now.as_array().map(Vec::as_slice))
    else {
        return vec!["its rules changed their keys, subjects, times or ids".to_owned()];
    };
    let facts = [
        ("key", "its key"),
        ("key-type", "the type of its key"),
        ("subject", "its subject"),
        ("time", "its time"),
        ("id", "its id"),
    ];
    let text =
        |order: &Value, fact: &str| order.get(fact).and_then(Value::as_str).unwrap_or("nothing").to_owned();
    let mut differences = Vec::new();
    for (fact, words) in facts {
        let (was, now) = (text(was, fact), text(now, fact));
        let same = match fact {
            // Values of both types are printed in the same way.
            "key-type" => {
                was.replace("character varying", "text") == now.replace("character varying", "text")
            }
            _ => tidied(&was) == tidied(&now),
        };
        if !same {
            differences.push(format!("{words} changed from {was} to {now}"));
        }
    }
    differences
}

/// Keeps the weaker guarantee: a field that may be null in one minor version may be null in the next.
pub(super) fn keep_promises(next: &mut Value, locked: &Value) {
    let Some(now) = next.get_mut("properties").and_then(Value::as_object_mut) else { return };
    for (name, was) in properties(locked) {
        let Some(was) = was.as_object() else { continue };
        let Some(Value::Object(property)) = now.get_mut(name) else { continue };
        if shape::allows_null(was) {
            *property = shape::or_null(std::mem::take(property));
        }
        nested::keep_absent(property, was);
    }
}
