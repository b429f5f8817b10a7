//! The schema for readers: a locked schema that allows additions, for validators and generators of code.
//!
//! A schema in `events.lock/` is closed and exact. This one accepts whatever the locked one and every later
//! minor version accept. It has a class name as its `title`, and no keyword that a validator or generator
//! must be configured for: no `x-…`, no `format`, no union of types in one `type` (but with null). It is
//! never stricter than the locked one.

mod union;

use serde_json::{Map, Value, json};

use crate::rules::inside_mut;

/// Keywords that an added field can violate, or that mean something only to the author of the schema. Without
/// them a schema accepts more.
const LEFT_OUT: [&str; 10] =
    ["$id", "$schema", "additionalItems", "else", "examples", "format", "if", "maxProperties", "not", "then"];

/// The open form of a schema of `data`. `class`: the class name for generators. `about`: the description of
/// the event, if known.
pub fn schema(given: &Map<String, Value>, class: &str, about: Option<&str>) -> Value {
    let mut open = opened(given, class);
    // The title or description of the whole schema is replaced by the description of the event.
    open.remove("title");
    let about = about.or_else(|| open.get("description")?.as_str()).map(Value::from);
    open.insert("title".to_owned(), class.into());
    open.extend(about.map(|about| ("description".to_owned(), about)));
    open.into()
}

/// The open form of a locked schema, as a document of its own. `id`: its address.
pub fn document(locked: &Value, id: Option<&str>) -> Value {
    let empty = Map::new();
    let given = locked.as_object().unwrap_or(&empty);
    let text = |member: &str| given.get(member).and_then(Value::as_str);
    let event = text("x-event").unwrap_or_default();
    let is_given = given.contains_key("x-outbox");
    // Forebay writes the description of the event as the title, or the event type if there is none.
    let title = text("title").filter(|title| *title != event);
    let about = if is_given { title.or_else(|| text("description")) } else { title };
    let mut open = schema(given, &class_name(event), about);
    if let Some(members) = open.as_object_mut() {
        for (name, value) in [
            ("$schema", text("$schema").map(Value::from)),
            ("$id", id.or_else(|| text("$id")).map(Value::from)),
            ("$comment", text("x-version").map(|version| comment(event, version).into())),
            ("examples", given.get("examples").cloned()),
        ] {
            members.extend(value.map(|value| (name.to_owned(), value)));
        }
    }
    open
}

fn comment(event: &str, version: &str) -> String {
    format!("Contract {version} of {event}, open for readers: fields may be added.")
}

/// The name of a type as a class: `LabPlateCompletedV2`.
pub fn class_name(event_type: &str) -> String {
    let mut name = String::with_capacity(event_type.len());
    let mut starts = true;
    for letter in event_type.chars() {
        if !letter.is_ascii_alphanumeric() {
            // Not every language allows other letters in names.
            if !letter.is_ascii() {
                name.push('U');
                name.push_str(&u32::from(letter).to_string());
            }
            starts = true;
            continue;
        }
        if name.is_empty() && letter.is_ascii_digit() {
            name.push_str("Event");
        }
        name.push(if starts { letter.to_ascii_uppercase() } else { letter });
        starts = false;
    }
    name
}

/// The members of the open form. Objects are named after the path to them, which begins with `class`.
fn opened(given: &Map<String, Value>, class: &str) -> Map<String, Value> {
    let mut open = given.clone();
    describe(&mut open, given);
    open.retain(|keyword, _| !LEFT_OUT.contains(&keyword.as_str()) && !keyword.starts_with("x-"));
    if open.get("additionalProperties") == Some(&Value::Bool(false)) {
        open.remove("additionalProperties");
    }
    bounds(&mut open, given);
    if let Some(alternatives) = open.remove("oneOf") {
        // An addition could make a second alternative match.
        let either = open.entry("anyOf");
        match either {
            serde_json::map::Entry::Vacant(free) => {
                free.insert(alternatives);
            }
            serde_json::map::Entry::Occupied(_) => {
                let more = open.entry("allOf").or_insert_with(|| json!([]));
                more.as_array_mut()
                    .into_iter()
                    .for_each(|all| all.push(json!({"anyOf": alternatives.clone()})));
            }
        }
    }
    for keyword in ["properties", "patternProperties", "definitions", "dependencies"] {
        if let Some(Value::Object(named)) = open.get_mut(keyword) {
            for (name, value) in named {
                open_in_place(value, &format!("{class}{}", class_name(name)));
            }
        }
    }
    for keyword in ["items", "additionalProperties", "contains", "propertyNames", "allOf", "anyOf"] {
        match open.get_mut(keyword) {
            Some(Value::Array(several)) => several.iter_mut().for_each(|one| open_in_place(one, class)),
            Some(one) => open_in_place(one, class),
            None => {}
        }
    }
    if open.contains_key("properties") {
        open.insert("title".to_owned(), class.into());
    }
    if open.contains_key("$ref") {
        open.retain(|keyword, _| matches!(keyword.as_str(), "$ref" | "description" | "definitions"));
    }
    union::separate(open)
}

fn open_in_place(value: &mut Value, class: &str) {
    let Some(given) = value.as_object() else { return };
    let open = opened(given, class);
    let says = |keyword: &str| keyword == "description";
    *value = if open.is_empty() {
        Value::Bool(true)
    } else if open.keys().all(|keyword| says(keyword)) {
        // Some generators take a schema without a type as an object.
        let mut open = open;
        open.insert("anyOf".to_owned(), json!([true]));
        open.into()
    } else {
        open.into()
    };
}

/// In a locked schema the title is a sentence, but generators use it as a class name: the sentence becomes
/// the description. The description lists the known labels, because more may be added.
fn describe(open: &mut Map<String, Value>, given: &Map<String, Value>) {
    let title = open.remove("title");
    let described = given.get("description").or(title.as_ref()).and_then(Value::as_str).map(str::to_owned);
    let labels: Vec<&str> = given
        .get("x-known-values")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let known = (!labels.is_empty()).then(|| format!("Known values: {}.", labels.join(", ")));
    let text = match (described, known) {
        (Some(described), Some(known)) if described.ends_with(['.', '!', '?']) => {
            Some(format!("{described} {known}"))
        }
        (Some(described), Some(known)) => Some(format!("{described}. {known}")),
        (described, known) => described.or(known),
    };
    open.extend(text.map(|text| ("description".to_owned(), text.into())));
}

/// Expresses the omitted `format` by keywords that all validators support.
fn bounds(open: &mut Map<String, Value>, given: &Map<String, Value>) {
    const UUID: &str = "^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$";
    let (least, most) = match given.get("format").and_then(Value::as_str) {
        Some("int16") => (i64::from(i16::MIN), i64::from(i16::MAX)),
        Some("int32") => (i64::from(i32::MIN), i64::from(i32::MAX)),
        // With these bounds, generators for Java and other languages choose a 64-bit integer.
        Some("int64") => (i64::MIN, i64::MAX),
        Some("uuid") => {
            open.entry("pattern").or_insert_with(|| UUID.into());
            return;
        }
        _ => return,
    };
    open.entry("minimum").or_insert_with(|| least.into());
    open.entry("maximum").or_insert_with(|| most.into());
}

/// Rewrites references so that they are valid at the schema's new place.
pub fn move_to(schema: &mut Value, place: &str) {
    let Some(members) = schema.as_object_mut() else { return };
    if let Some(Value::String(to)) = members.get_mut("$ref")
        && let Some(rest) = to.strip_prefix('#')
    {
        *to = format!("{place}{rest}");
    }
    for part in inside_mut(members) {
        move_to(part, place);
    }
}

#[cfg(test)]
mod tests;
