//! The JSON Schema of an event's `data`, as locked and as shown.

use serde_json::{Value, json};

use super::lock;
use super::model::{EventModel, FieldModel, Model, Order, Payload};
use super::shape::Schema;

/// The newest dialect that both AsyncAPI's parser and AWS Glue's schema registry validate.
const DIALECT: &str = "http://json-schema.org/draft-07/schema#";

/// The schema of an event's `data` in this minor version. `required`: the fields that every event of this
/// major version has. `None` in the first minor version: every field that is always present.
pub fn document(model: &Model, event: &EventModel, minor: u32, required: Option<&[String]>) -> Value {
    let id = id(model, event, minor);
    if let Some(payload) = &event.payload {
        return of_payload(event, payload, &id, minor);
    }
    let properties: Schema =
        event.fields.iter().map(|field| (field.name.clone(), property(field).into())).collect();
    let always = event.fields.iter().filter(|field| !field.optional).map(|field| field.name.clone());
    let mut required: Vec<String> = required.map_or_else(|| always.collect(), <[String]>::to_vec);
    required.sort_unstable();
    let mut whole = json!({
        "$schema": DIALECT,
        "$id": id,
        "title": event.about.as_deref().unwrap_or(&event.event_type),
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
        "examples": [event.example_data()],
        "x-event": event.event_type,
        "x-version": format!("{}.{minor}", event.major),
        "x-key": keys(event),
        "x-order": orders(event),
    });
    if let (true, Some(members)) = (event.automatic, whole.as_object_mut()) {
        members.insert("x-automatic".to_owned(), json!(true));
    }
    whole
}

fn id(model: &Model, event: &EventModel, minor: u32) -> String {
    model.schemas.as_ref().map_or_else(
        || format!("urn:forebay:schema:{}:{}.{minor}", lock::escaped(&event.stem), event.major),
        |base| lock::url(base, &event.stem, event.major, minor),
    )
}

/// The outbox's own schema with Forebay's keywords added.
fn of_payload(event: &EventModel, payload: &Payload, id: &str, minor: u32) -> Value {
    let mut members = payload.schema.clone();
    if !members.contains_key("title") {
        members.insert("title".to_owned(), json!(event.about.as_deref().unwrap_or(&event.event_type)));
    }
    if let (false, Some(example)) = (members.contains_key("examples"), &payload.example) {
        members.insert("examples".to_owned(), json!([example]));
    }
    for (name, value) in [
        ("$schema", json!(DIALECT)),
        ("$id", json!(id)),
        ("x-event", json!(event.event_type)),
        ("x-version", json!(format!("{}.{minor}", event.major))),
        ("x-key", keys(event)),
        ("x-order", orders(event)),
        ("x-outbox", json!(true)),
    ] {
        members.insert(name.to_owned(), value);
    }
    members.into()
}

/// The texts of the partition key's parts.
fn keys(event: &EventModel) -> Value {
    let mut keys: Vec<String> = Vec::new();
    for part in event.origins.iter().flat_map(|origin| &origin.order.key) {
        if !keys.contains(&part.text) {
            keys.push(part.text.clone());
        }
    }
    keys.into()
}

/// Key, subject, time and id of the event: one object for each rule that makes it.
pub(super) fn orders(event: &EventModel) -> Value {
    let mut orders: Vec<Value> = Vec::new();
    for origin in &event.origins {
        let order = order(&origin.order);
        if !orders.contains(&order) {
            orders.push(order);
        }
    }
    orders.into()
}

fn order(order: &Order) -> Value {
    let text: Vec<&str> = order.key.iter().map(|part| part.text.as_str()).collect();
    let types: Vec<&str> = order.key.iter().map(|part| part.sql_type.as_str()).collect();
    let (text, types) = if text.is_empty() {
        ("the event's id".to_owned(), "text".to_owned())
    } else {
        (text.join(", "), types.join(", "))
    };
    json!({
        "key": text,
        "key-type": types,
        "subject": order.subject.as_deref().unwrap_or(&text),
        "time": order.time.as_deref().unwrap_or("the commit's time"),
        "id": order.id,
    })
}

/// The schema of one field, with its description.
pub(super) fn property(field: &FieldModel) -> Schema {
    let mut schema = field.value_schema();
    if let Some(meaning) = &field.meaning {
        schema.insert("description".to_owned(), json!(meaning));
    }
    schema.insert("x-type".to_owned(), json!(field.sql_type));
    if field.hmac {
        schema.insert("x-pii".to_owned(), json!("hmac"));
    }
    schema
}
