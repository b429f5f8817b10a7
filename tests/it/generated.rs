//! Generated columns: sent by PostgreSQL 18 where the publication says so, never before, and virtual ones never.

use serde_json::{Value, json};

use crate::contracts::say;
use crate::outbox::{events, wait_for_letters};
use crate::support::daemon::Settings;
use crate::support::flow::Flow;
use crate::support::postgres::{Postgres, Version};
use crate::support::random::seed;

const NO_RULES: &str = "";
const SUM: &str =
    "[[event]]\ntype = \"lab.sum.v1\"\nfrom = \"lab.g\"\non = \"insert\"\ndata = \"id, total\"\n";

/// A daemon over schema `lab` with this DDL, made by a role that owns the tables; not started.
fn lab(version: Version, ddl: &str, rules: &str) -> Flow {
    let postgres = Postgres::lab(version);
    postgres.execute(&format!(
        "drop schema audit cascade; grant all on schema lab to lab; set role lab; set search_path = lab; {ddl}; reset role"
    ));
    let flow = Flow::over(postgres, seed(), |settings: &mut Settings| {
        settings.tables.clear();
        settings.more.push(("events".to_owned(), "rules = \"lab.toml\"".to_owned()));
    });
    std::fs::write(flow.daemon.home().join("lab.toml"), rules).unwrap();
    flow
}

fn publish(flow: &Flow, what: &str) {
    flow.postgres.execute(&format!("set role forebay; create publication forebay_lab for table {what}"));
}

fn refuses(flow: &mut Flow, texts: &[&str]) {
    flow.daemon.start_again();
    assert!(!flow.daemon.wait().success());
    let log = flow.daemon.log().join("\n");
    for text in texts {
        assert!(log.contains(text), "not said: {text:?}\n{log}");
    }
}

fn of<'a>(events: &'a [Value], event_type: &str, id: u64) -> &'a Value {
    let is_it = |event: &&Value| event["type"] == event_type && event["data"]["id"] == id;
    &events.iter().find(is_it).unwrap()["data"]
}

/// Described, locked, read by rules, and sent after the lock as before it.
#[test]
fn stored_column_is_sent_locked_and_read_by_rules() {
    let mut flow = lab(
        Version::NEWEST,
        "create table g (id int primary key, a int, total int generated always as (a + 1) stored); \
         create table l (id int primary key, a int, total int generated always as (a + 1) stored, other int)",
        NO_RULES,
    );
    publish(
        &flow,
        "lab.g, lab.l (id, total) with (publish_via_partition_root = true, publish_generated_columns = stored)",
    );
    flow.start();
    flow.postgres.execute("insert into lab.g values (1, 2); insert into lab.l values (1, 2)");
    let came = events(&flow, 2);
    assert_eq!(of(&came, "lab.g.inserted.v1", 1), &json!({"id": 1, "a": 2, "total": 3}));
    assert_eq!(of(&came, "lab.l.inserted.v1", 1), &json!({"id": 1, "total": 3}));
    assert!(flow.daemon.terminate().success());
    let (locked, said) = say(&flow, &["events", "lock", "--automatic"]);
    assert!(locked, "{said}");
    flow.start();
    flow.postgres.execute("insert into lab.g values (2, 2); insert into lab.l values (2, 2)");
    let came = events(&flow, 4);
    assert_eq!(of(&came, "lab.g.inserted.v1", 2), &json!({"id": 2, "a": 2, "total": 3}));
    assert_eq!(of(&came, "lab.l.inserted.v1", 2), &json!({"id": 2, "total": 3}));
    assert!(flow.daemon.terminate().success());
    std::fs::remove_dir_all(flow.daemon.home().join("events.lock")).unwrap();
    std::fs::write(flow.daemon.home().join("lab.toml"), SUM).unwrap();
    flow.start();
    flow.postgres.execute("insert into lab.g values (3, 2)");
    let came = events(&flow, 5);
    assert_eq!(of(&came, "lab.sum.v1", 3), &json!({"id": 3, "total": 3}));

    // A table that sends its generated columns no more: what rules read of earlier rows is missing, not NULL.
    flow.postgres.execute("alter publication forebay_lab set (publish_generated_columns = none)");
    flow.postgres.execute("insert into lab.g values (4, 2)");
    let letters = wait_for_letters(&flow, 1);
    assert!(letters[0]["reason"].as_str().unwrap().contains("no column total"), "{letters:#?}");
}

/// Each refusal says why the column is not sent, and what to do.
#[test]
fn rule_of_unsent_column_says_why() {
    let ddl = "create table g (id int primary key, a int, total int generated always as (a + 1) stored)";
    let mut flow = lab(Version(17), ddl, SUM);
    publish(&flow, "lab.g");
    refuses(&mut flow, &["lab.g has no column total: it is generated, and PostgreSQL before 18 does not"]);
    let mut flow = lab(Version::NEWEST, ddl, SUM);
    refuses(&mut flow, &["the publication that Forebay creates does not send it"]);
    publish(&flow, "lab.g");
    let command = "ALTER PUBLICATION \"forebay_lab\" SET (publish_generated_columns = stored);";
    refuses(&mut flow, &["it is generated, and the publication does not send it", command]);
    flow.postgres.execute("alter publication forebay_lab set table lab.g (id, a)");
    refuses(&mut flow, &["the column list of the publication leaves it out"]);
    flow.postgres
        .execute(&format!("set role forebay; alter publication forebay_lab set table lab.g; {command}"));
    assert!(say(&flow, &["adopt", "--reason", "the publication exists"]).0);
    flow.start();
    assert!(flow.daemon.terminate().success());
    flow.postgres.execute("alter table lab.g drop total, add total int generated always as (a + 1)");
    refuses(&mut flow, &["it is a virtual generated column, which PostgreSQL does not publish"]);
}

/// Before 18 the server lets such a table be published: its deletes would have no key, and its inserts a shared subject.
#[test]
fn generated_key_that_is_not_sent_is_refused() {
    let ddl = "create table k (a int, id int generated always as (a * 2) stored primary key)";
    let mut flow = lab(Version(17), &format!("{ddl}; create table other (id int primary key)"), NO_RULES);
    // Of its own accord Forebay leaves it out, as a table without a key.
    flow.start();
    assert_eq!(
        flow.postgres.query("select tablename from pg_publication_tables where schemaname = 'lab' and tablename in ('k', 'other')"),
        [[Some("other".to_owned())]]
    );
    // Under a running daemon it is an ERROR.
    flow.postgres.execute("alter publication forebay_lab add table lab.k");
    flow.daemon.wait_for_event_with(0, "publication_unfit", "its key has the generated column id");
    assert!(flow.daemon.terminate().success());
    refuses(
        &mut flow,
        &[
            "its key has the generated column id, which PostgreSQL before 18 does not publish",
            "REPLICA IDENTITY USING INDEX",
        ],
    );
    flow.postgres.execute("alter table lab.k replica identity full");
    refuses(&mut flow, &["its key has the generated column id"]);
    // Each way out.
    flow.daemon.settings().more.push(("tables".to_owned(), "exclude = [\"lab.k\"]".to_owned()));
    flow.start();
    assert!(flow.daemon.terminate().success());
    flow.daemon.settings().more.retain(|(section, _)| section != "tables");
    flow.postgres.execute("alter table lab.k alter a set not null, add unique (a)");
    flow.postgres.execute("alter table lab.k replica identity using index k_a_key");
    flow.start();
    flow.postgres.execute("insert into lab.k values (4); delete from lab.k");
    let came = events(&flow, 2);
    assert_eq!((&came[0]["subject"], &came[1]["subject"]), (&json!("4"), &json!("4")));
    assert!(flow.daemon.terminate().success());
    flow.daemon.settings().tables = vec!["lab.k".to_owned()];
    flow.postgres.execute("alter table lab.k replica identity default; drop publication forebay_lab");
    flow.wait_until_slot_is_free();
    flow.postgres.execute("select pg_drop_replication_slot('forebay_lab')");
    flow.daemon.wipe();
    refuses(&mut flow, &["its key has the generated column id"]);
}

/// From 18 on the server refuses the application's own statements; the advice ends that.
#[test]
fn publication_that_breaks_updates_is_refused_with_advice() {
    let mut flow = lab(
        Version::NEWEST,
        "create table k (a int, id int generated always as (a * 2) stored primary key, b int); \
         create table f (id int primary key, a int, b int generated always as (a * 2) stored); \
         alter table f replica identity full; \
         create table v (id int primary key, a int, b int generated always as (a * 2)); alter table v replica identity full; \
         create table c (id int, part int, a int, primary key (id, part)); \
         create table other (id int primary key)",
        NO_RULES,
    );
    // Of its own accord Forebay publishes only what it does not break.
    flow.start();
    for table in ["k", "f", "v", "other", "c"] {
        let column = if table == "k" { "a" } else { "id" };
        flow.postgres.execute(&format!(
            "insert into lab.{table} ({column} {}) values (1 {})",
            if table == "c" { ", part" } else { "" },
            if table == "c" { ", 1" } else { "" }
        ));
        flow.postgres.execute(&format!("delete from lab.{table}"));
    }
    assert!(flow.daemon.terminate().success());
    flow.postgres.execute("alter publication forebay_lab set table lab.f, lab.v, lab.c (id, a)");
    refuses(
        &mut flow,
        &[
            "table \"lab\".\"f\": REPLICA IDENTITY FULL, but generated columns",
            "ALTER PUBLICATION \"forebay_lab\" SET (publish_generated_columns = stored);",
            "table \"lab\".\"v\": REPLICA IDENTITY FULL, but generated columns",
            "ALTER TABLE \"lab\".\"v\" REPLICA IDENTITY DEFAULT;",
            "table \"lab\".\"c\": a column list",
        ],
    );
    flow.postgres.execute(
        "alter table lab.f replica identity default; alter table lab.v replica identity default; \
         alter publication forebay_lab set table lab.k, lab.f, lab.v, lab.c (id, part)",
    );
    refuses(&mut flow, &["its key has the generated column id, which the publication does not send"]);
    flow.postgres.execute(
        "alter publication forebay_lab set (publish_generated_columns = stored); alter table lab.f replica identity full",
    );
    flow.start();
    flow.postgres.execute(
        "insert into lab.k (a) values (2); delete from lab.k; insert into lab.f values (1, 2); delete from lab.f; \
         insert into lab.c values (1, 1, 1); delete from lab.c; insert into lab.v values (1); delete from lab.v",
    );
    let came = events(&flow, 8 + 4);
    assert!(
        came.iter().any(|event| event["type"] == "lab.k.deleted.v1" && event["subject"] == "4"),
        "{came:#?}"
    );
}
