//! `outbox = "shop.outbox"` and `messages = "event:"`: events that the application writes to a table or a
//! logical message.

use std::sync::Arc;

use super::error::FilePosition;
use super::schemas::Schemas;
use super::template::Template;
use crate::config::TableName;

/// An `[[event]]` that defines an outbox. Its rows or messages contain the event types.
#[derive(Clone, Debug)]
pub struct Outbox {
    /// Where the application writes events.
    pub origin: OutboxOrigin,
    /// The template of event types.
    pub template: Template,
    /// Schemas of payloads, by event type. Empty without `schemas`.
    pub schemas: Arc<Schemas>,
    /// The schema directory as written in the rule, with its position.
    pub schemas_in: Option<(String, FilePosition)>,
    /// Summary for the catalogue.
    pub about: Option<String>,
    /// The team responsible for the events.
    pub owner: Option<String>,
    /// The known consumers.
    pub consumers: Vec<String>,
    /// Position in the rule file.
    pub place: FilePosition,
}

/// Where the application writes events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutboxOrigin {
    /// Rows inserted into a table.
    Table {
        /// The table.
        table: TableName,
        /// Its columns.
        columns: OutboxColumns,
    },
    /// Transactional logical messages with this prefix.
    Messages(String),
}

/// The columns of an outbox table, by role. Defaults as in Debezium's outbox event router.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxColumns {
    /// The event's id.
    pub id: String,
    /// The kind of entity.
    pub aggregatetype: String,
    /// The entity's id: subject and partition key.
    pub aggregateid: String,
    /// The event type.
    pub kind: String,
    /// The event's data.
    pub payload: String,
    /// The event's time. The flag is whether the rule configures the column, which must then exist.
    pub timestamp: (String, bool),
}

impl Default for OutboxColumns {
    fn default() -> Self {
        Self {
            id: "id".into(),
            aggregatetype: "aggregatetype".into(),
            aggregateid: "aggregateid".into(),
            kind: "type".into(),
            payload: "payload".into(),
            timestamp: ("timestamp".into(), false),
        }
    }
}

impl Outbox {
    /// Whether its events are logical messages instead of rows of a table.
    pub const fn reads_messages(&self) -> bool {
        matches!(self.origin, OutboxOrigin::Messages(_))
    }

    /// A name for error messages: the table, or `messages event:`.
    pub fn name(&self) -> String {
        match &self.origin {
            OutboxOrigin::Table { table, .. } => table.to_string(),
            OutboxOrigin::Messages(prefix) => format!("messages {prefix}"),
        }
    }
}
