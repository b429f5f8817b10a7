//! Outboxes on the page: events whose types the application names.

use crate::contracts::model::Model;
use crate::rules::{Outbox, OutboxOrigin};

use super::view::{Fact, Link, OutboxArticle};
use super::words::anchor;

pub(super) fn sources(model: &Model) -> Vec<OutboxArticle> {
    model.rules.outboxes.iter().map(source).collect()
}

fn source(outbox: &Outbox) -> OutboxArticle {
    let name = outbox.name();
    let types = outbox.schemas.iter().map(|schema| {
        let name = schema.event_type.as_str();
        Link { name: name.to_owned(), anchor: anchor(name), known: true }
    });
    OutboxArticle {
        anchor: format!("outbox:{}", anchor(&name)),
        about: outbox.about.clone().unwrap_or_default(),
        owner: outbox.owner.clone().unwrap_or_default(),
        consumers: outbox.consumers.join(", "),
        form: outbox.template.to_string(),
        types: types.collect(),
        facts: facts(outbox),
        name,
    }
}

fn facts(outbox: &Outbox) -> Vec<Fact> {
    let fact = |name: &str, text: String, code: bool| Fact { name: name.to_owned(), text, code };
    match &outbox.origin {
        OutboxOrigin::Table { table, columns } => vec![
            fact("Table", table.to_string(), true),
            fact("On", "insert".to_owned(), true),
            fact("Type", columns.kind.clone(), true),
            fact("Key", columns.aggregateid.clone(), true),
            fact("Id", columns.id.clone(), true),
            fact("Data", columns.payload.clone(), true),
        ],
        OutboxOrigin::Messages(prefix) => vec![
            fact("Message", format!("{prefix}<type>:<key>"), true),
            fact("Type", "in the message's prefix".to_owned(), false),
            fact("Key", "after the type; without one, the event id is the key".to_owned(), false),
            fact("Id", "one for each message".to_owned(), false),
            fact("Data", "the message's content".to_owned(), false),
        ],
    }
}
