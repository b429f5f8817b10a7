//! Polling: the built daemon against a primary or a standby, with the right to SELECT and nothing else.

mod commands;
mod failover;
mod plans;
mod refusals;
mod servers;
mod stress;
mod windows;

use std::collections::BTreeMap;

use serde_json::Value;

use crate::support::daemon::{Daemon, Settings};
use crate::support::fixture::Fixture;
use crate::support::kinesis::Kinesis;
use crate::support::postgres::{Postgres, Version};
use crate::support::{SOON, eventually};

/// A table for each kind of cursor, and a role that may read them and do nothing else.
const SCHEMA: &str = "
    create role reader login;
    create schema p;
    create table p.facts (id bigserial primary key, writer int not null, note text);
    create table p.things (id int primary key, value int not null, changed timestamptz not null default now());
    create index on p.things (changed, id);
    create table p.messages (id bigserial primary key, body text, txid xid8 not null default pg_current_xact_id());
    create index on p.messages (txid, id);
    grant usage on schema p to reader;
    grant select on all tables in schema p to reader;
    grant select on all sequences in schema p to reader;";

/// A cluster with the tables.
pub fn database(version: Version) -> Postgres {
    let postgres = Postgres::builder(version).without_fsync().start();
    postgres.execute(SCHEMA);
    postgres
}

/// PostgreSQL 12 has no `xid8`.
fn schema_of_12() -> String {
    SCHEMA.lines().filter(|line| !line.contains("p.messages")).collect::<Vec<_>>().join("\n")
}

/// Settings that poll these tables of a server.
pub fn settings(server: &Postgres, endpoint: String, tables: &[&str]) -> Settings {
    let source = |line: &str| ("source".to_owned(), line.to_owned());
    let mut more = vec![source("mode = \"polling\""), source("interval = \"100ms\"")];
    if tables.contains(&"p.things") {
        more.push(("source.cursors".to_owned(), "\"p.things\" = { updated_at = \"changed\" }".to_owned()));
    }
    Settings {
        slot: String::new(),
        tables: tables.iter().map(|table| (*table).to_owned()).collect(),
        confirm_after: None,
        more,
        ..Settings::new(server.url("reader"), endpoint)
    }
}

/// A daemon that was never started, which polls these tables of `postgres`, or of a standby of it.
pub fn prepare(postgres: Postgres, standby: Option<&Postgres>, tables: &[&str]) -> Fixture {
    let kinesis = Kinesis::kinesalite();
    kinesis.create_stream("lab-events", 2);
    let daemon = Daemon::prepare(settings(standby.unwrap_or(&postgres), kinesis.endpoint(), tables));
    Fixture { daemon, kinesis, postgres }
}

/// The events of a type by subject, in the order of the stream. A repeat of an event, with the same id, is left out.
pub fn events_of(fixture: &Fixture, event_type: &str) -> BTreeMap<String, Vec<Value>> {
    of_type(fixture.events(), event_type)
}

/// The same of these events.
fn of_type(events: impl IntoIterator<Item = Value>, event_type: &str) -> BTreeMap<String, Vec<Value>> {
    let mut found: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for event in events.into_iter().filter(|event| event["type"] == event_type) {
        let of_subject = found.entry(event["subject"].as_str().unwrap().to_owned()).or_default();
        if !of_subject.iter().any(|other| other["id"] == event["id"]) {
            of_subject.push(event);
        }
    }
    found
}

/// Waits for an event of this type and subject.
#[track_caller]
pub fn wait_for(fixture: &Fixture, event_type: &str, subject: &str) -> Value {
    eventually(&format!("{event_type} of {subject}"), SOON, || {
        events_of(fixture, event_type).remove(subject).map(|mut events| events.remove(0))
    })
}
