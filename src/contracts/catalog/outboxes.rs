//! Outboxes on the page: where events come from whose types only the application knows.

use crate::contracts::model::Model;
use crate::rules::{Outbox, OutboxOrigin};

use super::build::anchor;
use super::view::{Fact, Link, Source};

pub(super) fn sources(model: &Model) -> Vec<Source> {
    model.rules.outboxes.iter().map(source).collect()
}

fn source(outbox: &Outbox) -> Source {
    let name = outbox.name();
    let types = outbox.schemas.iter().map(|schema| {
        let name = schema.event_type.as_str();
        Link { name: name.to_owned(), anchor: anchor(name), known: true }
    });
    Source {
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
            fact("Key", "behind the type; without one, each event is a key of its own".to_owned(), false),
            fact("Id", "one for each message".to_owned(), false),
            fact("Data", "the message's content".to_owned(), false),
        ],
    }
}
