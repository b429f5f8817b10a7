//! Kinesis is away while the database works on: the slot moves, the log holds the backlog, `pg_wal` stays small.

use std::time::{Duration, Instant};

use forebay::position::CommitSeq;
use kinesis_stub::{Fault, Rule};

use crate::support::checker;
use crate::support::daemon::{Daemon, Settings};
use crate::support::flow::{DRAINED_WITHIN, Flow};
use crate::support::kinesis::Kinesis;
use crate::support::postgres::{Postgres, Version};
use crate::support::random::seed;
use crate::support::workload::Running;
use crate::support::{SOON, eventually};

/// What a database whose slot moves keeps in `pg_wal` with `max_wal_size` of 64 MiB, and some more.
const WAL_MAX: u64 = 160 << 20;
/// Write-ahead log of one go of other traffic.
const TRAFFIC: u64 = 24 << 20;

/// A database that keeps no more write-ahead log than it must, with a table that is not published.
fn frugal() -> Postgres {
    let builder = Postgres::builder(Version::usual()).without_fsync();
    let mut postgres = builder.setting("max_wal_size='64MB'").setting("min_wal_size='32MB'").start();
    postgres.create_lab();
    postgres.execute("create table public.traffic (nr bigint, filler text); alter table public.traffic alter filler set storage external");
    postgres
}

/// Other people's work; returns where the write-ahead log ends then.
fn traffic(flow: &Flow) -> CommitSeq {
    let before = flow.wal_end();
    while flow.wal_end().distance_from(before) < TRAFFIC {
        flow.postgres
            .execute("insert into public.traffic select n, repeat('x', 8000) from generate_series(1, 500) n");
    }
    flow.postgres.execute("truncate public.traffic; checkpoint");
    flow.wal_end()
}

fn wal_kept(flow: &Flow) -> u64 {
    flow.postgres.value("select sum(size)::bigint from pg_ls_waldir()").parse().unwrap()
}

/// Takes Kinesis away with `leave`, brings it back with `come_back`.
fn away(leave: impl Fn(&Flow), come_back: impl Fn(&Flow)) {
    let time = std::env::var("OUTAGE_SECONDS").map_or(20, |text| text.parse().expect("a number"));
    let seed = seed();
    let mut flow = Flow::over(frugal(), seed, |settings| settings.confirm_after = Some("2s".to_owned()));
    flow.start();
    let load = Running::start(&flow.postgres, 2, 20, seed);
    flow.wait_until_it_moves("before the outage");
    leave(&flow);
    let (began, first) = (Instant::now(), flow.wal_end());
    let (mut goes, mut most) = (0, 0);
    while goes < 8 || began.elapsed() < Duration::from_secs(time) {
        let passed = traffic(&flow);
        eventually("the slot passes what was committed during the outage", SOON, || {
            (flow.confirmed()? >= passed).then_some(())
        });
        goes += 1;
        most = most.max(wal_kept(&flow));
    }
    let (outage, written) = (began.elapsed(), flow.wal_end().distance_from(first));
    let backlog = flow.daemon.metric("forebay_log_frames_unpublished").unwrap();
    let log = flow.daemon.log_bytes();
    assert!(backlog > 100.0, "the log holds only {backlog} frames");
    assert!(written > WAL_MAX, "too little was written to tell anything: {written} bytes");
    assert!(most < WAL_MAX, "pg_wal holds {most} bytes after {written} were written");
    come_back(&flow);
    let back = Instant::now();
    flow.wait_until_it_moves("after the outage");
    let drained = back.elapsed();
    load.stop();
    flow.wait_until_published();
    let report = flow.check();
    println!(
        "away for {outage:?}: {written} bytes of WAL written, at most {most} kept, {backlog} frames durable, drained in \
         {drained:?}: {report}"
    );
    report.assert_clean();
    println!(
        "SUMMARY outage seed={seed} rounds=1 seconds={} wal_written={written} wal_kept={most} frames_durable={backlog} \
         drained_seconds={} committed={} lost={} reordered={} duplicates={} duplicates_a_restart=0 \
         log_bytes={log} resident_bytes={}",
        outage.as_secs(),
        drained.as_secs(),
        report.committed,
        report.lost.len(),
        report.reordered.len(),
        report.duplicates,
        flow.daemon.highest_resident().unwrap_or_default(),
    );
    // A backlog has keys with more than others: their lanes may leave, so that the others are published sooner.
    flow.daemon.assert_quiet(&["records_retried", "stream_unverified", "lanes_detached"]);
    assert!(flow.daemon.terminate().success());
}

#[test]
fn refused_connections_lose_and_reorder_nothing() {
    away(|flow| flow.stub.stop(), |flow| flow.stub.restart().unwrap());
}

#[test]
fn unanswered_requests_lose_and_reorder_nothing() {
    let silent = |flow: &Flow| flow.stub.set(Rule::new(Fault::Hang).operations(["*"])).unwrap();
    away(silent, |flow| flow.stub.heal());
}

#[test]
fn failing_requests_lose_and_reorder_nothing() {
    let failing = |flow: &Flow| flow.stub.set(Rule::new(Fault::ServerErrorBefore).operations(["*"])).unwrap();
    away(failing, |flow| flow.stub.heal());
}

#[test]
fn expired_credentials_are_retried_until_renewed() {
    away(|flow| flow.stub.set(Fault::ExpiredCredentials).unwrap(), |flow| flow.stub.heal());
}

#[test]
fn frozen_and_killed_kinesalite_loses_nothing() {
    let postgres = Postgres::lab(Version::usual());
    let mut kinesis = Kinesis::kinesalite();
    kinesis.create_stream("lab-events", 3);
    let mut daemon = Daemon::start(Settings::lab(&postgres, &kinesis));
    daemon.wait_for_event("receiving");
    let load = Running::start(&postgres, 2, 10, seed());
    let more = |what: &str, by: u64| {
        let before = load.committed();
        eventually(what, SOON, || (load.committed() > before + by).then_some(()));
    };
    more("work before", 30);
    kinesis.freeze();
    more("work while it is frozen", 50);
    kinesis.thaw();
    more("work between", 20);
    kinesis.kill9();
    more("work while it is gone", 50);
    kinesis.start_again();
    more("work after", 20);
    load.stop();
    let history = postgres.history();
    let report = eventually("everything has arrived", DRAINED_WITHIN, || {
        let report = checker::check(&history, &kinesis.records("lab-events"));
        report.lost.is_empty().then_some(report)
    });
    println!("{report}");
    report.assert_clean();
    assert!(daemon.terminate().success());
}
