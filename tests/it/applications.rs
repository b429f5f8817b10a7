//! Contracts of outbox events in the running daemon, the contracts of the samples, and rows older than the contract.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::{Value, json};

use crate::catalog::judged;
use crate::contracts::say;
use crate::outbox::{edit, events, shop, shop_with, wait_for_letters};
use crate::samples::{lab, replica_identity};
use crate::support::flow::Flow;
use crate::support::{SOON, eventually, repository};

#[track_caller]
fn content(flow: &Flow, arguments: &[&str]) -> String {
    let (content, said) = say(flow, arguments);
    assert!(content, "{arguments:?}: {said}");
    said
}

/// All files below a directory, by relative path.
fn files(folder: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(&next).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let text = std::fs::read_to_string(&path).unwrap();
                found.insert(path.strip_prefix(folder).unwrap().to_owned(), text);
            }
        }
    }
    found
}

/// Copies the contracts of a sample to a daemon.
fn take_lock(flow: &Flow, sample: &str) {
    for file in files(&repository().join("config").join(sample).join("events.lock")).into_keys() {
        let to = flow.daemon.home().join("events.lock").join(&file);
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(repository().join("config").join(sample).join("events.lock").join(&file), to).unwrap();
    }
}

#[test]
fn sample_contracts_match_their_databases_and_rules() {
    let lab = lab();
    replica_identity(&lab);
    for (flow, sample) in [(&lab, "lab"), (&shop(), "shop")] {
        let committed = repository().join("config").join(sample).join("events.lock");
        take_lock(flow, sample);
        content(flow, &["events", "lock"]);
        let made = files(&flow.daemon.home().join("events.lock"));
        if std::env::var_os("FOREBAY_WRITE_SAMPLES").is_some() {
            for (file, text) in &made {
                let path = committed.join(file);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, text).unwrap();
            }
        }
        assert!(made.len() > 3, "{sample}: {made:#?}");
        assert_eq!(files(&committed), made, "config/{sample}/events.lock; FOREBAY_WRITE_SAMPLES=1 writes it");
        assert!(content(flow, &["events", "check"]).contains("match the contracts"));
    }
}

const SCHEMAS: &str = "https://schemas.example/shop";

/// The shop with its contracts and an address for schemas.
fn locked_shop() -> Flow {
    let flow = shop_with(|settings| {
        settings.more.push(("events".to_owned(), format!("schemas = \"{SCHEMAS}\"")));
    });
    content(&flow, &["events", "lock"]);
    flow
}

fn order(flow: &Flow, nr: u32) {
    flow.postgres.execute(&format!(
        "select shop.place_order('mira@example.org', 'SKU-{nr}', 2, 2.50, 'request-{nr}')"
    ));
    flow.postgres.execute(&format!("select shop.rate_order({nr}, 5)"));
}

#[test]
fn application_schema_is_locked_and_its_change_refused() {
    let mut flow = locked_shop();
    let lock = flow.daemon.home().join("events.lock");
    flow.start();
    order(&flow, 1);
    let came = events(&flow, 2);
    for event in &came {
        let address = event["dataschema"].as_str().unwrap_or_else(|| panic!("{event} has no dataschema"));
        let file = lock.join(address.strip_prefix(SCHEMAS).unwrap().trim_start_matches('/'));
        let schema: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
        assert_eq!((&schema["$id"], &schema["x-event"]), (&event["dataschema"], &event["type"]));
        jsonschema::draft7::validate(&schema, &event["data"]).unwrap();
    }
    // An order has the same key in both outboxes, but a message is not a row.
    let order = |name: &str| {
        let text = std::fs::read_to_string(lock.join(name)).unwrap();
        serde_json::from_str::<Value>(&text).unwrap()["x-order"].clone()
    };
    assert_eq!(order("shop.order_placed/1.0.json")[0]["time"], "timestamp");
    assert_eq!(order("shop.order_rated/1.0.json")[0]["key"], "key of the message");
    // A type that is locked for one outbox is refused from another.
    flow.postgres.execute(
        "select pg_logical_emit_message(true, 'event:order_placed.v1:1', '{\"order_id\": 1, \"total\": 1, \"lines\": [{\"sku\": \"a\", \"quantity\": 1}]}'); \
         select pg_logical_emit_message(true, 'event:order_shipped.v1:1', '{}')",
    );
    let letters = wait_for_letters(&flow, 2);
    for letter in &letters {
        assert!(letter["reason"].as_str().unwrap().contains("is locked for another rule"), "{letter:#}");
    }
    assert!(flow.daemon.terminate().success());

    let file = "schemas/checkout/shop.order_placed.v1.json";
    edit(&flow, file, "\"minimum\": 0", "\"minimum\": -9");
    let refused = [
        "field total changed minimum from 0 to -9",
        "schemas/checkout/shop.order_placed.v2.json",
        "shop.toml:8:",
    ];
    for arguments in [&["events", "check"][..], &["events", "check", "--database"], &["events", "lock"]] {
        let (content, said) = say(&flow, arguments);
        assert!(!content && refused.iter().all(|expected| said.contains(expected)), "{arguments:?}: {said}");
    }
    flow.daemon.start_again();
    let status = flow.daemon.wait();
    let log = flow.daemon.log().join("\n");
    assert!(!status.success() && refused.iter().all(|expected| log.contains(expected)), "{log}");

    // A new field makes the next minor version.
    edit(&flow, file, "\"minimum\": -9", "\"minimum\": 0");
    edit(&flow, file, "\"lines\": {", "\"coupon\": { \"type\": \"string\" },\n    \"lines\": {");
    let (is_content, said) = say(&flow, &["events", "check"]);
    assert!(!is_content && said.contains("new fields (coupon)"), "{said}");
    assert!(content(&flow, &["events", "lock"]).contains("shop.order_placed/1.1.json"));
    // The schema is removed, but the type is still locked.
    std::fs::remove_file(flow.daemon.home().join("schemas/reviews/shop.order_rated.v1.json")).unwrap();
    edit(&flow, "events/shop.toml", "schemas  = \"schemas/reviews/\"", "");
    let (is_content, said) = say(&flow, &["events", "check"]);
    assert!(
        !is_content && said.contains("shop.order_rated.v1: is locked, but no outbox has a schema for it"),
        "{said}"
    );
}

#[test]
fn catalogue_and_asyncapi_show_application_events() {
    let flow = shop();
    // A schema may refer to its own definitions, wherever it is placed.
    let file = "schemas/checkout/shop.order_placed.v1.json";
    edit(
        &flow,
        file,
        "\"type\": \"integer\", \"description\"",
        "\"$ref\": \"#/definitions/nr\", \"description\"",
    );
    edit(
        &flow,
        file,
        "\"required\": [\"order_id\"",
        "\"definitions\": { \"nr\": { \"type\": \"integer\" } },\n  \"required\": [\"order_id\"",
    );
    content(&flow, &["events", "lock"]);
    let site = flow.daemon.home().join("site");
    content(&flow, &["events", "catalog", "--out", site.to_str().unwrap()]);
    let page = std::fs::read_to_string(site.join("index.html")).unwrap();
    for text in [
        "id=\"shop.order_placed.v1\"",
        "id=\"shop.order_rated.v1\"",
        "A customer has placed an order.",
        "what the customer pays, in euros",
        "3 event types: 1 from rules, 2 from applications.",
        "locked as 1.0",
        "id=\"outbox:shop.outbox\"",
        "Messages with the same key",
        "<code>shop.{type}</code>",
    ] {
        assert!(page.contains(text), "no {text:?} in the page");
    }
    let printed = content(&flow, &["events", "asyncapi"]);
    let document: Value = serde_json::from_str(&printed).unwrap();
    let messages = &document["components"]["messages"];
    assert_eq!(messages["shop.order_rated.v1"]["x-owner"], "reviews");
    assert_eq!(messages["outbox.shop.outbox"]["x-type"], "shop.{type}");
    let rated = &document["components"]["schemas"]["ShopOrderRatedV1"];
    assert_eq!(
        (&rated["properties"]["stars"]["maximum"], &rated["additionalProperties"]),
        (&json!(5), &Value::Null)
    );
    let placed = &document["components"]["schemas"]["ShopOrderPlacedV1"]["properties"]["order_id"];
    assert_eq!(placed["$ref"], "#/components/schemas/ShopOrderPlacedV1/definitions/nr");
    let Some(verdict) = judged(&printed) else { return };
    assert_eq!(verdict["errors"], json!([]), "{verdict:#}");
    // Two outboxes have no examples, because their data has no contract. Four are Forebay's own.
    assert_eq!((&verdict["messages"], &verdict["examples"]), (&json!(9), &json!(7)));
}

#[test]
fn preview_shows_application_events_and_ends_on_time() {
    let flow = shop();
    let last = content(&flow, &["events", "preview", "--type", "shop.order_placed.v1"]);
    assert!(last.contains("shop.outbox: 0 rows"), "{last}");
    let (is_content, said) = say(&flow, &["events", "preview", "--type", "lab.nothing.v1"]);
    assert!(
        !is_content && said.contains("shop.order_placed.v1") && said.contains("no rule or table makes"),
        "{said}"
    );
    flow.postgres.execute("create publication forebay_lab for table shop.orders, shop.outbox");
    // Creating a slot may take long on a busy machine: retry with a longer limit.
    let mut ended = ["1s", "30s", "5min"].into_iter().map(|time| {
        let (content, said) = say(&flow, &["events", "preview", "--live", "100", "--for", time]);
        assert!(content || said.contains("Use --for to wait longer"), "{said}");
        said
    });
    assert!(ended.any(|said| said.contains("received 0 of 100 changes")));
    eventually("the slot before is gone", SOON, || {
        (flow.postgres.value("select count(*) from pg_replication_slots") == "0").then_some(())
    });
    let live = ["events", "preview", "--live", "3", "--for", "10min"];
    let child = flow.daemon.command(&live).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    eventually("the temporary slot is read", SOON, || {
        let reading = "select count(*) from pg_replication_slots where temporary and active and confirmed_flush_lsn is not null";
        (flow.postgres.value(reading) == "1").then_some(())
    });
    order(&flow, 7);
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    let lines = String::from_utf8(output.stdout).unwrap();
    let events: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let reported: Vec<_> =
        events.iter().map(|event| (event["type"].as_str().unwrap(), &event["correlationid"])).collect();
    assert_eq!(
        reported,
        [("shop.order_placed.v1", &json!("request-7")), ("shop.order_rated.v1", &Value::Null)],
        "{said}"
    );
    assert!(said.contains("messages event:: 1 inserted, 1 events"), "{said}");
}

#[test]
fn older_row_breaking_contract_is_a_dead_letter() {
    let rule = "[[event]]\ntype = \"lab.plate_came.v1\"\nfrom = \"lab.plates\"\non = \"insert\"\ndata = \"plate_id, notes, colour\"\n";
    let mut flow = Flow::prepare(crate::support::random::seed(), |settings| {
        settings.more.push(("events".to_owned(), "rules = \"lab.toml\"".to_owned()));
    });
    std::fs::write(flow.daemon.home().join("lab.toml"), "").unwrap();
    flow.start();
    assert!(flow.daemon.terminate().success());
    // Rows written while the daemon is down are older than the contract that is locked next.
    flow.postgres.execute(
        "insert into lab.plates (plate_id, barcode) values (1, 'P1'); \
         update lab.plates set notes = 'now there are some'; \
         alter table lab.plates alter notes set not null; \
         insert into lab.plates (plate_id, barcode, notes) values (2, 'P2', 'n'); \
         alter table lab.plates add column colour text not null default 'blue'; \
         insert into lab.plates (plate_id, barcode, notes) values (3, 'P3', 'n')",
    );
    std::fs::write(flow.daemon.home().join("lab.toml"), rule).unwrap();
    content(&flow, &["events", "lock"]);
    flow.start();
    let letters = wait_for_letters(&flow, 2);
    let reasons: Vec<&str> = letters.iter().map(|letter| letter["reason"].as_str().unwrap()).collect();
    for expected in ["notes: NULL in this row", "colour: NULL in this row"] {
        assert!(reasons.iter().any(|reason| reason.contains(expected)), "{reasons:#?}");
        assert!(!reasons.iter().any(|reason| reason.contains("coalesce")), "a hint is a field: {reasons:#?}");
    }
    assert_eq!(plates(&flow, 1), [json!({"plate_id": 3, "notes": "n", "colour": "blue"})]);
    assert!(flow.daemon.terminate().success());
    // A rule that gives such rows a value keeps the contract, and its events are published.
    let corrected =
        rule.replace("notes, colour", "coalesce(notes, '-') as notes, coalesce(colour, 'none') as colour");
    std::fs::write(flow.daemon.home().join("lab.toml"), corrected).unwrap();
    flow.start();
    assert!(flow.daemon.run(&["dlq", "retry", "--all"]).status.success());
    let came = plates(&flow, 3);
    for expected in [
        json!({"plate_id": 1, "notes": "-", "colour": "none"}),
        json!({"plate_id": 2, "notes": "n", "colour": "none"}),
    ] {
        assert!(came.contains(&expected), "{expected} is not in {came:#?}");
    }
}

/// The data of the inserted plates, once there are this many.
fn plates(flow: &Flow, count: usize) -> Vec<Value> {
    eventually(&format!("{count} plates"), SOON, || {
        let came = events(flow, 1).into_iter().filter(|event| event["type"] == "lab.plate_came.v1");
        let came: Vec<Value> = came.map(|event| event["data"].clone()).collect();
        (came.len() >= count).then_some(came)
    })
}

#[test]
fn column_added_while_running_stays_out_until_locked() {
    let mut flow = Flow::prepare(crate::support::random::seed(), |settings| {
        settings.more.push(("events".to_owned(), "rules = \"lab.toml\"".to_owned()));
    });
    let rule = "[[event]]\ntype = \"lab.plate_came.v1\"\nfrom = \"lab.plates\"\non = \"insert\"\n";
    std::fs::write(flow.daemon.home().join("lab.toml"), rule).unwrap();
    content(&flow, &["events", "lock"]);
    flow.start();
    flow.postgres.execute("insert into lab.plates (plate_id, barcode) values (1, 'P1')");
    plates(&flow, 1);
    flow.postgres.execute("alter table lab.plates add column colour text not null default 'blue'");
    flow.postgres.execute("insert into lab.plates (plate_id, barcode) values (2, 'P2')");
    let came = plates(&flow, 2);
    assert!(
        came.iter().all(|plate| plate["barcode"].is_string() && plate.get("colour").is_none()),
        "{came:#?}"
    );
    flow.daemon.wait_for_event("unlocked_fields");
    assert!(flow.daemon.terminate().success());
    content(&flow, &["events", "lock"]);
    flow.start();
    flow.postgres.execute("insert into lab.plates (plate_id, barcode) values (3, 'P3')");
    let came = plates(&flow, 3);
    assert!(came.iter().any(|plate| plate["plate_id"] == 3 && plate["colour"] == "blue"), "{came:#?}");
}
