//! Outbox events in the running daemon: the sample shop of `config/shop`, invalid rows and messages, transaction
//! context, and columns added after their rows.

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::daemon::{QUARANTINED, Settings};
use crate::support::flow::Flow;
use crate::support::postgres::{Postgres, Version};
use crate::support::random::seed;
use crate::support::{SOON, eventually, repository};

const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// The sample shop beside the lab, with a daemon that uses the sample's rules.
pub(crate) fn shop() -> Flow {
    shop_with(|_| {})
}

/// The sample shop with other settings.
pub(crate) fn shop_with(change: impl FnOnce(&mut Settings)) -> Flow {
    let mut postgres = Postgres::builder(Version::usual()).without_fsync().start();
    postgres.create_lab();
    postgres.execute(&std::fs::read_to_string(repository().join("config/shop/schema.sql")).unwrap());
    postgres.execute("grant shop to forebay");
    let flow = Flow::over(postgres, seed(), |settings: &mut Settings| {
        settings.tables = ["shop.orders", "shop.outbox"].map(str::to_owned).to_vec();
        settings.more = [
            ("events", "rules = \"events/*.toml\""),
            ("events", "automatic = \"off\""),
            ("pii", "columns = [\"shop.orders.customer_email\"]"),
        ]
        .map(|(section, line)| (section.to_owned(), line.to_owned()))
        .to_vec();
        settings.environment =
            vec![("FOREBAY_PII__HMAC_KEY".to_owned(), "a key that only this test knows".to_owned())];
        change(settings);
    });
    for folder in ["events", "schemas/checkout", "schemas/reviews"] {
        copy(&repository().join("config/shop").join(folder), &flow.daemon.home().join(folder));
    }
    flow
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

pub(crate) fn edit(flow: &Flow, file: &str, old: &str, new: &str) {
    let path = flow.daemon.home().join(file);
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains(old), "{file}: {text}");
    std::fs::write(path, text.replace(old, new)).unwrap();
}

/// The lab with a rule file.
fn lab(rules: &str) -> Flow {
    let flow = Flow::prepare(seed(), |settings: &mut Settings| {
        settings.more.push(("events".to_owned(), "rules = \"lab.toml\"".to_owned()));
    });
    std::fs::write(flow.daemon.home().join("lab.toml"), rules).unwrap();
    flow
}

/// The lines of the stream, in order of arrival.
fn lines(flow: &Flow) -> Vec<String> {
    flow.stub.records().iter().map(|record| String::from_utf8(record.data.to_vec()).unwrap()).collect()
}

/// The events without repeats, once there are this many. A repeat must have the same bytes.
pub(crate) fn events(flow: &Flow, count: usize) -> Vec<Value> {
    let mut seen: HashMap<String, String> = HashMap::new();
    let mut first = Vec::new();
    eventually(&format!("{count} events"), SOON, || {
        seen.clear();
        first.clear();
        for line in lines(flow) {
            let event: Value = serde_json::from_str(&line).unwrap();
            let id = event["id"].as_str().unwrap().to_owned();
            if let Some(known) = seen.get(&id) {
                assert_eq!(*known, line, "a repeat has other bytes");
            } else {
                seen.insert(id, line);
                first.push(event);
            }
        }
        (first.len() >= count).then_some(())
    });
    first
}

pub(crate) fn letters(flow: &Flow) -> Vec<Value> {
    let listed = flow.daemon.run(&["dlq", "list", "--json"]).stdout;
    String::from_utf8(listed).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The dead letters, once there are this many.
pub(crate) fn wait_for_letters(flow: &Flow, count: usize) -> Vec<Value> {
    eventually(&format!("{count} letters"), SOON, || {
        let letters = letters(flow);
        (letters.len() >= count).then_some(letters)
    })
}

#[test]
fn shop_configuration_is_valid() {
    let output = Command::new(env!("CARGO_BIN_EXE_forebay"))
        .args(["config", "--config"])
        .arg(repository().join("config/shop/forebay.toml"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn shop_outbox_events_survive_kill_unchanged() {
    let mut flow = shop();
    flow.start();
    let mut placed = HashMap::new();
    for nr in 1..=40 {
        let request = format!("request-{nr}");
        let id = flow.postgres.value(&format!(
            "select shop.place_order('mira@example.org', 'SKU-{nr}', {nr}, 2.50, '{request}')"
        ));
        placed.insert(id, (nr, request));
        flow.postgres.execute(&format!("select shop.rate_order({nr}, 5)"));
        flow.postgres.execute(&format!(
            "update shop.orders set status = 'shipped', shipped_at = '2026-11-21 08:00+00' where order_id = {nr}"
        ));
        if nr == 20 {
            events(&flow, 10);
            flow.daemon.kill9();
            flow.wait_until_slot_is_free();
        } else if nr == 30 {
            flow.start();
        }
    }
    let events = events(&flow, 120);
    assert_eq!(events.len(), 120);
    for (id, (nr, request)) in &placed {
        let key = json!(nr.to_string());
        let of_order: Vec<&Value> = events.iter().filter(|event| event["partitionkey"] == key).collect();
        let types: Vec<&str> = of_order.iter().map(|event| event["type"].as_str().unwrap()).collect();
        assert_eq!(
            types,
            ["shop.order_placed.v1", "shop.order_rated.v1", "shop.order_shipped.v1"],
            "order {nr}"
        );
        let [placed, rated, shipped] = of_order[..] else { panic!("{of_order:#?}") };
        assert_eq!((&placed["id"], &placed["correlationid"]), (&json!(id), &json!(request)));
        assert_eq!(placed["data"]["lines"], json!([{"sku": format!("SKU-{nr}"), "quantity": nr}]));
        assert_eq!(placed["data"]["order_id"], json!(nr));
        assert_eq!(
            (&rated["data"], &rated["correlationid"]),
            (&json!({"order_id": nr, "stars": 5}), &Value::Null)
        );
        assert_eq!(shipped["time"], "2026-11-21T08:00:00Z");
        assert!(shipped["data"]["customer"].as_str().is_some_and(|who| !who.contains("mira")), "{shipped}");
    }
    assert!(lines(&flow).iter().all(|line| !line.contains("mira@")), "an address has left");
    assert!(flow.daemon.terminate().success());
}

#[test]
fn invalid_outbox_row_is_dead_letter_and_retry_keeps_context() {
    let mut flow = shop();
    flow.start();
    flow.postgres.execute(&format!(
        "begin; \
         select pg_logical_emit_message(true, 'forebay:context', '{{\"traceparent\": \"{TRACE}\", \"user\": \"mira\"}}'); \
         insert into shop.outbox (id, aggregatetype, aggregateid, type, payload) values \
           ('00000000-0000-0000-0000-000000000001', 'order', '1', 'order_placed.v1', '{{\"order_id\": 1, \"total\": -1, \"lines\": []}}'), \
           ('00000000-0000-0000-0000-000000000002', 'order', '1', 'Größer', '{{}}'); \
         select pg_logical_emit_message(true, 'event:order_rated.v1:1', '{{\"stars\": 9}}'); \
         commit; \
         select pg_logical_emit_message(false, 'event:order_rated.v1:1', '{{\"order_id\": 1, \"stars\": 1}}'); \
         select pg_logical_emit_message(true, 'somebody:else', 'x'); \
         insert into shop.outbox (aggregatetype, aggregateid, type, payload) values ('order', '1', 'order_seen', 'null')"
    ));
    // Receiving continues: the last event is published, and belongs to another transaction.
    let seen = events(&flow, 1);
    assert_eq!((&seen[0]["type"], &seen[0]["user"]), (&json!("shop.order_seen.v1"), &Value::Null));
    let letters = wait_for_letters(&flow, 3);
    let reason = |text: &str| {
        let found = letters.iter().find(|letter| letter["reason"].as_str().unwrap().contains(text));
        found.unwrap_or_else(|| panic!("{text}: {letters:#?}"))["id"].as_str().unwrap().to_owned()
    };
    let total = reason("at /properties/");
    reason("not a valid event type");
    let stars = reason("at /required");
    let shown = flow.daemon.run(&["dlq", "show", &stars, "--json"]).stdout;
    let shown: Value = serde_json::from_slice(&shown).unwrap();
    assert_eq!(shown["decoded"], json!({"prefix": "event:order_rated.v1:1", "content": "{\"stars\": 9}"}));
    assert!(flow.daemon.terminate().success());
    // The contract was too narrow: it is corrected, and the dead letters are published.
    edit(&flow, "schemas/checkout/shop.order_placed.v1.json", "\"minimum\": 0", "\"minimum\": -9");
    edit(&flow, "schemas/checkout/shop.order_placed.v1.json", "\"minItems\": 1", "\"minItems\": 0");
    edit(&flow, "schemas/reviews/shop.order_rated.v1.json", "\"required\": [\"order_id\", \"stars\"],", "");
    edit(&flow, "schemas/reviews/shop.order_rated.v1.json", "\"maximum\": 5", "\"maximum\": 9");
    flow.start();
    assert!(flow.daemon.run(&["dlq", "retry", &total, &stars]).status.success());
    let events = events(&flow, 3);
    let of = |name: &str| events.iter().find(|event| event["type"] == name).unwrap();
    let (placed, rated) = (of("shop.order_placed.v1"), of("shop.order_rated.v1"));
    assert_eq!(placed["id"], "00000000-0000-0000-0000-000000000001");
    for event in [placed, rated] {
        assert_eq!((&event["traceparent"], &event["user"]), (&json!(TRACE), &json!("mira")), "{event}");
        assert_eq!(event["subject"], "1");
    }
    assert_eq!(rated["data"], json!({"stars": 9}));
    flow.daemon.assert_quiet(&QUARANTINED);
}

#[test]
fn invalid_outboxes_are_all_refused_at_start() {
    let mut flow = shop();
    flow.postgres.execute(
        "alter table shop.outbox rename payload to body; \
         alter table shop.outbox alter id type bytea using ''::bytea, alter id drop default",
    );
    edit(
        &flow,
        "events/shop.toml",
        "[[event]]\nmessages",
        "[[event]]\noutbox = \"shop.nowhere\"\n\n[[event]]\noutbox = \"lab.plates\"\n\n[[event]]\nmessages",
    );
    flow.daemon.start_again();
    let status = flow.daemon.wait();
    let log = flow.daemon.log().join("\n");
    assert!(!status.success(), "{log}");
    for expected in ["no column payload", "has type bytea", "no table shop.nowhere", "events/shop.toml:"] {
        assert!(log.contains(expected), "{expected:?} is missing:\n{log}");
    }
    let slots = "select count(*) from pg_replication_slots where slot_name = 'forebay_lab'";
    assert_eq!(flow.postgres.value(slots), "0");
}

#[test]
fn context_is_in_automatic_events_and_invalid_one_ignored() {
    let mut flow = lab("[[event]]\nmessages = \"event:\"\n");
    flow.start();
    flow.postgres.execute(
        "insert into lab.plates (plate_id, barcode) values (1, 'P1'); \
         begin; \
         insert into lab.plates (plate_id, barcode) values (2, 'P2'); \
         select pg_logical_emit_message(true, 'forebay:context', '{\"user\": \"mira\", \"traceparent\": \"nonsense\"}'); \
         insert into lab.plates (plate_id, barcode) values (3, 'P3'); \
         select pg_logical_emit_message(true, 'forebay:context', 'not even JSON'); \
         insert into lab.plates (plate_id, barcode) values (4, 'P4'); \
         commit; \
         insert into lab.plates (plate_id, barcode) values (5, 'P5')",
    );
    let events = events(&flow, 5);
    let mut who: Vec<(u64, Option<&str>)> = events
        .iter()
        .map(|event| (event["data"]["plate_id"].as_u64().unwrap(), event["user"].as_str()))
        .collect();
    who.sort_unstable();
    // A message without a valid member clears the context.
    assert_eq!(who, [(1, None), (2, None), (3, Some("mira")), (4, None), (5, None)]);
    assert!(events.iter().all(|event| event.get("traceparent").is_none()));
    flow.daemon.wait_for_event("context_ignored");
    flow.daemon.assert_quiet(&["context_ignored"]);
}

#[test]
fn younger_column_is_null_and_missing_one_is_logged_once() {
    let mut flow = lab(
        "[[event]]\ntype = \"lab.seen.v1\"\nfrom = \"lab.plates\"\non = \"insert\"\ndata = \"plate_id\"\n",
    );
    flow.start();
    flow.postgres.execute("insert into lab.plates (plate_id, barcode) values (1, 'P1')");
    events(&flow, 1);
    assert!(flow.daemon.terminate().success());
    flow.postgres.execute("insert into lab.plates (plate_id, barcode) values (2, 'P2')");
    flow.postgres.execute("alter table lab.plates add column colour text");
    flow.postgres.execute("insert into lab.plates (plate_id, barcode, colour) values (3, 'P3', 'red')");
    edit(
        &flow,
        "lab.toml",
        "\"plate_id\"",
        "\"plate_id, coalesce(colour, 'none') as colour, colour is null as old\"",
    );
    flow.start();
    let published = events(&flow, 3);
    let data: Vec<&Value> = published.iter().map(|event| &event["data"]).collect();
    for expected in [
        json!({"plate_id": 1}),
        json!({"plate_id": 2, "colour": "none", "old": true}),
        json!({"plate_id": 3, "colour": "red", "old": false}),
    ] {
        assert!(data.contains(&&expected), "{expected} is not in {data:#?}");
    }
    flow.postgres.execute("alter table lab.plates drop column colour");
    flow.postgres.execute("insert into lab.plates (plate_id, barcode) values (4, 'P4'), (5, 'P5')");
    wait_for_letters(&flow, 2);
    flow.daemon.wait_for_event("change_quarantined");
    // `dead_letters_written` is logged for each batch; the reason only once.
    assert_eq!(flow.daemon.count_events("change_quarantined"), 1);
}

#[test]
fn unpublished_column_is_never_null() {
    let mut flow = lab(
        "[[event]]\ntype = \"lab.seen.v1\"\nfrom = \"lab.plates\"\non = \"insert\"\ndata = \"plate_id, notes\"\n",
    );
    flow.start();
    flow.postgres.execute("insert into lab.plates (plate_id, barcode, notes) values (1, 'P1', 'fine')");
    events(&flow, 1);
    let publish = "alter publication forebay_lab set table";
    flow.postgres.execute(&format!("{publish} lab.plates (plate_id, barcode), lab.samples, lab.transfers"));
    flow.postgres.execute("insert into lab.plates (plate_id, barcode, notes) values (2, 'P2', 'fine')");
    let letters = wait_for_letters(&flow, 1);
    assert!(letters[0]["reason"].as_str().unwrap().contains("notes"), "{letters:#?}");
    flow.postgres.execute(&format!("{publish} lab.plates, lab.samples, lab.transfers"));
    flow.postgres.execute("insert into lab.plates (plate_id, barcode, notes) values (3, 'P3', 'fine')");
    let published = events(&flow, 2);
    assert!(published.iter().all(|event| event["data"]["notes"] == "fine"), "{published:#?}");
}
