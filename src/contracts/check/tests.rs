//! Each kind of difference is reported, and nothing else.

use std::fs;
use std::path::Path;

use serde_json::json;

use super::*;
use crate::change::{Described, ReplicaIdentity};
use crate::config::Automatic;
use crate::contracts::lock::put;
use crate::contracts::locking::{LockRequest, files};
use crate::contracts::model::tests::{column, model, plates};
use crate::types::{Base, Enumeration, Kind};

pub(super) const TODAY: &str = "2026-11-21";

pub(super) const RULE: &str = "[[event]]\ntype = \"lab.plate_filled.v1\"\nabout = \"A plate is full.\"\nfrom = \"lab.plates\"\n\
                    on = \"insert\"\ndata = \"\"\"\n  plate_id, barcode, volume, state, hmac(operator) as who\n\"\"\"\n";

/// Plates with a state.
pub(super) fn table() -> Described {
    let mut table = plates();
    table.relation.columns.push(column("state", Kind::Text, state(&["empty", "full"]), true));
    table.comments.push(None);
    table
}

fn state(labels: &[&str]) -> Base {
    let labels = labels.iter().map(|&label| label.to_owned()).collect();
    Base::Enum(std::sync::Arc::new(Enumeration { oid: 0, name: "lab.state".into(), labels }))
}

/// Locks everything, through the files.
pub(super) fn lock(directory: &Path, model: &Model, automatic: bool) -> Lock {
    let before = Lock::read(directory).unwrap().unwrap_or_default();
    let request = LockRequest { automatic, accepted: None };
    for (file, text) in files(model, &before, &request).unwrap() {
        put(&directory.join(file), &text).unwrap();
    }
    Lock::read(directory).unwrap().unwrap_or_default()
}

/// The findings when this rule and table replace the locked ones.
fn after(rule: &str, change: impl FnOnce(&mut Described)) -> Vec<ContractFinding> {
    let folder = tempfile::tempdir().unwrap();
    let lock = lock(folder.path(), &model(RULE, Automatic::Off, &table()), false);
    assert!(check(&model(RULE, Automatic::Off, &table()), &lock, TODAY).is_empty());
    let mut now = table();
    change(&mut now);
    check(&model(rule, Automatic::Off, &now), &lock, TODAY)
}

fn differences(found: &[ContractFinding]) -> Vec<&str> {
    let [ContractFinding { what: FindingKind::Broken { differences, .. }, .. }] = found else {
        panic!("{found:#?}")
    };
    differences.iter().map(String::as_str).collect()
}

#[test]
fn rule_difference_is_named() {
    for (from, to, expected) in [
        (", volume,", ",", "field volume is gone"),
        (
            ", volume,",
            ", volume as millilitres,",
            "field volume is gone; perhaps it was renamed to millilitres",
        ),
        (
            ", volume,",
            ", volume::text as volume,",
            "field volume changed from number or string (numeric) to string (text)",
        ),
        ("barcode,", "nullif(barcode, '') as barcode,", "field barcode can now be null"),
        (
            "volume,",
            "volume::float8 as volume,",
            "field volume changed its form from decimal (numeric) to double (double precision)",
        ),
        (
            "plate_id,",
            "plate_id::int4 as plate_id,",
            "field plate_id changed its form from int64 (bigint) to int32 (integer)",
        ),
        ("hmac(operator) as who", "barcode as who", "field who is no longer a pseudonym (hmac)"),
        (
            "on = \"insert\"",
            "on = \"insert, update\"",
            "field barcode can now be absent: a large value that an update left unchanged, or a column \
             that the replica identity does not provide",
        ),
        ("on =", "key = \"barcode\"\non =", "its key changed from plate_id to barcode"),
        (
            "on =",
            "key = \"plate_id::text as plate_id\"\non =",
            "the type of its key changed from bigint to text",
        ),
        ("on =", "subject = \"barcode\"\non =", "its subject changed from plate_id to barcode"),
        ("on =", "time = \"full_at\"\non =", "its time changed from the commit's time to full_at"),
        ("on =", "id = \"key\"\non =", "its id changed from change to key"),
        ("on =", "id = \"barcode\"\non =", "its id changed from change to barcode"),
    ] {
        let rule = RULE.replace(from, to);
        assert_ne!(rule, RULE);
        let found = after(&rule, |_| {});
        let actual = differences(&found);
        assert!(actual.contains(&expected), "{from} -> {to}: {actual:#?}");
        assert_eq!(found[0].place.as_ref().map(|place| place.line_and_column().0), Some(2));
    }
}

/// Readers that ignore case would lose one of the two fields.
#[test]
fn names_that_differ_only_by_case_are_refused() {
    let table = table();
    let twin = RULE.replace("barcode,", "barcode, state as \"Barcode\",");
    let found = check(&model(&twin, Automatic::Off, &table), &Lock::default(), TODAY);
    let expected =
        FindingKind::CaseOnly { names: vec!["\"Barcode\" and \"barcode\"".into()], maker: Maker::Rule };
    assert!(found.iter().any(|finding| finding.what == expected && !finding.is_for_lock()), "{found:#?}");
    let reported = found.iter().map(ToString::to_string).collect::<String>();
    assert!(reported.contains("Give one of them another name in the rule"), "{reported}");
    // Also in an addition.
    assert!(after(&twin, |_| {}).iter().any(|finding| finding.what == expected));
    // Names that are already locked stay in the contract.
    let folder = tempfile::tempdir().unwrap();
    let lock = lock(folder.path(), &model(&twin, Automatic::Off, &table), false);
    assert!(check(&model(&twin, Automatic::Off, &table), &lock, TODAY).is_empty());
}

#[test]
fn columns_that_differ_only_by_case_are_not_locked() {
    let mut table = table();
    table.relation.columns.push(column("BarCode", Kind::Text, Base::Text, true));
    table.comments.push(None);
    let model = model("", Automatic::Also, &table);
    assert!(check(&model, &Lock::default(), TODAY).is_empty(), "automatic events are no contract");
    let found = case_only(&to_lock(&model, &Lock::default(), true, false), &Lock::default());
    assert!(!found.is_empty() && found.iter().all(|finding| !finding.is_warning()), "{found:#?}");
    assert!(
        found[0].to_string().contains("Write a rule that gives one of them another name"),
        "{}",
        found[0]
    );
}

#[test]
fn table_difference_is_named() {
    type Change = fn(&mut Described);
    let changes: [(Change, &str); 5] = [
        (|table| table.relation.columns[1].not_null = false, "field barcode can now be null"),
        (
            |table| table.relation.columns[5].data_type.base = state(&["empty", "filled"]),
            "field state lost the label \"full\"",
        ),
        (
            |table| {
                table.relation.columns[0].data_type.base = Base::Text;
                table.relation.columns[0].kind = Kind::Text;
            },
            "field plate_id changed from integer (bigint) to string (text)",
        ),
        (
            |table| table.relation.columns[0].data_type.base = Base::Int4,
            "the type of its key changed from bigint to integer",
        ),
        (
            |table| {
                table.relation.columns[0].in_identity = false;
                table.relation.columns[1].in_identity = true;
            },
            "its key changed from plate_id to barcode",
        ),
    ];
    for (change, expected) in changes {
        let found = after(RULE, change);
        let actual = differences(&found);
        assert!(actual.contains(&expected), "{actual:#?}");
    }
}

#[test]
fn nested_difference_is_found_whatever_the_field_name() {
    const RULE: &str = "[[event]]\ntype = \"lab.a.v1\"\nabout = \"a\"\nfrom = \"lab.plates\"\ndata = \"plate_id, box, states\"\n";
    let table = |fields: &[(&str, Kind)], labels: &[&str]| {
        let mut table = plates();
        let fields = fields.iter().map(|(name, kind)| ((*name).to_owned(), kind.clone())).collect();
        let box_of = Base::Other(crate::types::Named { oid: 0, name: "box".into() }.into());
        let states = Kind::Array { element: Kind::Text.into(), delimiter: b',' };
        table.relation.columns.push(column("box", Kind::Composite { fields }, box_of, true));
        table.relation.columns.push(column("states", states, Base::Array(state(labels).into()), true));
        table.comments.extend([None, None]);
        model(RULE, Automatic::Off, &table)
    };
    let was = [("description", Kind::Text), ("x-type", Kind::Text)];
    let folder = tempfile::tempdir().unwrap();
    let lock = lock(folder.path(), &table(&was, &["empty", "full"]), false);
    for (fields, labels, expected) in [
        (was.clone(), &["empty", "full", "new"][..], None),
        (
            [("description", Kind::Number), ("x-type", Kind::Text)],
            &["empty", "full"],
            Some("field box changed its form from box to box"),
        ),
        (
            [("description", Kind::Text), ("x-type", Kind::Bool)],
            &["empty", "full"],
            Some("field box changed its form from box to box"),
        ),
        (was, &["empty", "filled"], Some("field states lost the label \"full\"")),
    ] {
        let found = check(&table(&fields, labels), &lock, TODAY);
        match expected {
            None => assert!(found.is_empty(), "{found:#?}"),
            Some(expected) => assert_eq!(differences(&found), [expected]),
        }
    }
}

#[test]
fn compatible_change_is_no_difference() {
    type Change = fn(&mut Described);
    let changes: [(&str, &str, Change); 7] = [
        ("", "", |table| table.relation.columns[5].data_type.base = state(&["empty", "half", "full"])),
        ("", "", |table| table.relation.columns[2].not_null = true),
        ("", "", |table| table.relation.columns[1].data_type.base = Base::Varchar),
        ("", "", |table| table.relation.identity = ReplicaIdentity::Full),
        ("", "", |table| table.comment = None),
        ("on =", "key = \"plate_id\"\nowner = \"lab\"\non =", |_| {}),
        ("plate_id, barcode", "barcode, plate_id  -- what it is\n", |_| {}),
    ];
    for (from, to, change) in changes {
        let rule = if from.is_empty() { RULE.to_owned() } else { RULE.replace(from, to) };
        let rule = rule.replace("what it is\n, ", "what it is\n  , ");
        let found = after(&rule, change);
        assert!(found.is_empty(), "{rule}: {found:#?}");
    }
}

#[test]
fn new_field_makes_next_minor_and_keeps_locked_files() {
    let folder = tempfile::tempdir().unwrap();
    let first = model(RULE, Automatic::Off, &table());
    lock(folder.path(), &first, false);
    let file = folder.path().join("lab.plate_filled/1.0.json");
    let before = fs::read(&file).unwrap();
    let wider = RULE.replace("hmac(", "1 as one, hmac(");
    let mut now = table();
    now.relation.columns[2].not_null = true;
    let second = model(&wider, Automatic::Off, &now);
    let known = Lock::read(folder.path()).unwrap().unwrap();
    let found = check(&second, &known, TODAY);
    assert_eq!(
        found.iter().map(|f| f.what.clone()).collect::<Vec<_>>(),
        [FindingKind::Added(vec!["one".into()])]
    );
    let known = lock(folder.path(), &second, false);
    assert!(check(&second, &known, TODAY).is_empty());
    assert_eq!(fs::read(&file).unwrap(), before);
    let schema = known.of("lab.plate_filled.v1").unwrap().newest();
    assert_eq!(schema["x-version"], "1.1");
    // Events of 1.0 lack the field; a field that could be null still can be.
    assert_eq!(schema["required"], json!(["barcode", "plate_id", "state", "volume", "who"]));
    assert_eq!(schema["properties"]["volume"]["type"], json!(["number", "string", "null"]));
    assert!(to_lock(&second, &known, false, false).is_empty());
    // Back to the first version: a locked field is gone.
    assert_eq!(differences(&check(&first, &known, TODAY)), ["field one is gone"]);
}

#[test]
fn added_and_removed_types_are_reported() {
    let found = after(&RULE.replace("filled.v1", "filled.v2"), |_| {});
    let [new, gone] = &found[..] else { panic!("{found:#?}") };
    assert_eq!((new.event_type.as_str(), &new.what), ("lab.plate_filled.v2", &FindingKind::NotLocked));
    assert!(new.to_string().contains("Run `forebay events lock`"));
    assert_eq!(gone.event_type, "lab.plate_filled.v1");
    assert!(gone.to_string().contains("delete lab.plate_filled/1.*.json"), "{gone}");
}

#[test]
fn event_past_sunset_is_only_a_warning() {
    for (sunset, warned) in [("2026-11-20", true), ("2026-11-21", false), ("2027-01-01", false)] {
        let deprecated = format!("deprecated = {{ since = \"2026-01-01\", sunset = \"{sunset}\" }}\n");
        let found = after(&format!("{RULE}{deprecated}"), |_| {});
        assert_eq!(
            found.iter().map(ContractFinding::is_warning).collect::<Vec<_>>(),
            vec![true; warned.into()]
        );
    }
}

#[test]
fn automatic_events_are_a_contract_only_once_locked() {
    let folder = tempfile::tempdir().unwrap();
    let before = model("", Automatic::Unmapped, &table());
    assert!(check(&before, &Lock::default(), TODAY).is_empty());
    assert!(to_lock(&before, &Lock::default(), false, false).is_empty());
    let locked = lock(folder.path(), &before, true);
    assert_eq!(locked.locked.len(), 4);
    assert!(check(&before, &locked, TODAY).is_empty());
    let mut now = table();
    now.relation.columns.remove(2);
    now.comments.remove(2);
    let found = check(&model("", Automatic::Unmapped, &now), &locked, TODAY);
    assert_eq!(found.len(), 2, "{found:#?}");
    let inserted = found.iter().find(|f| f.event_type == "lab.plates.inserted.v1").unwrap().to_string();
    for expected in [
        "field volume is gone",
        "type = \"lab.plates.inserted.v1\"",
        "from = \"lab.plates\"",
        "on   = \"insert\"",
    ] {
        assert!(inserted.contains(expected), "{inserted}");
    }
    let found = check(&model(RULE, Automatic::Off, &table()), &locked, TODAY);
    assert_eq!(
        found.iter().filter(|f| matches!(f.what, FindingKind::Gone { maker: Maker::Table, .. })).count(),
        4
    );
}

#[test]
fn pasted_major_version_skeleton_passes_check() {
    let folder = tempfile::tempdir().unwrap();
    let lock = lock(folder.path(), &model(RULE, Automatic::Off, &table()), false);
    let changed =
        RULE.replace(" volume,", " volume::text as volume,").replace("barcode,", "barcode as plate,");
    let found = check(&model(&changed, Automatic::Off, &table()), &lock, TODAY);
    let [ContractFinding { what: FindingKind::Broken { advice, .. }, .. }] = &found[..] else {
        panic!("{found:#?}")
    };
    let pasted = advice.get(advice.find("[[event]]").unwrap()..).unwrap();
    let both = model(pasted, Automatic::Off, &table());
    let types: Vec<_> = both.events.iter().map(|event| event.event_type.as_str()).collect();
    assert_eq!(types, ["lab.plate_filled.v2", "lab.plate_filled.v1"], "{pasted}");
    // The old version is unchanged; the new one is only new.
    let left = check(&both, &lock, TODAY);
    let left: Vec<_> = left.iter().map(|f| (f.event_type.as_str(), &f.what)).collect();
    assert_eq!(left, [("lab.plate_filled.v2", &FindingKind::NotLocked)], "{pasted}");
}

#[test]
fn skeleton_names_fields_new_version_cannot_provide() {
    type Change = fn(&mut Described);
    let changes: [(&str, Change, &str); 2] = [
        ("volume, ", |table| drop(table.relation.columns.remove(2)), "volume (numeric) is gone"),
        ("", |table| table.relation.columns[1].not_null = false, "barcode was always there"),
    ];
    for (gone, change, expected) in changes {
        let found = after(&RULE.replace(gone, ""), change);
        let said = found[0].to_string();
        assert!(said.contains(expected) && said.contains("Complete it first"), "{said}");
        // A comment would be published as the meaning of a field.
        assert!(!said.contains("  -- "), "{said}");
    }
    let found = after(&RULE.replace("on =", "key = \"barcode\"\non ="), |_| {});
    let said = found[0].to_string();
    assert!(said.contains("key        = \"plate_id\"") && said.contains("lab.plate_filled.v2"), "{said}");
    let child = "[[event]]\ntype = \"lab.old.v1\"\nfrom_event = \"lab.plate_filled.v1\"\ndata = \"plate_id, state\"\n";
    let folder = tempfile::tempdir().unwrap();
    let both = format!("{RULE}{child}");
    let lock = lock(folder.path(), &model(&both, Automatic::Off, &table()), false);
    let found =
        check(&model(&both.replace("plate_id, state", "plate_id"), Automatic::Off, &table()), &lock, TODAY);
    assert!(found[0].to_string().contains("It is made from lab.plate_filled.v1"), "{}", found[0]);
}

#[test]
fn application_event_is_locked_with_its_given_schema() {
    let folder = tempfile::tempdir().unwrap();
    let schemas = tempfile::tempdir().unwrap();
    let file = schemas.path().join("lab.said.v1.json");
    let given = |text: &str| {
        fs::write(&file, text).unwrap();
        let path = schemas.path().display();
        let rule = format!(
            "[[event]]\nmessages = \"m:\"\nowner = \"lab\"\nabout = \"What it says.\"\nschemas = \"{path}\"\n"
        );
        model(&rule, Automatic::Off, &table())
    };
    let narrow = r##"{"$ref": "#/definitions/o", "definitions": {"o": {"type": "object", "properties": {
        "n": {"type": ["integer", "null"], "title": "how many"}}, "required": ["n"]}}}"##;
    let first = given(narrow);
    let event = first.event("lab.said.v1").unwrap();
    assert_eq!((event.about.as_deref(), event.owner.as_deref()), (Some("What it says."), Some("lab")));
    let [field] = &event.fields[..] else { panic!("{:#?}", event.fields) };
    assert_eq!((field.nullable, field.optional, field.meaning.as_deref()), (true, false, Some("how many")));
    assert_eq!(event.example_data(), Some(json!({"n": 42})));
    let known = lock(folder.path(), &first, false);
    let newest = known.of("lab.said.v1").unwrap();
    assert_eq!(newest.maker(), Maker::Application);
    assert_eq!(newest.newest()["x-order"][0]["key"], "key of the message");
    assert!(check(&first, &known, TODAY).is_empty());
    let found = check(&given(&narrow.replace("[\"integer\", \"null\"]", "\"string\"")), &known, TODAY);
    assert_eq!(differences(&found), ["field definitions/o.n changed from integer or null to string"]);
    assert!(found[0].to_string().contains("lab.said.v2.json"), "{}", found[0]);
    let wider = given(
        &narrow
            .replace("{\"o\": {", "{\"o\": {\"title\": \"O\", ")
            .replace("\"n\": {", "\"m\": {}, \"n\": {"),
    );
    assert_eq!(check(&wider, &known, TODAY)[0].what, FindingKind::Added(vec!["definitions/o.m".into()]));
    let known = lock(folder.path(), &wider, false);
    assert!(check(&wider, &known, TODAY).is_empty());
    assert_eq!(known.of("lab.said.v1").unwrap().minor(), 1);
    let gone = check(&model("", Automatic::Off, &table()), &known, TODAY);
    assert!(gone[0].to_string().contains("no outbox has a schema for it"), "{}", gone[0]);
}

#[test]
fn field_of_two_rules_is_nullable_if_either_is() {
    let rule = |on: &str, id: &str| {
        format!("[[event]]\ntype = \"a.b.v1\"\nfrom = \"lab.plates\"\non = \"{on}\"\ndata = \"{id} as id\"\n")
    };
    let both = |second: &str| {
        model(&format!("{}{}", rule("insert", "plate_id"), rule("delete", second)), Automatic::Off, &table())
    };
    let (never, perhaps) = (both("plate_id::text"), both("nullif(plate_id, 7)::text"));
    let folder = tempfile::tempdir().unwrap();
    let known = lock(folder.path(), &perhaps, false);
    let kinds = &known.of("a.b.v1").unwrap().newest()["properties"]["id"]["anyOf"];
    assert_eq!(kinds.as_array().unwrap().last(), Some(&json!({"type": "null"})), "{kinds}");
    assert!(check(&perhaps, &known, TODAY).is_empty());
    // A guarantee may become stronger. The other expression is reported.
    let found = check(&never, &known, TODAY);
    let [ContractFinding { what: FindingKind::Meaning { differences: reported }, .. }] = &found[..] else {
        panic!("{found:#?}")
    };
    assert_eq!(reported, &["field id was nullif(plate_id, 7)::text, and is now plate_id::text"]);
    let folder = tempfile::tempdir().unwrap();
    let known = lock(folder.path(), &never, false);
    assert_eq!(differences(&check(&perhaps, &known, TODAY)), ["field id can now be null"]);
}
