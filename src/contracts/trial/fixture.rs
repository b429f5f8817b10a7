//! Parses `events/tests/*.toml`: changes and the events they must make. Every error has a position.

use std::sync::Arc;

use serde_json::Value as Json;
use toml_edit::{ImDocument, Item, TableLike, Value};

use crate::change::Relation;
use crate::config::TableName;
use crate::rules::{FilePosition, RuleError, SourceFile};

use super::document::{FixtureReader, Literal, json, literal, start_of};
use super::tables;

/// A parsed fixture file.
#[derive(Debug)]
pub(super) struct Fixture {
    /// Tables that it declares.
    pub(super) tables: Vec<Relation>,
    /// The key of `hmac()` in its cases.
    pub(super) hmac_key: Option<String>,
    pub(super) cases: Vec<Case>,
}

/// One `[[case]]`.
#[derive(Debug)]
pub(super) struct Case {
    pub(super) name: String,
    pub(super) place: FilePosition,
    pub(super) table: TableName,
    pub(super) on: On,
    pub(super) new: Vec<Given>,
    pub(super) old: Vec<Given>,
    pub(super) expected: Expected,
}

/// The operation of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum On {
    /// The row is inserted.
    Insert,
    /// The row is updated.
    Update,
    /// The row is deleted.
    Delete,
}

/// A value of a column.
#[derive(Debug)]
pub(super) struct Given {
    pub(super) column: String,
    pub(super) value: Literal,
    pub(super) place: FilePosition,
}

/// The expected result of a change.
#[derive(Debug)]
pub(super) struct Expected {
    /// The events, in order; `None`: not compared.
    pub(super) events: Option<Vec<ExpectedEvent>>,
    /// A part of a rule's error message.
    pub(super) fails: Option<String>,
}

/// The attributes of an expected event that are compared.
#[derive(Debug)]
pub(super) struct ExpectedEvent {
    pub(super) event_type: String,
    pub(super) key: Option<String>,
    pub(super) subject: Option<String>,
    pub(super) time: Option<String>,
    pub(super) data: Option<Json>,
    /// Whether `data` may have more fields than listed.
    pub(super) contains: bool,
    pub(super) unavailable: Vec<String>,
}

const CASE: &[&str] = &["name", "table", "on", "new", "old", "events", "nothing", "fails"];
const EVENT: &[&str] = &["type", "key", "subject", "time", "data", "contains", "unavailable"];

/// Parses a file and adds its errors to `errors`. `None` if the file is not usable.
pub(super) fn parse(file: &Arc<SourceFile>, errors: &mut Vec<RuleError>) -> Option<Fixture> {
    let mut reader = FixtureReader { file, case: None, errors };
    let document = match ImDocument::parse(file.text.as_str()) {
        Ok(document) => document,
        Err(error) => {
            let place = reader.place(error.span().map_or(0, |span| span.start));
            reader.wrong(place, error.message());
            return None;
        }
    };
    let root = document.as_table();
    reader.only(root, &["tables", "hmac_key", "case"], 0);
    let hmac_key = reader.text(root, "hmac_key", 0);
    let tables = root.get("tables").map(|item| tables::read(&mut reader, item)).unwrap_or_default();
    let mut cases = Vec::new();
    match root.get("case") {
        Some(Item::ArrayOfTables(found)) => {
            for table in found {
                let start = table.span().map_or(0, |span| span.start);
                cases.extend(case(&mut reader, table, start));
                reader.case = None;
            }
        }
        Some(other) => {
            let place = reader.place(start_of(other, 0));
            reader.wrong(place, ("case must be an array of tables", "Write [[case]], in double brackets."));
        }
        None => {}
    }
    Some(Fixture { tables, hmac_key, cases })
}

fn case(reader: &mut FixtureReader<'_>, table: &dyn TableLike, start: usize) -> Option<Case> {
    let before = reader.errors.len();
    let name = reader.text(table, "name", start);
    reader.case.clone_from(&name);
    reader.only(table, CASE, start);
    if name.is_none() && !table.contains_key("name") {
        let place = reader.place(start);
        reader.wrong(place, ("missing name", "Add name = \"…\"."));
    }
    let of = reader.text(table, "table", start);
    if of.is_none() && !table.contains_key("table") {
        let place = reader.place(start);
        reader.wrong(place, ("missing table", "Add table = \"schema.table\"."));
    }
    let of = of.and_then(|text| match TableName::parse(&text) {
        Ok(name) => Some(name),
        Err(message) => {
            let place = reader.place_of(table, "table", start);
            reader.wrong(place, message);
            None
        }
    });
    let on = on(reader, table, start);
    let case = Case {
        place: reader.place(start),
        new: row(reader, table, "new", start),
        old: row(reader, table, "old", start),
        expected: expected(reader, table, start),
        name: name?,
        table: of?,
        on: on?,
    };
    if case.on == On::Insert && table.contains_key("old") {
        let place = reader.place_of(table, "old", start);
        reader.wrong(place, ("an insert has no old row", "Remove it."));
    }
    if case.on == On::Delete && table.contains_key("new") {
        let place = reader.place_of(table, "new", start);
        reader.wrong(place, ("a delete has no new row", "Write old = { … }."));
    }
    (reader.errors.len() == before).then_some(case)
}

fn on(reader: &mut FixtureReader<'_>, table: &dyn TableLike, start: usize) -> Option<On> {
    let Some(text) = reader.text(table, "on", start) else {
        return (!table.contains_key("on")).then_some(On::Insert);
    };
    match text.as_str() {
        "insert" => Some(On::Insert),
        "update" => Some(On::Update),
        "delete" => Some(On::Delete),
        other => {
            let place = reader.place_of(table, "on", start);
            reader.wrong(place, format!("on = {other:?}: expected \"insert\", \"update\" or \"delete\""));
            None
        }
    }
}

fn row(reader: &mut FixtureReader<'_>, table: &dyn TableLike, key: &str, start: usize) -> Vec<Given> {
    let Some(item) = table.get(key) else { return Vec::new() };
    let Some(columns) = item.as_table_like() else {
        let place = reader.place_of(table, key, start);
        reader.wrong(
            place,
            (format!("{key} must be a table"), format!("Write {key} = {{ column = value, … }}.")),
        );
        return Vec::new();
    };
    let around = start_of(item, start);
    let given = columns.iter().map(|(column, item)| Given {
        column: column.to_owned(),
        value: literal(item),
        place: reader.place_of(columns, column, around),
    });
    given.collect()
}

fn expected(reader: &mut FixtureReader<'_>, table: &dyn TableLike, start: usize) -> Expected {
    let nothing = reader.flag(table, "nothing", start);
    let fails = reader.text(table, "fails", start);
    let mut events = table.get("events").map(|item| events(reader, item, start));
    match (&events, nothing, &fails) {
        (None, false, None) => {
            let place = reader.place(start);
            let hint = "Add events = [ … ], nothing = true, or fails = \"a part of the error\".";
            reader.wrong(place, ("missing expectation", hint));
        }
        (Some(_), true, _) => {
            let place = reader.place_of(table, "nothing", start);
            reader.wrong(place, ("nothing and events exclude each other", "Remove one of them."));
        }
        _ => {}
    }
    if nothing {
        events = Some(Vec::new());
    }
    Expected { events, fails }
}

fn events(reader: &mut FixtureReader<'_>, item: &Item, start: usize) -> Vec<ExpectedEvent> {
    let around = start_of(item, start);
    let tables: Vec<&dyn TableLike> = if let Item::ArrayOfTables(tables) = item {
        tables.iter().map(|table| table as &dyn TableLike).collect()
    } else {
        let place = reader.place(around);
        let Some(array) = item.as_array() else {
            let hint = "Write events = [ { type = \"…\", data = { … } } ].";
            reader.wrong(place, ("events must be an array", hint));
            return Vec::new();
        };
        let tables: Vec<_> = array.iter().filter_map(Value::as_inline_table).collect();
        if tables.len() != array.len() {
            let hint = "Write { type = \"…\", data = { … } }.";
            reader.wrong(place, ("each event must be a table", hint));
        }
        tables.into_iter().map(|table| table as &dyn TableLike).collect()
    };
    tables.into_iter().filter_map(|table| event(reader, table, around)).collect()
}

fn event(reader: &mut FixtureReader<'_>, table: &dyn TableLike, start: usize) -> Option<ExpectedEvent> {
    reader.only(table, EVENT, start);
    let event_type = reader.text(table, "type", start);
    if event_type.is_none() && !table.contains_key("type") {
        let place = reader.place(start);
        reader.wrong(place, ("missing type of an expected event", "Add type = \"…\"."));
    }
    let data = table.get("data").and_then(|item| data(reader, table, item, start));
    let unavailable = table.get("unavailable").map(|item| {
        let texts = item.as_array().map(|array| array.iter().map(|value| value.as_str().map(str::to_owned)));
        texts.and_then(Iterator::collect::<Option<Vec<String>>>).unwrap_or_else(|| {
            let place = reader.place_of(table, "unavailable", start);
            reader.wrong(place, "unavailable must be an array of field names");
            Vec::new()
        })
    });
    Some(ExpectedEvent {
        key: reader.text(table, "key", start),
        subject: reader.text(table, "subject", start),
        time: reader.text(table, "time", start),
        contains: reader.flag(table, "contains", start),
        unavailable: unavailable.unwrap_or_default(),
        data,
        event_type: event_type?,
    })
}

/// The expected data: a table, or a string with JSON.
fn data(reader: &mut FixtureReader<'_>, table: &dyn TableLike, item: &Item, start: usize) -> Option<Json> {
    let data = match item.as_str() {
        Some(text) => serde_json::from_str(text).map_err(|error| error.to_string()),
        None => Ok(json(item)),
    };
    match data {
        Ok(data @ Json::Object(_)) => Some(data),
        Ok(_) => {
            let place = reader.place_of(table, "data", start);
            reader.wrong(place, "data must be an object, { field = value, … }, or a string of JSON");
            None
        }
        Err(error) => {
            let place = reader.place_of(table, "data", start);
            reader.wrong(place, format!("data is a string that is not JSON: {error}"));
            None
        }
    }
}
