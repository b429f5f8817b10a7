//! Automatic events, which follow their table: what `translate::automatic` makes.

use serde_json::json;

use crate::change::{Column, Described, ReplicaIdentity};
use crate::config::Automatic;
use crate::contracts::shape;
use crate::translate::Settings;
use crate::translate::mapped::Operations;
use crate::types::Base;

use super::{Event, Field, KeyPart, Order, Origin};

/// What an automatic event tells of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Told {
    Inserted,
    Updated,
    Deleted,
    Truncated,
}

/// The automatic events of a table of which rules are about these operations.
pub(super) fn events(settings: &Settings, table: &Described, mapped: Operations) -> Vec<Event> {
    let relation = &table.relation;
    let is_outbox = settings.rules.outbox_of(&relation.schema, &relation.table).is_some();
    if settings.automatic == Automatic::Off
        || is_outbox
        || !settings.tables.wants(&relation.schema, &relation.table)
    {
        return Vec::new();
    }
    let mapped = if settings.automatic == Automatic::Also { Operations::default() } else { mapped };
    let gives_old = relation.columns.iter().any(|column| column.in_identity);
    // An update that changes the key is told as deleted and inserted.
    let key_changes = gives_old && !mapped.update && !relation.key().is_empty();
    let told = [
        (Told::Inserted, !mapped.insert || key_changes),
        (Told::Updated, !mapped.update && gives_old),
        (Told::Deleted, gives_old && (!mapped.delete || key_changes)),
        (Told::Truncated, true),
    ];
    told.into_iter()
        .filter(|(_, comes)| *comes)
        .map(|(told, _)| event(settings, table, told, key_changes))
        .collect()
}

fn event(settings: &Settings, table: &Described, told: Told, key_changes: bool) -> Event {
    let relation = &table.relation;
    let name = format!("{}.{}", relation.schema, relation.table);
    let (what, on, sentence) = match told {
        Told::Inserted => ("inserted", "insert", "A row was inserted"),
        Told::Updated => ("updated", "update", "A row was updated"),
        Told::Deleted => ("deleted", "delete", "A row was deleted"),
        Told::Truncated => ("truncated", "truncate", "All rows were removed by TRUNCATE"),
    };
    let stem = format!("{name}.{what}");
    let part =
        |column: &Column| KeyPart { text: column.name.clone(), sql_type: column.data_type.base.to_string() };
    let key = match told {
        Told::Truncated => vec![KeyPart { text: format!("'{name}'"), sql_type: "text".to_owned() }],
        _ => relation.key().into_iter().filter_map(|at| relation.columns.get(at)).map(part).collect(),
    };
    let about = table.comment.as_deref().map(|comment| format!(" {}", comment.trim())).unwrap_or_default();
    Event {
        event_type: format!("{stem}.v1"),
        stem,
        major: 1,
        about: Some(format!("{sentence}: {name}.{about}")),
        owner: None,
        consumers: Vec::new(),
        deprecated: None,
        automatic: true,
        payload: None,
        origins: vec![Origin {
            table: name,
            on: on.to_owned(),
            when: Vec::new(),
            from_event: None,
            outbox: None,
            order: Order { key, subject: None, time: None, id: "change".to_owned() },
        }],
        fields: fields(settings, table, told, key_changes),
        place: None,
        rule: None,
    }
}

fn fields(settings: &Settings, table: &Described, told: Told, key_changes: bool) -> Vec<Field> {
    if told == Told::Truncated {
        return ["cascade", "restart_identity"].into_iter().map(flag).collect();
    }
    let relation = &table.relation;
    let full = relation.identity == ReplicaIdentity::Full;
    let mut fields = Vec::new();
    for (at, column) in relation.columns.iter().enumerate() {
        let hidden = settings.tables.drops(&relation.schema, &relation.table, &column.name)
            || settings.pii.tags(&relation.schema, &relation.table, &column.name);
        if hidden || (told == Told::Deleted && !full && !column.in_identity) {
            continue;
        }
        let after_update = told == Told::Updated || (told == Told::Inserted && key_changes);
        fields.push(Field {
            name: column.name.clone(),
            schema: shape::schema(&column.kind, &column.data_type.base),
            sql_type: column.data_type.to_string(),
            nullable: !column.not_null,
            optional: after_update && !column.in_identity && !is_fixed(&column.data_type.base),
            meaning: table.comments.get(at).cloned().flatten(),
            columns: vec![column.name.clone()],
            hmac: false,
            example: shape::example(&column.kind, &column.data_type.base, &column.name),
        });
    }
    fields
}

/// A field of a truncation.
fn flag(name: &str) -> Field {
    Field {
        name: name.to_owned(),
        schema: shape::schema(&crate::types::Kind::Bool, &Base::Bool),
        sql_type: Base::Bool.to_string(),
        nullable: false,
        optional: false,
        meaning: Some(format!("whether TRUNCATE said {}", name.replace('_', " ").to_uppercase())),
        columns: Vec::new(),
        hmac: false,
        example: json!(false),
    }
}

/// Whether values are never stored out of line, so that an update always sends them.
const fn is_fixed(base: &Base) -> bool {
    matches!(
        base,
        Base::Bool
            | Base::Int2
            | Base::Int4
            | Base::Int8
            | Base::Float4
            | Base::Float8
            | Base::Name
            | Base::Date
            | Base::Time
            | Base::Timestamp
            | Base::TimestampTz
            | Base::Interval
            | Base::Uuid
            | Base::Enum(_)
    )
}
