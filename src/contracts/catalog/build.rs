//! Builds the page's view from the model of what is published and the locked contracts.

use serde_json::{Map, Value, json};

use super::differences::Differences;
use super::view::{Attribute, Deprecated, Domain, EventArticle, Fact, Group, Link, Major, Page, Version};
use super::words::anchor;
use super::{fields, outboxes};
use crate::contracts::check;
use crate::contracts::document;
use crate::contracts::envelope::ATTRIBUTES;
use crate::contracts::lock::{self, Lock};
use crate::contracts::model::{self, Model};
use crate::contracts::own::{OWN_EVENTS, OwnEvent};
use crate::contracts::shape;

/// Folder of the open schemas beside the page.
pub const SCHEMAS: &str = "schemas";

/// The AsyncAPI document beside the page.
pub const ASYNCAPI: &str = "asyncapi.json";

/// The page of everything published to a stream.
pub fn page(name: &str, stream: &str, model: &Model, lock: &Lock) -> Page {
    let catalog = Catalog { model, lock };
    let mut domains: Vec<Domain> = Vec::new();
    for stem in catalog.stems() {
        let (word, label) = stem.split_once('.').unwrap_or((stem, stem));
        let at = domains.iter().position(|domain| domain.name == word).unwrap_or_else(|| {
            domains.push(Domain {
                name: word.to_owned(),
                groups: Vec::new(),
                events: Vec::new(),
                automatic: Vec::new(),
            });
            domains.len() - 1
        });
        let events = catalog.majors(stem);
        let major = |event: &&model::EventModel| Major {
            name: event.event_type.clone(),
            anchor: anchor(&event.event_type),
            major: event.major,
            deprecated: event.deprecated.is_some(),
        };
        if let Some(domain) = domains.get_mut(at) {
            domain.groups.push(Group {
                stem: stem.to_owned(),
                label: label.to_owned(),
                automatic: events.iter().all(|event| event.automatic),
                versions: events.iter().map(major).collect(),
            });
            let (automatic, others): (Vec<_>, Vec<_>) = events.into_iter().partition(|event| event.automatic);
            domain.events.extend(others.into_iter().map(|event| catalog.event(event)));
            domain.automatic.extend(automatic.into_iter().map(|event| catalog.event(event)));
        }
    }
    let attribute = |attribute: &crate::contracts::envelope::Attribute| Attribute {
        name: attribute.name.to_owned(),
        meaning: attribute.meaning.to_owned(),
        optional: !attribute.always,
    };
    let own = |event: &OwnEvent| Attribute {
        name: event.name.to_owned(),
        meaning: event.meaning.to_owned(),
        optional: event.opt_in,
    };
    Page {
        name: name.to_owned(),
        source: model.source.clone(),
        stream: stream.to_owned(),
        asyncapi: ASYNCAPI.to_owned(),
        summary: summary(model),
        domains,
        outboxes: outboxes::sources(model),
        envelope: ATTRIBUTES.iter().map(attribute).collect(),
        own: OWN_EVENTS.iter().map(own).collect(),
    }
}

fn summary(model: &Model) -> String {
    let count =
        |wanted: fn(&model::EventModel) -> bool| model.events.iter().filter(|event| wanted(event)).count();
    let automatic = count(|event| event.automatic);
    let deprecated = count(|event| event.deprecated.is_some());
    let all = model.events.len();
    let mut text = format!("{all} event {}", if all == 1 { "type" } else { "types" });
    let applications = count(|event| event.payload.is_some());
    let rules = all - automatic - applications;
    if automatic == all && all > 0 {
        text.push_str(", all automatic");
    } else if rules < all {
        let makers = [(rules, "from rules"), (applications, "from applications"), (automatic, "automatic")];
        let makers: Vec<String> = makers
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, how)| format!("{count} {how}"))
            .collect();
        text = format!("{text}: {}", makers.join(", "));
    }
    if deprecated > 0 {
        text = format!("{text}; {deprecated} deprecated");
    }
    text + "."
}

struct Catalog<'a> {
    model: &'a Model,
    lock: &'a Lock,
}

impl<'a> Catalog<'a> {
    /// The stems of all events, each once, in the model's order.
    fn stems(&self) -> Vec<&'a str> {
        let mut stems: Vec<&str> = Vec::new();
        for event in &self.model.events {
            if !stems.contains(&event.stem.as_str()) {
                stems.push(&event.stem);
            }
        }
        stems
    }

    /// The major versions of an event, newest first.
    fn majors(&self, stem: &str) -> Vec<&'a model::EventModel> {
        let mut events: Vec<_> = self.model.events.iter().filter(|event| event.stem == stem).collect();
        events.sort_by_key(|event| std::cmp::Reverse(event.major));
        events
    }

    fn link(&self, name: &str) -> Link {
        Link { name: name.to_owned(), anchor: anchor(name), known: self.model.event(name).is_some() }
    }

    /// The locked minor versions of one major version, oldest first.
    fn locked(&self, event_type: &str) -> &'a [(u32, Value)] {
        self.lock.of(event_type).map_or(&[], |locked| &locked.versions)
    }

    fn event(&self, event: &model::EventModel) -> EventArticle {
        let locked = self.locked(&event.event_type);
        let newest = locked.last().map(|(_, schema)| schema);
        let current = data_schema(event, newest);
        let changed = locked.last().is_some_and(|(_, last)| !Differences::between(last, &current).is_empty());
        let contract = match locked.last() {
            Some((minor, _)) if changed => format!("{}.{minor} is locked, changed since", event.major),
            Some((minor, _)) => format!("locked as {}.{minor}", event.major),
            None if event.automatic => "best effort: follows its table".to_owned(),
            None => "not locked yet".to_owned(),
        };
        let (prefix, word) = match event.stem.rsplit_once('.') {
            Some((prefix, word)) => (format!("{prefix}."), word),
            None => (String::new(), event.stem.as_str()),
        };
        let minor = locked.last().map(|(minor, _)| *minor);
        EventArticle {
            name: event.event_type.clone(),
            anchor: anchor(&event.event_type),
            stem: event.stem.clone(),
            prefix,
            word: word.to_owned(),
            major: event.major,
            automatic: event.automatic,
            deprecated: event.deprecated.as_ref().map(|deprecated| Deprecated {
                since: deprecated.since.clone(),
                sunset: deprecated.sunset.clone().unwrap_or_default(),
                instead: deprecated.instead.as_deref().map(|instead| self.link(instead)),
            }),
            about: event.about.clone().unwrap_or_default(),
            owner: event.owner.clone().unwrap_or_default(),
            consumers: event.consumers.join(", "),
            contract,
            schema: minor.map(|minor| schema_link(&event.stem, event.major, minor)).unwrap_or_default(),
            terms: terms(event),
            has_personal: event.fields.iter().any(|field| field.hmac),
            fields: fields::rows(event, locked, self.model.hmac_key.as_deref()),
            order: order(event),
            derived_from: event
                .origins
                .iter()
                .find_map(|origin| origin.from_event.as_deref())
                .map(|name| self.link(name)),
            facts: facts(event),
            no_fields: match &event.payload {
                Some(_) => "The payload's schema lists no fields.".to_owned(),
                None => "No fields.".to_owned(),
            },
            example: self.model.example(event, minor).map(|whole| example(event, &whole)).unwrap_or_default(),
            versions: self.versions(event, &current, changed),
        }
    }

    /// The differences from the previous version; empty if there is only one.
    fn versions(&self, event: &model::EventModel, current: &Value, changed: bool) -> Vec<Version> {
        let locked = self.locked(&event.event_type);
        let mut steps: Vec<(String, String, &Value)> = Vec::new();
        for (minor, schema) in locked {
            let number = format!("{}.{minor}", event.major);
            let note = self.accepted(&event.event_type, &number);
            steps.push((number, note, schema));
        }
        let not_locked = || "not locked yet".to_owned();
        if locked.is_empty() {
            steps.push((format!("{}", event.major), not_locked(), current));
        } else if changed {
            let next = locked.last().map_or(0, |(minor, _)| minor.saturating_add(1));
            steps.push((format!("{}.{next}", event.major), not_locked(), current));
        }
        let older = event.major.checked_sub(1).and_then(|major| self.newest(&event.stem, major));
        let mut before = older.as_ref();
        let mut versions = Vec::new();
        for (number, note, schema) in steps {
            let differences = before.map(|before| Differences::between(before, schema)).unwrap_or_default();
            versions.push(Version { number, anchor: String::new(), note, differences });
            before = Some(schema);
        }
        versions.reverse();
        versions.extend(self.majors(&event.stem).into_iter().filter(|other| other.major != event.major).map(
            |other| Version {
                number: format!("v{}", other.major),
                anchor: anchor(&other.event_type),
                note: other_note(event.major, other),
                differences: Differences::default(),
            },
        ));
        if versions.len() == 1 && versions.iter().all(|version| version.differences.is_empty()) {
            versions.clear();
        }
        versions
    }

    /// The change of meaning that begins with a version, and why it was accepted. Empty if the meaning did
    /// not change.
    fn accepted(&self, event_type: &str, number: &str) -> String {
        let meaning = self.lock.of(event_type).and_then(|locked| locked.meaning.as_ref());
        let all = meaning.map(|meaning| meaning.accepted.as_slice()).unwrap_or_default();
        let reasons = all.iter().filter(|accepted| accepted.version == number).map(|accepted| {
            format!(
                "another meaning since {}: {} ({})",
                accepted.on,
                accepted.changes.join("; "),
                accepted.reason
            )
        });
        reasons.collect::<Vec<_>>().join("; ")
    }

    /// The newest schema of a major version: the published one or the locked one.
    fn newest(&self, stem: &str, major: u32) -> Option<Value> {
        let locked = self.locked(&format!("{stem}.v{major}")).last().map(|(_, schema)| schema);
        let published = self.majors(stem).into_iter().find(|event| event.major == major);
        published.map(|event| data_schema(event, locked)).or_else(|| locked.cloned())
    }
}

fn other_note(major: u32, other: &model::EventModel) -> String {
    let age = if other.major > major { "newer" } else { "older" };
    match &other.deprecated {
        Some(_) => format!("{age}, deprecated"),
        None => age.to_owned(),
    }
}

/// The schema of `data` for consumers. It is open, because fields may be added. `locked`: the newest locked
/// version.
pub fn data_schema(event: &model::EventModel, locked: Option<&Value>) -> Value {
    if let Some(payload) = &event.payload {
        let given = Value::Object(payload.schema.clone());
        return locked.map_or(given.clone(), |locked| check::next_of_given(locked, &given));
    }
    let properties: Map<String, Value> =
        event.fields.iter().map(|field| (field.name.clone(), document::property(field).into())).collect();
    // Older events lack the fields that a minor version added.
    let always = locked.and_then(|locked| locked.get("required")?.as_array());
    let required = |field: &&model::FieldModel| {
        let was = |names: &Vec<Value>| names.iter().any(|name| name.as_str() == Some(field.name.as_str()));
        !field.optional && always.is_none_or(was)
    };
    let required: Vec<&str> = event.fields.iter().filter(required).map(|field| field.name.as_str()).collect();
    json!({"type": "object", "properties": properties, "required": required})
}

/// Address of an open schema beside the page.
fn schema_link(stem: &str, major: u32, minor: u32) -> String {
    lock::url(SCHEMAS, stem, major, minor)
}

/// Words that the search finds in addition to the text: the JSON types of the fields.
fn terms(event: &model::EventModel) -> String {
    let mut terms: Vec<&str> = Vec::new();
    for one in event.fields.iter().flat_map(|field| shape::types(&field.schema)) {
        if !terms.contains(&one) {
            terms.push(one);
        }
    }
    terms.join(" ")
}

/// An example event, with its attributes in order, one a line.
fn example(event: &model::EventModel, whole: &Value) -> String {
    let fields: Vec<&str> = event.fields.iter().map(|field| field.name.as_str()).collect();
    let attributes: Vec<&str> = ATTRIBUTES.iter().map(|attribute| attribute.name).chain(["data"]).collect();
    object(whole, &attributes, 0, &|name, value| {
        if name == "data" {
            object(value, &fields, 1, &|_, value| value.to_string())
        } else {
            value.to_string()
        }
    })
}

/// An indented object: first the members of `order`, then the others.
fn object(value: &Value, order: &[&str], depth: usize, member: &dyn Fn(&str, &Value) -> String) -> String {
    let Some(members) = value.as_object().filter(|members| !members.is_empty()) else {
        return value.to_string();
    };
    let mut names: Vec<&String> = members.keys().collect();
    names.sort_by_key(|name| order.iter().position(|known| known == name).unwrap_or(order.len()));
    let indent = "  ".repeat(depth);
    let lines = names.iter().filter_map(|name| {
        let value = members.get(*name)?;
        Some(format!("{indent}  {}: {}", Value::from(name.as_str()), member(name, value)))
    });
    format!("{{\n{}\n{indent}}}", lines.collect::<Vec<_>>().join(",\n"))
}

/// Order and key in one sentence.
fn order(event: &model::EventModel) -> String {
    let mut sentences: Vec<String> = Vec::new();
    for origin in &event.origins {
        let parts: Vec<&str> = origin.order.key.iter().map(|part| part.text.as_str()).collect();
        let key = parts.join(" and ");
        let sentence = if origin.outbox.is_some() && origin.table.is_empty() {
            "Messages with the same key are in commit order. The key is the partition key and the \
             subject. A message without a key has its event id as the key."
                .to_owned()
        } else if origin.on == "truncate" {
            "The order relative to row events is not guaranteed; compare sequence.".to_owned()
        } else if parts.is_empty() {
            "The table has no key, so each event has its id as the key: their order is not guaranteed; \
             compare sequence."
                .to_owned()
        } else {
            let subject = origin.order.subject.as_deref().map_or_else(
                || "the partition key and the subject".to_owned(),
                |subject| format!("the partition key; the subject is {subject}"),
            );
            let (it, is) = if parts.len() > 1 { ("they", "are") } else { ("it", "is") };
            format!("Events with the same {key} are in commit order: {it} {is} {subject}.")
        };
        if !sentences.contains(&sentence) {
            sentences.push(sentence);
        }
    }
    sentences.join(" ")
}

/// The origin of an event, line by line.
fn facts(event: &model::EventModel) -> Vec<Fact> {
    let mut facts: Vec<Fact> = Vec::new();
    for origin in &event.origins {
        let mut code =
            |name: &str, text: String| facts.push(Fact { name: name.to_owned(), text, code: true });
        if !origin.table.is_empty() {
            code("Table", origin.table.clone());
            code("On", origin.on.clone());
        }
        if let (Some(outbox), true) = (&origin.outbox, origin.table.is_empty()) {
            code("Outbox", outbox.clone());
        }
        for condition in &origin.when {
            code("When", condition.clone());
        }
        if let Some(time) = &origin.order.time {
            code("Time", time.clone());
        }
        let mut add = |name: &str, text: &str| {
            facts.push(Fact { name: name.to_owned(), text: text.to_owned(), code: false });
        };
        if origin.order.time.is_none() {
            add("Time", "commit time");
        }
        match origin.order.id.as_str() {
            "change" if origin.table.is_empty() => add("Id", "one for each message"),
            "change" => add("Id", "one for each change"),
            "key" => add("Id", "one for each row"),
            sql => facts.push(Fact { name: "Id".to_owned(), text: sql.to_owned(), code: true }),
        }
    }
    let mut columns: Vec<&str> = Vec::new();
    for column in event.fields.iter().flat_map(|field| &field.columns) {
        if !columns.contains(&column.as_str()) {
            columns.push(column);
        }
    }
    if !columns.is_empty() {
        facts.push(Fact { name: "Columns".to_owned(), text: columns.join(", "), code: true });
    }
    facts
}
