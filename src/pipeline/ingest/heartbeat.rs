//! The heartbeat (`source.heartbeat`): a logical message that Forebay writes into the database, receives
//! again, and publishes as `forebay.heartbeat.v1`. It proves that the whole path works, even while the tables
//! do not change.
//!
//! Every reader of the database's changes receives the message. Heartbeats of another source are ignored.

use std::convert::Infallible;

use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use crate::change::Message;
use crate::event::{RecordKind, Records};
use crate::position::Position;

/// Prefix of the message.
pub const HEARTBEAT_PREFIX: &str = "forebay:heartbeat";
/// Type of the event.
const TYPE: &str = "forebay.heartbeat.v1";

/// Content of the message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeartbeatText {
    /// The source's name.
    pub source: String,
    /// Random number of the process that wrote it.
    pub process: u64,
    /// Number of the heartbeat within the process.
    pub number: u64,
    /// When it was written, microseconds since the Unix epoch.
    pub at: i64,
}

/// Reads a heartbeat of this source; `None` if the message is anything else.
pub(super) fn read(message: &Message<'_>, source: &str) -> Option<HeartbeatText> {
    let content = (message.prefix == HEARTBEAT_PREFIX.as_bytes()).then_some(message.content)?;
    serde_json::from_slice(content).ok().filter(|text: &HeartbeatText| text.source == source)
}

/// Writes the event. It has a partition key of its own: in order with other events about the stream, its
/// `sequence` would not increase.
pub(super) fn write(text: &HeartbeatText, position: Position, records: &mut Records) {
    let (source, key) = (&text.source, format!("{}:heartbeat", text.source));
    let Position { epoch, commit, index } = position;
    let namespace = Uuid::new_v5(&Uuid::NAMESPACE_URL, source.as_bytes());
    let name = format!("{TYPE}|heartbeat|{}|{}", text.process, text.number);
    let mut time = Vec::new();
    crate::time::write_rfc3339(&mut time, text.at);
    let time = String::from_utf8_lossy(&time);
    let event = json!({
        "specversion": "1.0",
        "id": Uuid::new_v5(&namespace, name.as_bytes()).to_string(),
        "source": source,
        "type": TYPE,
        "subject": source,
        "time": time,
        "recordedtime": time,
        "partitionkey": key,
        "sequence": format!("{epoch:04X}{:016X}{index:08X}0000", commit.get()),
        "data": { "number": text.number },
    });
    let written: Result<(), Infallible> = records.push(RecordKind::Event, TYPE, &key, |out| {
        out.extend_from_slice(event.to_string().as_bytes());
        out.push(b'\n');
        Ok(())
    });
    match written {
        Ok(()) => {}
    }
}
