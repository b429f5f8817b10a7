//! The attributes of the envelope as readers see them: one table for the catalogue and for AsyncAPI (docs/EVENTS.md says more).

use serde_json::{Value, json};

/// An attribute of the envelope.
#[derive(Clone, Copy, Debug)]
pub struct Attribute {
    /// Its name.
    pub name: &'static str,
    /// What it is, in one sentence.
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

/// All attributes but `data`, as they stand in an event.
pub const ATTRIBUTES: [Attribute; 17] = [
    always("specversion", "CloudEvents 1.0.", Form::Const("1.0")),
    always("id", "The same whenever the event is sent again; unique within the source.", Form::Uuid),
    always("source", "Which Forebay has made it: urn:forebay: and its name.", Form::Text),
    always("type", "What has happened, with its major version.", Form::Text),
    sometimes("dataschema", "Where the JSON Schema of data is, with its minor version.", Form::Uri),
    sometimes("deprecated", "true: this type is to go.", Form::Flag),
    sometimes("deprecationfrom", "Since when it is deprecated.", Form::Time),
    sometimes("deprecationsunset", "From when on it may be gone.", Form::Time),
    always("subject", "What it has happened to.", Form::Text),
    always(
        "time",
        "When it has happened; unless the event says otherwise, when it was committed.",
        Form::Time,
    ),
    always("recordedtime", "When it was committed.", Form::Time),
    always("partitionkey", "The Kinesis partition key: events of one key come in commit order.", Form::Text),
    always(
        "sequence",
        "32 hex digits that sort as text in commit order: drop what is not greater than the last of its key.",
        Form::Sequence,
    ),
    sometimes(
        "unavailable",
        "Columns whose value the database did not send, separated by commas.",
        Form::Text,
    ),
    sometimes("correlationid", "What the application called the request that it belongs to.", Form::Text),
    sometimes("traceparent", "W3C trace context of what has caused it.", Form::Text),
    sometimes("user", "Whom the application names as the one who did it.", Form::Text),
];

const fn always(name: &'static str, meaning: &'static str, form: Form) -> Attribute {
    Attribute { name, meaning, always: true, form }
}

const fn sometimes(name: &'static str, meaning: &'static str, form: Form) -> Attribute {
    Attribute { name, meaning, always: false, form }
}

impl Attribute {
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
