//! Models of automatic events, as `translate::automatic` makes them.

use serde_json::json;

use crate::change::{Column, Described, ReplicaIdentity};
use crate::config::Automatic;
use crate::contracts::{meaning, shape};
use crate::translate::TranslateSettings;
use crate::translate::mapped::Operations;
use crate::types::Base;

use super::{EventModel, FieldModel, KeyPart, Order, Origin};

/// The kind of an automatic event.
#[derive(Clone, Copy, PartialEq, Eq)]
enum AutomaticKind {
    Inserted,
    Updated,
    Deleted,
    Truncated,
}

/// The automatic events of a table. `mapped`: the operations that rules read.
pub(super) fn events(settings: &TranslateSettings, table: &Described, mapped: Operations) -> Vec<EventModel> {
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
    // An update that changes the key is published as a delete and an insert.
    let key_changes = gives_old && !mapped.update && !relation.key().is_empty();
    let kind = [
        (AutomaticKind::Inserted, !mapped.insert || key_changes),
        (AutomaticKind::Updated, !mapped.update && gives_old),
        (AutomaticKind::Deleted, gives_old && (!mapped.delete || key_changes)),
        (AutomaticKind::Truncated, true),
    ];
    kind.into_iter()
        .filter(|(_, comes)| *comes)
        .map(|(kind, _)| event(settings, table, kind, key_changes))
        .collect()
}

fn event(
    settings: &TranslateSettings,
    table: &Described,
    kind: AutomaticKind,
    key_changes: bool,
) -> EventModel {
    let relation = &table.relation;
    let name = relation.name();
    let (what, on, sentence) = match kind {
        AutomaticKind::Inserted => ("inserted", "insert", "A row was inserted"),
        AutomaticKind::Updated => ("updated", "update", "A row was updated"),
        AutomaticKind::Deleted => ("deleted", "delete", "A row was deleted"),
        AutomaticKind::Truncated => ("truncated", "truncate", "All rows were removed by TRUNCATE"),
    };
    let stem = format!("{name}.{what}");
    let part =
        |column: &Column| KeyPart { text: column.name.clone(), sql_type: column.data_type.base.to_string() };
    let key = match kind {
        AutomaticKind::Truncated => vec![KeyPart { text: format!("'{name}'"), sql_type: "text".to_owned() }],
        _ => relation.key().into_iter().filter_map(|at| relation.columns.get(at)).map(part).collect(),
    };
    let about = table.comment.as_deref().map(|comment| format!(" {}", comment.trim())).unwrap_or_default();
    let fields = fields(settings, table, kind, key_changes);
    let names: Vec<String> = fields.iter().map(|field| field.name.clone()).collect();
    EventModel {
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
            source: meaning::of_table(table, on, &names),
            table: name,
            on: on.to_owned(),
            when: Vec::new(),
            from_event: None,
            outbox: None,
            order: Order { key, subject: None, time: None, id: "change".to_owned() },
        }],
        fields,
        place: None,
        rule: None,
    }
}

fn fields(
    settings: &TranslateSettings,
    table: &Described,
    kind: AutomaticKind,
    key_changes: bool,
) -> Vec<FieldModel> {
    if kind == AutomaticKind::Truncated {
        return ["cascade", "restart_identity"].into_iter().map(flag).collect();
    }
    let relation = &table.relation;
    let full = relation.identity == ReplicaIdentity::Full;
    let mut fields = Vec::new();
    for (at, column) in relation.columns.iter().enumerate() {
        let hidden = settings.tables.drops(&relation.schema, &relation.table, &column.name)
            || settings.pii.tags_column(relation, column);
        if hidden || (kind == AutomaticKind::Deleted && !full && !column.in_identity) {
            continue;
        }
        let after_update = kind == AutomaticKind::Updated || (kind == AutomaticKind::Inserted && key_changes);
        fields.push(FieldModel {
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

/// A field of a truncate event.
fn flag(name: &str) -> FieldModel {
    FieldModel {
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

/// Whether values of a type are never TOASTed, so that an update always contains them.
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
