//! Rule files that are accepted, and the errors in others.

use super::*;
use crate::config::TableName;
use crate::rules::{IdRule, Trigger};

fn parsed(text: &str) -> Result<Rules, String> {
    let file = Arc::new(SourceFile { path: "events/a.toml".into(), text: text.to_owned() });
    let (mut rules, mut errors) = (Rules::default(), Vec::new());
    parse(&file, &mut rules, &mut errors);
    across(&rules, &mut errors);
    if errors.is_empty() { Ok(rules) } else { Err(RuleErrors(errors).to_string()) }
}

#[test]
fn rule_is_parsed_as_written() {
    let rules = parsed(
        r#"
[[event]]
type  = "lab.plate_completed.v2"
about = "A plate has passed its last step."
owner = "lab-automation"
consumers = ["lims", "billing"]
from  = "lab.plates"
on    = "update of status, delete"
when  = "new.status = 'completed'"
key   = "plate_id"
time  = "completed_at"
id    = "key"
data  = """
  plate_id,
  old.status as previous_status   -- what the plate was before
"""

[[event]]
type       = "lab.plate_completed.v1"
from_event = "lab.plate_completed.v2"
data       = "plate_id"
deprecated = { since = "2026-11-01", sunset = 2027-05-01, use = "lab.plate_completed.v2" }
"#,
    )
    .unwrap();
    let [new, old] = &rules.events[..] else { panic!("{rules:?}") };
    let of = Trigger::Update { of: vec!["status".into()] };
    let from = TableName { schema: "lab".into(), table: "plates".into() };
    assert_eq!(new.origin, Origin::Table { from, on: vec![of, Trigger::Delete] });
    assert_eq!(
        (new.owner.as_deref(), &new.consumers[..]),
        (Some("lab-automation"), &["lims".to_owned(), "billing".into()][..])
    );
    assert!(matches!(new.id, IdRule::Key));
    let data = new.data.as_ref().unwrap();
    assert_eq!(data.place_of(data.text.find("old").unwrap()).line_and_column(), (15, 3));
    assert_eq!(old.origin, Origin::Event(new.event_type.clone()));
    let deprecated = old.deprecated.as_ref().unwrap();
    assert_eq!((&*deprecated.since, deprecated.sunset.as_deref()), ("2026-11-01", Some("2027-05-01")));
}

#[test]
fn every_error_has_its_place() {
    let event = |rest: &str| format!("[[event]]\ntype = \"lab.a.v1\"\n{rest}\n");
    for (text, place, message) in [
        ("[[event\n".to_owned(), "1:8", "expected"),
        ("[event]\ntype = \"a.v1\"\n".to_owned(), "1:1", "double brackets"),
        ("[[events]]\n".to_owned(), "1:3", "unknown key \"events\""),
        ("[[event]]\nfrom = \"lab.a\"\n".to_owned(), "1:1", "missing type"),
        (event(""), "2:1", "missing source"),
        (event("from = \"plates\""), "3:9", "schema.table"),
        (event("from = \"lab.a\"\nfrom_event = \"lab.b.v1\""), "4:15", "exclude each other"),
        (event("from = \"lab.a\"\non = \"update off x\""), "4:14", "expected a comma"),
        (event("from = \"lab.a\"\nwen = \"x\""), "4:1", "did you mean \"when\""),
        (event("from = \"lab.a\"\nwhen = true"), "4:1", "must be a string in quotes, not boolean"),
        (event("from = \"lab.a\"\nwhen = \" \""), "4:1", "is empty"),
        (event("from = \"lab.a\"\nconsumers = \"x\""), "4:1", "array of strings"),
        (event("from = \"lab.a\"\ndeprecated = \"x\""), "4:1", "write deprecated"),
        (event("from = \"lab.a\"\ndeprecated = { since = \"soon\" }"), "4:1", "not a date"),
        (event("from = \"lab.a\"\ndeprecated = { since = \"2026-02-29\" }"), "4:1", "not a date"),
        (
            event("from = \"lab.a\"\ndeprecated = { since = \"2026-02-01\", sunset = \"2026-01-01\" }"),
            "4:1",
            "before",
        ),
        (event("from = \"lab.a\"\ndeprecated = { until = \"2026-01-01\" }"), "4:1", "unknown key \"until\""),
        (event("from_event = \"lab.b.v1\""), "2:9", "no rule makes"),
        (event("from_event = \"lab.a.v1\""), "2:9", "has a from_event"),
        (
            event("from = \"lab.a\"\n[[event]]\ntype = \"lab.b.v1\"\nfrom_event = \"lab.a.v1\"\nkey = \"x\""),
            "7:1",
            "remove it",
        ),
        (
            event(
                "from = \"lab.a\"\n[[event]]\ntype = \"lab.b.v1\"\nfrom_event = \"lab.a.v1\"\non = \"insert\"",
            ),
            "7:1",
            "remove `on`",
        ),
    ] {
        let errors = parsed(&text).unwrap_err();
        assert!(
            errors.contains(&format!("events/a.toml:{place}: ")) && errors.contains(message),
            "{text}\n{errors}"
        );
    }
    let two = parsed("[[event]]\ntype = \"x\"\nfrom = \"y\"\n").unwrap_err();
    assert!(two.starts_with("the rules have 2 errors:"), "{two}");
}

#[test]
fn files_are_sorted_by_name_and_empty_pattern_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    for (name, event_type) in [("b.toml", "lab.b.v1"), ("a.toml", "lab.a.v1"), ("c.txt", "lab.c.v1")] {
        let text = format!("[[event]]\ntype = \"{event_type}\"\nfrom = \"lab.plates\"\n");
        std::fs::write(directory.path().join(name), text).unwrap();
    }
    let rules = load("*.toml", directory.path()).unwrap();
    let types: Vec<_> = rules.events.iter().map(|rule| rule.event_type.as_str()).collect();
    assert_eq!(types, ["lab.a.v1", "lab.b.v1"]);
    assert!(load("events/*.toml", directory.path()).unwrap_err().to_string().contains("matches no file"));
    std::fs::write(directory.path().join("d.toml"), vec![b'#'; usize::try_from(FILE_MAX).unwrap() + 1])
        .unwrap();
    assert!(load("*.toml", directory.path()).unwrap_err().to_string().contains("the limit is"));
}

#[test]
fn outbox_is_table_or_messages_and_declared_once() {
    let actual = |text: &str| {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("a.toml"), text).unwrap();
        load("*.toml", directory.path()).map_err(|errors| errors.to_string())
    };
    let rules = actual(
        "[[event]]\noutbox = \"shop.outbox\"\nowner = \"shop\"\nconsumers = [\"crm\"]\n\
         columns = { id = \"event_id\", type = \"name\", timestamp = \"at\" }\ntype = \"shop.{type}\"\n\
         [[event]]\nmessages = \"event:\"\nabout = \"What the shop says.\"\n",
    )
    .unwrap();
    let [table, messages] = &rules.outboxes[..] else { panic!("{rules:?}") };
    assert_eq!((table.name().as_str(), messages.name().as_str()), ("shop.outbox", "messages event:"));
    assert!(rules.outbox_of("shop", "outbox").is_some() && rules.outbox_of("shop", "orders").is_none());
    let (_, behind) = rules.outbox_of_message(b"event:a.v1:k").unwrap();
    assert_eq!(behind, b"a.v1:k");
    assert!(rules.outbox_of_message(b"forebay:context").is_none());
    for (text, why) in [
        ("[[event]]\noutbox = \"shop\"\n", "shop"),
        ("[[event]]\noutbox = \"s.o\"\nmessages = \"m:\"\n", "exclude each other"),
        ("[[event]]\noutbox = \"s.o\"\nwhen = \"true\"\n", "unknown key \"when\""),
        ("[[event]]\noutbox = \"s.o\"\ncolumns = { key = \"k\" }\n", "unknown column \"key\""),
        ("[[event]]\noutbox = \"s.o\"\ncolumns = { id = 7 }\n", "column name in quotes"),
        ("[[event]]\noutbox = \"s.o\"\ntype = \"{name}\"\n", "{name} is neither"),
        ("[[event]]\noutbox = \"s.o\"\nschemas = \"nowhere/\"\n", "nowhere"),
        (
            "[[event]]\nmessages = \"m:\"\ntype = \"{aggregatetype}.{type}\"\n",
            "a messages outbox has no {aggregatetype}",
        ),
        ("[[event]]\nmessages = \"forebay:x\"\n", "are reserved"),
        ("[[event]]\nmessages = \"fore\"\n", "are reserved"),
        ("[[event]]\nmessages = \"e:\"\n[[event]]\nmessages = \"e:x:\"\n", "overlaps the prefix"),
        ("[[event]]\noutbox = \"s.o\"\n[[event]]\noutbox = \"s.o\"\n", "duplicate outbox"),
        (
            "[[event]]\noutbox = \"s.o\"\n[[event]]\ntype = \"a.v1\"\nfrom = \"s.o\"\n",
            "a.v1 reads the same table",
        ),
    ] {
        let said = actual(text).unwrap_err();
        assert!(said.contains(why) && said.contains("a.toml:"), "{text}{said}");
    }
}

#[test]
fn each_type_has_one_contract() {
    let folder = tempfile::tempdir().unwrap();
    for (name, schema) in [("a", "{}"), ("b", "{\"type\": \"object\"}"), ("c", "{}")] {
        std::fs::create_dir(folder.path().join(name)).unwrap();
        std::fs::write(folder.path().join(name).join("a.said.v1.json"), schema).unwrap();
    }
    let outbox =
        |at: &str, schemas: &str| format!("[[event]]\nmessages = \"{at}:\"\nschemas = \"{schemas}\"\n");
    let load = |text: String| {
        std::fs::write(folder.path().join("a.toml"), text).unwrap();
        Rules::load("*.toml", folder.path()).map_err(|errors| errors.to_string())
    };
    assert!(load(outbox("m", "a") + &outbox("n", "c")).is_ok());
    let said = load(outbox("m", "a") + &outbox("n", "b")).unwrap_err();
    assert!(said.contains("a.toml:6:") && said.contains("a different schema in messages m:"), "{said}");
    let rule = "[[event]]\ntype = \"a.said.v1\"\nfrom = \"a.b\"\n";
    let said = load(outbox("m", "a") + rule).unwrap_err();
    assert!(said.contains("a.toml:3:") && said.contains("a rule makes it too"), "{said}");
}
