//! `forebay events catalog` and `forebay events asyncapi`: from a real database's tables through the contracts to the
//! page and to a document that AsyncAPI's parser accepts.

mod readers;

use std::io::Write as _;
use std::process::{Command, Stdio};

use forebay::contracts::own::OWN_EVENTS;
use serde_json::Value;

use crate::support::daemon::{Daemon, Settings};
use crate::support::postgres::{Postgres, Version};
use crate::support::{cache, missing, repository};

const RULES: &str = r#"
[[event]]
type = "lab.plate_completed.v2"
about = "A plate has passed its last step."
owner = "lab-automation"
consumers = ["billing", "archive"]
from = "lab.plates"
on = "update of status"
when = "status = 'completed'"
key = "barcode"
data = """
  plate_id,              -- number of the plate
  barcode,               -- what is printed on it
  status,
  notes,                 -- what people wrote
  length(barcode) > 3 as long
"""

[[event]]
type = "lab.plate_completed.v1"
from_event = "lab.plate_completed.v2"
data = "plate_id as id"
deprecated = { since = "2026-11-01", sunset = "2027-05-01", use = "lab.plate_completed.v2" }
"#;

/// The home of a daemon with rules and two minor versions of contracts. Its database has been removed.
fn locked() -> Daemon {
    let postgres = Postgres::lab(Version::usual());
    postgres.execute("comment on column lab.plates.status is 'where it stands <now>'");
    postgres.execute("alter table lab.plates replica identity full");
    let mut settings = Settings::new(postgres.url("forebay"), "http://127.0.0.1:9".to_owned());
    settings.more.push(("events".to_owned(), "rules = \"events/*.toml\"".to_owned()));
    let daemon = Daemon::prepare(settings);
    let folder = daemon.home().join("events");
    std::fs::create_dir_all(&folder).unwrap();
    let rules = |text: &str| std::fs::write(folder.join("lab.toml"), text).unwrap();
    postgres.execute("create publication forebay_lab for table lab.plates, lab.samples");
    rules(&RULES.replace("  notes,                 -- what people wrote\n", ""));
    run(&daemon, &["events", "lock"]);
    rules(RULES);
    run(&daemon, &["events", "lock"]);
    daemon
}

#[track_caller]
fn run(daemon: &Daemon, arguments: &[&str]) -> String {
    let output = daemon.run(arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn catalogue_and_asyncapi_show_every_published_event() {
    let daemon = locked();
    let site = daemon.home().join("deep/site");
    let said = run(&daemon, &["events", "catalog", "--out", site.to_str().unwrap()]);
    assert!(said.starts_with("wrote ") && said.contains("index.html: "), "{said}");
    let page = std::fs::read_to_string(site.join("index.html")).unwrap();
    for text in [
        "<!doctype html>",
        "id=\"lab.plate_completed.v2\"",
        "id=\"lab.plate_completed.v1\"",
        "id=\"lab.samples.inserted.v1\"",
        "where it stands &lt;now&gt;",
        "locked as 2.1",
        "data-sunset>2027-05-01<",
        "lab-events",
    ] {
        assert!(page.contains(text), "no {text:?} in the page");
    }
    run(&daemon, &["events", "catalog", "--out", site.to_str().unwrap()]);
    assert_eq!(std::fs::read_to_string(site.join("index.html")).unwrap(), page, "another page of the same");

    let printed = run(&daemon, &["events", "asyncapi", "--api-version", "3.2.1"]);
    let file = site.join("asyncapi.json");
    run(&daemon, &["events", "asyncapi", "--api-version", "3.2.1", "--out", file.to_str().unwrap()]);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), printed);
    let document: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(document["asyncapi"], "3.0.0");
    assert_eq!(document["info"]["version"], "3.2.1");
    assert_eq!(document["channels"]["LabEvents"]["address"], "lab-events");
    let message = &document["components"]["messages"]["lab.plate_completed.v2"];
    assert_eq!((&message["x-version"], &message["x-owner"]), (&"2.1".into(), &"lab-automation".into()));
    // The events about the stream itself have no article.
    let types = page.matches("<article ").count() + OWN_EVENTS.len();
    let gap = &document["components"]["schemas"]["ForebayGapV1"];
    assert_eq!(gap["required"], serde_json::json!(["epoch", "previous", "resumes_at", "reason"]));
    assert_eq!(document["channels"]["LabEvents"]["messages"].as_object().unwrap().len(), types);
    let Some(verdict) = judged(&printed) else { return };
    assert_eq!(verdict["errors"], serde_json::json!([]), "{verdict:#}");
    assert_eq!((&verdict["messages"], &verdict["examples"]), (&types.into(), &types.into()));
    assert_eq!(verdict["deprecated"], serde_json::json!(["lab.plate_completed.v1"]));
    assert_judge_can_refuse(document);
}

/// A wrong document must be rejected, to show that the validator works.
fn assert_judge_can_refuse(mut document: Value) {
    let message = &mut document["components"]["messages"]["lab.plate_completed.v2"];
    message["examples"][0]["payload"]["data"]["plate_id"] = "seven".into();
    let verdict = judged(&document.to_string()).unwrap();
    assert_eq!(verdict["errors"].as_array().unwrap().len(), 1, "{verdict:#}");
    assert!(verdict["errors"][0].as_str().unwrap().contains("plate_id must be integer"), "{verdict:#}");
    document["channels"]["LabEvents"]["bindings"] = serde_json::json!({"kinesis": {}});
    let verdict = judged(&document.to_string()).unwrap();
    assert!(verdict["errors"].to_string().contains("kinesis"), "{verdict:#}");
}

/// The verdict of AsyncAPI's parser on a document, and of its validator on the examples.
pub(crate) fn judged(document: &str) -> Option<Value> {
    let modules = cache().join("asyncapi/node_modules");
    if !modules.join("@asyncapi/parser").is_dir() {
        missing("AsyncAPI's parser");
        return None;
    }
    let mut node = Command::new("node")
        .arg(repository().join("tests/it/catalog/asyncapi.cjs"))
        .env("NODE_PATH", modules)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    node.stdin.take().unwrap().write_all(document.as_bytes()).unwrap();
    let output = node.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

#[test]
fn missing_contract_error_has_hint() {
    let settings =
        Settings::new("postgres://nobody@127.0.0.1:9/lab".to_owned(), "http://127.0.0.1:9".to_owned());
    let daemon = Daemon::prepare(settings);
    for arguments in [&["events", "catalog", "--out", "x"][..], &["events", "asyncapi"][..]] {
        let output = daemon.run(arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(
            said.contains("tables.json does not exist") && said.contains("forebay events lock"),
            "{said}"
        );
    }
}
