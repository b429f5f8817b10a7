//! Rows and the DDL commands around them: a row leaves as its table was described at its time, or becomes a dead letter. Never
//! under another key, with other field names, or with a null that was a value.

use serde_json::{Value, json};

use crate::outbox::{events, wait_for_letters};
use crate::support::daemon::Settings;
use crate::support::flow::Flow;
use crate::support::postgres::{Postgres, Version};
use crate::support::random::seed;

/// A daemon over these tables of schema `lab`, made by `ddl`, that is not started.
fn prepare(tables: &[&str], ddl: &str, rules: Option<&str>) -> Flow {
    let postgres = Postgres::lab(Version::usual());
    postgres.execute(&format!(
        "grant all on schema lab to lab; set role lab; set search_path = lab; {ddl}; reset role"
    ));
    let flow = Flow::over(postgres, seed(), |settings: &mut Settings| {
        settings.tables = tables.iter().map(|table| format!("lab.{table}")).collect();
        if rules.is_some() {
            settings.more.push(("events".to_owned(), "rules = \"lab.toml\"".to_owned()));
        }
    });
    if let Some(rules) = rules {
        std::fs::write(flow.daemon.home().join("lab.toml"), rules).unwrap();
    }
    flow
}

fn start(tables: &[&str], ddl: &str) -> Flow {
    let mut flow = prepare(tables, ddl, None);
    flow.start();
    flow
}

fn sql(flow: &Flow, text: &str) {
    flow.postgres.execute(&format!("set search_path = lab; {text}"));
}

/// Subjects of a table's events, in the order of their positions.
fn subjects<'a>(events: &'a [Value], table: &str) -> Vec<&'a str> {
    let of = |event: &&'a Value| event["type"].as_str().unwrap().starts_with(&format!("lab.{table}."));
    let mut found: Vec<&Value> = events.iter().filter(of).collect();
    found.sort_by_key(|event| event["sequence"].as_str().unwrap().to_owned());
    found.into_iter().map(|event| event["subject"].as_str().unwrap()).collect()
}

fn data(events: &[Value], id: u64) -> &Value {
    &events.iter().rfind(|event| event["data"]["id"] == id).unwrap()["data"]
}

/// Everything announces the tables again, as ANALYZE does; so the key is known only from memory.
#[test]
fn rows_and_ddl_of_one_transaction_keep_their_key() {
    let full = ["renamed", "gone", "keyless", "turned", "swapped"];
    let table = |table: &&str| {
        let key = if *table == "turned" { "id, v" } else { "id" };
        format!(
            "create table {table} (id bigint, v bigint, primary key ({key})); alter table {table} replica identity full"
        )
    };
    let ddl = full.iter().map(table).collect::<Vec<_>>().join("; ");
    let flow = start(&full, &ddl);
    for table in full {
        sql(&flow, &format!("insert into {table} values (1, 2)"));
    }
    events(&flow, 5);
    sql(&flow, "analyze renamed; analyze gone; analyze keyless; analyze turned; analyze swapped");
    for commands in [
        "update renamed set v = 3; alter table renamed rename id to other; update renamed set v = 4",
        "update gone set v = 3; delete from gone; drop table gone",
        "update keyless set v = 3; alter table keyless drop constraint keyless_pkey",
        "update turned set id = 1; alter table turned drop constraint turned_pkey, add primary key (v, id); update turned set id = 1",
        "alter table swapped add column uid bigint; update swapped set uid = id; alter table swapped drop constraint swapped_pkey; \
         alter table swapped rename id to old_id; alter table swapped rename uid to id; alter table swapped add primary key (id)",
    ] {
        sql(&flow, &format!("begin; {commands}; commit"));
    }
    sql(&flow, "update swapped set v = 9");
    let events = events(&flow, 5 + 2 + 2 + 1 + 2 + 2);
    assert_eq!(subjects(&events, "renamed"), ["1", "1", "1"]);
    assert_eq!(subjects(&events, "gone"), ["1", "1", "1"]);
    assert_eq!(subjects(&events, "keyless"), ["1", "1"]);
    assert_eq!(subjects(&events, "turned"), ["1/2", "1/2", "2/1"]);
    assert_eq!(subjects(&events, "swapped"), ["1", "1", "1"]);
}

/// The key is replaced first, and the rows follow in the same transaction: no other cause announces the table.
#[test]
fn rows_after_a_replaced_key_have_the_new_one() {
    let flow = start(
        &["t"],
        "create table t (a int, b int, primary key (a, b)); alter table t replica identity full",
    );
    sql(&flow, "insert into t values (1, 2)");
    events(&flow, 1);
    sql(
        &flow,
        "begin; alter table t drop constraint t_pkey, add primary key (b, a); update t set a = 1; commit",
    );
    assert_eq!(subjects(&events(&flow, 2), "t"), ["1/2", "2/1"]);
}

#[test]
fn rows_of_a_backlog_keep_their_key_and_their_types() {
    let ddl = "create domain pos as int; create type addr as (street text, city text); \
               create table t (id bigint primary key, n pos, a addr, l addr[]); alter table t replica identity full; \
               create table u (id bigint primary key, v text); alter table u replica identity full";
    let mut flow = start(&["t", "u"], ddl);
    sql(&flow, "insert into t values (1, 1, row('Main', 'Berlin'), array[row('a', 'b')::addr])");
    events(&flow, 1);
    for kill in [false, true] {
        if kill {
            flow.daemon.kill9();
        } else {
            assert!(flow.daemon.terminate().success());
        }
        if kill {
            sql(&flow, "insert into u values (1, 'x'); delete from u; drop table u");
        } else {
            sql(
                &flow,
                "update t set n = 2; alter table t alter n type int; drop domain pos; update t set n = 3",
            );
            sql(&flow, "alter table t rename id to t_id; update t set n = 4");
            sql(&flow, "alter type addr drop attribute street; alter type addr add attribute country text");
            sql(&flow, "insert into t values (2, 5, row('Berlin', 'DE'), null)");
        }
        flow.start();
        events(&flow, if kill { 7 } else { 5 });
    }
    let events = events(&flow, 7);
    assert_eq!(subjects(&events, "t"), ["1", "1", "1", "1", "2"]);
    assert_eq!(subjects(&events, "u"), ["1", "1"]);
    let mut of_t: Vec<&Value> = events.iter().filter(|event| event["type"] == "lab.t.updated.v1").collect();
    of_t.sort_by_key(|event| event["sequence"].as_str().unwrap().to_owned());
    assert_eq!(
        of_t[0]["data"],
        json!({"id": 1, "n": 2, "a": {"street": "Main", "city": "Berlin"}, "l": [{"street": "a", "city": "b"}]})
    );
    let inserted = events.iter().rfind(|event| event["type"] == "lab.t.inserted.v1").unwrap();
    assert_eq!(inserted["data"]["a"], json!({"city": "Berlin", "country": "DE"}));
}

/// The server announces no table when only a type of it changes.
#[test]
fn altered_composite_is_read_as_it_was_written() {
    let flow = start(
        &["t"],
        "create type part as (x int, y int); create type addr as (street text, parts part[]); \
         create table t (id bigint primary key, a addr)",
    );
    let mut rows = 0;
    let mut insert = |value: &str, expected: Value| {
        rows += 1;
        sql(&flow, &format!("insert into t values ({rows}, {value})"));
        assert_eq!(data(&events(&flow, rows), rows as u64)["a"], expected);
    };
    insert("row('s', array[row(1, 2)::part])", json!({"street": "s", "parts": [{"x": 1, "y": 2}]}));
    sql(&flow, "alter type part rename attribute y to z");
    insert("row('s', array[row(1, 2)::part])", json!({"street": "s", "parts": [{"x": 1, "z": 2}]}));
    sql(&flow, "alter type addr add attribute zip text");
    insert("row('s', null, '1')", json!({"street": "s", "parts": null, "zip": "1"}));
    sql(&flow, "alter type part drop attribute x; alter type part add attribute w int");
    insert(
        "row('s', array[row(2, 3)::part], '1')",
        json!({"street": "s", "parts": [{"z": 2, "w": 3}], "zip": "1"}),
    );
    flow.daemon.assert_quiet(&[]);
}

/// A look at the table no longer finds the type of the column: it is looked at for the rows.
#[test]
fn rows_before_a_dropped_column_have_their_field_names() {
    let mut flow =
        start(&["t"], "create type addr as (a int, b int); create table t (id bigint primary key, a addr)");
    sql(&flow, "insert into t values (1, row(1, 2))");
    events(&flow, 1);
    assert!(flow.daemon.terminate().success());
    sql(&flow, "alter type addr rename attribute a to c");
    sql(&flow, "insert into t values (2, row(1, 2))");
    sql(&flow, "alter table t drop column a");
    flow.start();
    assert_eq!(data(&events(&flow, 2), 2)["a"], json!({"c": 1, "b": 2}));
}

/// An attribute more in the middle of a transaction: each row has as many fields as its type had.
#[test]
fn rows_around_an_altered_composite_are_told_apart() {
    let flow = start(&["t"], "create type addr as (a int); create table t (id bigint primary key, a addr)");
    sql(
        &flow,
        "begin; insert into t values (1, row(1)); alter type addr add attribute b int; insert into t values (2, row(1, 2)); commit",
    );
    let events = events(&flow, 2);
    assert_eq!(data(&events, 2)["a"], json!({"a": 1, "b": 2}));
    flow.daemon.assert_quiet(&[]);
}

/// Renamed in the middle of a transaction: nothing shows on which side of it a row was written, so that is not guessed.
#[test]
fn rows_around_a_renamed_attribute_are_not_guessed() {
    let flow =
        start(&["t"], "create type addr as (a int, b int); create table t (id bigint primary key, a addr)");
    sql(&flow, "insert into t values (1, row(1, 2))");
    events(&flow, 1);
    sql(
        &flow,
        "begin; insert into t values (2, row(1, 2)); alter type addr rename attribute a to c; \
         insert into t values (3, row(1, 2)); commit",
    );
    for letter in wait_for_letters(&flow, 2) {
        assert!(letter["reason"].as_str().unwrap().contains("altered in the transaction"), "{letter:#}");
    }
    sql(&flow, "insert into t values (4, row(1, 2))");
    assert_eq!(data(&events(&flow, 2), 4)["a"], json!({"c": 1, "b": 2}));
    assert!(flow.daemon.run(&["dlq", "retry", "--all"]).status.success());
    assert_eq!(data(&events(&flow, 4), 2)["a"], json!({"c": 1, "b": 2}), "as it is today");
    // Between a rename and a removal: the form before both has as many fields.
    sql(
        &flow,
        "begin; alter type addr rename attribute c to d; insert into t values (5, row(1, 2)); \
         alter type addr drop attribute b; insert into t values (6, row(1)); commit",
    );
    for letter in wait_for_letters(&flow, 4) {
        assert!(letter["reason"].as_str().unwrap().contains("altered in the transaction"), "{letter:#}");
    }
}

#[test]
fn unknown_past_is_a_dead_letter_until_retried() {
    let ddl = "create table t (id bigint primary key, v text); alter table t replica identity full; \
               create table u (id bigint primary key, v text); alter table u replica identity full";
    let mut flow = start(&["t", "u"], ddl);
    sql(&flow, "insert into t values (1, 'x'); insert into u values (1, 'x')");
    events(&flow, 2);
    assert!(flow.daemon.terminate().success());
    sql(
        &flow,
        "update t set v = 'y'; alter table t drop constraint t_pkey; alter table t add primary key (v)",
    );
    sql(&flow, "update u set v = 'y'; alter table u rename id to other");
    std::fs::remove_file(flow.daemon.buffer_directory().join("tables")).unwrap();
    flow.start();
    let letters = wait_for_letters(&flow, 2);
    for letter in &letters {
        assert!(letter["reason"].as_str().unwrap().contains("primary key at the time"), "{letters:#?}");
    }
    sql(&flow, "update t set v = 'z'; insert into u values (2, 'z')");
    assert_eq!(subjects(&events(&flow, 5), "t")[1..], ["y", "z"], "an update of the key is two events");
    assert!(flow.daemon.run(&["dlq", "retry", "--all"]).status.success());
    let events = events(&flow, 7);
    // Today's description has the column that the letter of `t` has, but not the one of `u`.
    assert_eq!(subjects(&events, "u"), ["1", "2"]);
    assert!(subjects(&events, "t").contains(&"x"));
    flow.daemon.wait_for_event("dead_letter_still_fails");
}

#[test]
fn renamed_enum_label_does_not_silence_a_rule() {
    let mut flow = prepare(
        &["t"],
        "create type state as enum ('open', 'done'); create table t (id bigint primary key, s state)",
        Some(
            "[[event]]\ntype = \"lab.done.v1\"\nfrom = \"lab.t\"\non = \"insert\"\nwhen = \"s = 'done'\"\ndata = \"id\"\n",
        ),
    );
    flow.start();
    sql(&flow, "insert into t values (1, 'done')");
    events(&flow, 1);
    sql(&flow, "alter type state rename value 'done' to 'finished'");
    sql(&flow, "insert into t values (2, 'finished')");
    let letters = wait_for_letters(&flow, 1);
    assert!(
        letters[0]["reason"].as_str().unwrap().contains("valid labels are open, finished"),
        "{letters:#?}"
    );
}

/// A column that a list left out, and one that was generated, existed when the row was written: they are not NULL.
#[test]
fn column_that_was_not_sent_is_not_null() {
    let mut flow = prepare(
        &["t"],
        "create table t (id bigint primary key, a text, c text not null, g int generated always as (7) stored)",
        Some("[[event]]\ntype = \"lab.seen.v1\"\nfrom = \"lab.t\"\non = \"insert\"\ndata = \"id, a\"\n"),
    );
    flow.postgres.execute("set role forebay; create publication forebay_lab for table lab.t (id, a)");
    flow.start();
    sql(&flow, "insert into t (id, a, c) values (1, 'a', 'c')");
    events(&flow, 1);
    assert!(flow.daemon.terminate().success());
    sql(&flow, "insert into t (id, a, c) values (2, 'a', 'c')");
    flow.postgres.execute("alter publication forebay_lab set table lab.t");
    sql(&flow, "alter table t alter column g drop expression");
    sql(&flow, "insert into t (id, a, c, g) values (3, 'a', 'c', 6)");
    crate::outbox::edit(&flow, "lab.toml", "\"id, a\"", "\"id, a, c, g\"");
    flow.start();
    let events = events(&flow, 2);
    assert_eq!(events.last().unwrap()["data"], json!({"id": 3, "a": "a", "c": "c", "g": 6}));
    let letters = wait_for_letters(&flow, 1);
    assert!(letters[0]["reason"].as_str().unwrap().contains("no column c"), "{letters:#?}");
}
