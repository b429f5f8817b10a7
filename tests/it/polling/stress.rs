//! Many writers with held transactions, values drawn early, savepoints and rollbacks; the daemon is killed meanwhile. Beside it
//! a naive poller, as a control: it loses rows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::polling::{database, events_of, prepare};
use crate::support::fixture::Fixture;
use crate::support::postgres::{Postgres, Version};
use crate::support::random::{Random, seed};
use crate::support::{SOON, eventually};

const WRITERS: u64 = 5;
/// How long they write, where `POLLING_SECONDS` does not say it.
const LASTS: u64 = 3;
const THINGS: usize = 20;

/// On a primary: the oldest version.
#[test]
fn stress_on_primary_loses_nothing() {
    stress(database(Version::OLDEST), None);
}

/// On a streaming standby: the newest version.
#[test]
fn stress_on_standby_loses_nothing() {
    let postgres = database(Version::NEWEST);
    let standby = postgres.standby();
    stress(postgres, Some(&standby));
}

fn seconds() -> u64 {
    std::env::var("POLLING_SECONDS").map_or(LASTS, |text| text.parse().unwrap())
}

/// One transaction of a writer.
fn transaction(random: &mut Random, writer: u64) -> String {
    let note = "insert into p.facts (writer) values";
    let hold = format!("select pg_sleep({}); ", f64::from(u32::try_from(random.below(700)).unwrap()) / 1e3);
    let thing = 1 + random.below(THINGS);
    let update = format!("update p.things set value = value + 1, changed = now() where id = {thing};");
    match random.below(9) {
        0 => format!("begin; {note} ({writer}); {hold} commit"),
        // Drawn before the transaction has an id.
        1 => format!(
            "begin; select nextval('p.facts_id_seq') as drawn; {hold} insert into p.facts (id, writer) values (currval('p.facts_id_seq'), {writer}); commit"
        ),
        2 => format!(
            "begin; savepoint a; {note} ({writer}); savepoint b; {note} ({writer}); rollback to b; {hold} {note} ({writer}); release a; commit"
        ),
        3 => format!("begin; {note} ({writer}); {hold} rollback"),
        4 => format!("begin; {hold} {update} commit"),
        5 => format!("begin; {update} insert into p.messages (body) values ('{writer}'); {hold} commit"),
        6 => format!("insert into p.messages (body) values ('{writer}')"),
        _ => format!("{note} ({writer})"),
    }
}

fn stress(postgres: Postgres, standby: Option<&Postgres>) {
    let seed = seed();
    postgres.execute(&format!("insert into p.things select id, 0 from generate_series(1, {THINGS}) id"));
    if let Some(standby) = standby {
        postgres.wait_for(standby);
    }
    let mut fixture = prepare(postgres, standby, &["p.facts", "p.things", "p.messages"]);
    fixture.go_on();
    // What the naive poller certainly loses: the lower value is committed after it has read the higher one.
    let mut planted = fixture.postgres.session("postgres");
    planted.execute("begin; insert into p.facts (writer) values (1000)");
    let polled = standby.unwrap_or(&fixture.postgres);
    fixture.postgres.execute("insert into p.facts (writer) values (1001)");
    eventually("the higher value is there", SOON, || {
        (polled.value("select count(*) from p.facts where writer = 1001") == "1").then_some(())
    });
    let address = polled.address();
    let stop = AtomicBool::new(false);
    let naive = std::thread::scope(|scope| {
        let naive = scope.spawn({
            let stop = &stop;
            move || naive_poller(&address, stop)
        });
        let until = Instant::now() + Duration::from_secs(seconds());
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let mut session = fixture.postgres.session("postgres");
                scope.spawn(move || {
                    let mut random = Random::new(seed.wrapping_add(writer));
                    while Instant::now() < until {
                        let sql = transaction(&mut random, writer);
                        if session.try_execute(&sql).is_err() {
                            session.execute("rollback");
                        }
                    }
                })
            })
            .collect();
        let mut random = Random::new(seed ^ 0x5eed);
        let mut records = 0;
        while writers.iter().any(|writer| !writer.is_finished()) {
            let more = 20 + random.below(100);
            let published = crate::support::poll(Duration::from_secs(3), || {
                let now = fixture.records().len();
                (now >= records + more).then_some(now)
            });
            records = published.unwrap_or(records);
            fixture.daemon.kill9();
            fixture.daemon.start_again();
        }
        planted.execute("commit");
        for writer in writers {
            writer.join().unwrap();
        }
        stop.store(true, Ordering::Relaxed);
        naive.join().unwrap()
    });
    check(&fixture, &naive);
}

/// `id > last` every 50 ms, on a connection of its own.
fn naive_poller(address: &str, stop: &AtomicBool) -> BTreeSet<i64> {
    let mut session = crate::support::session::Session::connect(address).unwrap();
    let (mut seen, mut last) = (BTreeSet::new(), 0);
    let mut ends = false;
    while !ends {
        ends = stop.load(Ordering::Relaxed);
        for row in session
            .query(&format!("select id from p.facts where id > {last} order by id; select pg_sleep(0.05)"))
        {
            if let Some(id) = row[0].as_ref().and_then(|id| id.parse().ok()) {
                seen.insert(id);
                last = id;
            }
        }
    }
    seen
}

fn check(fixture: &Fixture, naive: &BTreeSet<i64>) {
    let ids = |table: &str| -> BTreeSet<i64> {
        let rows = fixture.postgres.query(&format!("select id from p.{table}"));
        rows.iter().map(|row| row[0].as_ref().unwrap().parse().unwrap()).collect()
    };
    let (facts, messages) = (ids("facts"), ids("messages"));
    let published = |event_type: &str| events_of(fixture, event_type);
    let of = |events: &BTreeMap<String, Vec<serde_json::Value>>| -> BTreeSet<i64> {
        events.keys().map(|subject| subject.parse().unwrap()).collect()
    };
    let values = fixture.postgres.query("select id, value from p.things where value > 0");
    eventually("all committed rows are published", SOON * 2, || {
        let things = published("p.things.updated.v1");
        let last = |row: &Vec<Option<String>>| {
            let versions = things.get(row[0].as_ref().unwrap())?;
            let expected: serde_json::Value = row[1].as_ref()?.parse().unwrap();
            (versions.last()?["data"]["value"] == expected).then_some(())
        };
        let all = facts.is_subset(&of(&published("p.facts.inserted.v1")))
            && messages.is_subset(&of(&published("p.messages.inserted.v1")))
            && values.iter().all(|row| last(row).is_some());
        all.then_some(())
    });
    let lost: Vec<_> = facts.difference(naive).collect();
    println!("{} facts, {} messages; the naive poller lost {}", facts.len(), messages.len(), lost.len());
    assert!(!lost.is_empty(), "the control must lose rows");
    for (event_type, ids) in [("p.facts.inserted.v1", &facts), ("p.messages.inserted.v1", &messages)] {
        let events = published(event_type);
        assert_eq!(of(&events), *ids, "nothing but what was committed");
        let twice: Vec<_> = events.iter().filter(|(_, versions)| versions.len() > 1).collect();
        assert!(twice.is_empty(), "a version has two ids: {twice:#?}");
    }
    for (subject, versions) in published("p.things.updated.v1") {
        let key = |event: &serde_json::Value| {
            (event["sequence"].as_str().unwrap().to_owned(), event["data"]["value"].as_i64().unwrap())
        };
        let order: Vec<_> = versions.iter().map(key).collect();
        assert!(
            order.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 < pair[1].1),
            "{subject}: {order:?}"
        );
    }
    let mut by_sequence = BTreeMap::new();
    for event in fixture.events() {
        let (sequence, id) = (event["sequence"].to_string(), event["id"].to_string());
        assert_eq!(
            *by_sequence.entry(sequence).or_insert_with(|| id.clone()),
            id,
            "a position was given twice"
        );
    }
    println!(
        "SUMMARY rounds=1 seconds={} rows={} lost=0 reordered=0",
        seconds(),
        facts.len() + messages.len()
    );
}
