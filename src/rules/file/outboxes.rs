//! Reads an `[[event]]` that defines an outbox.

use std::sync::Arc;

use toml_edit::Item;

use super::reader::RuleReader;
use crate::config::TableName;
use crate::rules::outbox::{Outbox, OutboxColumns, OutboxOrigin};
use crate::rules::template::Template;

/// Keys of an `[[event]]` that defines an outbox.
pub(super) const KEYS: [&str; 8] =
    ["outbox", "messages", "columns", "type", "schemas", "about", "owner", "consumers"];

/// Longest prefix of logical messages, in bytes.
const PREFIX_MAX: usize = 64;

impl RuleReader<'_> {
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
                self.wrong_at(other.place, ("outbox and messages exclude each other", "remove one of them"));
                None
            }
            (Some(table), None) => {
                let name =
                    TableName::parse(&table.text).map_err(|message| self.wrong_at(table.place, message)).ok();
                name.map(|table| OutboxOrigin::Table { table, columns })
            }
            (None, Some(prefix)) => {
                if self.table.contains_key("columns") {
                    self.wrong("columns", ("a messages outbox has no columns", "remove the key"));
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
                "a messages outbox has no {aggregatetype}; the prefix names only {type}",
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
                self.wrong("columns", format!("{key} must be a column name in quotes"));
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
                    self.wrong(
                        "columns",
                        (format!("unknown column {key:?}"), format!("valid keys are {known}")),
                    );
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
        return Err(format!("a prefix must have at most {PREFIX_MAX} bytes and no control characters"));
    }
    if prefix.starts_with("forebay:") || "forebay:".starts_with(prefix) {
        return Err(format!("{prefix:?}: prefixes that begin with \"forebay:\" are reserved"));
    }
    Ok(())
}
