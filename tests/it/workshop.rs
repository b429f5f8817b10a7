//! Tests of the test servers: each one starts, stops and works, in every version.

use std::collections::BTreeSet;

use crate::support::history::Op;
use crate::support::kinesis::{Implementation, Kinesis};
use crate::support::postgres::{Postgres, Stop, Version};
use crate::support::random::seed;
use crate::support::session::{Session, explain};
use crate::support::workload::{Running, Workload};
use crate::support::{SOON, eventually};

#[test]
fn each_postgres_decodes_workload_through_stops_and_kills() {
    for version in Version::all() {
        let mut postgres = Postgres::lab(version);
        let major = postgres.value("show server_version_num");
        assert!(major.starts_with(&version.0.to_string()), "asked for {version:?}, got {major}");
        postgres.execute("create publication p for table lab.plates");
        postgres.query("select pg_create_logical_replication_slot('s', 'pgoutput')");
        Workload::new(&postgres, seed()).commit(5);
        postgres.stop(Stop::Fast);
        postgres.start_again();
        postgres.kill9();
        postgres.start_again();
        postgres.stop(Stop::Immediate);
        postgres.start_again();
        let peek = "select count(*) from pg_logical_slot_peek_binary_changes('s', null, null, \
                    'proto_version', '1', 'publication_names', 'p')";
        assert_ne!(postgres.value(peek), "0");
        Session::connect(&postgres.url("forebay")).unwrap();
        Session::connect(&postgres.socket_url("forebay")).unwrap();
    }
}

#[test]
fn recorded_history_holds_exactly_committed_rows() {
    let postgres = Postgres::lab(Version::usual());
    Workload::new(&postgres, seed()).commit(150);
    let history = postgres.history();
    let mut living = BTreeSet::new();
    for change in &history {
        let key = (change.table.clone(), change.key.clone());
        match change.op {
            Op::Inserted => assert!(living.insert(key), "inserted twice: {change:?}"),
            Op::Updated => assert!(living.contains(&key), "updated before it was there: {change:?}"),
            Op::Deleted => assert!(living.remove(&key), "deleted before it was there: {change:?}"),
        }
    }
    for op in [Op::Inserted, Op::Updated, Op::Deleted] {
        assert!(history.iter().any(|change| change.op == op), "the workload never does {op:?}");
    }
    let rows = postgres.query(
        "select 'lab.plates', plate_id::text from lab.plates union all \
         select 'lab.samples', sample_code from lab.samples union all \
         select 'lab.transfers', transfer_id::text from lab.transfers",
    );
    let rows: BTreeSet<_> =
        rows.into_iter().map(|row| (row[0].clone().unwrap(), row[1].clone().unwrap())).collect();
    assert_eq!(rows, living);
}

#[test]
fn background_writers_continue_through_server_restart() {
    let mut postgres = Postgres::lab(Version::usual());
    let running = Running::start(&postgres, 3, 100, seed());
    let more = |running: &Running| {
        let before = running.committed();
        eventually("more is committed", SOON, || (running.committed() > before + 5).then_some(()));
    };
    more(&running);
    postgres.stop(Stop::Immediate);
    postgres.start_again();
    more(&running);
    let known = running.stop();
    let history = u64::try_from(postgres.history().len()).unwrap();
    assert!(history >= known, "{known} transactions, but {history} changes");
}

#[test]
fn standby_follows_lags_when_disconnected_and_is_promoted() {
    for version in Version::all() {
        let primary = Postgres::lab(version);
        let standby = primary.standby();
        primary.execute("insert into lab.plates (plate_id, barcode) values (1, 'A')");
        primary.wait_for(&standby);
        assert_eq!(standby.value("select pg_is_in_recovery()"), "t");
        assert_eq!(standby.history(), primary.history());
        standby.cut_off();
        primary.execute("insert into lab.plates (plate_id, barcode) values (2, 'B')");
        standby.promote();
        standby.execute("insert into lab.plates (plate_id, barcode) values (3, 'C')");
        assert_eq!(standby.value("select string_agg(barcode, '' order by barcode) from lab.plates"), "AC");
    }
}

#[test]
fn restored_data_directory_has_older_history() {
    let mut postgres = Postgres::lab(Version::usual());
    let insert = |postgres: &Postgres, id: u8| {
        postgres.execute(&format!("insert into lab.plates (plate_id, barcode) values ({id}, '{id}')"));
    };
    insert(&postgres, 1);
    let copy = postgres.copy_data_dir();
    insert(&postgres, 2);
    postgres.restore_data_dir(&copy);
    insert(&postgres, 3);
    let keys: Vec<_> = postgres.history().into_iter().map(|change| change.key).collect();
    assert_eq!(keys, ["1", "3"]);
}

#[test]
fn server_requires_password_and_tls_when_configured() {
    for version in Version::all() {
        let mut postgres = Postgres::builder(version)
            .without_fsync()
            .with_tls()
            .hba("hostssl all forebay 127.0.0.1/32 scram-sha-256")
            .start();
        postgres.create_lab();
        postgres.execute("set password_encryption = 'scram-sha-256'; alter role forebay password 'secret'");
        assert_eq!(postgres.value("show ssl"), "on");
        assert!(postgres.tls().ca.exists());
        let refused = Session::connect(&format!("{}?sslmode=disable", postgres.url("forebay")));
        let reason = explain(&refused.unwrap_err());
        assert!(reason.contains("no encryption"), "{reason}");
    }
}

#[test]
fn kinesalite_returns_records_across_restart() {
    gives_back(Implementation::Kinesalite);
}

#[test]
fn kinesis_local_returns_records() {
    gives_back(Implementation::KinesisLocal);
}

#[test]
fn localstack_returns_records() {
    gives_back(Implementation::LocalStack);
}

fn gives_back(implementation: Implementation) {
    if !implementation.is_here() {
        return;
    }
    let mut kinesis = Kinesis::start(implementation);
    kinesis.create_stream("events", 3);
    assert_eq!(kinesis.shards("events").len(), 3);
    for n in 0..30 {
        kinesis.put("events", &format!("key {}", n % 10), format!("{n}\n").as_bytes());
    }
    let first = kinesis.shards("events").remove(0);
    let split = kinesis
        .client()
        .split_shard()
        .stream_name("events")
        .shard_to_split(first)
        .new_starting_hash_key("99");
    kinesis.block_on(split.send()).unwrap();
    kinesis.wait_until_active("events");
    kinesis.put("events", "key 0", b"30\n");
    let records = kinesis.records("events");
    for key in 0..10 {
        let key = format!("key {key}");
        let numbers = records.iter().filter(|record| record.key == key);
        let numbers: Vec<usize> =
            numbers.map(|record| String::from_utf8_lossy(&record.data).trim().parse().unwrap()).collect();
        assert!(numbers.len() >= 3 && numbers.is_sorted(), "{implementation:?}, {key}: {numbers:?}");
    }
    assert_eq!(records.len(), 31);
    kinesis.stop();
    kinesis.start_again();
    if kinesis.persists() {
        assert_eq!(kinesis.records("events"), records);
    }
    kinesis.kill9();
    kinesis.start_again();
}
