//! Models of rules and tables.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::change::{Column, ReplicaIdentity};
use crate::config::{Automatic, Pii};
use crate::contracts::document::document;
use crate::rules::Rules;
use crate::types::{Base, Kind, SqlType};

pub(in crate::contracts) fn column(name: &str, kind: Kind, base: Base, not_null: bool) -> Column {
    Column {
        name: name.to_owned(),
        kind,
        data_type: SqlType::plain(base),
        not_null,
        origin: None,
        in_identity: name == "plate_id",
    }
}

/// `lab.plates` with its comments.
pub(in crate::contracts) fn plates() -> Described {
    let columns = vec![
        column("plate_id", Kind::Number, Base::Int8, true),
        column("barcode", Kind::Text, Base::Text, true),
        column("volume", Kind::Number, Base::Numeric, false),
        column("operator", Kind::Text, Base::Text, false),
        column("full_at", Kind::TimestampTz, Base::TimestampTz, false),
    ];
    let mut comments = vec![None; columns.len()];
    comments[1] = Some("what the label says".to_owned());
    Described {
        relation: Relation {
            oid: 7,
            schema: "lab".into(),
            table: "plates".into(),
            identity: ReplicaIdentity::Default,
            columns,
            primary_key: vec![0],
            absent: Vec::new(),
            unknown: None,
        },
        comment: Some("Plates of the lab".into()),
        comments,
        types: Vec::new(),
        numbers: Vec::new(),
        unsent: Vec::new(),
    }
}

pub(in crate::contracts) fn settings(rules: &str, automatic: Automatic) -> TranslateSettings {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("lab.toml"), rules).unwrap();
    TranslateSettings {
        automatic,
        rules: Arc::new(Rules::load("*.toml", Path::new(folder.path())).unwrap()),
        pii: Pii { columns: vec!["*.*.operator".into()], ..Pii::default() },
        ..TranslateSettings::default()
    }
}

pub(in crate::contracts) fn model(rules: &str, automatic: Automatic, table: &Described) -> Model {
    Model::new("urn:forebay:lab", None, &settings(rules, automatic), std::slice::from_ref(table)).unwrap()
}

const RULES: &str = r#"
[[event]]
type = "lab.plate_filled.v2"
about = "A plate is full."
owner = "lab"
consumers = ["billing"]
from = "lab.plates"
on = "update of plate_id"
when = """volume >
  10"""
key = "barcode"
time = "full_at"
data = """
  plate_id,             -- its number
  barcode as plate,
  volume * 2 as twice,
  hmac(operator) as who
"""

[[event]]
type = "lab.plate_filled.v1"
from_event = "lab.plate_filled.v2"
data = "plate_id, plate as barcode"
deprecated = { since = "2026-11-01", sunset = "2027-05-01" }

[[event]]
type = "lab.plate_came.v1"
from = "lab.plates"
on = "insert"
"#;

#[test]
fn rule_model_has_types_meanings_and_optional_fields() {
    let model = model(RULES, Automatic::Off, &plates());
    let types: Vec<_> = model.events.iter().map(|event| event.event_type.as_str()).collect();
    assert_eq!(types, ["lab.plate_filled.v2", "lab.plate_filled.v1", "lab.plate_came.v1"]);
    let [filled, old, came] = &model.events[..] else { panic!() };
    let actual: Vec<_> = filled
        .fields
        .iter()
        .map(|f| (f.name.as_str(), f.sql_type.as_str(), f.nullable, f.optional, f.meaning.as_deref(), f.hmac))
        .collect();
    assert_eq!(
        actual,
        [
            ("plate_id", "bigint", false, false, Some("its number"), false),
            ("plate", "text", false, true, Some("what the label says"), false),
            ("twice", "numeric", true, true, None, false),
            ("who", "text", true, true, None, true),
        ]
    );
    let origin = &filled.origins[0];
    assert_eq!(
        (origin.on.as_str(), &origin.when[..]),
        ("update of plate_id", &["volume > 10".to_owned()][..])
    );
    assert_eq!(origin.order.key, [KeyPart { text: "barcode".into(), sql_type: "text".into() }]);
    assert_eq!(origin.order.time.as_deref(), Some("full_at"));
    // The derived version has the same descriptions in the same order.
    assert_eq!(old.fields[0].meaning.as_deref(), Some("its number"));
    assert_eq!(old.origins[0].order, origin.order);
    assert_eq!(old.origins[0].from_event.as_deref(), Some("lab.plate_filled.v2"));
    // An inserted row is complete. A rule without a select list leaves out personal data.
    assert!(came.fields.iter().all(|field| !field.optional && field.name != "operator"));
    assert_eq!(came.origins[0].order.key[0].text, "plate_id");
}

/// An outbox on the table `lab.plates`.
const OUTBOX: &str = "[[event]]\noutbox = \"lab.plates\"\ntype = \"lab.{type}\"\nabout = \"What plates say.\"\nowner = \"lab\"\n\
                      columns = { id = \"plate_id\", aggregateid = \"plate_id\", type = \"barcode\", payload = \"barcode\" }\n";

#[test]
fn automatic_events_exclude_mapped_operations() {
    let types = |rules, automatic, table: &Described| -> Vec<String> {
        let events = model(rules, automatic, table).events.into_iter();
        events.filter(|event| event.automatic).map(|event| event.event_type).collect()
    };
    let full = |mut table: Described| {
        table.relation.identity = ReplicaIdentity::Nothing;
        table.relation.columns[0].in_identity = false;
        table
    };
    let insert = "[[event]]\ntype = \"a.b.v1\"\nfrom = \"lab.plates\"\non = \"insert\"\n";
    let update = "[[event]]\ntype = \"a.b.v1\"\nfrom = \"lab.plates\"\non = \"insert, update\"\n";
    let all = ["deleted", "inserted", "truncated", "updated"];
    for (rules, automatic, table, expected) in [
        (insert, Automatic::Also, plates(), &all[..]),
        // An update that changes the key is published as a delete and an insert.
        (insert, Automatic::Unmapped, plates(), &all[..]),
        (update, Automatic::Unmapped, plates(), &["deleted", "truncated"][..]),
        (insert, Automatic::Off, plates(), &[][..]),
        (OUTBOX, Automatic::Also, plates(), &[][..]),
    ] {
        let expected: Vec<_> = expected.iter().map(|what| format!("lab.plates.{what}.v1")).collect();
        assert_eq!(types(rules, automatic, &table), expected, "{rules} {automatic:?}");
    }
    let none = "[[event]]\ntype = \"a.b.v1\"\nfrom = \"lab.plates\"\non = \"insert\"\nkey = \"barcode\"\n";
    assert_eq!(types(none, Automatic::Unmapped, &full(plates())), ["lab.plates.truncated.v1"]);
    let model = model(insert, Automatic::Also, &plates());
    let deleted = model.event("lab.plates.deleted.v1").unwrap();
    assert_eq!(deleted.fields.iter().map(|field| field.name.as_str()).collect::<Vec<_>>(), ["plate_id"]);
    let updated = model.event("lab.plates.updated.v1").unwrap();
    let optional: Vec<_> = updated.fields.iter().filter(|f| f.optional).map(|f| f.name.as_str()).collect();
    assert_eq!(optional, ["barcode", "volume"]);
    assert!(updated.about.as_deref().unwrap().contains("Plates of the lab"));
}

#[test]
fn rules_of_one_type_merge_into_one_event() {
    let rules = "[[event]]\ntype = \"a.b.v1\"\nfrom = \"lab.plates\"\non = \"insert\"\ndata = \"plate_id as id, barcode\"\n\
                 [[event]]\ntype = \"a.b.v1\"\nfrom = \"lab.plates\"\non = \"delete\"\ndata = \"plate_id::text as id, 1 as one\"\n";
    let model = model(rules, Automatic::Off, &plates());
    let [event] = &model.events[..] else { panic!() };
    let actual: Vec<_> = event.fields.iter().map(|f| (f.name.as_str(), f.optional)).collect();
    assert_eq!(actual, [("id", false), ("barcode", true), ("one", true)]);
    assert_eq!(event.fields[0].schema["anyOf"].as_array().unwrap().len(), 2);
    assert_eq!(event.origins.len(), 2);
    let schema = document(&model, event, 0, None);
    assert_eq!(schema["required"], json!(["id"]));
    assert_eq!(schema["x-order"].as_array().unwrap().len(), 1);
}

#[test]
fn undescribed_table_is_an_error_of_its_rule() {
    let error =
        Model::new("urn:forebay:lab", None, &settings(RULES, Automatic::Off), &[]).unwrap_err().to_string();
    assert!(
        error.contains("lab.toml:3:9: lab.plate_filled.v2: the columns of lab.plates are unknown"),
        "{error}"
    );
}

#[test]
fn example_is_a_whole_event_with_its_key_field() {
    let mut model = model(RULES, Automatic::Off, &plates());
    model.schemas = Some("https://schemas.example".to_owned());
    let example = model.example(&model.events[1], Some(3)).unwrap();
    assert_eq!(example["partitionkey"], example["data"]["barcode"]);
    assert_eq!(example["dataschema"], "https://schemas.example/lab.plate_filled/1.3.json");
    assert_eq!(example["deprecationsunset"], "2027-05-01T00:00:00Z");
    assert_ne!(example["data"], Value::Null);
}
