//! Which tables can be polled with which cursor, and the error texts for the others.

use super::*;

fn name() -> TableName {
    TableName { schema: "lab".to_owned(), table: "plates".to_owned() }
}

fn column(name: &str, data_type: &str) -> ColumnFacts {
    ColumnFacts {
        name: name.to_owned(),
        data_type: data_type.to_owned(),
        not_null: true,
        default: None,
        sequence: None,
    }
}

fn index(columns: &[&str], unique: bool) -> IndexFacts {
    let columns = columns.iter().map(|column| (*column).to_owned()).collect();
    IndexFacts { primary: unique, unique, columns }
}

/// A table with each kind of cursor.
fn table() -> TableFacts {
    let sequence =
        SequenceFacts { name: "lab.s".to_owned(), readable: true, cache: 1, increment: 1, cycle: false };
    let id = ColumnFacts { sequence: Some(sequence), ..column("id", "bigint") };
    let txid = ColumnFacts { default: Some("pg_current_xact_id()".to_owned()), ..column("txid", "xid8") };
    TableFacts {
        role: "reader".to_owned(),
        kind: "r".to_owned(),
        persistence: "p".to_owned(),
        access: Some("heap".to_owned()),
        children: false,
        foreign_leaf: None,
        may_select: true,
        row_security: false,
        columns: vec![id, column("updated_at", "timestamp with time zone"), txid],
        indexes: vec![
            index(&["id"], true),
            index(&["updated_at", "id"], false),
            index(&["txid", "id"], false),
        ],
    }
}

#[test]
fn best_cursor_is_detected() {
    let mut facts = table();
    for (kind, order) in [
        (CursorKind::Xid8, &["txid", "id"][..]),
        (CursorKind::UpdatedAt, &["updated_at", "id"]),
        (CursorKind::Serial, &["id"]),
    ] {
        let cursor = choose(&name(), Some(&facts), None).unwrap();
        assert_eq!(
            (cursor.kind, cursor.order.as_slice()),
            (kind, order.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>().as_slice())
        );
        // Without its index, the cursor is not chosen.
        facts.indexes.retain(|index| index.columns != order || kind == CursorKind::Serial);
    }
}

type Spoil = fn(&mut TableFacts);

#[test]
fn unsafe_table_or_cursor_is_refused_with_its_ddl() {
    let serial = CursorSetting::Serial("id".to_owned());
    let changed = CursorSetting::UpdatedAt("updated_at".to_owned());
    let txid = CursorSetting::Xid8("txid".to_owned());
    let cases: [(&CursorSetting, Spoil, &str); 14] = [
        (&serial, |facts| facts.children = true, "children"),
        (
            &serial,
            |facts| (facts.kind, facts.foreign_leaf) = ("p".to_owned(), Some("lab.far".to_owned())),
            "lab.far",
        ),
        (&serial, |facts| facts.children = true, "children"),
        (&serial, |facts| facts.persistence = "u".to_owned(), "SET LOGGED"),
        (&serial, |facts| facts.may_select = false, "GRANT SELECT ON \"lab\".\"plates\" TO \"reader\";"),
        (&serial, |facts| facts.row_security = true, "BYPASSRLS"),
        (&serial, |facts| facts.indexes.clear(), "ADD PRIMARY KEY"),
        (&serial, |facts| facts.columns[0].sequence = None, "ADD COLUMN txid xid8 NOT NULL"),
        (
            &serial,
            |facts| facts.columns[0].sequence.as_mut().unwrap().cache = 20,
            "ALTER SEQUENCE lab.s CACHE 1",
        ),
        (&serial, |facts| facts.columns[0].sequence.as_mut().unwrap().increment = 50, "ADD COLUMN txid"),
        (&changed, |facts| facts.columns[1].not_null = false, "ALTER COLUMN \"updated_at\" SET NOT NULL;"),
        (
            &changed,
            |facts| facts.columns[1].data_type = "timestamp without time zone".to_owned(),
            "TYPE timestamptz USING \"updated_at\" AT TIME ZONE 'UTC';",
        ),
        (
            &txid,
            |facts| facts.indexes.truncate(1),
            "CREATE INDEX CONCURRENTLY ON \"lab\".\"plates\" (\"txid\", \"id\");",
        ),
        (&txid, |facts| facts.columns.truncate(1), "no such column"),
    ];
    for (setting, spoil, expected) in cases {
        let mut facts = table();
        assert!(choose(&name(), Some(&facts), Some(setting)).is_ok());
        spoil(&mut facts);
        let found = choose(&name(), Some(&facts), Some(setting)).unwrap_err();
        let said = format!("{found} {:?} {:?}", found.hint, found.command).replace("\\\"", "\"");
        assert!(said.contains(expected), "{expected:?} is not in {said}");
    }
    assert!(choose(&name(), None, None).is_err());
}

#[test]
fn sequence_without_right_leaves_no_bound() {
    let mut facts = table();
    let serial = CursorSetting::Serial("id".to_owned());
    assert!(!choose(&name(), Some(&facts), Some(&serial)).unwrap().reads_all());
    facts.columns[0].sequence.as_mut().unwrap().readable = false;
    assert!(choose(&name(), Some(&facts), Some(&serial)).unwrap().reads_all());
}
