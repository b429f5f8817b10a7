//! What a poll finds, and what a naive one loses.

use crate::polling::{database, events_of, prepare, wait_for};
use crate::support::postgres::Version;
use crate::support::{SOON, eventually};

/// A value is drawn before its transaction has an id, and a lower value is committed later than a higher one: `id > last` loses
/// the row. So does `id > last` with a condition on the horizon. The daemon publishes it.
#[test]
fn row_committed_late_is_published() {
    let mut fixture = prepare(database(Version::usual()), None, &["p.facts"]);
    let mut drawn = fixture.postgres.session("postgres");
    fixture.go_on();
    // The naive poller begins with the daemon.
    let naive = |last: i64| -> Vec<i64> {
        let rows = fixture.postgres.query(&format!("select id from p.facts where id > {last} order by id"));
        rows.iter().map(|row| row[0].as_ref().unwrap().parse().unwrap()).collect()
    };
    // The first value costs a record of the sequence, and its transaction an id; the next 32 do not.
    fixture.postgres.execute("insert into p.facts (writer) values (0)");
    drawn.execute("begin");
    assert_eq!(drawn.query("select nextval('p.facts_id_seq')")[0][0].as_deref(), Some("2"));
    fixture.postgres.execute("insert into p.facts (writer) values (3)");
    wait_for(&fixture, "p.facts.inserted.v1", "3");
    let mut seen = naive(0);
    drawn.execute("insert into p.facts (id, writer) values (2, 2); commit");
    wait_for(&fixture, "p.facts.inserted.v1", "2");
    seen.extend(naive(*seen.last().unwrap()));
    assert_eq!(seen, [1, 3], "the control, which must lose the late row");
}

/// Each kind of cursor finds its rows, with the ids that the documentation gives; a stop and a start repeat nothing.
#[test]
fn each_cursor_publishes_each_version_once() {
    let mut fixture = prepare(database(Version::usual()), None, &["p.facts", "p.things", "p.messages"]);
    fixture.postgres.execute("insert into p.facts (writer) values (0); insert into p.things values (1, 1)");
    fixture.go_on();
    for round in 1..=3 {
        let id = round + 1;
        fixture.postgres.execute(&format!(
            "insert into p.facts (writer, note) values ({round}, 'a \"quoted\" line'), ({round}, null);
             insert into p.things values ({id}, 0);
             insert into p.messages (body) values ('m{round}')"
        ));
        fixture.postgres.execute("update p.things set value = value + 1, changed = now()");
        wait_for(&fixture, "p.messages.inserted.v1", &round.to_string());
        let updated = format!("select max(value) from p.things where id = {id}");
        assert_eq!(fixture.postgres.value(&updated), "1");
        eventually("the last version is published", SOON, || {
            let things = events_of(&fixture, "p.things.updated.v1");
            (things.get("1")?.last()?["data"]["value"] == round + 1).then_some(())
        });
        assert!(fixture.daemon.terminate().success());
        fixture.daemon.assert_quiet(&[]);
        fixture.go_on();
    }
    let facts = events_of(&fixture, "p.facts.inserted.v1");
    let subjects: Vec<_> = facts.keys().map(String::as_str).collect();
    assert_eq!(subjects, ["2", "3", "4", "5", "6", "7"], "without the row of before the start");
    assert!(facts.values().all(|versions| versions.len() == 1), "{facts:#?}");
    let mut xmins =
        fixture.postgres.query("select id, xmin from p.facts where id > 1 order by id").into_iter();
    let namespace = uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_URL, b"urn:forebay:lab");
    for (subject, versions) in &facts {
        let xmin = xmins.next().unwrap().remove(1).unwrap();
        let name = format!("p.facts.inserted.v1|cur|p.facts|{{\"id\":{subject}}}|{xmin}");
        let id = uuid::Uuid::new_v5(&namespace, name.as_bytes()).to_string();
        assert_eq!(versions[0]["id"], id, "{name}");
    }
    // Every event is there once, repeats included, and each key in order.
    let events = fixture.events();
    let ids: std::collections::HashSet<_> = events.iter().map(|event| event["id"].to_string()).collect();
    assert_eq!(ids.len(), events.len());
    for versions in events_of(&fixture, "p.things.updated.v1").values() {
        let sequences: Vec<_> = versions.iter().map(|event| event["sequence"].as_str().unwrap()).collect();
        assert!(sequences.is_sorted(), "{sequences:?}");
    }
}

/// The beginning is read in pages, and a kill in the middle loses nothing and gives no position twice.
#[test]
fn beginning_is_resumed_after_kills() {
    const ROWS: usize = 12_000;
    let postgres = database(Version::usual());
    postgres.execute(&format!(
        "insert into p.facts (writer, note) select 1, repeat('x', 200) from generate_series(1, {ROWS})"
    ));
    let mut fixture = prepare(postgres, None, &["p.facts"]);
    fixture.daemon.settings().more.push(("source".to_owned(), "start = \"beginning\"".to_owned()));
    fixture.go_on();
    for part in 1..3 {
        eventually("a part is published", SOON, || {
            (fixture.records().len() >= part * ROWS / 6).then_some(())
        });
        fixture.daemon.kill9();
        // A row of the window is updated: the window is read without it, and it comes later.
        fixture.postgres.execute(&format!("update p.facts set note = 'late' where id = {}", ROWS - part));
        fixture.go_on();
    }
    eventually("all rows are published", SOON * 3, || {
        let events = events_of(&fixture, "p.facts.inserted.v1");
        let late =
            |id: usize| events.get(&id.to_string())?.last()?["data"]["note"].as_str().map(str::to_owned);
        (events.len() == ROWS && late(ROWS - 1)? == "late" && late(ROWS - 2)? == "late").then_some(())
    });
    let mut by_sequence = std::collections::HashMap::new();
    for event in fixture.events() {
        let (sequence, id) = (event["sequence"].to_string(), event["id"].to_string());
        let other = by_sequence.insert(sequence.clone(), id.clone()).unwrap_or_else(|| id.clone());
        assert_eq!(other, id, "the position {sequence} was given to two events");
    }
}

/// A long transaction holds the horizon: its age is a metric, and the rows that waited come when it ends.
#[test]
fn long_transaction_holds_the_horizon_and_is_measured() {
    let mut fixture = prepare(database(Version::usual()), None, &["p.facts", "p.messages"]);
    fixture.go_on();
    let mut long = fixture.postgres.session("postgres");
    long.execute("begin; insert into p.facts (writer) values (1)");
    fixture.postgres.execute("insert into p.messages (body) values ('waits')");
    eventually("the age of the horizon is measured", SOON, || {
        (fixture.daemon.metric("forebay_source_horizon_age_seconds")? > 1.0).then_some(())
    });
    assert!(events_of(&fixture, "p.messages.inserted.v1").is_empty(), "it may still be overtaken");
    long.execute("savepoint s; insert into p.facts (writer) values (2); rollback to s; insert into p.facts (writer) values (3); commit");
    wait_for(&fixture, "p.messages.inserted.v1", "1");
    eventually("both rows of the long transaction", SOON, || {
        (events_of(&fixture, "p.facts.inserted.v1").len() == 2).then_some(())
    });
}

/// Truncated with its sequence restarted: the new rows have values that were read before, and are published.
#[test]
fn truncated_and_rewritten_tables_lose_no_row() {
    let mut fixture = prepare(database(Version::usual()), None, &["p.facts"]);
    fixture.daemon.settings().more.push(("source".to_owned(), "grace = \"1s\"".to_owned()));
    fixture.go_on();
    for writer in 1..=40 {
        fixture.postgres.execute(&format!("insert into p.facts (writer) values ({writer})"));
        wait_for(&fixture, "p.facts.inserted.v1", &writer.to_string());
    }
    fixture.postgres.execute("truncate p.facts restart identity; insert into p.facts (writer) values (77)");
    let first = || {
        let mut events = events_of(&fixture, "p.facts.inserted.v1").remove("1")?;
        events.pop().filter(|event| event["data"]["writer"] == 77)
    };
    eventually("the row with a value of before", SOON, first);
    // A new type rewrites every row: at least once, and with the new definition.
    fixture.postgres.execute("alter table p.facts alter column writer type numeric using writer + 0.5");
    fixture.postgres.execute("insert into p.facts (writer) values (2)");
    wait_for(&fixture, "p.facts.inserted.v1", "2");
    fixture.postgres.execute(
        "alter table p.facts add column extra text default 'new'; insert into p.facts (writer) values (3)",
    );
    eventually("a row with the new column", SOON, || {
        let events = events_of(&fixture, "p.facts.inserted.v1").remove("3")?;
        (events.last()?["data"]["extra"] == "new").then_some(())
    });
}
