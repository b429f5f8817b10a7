//! The state with which a change was made: DDL commands before, after and in its transaction.

use super::super::look::LookedAt;
use super::super::state::{ColumnState, FieldState, TypeShape};
use super::*;
use crate::change::ReplicaIdentity;
use crate::source::postgres::pgoutput::AnnouncedColumn;

/// A table with REPLICA IDENTITY FULL and columns of type text. The transaction `written` wrote its newest
/// column and its key.
fn table(columns: &[&str], key: &[&str], written: u32) -> TableState {
    let state = serde_json::json!({
        "schema": "lab", "table": "plates", "identity": "f", "key_index": written, "lesser": [], "whole": [],
        "key": key, "newest": written, "key_newest": written,
        "columns": columns.iter().enumerate().map(|(at, name)| ColumnState {
            number: i16::try_from(at + 1).unwrap(), name: (*name).to_owned(), type_oid: 25, modifier: -1,
            not_null: false, generated: false, listed: true, inherits: Vec::new(), computed: Vec::new(),
        }).collect::<Vec<_>>(),
    });
    serde_json::from_value(state).unwrap()
}

fn announced(columns: &[&str]) -> Announced {
    let column = |name: &&str| AnnouncedColumn {
        name: (*name).to_owned(),
        type_oid: 25,
        modifier: -1,
        in_identity: true,
    };
    Announced {
        oid: 1,
        schema: "lab".into(),
        table: "plates".into(),
        identity: ReplicaIdentity::Full,
        columns: columns.iter().map(column).collect(),
    }
}

/// States that looks found before transactions 100, 200, …
fn seen(states: Vec<Option<TableState>>) -> Versions<Option<TableState>> {
    let mut states = states.into_iter().zip((1..).map(|nth| Arc::new(LookedAt::at(nth * 1000, nth * 100))));
    let (state, at) = states.next().unwrap();
    let mut versions = Versions::new(state, &at);
    for (state, at) in states {
        versions.note(state, &at, PartialEq::eq);
    }
    versions
}

#[track_caller]
fn key(
    versions: &Versions<Option<TableState>>,
    columns: &[&str],
    xid: u32,
    is_expected: bool,
) -> Option<String> {
    let picked = versions.pick(&announced(columns), RowMoment { xid, wal: 0 }, is_expected);
    picked.key.map(|key| key.join("/"))
}

#[test]
fn renamed_key_is_known_by_its_columns() {
    let versions =
        seen(vec![Some(table(&["id", "v"], &["id"], 50)), Some(table(&["t_id", "v"], &["t_id"], 150))]);
    for xid in [120, 150, 180] {
        assert_eq!(key(&versions, &["id", "v"], xid, true).as_deref(), Some("id"));
        assert_eq!(key(&versions, &["t_id", "v"], xid, false).as_deref(), Some("t_id"));
    }
    assert_eq!(key(&versions, &["x", "v"], 150, true), None, "a name in between");
}

/// The key still has the same index. Its column has the name from before or after.
#[test]
fn renamed_key_is_known_in_forms_in_between() {
    let later = TableState { key_index: 50, ..table(&["t_id", "v"], &["t_id"], 150) };
    let versions = seen(vec![Some(table(&["id", "v"], &["id"], 50)), Some(later)]);
    assert_eq!(key(&versions, &["id", "v", "w"], 150, true).as_deref(), Some("id"));
    assert_eq!(key(&versions, &["t_id", "v", "w"], 150, true).as_deref(), Some("t_id"));
    assert_eq!(key(&versions, &["id", "t_id", "v"], 150, true), None);
}

#[test]
fn replaced_key_of_same_columns_goes_by_transaction() {
    let versions =
        seen(vec![Some(table(&["a", "b"], &["a", "b"], 50)), Some(table(&["a", "b"], &["b", "a"], 150))]);
    for (xid, is_expected, expected) in [
        (90, true, "a/b"),   // ended before the first look
        (120, true, "a/b"),  // before the key was replaced, as far as can be known
        (150, true, "a/b"),  // in the transaction that replaced it: announced for another reason
        (150, false, "b/a"), // announced for no other reason than this
        (160, true, "b/a"),  // began after it
        (250, true, "b/a"),  // ended after the second look
    ] {
        let found = key(&versions, &["a", "b"], xid, is_expected);
        assert_eq!(found.as_deref(), Some(expected), "{xid} {is_expected}");
    }
}

#[test]
fn dropped_table_and_dropped_key_keep_their_key() {
    let before = || Some(table(&["id", "v"], &["id"], 50));
    let dropped = seen(vec![before(), None]);
    assert_eq!(key(&dropped, &["id", "v"], 150, true).as_deref(), Some("id"));
    let without = Some(TableState { key: Vec::new(), key_index: 0, ..table(&["id", "v"], &[], 50) });
    let versions = seen(vec![before(), without]);
    assert_eq!(key(&versions, &["id", "v"], 150, true).as_deref(), Some("id"));
    assert_eq!(key(&versions, &["id", "v"], 150, false).as_deref(), Some(""));
    assert_eq!(key(&versions, &["id", "v"], 250, true).as_deref(), Some(""));
}

#[test]
fn key_of_unseen_form_is_known_only_if_it_lasted() {
    let wide = ["id", "v", "uid"];
    let replaced =
        seen(vec![Some(table(&["id", "v"], &["id"], 50)), Some(table(&["old_id", "v", "id"], &["id"], 150))]);
    assert_eq!(key(&replaced, &wide, 150, true).as_deref(), Some("id"), "the same name before and after");
    let renamed =
        seen(vec![Some(table(&["id", "v"], &["id"], 50)), Some(table(&["old_id", "v"], &["old_id"], 150))]);
    assert_eq!(key(&renamed, &wide, 150, true), None);
    let lasted = TableState { newest: Some(90), ..table(&["id", "v", "w"], &["id"], 20) };
    assert_eq!(key(&seen(vec![Some(lasted)]), &["id", "v"], 80, true).as_deref(), Some("id"));
    let younger = table(&["id", "v", "w"], &["id"], 90);
    assert_eq!(key(&seen(vec![Some(younger.clone())]), &["id", "v"], 80, true), None);
    assert_eq!(key(&seen(vec![Some(younger)]), &["id", "v", "w"], 80, true), None, "made after the change");
}

fn composite(fields: &[(&str, bool, u32)]) -> TypeState {
    let field = |(at, (name, dropped, since)): (usize, &(&str, bool, u32))| FieldState {
        number: i16::try_from(at + 1).unwrap(),
        name: (*name).to_owned(),
        type_oid: if *dropped { 0 } else { 25 },
        dropped: *dropped,
        since: *since,
    };
    TypeState {
        shape: TypeShape::Composite,
        part: 0,
        modifier: -1,
        delimiter: b',',
        plain: false,
        name: "addr".into(),
        fields: fields.iter().enumerate().map(field).collect(),
        labels: Vec::new(),
        since: None,
    }
}

fn names(state: &TypeState) -> String {
    let there = state.fields.iter().filter(|field| !field.dropped);
    there.map(|field| field.name.as_str()).collect::<Vec<_>>().join(" ")
}

#[test]
fn altered_composite_goes_by_position_then_by_transaction() {
    let mut versions = Versions::new(
        composite(&[("street", false, 50), ("no", false, 50)]),
        &Arc::new(LookedAt::at(1000, 100)),
    );
    let altered = composite(&[("street", false, 50), ("house", false, 150), ("zip", false, 170)]);
    versions.note(altered, &Arc::new(LookedAt::at(2000, 200)), PartialEq::eq);
    for (xid, wal, expected) in [
        (90, 900, "street no"),
        (120, 1500, "street no"),
        (160, 1500, "street house"), // after the rename, before the addition: no look has seen it
        (180, 1500, "street house zip"),
        (120, 2500, "street house zip"), // began early, wrote late
    ] {
        let found = versions.at(RowMoment { xid, wal });
        assert_eq!(names(&found[0]), expected, "{xid} at {wal}");
    }
}

/// A look before the commit does not find what the transaction has altered, so its position proves nothing
/// for rows of that transaction.
#[test]
fn own_alteration_is_possible_before_looks_find_it() {
    let before = composite(&[("street", false, 50), ("no", false, 50)]);
    let mut versions = Versions::new(before.clone(), &Arc::new(LookedAt::at(1000, 100)));
    versions.note(before, &Arc::new(LookedAt::at(2000, 200)), PartialEq::eq);
    let altered = composite(&[("street", false, 50), ("house", false, 150), ("zip", false, 170)]);
    versions.note(altered, &Arc::new(LookedAt::at(3000, 300)), PartialEq::eq);
    let at = |xid| versions.at(RowMoment { xid, wal: 1500 }).iter().map(names).collect::<Vec<_>>();
    assert_eq!(at(150), ["street no", "street house", "street house zip"]);
    assert_eq!(at(160), ["street no"]);
}

/// A row between two alterations in its own transaction has a form that no look finds, before or after.
#[test]
fn own_alterations_are_possible_in_any_combination() {
    let before = composite(&[("street", false, 50), ("no", false, 50)]);
    let mut versions = Versions::new(before, &Arc::new(LookedAt::at(1000, 100)));
    let altered = composite(&[("road", false, 150), ("..dropped..", true, 150), ("zip", false, 150)]);
    versions.note(altered, &Arc::new(LookedAt::at(2000, 200)), PartialEq::eq);
    let at = |xid| versions.at(RowMoment { xid, wal: 1500 }).iter().map(names).collect::<Vec<_>>();
    let of_own =
        ["street no", "road no", "street", "road", "street no zip", "road no zip", "street zip", "road zip"];
    assert_eq!(at(150), of_own);
    assert_eq!(at(140), ["street no", "road zip"]);
}

/// The first look was after the alteration, or the states before it were forgotten.
#[test]
fn change_before_the_oldest_state_is_known_only_if_unaltered() {
    let mut versions = Versions::new(
        composite(&[("street", false, 50), ("no", false, 150)]),
        &Arc::new(LookedAt::at(1000, 200)),
    );
    let at = |versions: &Versions<_>, xid, wal| versions.is_before_oldest(RowMoment { xid, wal });
    assert!(at(&versions, 140, 900));
    assert!(at(&versions, 150, 900), "altered in the transaction of the change");
    assert!(!at(&versions, 160, 900), "altered before the change");
    assert!(!at(&versions, 140, 1100), "written after the look");
    let made = Versions::new(composite(&[("no", false, 150)]), &Arc::new(LookedAt::at(1000, 200)));
    assert!(!at(&made, 150, 900), "created in the transaction of the change");
    for nth in 0..20 {
        let name = format!("no{nth}");
        let altered = composite(&[("street", false, 50), (&name, false, 300 + nth)]);
        versions.note(altered, &Arc::new(LookedAt::at(2000 + u64::from(nth), 400)), PartialEq::eq);
    }
    assert!(at(&versions, 250, 1500), "seen once, and forgotten since");
}

#[test]
fn dropped_attribute_was_there_before() {
    let mut versions = Versions::new(
        composite(&[("street", false, 50), ("city", false, 50)]),
        &Arc::new(LookedAt::at(1000, 100)),
    );
    let altered = composite(&[("..dropped..", true, 150), ("city", false, 50), ("country", false, 160)]);
    versions.note(altered, &Arc::new(LookedAt::at(2000, 200)), PartialEq::eq);
    let at = |xid| names(&versions.at(RowMoment { xid, wal: 1500 })[0]);
    assert_eq!(
        (at(120).as_str(), at(155).as_str(), at(170).as_str()),
        ("street city", "city", "city country")
    );
}
