//! The contracts as an AsyncAPI 3.0 document, for generators and portals.
//!
//! The stream is the channel, Forebay sends, and each event type is a message whose payload is the whole
//! line: the envelope with `data`. Schemas use AsyncAPI's dialect, a superset of draft-07, and are open,
//! because fields may be added. AsyncAPI has no Kinesis binding, so Kinesis properties are in `x-kinesis`.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use super::catalog::build::data_schema;
use super::envelope::ATTRIBUTES;
use super::lock::Lock;
use super::model::{EventModel, Model};
use super::open;
use super::own::{OWN_EVENTS, OwnEvent};
use crate::rules::{Outbox, inside_mut};

/// The properties of the document besides the model.
#[derive(Clone, Copy, Debug)]
pub struct Stream<'a> {
    /// The pipeline's name.
    pub name: &'a str,
    /// The stream's name, or its ARN.
    pub stream: &'a str,
    /// Its region, if known.
    pub region: Option<&'a str>,
    /// The version of the document.
    pub version: &'a str,
}

/// The document.
pub fn document(stream: Stream<'_>, model: &Model, lock: &Lock) -> Value {
    let short = stream.stream.rsplit('/').next().unwrap_or(stream.stream);
    // Generators name the union of all messages after the channel.
    let channel = open::class_name(short);
    let (mut messages, mut schemas) = (Map::new(), Map::new());
    schemas.insert("CloudEvent".to_owned(), envelope());
    let classes = classes(model);
    let (mut offered, mut sent) = (Map::new(), Vec::new());
    for event in &model.events {
        let key = key(&event.event_type);
        offered.insert(key.clone(), reference(&format!("#/components/messages/{key}")));
        sent.push(reference(&format!("#/channels/{channel}/messages/{key}")));
        let locked = newest(lock, event);
        let class = classes.get(event.event_type.as_str()).map(String::as_str).unwrap_or_default();
        messages.insert(key, message(model, event, class, locked.map(|(minor, _)| *minor)));
        let given = data_schema(event, locked.map(|(_, schema)| schema));
        let about = event.about.as_deref();
        let mut data = open::schema(given.as_object().unwrap_or(&Map::new()), class, about);
        open::move_to(&mut data, &format!("#/components/schemas/{class}"));
        spell_out(&mut data);
        schemas.insert(class.to_owned(), data);
        schemas.insert(format!("{class}Event"), payload(event, class));
    }
    for outbox in &model.rules.outboxes {
        let key = key(&format!("outbox.{}", outbox.name()));
        offered.insert(key.clone(), reference(&format!("#/components/messages/{key}")));
        sent.push(reference(&format!("#/channels/{channel}/messages/{key}")));
        messages.insert(key, of_outbox(outbox));
    }
    for event in OWN_EVENTS {
        let class = open::class_name(event.name);
        offered.insert(event.name.to_owned(), reference(&format!("#/components/messages/{}", event.name)));
        sent.push(reference(&format!("#/channels/{channel}/messages/{}", event.name)));
        messages.insert(event.name.to_owned(), of_forebay(&event, &class, &model.source));
        schemas.insert(format!("{class}Event"), whole(event.name, &class, Some(event.meaning)));
        let mut data = event.schema();
        if let Some(members) = data.as_object_mut() {
            members.insert("title".to_owned(), class.clone().into());
        }
        schemas.insert(class, data);
    }
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": format!("Events of {}", stream.name),
            "version": stream.version,
            "description": ABOUT,
        },
        "defaultContentType": "application/cloudevents+json",
        "servers": {"kinesis": server(stream)},
        "channels": {
            channel.clone(): {
                "address": short,
                "title": short,
                "description": "A Kinesis data stream. A record holds one or more lines, all of one partition key.",
                "servers": [reference("#/servers/kinesis")],
                "messages": offered,
                "x-kinesis": {"stream": stream.stream},
            }
        },
        "operations": {
            "publish": {
                "action": "send",
                "title": "Publish",
                "summary": format!("{} publishes domain events.", model.source),
                "channel": reference(&format!("#/channels/{channel}")),
                "messages": sent,
            }
        },
        "components": {"messages": messages, "schemas": schemas},
    })
}

const ABOUT: &str = "One event is one line of JSON (CloudEvents 1.0, structured mode) that ends in a line \
    feed. Delivery is at least once: a repeated event has the same id. First deliveries of one \
    partitionkey are in commit order: keep the last sequence of each key, and discard events that are not \
    greater. Fields and attributes may be added at any time: ignore unknown ones.";

fn server(stream: Stream<'_>) -> Value {
    let of_arn = stream.stream.strip_prefix("arn:").and_then(|arn| arn.split(':').nth(2));
    let described = "Amazon Kinesis Data Streams";
    if let Some(region) = stream.region.or(of_arn) {
        let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
        json!({"protocol": "kinesis", "description": described, "host": format!("kinesis.{region}.{domain}")})
    } else {
        json!({
            "protocol": "kinesis",
            "description": described,
            "host": "kinesis.{region}.amazonaws.com",
            "variables": {"region": {"description": "The stream's AWS region."}},
        })
    }
}

fn envelope() -> Value {
    let mut properties: Map<String, Value> =
        ATTRIBUTES.iter().map(|attribute| (attribute.name.to_owned(), attribute.schema())).collect();
    properties.insert("data".to_owned(), json!({"description": "What has happened."}));
    let required = ATTRIBUTES.iter().filter(|attribute| attribute.always).map(|attribute| attribute.name);
    let required: Vec<&str> = required.chain(["data"]).collect();
    json!({"type": "object", "title": "CloudEvent", "properties": properties, "required": required})
}

/// The class names for generators, by event type. Two types that would have the same name each get a hash.
fn classes(model: &Model) -> HashMap<&str, String> {
    let mut count: HashMap<String, usize> = HashMap::new();
    let own = OWN_EVENTS.iter().map(|event| event.name);
    for event_type in model.events.iter().map(|event| event.event_type.as_str()).chain(own) {
        *count.entry(open::class_name(event_type)).or_default() += 1;
    }
    let name = |event_type: &str| {
        let name = open::class_name(event_type);
        let is_alone = count.get(&name).is_none_or(|count| *count == 1) && name != "CloudEvent";
        if is_alone { name } else { format!("{name}{:08X}", crc32c::crc32c(event_type.as_bytes())) }
    };
    model.events.iter().map(|event| (event.event_type.as_str(), name(&event.event_type))).collect()
}

/// Replaces the schema `true`, which AsyncAPI generators do not accept.
fn spell_out(schema: &mut Value) {
    if *schema == json!(true) {
        *schema = json!({});
    }
    let Some(members) = schema.as_object_mut() else { return };
    if members.get("anyOf") == Some(&json!([true])) {
        members.remove("anyOf");
    }
    inside_mut(members).into_iter().for_each(spell_out);
}

/// The schema of the whole line.
fn payload(event: &EventModel, class: &str) -> Value {
    let mut payload = whole(&event.event_type, class, event.about.as_deref());
    if event.deprecated.is_some()
        && let Some(members) = payload.as_object_mut()
    {
        // AsyncAPI 3.0 can deprecate a schema but not a message.
        members.insert("deprecated".to_owned(), true.into());
    }
    payload
}

/// The envelope with the `data` of a class.
fn whole(event_type: &str, class: &str, about: Option<&str>) -> Value {
    let mut whole = json!({
        "title": format!("{class}Event"),
        "allOf": [
            reference("#/components/schemas/CloudEvent"),
            {
                "type": "object",
                "properties": {
                    "type": {"type": "string", "const": event_type},
                    "data": reference(&format!("#/components/schemas/{class}")),
                },
            },
        ]
    });
    if let Some(members) = whole.as_object_mut() {
        members.extend(about.map(|about| ("description".to_owned(), about.into())));
    }
    whole
}

/// The message of an event about the stream itself.
fn of_forebay(event: &OwnEvent, class: &str, source: &str) -> Value {
    object([
        ("name", Some(event.name.into())),
        ("title", Some(event.name.into())),
        ("summary", Some(event.meaning.into())),
        ("description", event.opt_in.then(|| "Only if the operator turns it on.".into())),
        ("contentType", Some("application/cloudevents+json".into())),
        ("payload", Some(reference(&format!("#/components/schemas/{class}Event")))),
        ("examples", Some(json!([{"name": "Invented values", "payload": event.example(source)}]))),
        ("tags", Some(json!([{"name": "forebay", "description": "About the stream itself."}]))),
    ])
}

fn message(model: &Model, event: &EventModel, class: &str, minor: Option<u32>) -> Value {
    let deprecated = event.deprecated.as_ref().map(|deprecated| {
        object([
            ("since", Some(deprecated.since.as_str().into())),
            ("sunset", deprecated.sunset.as_deref().map(Value::from)),
            ("use", deprecated.instead.as_deref().map(Value::from)),
        ])
    });
    object([
        ("name", Some(event.event_type.as_str().into())),
        ("title", Some(event.event_type.as_str().into())),
        ("summary", event.about.as_deref().map(Value::from)),
        ("contentType", Some("application/cloudevents+json".into())),
        ("payload", Some(reference(&format!("#/components/schemas/{class}Event")))),
        (
            "examples",
            model.example(event, minor).map(|whole| json!([{"name": "Invented values", "payload": whole}])),
        ),
        ("tags", Some(tags(event))),
        ("x-owner", event.owner.as_deref().map(Value::from)),
        ("x-consumers", (!event.consumers.is_empty()).then(|| json!(event.consumers))),
        ("x-version", minor.map(|minor| format!("{}.{minor}", event.major).into())),
        ("x-deprecated", deprecated),
    ])
}

/// The message of an outbox without a schema: an envelope with `data` of any form.
fn of_outbox(outbox: &Outbox) -> Value {
    let form = outbox.template.to_string();
    let described = format!(
        "The application names the types of these events, in the form {form}. Their data has no contract. \
         Types with a schema are separate messages."
    );
    object([
        ("name", Some(outbox.name().into())),
        ("title", Some(format!("Events of {}", outbox.name()).into())),
        ("summary", outbox.about.as_deref().map(Value::from)),
        ("description", Some(described.into())),
        ("contentType", Some("application/cloudevents+json".into())),
        ("payload", Some(reference("#/components/schemas/CloudEvent"))),
        ("tags", Some(json!([{"name": "outbox", "description": "Types named by the application."}]))),
        ("x-owner", outbox.owner.as_deref().map(Value::from)),
        ("x-consumers", (!outbox.consumers.is_empty()).then(|| json!(outbox.consumers))),
        ("x-type", Some(form.into())),
    ])
}

/// An object of the members that are present.
fn object<const N: usize>(members: [(&str, Option<Value>); N]) -> Value {
    let known = members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    Value::Object(known.collect())
}

fn tags(event: &EventModel) -> Value {
    let domain = event.stem.split('.').next().unwrap_or_default();
    let mut tags = vec![json!({"name": domain})];
    if event.automatic {
        tags.push(json!({"name": "automatic", "description": "Best effort: follows its table."}));
    }
    if event.payload.is_some() {
        tags.push(json!({"name": "outbox", "description": "Published by the application."}));
    }
    if event.deprecated.is_some() {
        tags.push(json!({"name": "deprecated"}));
    }
    tags.into()
}

/// The newest locked version of an event.
fn newest<'a>(lock: &'a Lock, event: &EventModel) -> Option<&'a (u32, Value)> {
    lock.of(&event.event_type)?.versions.last()
}

fn reference(to: &str) -> Value {
    json!({"$ref": to})
}

/// A name as a valid AsyncAPI key. Only table names with special characters change.
fn key(name: &str) -> String {
    use std::fmt::Write as _;
    let mut key = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-') {
            key.push(char::from(byte));
        } else {
            let written = write!(key, "-x{byte:02X}");
            debug_assert!(written.is_ok(), "writing to a String cannot fail");
        }
    }
    key
}
