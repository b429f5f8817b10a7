//! Automatic events as a consumer sees them.

use std::sync::Arc;

use super::*;
use crate::change::{Cell, Column, ReplicaIdentity};
use crate::config::Tables;
use crate::position::{CommitSeq, Transaction};
use crate::translate::Contracts;
use crate::types::{Base, SqlType};

/// A table `lab.plates` (id integer, code text, note text). The identity's columns are flagged as the server
/// flags them.
fn relation(identity: ReplicaIdentity, flagged: &[usize], primary_key: &[usize]) -> Arc<Relation> {
    let column = |at: usize, name: &str, kind: Kind| Column {
        name: name.to_owned(),
        kind,
        data_type: SqlType::plain(Base::Text),
        not_null: false,
        origin: None,
        in_identity: identity == ReplicaIdentity::Full || flagged.contains(&at),
    };
    Arc::new(Relation {
        oid: 1,
        schema: "lab".into(),
        table: "plates".into(),
        identity,
        columns: vec![
            column(0, "id", Kind::Number),
            column(1, "code", Kind::Text),
            column(2, "note", Kind::Text),
        ],
        primary_key: primary_key.to_vec(),
        absent: Vec::new(),
        unknown: None,
    })
}

/// Builds a message and its cells: `None` is NULL, `"?"` an unchanged TOASTed value.
fn message(values: &[Option<&str>]) -> (Vec<u8>, Vec<Cell>) {
    let (mut bytes, mut cells) = (Vec::new(), Vec::new());
    for value in values {
        cells.push(match value {
            None => Cell::Null,
            Some("?") => Cell::Unchanged,
            Some(text) => {
                let start = u32::try_from(bytes.len()).unwrap();
                bytes.extend_from_slice(text.as_bytes());
                Cell::Text { start, length: u32::try_from(text.len()).unwrap() }
            }
        });
    }
    (bytes, cells)
}

/// The events as lines of `type key data`. Unavailable columns follow after `!`.
fn events(relation: &Arc<Relation>, operation: Operation<'_>, tables: &Tables) -> Vec<String> {
    let mut envelope = Envelope::new("urn:forebay:lab", 0);
    let settings = TranslateSettings { tables: tables.clone(), ..TranslateSettings::default() };
    let mut plan = AutomaticPlan::new(relation, "urn:forebay:lab", &settings);
    let place = ChangePlace {
        transaction: Transaction { commit: CommitSeq::new(9), xid: 3, time: 0 },
        index: 0,
        record: CommitSeq::new(5),
        nth: 0,
    };
    let mut records = Records::default();
    plan.translate(&Change { place, relation, operation, raw: b"" }, &mut envelope, &mut records).unwrap();
    let describe = |record: crate::event::Record<'_>| {
        let event: serde_json::Value = serde_json::from_slice(record.line).unwrap();
        assert_eq!(record.line.split(|byte| *byte == b'\n').count(), 2, "one line");
        assert!(record.line.ends_with(b"}\n"));
        assert_eq!(event["type"], record.event_type);
        assert_eq!(event["partitionkey"], record.key);
        let unavailable = event["unavailable"].as_str().map(|names| format!(" !{names}")).unwrap_or_default();
        format!("{} {} {}{unavailable}", record.event_type, event["subject"].as_str().unwrap(), event["data"])
    };
    records.iter().map(describe).collect()
}

fn check(
    relation: &Arc<Relation>,
    old: Option<(bool, &[Option<&str>])>,
    new: Option<&[Option<&str>]>,
    expected: &[&str],
) {
    let (old_bytes, old_cells) = message(old.map(|(_, values)| values).unwrap_or_default());
    let (new_bytes, new_cells) = message(new.unwrap_or_default());
    let old_tuple = Tuple::new(&old_bytes, &old_cells);
    let old = old.map(|(full, _)| if full { OldRow::Full(old_tuple) } else { OldRow::Key(old_tuple) });
    let new_tuple = new.map(|_| Tuple::new(&new_bytes, &new_cells));
    let operation = match (old, new_tuple) {
        (None, Some(new)) => Operation::Insert { new },
        (old, Some(new)) => Operation::Update { old, new },
        (Some(old), None) => Operation::Delete { old },
        (None, None) => unreachable!("neither old nor new"),
    };
    assert_eq!(events(relation, operation, &Tables::default()), expected);
}

const NEW: [Option<&str>; 3] = [Some("7"), Some("PLT/7"), None];

#[test]
fn insert_is_new_row_under_primary_key() {
    let table = relation(ReplicaIdentity::Default, &[0], &[0]);
    check(&table, None, Some(&NEW), &[r#"lab.plates.inserted.v1 7 {"code":"PLT/7","id":7,"note":null}"#]);
}

#[test]
fn composite_key_is_joined_unambiguously() {
    let table = relation(ReplicaIdentity::Default, &[0, 1], &[1, 0]);
    check(
        &table,
        None,
        Some(&NEW),
        &[r#"lab.plates.inserted.v1 7/PLT~17 {"code":"PLT/7","id":7,"note":null}"#],
    );
}

#[test]
fn update_is_new_row_and_changed_key_is_delete_then_insert() {
    let table = relation(ReplicaIdentity::Default, &[0], &[0]);
    let (bytes, cells) = message(&NEW);
    let update = Operation::Update { old: None, new: Tuple::new(&bytes, &cells) };
    assert_eq!(
        events(&table, update, &Tables::default()),
        [r#"lab.plates.updated.v1 7 {"code":"PLT/7","id":7,"note":null}"#]
    );
    let old = [Some("6"), None, None];
    check(
        &table,
        Some((false, &old)),
        Some(&NEW),
        &[
            r#"lab.plates.deleted.v1 6 {"id":6}"#,
            r#"lab.plates.inserted.v1 7 {"code":"PLT/7","id":7,"note":null}"#,
        ],
    );
    // The server also sends the old key when it is TOASTed and unchanged.
    check(
        &table,
        Some((false, &[Some("7"), None, None])),
        Some(&[Some("?"), Some("x"), None]),
        &[r#"lab.plates.updated.v1 7 {"code":"x","id":7,"note":null}"#],
    );
}

#[test]
fn delete_is_replica_identity_columns() {
    let by_key = relation(ReplicaIdentity::Default, &[0], &[0]);
    check(&by_key, Some((false, &[Some("7"), None, None])), None, &[r#"lab.plates.deleted.v1 7 {"id":7}"#]);
    let by_index = relation(ReplicaIdentity::Index, &[1], &[0]);
    let old = [None, Some("A"), None];
    check(&by_index, Some((false, &old)), None, &[r#"lab.plates.deleted.v1 A {"code":"A"}"#]);
    let whole = relation(ReplicaIdentity::Full, &[], &[0]);
    let old = [Some("7"), Some("A"), None];
    check(&whole, Some((true, &old)), None, &[r#"lab.plates.deleted.v1 7 {"code":"A","id":7,"note":null}"#]);
}

#[test]
fn unchanged_toast_comes_from_old_row_or_is_listed() {
    let by_key = relation(ReplicaIdentity::Default, &[0], &[0]);
    let (bytes, cells) = message(&[Some("7"), Some("A"), Some("?")]);
    let update = Operation::Update { old: None, new: Tuple::new(&bytes, &cells) };
    assert_eq!(
        events(&by_key, update, &Tables::default()),
        [r#"lab.plates.updated.v1 7 {"code":"A","id":7} !note"#]
    );
    let whole = relation(ReplicaIdentity::Full, &[], &[0]);
    check(
        &whole,
        Some((true, &[Some("7"), Some("A"), Some("long")])),
        Some(&[Some("7"), Some("B"), Some("?")]),
        &[r#"lab.plates.updated.v1 7 {"code":"B","id":7,"note":"long"}"#],
    );
}

#[test]
fn keyless_table_uses_event_id() {
    let table = relation(ReplicaIdentity::Full, &[], &[]);
    let (bytes, cells) = message(&NEW);
    let lines = events(&table, Operation::Insert { new: Tuple::new(&bytes, &cells) }, &Tables::default());
    let subject = lines[0].split(' ').nth(1).unwrap();
    assert_eq!(subject.len(), 36);
}

#[test]
fn truncate_is_an_event_of_the_table() {
    let table = relation(ReplicaIdentity::Default, &[0], &[0]);
    let truncate = Operation::Truncate { cascade: true, restart_identity: false };
    assert_eq!(
        events(&table, truncate, &Tables::default()),
        [r#"lab.plates.truncated.v1 lab.plates {"cascade":true,"restart_identity":false}"#]
    );
}

#[test]
fn dropped_column_is_never_in_data_but_may_be_key() {
    let tables = Tables { drop: vec!["*.*.id".into(), "lab.plates.note".into()], ..Tables::default() };
    let table = relation(ReplicaIdentity::Default, &[0], &[0]);
    let (bytes, cells) = message(&NEW);
    let insert = Operation::Insert { new: Tuple::new(&bytes, &cells) };
    assert_eq!(events(&table, insert, &tables), [r#"lab.plates.inserted.v1 7 {"code":"PLT/7"}"#]);
}

#[test]
fn unsent_key_is_an_error() {
    let table = relation(ReplicaIdentity::Default, &[0], &[0]);
    let (bytes, cells) = message(&[Some("?"), Some("A"), None]);
    let mut plan = AutomaticPlan::new(&table, "s", &TranslateSettings::default());
    let change = Change {
        place: ChangePlace { transaction: Transaction::default(), index: 0, record: CommitSeq::ZERO, nth: 0 },
        relation: &table,
        operation: Operation::Update { old: None, new: Tuple::new(&bytes, &cells) },
        raw: b"",
    };
    let error = plan.translate(&change, &mut Envelope::new("s", 0), &mut Records::default()).unwrap_err();
    assert_eq!(error, TranslateError::KeyUnavailable { column: "id".into() });
}

/// A contract that rows break: it promises too much about the last column of inserted rows, and deletes
/// promise only the key.
#[derive(Debug)]
struct Locked;

impl Contracts for Locked {
    fn has(&self, _: &str) -> bool {
        true
    }

    fn promises(&self, event_type: &str, fields: &[(&str, &Kind, &Base)]) -> Result<Vec<Promise>, Problem> {
        if event_type == "lab.plates.deleted.v1" && fields.len() > 1 {
            return Err(format!("{} fields", fields.len()).into());
        }
        let strict = |name: &str| Promise {
            never_null: name == "note",
            always: name == "note",
            unknown: name == "code",
        };
        Ok(fields.iter().map(|(name, ..)| strict(name)).collect())
    }
}

#[test]
fn row_breaking_locked_contract_makes_no_event() {
    let settings = TranslateSettings { contracts: Some(Arc::new(Locked)), ..TranslateSettings::default() };
    let key = message(&[Some("7"), None, None]);
    for (identity, row, expected) in [
        (ReplicaIdentity::Default, &[Some("7"), None, Some("n")], None),
        (ReplicaIdentity::Default, &[Some("7"), Some("A"), None], Some("note: NULL in this row")),
        (
            ReplicaIdentity::Default,
            &[Some("7"), Some("A"), Some("?")],
            Some("note: the server did not send its value"),
        ),
    ] {
        let table = relation(identity, &[0], &[0]);
        let (bytes, cells) = message(row);
        let operation = Operation::Update { old: None, new: Tuple::new(&bytes, &cells) };
        let actual = broken(&table, operation, &settings);
        assert_eq!(actual.is_some(), expected.is_some(), "{row:?}: {actual:?}");
        assert!(actual.unwrap_or_default().starts_with(expected.unwrap_or_default()), "{row:?}");
    }
    let old = Tuple::new(&key.0, &key.1);
    let by_key = Operation::Delete { old: OldRow::Key(old) };
    assert_eq!(broken(&relation(ReplicaIdentity::Default, &[0], &[0]), by_key, &settings), None);
    let whole = Operation::Delete { old: OldRow::Full(old) };
    let full = relation(ReplicaIdentity::Full, &[0], &[0]);
    assert_eq!(broken(&full, whole, &settings).as_deref(), Some("3 fields"));
}

#[test]
fn unlocked_column_stays_out() {
    let table = relation(ReplicaIdentity::Default, &[0], &[0]);
    let settings = TranslateSettings { contracts: Some(Arc::new(Locked)), ..TranslateSettings::default() };
    let (bytes, cells) = message(&[Some("7"), Some("?"), Some("n")]);
    let place =
        ChangePlace { transaction: Transaction::default(), index: 0, record: CommitSeq::ZERO, nth: 0 };
    let operation = Operation::Update { old: None, new: Tuple::new(&bytes, &cells) };
    let change = Change { place, relation: &table, operation, raw: b"" };
    let mut records = Records::default();
    AutomaticPlan::new(&table, "s", &settings)
        .translate(&change, &mut Envelope::new("s", 0), &mut records)
        .unwrap();
    let line = String::from_utf8(records.iter().next().unwrap().line.to_vec()).unwrap();
    assert!(line.contains("{\"id\":7,\"note\":\"n\"}") && !line.contains("code"), "{line}");
}

/// The error of a change that breaks the contract.
fn broken(table: &Arc<Relation>, operation: Operation<'_>, settings: &TranslateSettings) -> Option<String> {
    let place =
        ChangePlace { transaction: Transaction::default(), index: 0, record: CommitSeq::ZERO, nth: 0 };
    let change = Change { place, relation: table, operation, raw: b"" };
    let mut plan = AutomaticPlan::new(table, "s", settings);
    let made = plan.translate(&change, &mut Envelope::new("s", 0), &mut Records::default());
    made.err().map(|error| error.to_string())
}

#[test]
fn missing_personal_column_makes_dead_letters() {
    let (bytes, cells) = message(&[Some("7"), Some("A"), Some("n")]);
    let insert = || Operation::Insert { new: Tuple::new(&bytes, &cells) };
    let plain = relation(ReplicaIdentity::Default, &[0], &[0]);
    let mut younger = Relation::clone(&plain);
    younger.absent.push(Column { name: "email".into(), ..younger.columns[2].clone() });
    let younger = Arc::new(younger);
    for (table, pattern, gone) in [
        (&plain, "lab.plates.email", true),
        (&plain, "lab.plates.note", false),
        (&plain, "*.*.email", false),
        (&plain, "lab.people.email", false),
        // The row was written before the column was added.
        (&younger, "lab.plates.email", false),
    ] {
        let pii = Pii { columns: vec![pattern.to_owned()], ..Pii::default() };
        let actual = broken(table, insert(), &TranslateSettings { pii, ..TranslateSettings::default() });
        assert_eq!(actual.is_some(), gone, "{pattern}: {actual:?}");
        assert!(
            actual.is_none_or(|actual| actual.contains("no longer has the personal-data column email")),
            "{pattern}"
        );
    }
}
