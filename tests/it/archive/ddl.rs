//! The generated SQL: values that are hard to read, and the grammars of engines that are not here.

use super::{RULES, Rows, ddl_for, lock, prepare, query};
use crate::support::daemon::{Daemon, Settings};
use crate::support::flow::Flow;
use crate::support::postgres::{Postgres, Version};
use crate::support::python::{Environment, printed, write};
use crate::support::random::seed;
use crate::support::{SOON, eventually};

/// Columns whose names and values engines might misread. Numbers with more digits than a double has; values that no decimal and
/// no date of an engine can hold; names that are the envelope's, SQL's, or nobody's.
const ODD: &str = r#"
    create table lab.odd (
      id bigint primary key, "type" text, "time" text, line text, "select" text, event_id text, "Größe" text, "we""ird\" text,
      "a b" int, amount numeric, exact numeric(38,20), price numeric(10,2), ratio double precision, day date, at timestamp,
      moment timestamptz, clock time, raw bytea, flag boolean, doc json, list int[]);
    alter table lab.odd owner to lab;
    create publication forebay_lab for table lab.odd, lab.transfers with (publish_via_partition_root = true);
"#;

const ROWS: &str = r#"
    insert into lab.odd values
      (1, 'a: 5, "b": 6', 'noon', 'of "data":{"amount":7}', 'from', 'mine', '5', E'quote " and \\', 3,
       12345678901234567890.123456789, 123456789012345678.12345678901234567890, 150.00, 0.1, '2026-11-30',
       '2026-11-30 08:00:00.123456', '2026-11-30 08:00:00.123456+01', '08:00:00.5', '\xdeadbeef', true,
       '{"amount": 1, "n": 1.50}', '{1,2}'),
      (2, null, null, null, null, null, null, null, null, 'NaN', null, null, 'Infinity', '0044-03-15 BC', 'infinity',
       '-infinity', null, null, null, 'null', null),
      (9007199254740993, '', '', '', '', '', '', '', -1, -0.000000001, -1, -0.01, -1.5e300, '0001-01-01', '1970-01-01',
       '1970-01-01 00:00:00Z', '24:00:00', '', false, '[]', '{}');
    update lab.odd set line = 'changed' where id = 1;
    delete from lab.odd where id = 9007199254740993;
"#;

/// A daemon between a database with the odd table and a stub, whose lines are an archive of one day.
fn odd() -> Flow {
    let flow = Flow::prepare(seed(), |settings: &mut Settings| {
        settings.tables = Vec::new();
        prepare(settings);
    });
    flow.postgres.execute(ODD);
    lock(&flow.daemon, RULES);
    flow
}

#[test]
fn odd_values_are_read_exactly_or_named_unreadable() {
    if !Environment::Analysis.is_here() {
        return;
    }
    let mut flow = odd();
    flow.start();
    flow.postgres.execute(ROWS);
    eventually("all events", SOON, || (flow.stub.records().len() == 5).then_some(()));
    assert!(flow.daemon.terminate().success());
    let place = flow.daemon.home().join("archive");
    let lines: Vec<u8> = flow.stub.records().iter().flat_map(|record| record.data.to_vec()).collect();
    // Everything twice, on two days.
    write(&place.join("events/day=2026-11-29/a"), &lines);
    write(&place.join("events/day=2026-11-30/b"), &lines);
    let script = place.join("archive.sql");
    std::fs::write(&script, ddl_for(&flow.daemon, "duckdb", place.to_str().unwrap())).unwrap();

    let inserted = "from lab_odd_inserted_v1 order by id";
    let names = format!(
        "select \"type\", \"time\", line, \"select\", data_event_id, \"größe\", \"we\"\"ird\\\", \"a b\" {inserted}"
    );
    let numbers =
        format!("select amount::varchar, exact::varchar, price::varchar, ratio::varchar {inserted}");
    let times = format!(
        "select data_day::varchar, \"at\"::varchar, moment::varchar, clock::varchar, raw, flag, doc, list {inserted}"
    );
    let unreadable = format!("select id, event_unreadable {inserted}");
    let rows = "select id, line, amount::varchar from lab_odd order by id";
    let counts = "select type, count(*), min(day), count(event_id) filter (where false) from \
                  (select type, day, id as event_id from forebay_events) group by all order by all";
    let answers = query(&script, &[&names, &numbers, &times, &unreadable, rows, counts]);
    let [names, numbers, times, unreadable, rows, counts] = <[Rows; 6]>::try_from(answers).unwrap();
    let text = |row: &[Option<String>]| {
        row.iter().map(|value| value.as_deref().unwrap_or("NULL")).collect::<Vec<_>>().join("|")
    };
    let texts = |rows: &Rows| rows.iter().map(|row| text(row)).collect::<Vec<_>>();
    assert_eq!(
        texts(&names),
        [
            "a: 5, \"b\": 6|noon|of \"data\":{\"amount\":7}|from|mine|5|quote \" and \\|3",
            "NULL|NULL|NULL|NULL|NULL|NULL|NULL|NULL",
            "|||||||-1",
        ]
    );
    assert_eq!(
        texts(&numbers),
        [
            "12345678901234567890.123456789|123456789012345678.12345678901234567890|150.00|0.1",
            "NULL|NULL|NULL|inf",
            "-0.000000001|-1.00000000000000000000|-0.01|-1.5e+300",
        ]
    );
    assert_eq!(
        texts(&times)[0],
        "2026-11-30|2026-11-30 08:00:00.123456|2026-11-30 07:00:00.123456+00|08:00:00.5|b'\\xde\\xad\\xbe\\xef'|True|\
         {\"amount\":1,\"n\":1.5}|[1,2]"
    );
    assert_eq!(unreadable[0][1], None);
    assert_eq!(unreadable[1][1].as_deref(), Some("amount,day"));
    assert_eq!(texts(&rows), ["1|changed|12345678901234567890.123456789", "2|NULL|NULL"]);
    let counts: Vec<_> = counts.iter().map(|row| text(&row[..3])).collect();
    assert_eq!(
        counts,
        [
            "lab.odd.deleted.v1|1|2026-11-29",
            "lab.odd.inserted.v1|3|2026-11-29",
            "lab.odd.updated.v1|1|2026-11-29"
        ]
    );
}

#[test]
fn other_engines_parse_their_scripts() {
    if !Environment::Analysis.is_here() {
        return;
    }
    let postgres = Postgres::lab(Version::usual());
    postgres.execute(ODD);
    let mut settings = Settings::new(postgres.url("forebay"), "http://127.0.0.1:9".to_owned());
    prepare(&mut settings);
    let daemon = Daemon::prepare(settings);
    lock(&daemon, RULES);
    for engine in ["athena", "snowflake", "duckdb"] {
        let script = ddl_for(&daemon, engine, "s3://lab-archive");
        let count = script.matches("\nCREATE ").count();
        let mut judge = Environment::Analysis.script("tests/it/archive/judge.py");
        let judged = printed(judge.arg(engine), &script);
        assert_eq!(judged.trim(), count.to_string(), "{engine}");
    }
    let template = daemon.home().join("glue.json");
    std::fs::write(&template, ddl_for(&daemon, "glue", "s3://lab-archive")).unwrap();
    printed(Environment::Analysis.program("cfn-lint").arg(&template), "");
}
