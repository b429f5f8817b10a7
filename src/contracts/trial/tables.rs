//! `[tables]` of a fixture, converted to relations.

use toml_edit::{Item, TableLike};

use crate::change::{Column, Relation, ReplicaIdentity};
use crate::config::TableName;

use super::document::{FixtureReader, start_of};
use super::types::declared;

/// Cannot be a column name, because it contains a blank.
const IDENTITY: &str = "replica identity";

pub(super) fn read(reader: &mut FixtureReader<'_>, item: &Item) -> Vec<Relation> {
    let around = start_of(item, 0);
    let Some(tables) = item.as_table_like() else {
        let place = reader.place(around);
        let hint = "Write \"schema.table\" = { column = \"type\", … }.";
        reader.wrong(place, ("tables must be a table", hint));
        return Vec::new();
    };
    let names: Vec<String> = tables.iter().map(|(name, _)| name.to_owned()).collect();
    let mut relations = Vec::new();
    for name in names {
        let place = reader.place_of(tables, &name, around);
        let parsed = TableName::parse(&name);
        let columns = tables.get(&name).and_then(Item::as_table_like);
        match (parsed, columns) {
            (Ok(name), Some(columns)) => relations.extend(relation(reader, name, columns, place.offset)),
            (Err(problem), _) => reader.wrong(place, problem),
            (Ok(_), None) => {
                let hint = format!("Write \"{name}\" = {{ column = \"type\", … }}.");
                reader.wrong(place, (format!("{name:?} must be a table"), hint));
            }
        }
    }
    relations
}

fn relation(
    reader: &mut FixtureReader<'_>,
    name: TableName,
    columns: &dyn TableLike,
    around: usize,
) -> Option<Relation> {
    let before = reader.errors.len();
    let identity = identity(reader, columns, around);
    let mut found = Vec::new();
    let mut primary_key = Vec::new();
    let names: Vec<String> = columns.iter().map(|(name, _)| name.to_owned()).collect();
    for column in names.into_iter().filter(|column| column != IDENTITY) {
        let place = reader.place_of(columns, &column, around);
        let Some(text) = reader.text(columns, &column, around) else { continue };
        match declared(&text) {
            Ok(declared) => {
                if declared.primary_key {
                    primary_key.push(found.len());
                }
                found.push(Column {
                    origin: None,
                    in_identity: match identity {
                        ReplicaIdentity::Full => true,
                        ReplicaIdentity::Nothing => false,
                        ReplicaIdentity::Default | ReplicaIdentity::Index => declared.primary_key,
                    },
                    name: column,
                    kind: declared.kind,
                    data_type: declared.data_type,
                    not_null: declared.not_null,
                });
            }
            Err(message) => reader.wrong(place, format!("{column}: {message}")),
        }
    }
    let relation = Relation {
        oid: 0,
        schema: name.schema,
        table: name.table,
        identity,
        columns: found,
        primary_key,
        absent: Vec::new(),
        unknown: None,
    };
    (reader.errors.len() == before).then_some(relation)
}

fn identity(reader: &mut FixtureReader<'_>, columns: &dyn TableLike, around: usize) -> ReplicaIdentity {
    match reader.text(columns, IDENTITY, around).as_deref() {
        None | Some("default") => ReplicaIdentity::Default,
        Some("full") => ReplicaIdentity::Full,
        Some("nothing") => ReplicaIdentity::Nothing,
        Some(other) => {
            let place = reader.place_of(columns, IDENTITY, around);
            let message =
                format!("\"{IDENTITY}\" = {other:?}: expected \"default\", \"full\" or \"nothing\"");
            reader.wrong(place, message);
            ReplicaIdentity::Default
        }
    }
}
