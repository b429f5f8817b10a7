//! The events that Forebay itself makes about the stream: their types, meanings and schemas, for AsyncAPI and
//! the catalogue. They are not locked, because their form belongs to the release.

use serde_json::{Value, json};

/// An event about the stream itself.
#[derive(Clone, Copy, Debug)]
pub struct OwnEvent {
    /// Its type.
    pub name: &'static str,
    /// Its meaning, in one or two sentences.
    pub meaning: &'static str,
    /// Whether the operator has to turn it on.
    pub opt_in: bool,
    /// Appended to the source, it makes the partition key.
    key_ending: &'static str,
    data: fn() -> (Value, Value),
}

/// All of them.
pub const OWN_EVENTS: [OwnEvent; 4] = [
    OwnEvent {
        name: "forebay.gap.v1",
        meaning: "Events between two positions may be missing, or may be published a second time. A new epoch begins.",
        opt_in: false,
        key_ending: "",
        data: gap,
    },
    OwnEvent {
        name: "forebay.lag_exceeded.v1",
        meaning: "Events are later than the operator's limit.",
        opt_in: true,
        key_ending: "",
        data: lag_exceeded,
    },
    OwnEvent {
        name: "forebay.lag_recovered.v1",
        meaning: "Events are on time again.",
        opt_in: true,
        key_ending: "",
        data: lag_recovered,
    },
    OwnEvent {
        name: "forebay.heartbeat.v1",
        meaning: "The pipeline works. Nothing has happened in the business.",
        opt_in: true,
        key_ending: ":heartbeat",
        data: heartbeat,
    },
];

impl OwnEvent {
    /// The schema of `data`, open for additions.
    pub fn schema(&self) -> Value {
        (self.data)().0
    }

    /// A whole event of a source, with invented values.
    pub fn example(&self, source: &str) -> Value {
        json!({
            "specversion": "1.0",
            "id": "7c0f7a1e-2f5b-5d0e-9a3c-0c6c8f1f4b2d",
            "source": source,
            "type": self.name,
            "subject": source,
            "time": "2026-10-01T10:00:00.000000Z",
            "recordedtime": "2026-10-01T10:00:00.000000Z",
            "partitionkey": format!("{source}{}", self.key_ending),
            "sequence": "00010000000026B3C4D8000000000000",
            "data": (self.data)().1,
        })
    }
}

/// The schema of an object with these members, of which the last `optional` may be absent.
fn object(members: &[(&str, Value)], optional: usize) -> Value {
    let required: Vec<_> = members.iter().rev().skip(optional).rev().map(|(name, _)| *name).collect();
    let properties: serde_json::Map<_, _> =
        members.iter().map(|(name, schema)| ((*name).to_owned(), schema.clone())).collect();
    json!({"type": "object", "properties": properties, "required": required})
}

fn text(meaning: &str) -> Value {
    json!({"type": "string", "description": meaning})
}

fn seconds(meaning: &str) -> Value {
    json!({"type": "integer", "minimum": 0, "description": meaning})
}

fn gap() -> (Value, Value) {
    let schema = object(
        &[
            ("epoch", json!({"type": "integer", "minimum": 0, "description": "The epoch that begins."})),
            ("previous", text("Commit LSN of the last change that was kept; 0/0 if none is known.")),
            ("resumes_at", text("Where the source resumes.")),
            ("reason", text("Why, by the person who adopted, or by Forebay.")),
            (
                "skipped",
                json!({"type": "object", "description": "A transaction that was skipped because the source cannot send it."}),
            ),
        ],
        1,
    );
    let example = json!({"epoch": 1, "previous": "0/1A2B3C4", "resumes_at": "0/26B3C4D8", "reason": "the old primary is gone"});
    (schema, example)
}

fn lag_exceeded() -> (Value, Value) {
    let schema = object(
        &[
            ("lag_seconds", seconds("The lag when that was found.")),
            ("max_lag_seconds", seconds("The operator's limit.")),
        ],
        0,
    );
    (schema, json!({"lag_seconds": 301, "max_lag_seconds": 300}))
}

fn lag_recovered() -> (Value, Value) {
    let since =
        json!({"type": "string", "format": "date-time", "description": "When the lag exceeded the limit."});
    let schema = object(
        &[
            ("lag_seconds", seconds("The lag when that was found.")),
            ("max_lag_seconds", seconds("The operator's limit.")),
            (
                "highest_lag_seconds",
                seconds("The highest lag since then, as far as this process has seen it."),
            ),
            ("exceeded_at", since),
        ],
        0,
    );
    let example = json!({
        "lag_seconds": 2, "max_lag_seconds": 300, "highest_lag_seconds": 1_840, "exceeded_at": "2026-10-01T09:20:00.000000Z",
    });
    (schema, example)
}

fn heartbeat() -> (Value, Value) {
    let schema = object(&[("number", seconds("Counts the heartbeats of a process, from 1."))], 0);
    (schema, json!({"number": 42}))
}
