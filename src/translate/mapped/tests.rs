//! Events made by rules, and rows that rules fail on.

mod personal;

use std::sync::Arc;

use super::RuleOutcome;
use crate::change::{Cell, Change, ChangePlace, Column, OldRow, Operation, Relation, ReplicaIdentity, Tuple};
use crate::config::{Automatic, Pii};
use crate::event::Records;
use crate::position::{CommitSeq, Transaction};
use crate::rules::Rules;
use crate::translate::{Contracts, Promise, TranslateSettings, Translator};
use crate::types::{Base, Kind, SqlType};

/// `lab.plates (id, code, volume, note, at)`, key: id.
fn plates(identity: ReplicaIdentity) -> Arc<Relation> {
    let column = |(at, (name, base, kind)): (usize, (&str, Base, Kind))| Column {
        name: name.to_owned(),
        kind,
        data_type: SqlType::plain(base),
        not_null: at == 0,
        origin: None,
        in_identity: at == 0 || identity == ReplicaIdentity::Full,
    };
    let columns = [
        ("id", Base::Int8, Kind::Number),
        ("code", Base::Text, Kind::Text),
        ("volume", Base::Numeric, Kind::Number),
        ("note", Base::Text, Kind::Text),
        ("at", Base::TimestampTz, Kind::TimestampTz),
    ];
    Arc::new(Relation {
        oid: 1,
        schema: "lab".into(),
        table: "plates".into(),
        identity,
        columns: columns.into_iter().enumerate().map(column).collect(),
        primary_key: vec![0],
        absent: Vec::new(),
        unknown: None,
    })
}

/// Builds a message and its cells: `-` is NULL, `?` an unchanged TOASTed value.
fn message(values: [&str; 5]) -> (Vec<u8>, Vec<Cell>) {
    let (mut bytes, mut cells) = (Vec::new(), Vec::new());
    for value in values {
        cells.push(match value {
            "-" => Cell::Null,
            "?" => Cell::Unchanged,
            text => {
                let start = u32::try_from(bytes.len()).unwrap();
                bytes.extend_from_slice(text.as_bytes());
                Cell::Text { start, length: u32::try_from(text.len()).unwrap() }
            }
        });
    }
    (bytes, cells)
}

fn translator(rules: &str, automatic: Automatic) -> Translator {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.toml"), rules).unwrap();
    let rules = Arc::new(Rules::load("*.toml", folder.path()).unwrap());
    let pii = Pii { columns: vec!["*.*.note".to_owned()], ..Pii::default() };
    Translator::new(
        "urn:forebay:lab",
        0,
        TranslateSettings { automatic, rules, pii, ..TranslateSettings::default() },
    )
}

/// The result of a change: lines of `type key subject data`, then the failures.
fn made(translator: &mut Translator, relation: &Arc<Relation>, operation: Operation<'_>) -> Vec<String> {
    let place = ChangePlace {
        transaction: Transaction { commit: CommitSeq::new(9), xid: 3, time: 1_000_000 },
        index: 2,
        record: CommitSeq::new(5),
        nth: 0,
    };
    let (mut records, mut outcome) = (Records::default(), RuleOutcome::default());
    translator
        .translate(&Change { place, relation, operation, raw: b"" }, &mut records, &mut outcome)
        .unwrap();
    let mut actual = Vec::new();
    for record in records.iter() {
        let event: serde_json::Value = serde_json::from_slice(record.line).unwrap();
        assert_eq!(event["partitionkey"], record.key);
        actual.push(format!("{} {} {} {}", record.event_type, record.key, event["subject"], event["data"]));
    }
    actual.extend(
        outcome.failed.iter().map(|failed| format!("FAILED {}: {}", failed.event_type, failed.reason)),
    );
    actual.extend((outcome.undecided > 0).then(|| format!("undecided {}", outcome.undecided)));
    actual
}

fn insert(translator: &mut Translator, row: [&str; 5]) -> Vec<String> {
    let (bytes, cells) = message(row);
    made(translator, &plates(ReplicaIdentity::Default), Operation::Insert { new: Tuple::new(&bytes, &cells) })
}

fn update(
    translator: &mut Translator,
    identity: ReplicaIdentity,
    old: Option<[&str; 5]>,
    new: [&str; 5],
) -> Vec<String> {
    let (old_bytes, old_cells) = message(old.unwrap_or(["-"; 5]));
    let (bytes, cells) = message(new);
    let tuple = Tuple::new(&old_bytes, &old_cells);
    let old =
        old.map(|_| if identity == ReplicaIdentity::Full { OldRow::Full(tuple) } else { OldRow::Key(tuple) });
    made(translator, &plates(identity), Operation::Update { old, new: Tuple::new(&bytes, &cells) })
}

const ROW: [&str; 5] = ["7", "P7", "1.50", "n", "2026-10-01 10:00:00+00"];

fn rule(rest: &str) -> String {
    format!("[[event]]\ntype = \"lab.a.v1\"\nfrom = \"lab.plates\"\n{rest}\n")
}

#[test]
fn rule_sets_key_subject_and_fields() {
    for (rest, expected) in [
        ("data = \"id, volume * 2 as twice\"", r#"lab.a.v1 7 "7" {"id":7,"twice":3.00}"#),
        ("", r#"lab.a.v1 7 "7" {"at":"2026-10-01T10:00:00Z","code":"P7","id":7,"volume":1.50}"#),
        ("key = \"code\"\ndata = \"id\"", r#"lab.a.v1 P7 "P7" {"id":7}"#),
        ("key = \"code || '/x', id\"\ndata = \"id\"", r#"lab.a.v1 P7~1x/7 "P7~1x/7" {"id":7}"#),
        ("key = \"code\"\nsubject = \"'plate ' || id\"\ndata = \"id\"", r#"lab.a.v1 P7 "plate 7" {"id":7}"#),
        ("when = \"volume > 1\"\ndata = \"op\"", r#"lab.a.v1 7 "7" {"op":"insert"}"#),
    ] {
        let actual = insert(&mut translator(&rule(rest), Automatic::Off), ROW);
        // serde_json sorts the keys and normalises some numbers.
        let normal = |text: &str| text.replace(".50", ".5").replace(".00", ".0");
        assert_eq!(actual.iter().map(|text| normal(text)).collect::<Vec<_>>(), [normal(expected)], "{rest}");
    }
    let none =
        insert(&mut translator(&rule("when = \"volume > 2 or null\"\ndata = \"id\""), Automatic::Off), ROW);
    assert!(none.is_empty(), "{none:?}");
}

#[test]
fn time_outside_rfc_3339_is_an_error() {
    for (at, said) in [
        ("2026-10-01 10:00:00+00", true),
        ("0044-03-15 10:00:00+00 BC", false),
        ("12026-03-15 10:00:00+00", false),
        ("-infinity", false),
    ] {
        let row = ["7", "P7", "1.50", "n", at];
        let actual = insert(&mut translator(&rule("time = \"at\"\ndata = \"id\""), Automatic::Off), row);
        assert_eq!(
            actual[0].contains("FAILED lab.a.v1: the time is infinite or outside"),
            !said,
            "{actual:?}"
        );
    }
}

#[test]
fn unsent_fields_are_left_out_at_any_position() {
    for (data, expected) in [
        ("code, id", r#"{"id":7}"#),
        ("id, code", r#"{"id":7}"#),
        ("code, id, volume", r#"{"id":7,"volume":1.5}"#),
        ("code || '!' as loud, upper(code) as up", "{}"),
    ] {
        let mut translator =
            translator(&rule(&format!("on = \"update\"\nkey = \"id\"\ndata = \"{data}\"")), Automatic::Off);
        let new = ["7", "?", "1.5", "-", "-"];
        let actual = update(&mut translator, ReplicaIdentity::Default, None, new);
        assert_eq!(actual, [format!(r#"lab.a.v1 7 "7" {expected}"#)], "{data}");
    }
}

#[test]
fn failing_event_fails_alone_with_reason() {
    let and = "[[event]]\ntype = \"lab.b.v1\"\nfrom = \"lab.plates\"\ndata = \"id\"\n";
    let row = ["7", "-", "0", "n", "infinity"];
    for (rest, why) in [
        ("key = \"code\"\ndata = \"id\"", "the key is NULL"),
        ("subject = \"code\"\ndata = \"id\"", "the subject is NULL"),
        ("id = \"code\"\ndata = \"id\"", "the id is NULL"),
        ("data = \"id, 1 / volume as share\"", "share: division by zero"),
        ("when = \"1 / volume > 1\"\ndata = \"id\"", "division by zero"),
        ("time = \"at\"\ndata = \"id\"", "the time is infinite"),
    ] {
        let actual = insert(&mut translator(&format!("{}{and}", rule(rest)), Automatic::Off), row);
        let [other, failed] = &actual[..] else { panic!("{rest}: {actual:?}") };
        assert_eq!(other, r#"lab.b.v1 7 "7" {"id":7}"#);
        assert!(failed.starts_with(&format!("FAILED lab.a.v1: {why}")), "{rest}: {failed}");
    }
}

/// An event made by `from_event` follows every rule that makes its source event.
#[test]
fn derived_event_follows_every_rule_of_its_source() {
    let rules = r#"
[[event]]
type = "lab.seen.v2"
from = "lab.plates"
on = "insert"
when = "code = 'never'"
data = "id"

[[event]]
type = "lab.seen.v2"
from = "lab.plates"
on = "insert"
key = "code"
data = "id + 1 as id"

[[event]]
type = "lab.seen.v1"
from_event = "lab.seen.v2"
data = "id * 10 as ten"
"#;
    let actual = insert(&mut translator(rules, Automatic::Off), ROW);
    assert_eq!(actual, [r#"lab.seen.v2 P7 "P7" {"id":8}"#, r#"lab.seen.v1 P7 "P7" {"ten":80}"#]);
}

#[test]
fn update_of_column_requires_changed_value() {
    let full = ReplicaIdentity::Full;
    let mut translator = translator(&rule("on = \"update of code, volume\"\ndata = \"id\""), Automatic::Off);
    let with = |place: usize, value| {
        let mut row = ROW;
        row[place] = value;
        row
    };
    for (new, comes) in [
        (ROW, false),
        (with(3, "other"), false),
        (with(1, "P8"), true),
        (with(1, "-"), true),
        (with(2, "1.5"), true),
        (with(1, "?"), false),
    ] {
        let actual = update(&mut translator, full, Some(ROW), new);
        assert_eq!(actual.len(), usize::from(comes), "{new:?}: {actual:?}");
    }
    // Without the old row the rule is refused.
    let wrong = translator.check(&plates(ReplicaIdentity::Default)).unwrap_err().to_string();
    assert!(wrong.contains("code, volume") && wrong.contains("REPLICA IDENTITY FULL"), "{wrong}");
}

#[test]
fn unsent_value_is_never_null() {
    let default = ReplicaIdentity::Default;
    let row = ["7", "?", "1.50", "n", "-"];
    for (rest, expected) in [
        ("data = \"id, code, upper(code) as up, coalesce(code, 'none') as c\"", r#"lab.a.v1 7 "7" {"id":7}"#),
        ("when = \"code is null\"\ndata = \"id\"", ""),
        ("when = \"code = 'x'\"\ndata = \"id\"", "undecided 1"),
        ("when = \"code = 'x' or id = 7\"\ndata = \"id\"", r#"lab.a.v1 7 "7" {"id":7}"#),
        (
            "key = \"code\"\ndata = \"id\"",
            "FAILED lab.a.v1: the key needs a value that the server did not send",
        ),
    ] {
        let actual = update(
            &mut translator(&rule(&format!("on = \"update\"\n{rest}")), Automatic::Off),
            default,
            None,
            row,
        );
        assert_eq!(actual.join("; "), expected, "{rest}");
    }
}

#[test]
fn mapped_operation_replaces_automatic_event_by_default() {
    for (automatic, on, expected) in [
        (Automatic::Unmapped, "insert", vec!["lab.a.v1"]),
        (Automatic::Unmapped, "update", vec!["lab.plates.inserted.v1"]),
        (Automatic::Also, "insert", vec!["lab.plates.inserted.v1", "lab.a.v1"]),
        (Automatic::Off, "update", vec![]),
    ] {
        let actual = insert(&mut translator(&rule(&format!("on = \"{on}\"\ndata = \"id\"")), automatic), ROW);
        let types: Vec<&str> = actual.iter().filter_map(|text| text.split(' ').next()).collect();
        assert_eq!(types, expected, "{automatic:?} {on}");
    }
}

#[test]
fn id_follows_rule_and_is_stable_in_repeats() {
    let id = |translator: &mut Translator, row: [&str; 5], lsn: u64| {
        let (bytes, cells) = message(row);
        let place = ChangePlace {
            transaction: Transaction { commit: CommitSeq::new(lsn), xid: 3, time: 0 },
            index: 0,
            record: CommitSeq::new(lsn),
            nth: 0,
        };
        let (mut records, mut outcome) = (Records::default(), RuleOutcome::default());
        let operation = Operation::Insert { new: Tuple::new(&bytes, &cells) };
        let change = Change { place, relation: &plates(ReplicaIdentity::Default), operation, raw: b"" };
        translator.translate(&change, &mut records, &mut outcome).unwrap();
        let event: serde_json::Value = serde_json::from_slice(records.iter().next().unwrap().line).unwrap();
        event["id"].as_str().unwrap().to_owned()
    };
    let mut other = ROW;
    other[0] = "8";
    for (rest, by_change) in
        [("", true), ("id = \"change\"", true), ("id = \"key\"", false), ("id = \"code\"", false)]
    {
        let mut translator = translator(&rule(&format!("{rest}\ndata = \"id\"")), Automatic::Off);
        let first = id(&mut translator, ROW, 10);
        assert_eq!(first, id(&mut translator, ROW, 10), "{rest}: a repeat");
        assert_eq!(first != id(&mut translator, ROW, 20), by_change, "{rest}: another change");
        if rest == "id = \"code\"" {
            assert_eq!(first, "P7");
        } else if !by_change {
            assert_ne!(first, id(&mut translator, other, 10), "{rest}: another row");
        }
    }
}

/// The ordinal of an id counts events (docs/EVENTS.md): a rule of the same type that did not select the
/// change does not count.
#[test]
fn id_ordinal_counts_events_not_rules() {
    let one = |when: &str| rule(&format!("when = \"{when}\"\ndata = \"id\""));
    let ids = |rules: &str| {
        let (bytes, cells) = message(ROW);
        let place = ChangePlace {
            transaction: Transaction { commit: CommitSeq::new(9), xid: 742, time: 1_790_848_800_123_456 },
            index: 0,
            record: CommitSeq::new(0x1_A2B3_C000),
            nth: 1,
        };
        let (mut records, mut outcome) = (Records::default(), RuleOutcome::default());
        let operation = Operation::Insert { new: Tuple::new(&bytes, &cells) };
        let change = Change { place, relation: &plates(ReplicaIdentity::Default), operation, raw: b"" };
        translator(rules, Automatic::Off).translate(&change, &mut records, &mut outcome).unwrap();
        let id = |line: &[u8]| serde_json::from_slice::<serde_json::Value>(line).unwrap()["id"].to_string();
        records.iter().map(|record| id(record.line)).collect::<Vec<_>>()
    };
    let first = ids(&one("true"));
    assert_eq!(ids(&(one("false") + &one("true"))), first);
    let both = ids(&one("true").repeat(2));
    assert!(both.len() == 2 && both[0] == first[0] && both[1] != first[0], "{both:?}");
    // The failed event would have been the first.
    assert_eq!(ids(&(one("id / 0 > 1") + &one("true"))), [both[1].clone()]);
}

/// A key or condition that needs a value the server never sends would never make an event.
#[test]
fn unsent_old_column_is_refused_at_load() {
    for (rest, missing) in [
        ("on = \"update\"\nkey = \"old.code\"", "code"),
        ("on = \"update\"\nsubject = \"old.code\"", "code"),
        ("on = \"update\"\ntime = \"old.at\"", "at"),
        ("on = \"update\"\nid = \"old.code\"", "code"),
        ("on = \"delete\"\nkey = \"code\"", "code"),
        ("on = \"insert, delete\"\nsubject = \"code || id\"", "code"),
        ("on = \"delete\"\ntime = \"at\"", "at"),
        ("on = \"delete\"\nwhen = \"volume > 1\"", "volume"),
        // Always known: the key, the operation, and values that only other operations read.
        ("on = \"delete\"\nkey = \"id\"\nsubject = \"old.id\"", ""),
        ("on = \"insert, update\"\nkey = \"code\"", ""),
        ("on = \"update, delete\"\nkey = \"case op when 'delete' then id::text else code end\"", ""),
        ("on = \"insert, delete\"\nwhen = \"new.volume is null or new.volume > 1\"", ""),
    ] {
        let translator = translator(&rule(&format!("{rest}\ndata = \"id\"")), Automatic::Off);
        assert!(translator.check(&plates(ReplicaIdentity::Full)).is_ok(), "{rest}");
        let actual = translator.check(&plates(ReplicaIdentity::Default)).err().map(|wrong| wrong.to_string());
        match actual {
            None => assert!(missing.is_empty(), "{rest} is accepted"),
            Some(actual) => assert!(
                !missing.is_empty()
                    && actual.contains(&format!("needs the old value of {missing}, which"))
                    && actual.contains("ALTER TABLE \"lab\".\"plates\" REPLICA IDENTITY FULL"),
                "{rest}: {actual}"
            ),
        }
    }
}

#[test]
fn column_younger_than_row_is_null_in_old_and_new() {
    let colour = Column {
        name: "colour".to_owned(),
        kind: Kind::Text,
        data_type: SqlType::plain(Base::Text),
        not_null: false,
        origin: None,
        in_identity: false,
    };
    let younger = Arc::new(Relation { absent: vec![colour], ..(*plates(ReplicaIdentity::Default)).clone() });
    let rule = |on: &str, data: &str| {
        format!(
            "[[event]]\ntype = \"lab.seen.v1\"\nfrom = \"lab.plates\"\non = \"{on}\"\ndata = \"{data}\"\n"
        )
    };
    let (bytes, cells) = message(ROW);
    let new = Tuple::new(&bytes, &cells);
    let data = "colour, old.colour as before, coalesce(upper(colour), 'none') as shown";
    let mut rules = translator(&rule("insert", data), Automatic::Also);
    assert_eq!(
        made(&mut rules, &younger, Operation::Insert { new }),
        [
            // The automatic event has the columns that were sent with the row.
            "lab.plates.inserted.v1 7 \"7\" {\"at\":\"2026-10-01T10:00:00Z\",\"code\":\"P7\",\"id\":7,\"volume\":1.5}",
            "lab.seen.v1 7 \"7\" {\"before\":null,\"colour\":null,\"shown\":\"none\"}",
        ]
    );
    let mut never = translator(&rule("update of colour", "id"), Automatic::Off);
    assert_eq!(made(&mut never, &younger, Operation::Update { old: None, new }), [""; 0]);
    let missing = translator(&rule("update of colour", "colour"), Automatic::Off);
    let said = missing.check(&plates(ReplicaIdentity::Full)).unwrap_err().to_string();
    assert!(said.contains("has no such column"), "{said}");
}

/// Promises every property of `code`; an event with `volume` can never satisfy it.
#[derive(Debug)]
struct Locked;

impl Contracts for Locked {
    fn has(&self, _: &str) -> bool {
        true
    }

    fn promises(
        &self,
        _: &str,
        fields: &[(&str, &Kind, &Base)],
    ) -> Result<Vec<Promise>, crate::failure::Problem> {
        if fields.iter().any(|(name, ..)| *name == "volume") {
            return Err("volume is otherwise".into());
        }
        let strict = |name: &str| Promise {
            never_null: name == "code",
            always: name == "code",
            unknown: name == "at",
        };
        Ok(fields.iter().map(|(name, ..)| strict(name)).collect())
    }
}

#[test]
fn contract_breaking_event_fails_alone_with_reason() {
    let rule = |event_type: &str, data: &str| {
        format!(
            "[[event]]\ntype = \"{event_type}\"\nfrom = \"lab.plates\"\non = \"insert, update\"\ndata = \"{data}\"\n"
        )
    };
    let rules =
        [rule("a.code.v1", "code, at"), rule("a.volume.v1", "volume"), rule("a.id.v1", "id")].concat();
    let settings = translator(&rules, Automatic::Off).settings().clone();
    let mut translator = Translator::new(
        "urn:forebay:lab",
        0,
        TranslateSettings { contracts: Some(Arc::new(Locked)), ..settings },
    );
    let volume = "FAILED a.volume.v1: volume is otherwise";
    for (code, at, expected) in [
        ("P7", "-", None),
        ("-", "?", Some("FAILED a.code.v1: code: NULL in this row")),
        ("?", "-", Some("FAILED a.code.v1: code: the server did not send its value")),
    ] {
        let actual = update(&mut translator, ReplicaIdentity::Default, None, ["7", code, "1", "-", at]);
        assert!(actual.contains(&"a.id.v1 7 \"7\" {\"id\":7}".to_owned()), "{actual:#?}");
        assert!(actual.contains(&volume.to_owned()), "{actual:#?}");
        // A field that the contract does not contain is left out.
        let whole = "a.code.v1 7 \"7\" {\"code\":\"P7\"}".to_owned();
        assert_eq!(actual.contains(&whole), expected.is_none(), "{actual:#?}");
        let failed = actual.iter().find(|line| line.starts_with("FAILED a.code"));
        assert_eq!(failed.is_some(), expected.is_some(), "{actual:#?}");
        assert!(failed.is_none_or(|line| line.starts_with(expected.unwrap_or_default())), "{actual:#?}");
    }
}
