//! Models of events from outboxes that have a schema.

use std::path::Path;

use serde_json::{Map, Value};

use crate::change::{Described, Relation};
use crate::contracts::meaning;
use crate::contracts::shape::{self, resolved};
use crate::rules::{Outbox, OutboxOrigin, RuleError, Schema as Given};
use crate::translate::TranslateSettings;
use crate::translate::outbox::OutboxPlan;
use crate::types::SqlType;

use super::{EventModel, FieldModel, KeyPart, Order, Origin, Payload, example};

/// The key of a message, which has no column.
const MESSAGE_KEY: &str = "key of the message";

/// The events of outboxes that have a schema, by type.
///
/// # Errors
/// An outbox's table is unknown or not valid.
pub(super) fn events(
    settings: &TranslateSettings,
    tables: &[Described],
) -> Result<Vec<EventModel>, Vec<RuleError>> {
    let (mut events, mut errors) = (Vec::new(), Vec::new());
    for outbox in &settings.rules.outboxes {
        match origin(settings, outbox, tables) {
            Ok(origin) => events.extend(outbox.schemas.iter().map(|schema| event(outbox, schema, &origin))),
            Err(wrong) => errors.extend(wrong),
        }
    }
    events.sort_by(|a, b| a.event_type.cmp(&b.event_type));
    if errors.is_empty() { Ok(events) } else { Err(errors) }
}

fn origin(
    settings: &TranslateSettings,
    outbox: &Outbox,
    tables: &[Described],
) -> Result<Origin, Vec<RuleError>> {
    let text = "text".to_owned();
    let (table, key, time, id, column) = match &outbox.origin {
        OutboxOrigin::Messages(_) => {
            (None, KeyPart { text: MESSAGE_KEY.to_owned(), sql_type: text }, None, "change".to_owned(), None)
        }
        OutboxOrigin::Table { table, .. } => {
            let is_it = |described: &&Described| {
                described.relation.schema == table.schema && described.relation.table == table.table
            };
            let Some(described) = tables.iter().find(is_it) else {
                let message = super::nothing_known(table);
                let (place, event) = (Some(outbox.place.clone()), Some(outbox.name()));
                return Err(vec![RuleError::new(place, event, message)]);
            };
            let (column, has_time) = facts(settings, &described.relation)?;
            let sql_type = column.as_ref().map(|column| column.base.to_string()).unwrap_or_default();
            let time = has_time.then(|| "timestamp".to_owned());
            (Some(table), KeyPart { text: "aggregateid".to_owned(), sql_type }, time, "id".to_owned(), column)
        }
    };
    Ok(Origin {
        source: meaning::of_outbox(&outbox.name(), column.as_ref()),
        table: table.map(ToString::to_string).unwrap_or_default(),
        on: if table.is_some() { "insert".to_owned() } else { String::new() },
        when: Vec::new(),
        from_event: None,
        outbox: Some(outbox.name()),
        order: Order { key: vec![key], subject: None, time, id },
    })
}

/// The type of the key column, and whether rows have a time. Columns are named by role, because consumers do
/// not see their names.
fn facts(
    settings: &TranslateSettings,
    relation: &Relation,
) -> Result<(Option<SqlType>, bool), Vec<RuleError>> {
    let plan = OutboxPlan::new(&settings.rules, relation, &settings.pii).map_err(|wrong| wrong.0)?;
    let key = plan.as_ref().and_then(|plan| relation.columns.get(plan.key()));
    let data_type = key.map(|column| column.data_type.clone());
    Ok((data_type, plan.is_some_and(|plan| plan.has_time())))
}

fn event(outbox: &Outbox, schema: &Given, origin: &Origin) -> EventModel {
    let says = |member: &str| schema.text.get(member).and_then(Value::as_str).map(str::to_owned);
    let name = &schema.event_type;
    EventModel {
        event_type: name.to_string(),
        stem: name.stem().to_owned(),
        major: name.major(),
        about: says("title").or_else(|| says("description")).or_else(|| outbox.about.clone()),
        owner: outbox.owner.clone(),
        consumers: outbox.consumers.clone(),
        deprecated: None,
        automatic: false,
        payload: Some(Payload {
            schema: schema.text.clone(),
            example: example::of_schema(schema),
            file: file(outbox, schema),
        }),
        origins: vec![origin.clone()],
        fields: fields(&schema.text),
        place: Some(outbox.schemas_in.as_ref().map_or(&outbox.place, |(_, place)| place).clone()),
        rule: None,
    }
}

/// The path of the schema file, as the rule writes its directory.
fn file(outbox: &Outbox, schema: &Given) -> String {
    let folder = outbox.schemas_in.as_ref().map_or("", |(folder, _)| folder.as_str());
    Path::new(folder).join(schema.file.file_name().unwrap_or_default()).display().to_string()
}

/// The fields of a payload that its schema names.
fn fields(root: &Map<String, Value>) -> Vec<FieldModel> {
    let whole = resolved(root, root);
    let required = whole.get("required").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let Some(properties) = whole.get("properties").and_then(Value::as_object) else { return Vec::new() };
    let field = |(name, schema): (&String, &Value)| {
        let own = schema.as_object().cloned().unwrap_or_default();
        let schema = resolved(root, &own).clone();
        let says = |member: &str| {
            [&own, &schema].iter().find_map(|schema| schema.get(member)?.as_str().map(str::to_owned))
        };
        FieldModel {
            name: name.clone(),
            sql_type: String::new(),
            nullable: shape::names_null(&schema),
            optional: !required.iter().any(|one| one.as_str() == Some(name)),
            meaning: says("description").or_else(|| says("title")),
            columns: Vec::new(),
            hmac: false,
            example: Value::Null,
            schema,
        }
    };
    properties.iter().map(field).collect()
}
