//! `outbox = "shop.outbox"` and `messages = "event:"`: the application has made the event, in a table or in a logical message.

use std::sync::Arc;

use toml_edit::Item;

use super::error::Place;
use super::file::Reader;
use super::schemas::Schemas;
use super::template::Template;
use crate::config::TableName;

/// Keys of an `[[event]]` that is an outbox.
pub(super) const KEYS: [&str; 8] =
    ["outbox", "messages", "columns", "type", "schemas", "about", "owner", "consumers"];

/// Longest prefix of messages, in bytes.
const PREFIX_MAX: usize = 64;

/// One `[[event]]` that names no event of its own: its rows or messages do.
#[derive(Clone, Debug)]
pub struct Outbox {
    /// Where the application puts its events.
    pub origin: OutboxOrigin,
    /// How an event's type is made.
    pub template: Template,
    /// What payloads must be, by event type; where no folder is given, there is none.
    pub schemas: Arc<Schemas>,
    /// The folder of the schemas, as it is written, and where.
    pub schemas_in: Option<(String, Place)>,
    /// The sentence a reader sees first.
    pub about: Option<String>,
    /// Who answers for its events.
    pub owner: Option<String>,
    /// Who is known to read them.
    pub consumers: Vec<String>,
    /// Where it stands.
    pub place: Place,
}

/// Where the application puts its events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutboxOrigin {
    /// Rows that are inserted into a table.
    Table {
        /// The table.
        table: TableName,
        /// Its columns.
        columns: OutboxColumns,
    },
    /// Transactional logical messages whose prefix begins like this.
    Messages(String),
}

/// The columns of an outbox table, by what they hold. The defaults are those of Debezium.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxColumns {
    /// The event's id.
    pub id: String,
    /// What kind of thing the event is about.
    pub aggregatetype: String,
    /// Which one: subject and partition key.
    pub aggregateid: String,
    /// What has happened.
    pub kind: String,
    /// The event's data.
    pub payload: String,
    /// When it happened; the flag says whether somebody has named it, so that it must be there.
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
    /// What it is called where it has no event type: its table, or `messages event:`.
    pub fn name(&self) -> String {
        match &self.origin {
            OutboxOrigin::Table { table, .. } => table.to_string(),
            OutboxOrigin::Messages(prefix) => format!("messages {prefix}"),
        }
    }
}

impl Reader<'_> {
    pub(super) fn is_outbox(&self) -> bool {
        self.table.contains_key("outbox") || self.table.contains_key("messages")
    }

    pub(super) fn outbox(&mut self) -> Option<Outbox> {
        let before = self.errors.len();
        let start = self.table.span().map_or(0, |span| span.start);
        let (outbox, messages) = (self.text("outbox"), self.text("messages"));
        let named = outbox.as_ref().or(messages.as_ref());
        let place = named.map_or_else(|| self.place(start), |text| text.place.clone());
        self.event = named.map(|text| text.text.clone());
        self.unknown_keys(&KEYS);
        let columns = self.columns();
        let origin = match (outbox, messages) {
            (Some(_), Some(other)) => {
                self.wrong_at(other.place, "an outbox is a table or messages, not both");
                None
            }
            (Some(table), None) => {
                let name =
                    TableName::parse(&table.text).map_err(|message| self.wrong_at(table.place, message)).ok();
                name.map(|table| OutboxOrigin::Table { table, columns })
            }
            (None, Some(prefix)) => {
                if self.table.contains_key("columns") {
                    self.wrong("columns", "messages have no columns");
                }
                prefix_is_good(&prefix.text).map_err(|message| self.wrong_at(prefix.place, message)).ok()?;
                Some(OutboxOrigin::Messages(prefix.text))
            }
            (None, None) => None,
        };
        let template = self.template(matches!(origin, Some(OutboxOrigin::Messages(_))));
        let outbox = Outbox {
            template: template?,
            schemas: Arc::default(),
            schemas_in: self.text("schemas").map(|text| (text.text, text.place)),
            about: self.text("about").map(|text| text.text),
            owner: self.text("owner").map(|text| text.text),
            consumers: self.texts("consumers"),
            origin: origin?,
            place,
        };
        (self.errors.len() == before).then_some(outbox)
    }

    fn template(&mut self, of_messages: bool) -> Option<Template> {
        let default = if of_messages { "{type}" } else { "{aggregatetype}.{type}" };
        let Some(text) = self.text("type") else { return Template::parse(default).ok() };
        let template =
            Template::parse(&text.text).map_err(|message| self.wrong_at(text.place.clone(), message)).ok()?;
        if of_messages && template.needs_aggregate() {
            self.wrong_at(
                text.place,
                "messages have no {aggregatetype}; their type is in their prefix: {type}",
            );
            return None;
        }
        Some(template)
    }

    fn columns(&mut self) -> OutboxColumns {
        let mut columns = OutboxColumns::default();
        let Some(item) = self.table.get("columns") else { return columns };
        let Some(table) = item.as_table_like() else {
            self.wrong("columns", "write columns = { id = \"event_id\", payload = \"body\" }");
            return columns;
        };
        for (key, item) in table.iter() {
            let Some(name) = Item::as_str(item).filter(|name| !name.is_empty()) else {
                self.wrong("columns", format!("{key} must be the name of a column, in quotes"));
                continue;
            };
            let slot = match key {
                "id" => &mut columns.id,
                "aggregatetype" => &mut columns.aggregatetype,
                "aggregateid" => &mut columns.aggregateid,
                "type" => &mut columns.kind,
                "payload" => &mut columns.payload,
                "timestamp" => {
                    columns.timestamp.1 = true;
                    &mut columns.timestamp.0
                }
                _ => {
                    let known = "id, aggregatetype, aggregateid, type, payload, timestamp";
                    self.wrong("columns", format!("unknown column {key:?}; known are {known}"));
                    continue;
                }
            };
            name.clone_into(slot);
        }
        columns
    }
}

fn prefix_is_good(prefix: &str) -> Result<(), String> {
    if prefix.len() > PREFIX_MAX || prefix.chars().any(char::is_control) {
        return Err(format!("a prefix has at most {PREFIX_MAX} bytes and no control characters"));
    }
    if prefix.starts_with("forebay:") || "forebay:".starts_with(prefix) {
        return Err(format!("{prefix:?}: prefixes that begin with \"forebay:\" are Forebay's own"));
    }
    Ok(())
}
