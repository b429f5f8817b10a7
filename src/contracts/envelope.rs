//! The attributes of the envelope for consumers: one table for the catalogue and AsyncAPI (docs/EVENTS.md has
//! the details).

use serde_json::{Value, json};

/// An attribute of the envelope.
#[derive(Clone, Copy, Debug)]
pub struct Attribute {
    /// Its name.
    pub name: &'static str,
    /// Description, in one sentence.
    pub meaning: &'static str,
    /// Whether every event has it.
    pub always: bool,
    form: Form,
}

#[derive(Clone, Copy, Debug)]
enum Form {
    Text,
    Const(&'static str),
    Uuid,
    Time,
    Uri,
    Sequence,
    Flag,
}

/// All attributes except `data`, in the order of an event.
pub const ATTRIBUTES: [Attribute; 18] = [
    always("specversion", "CloudEvents 1.0.", Form::Const("1.0")),
    always("id", "Unique within the source. A repeated event has the same id.", Form::Uuid),
    always("source", "The pipeline: urn:forebay: and its name.", Form::Text),
    always("type", "Event type with its major version.", Form::Text),
    sometimes("dataschema", "Address of the JSON Schema of data, with its minor version.", Form::Uri),
    sometimes("deprecated", "true: the event type is deprecated.", Form::Flag),
    sometimes("deprecationfrom", "Date of the deprecation.", Form::Time),
    sometimes("deprecationsunset", "Earliest date of the removal.", Form::Time),
    always("subject", "The entity that the event is about.", Form::Text),
    always("time", "Time of the event; the commit time unless the event sets another.", Form::Time),
    always("recordedtime", "Commit time.", Form::Time),
    always(
        "partitionkey",
        "The Kinesis partition key. Events with the same key are in commit order.",
        Form::Text,
    ),
    always(
        "sequence",
        "32 hex digits that sort as text in commit order. Discard an event whose sequence is not greater \
         than the last one of its key.",
        Form::Sequence,
    ),
    sometimes(
        "unavailable",
        "Columns whose value the database did not send, separated by commas.",
        Form::Text,
    ),
    sometimes("correlationid", "The request or process, as set by the application.", Form::Text),
    sometimes("traceparent", "W3C trace context of the cause.", Form::Text),
    sometimes("user", "The user or service that made the change, as set by the application.", Form::Text),
    sometimes(
        "origin",
        "backfill: the row existed before the source was first read. Absent: a live change.",
        Form::Text,
    ),
];

const fn always(name: &'static str, meaning: &'static str, form: Form) -> Attribute {
    Attribute { name, meaning, always: true, form }
}

const fn sometimes(name: &'static str, meaning: &'static str, form: Form) -> Attribute {
    Attribute { name, meaning, always: false, form }
}

impl Attribute {
    /// Whether its value is true or false, rather than a text.
    pub const fn is_flag(&self) -> bool {
        matches!(self.form, Form::Flag)
    }

    /// Its JSON Schema.
    pub fn schema(&self) -> Value {
        let mut schema = match self.form {
            Form::Text => json!({"type": "string"}),
            Form::Const(value) => json!({"type": "string", "const": value}),
            Form::Uuid => json!({"type": "string", "minLength": 1}),
            Form::Time => json!({"type": "string", "format": "date-time"}),
            Form::Uri => json!({"type": "string", "format": "uri"}),
            Form::Sequence => json!({"type": "string", "pattern": "^[0-9A-F]{32}$"}),
            Form::Flag => json!({"type": "boolean"}),
        };
        if let Some(members) = schema.as_object_mut() {
            members.insert("description".to_owned(), self.meaning.into());
        }
        schema
    }
}
