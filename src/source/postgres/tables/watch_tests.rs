//! The form in which a row with a composite is published if its types were altered before a look found that.

use serde_json::json;

use super::super::look::LookedAt;
use super::super::state::{TableState, TypeState};
use super::*;
use crate::change::{ChangePlace, ReplicaIdentity};
use crate::position::{CommitSeq, Transaction};
use crate::source::postgres::pgoutput::{AnnouncedColumn, Cells};
use crate::source::postgres::redecode::decode;

const TABLE: u32 = 1;
const INT: u32 = 23;
const TEXT: u32 = 25;
const SPOT: u32 = 20_001;
const MOOD: u32 = 20_002;

/// A look that found these columns of the table, and these fields of the composite: name, type, and the
/// transaction that wrote it.
fn look(at: LookedAt, columns: &[(&str, u32)], fields: &[(&str, u32, u32)]) -> Look {
    let column = |(at, (name, oid)): (usize, &(&str, u32))| {
        json!({
            "number": at + 1, "name": name, "type": oid, "modifier": -1, "not_null": false, "generated": false, "listed": true,
        })
    };
    let field = |(at, (name, oid, since)): (usize, &(&str, u32, u32))| {
        let number = at + 1;
        json!({"number": number, "name": name, "type": oid, "dropped": false, "since": since})
    };
    let table: TableState = serde_json::from_value(json!({
        "schema": "lab", "table": "shapes", "identity": "d", "key": ["id"], "key_index": 7, "lesser": [], "whole": [],
        "columns": columns.iter().enumerate().map(column).collect::<Vec<_>>(),
    }))
    .unwrap();
    let state = |shape: &str, fields: serde_json::Value, labels: &[&str]| -> TypeState {
        serde_json::from_value(json!({
            "shape": shape, "part": 0, "modifier": -1, "delimiter": b',', "plain": false, "name": shape, "fields": fields,
            "labels": labels, "since": null,
        }))
        .unwrap()
    };
    let fields = fields.iter().enumerate().map(field).collect();
    let types = [(SPOT, state("composite", fields, &[])), (MOOD, state("enum", json!([]), &["calm"]))];
    let is_used = |(oid, _): &(u32, TypeState)| columns.iter().any(|(_, used)| used == oid);
    Look {
        at,
        tables: vec![(TABLE, Some(table))],
        types: types.into_iter().filter(is_used).collect(),
        ..Look::default()
    }
}

/// The table was announced and looked at before transaction 100. Its enum was altered, and its column
/// dropped, before the next look.
fn announcements(altered: &[(&str, u32, u32)]) -> (Announcements, Arc<Relation>) {
    let columns = [("id", INT), ("spot", SPOT), ("mood", MOOD)];
    let announced = Announced {
        oid: TABLE,
        schema: "lab".into(),
        table: "shapes".into(),
        identity: ReplicaIdentity::Default,
        columns: columns
            .iter()
            .map(|(name, type_oid)| AnnouncedColumn {
                name: (*name).to_owned(),
                type_oid: *type_oid,
                modifier: -1,
                in_identity: *name == "id",
            })
            .collect(),
    };
    let before = look(LookedAt::at(1000, 100), &columns, &[("x", INT, 50), ("label", TEXT, 50)]);
    let mut announcements = Announcements::new(TableHistory::empty(&Pii::default()));
    let relation = announcements.announce(announced, before, RowMoment { xid: 90, wal: 900 });
    announcements.look(look(LookedAt::at(2000, 200), &columns[..2], altered));
    (announcements, relation)
}

/// The message of an inserted row.
fn inserted(row: [&str; 3]) -> Vec<u8> {
    let mut message = b"I\0\0\0\x01N\0\x03".to_vec();
    for value in row {
        message.push(b't');
        message.extend(u32::try_from(value.len()).unwrap().to_be_bytes());
        message.extend(value.as_bytes());
    }
    message
}

/// The field names under which a row between the two looks is published; `None` if it becomes a dead letter.
#[track_caller]
fn names(altered: &[(&str, u32, u32)], xid: u32, row: [&str; 3]) -> Option<String> {
    let (mut announcements, relation) = announcements(altered);
    let (raw, mut cells) = (inserted(row), Cells::default());
    let place =
        ChangePlace { transaction: Transaction::default(), index: 0, record: CommitSeq::ZERO, nth: 0 };
    let operation = decode(&raw, row.len(), &mut cells).unwrap();
    let change = Change { place, relation: &relation, operation, raw: &raw };
    let relation = match announcements.suits(&change, RowMoment { xid, wal: 1500 }, true) {
        Suits::Yes => Arc::clone(&relation),
        Suits::Other(other) => other,
        Suits::Look => panic!("it was looked at"),
    };
    let Kind::Composite { fields } = &relation.columns[1].kind else { panic!("{relation:?}") };
    let names = fields.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(" ");
    relation.unknown.is_none().then_some(names)
}

/// Found by `soak::mixed` (SEED=522314860): no description had the label, so the first one was chosen as the
/// only one that fits.
#[test]
fn unknown_label_proves_no_field_name() {
    let renamed = [("x", INT, 50), ("note", TEXT, 150)];
    let at = |xid, mood| names(&renamed, xid, ["1", "(1,a)", mood]);
    for mood in ["calm", "busy"] {
        assert_eq!(at(150, mood), None, "{mood}: before or after the rename of its own transaction");
        assert_eq!(at(140, mood).as_deref(), Some("x label"), "{mood}: before the rename");
        assert_eq!(at(160, mood).as_deref(), Some("x note"), "{mood}: after the rename");
    }
}

/// If the number of fields fits only one form, the row has that form, whatever its label is.
#[test]
fn unknown_label_leaves_the_form_to_the_fields() {
    let added = [("x", INT, 50), ("label", TEXT, 50), ("zip", TEXT, 150)];
    for mood in ["calm", "busy"] {
        let at = |xid, spot| names(&added, xid, ["1", spot, mood]);
        assert_eq!(at(150, "(1,a)").as_deref(), Some("x label"), "{mood}");
        assert_eq!(at(150, "(1,a,b)").as_deref(), Some("x label zip"), "{mood}");
        assert_eq!(at(150, "(one,a,b,c)"), None, "{mood}: no form");
    }
}
