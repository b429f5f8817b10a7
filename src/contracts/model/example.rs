//! An example event: the envelope with an example of `data`.

mod payload;

use serde_json::{Value, json};

use super::{EventModel, Model};
use crate::contracts::lock;

pub(super) use self::payload::of_schema;

/// `None`: no valid example of the outbox payload is known.
pub(super) fn event(model: &Model, event: &EventModel, minor: Option<u32>) -> Option<Value> {
    let data = event.example_data()?;
    let key = key(event);
    let mut whole = json!({
        "specversion": "1.0",
        "id": "5f66167a-f8a9-5965-a8cf-f6045a4dcfd2",
        "source": model.source,
        "type": event.event_type,
        "subject": key,
        "time": "2026-11-21T07:00:00.123456Z",
        "recordedtime": "2026-11-21T07:00:00.123456Z",
        "partitionkey": key,
        "sequence": "000100000001A2B3C4D8000000030000",
        "data": data,
    });
    let mut set = |name: &str, value: Value| {
        if let Some(members) = whole.as_object_mut() {
            members.insert(name.to_owned(), value);
        }
    };
    if let Some(deprecated) = &event.deprecated {
        let day = |day: &str| json!(format!("{day}T00:00:00Z"));
        set("deprecated", json!(true));
        set("deprecationfrom", day(&deprecated.since));
        if let Some(sunset) = &deprecated.sunset {
            set("deprecationsunset", day(sunset));
        }
    }
    if let (Some(base), Some(minor)) = (&model.schemas, minor) {
        set("dataschema", json!(lock::url(base, &event.stem, event.major, minor)));
    }
    Some(whole)
}

/// The key of the example, made from its fields where possible.
fn key(event: &EventModel) -> String {
    let Some(origin) = event.origins.first() else { return String::new() };
    if event.payload.is_some() {
        return "7".to_owned();
    }
    let parts = origin.order.key.iter().map(|part| {
        let field = event
            .fields
            .iter()
            .find(|field| field.name == part.text || field.columns == [part.text.as_str()]);
        match field.map(|field| &field.example) {
            Some(Value::String(text)) => text.clone(),
            Some(value) => value.to_string(),
            None => part.text.trim_matches('\'').to_owned(),
        }
    });
    let parts: Vec<String> = parts.collect();
    if parts.is_empty() { "5f66167a-f8a9-5965-a8cf-f6045a4dcfd2".to_owned() } else { parts.join("/") }
}
