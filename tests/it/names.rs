//! Tables by whatever name they have: two tables never share an event type, every table can be configured, and those that are
//! dropped are forgotten.

use std::time::Duration;

use forebay::change::Delivery;
use forebay::source::Source as _;
use forebay::source::postgres::conninfo::Settings as Connection;
use forebay::source::postgres::{PostgresSource, Stream};
use serde_json::{Value, json};

use crate::contracts::say;
use crate::outbox::events;
use crate::support::daemon::Settings;
use crate::support::flow::Flow;
use crate::support::postgres::{Postgres, Version};
use crate::support::random::seed;

const RULES: &str = r#"
[[event]]
type = "lab.big.v1"
from = 'lab."Big.Table"'
on = "insert"
data = '"Id.No", "Full Name" as name'
"#;

/// `"a.b".c` and `a."b.c"` are two tables; each selector finds its own.
#[test]
fn tables_with_dots_in_their_names_are_told_apart() {
    let postgres = Postgres::lab(Version::usual());
    postgres.execute(
        "drop schema audit cascade; create schema \"a.b\" authorization lab; create schema a authorization lab; \
         grant all on schema lab to lab; set role lab; \
         create table \"a.b\".c (id int primary key, secret text, mail text); \
         create table a.\"b.c\" (id int primary key, secret text, email text); \
         create table a.plain (id int primary key); \
         create table lab.\"Big.Table\" (\"Id.No\" int primary key, \"Full Name\" text); \
         create table lab.\"Two Words\" (id int primary key, \"say \"\"hi\"\"\" text)",
    );
    let mut flow = Flow::over(postgres, seed(), |settings: &mut Settings| {
        settings.tables.clear();
        for (section, line) in [
            ("events", "rules = \"lab.toml\""),
            ("tables", r#"include = ['"a.b".c', 'a."b.c"', "a.plain", 'lab."Big.Table"', "lab.Two Words"]"#),
            ("tables", r#"drop = ['"a.b".c.secret', 'lab.Two Words."say ""hi"""']"#),
            ("pii", r#"columns = ['a."b.c".email']"#),
            ("pii", "hmac_key = \"0123456789abcdef\""),
        ] {
            settings.more.push((section.to_owned(), line.to_owned()));
        }
    });
    std::fs::write(flow.daemon.home().join("lab.toml"), RULES).unwrap();
    let insert = |flow: &Flow, id: u32| {
        flow.postgres.execute(&format!(
            "insert into \"a.b\".c values ({id}, 's', 'e'); insert into a.\"b.c\" values ({id}, 's', 'e'); \
             insert into a.plain values ({id}); insert into lab.\"Big.Table\" values ({id}, 'Ann'); \
             insert into lab.\"Two Words\" values ({id}, 'hi')"
        ));
    };
    flow.start();
    insert(&flow, 1);
    let expected = |id: u32| {
        [
            ("\"a.b\".c.inserted.v1", json!({"id": id, "mail": "e"})),
            ("a.\"b.c\".inserted.v1", json!({"id": id, "secret": "s"})),
            ("a.plain.inserted.v1", json!({"id": id})),
            ("lab.Two Words.inserted.v1", json!({"id": id})),
            ("lab.big.v1", json!({"Id.No": id, "name": "Ann"})),
        ]
        .map(|(event_type, data)| (event_type.to_owned(), data))
    };
    assert_eq!(found(&events(&flow, 5), 1), expected(1));
    assert!(flow.daemon.terminate().success());
    // Each has a contract of its own, and both are kept.
    let (locked, said) = say(&flow, &["events", "lock", "--automatic"]);
    assert!(locked, "{said}");
    flow.start();
    insert(&flow, 2);
    assert_eq!(found(&events(&flow, 10), 2), expected(2));
    flow.postgres.execute("truncate \"a.b\".c; truncate a.\"b.c\"");
    let came = events(&flow, 12);
    let mut truncated: Vec<_> = came.iter().filter(|event| event["data"]["cascade"] == false).collect();
    truncated.sort_by_key(|event| event["type"].as_str());
    let subjects: Vec<_> = truncated.iter().map(|event| &event["subject"]).collect();
    assert_eq!(subjects, ["\"a.b\".c", "a.\"b.c\""]);
}

/// Types and data of the events of these ids, sorted by type.
fn found(events: &[Value], id: u32) -> Vec<(String, Value)> {
    let is_of = |event: &&Value| event["data"]["id"] == id || event["data"]["Id.No"] == id;
    let mut found: Vec<_> = events
        .iter()
        .filter(is_of)
        .map(|event| (event["type"].as_str().unwrap().to_owned(), event["data"].clone()))
        .collect();
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found
}

/// A connection describes the tables that there are, not all that there have been; rows of those that remain keep coming.
#[test]
fn tables_that_were_dropped_are_forgotten() {
    const LIMIT: usize = 10;
    let postgres = Postgres::builder(Version::usual()).without_fsync().start();
    postgres.execute("create table kept (id int primary key); create publication p for all tables");
    postgres.execute("select pg_create_logical_replication_slot('s', 'pgoutput')");
    let settings = Connection::from_url(&postgres.url("postgres")).unwrap();
    let stream = Stream { relations_max: LIMIT, ..Stream::new("s", "p") };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut source = runtime.block_on(PostgresSource::start(&settings, &stream)).unwrap();
    let (mut next, mut most) = (0, 0);
    for round in 0..200 {
        postgres.execute(&format!(
            "insert into kept values ({round}); create table t{round} (id int primary key); insert into t{round} values (1); \
             drop table t{round}"
        ));
        while next <= round {
            runtime.block_on(source.receive()).unwrap();
            while let Some(delivery) = source.take().unwrap() {
                if let Delivery::Change(change) = delivery {
                    next += i32::from(change.relation.table == "kept");
                }
            }
        }
        most = most.max(source.described_tables());
        if round > 20 && source.described_tables() <= LIMIT {
            return;
        }
        // The catalogue is asked once a second at most, while nothing arrives.
        let pause = Duration::from_millis(100);
        let idle = runtime.block_on(async { tokio::time::timeout(pause, source.receive()).await });
        assert!(idle.is_err() || idle.is_ok_and(|received| received.is_ok()));
    }
    panic!("{most} tables are described, and none was forgotten");
}
