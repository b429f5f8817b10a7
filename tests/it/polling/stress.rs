//! Many writers with held transactions, values drawn early, savepoints and rollbacks. Meanwhile the daemon is killed, the standby
//! is restarted, and the stream rejects records and loses responses. Beside it a naive poller, as a control: it loses rows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use kinesis_stub::{Config, Fault, Refusal, Rule, Stub};
use serde_json::Value;

use crate::polling::{database, of_type, settings};
use crate::support::daemon::Daemon;
use crate::support::postgres::{Postgres, Stop, Version};
use crate::support::random::{Random, seed};
use crate::support::session::Session;
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
    stress(postgres, Some(standby));
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

/// A daemon that polls, and a stream that rejects some records and loses responses.
struct Rig {
    daemon: Daemon,
    stub: Stub,
    postgres: Postgres,
    standby: Option<Postgres>,
}

impl Rig {
    fn start(postgres: Postgres, standby: Option<Postgres>, seed: u64) -> Self {
        let stub = Config { seed, ..Config::default() };
        let stub = Stub::start(stub.stream("lab-events", 2)).unwrap();
        let tables = ["p.facts", "p.things", "p.messages"];
        let settings = settings(standby.as_ref().unwrap_or(&postgres), stub.endpoint(), &tables);
        let some =
            |pattern: &str| Fault::AcceptSome { pattern: pattern.to_owned(), code: Refusal::Throttled };
        for rule in [
            Rule::new(some("++-+-")).share(0.3),
            Rule::new(Fault::AcceptThenLoseAnswer).share(0.05),
            Rule::new(Fault::ServerErrorBefore).share(0.05),
        ] {
            stub.add(rule).unwrap();
        }
        let mut rig = Self { daemon: Daemon::prepare(settings), stub, postgres, standby };
        rig.daemon.start_again();
        rig.daemon.wait_for_event("receiving");
        rig
    }

    fn polled(&self) -> &Postgres {
        self.standby.as_ref().unwrap_or(&self.postgres)
    }

    fn events(&self) -> Vec<Value> {
        let records = self.stub.records();
        let lines = records.iter().flat_map(|record| record.data.split(|byte| *byte == b'\n'));
        lines.filter(|line| !line.is_empty()).map(|line| serde_json::from_slice(line).unwrap()).collect()
    }

    /// Kills the daemon once some more records are in the stream; sometimes the standby is restarted before.
    fn disturb(&mut self, random: &mut Random) {
        let more = self.stub.records().len() + 20 + random.below(100);
        let published = || (self.stub.records().len() >= more).then_some(());
        let _some_or_none = crate::support::poll(Duration::from_secs(3), published);
        if let Some(standby) = self.standby.as_mut().filter(|_| random.once_in(3)) {
            standby.stop(Stop::Fast);
            standby.start_again();
        }
        self.daemon.kill9();
        self.daemon.start_again();
    }
}

fn stress(postgres: Postgres, standby: Option<Postgres>) {
    let seed = seed();
    postgres.execute(&format!("insert into p.things select id, 0 from generate_series(1, {THINGS}) id"));
    if let Some(standby) = &standby {
        postgres.wait_for(standby);
    }
    let mut rig = Rig::start(postgres, standby, seed);
    // What the naive poller certainly loses: the lower value is committed after it has read the higher one.
    let mut planted = rig.postgres.session("postgres");
    planted.execute("begin; insert into p.facts (writer) values (1000)");
    rig.postgres.execute("insert into p.facts (writer) values (1001)");
    eventually("the higher value is there", SOON, || {
        (rig.polled().value("select count(*) from p.facts where writer = 1001") == "1").then_some(())
    });
    let address = rig.polled().address();
    let stop = AtomicBool::new(false);
    let naive = std::thread::scope(|scope| {
        let naive = scope.spawn({
            let stop = &stop;
            move || naive_poller(&address, stop)
        });
        let until = Instant::now() + Duration::from_secs(seconds());
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let mut session = rig.postgres.session("postgres");
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
        while writers.iter().any(|writer| !writer.is_finished()) {
            rig.disturb(&mut random);
        }
        planted.execute("commit");
        for writer in writers {
            writer.join().unwrap();
        }
        stop.store(true, Ordering::Relaxed);
        naive.join().unwrap()
    });
    check(&rig, &naive);
}

/// `id > last` every 50 ms, on a connection of its own.
fn naive_poller(address: &str, stop: &AtomicBool) -> BTreeSet<i64> {
    let (mut session, mut seen, mut last) = (None, BTreeSet::new(), 0);
    let mut ends = false;
    while !ends {
        ends = stop.load(Ordering::Relaxed);
        let connected = session.get_or_insert_with(|| {
            eventually("the server takes connections", SOON, || Session::connect(address).ok())
        });
        let query = format!("select id from p.facts where id > {last} order by id; select pg_sleep(0.05)");
        let Ok(rows) = connected.try_query(&query) else {
            // The server was restarted.
            (session, ends) = (None, false);
            continue;
        };
        for row in rows {
            if let Some(id) = row[0].as_ref().and_then(|id| id.parse().ok()) {
                seen.insert(id);
                last = id;
            }
        }
    }
    seen
}

fn check(rig: &Rig, naive: &BTreeSet<i64>) {
    let ids = |table: &str| -> BTreeSet<i64> {
        let rows = rig.postgres.query(&format!("select id from p.{table}"));
        rows.iter().map(|row| row[0].as_ref().unwrap().parse().unwrap()).collect()
    };
    let (facts, messages) = (ids("facts"), ids("messages"));
    let published = |event_type: &str| of_type(rig.events(), event_type);
    let of = |events: &BTreeMap<String, Vec<Value>>| -> BTreeSet<i64> {
        events.keys().map(|subject| subject.parse().unwrap()).collect()
    };
    let values = rig.postgres.query("select id, value from p.things where value > 0");
    eventually("all committed rows are published", SOON * 2, || {
        let things = published("p.things.updated.v1");
        let last = |row: &Vec<Option<String>>| {
            let versions = things.get(row[0].as_ref().unwrap())?;
            let expected: Value = row[1].as_ref()?.parse().unwrap();
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
        let key = |event: &Value| {
            (event["sequence"].as_str().unwrap().to_owned(), event["data"]["value"].as_i64().unwrap())
        };
        let order: Vec<_> = versions.iter().map(key).collect();
        assert!(
            order.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 < pair[1].1),
            "{subject}: {order:?}"
        );
    }
    let mut by_sequence = BTreeMap::new();
    for event in rig.events() {
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
