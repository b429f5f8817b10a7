//! The views for all engines: names, columns and types.

use serde_json::Value;

use super::columns::ColumnType;
use crate::contracts::catalog::build::data_schema;
use crate::contracts::lock::Lock;
use crate::contracts::model::{EventModel, Model};

/// A typed view of one event type.
#[derive(Debug)]
pub(in crate::contracts) struct EventView {
    /// `lab_plate_completed_v1`.
    pub(in crate::contracts) name: String,
    /// `lab.plate_completed.v1`.
    pub(in crate::contracts) event_type: String,
    /// What the event means; may be empty.
    pub(in crate::contracts) about: String,
    /// The fields of `data`.
    pub(in crate::contracts) columns: Vec<FieldColumn>,
}

/// A field as a column.
#[derive(Clone, Debug)]
pub(in crate::contracts) struct FieldColumn {
    /// Its name in the view, in lower case.
    pub(in crate::contracts) name: String,
    /// Its name in `data`.
    pub(in crate::contracts) field: String,
    /// Its type.
    pub(in crate::contracts) column_type: ColumnType,
    /// Whether it can be null or absent.
    pub(in crate::contracts) nullable: bool,
    /// Its description, on one line; may be empty.
    pub(in crate::contracts) meaning: String,
}

/// A table's rows, from its automatic events.
#[derive(Debug)]
pub(super) struct RowView<'a> {
    /// `lab_plates`.
    pub(super) name: String,
    /// `lab.plates`.
    pub(super) table: String,
    pub(super) inserted: &'a EventView,
    pub(super) updated: &'a EventView,
    pub(super) deleted: &'a EventView,
    pub(super) truncated: &'a EventView,
}

/// All views.
#[derive(Debug, Default)]
pub(in crate::contracts) struct ArchiveViews {
    /// In the order of the model, followed by types that are only locked, because the archive may still have
    /// their events.
    pub(in crate::contracts) events: Vec<EventView>,
    /// The tables whose inserts, updates, deletes and truncates are all automatic events.
    tables: Vec<(String, String)>,
}

/// Names of views that the script itself creates.
const TAKEN: [&str; 3] = ["forebay_lines", "forebay_deliveries", "forebay_events"];

/// The view's own columns. A field of such a name is called `data_…`.
pub(super) const OWN: [&str; 10] = [
    "event_id",
    "event_source",
    "event_subject",
    "event_key",
    "event_time",
    "event_recorded",
    "event_sequence",
    "event_unavailable",
    "event_unreadable",
    "day",
];

/// The views of what is published and of what is locked.
pub(in crate::contracts) fn views(model: &Model, lock: &Lock) -> ArchiveViews {
    let mut names: Vec<String> = TAKEN.map(str::to_owned).to_vec();
    let mut views = ArchiveViews::default();
    for event in &model.events {
        let locked = lock.of(&event.event_type).map(crate::contracts::lock::Locked::newest);
        let schema = data_schema(event, locked);
        views.events.push(EventView {
            name: free(&mut names, &event.event_type),
            event_type: event.event_type.clone(),
            about: one_line(event.about.as_deref().unwrap_or_default()),
            columns: columns(&schema, event),
        });
    }
    for locked in lock.locked.iter().filter(|locked| model.event(&locked.event_type).is_none()) {
        let schema = locked.newest();
        views.events.push(EventView {
            name: free(&mut names, &locked.event_type),
            event_type: locked.event_type.clone(),
            about: one_line(schema.get("title").and_then(Value::as_str).unwrap_or_default()),
            columns: in_order(schema, &[]),
        });
    }
    for event in model.events.iter().filter(|event| event.automatic) {
        if let Some(table) = event.stem.strip_suffix(".inserted")
            && PARTS.iter().all(|part| views.of(table, part).is_some())
        {
            views.tables.push((free(&mut names, table), table.to_owned()));
        }
    }
    views
}

/// The operations of automatic events that a table's rows need.
const PARTS: [&str; 4] = ["inserted", "updated", "deleted", "truncated"];

impl ArchiveViews {
    fn of(&self, table: &str, part: &str) -> Option<&EventView> {
        let event_type = format!("{table}.{part}.v1");
        self.events.iter().find(|view| view.event_type == event_type)
    }

    /// The views of rows.
    pub(super) fn rows(&self) -> impl Iterator<Item = RowView<'_>> {
        self.tables.iter().filter_map(|(name, table)| {
            let [inserted, updated, deleted, truncated] = PARTS.map(|part| self.of(table, part));
            Some(RowView {
                name: name.clone(),
                table: table.clone(),
                inserted: inserted?,
                updated: updated?,
                deleted: deleted?,
                truncated: truncated?,
            })
        })
    }
}

/// The columns in the order of the rule or table, followed by fields that only earlier events had.
fn columns(schema: &Value, event: &EventModel) -> Vec<FieldColumn> {
    let order: Vec<&str> = event.fields.iter().map(|field| field.name.as_str()).collect();
    in_order(schema, &order)
}

fn in_order(schema: &Value, order: &[&str]) -> Vec<FieldColumn> {
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else { return Vec::new() };
    let required: Vec<&str> = schema
        .get("required")
        .and_then(Value::as_array)
        .map(|names| names.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default();
    let mut fields: Vec<(&String, &Value)> = properties.iter().collect();
    fields.sort_by_key(|(name, _)| order.iter().position(|known| known == name).unwrap_or(order.len()));
    let mut names: Vec<String> = OWN.map(str::to_owned).to_vec();
    let column = |(field, of): (&String, &Value)| {
        let allows_null = of.as_object().is_none_or(crate::contracts::shape::allows_null);
        FieldColumn {
            name: free_column(&mut names, field),
            field: field.clone(),
            column_type: ColumnType::of(of),
            nullable: allows_null || !required.contains(&field.as_str()),
            meaning: one_line(of.get("description").and_then(Value::as_str).unwrap_or_default()),
        }
    };
    fields.into_iter().map(column).collect()
}

/// A name that no other view has.
fn free(names: &mut Vec<String>, event_type: &str) -> String {
    let plain = |letter: char| if letter.is_ascii_alphanumeric() { letter.to_ascii_lowercase() } else { '_' };
    distinct(names, &event_type.chars().map(plain).collect::<String>())
}

/// A column's name that no other column has. Engines do not distinguish capitals.
fn free_column(names: &mut Vec<String>, field: &str) -> String {
    let lower = field.to_lowercase();
    let name = if OWN.contains(&lower.as_str()) { format!("data_{lower}") } else { lower };
    distinct(names, &name)
}

fn distinct(names: &mut Vec<String>, wanted: &str) -> String {
    let mut name = wanted.to_owned();
    for number in 2.. {
        if !names.contains(&name) {
            break;
        }
        name = format!("{wanted}_{number}");
    }
    names.push(name.clone());
    name
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
