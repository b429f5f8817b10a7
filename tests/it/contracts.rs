//! Contracts in the running daemon: every published event is valid for its locked schema, and changes that are not
//! locked fail the check and are not published.

mod gate;
mod outboxes;
mod pairs;
mod tables;

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use crate::json::generate::{self, columns};
use crate::rules::write;
use crate::support::daemon::Settings;
use crate::support::flow::Flow;
use crate::support::random::seed;
use crate::support::workload::Workload;
use crate::support::{SOON, eventually};

const SCHEMAS: &str = "https://schemas.example/lab";

/// A lab with these rules, not started.
fn lab(seed: u64, rules: &str, change: impl FnOnce(&mut Settings)) -> Flow {
    let flow = Flow::prepare(seed, |settings: &mut Settings| {
        settings.more.push(("events".to_owned(), "rules = \"events/*.toml\"".to_owned()));
        settings.more.push(("pii".to_owned(), "columns = [\"*.*.operator_email\"]".to_owned()));
        settings
            .environment
            .push(("FOREBAY_PII__HMAC_KEY".to_owned(), "a key that only this test knows".to_owned()));
        change(settings);
    });
    write(&flow, rules);
    flow
}

/// The output of a subcommand, and whether it succeeded.
pub fn say(flow: &Flow, arguments: &[&str]) -> (bool, String) {
    let output = flow.daemon.run(arguments);
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(said).unwrap())
}

fn lock(flow: &Flow, arguments: &[&str]) -> String {
    let (content, said) = say(flow, &[&["events", "lock"], arguments].concat());
    assert!(content, "{said}");
    said
}

/// Rules for every column and every operation.
const RULES: &str = r#"
[[event]]
type = "lab.plate_moved.v2"
about = "A plate is in another state."
from = "lab.plates"
on = "insert, update of status, delete"
key = "barcode"
data = """
  plate_id, barcode, status, old.status as before,
  round(volume_ul, 1) as volume, volume_ul::float8 / wells as per_well,
  labels, protocol -> 'steps' as steps, upper(notes) as notes, sealed_at,
  hmac(operator_email) as operator, changed() as changes, op
"""

[[event]]
type = "lab.plate_moved.v1"
from_event = "lab.plate_moved.v2"
data = "plate_id as id, status::text as state, notes"
deprecated = { since = "2026-11-01", use = "lab.plate_moved.v2" }

[[event]]
type = "lab.sample_seen.v1"
from = "lab.samples"
on = "insert, update, delete"

[[event]]
type = "lab.anything_came.v1"
from = "lab.everything"
on = "insert"

[[event]]
type = "lab.anything_changed.v1"
from = "lab.everything"
on = "update, delete"
"#;

/// A table with a column of every type, and statements that fill and change it with edge cases and random values.
fn everything(flow: &Flow, seed: u64) -> Vec<String> {
    let (schema, columns) = columns();
    let table = schema.rfind("CREATE TABLE everything").unwrap();
    let types = &schema[..table];
    let list: Vec<_> = columns.iter().map(|column| format!("{} {}", column.name, column.sql)).collect();
    flow.postgres.execute(&format!(
        "set search_path = public; {types} create table lab.everything (id bigint primary key, {}); \
         alter table lab.everything owner to lab",
        list.join(", ")
    ));
    let mut random = generate::Random(seed);
    let mut statements = Vec::new();
    // One row of all of them would exceed a page.
    for some in columns.chunks(200) {
        let literals: Vec<Vec<String>> = some.iter().map(|column| column.literals(&mut random, 3)).collect();
        let names: Vec<_> = some.iter().map(|column| column.name.as_str()).collect();
        for row in 0..literals.iter().map(Vec::len).max().unwrap_or(0) {
            let value = |values: &Vec<String>| match values.get(row) {
                Some(literal) => format!("'{}'", literal.replace('\'', "''")),
                None => "null".to_owned(),
            };
            let values: Vec<_> = literals.iter().map(value).collect();
            let id = statements.len();
            let (names, values) = (names.join(", "), values.join(", "));
            statements.push(format!("insert into lab.everything (id, {names}) values ({id}, {values})"));
        }
    }
    statements.push("update lab.everything set c0 = null".to_owned());
    statements.push("update lab.everything set id = id + 100000 where id % 5 = 0".to_owned());
    statements.push("delete from lab.everything where id % 3 = 0".to_owned());
    statements
}

/// One validator for each `dataschema` address.
struct Validators<'a> {
    directory: &'a Path,
    by_address: BTreeMap<String, jsonschema::Validator>,
}

impl Validators<'_> {
    fn of(&mut self, event: &Value) -> &jsonschema::Validator {
        let address = event["dataschema"].as_str().unwrap_or_else(|| panic!("{event} has no dataschema"));
        let file = address.strip_prefix(SCHEMAS).unwrap().trim_start_matches('/');
        self.by_address.entry(address.to_owned()).or_insert_with(|| {
            let text = std::fs::read_to_string(self.directory.join(file)).unwrap();
            let schema: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(schema["$id"], address);
            assert!(jsonschema::draft7::meta::is_valid(&schema), "{file} is no schema");
            let validator =
                jsonschema::draft7::options().should_validate_formats(true).build(&schema).unwrap();
            for example in schema["examples"].as_array().unwrap() {
                let wrong = validator.validate(example).err().map(|error| error.to_string());
                assert_eq!(wrong, None, "the example of {address}");
            }
            validator
        })
    }
}

#[test]
fn published_events_fit_locked_schema() {
    let seed = seed();
    let mut flow = lab(seed, RULES, |settings| {
        settings.tables.push("lab.everything".to_owned());
        settings.more.push(("events".to_owned(), "automatic = \"also\"".to_owned()));
        settings.more.push(("events".to_owned(), format!("schemas = \"{SCHEMAS}\"")));
    });
    flow.postgres.execute("alter table lab.plates replica identity full");
    let statements = everything(&flow, seed);
    lock(&flow, &["--automatic"]);
    flow.start();
    Workload::new(&flow.postgres, seed).commit(40);
    let mut session = flow.postgres.session("postgres");
    session.execute("set search_path = public");
    for statement in &statements {
        session.execute(statement);
    }
    session.execute("truncate lab.transfers");
    // Wait for the last event of each kind.
    let inserted = statements.iter().filter(|statement| statement.starts_with("insert")).count();
    let left: usize = flow.postgres.value("select count(*) from lab.everything").parse().unwrap();
    let expected = [
        ("lab.everything.updated.v1", inserted - inserted.div_ceil(5)),
        ("lab.everything.deleted.v1", inserted.div_ceil(5) + inserted - left),
        ("lab.anything_changed.v1", 2 * inserted - left),
        ("lab.transfers.truncated.v1", 1),
    ];
    eventually("the events of every row", SOON, || {
        let records = flow.stub.records();
        let came = |event_type: &str| {
            let attribute = format!("\"type\":\"{event_type}\"");
            let has =
                |data: &[u8]| data.windows(attribute.len()).any(|window| window == attribute.as_bytes());
            records.iter().filter(|record| has(&record.data)).count()
        };
        expected.iter().all(|(event_type, count)| came(event_type) >= *count).then_some(())
    });
    let directory = flow.daemon.home().join("events.lock");
    let mut validators = Validators { directory: &directory, by_address: BTreeMap::new() };
    let (mut seen, mut unread) = (BTreeMap::new(), 0);
    for record in flow.stub.records() {
        // A numeric can have more digits than serde_json's numbers.
        let Ok(event) = serde_json::from_slice::<Value>(&record.data) else {
            unread += 1;
            continue;
        };
        let wrong: Vec<String> = validators
            .of(&event)
            .iter_errors(&event["data"])
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        assert!(wrong.is_empty(), "seed {seed}: {}: {wrong:#?}", event["type"]);
        *seen.entry(event["type"].as_str().unwrap().to_owned()).or_insert(0) += 1;
    }
    println!("{seen:#?}, {unread} unread");
    for event_type in [
        "lab.plate_moved.v2",
        "lab.plate_moved.v1",
        "lab.sample_seen.v1",
        "lab.anything_came.v1",
        "lab.anything_changed.v1",
        "lab.everything.inserted.v1",
        "lab.everything.updated.v1",
        "lab.everything.deleted.v1",
        "lab.transfers.truncated.v1",
    ] {
        assert!(seen.contains_key(event_type), "no {event_type}: {seen:#?}");
    }
    assert!(unread < statements.len(), "{unread} events could not be read");
}

const PLATE: &str = "[[event]]\ntype = \"lab.plate_came.v1\"\nabout = \"A plate came.\"\nfrom = \"lab.plates\"\non = \"insert\"\n\
                     data = \"\"\"\n  plate_id, -- its number\n  barcode, status\n\"\"\"\n";

#[test]
fn contract_difference_fails_check_and_run() {
    let mut flow = lab(seed(), PLATE, |_| {});
    let (content, said) = say(&flow, &["events", "check"]);
    assert!(!content && said.contains("Run `forebay events lock`"), "{said}");
    let said = lock(&flow, &[]);
    let file = flow.daemon.home().join("events.lock/lab.plate_came/1.0.json");
    assert!(said.contains("lab.plate_came/1.0.json") && said.contains("tables.json"), "{said}");
    let locked = std::fs::read_to_string(&file).unwrap();
    let schema: Value = serde_json::from_str(&locked).unwrap();
    assert_eq!(schema["properties"]["plate_id"]["description"], "its number");
    assert_eq!(schema["x-key"], json!(["plate_id"]));
    assert!(locked.ends_with("}\n"));
    assert!(lock(&flow, &[]).contains("nothing to lock"));
    flow.start();
    assert!(flow.daemon.terminate().success());

    let other = PLATE.replace("barcode, status", "barcode as label, status");
    write(&flow, &other);
    let refused =
        ["lab.toml:2:", "field barcode is gone; perhaps it was renamed to label", "lab.plate_came.v2"];
    for arguments in [&["events", "check"][..], &["events", "check", "--database"], &["events", "lock"]] {
        let (content, said) = say(&flow, arguments);
        assert!(!content && refused.iter().all(|expected| said.contains(expected)), "{arguments:?}: {said}");
    }
    flow.daemon.start_again();
    let status = flow.daemon.wait();
    let log = flow.daemon.log().join("\n");
    assert!(!status.success() && refused.iter().all(|expected| log.contains(expected)), "{log}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), locked);

    // The table changes under an unchanged rule: only the check with the database finds it.
    write(&flow, PLATE);
    flow.postgres.execute("alter table lab.plates alter barcode drop not null");
    assert!(say(&flow, &["events", "check"]).0);
    let (content, said) = say(&flow, &["events", "check", "--database"]);
    assert!(!content && said.contains("field barcode can now be null"), "{said}");

    // An addition makes the next minor version.
    flow.postgres.execute("alter table lab.plates alter barcode set not null");
    write(&flow, &PLATE.replace("barcode, status", "barcode, status, wells"));
    let (content, said) = say(&flow, &["events", "check"]);
    assert!(!content && said.contains("new fields (wells)"), "{said}");
    assert!(lock(&flow, &[]).contains("lab.plate_came/1.1.json"));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), locked);
    flow.start();
    flow.daemon.assert_quiet(&[]);
}

/// The table changes without a restart before the next row.
#[test]
fn table_changed_while_running_publishes_only_locked_events() {
    let mut flow = lab(seed(), PLATE, |_| {});
    lock(&flow, &["--automatic"]);
    flow.start();
    let came = |count: usize| {
        eventually(&format!("{count} events"), SOON, || {
            let records = flow.stub.records();
            let line = |record: &kinesis_stub::Record| serde_json::from_slice::<Value>(&record.data).unwrap();
            (records.len() >= count).then(|| records.iter().map(line).collect::<Vec<_>>())
        })
    };
    let letters = |count: usize| {
        eventually(&format!("{count} letters"), SOON, || {
            let (_, said) = say(&flow, &["dlq", "list", "--json"]);
            let letters: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            (letters.len() == count).then_some(letters)
        })
    };
    flow.postgres.execute("insert into lab.plates (plate_id, barcode) values (1, 'P1')");
    // A new column is left out until it is locked.
    flow.postgres.execute(
        "insert into lab.samples (sample_code, plate_id, well) values ('a', 1, 'A1'); alter table lab.samples add colour text; \
         insert into lab.samples (sample_code, plate_id, well) values ('b', 1, 'A2')",
    );
    let events = came(3);
    assert!(events.iter().all(|event| event["data"].get("colour").is_none()), "{events:#?}");
    flow.daemon.wait_for_event("unlocked_fields");
    // Texts where numbers were locked are none of it, by a rule or without.
    flow.postgres.execute(
        "alter table lab.plates alter barcode drop not null; insert into lab.plates (plate_id) values (2); \
         alter table lab.samples alter concentration type text; update lab.samples set well = 'A3'",
    );
    for letter in letters(3) {
        let reason = letter["reason"].as_str().unwrap();
        assert!(
            reason.contains("barcode: NULL in this row")
                || reason.contains("concentration: values of this row do not match the locked contract"),
            "{reason}"
        );
        let hint = letter["hint"].as_str().unwrap();
        assert!(hint.contains("coalesce(barcode") || hint.contains("events check --database"), "{hint}");
    }
    // The table is restored: later changes are published.
    flow.postgres.execute(
        "update lab.plates set barcode = 'P2' where plate_id = 2; alter table lab.plates alter barcode set not null; \
         insert into lab.plates (plate_id, barcode) values (3, 'P3')",
    );
    eventually("plate 3", SOON, || came(4).iter().any(|event| event["data"]["plate_id"] == 3).then_some(()));
    assert!(flow.daemon.terminate().success());
}
