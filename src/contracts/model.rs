//! A model of everything that is published, made from rules and tables. It is locked, compared, and shown in
//! the catalogue.

mod automatic;
mod basis;
mod example;
mod given;

use std::sync::Arc;

use serde_json::{Value, json};

use crate::change::{Described, Relation};
use crate::config::TableName;
use crate::expression::Expression;
use crate::rules::{
    Deprecated, FilePosition, IdRule, Origin as RuleOrigin, Rule, RuleError, RuleErrors, Rules, Trigger,
    Wrong,
};
use crate::translate::TranslateSettings;
use crate::translate::mapped::{self, Operations};

use super::meaning::{self, MeaningSource};
use super::shape::{self, Schema};

/// All events that are known to be published: events of rules in their order, then outbox events with a
/// schema, then automatic events, both by type.
#[derive(Clone, Debug)]
pub struct Model {
    /// The CloudEvents source.
    pub source: String,
    /// Base address of the schemas (`events.schemas`).
    pub schemas: Option<String>,
    /// The configured name of the pseudonym key.
    pub hmac_key: Option<String>,
    /// The rules.
    pub rules: Arc<Rules>,
    /// The events, one for each type.
    pub events: Vec<EventModel>,
    basis: Arc<basis::Basis>,
}

/// One event type.
#[derive(Clone, Debug)]
pub struct EventModel {
    /// `lab.plate_completed.v2`.
    pub event_type: String,
    /// `lab.plate_completed`.
    pub stem: String,
    /// `2`.
    pub major: u32,
    /// Summary; for an automatic event, the table's comment.
    pub about: Option<String>,
    /// The responsible team.
    pub owner: Option<String>,
    /// The known consumers.
    pub consumers: Vec<String>,
    /// The deprecation.
    pub deprecated: Option<Deprecated>,
    /// Whether the event is automatic: its fields follow the table, without a guarantee.
    pub automatic: bool,
    /// The payload, for an event of an outbox.
    pub payload: Option<Payload>,
    /// The origins: several if several rules make the type.
    pub origins: Vec<Origin>,
    /// The fields of `data`, in order.
    pub fields: Vec<FieldModel>,
    /// Position of the rule in its file.
    pub place: Option<FilePosition>,
    /// Index of the rule, or of the first of several.
    pub rule: Option<usize>,
}

/// The payload of an outbox event.
#[derive(Clone, Debug)]
pub struct Payload {
    /// The outbox's schema.
    pub schema: Schema,
    /// An example: the schema's own or a generated one.
    pub example: Option<Value>,
    /// Path of the schema file.
    pub file: String,
}

/// The origin of an event, with its order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// `schema.table`; empty without a table.
    pub table: String,
    /// `insert, update of status`; empty without row changes.
    pub on: String,
    /// SQL conditions, which must all be true.
    pub when: Vec<String>,
    /// The source event of `from_event`.
    pub from_event: Option<String>,
    /// The outbox: its table, or `messages event:`.
    pub outbox: Option<String>,
    /// The order that consumers may rely on.
    pub order: Order,
    /// Its meaning, as it is locked.
    pub source: MeaningSource,
}

/// How an event's key, subject, time and id are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// The parts of the partition key. Empty: the event id.
    pub key: Vec<KeyPart>,
    /// SQL; `None`: the key.
    pub subject: Option<String>,
    /// SQL; `None`: the commit time.
    pub time: Option<String>,
    /// `change`, `key`, or SQL.
    pub id: String,
}

/// One part of a partition key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPart {
    /// SQL, usually a column.
    pub text: String,
    /// Its SQL type.
    pub sql_type: String,
}

/// One field of `data`.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldModel {
    /// Its name.
    pub name: String,
    /// JSON Schema of the values other than null.
    pub schema: Schema,
    /// Its SQL type.
    pub sql_type: String,
    /// Whether it can be null.
    pub nullable: bool,
    /// Whether it can be absent: a value that the server did not send, listed in `unavailable`.
    pub optional: bool,
    /// The comment in the rule, or that of the column.
    pub meaning: Option<String>,
    /// The columns it is computed from.
    pub columns: Vec<String>,
    /// Whether it is a pseudonym, made by `hmac()` from personal data.
    pub hmac: bool,
    /// An example value.
    pub example: Value,
}

impl Model {
    /// Models the events of these tables, which must include those that the rules read.
    ///
    /// # Errors
    /// All errors in the rules.
    pub fn new(
        source: &str,
        schemas: Option<&str>,
        settings: &TranslateSettings,
        tables: &[Described],
    ) -> Result<Self, RuleErrors> {
        let mut errors = missing(settings, tables);
        let mut found: Vec<(usize, EventModel)> = Vec::new();
        let mut automatic = Vec::new();
        for table in tables {
            let catalog = mapped::Catalog {
                source,
                pii: &settings.pii,
                // The contracts do not depend on the key, which is not available where they are checked.
                has_hmac_key: true,
                automatic: settings.automatic,
                schemas: &settings.schemas,
                contracts: None,
            };
            match mapped::compile(&settings.rules, &table.relation, &catalog) {
                Ok(plan) => {
                    for event in plan.iter().flat_map(mapped::RulePlan::events) {
                        if let Some(rule) = settings.rules.events.get(event.rule) {
                            let root = settings.rules.events.get(event.root).unwrap_or(rule);
                            let key = settings.pii.hmac_key_id.as_deref();
                            found.push((event.rule, of_rule((rule, root), event, table, key)));
                        }
                    }
                    let mapped = plan.map_or_else(Operations::default, |plan| plan.mapped());
                    automatic.extend(automatic::events(settings, table, mapped));
                }
                Err(wrong) => errors.extend(wrong.0),
            }
        }
        let given = given::events(settings, tables).unwrap_or_else(|wrong| {
            errors.extend(wrong);
            Vec::new()
        });
        if !errors.is_empty() {
            return Err(RuleErrors(errors));
        }
        found.sort_by_key(|(rule, _)| *rule);
        automatic.sort_by(|a, b| a.event_type.cmp(&b.event_type));
        let mut events: Vec<EventModel> = Vec::new();
        for event in found.into_iter().map(|(_, event)| event).chain(given).chain(automatic) {
            match events.iter_mut().find(|other| other.event_type == event.event_type) {
                Some(other) => other.join(event),
                None => events.push(event),
            }
        }
        inherit_meanings(&mut events);
        Ok(Self {
            source: source.to_owned(),
            schemas: schemas.map(str::to_owned),
            hmac_key: settings.pii.hmac_key_id.clone(),
            rules: Arc::clone(&settings.rules),
            events,
            basis: Arc::new(basis::Basis::new(settings, tables)),
        })
    }

    /// The event of a type.
    pub fn event(&self, event_type: &str) -> Option<&EventModel> {
        self.events.iter().find(|event| event.event_type == event_type)
    }

    /// An example event; `None` if no valid example is known.
    pub fn example(&self, event: &EventModel, minor: Option<u32>) -> Option<Value> {
        example::event(self, event, minor)
    }
}

impl EventModel {
    /// Its meaning: one source for each origin.
    pub fn sources(&self) -> Vec<MeaningSource> {
        self.origins.iter().map(|origin| origin.source.clone()).collect()
    }

    /// An example of `data`; `None` if no valid example is known.
    pub fn example_data(&self) -> Option<Value> {
        if let Some(payload) = &self.payload {
            return payload.example.clone();
        }
        let fields = self.fields.iter().map(|field| (field.name.clone(), field.example.clone()));
        Some(fields.collect::<Schema>().into())
    }

    /// Adds another rule's event of the same type.
    fn join(&mut self, other: Self) {
        for mine in &mut self.fields {
            match other.fields.iter().find(|theirs| theirs.name == mine.name) {
                Some(theirs) => mine.join(theirs),
                None => mine.optional = true,
            }
        }
        for theirs in other.fields {
            if !self.fields.iter().any(|mine| mine.name == theirs.name) {
                self.fields.push(FieldModel { optional: true, ..theirs });
            }
        }
        self.origins.extend(other.origins);
        self.about = self.about.take().or(other.about);
        self.owner = self.owner.take().or(other.owner);
        self.deprecated = self.deprecated.take().or(other.deprecated);
        for consumer in other.consumers {
            if !self.consumers.contains(&consumer) {
                self.consumers.push(consumer);
            }
        }
    }
}

impl FieldModel {
    /// The schema of the values including null.
    pub fn value_schema(&self) -> Schema {
        if self.nullable { shape::or_null(self.schema.clone()) } else { self.schema.clone() }
    }

    fn join(&mut self, other: &Self) {
        self.schema = shape::either(std::mem::take(&mut self.schema), &other.schema);
        if self.sql_type != other.sql_type {
            self.sql_type = format!("{} or {}", self.sql_type, other.sql_type);
        }
        self.nullable |= other.nullable;
        self.optional |= other.optional;
        self.hmac |= other.hmac;
        for column in &other.columns {
            if !self.columns.contains(column) {
                self.columns.push(column.clone());
            }
        }
        self.meaning = self.meaning.take().or_else(|| other.meaning.clone());
    }
}

/// Tables that rules read and that are not described.
fn missing(settings: &TranslateSettings, tables: &[Described]) -> Vec<RuleError> {
    let known = |name: &TableName| {
        tables.iter().any(|t| t.relation.schema == name.schema && t.relation.table == name.table)
    };
    let rules = settings.rules.events.iter().filter_map(|rule| match &rule.origin {
        RuleOrigin::Table { from, .. } if !known(from) => Some(RuleError::new(
            Some(rule.place.clone()),
            Some(rule.event_type.to_string()),
            nothing_known(from),
        )),
        _ => None,
    });
    rules.collect()
}

fn nothing_known(table: &TableName) -> Wrong {
    let message = format!("the columns of {table} are unknown");
    (message, "Run `forebay events lock` to read them from the database.").into()
}

fn of_rule(
    (rule, root): (&Rule, &Rule),
    event: &mapped::CompiledRule,
    table: &Described,
    hmac_key: Option<&str>,
) -> EventModel {
    let relation = &table.relation;
    let triggers: &[Trigger] = if let RuleOrigin::Table { on, .. } = &root.origin { on } else { &[] };
    let has = |wanted: fn(&Trigger) -> bool| triggers.iter().any(wanted);
    let sends = Sends {
        inserts_only: !has(|trigger| *trigger != Trigger::Insert),
        deletes: has(|trigger| *trigger == Trigger::Delete),
    };
    let texts = |text: &Option<crate::rules::SourceText>| text.as_ref().map(|text| one_line(&text.text));
    let mut when: Vec<String> = texts(&root.when).into_iter().collect();
    if !std::ptr::eq(rule, root) {
        when.extend(texts(&rule.when));
    }
    // A condition over personal data can name a person in its text.
    for (text, condition) in when.iter_mut().zip(event.conditions()) {
        if let Some(column) = condition.tagged() {
            *text = format!("a condition on {column}, which is personal data");
        }
    }
    let origin = Origin {
        table: relation.name(),
        on: triggers.iter().map(words).collect::<Vec<_>>().join(", "),
        when,
        from_event: match &rule.origin {
            RuleOrigin::Event(parent) => Some(parent.to_string()),
            RuleOrigin::Table { .. } => None,
        },
        outbox: None,
        order: Order {
            key: key_parts(event, root),
            subject: texts(&root.subject),
            time: texts(&root.time),
            id: match &root.id {
                IdRule::Change => "change".to_owned(),
                IdRule::Key => "key".to_owned(),
                IdRule::Given(text) => one_line(&text.text),
            },
        },
        source: meaning::of_rule((rule, root), event, table, hmac_key),
    };
    EventModel {
        event_type: rule.event_type.to_string(),
        stem: rule.event_type.stem().to_owned(),
        major: rule.event_type.major(),
        about: rule.about.clone(),
        owner: rule.owner.clone(),
        consumers: rule.consumers.clone(),
        deprecated: rule.deprecated.clone(),
        automatic: false,
        payload: None,
        origins: vec![origin],
        fields: event.fields.iter().map(|field| of_field(field, table, &sends)).collect(),
        place: Some(rule.place.clone()),
        rule: Some(event.rule),
    }
}

/// The operations of an event, as far as they determine which values are present.
struct Sends {
    inserts_only: bool,
    deletes: bool,
}

fn of_field(field: &mapped::CompiledField, table: &Described, sends: &Sends) -> FieldModel {
    let value = &field.value;
    let mut columns = value.reads_new().to_vec();
    columns.extend(value.reads_old().iter().filter(|old| !value.reads_new().contains(old)).cloned());
    let base = &value.data_type().base;
    FieldModel {
        schema: shape::schema(value.kind(), base),
        sql_type: value.data_type().to_string(),
        nullable: value.is_nullable(),
        // An insert sends every value. A delete sends those of the replica identity.
        optional: !sends.inserts_only
            && (value.may_be_unavailable()
                || (sends.deletes && columns.iter().any(|column| !in_identity(&table.relation, column)))),
        meaning: field.meaning.clone().or_else(|| column_comment(value, table)),
        columns,
        hmac: value.uses_hmac(),
        example: if value.uses_hmac() {
            json!("p_3q2-7wABAgMEBQYH")
        } else {
            shape::example(value.kind(), base, &field.name)
        },
        name: field.name.clone(),
    }
}

fn in_identity(relation: &Relation, name: &str) -> bool {
    relation.columns.iter().any(|column| column.name == name && column.in_identity)
}

fn column_comment(value: &Expression, table: &Described) -> Option<String> {
    let name = value.column()?;
    let at = table.relation.columns.iter().position(|column| column.name == name)?;
    table.comments.get(at).cloned().flatten()
}

fn key_parts(event: &mapped::CompiledRule, root: &Rule) -> Vec<KeyPart> {
    let parts = event.key.iter().map(|part| KeyPart {
        text: part.column().map(str::to_owned).unwrap_or_default(),
        sql_type: part.data_type().base.to_string(),
    });
    let mut parts: Vec<KeyPart> = parts.collect();
    // If a part is not a column, the whole list is shown as it is written.
    if let (Some(text), true) = (&root.key, parts.iter().any(|part| part.text.is_empty())) {
        let types: Vec<String> = parts.into_iter().map(|part| part.sql_type).collect();
        parts = vec![KeyPart { text: one_line(&text.text), sql_type: types.join(", ") }];
    }
    parts
}

/// Fields without a description inherit that of the source event's field.
fn inherit_meanings(events: &mut [EventModel]) {
    let said: Vec<(String, String, String)> = events
        .iter()
        .flat_map(|event| {
            event.fields.iter().filter_map(|field| {
                Some((event.event_type.clone(), field.name.clone(), field.meaning.clone()?))
            })
        })
        .collect();
    for event in events {
        let Some(parent) = event.origins.iter().find_map(|origin| origin.from_event.clone()) else {
            continue;
        };
        for field in event.fields.iter_mut().filter(|field| field.meaning.is_none()) {
            let same = said.iter().find(|(of, name, _)| *of == parent && *name == field.name);
            field.meaning = same.map(|(_, _, meaning)| meaning.clone());
        }
    }
}

/// A trigger in the syntax of `on`.
pub(super) fn words(trigger: &Trigger) -> String {
    match trigger {
        Trigger::Insert => "insert".to_owned(),
        Trigger::Delete => "delete".to_owned(),
        Trigger::Update { of } if of.is_empty() => "update".to_owned(),
        Trigger::Update { of } => format!("update of {}", of.join(", ")),
    }
}

/// SQL on one line, without comments at line ends: layout is not part of a contract.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
pub(in crate::contracts) mod tests;
