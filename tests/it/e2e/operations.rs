//! Every operation on every version of Postgres, as events: what comes, under which key, with which data, in which order.

use serde_json::{Value, json};

use crate::e2e::shape::assert_shape;
use crate::support::checker;
use crate::support::fixture::{Fixture, events};
use crate::support::postgres::Version;
use crate::support::random::seed;
use crate::support::workload::Workload;
use crate::support::{SOON, poll};

const SCHEMA: &str = "
    create schema t authorization lab;
    create table t.def (id int primary key, big text, n int);
    create table t.whole (id int primary key, big text, n int);
    alter table t.whole replica identity full;
    create table t.idx (id int primary key, code text not null unique, n int);
    alter table t.idx replica identity using index idx_code_key;
    create table t.keyless (a text, b int);
    alter table t.keyless replica identity full;
    create table t.part (id int, region text, n int, primary key (id, region)) partition by list (region);
    create table t.part_eu partition of t.part for values in ('eu');
    create table t.part_rest partition of t.part default;
    create table t.other (id int primary key);
    alter table t.def alter column big set storage external;
    alter table t.whole alter column big set storage external;
    do $$ declare name text; begin
      foreach name in array array['def', 'whole', 'idx', 'keyless', 'part', 'part_eu', 'part_rest', 'other'] loop
        execute format('alter table t.%I owner to lab', name);
      end loop;
    end $$";

/// An expected event: table and what happened, subject (`None`: the event's own id), data, what is unavailable.
type Expected = (&'static str, Option<&'static str>, Value, Option<&'static str>);

#[test]
fn postgres_14_operations_are_published() {
    operations(Version(14));
}

#[test]
fn postgres_15_operations_are_published() {
    operations(Version(15));
}

#[test]
fn postgres_16_operations_are_published() {
    operations(Version(16));
}

#[test]
fn postgres_17_operations_are_published() {
    operations(Version(17));
}

#[test]
fn postgres_18_operations_are_published() {
    operations(Version(18));
}

fn operations(version: Version) {
    if !version.is_here() {
        return;
    }
    let seed = seed();
    let mut fixture = Fixture::prepare(version);
    fixture.postgres.execute(SCHEMA);
    let tables =
        ["t.def", "t.whole", "t.idx", "t.keyless", "t.part", "lab.plates", "lab.samples", "lab.transfers"];
    fixture.daemon.settings().tables = tables.map(str::to_owned).to_vec();
    fixture.go_on();
    let steps = [rows(), identities(), partitions_and_truncate(), ddl(), transactions()];
    let mut expected = Vec::new();
    let mut session = fixture.postgres.session("postgres");
    for (sql, events) in steps.into_iter().flatten() {
        session.execute(sql);
        expected.extend(events);
    }
    let mut seen = Vec::new();
    let complete = poll(SOON, || {
        seen = ours(&events(&fixture.records()));
        (seen.len() >= expected.len()).then_some(())
    });
    for (event, expected) in seen.iter().zip(&expected) {
        assert_event(event, expected);
    }
    assert!(
        complete.is_some() && seen.len() == expected.len(),
        "{} of {} events",
        seen.len(),
        expected.len()
    );
    Workload::new(&fixture.postgres, seed).commit(20);
    // The checker knows only the lab's own tables.
    fixture.wait_until_published();
    let mut records = fixture.records();
    records.retain(|record| !String::from_utf8_lossy(&record.data).contains("\"type\":\"t."));
    checker::check(&fixture.postgres.history(), &records).assert_clean();
    assert_shape(&fixture.records());
    fixture.daemon.assert_quiet(&[]);
}

/// The events of schema t, in the order of their sequence.
fn ours(events: &[Value]) -> Vec<Value> {
    let mut ours: Vec<Value> =
        events.iter().filter(|event| event["type"].as_str().unwrap().starts_with("t.")).cloned().collect();
    ours.sort_by_key(|event| event["sequence"].as_str().unwrap().to_owned());
    ours
}

#[track_caller]
fn assert_event(event: &Value, expected: &Expected) {
    let (name, subject, data, unavailable) = expected;
    assert_eq!(event["type"], format!("t.{name}.v1"), "expected {expected:?}, got {event}");
    let subject = subject.unwrap_or_else(|| event["id"].as_str().unwrap());
    assert_eq!(event["subject"], subject, "expected {expected:?}, got {event}");
    assert_eq!(event["partitionkey"], subject, "expected {expected:?}, got {event}");
    assert_eq!(event["data"], *data, "expected {expected:?}, got {event}");
    assert_eq!(event.get("unavailable").and_then(Value::as_str), *unavailable, "got {event}");
}

fn event(name: &'static str, subject: &'static str, data: Value) -> Expected {
    (name, Some(subject), data, None)
}

fn without_big(name: &'static str, subject: &'static str, data: Value) -> Expected {
    (name, Some(subject), data, Some("big"))
}

type Steps = Vec<(&'static str, Vec<Expected>)>;

fn rows() -> Steps {
    let big = "b".repeat(5000);
    let old = json!({"id": 1, "big": big, "n": 2});
    vec![
        (
            "insert into t.def values (1, repeat('b', 5000), 1)",
            vec![event("def.inserted", "1", json!({"id": 1, "big": big, "n": 1}))],
        ),
        ("update t.def set n = 2", vec![without_big("def.updated", "1", json!({"id": 1, "n": 2}))]),
        (
            "update t.def set id = 10",
            vec![
                event("def.deleted", "1", json!({"id": 1})),
                without_big("def.inserted", "10", json!({"id": 10, "n": 2})),
            ],
        ),
        (
            "update t.def set big = null, n = null",
            vec![event("def.updated", "10", json!({"id": 10, "big": null, "n": null}))],
        ),
        ("delete from t.def", vec![event("def.deleted", "10", json!({"id": 10}))]),
        (
            "insert into t.whole values (1, repeat('b', 5000), 1)",
            vec![event("whole.inserted", "1", json!({"id": 1, "big": big, "n": 1}))],
        ),
        ("update t.whole set n = 2", vec![event("whole.updated", "1", old.clone())]),
        (
            "update t.whole set id = 2",
            vec![
                event("whole.deleted", "1", old),
                event("whole.inserted", "2", json!({"id": 2, "big": big, "n": 2})),
            ],
        ),
        ("delete from t.whole", vec![event("whole.deleted", "2", json!({"id": 2, "big": big, "n": 2}))]),
    ]
}

fn identities() -> Steps {
    vec![
        (
            "insert into t.idx values (1, 'A', 1)",
            vec![event("idx.inserted", "A", json!({"id": 1, "code": "A", "n": 1}))],
        ),
        ("update t.idx set id = 2", vec![event("idx.updated", "A", json!({"id": 2, "code": "A", "n": 1}))]),
        (
            "update t.idx set code = 'B'",
            vec![
                event("idx.deleted", "A", json!({"code": "A"})),
                event("idx.inserted", "B", json!({"id": 2, "code": "B", "n": 1})),
            ],
        ),
        ("delete from t.idx", vec![event("idx.deleted", "B", json!({"code": "B"}))]),
        (
            "insert into t.keyless values ('x', 1), ('x', 1)",
            vec![
                ("keyless.inserted", None, json!({"a": "x", "b": 1}), None),
                ("keyless.inserted", None, json!({"a": "x", "b": 1}), None),
            ],
        ),
        (
            "update t.keyless set b = 2",
            vec![
                ("keyless.updated", None, json!({"a": "x", "b": 2}), None),
                ("keyless.updated", None, json!({"a": "x", "b": 2}), None),
            ],
        ),
        (
            "delete from t.keyless",
            vec![
                ("keyless.deleted", None, json!({"a": "x", "b": 2}), None),
                ("keyless.deleted", None, json!({"a": "x", "b": 2}), None),
            ],
        ),
    ]
}

fn partitions_and_truncate() -> Steps {
    let truncated = |cascade: bool, restart: bool| json!({"cascade": cascade, "restart_identity": restart});
    vec![
        (
            "insert into t.part values (1, 'eu', 1)",
            vec![event("part.inserted", "1/eu", json!({"id": 1, "region": "eu", "n": 1}))],
        ),
        (
            "update t.part set n = 2",
            vec![event("part.updated", "1/eu", json!({"id": 1, "region": "eu", "n": 2}))],
        ),
        (
            "update t.part set region = 'x/y~z'",
            vec![
                event("part.deleted", "1/eu", json!({"id": 1, "region": "eu"})),
                event("part.inserted", "1/x~1y~0z", json!({"id": 1, "region": "x/y~z", "n": 2})),
            ],
        ),
        ("delete from t.part", vec![event("part.deleted", "1/x~1y~0z", json!({"id": 1, "region": "x/y~z"}))]),
        ("truncate t.def", vec![event("def.truncated", "t.def", truncated(false, false))]),
        (
            "truncate t.whole, t.idx restart identity cascade",
            vec![
                event("whole.truncated", "t.whole", truncated(true, true)),
                event("idx.truncated", "t.idx", truncated(true, true)),
            ],
        ),
        ("truncate t.part", vec![event("part.truncated", "t.part", truncated(false, false))]),
    ]
}

fn ddl() -> Steps {
    vec![
        (
            "begin; insert into t.def values (20, 's', 1); \
             alter table t.def add column extra text default 'd'; update t.def set n = 5; \
             alter table t.def drop column n; insert into t.def (id, big, extra) values (21, 's', 'e'); commit",
            vec![
                event("def.inserted", "20", json!({"id": 20, "big": "s", "n": 1})),
                event("def.updated", "20", json!({"id": 20, "big": "s", "n": 5, "extra": "d"})),
                event("def.inserted", "21", json!({"id": 21, "big": "s", "extra": "e"})),
            ],
        ),
        (
            "alter table t.def rename column extra to more; alter table t.def alter column id type bigint; \
             alter table t.def add column at timestamptz[] not null default '{2026-01-02 03:04:05+02}'; \
             insert into t.def values (9007199254740993, 's', 'e')",
            vec![event(
                "def.inserted",
                "9007199254740993",
                json!({"id": 9_007_199_254_740_993_i64, "big": "s", "more": "e", "at": ["2026-01-02T01:04:05Z"]}),
            )],
        ),
        (
            "create type t.mood as enum ('so', 'la'); alter table t.idx add column mood t.mood; \
             insert into t.idx values (1, 'A', null, 'so'); alter type t.mood rename value 'la' to 'ti'; \
             update t.idx set mood = 'ti'; delete from t.idx",
            vec![
                event("idx.inserted", "A", json!({"id": 1, "code": "A", "n": null, "mood": "so"})),
                event("idx.updated", "A", json!({"id": 1, "code": "A", "n": null, "mood": "ti"})),
                event("idx.deleted", "A", json!({"code": "A"})),
            ],
        ),
        (
            "alter table t.whole replica identity default; insert into t.whole values (1, 's', 1); \
             delete from t.whole; alter table t.whole replica identity full",
            vec![
                event("whole.inserted", "1", json!({"id": 1, "big": "s", "n": 1})),
                event("whole.deleted", "1", json!({"id": 1})),
            ],
        ),
        // Not in the publication.
        (
            "create table t.later (id int primary key); insert into t.later values (1); insert into t.other values (1)",
            vec![],
        ),
    ]
}

fn transactions() -> Steps {
    vec![
        (
            "begin; insert into t.whole values (30, 's', 1); savepoint s; insert into t.whole values (31, 's', 1); \
             rollback to s; insert into t.whole values (32, 's', 1); update t.whole set n = 2 where id = 30; commit",
            vec![
                event("whole.inserted", "30", json!({"id": 30, "big": "s", "n": 1})),
                event("whole.inserted", "32", json!({"id": 32, "big": "s", "n": 1})),
                event("whole.updated", "30", json!({"id": 30, "big": "s", "n": 2})),
            ],
        ),
        ("begin; insert into t.whole values (33, 's', 1); rollback", vec![]),
        (
            "begin; select pg_logical_emit_message(true, 'p', 'in'), pg_logical_emit_message(false, 'p', 'out'); \
             insert into t.whole values (34, 's', 1); commit; \
             select pg_logical_emit_message(false, 'p', 'alone'); select pg_logical_emit_message(true, 'p', 'alone')",
            vec![event("whole.inserted", "34", json!({"id": 34, "big": "s", "n": 1}))],
        ),
        (
            "update t.whole set n = null where id = 34; delete from t.whole where id = 34",
            vec![
                event("whole.updated", "34", json!({"id": 34, "big": "s", "n": null})),
                event("whole.deleted", "34", json!({"id": 34, "big": "s", "n": null})),
            ],
        ),
    ]
}
