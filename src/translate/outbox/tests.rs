//! Outbox rows and messages as events.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::change::{
    Cell, Change, ChangePlace, Column, Message, OldRow, Operation, Relation, ReplicaIdentity, Tuple,
};
use crate::config::Pii;
use crate::event::Records;
use crate::position::{CommitSeq, Transaction};
use crate::rules::Rules;
use crate::translate::{
    Contracts, Promise, RuleOutcome, TransactionContext, TranslateError, TranslateSettings, Translator,
};
use crate::types::{Base, Kind, SqlType};

const COLUMNS: [(&str, Kind, Base); 6] = [
    ("id", Kind::Text, Base::Uuid),
    ("aggregatetype", Kind::Text, Base::Varchar),
    ("aggregateid", Kind::Text, Base::Text),
    ("type", Kind::Text, Base::Text),
    ("payload", Kind::Json, Base::Jsonb),
    ("timestamp", Kind::Timestamp, Base::Timestamp),
];

const ROW: [Option<&str>; 6] =
    [Some("0b5e"), Some("Order"), Some("o/7"), Some("OrderPlaced"), Some("{\"total\": 1.50}"), None];

fn relation(columns: &[(&str, Kind, Base)]) -> Arc<Relation> {
    let column = |(at, (name, kind, base)): (usize, &(&str, Kind, Base))| Column {
        name: (*name).to_owned(),
        kind: kind.clone(),
        data_type: SqlType::plain(base.clone()),
        not_null: false,
        origin: None,
        in_identity: at == 0,
    };
    Arc::new(Relation {
        oid: 1,
        schema: "shop".into(),
        table: "outbox".into(),
        identity: ReplicaIdentity::Default,
        columns: columns.iter().enumerate().map(column).collect(),
        primary_key: vec![0],
        absent: Vec::new(),
        unknown: None,
    })
}

fn translator(rules: &str, pii: &[&str]) -> Translator {
    let folder = tempfile::tempdir().unwrap();
    let schema = r#"{"type":"object","required":["total"]}"#;
    std::fs::write(folder.path().join("order.order_placed.v1.json"), schema).unwrap();
    std::fs::write(folder.path().join("shop.toml"), rules).unwrap();
    let rules = Arc::new(Rules::load("*.toml", folder.path()).unwrap());
    let pii = Pii { columns: pii.iter().map(|column| (*column).to_owned()).collect(), ..Pii::default() };
    Translator::new("urn:forebay:shop", 0, TranslateSettings { rules, pii, ..TranslateSettings::default() })
}

fn place() -> ChangePlace {
    let transaction = Transaction { commit: CommitSeq::new(9), xid: 3, time: 0 };
    ChangePlace { transaction, index: 0, record: CommitSeq::new(5), nth: 0 }
}

fn lines(records: &Records) -> Vec<Value> {
    records.iter().map(|record| serde_json::from_slice(record.line).unwrap()).collect()
}

fn insert(
    translator: &mut Translator,
    relation: &Arc<Relation>,
    row: &[Option<&str>],
) -> Result<Vec<Value>, TranslateError> {
    let (mut bytes, mut cells) = (Vec::new(), Vec::new());
    for value in row {
        cells.push(value.map_or(Cell::Null, |text| {
            let start = u32::try_from(bytes.len()).unwrap();
            bytes.extend_from_slice(text.as_bytes());
            Cell::Text { start, length: u32::try_from(text.len()).unwrap() }
        }));
    }
    let operation = Operation::Insert { new: Tuple::new(&bytes, &cells) };
    let change = Change { place: place(), relation, operation, raw: &bytes };
    let mut records = Records::default();
    translator.translate(&change, &mut records, &mut RuleOutcome::default())?;
    Ok(lines(&records))
}

const RULE: &str = "[[event]]\noutbox = \"shop.outbox\"\nschemas = \".\"\n";

#[test]
fn debezium_outbox_row_is_an_event() {
    let mut translator = translator("[[event]]\noutbox = \"shop.outbox\"\n", &[]);
    let made = insert(&mut translator, &relation(&COLUMNS), &ROW).unwrap();
    assert_eq!(
        made,
        [json!({
            "specversion": "1.0", "id": "0b5e", "source": "urn:forebay:shop", "type": "order.order_placed.v1",
            "subject": "o/7", "time": "1970-01-01T00:00:00.000000Z", "recordedtime": "1970-01-01T00:00:00.000000Z",
            "partitionkey": "o/7", "sequence": "00000000000000000009000000000000", "data": {"total": 1.5},
        })]
    );
}

#[test]
fn invalid_outbox_row_has_reason_without_values() {
    let mut translator = translator(RULE, &[]);
    let relation = relation(&COLUMNS);
    for (column, value, why) in [
        (0, None, "column id is NULL"),
        (1, Some("secret ü"), "not a valid event type"),
        (2, Some(""), "column aggregateid is empty"),
        (3, None, "column type is NULL"),
        (3, Some("secret.v0"), "not a valid event type"),
        (4, Some("{\"secret\":1}"), "match its schema at /required"),
        (4, None, "match its schema at /type"),
        (5, Some("infinity"), "column timestamp is infinite"),
        (5, Some("0044-03-15 08:00:00 BC"), "column timestamp is infinite"),
    ] {
        let mut row = ROW;
        row[column] = value;
        let said = insert(&mut translator, &relation, &row).unwrap_err().to_string();
        assert!(said.contains(why) && !said.contains("secret"), "{said}");
    }
    assert_eq!(insert(&mut translator, &relation, &ROW).unwrap().len(), 1, "the next one is not disturbed");
}

#[test]
fn payload_is_verbatim_and_missing_time_is_commit_time() {
    let mut translator = translator("[[event]]\noutbox = \"shop.outbox\"\ntype = \"shop.{type}\"\n", &[]);
    let mut columns = COLUMNS;
    columns[4] = ("payload", Kind::Text, Base::Text);
    columns[5] = ("timestamp", Kind::TimestampTz, Base::TimestampTz);
    let relation = relation(&columns);
    for (payload, data) in
        [(Some("[1,\n 2]"), json!([1, 2])), (None, Value::Null), (Some("\"x\""), json!("x"))]
    {
        let row = [Some("i"), None, Some("k"), Some("sold.v2"), payload, Some("2026-11-21 08:00:00.5+00")];
        let made = insert(&mut translator, &relation, &row).unwrap();
        assert_eq!((&made[0]["data"], &made[0]["type"]), (&data, &json!("shop.sold.v2")));
        assert_eq!(made[0]["time"], "2026-11-21T08:00:00.5Z");
    }
    let row = [Some("i"), None, Some("k"), Some("sold"), Some("{not json"), None];
    assert!(insert(&mut translator, &relation, &row).unwrap_err().to_string().starts_with("the payload: "));
}

#[test]
fn outbox_cleanup_is_no_event() {
    let mut translator = translator(RULE, &[]);
    let relation = relation(&COLUMNS);
    let cells = [Cell::Null; 6];
    let tuple = Tuple::new(b"", &cells);
    for operation in [
        Operation::Update { old: None, new: tuple },
        Operation::Delete { old: OldRow::Key(tuple) },
        Operation::Truncate { cascade: false, restart_identity: false },
    ] {
        let mut records = Records::default();
        let change = Change { place: place(), relation: &relation, operation, raw: b"" };
        translator.translate(&change, &mut records, &mut RuleOutcome::default()).unwrap();
        assert!(records.is_empty(), "{operation:?}");
    }
    assert!(translator.wants(&relation));
}

#[test]
fn invalid_outbox_table_reports_all_errors() {
    let with = |at: usize, column: (&'static str, Kind, Base)| {
        let mut columns = COLUMNS;
        columns[at] = column;
        columns
    };
    let named = "[[event]]\noutbox = \"shop.outbox\"\ncolumns = { timestamp = \"timestamp\" }\n";
    for (rules, columns, pii, expected) in [
        (RULE, with(0, ("event_id", Kind::Text, Base::Uuid)), &[][..], "no column id"),
        (RULE, with(0, ("id", Kind::Bytea, Base::Bytea)), &[], "the id column id has type bytea"),
        (RULE, with(4, ("payload", Kind::Bytea, Base::Bytea)), &[], "must be jsonb, json or text"),
        (
            named,
            with(5, ("timestamp", Kind::Number, Base::Int8)),
            &[],
            "the timestamp column timestamp has type bigint",
        ),
        (RULE, COLUMNS, &["shop.outbox.payload"], "personal data"),
    ] {
        let said = translator(rules, pii).check(&relation(&columns)).unwrap_err().to_string();
        assert!(said.contains(expected) && said.contains("shop.toml:2:"), "{said}");
    }
    let both = translator(RULE, &[]).check(&relation(&COLUMNS[1..4])).unwrap_err();
    assert_eq!(both.0.len(), 2, "{both}");
    let chance = with(5, ("timestamp", Kind::Number, Base::Int8));
    translator(RULE, &[]).check(&relation(&chance)).expect("nobody has named the timestamp");
    let columns = with(0, ("nr", Kind::Number, Base::Int8));
    let other = "[[event]]\noutbox = \"shop.outbox\"\ncolumns = { id = \"nr\" }\n";
    translator(other, &[]).check(&relation(&columns)).expect("the column is named");
}

fn said(translator: &mut Translator, prefix: &str, content: &str) -> Result<Vec<Value>, String> {
    let (prefix, content) = (prefix.as_bytes(), content.as_bytes());
    let message = Message { place: place(), prefix, content, size: 0, raw: b"" };
    let mut records = Records::default();
    translator.message(&message, &mut records).map_err(|error| error.to_string())?;
    Ok(lines(&records))
}

#[test]
fn message_prefix_carries_type_and_key() {
    let mut translator = translator("[[event]]\nmessages = \"event:\"\n", &[]);
    let made = said(&mut translator, "event:shop.cart_abandoned.v2:cart:7", "{\"n\": 1}").unwrap();
    // uuid5(uuid5(NAMESPACE_URL, "urn:forebay:shop"), "shop.cart_abandoned.v2|msg|0|3|0000000000000005|0")
    let namespace = uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_URL, b"urn:forebay:shop");
    let id = uuid::Uuid::new_v5(&namespace, b"shop.cart_abandoned.v2|msg|0|3|0000000000000005|0");
    assert_eq!(made[0]["id"], id.to_string());
    assert_eq!((&made[0]["subject"], &made[0]["partitionkey"]), (&json!("cart:7"), &json!("cart:7")));
    let keyless = said(&mut translator, "event:CartAbandoned", "[]").unwrap();
    assert_eq!(
        (&keyless[0]["type"], &keyless[0]["subject"]),
        (&json!("cart_abandoned.v1"), &keyless[0]["id"])
    );
    assert_eq!(said(&mut translator, "other:x", "{}"), Ok(Vec::new()));
    for (prefix, content) in
        [("event:", "{}"), ("event::k", "{}"), ("event:x:", "{}"), ("event:x", ""), ("event:x", "{")]
    {
        assert!(said(&mut translator, prefix, content).is_err(), "{prefix} {content}");
    }
    let cut = Message { place: place(), prefix: b"event:x", content: b"{", size: 9, raw: b"M" };
    let why = translator.message(&cut, &mut Records::default()).unwrap_err().to_string();
    assert!(why.contains("max_row_size"), "{why}");
}

#[test]
fn context_applies_to_later_events_and_absence_changes_nothing() {
    let mut translator = translator("[[event]]\noutbox = \"shop.outbox\"\n", &[]);
    let relation = relation(&COLUMNS);
    let before = insert(&mut translator, &relation, &ROW).unwrap();
    let (context, _) = TransactionContext::read(br#"{"correlationid":"c-1","user":"mira"}"#);
    translator.set_context(context);
    let mut with = insert(&mut translator, &relation, &ROW).unwrap();
    assert_eq!((&with[0]["correlationid"], &with[0]["user"]), (&json!("c-1"), &json!("mira")));
    with[0].as_object_mut().unwrap().retain(|name, _| name != "correlationid" && name != "user");
    assert_eq!(with, before);
    translator.set_context(None);
    assert_eq!(insert(&mut translator, &relation, &ROW).unwrap(), before);
}

/// A contract that locks every type.
#[derive(Debug)]
struct Locked;

impl Contracts for Locked {
    fn has(&self, _: &str) -> bool {
        true
    }

    fn promises(&self, _: &str, _: &[(&str, &Kind, &Base)]) -> Result<Vec<Promise>, crate::failure::Problem> {
        Ok(Vec::new())
    }
}

#[test]
fn locked_type_is_accepted_only_from_its_outbox() {
    let address =
        ("order.order_placed.v1".to_owned(), "https://s.example/order.order_placed/1.0.json".to_owned());
    let with = |rules: &str| {
        let settings = TranslateSettings {
            contracts: Some(Arc::new(Locked)),
            schemas: [address.clone()].into(),
            ..translator(rules, &[]).settings().clone()
        };
        insert(&mut Translator::new("urn:forebay:shop", 0, settings), &relation(&COLUMNS), &ROW)
    };
    assert_eq!(with(RULE).unwrap()[0]["dataschema"], address.1);
    let refused = with("[[event]]\noutbox = \"shop.outbox\"\n").unwrap_err().to_string();
    assert!(refused.starts_with("order.order_placed.v1 is locked for another rule"), "{refused}");
}
