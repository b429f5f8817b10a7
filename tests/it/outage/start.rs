//! A start while the database is away: what is durable is published at once, the rest comes when the database does.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::symlink;

use crate::support::eventually;
use crate::support::flow::{DRAINED_WITHIN, Flow};
use crate::support::history::Change;
use crate::support::postgres::{Postgres, Stop, Version};
use crate::support::proxy::{Proxy, Target};
use crate::support::random::seed;

const MEANWHILE: &str = "database_unavailable";

/// Commits some plates while Kinesis is away, and ends the daemon when all of them are durable. Gives what must come.
fn hold_a_backlog(flow: &mut Flow, cleanly: bool) -> Vec<Change> {
    flow.stub.stop();
    for _ in 0..50 {
        flow.mark();
    }
    let end = flow.wal_end();
    eventually("all of it is durable", DRAINED_WITHIN, || (flow.confirmed()? >= end).then_some(()));
    if cleanly {
        assert!(flow.daemon.terminate().success());
    } else {
        flow.daemon.kill9();
    }
    flow.wait_until_slot_is_free();
    flow.postgres.history()
}

#[track_caller]
fn wait_for_all(flow: &mut Flow, history: &[Change]) {
    eventually("what is durable is published", DRAINED_WITHIN, || {
        let published = flow.published();
        history.iter().all(|change| published.contains(change)).then_some(())
    });
}

#[test]
fn start_without_database_publishes_durable_changes() {
    let seed = seed();
    let postgres = Postgres::lab(Version::usual());
    let target = SocketAddr::from((Ipv4Addr::LOCALHOST, postgres.port()));
    let proxy = Proxy::start(Target::Tcp(target)).unwrap();
    let through = format!("postgres://forebay@{}/lab", proxy.address());
    let mut flow = Flow::over(postgres, seed, |settings| settings.url = through);
    flow.start();
    flow.wait_until_it_moves("before");
    for (how, cleanly) in [("stopped", true), ("stopped", false), ("refusing", true), ("silent", true)] {
        let history = hold_a_backlog(&mut flow, cleanly);
        match how {
            "stopped" => flow.postgres.stop(Stop::Fast),
            "refusing" => proxy.refuse(true),
            _ => proxy.stall(),
        }
        flow.stub.restart().unwrap();
        flow.daemon.start_again();
        flow.daemon.wait_for_event(MEANWHILE);
        wait_for_all(&mut flow, &history);
        let not_ready = flow.daemon.ready().unwrap_err();
        assert!(not_ready.contains("the replication stream is not open: "), "{how}: {not_ready}");
        assert!(!not_ready.contains("Kinesis"), "{how}: {not_ready}");
        match how {
            "stopped" => flow.postgres.start_again(),
            "refusing" => proxy.refuse(false),
            _ => {
                // In this order: a connection that gets through in between would be lost again.
                proxy.cut();
                proxy.resume();
            }
        }
        flow.wait_until_it_moves(how);
        flow.wait_until_ready();
        println!("{how}: {} changes were published without the database", history.len());
    }
    flow.wait_until_published();
    let report = flow.check();
    println!("{report}");
    report.assert_clean();
    flow.daemon.assert_quiet(&[MEANWHILE, "source_unavailable"]);
    assert!(flow.daemon.terminate().success());
}

#[test]
fn wrong_database_found_later_stops_daemon() {
    let postgres = Postgres::lab(Version::usual());
    // A socket of its own, which leads to one server or the other.
    let directory = tempfile::Builder::new().prefix("fb-").tempdir().unwrap();
    let path = directory.path().join(".s.PGSQL.5432");
    let socket =
        |postgres: &Postgres| postgres.socket_directory().join(format!(".s.PGSQL.{}", postgres.port()));
    symlink(socket(&postgres), &path).unwrap();
    let url = format!("postgres://forebay@/lab?host={}&port=5432", directory.path().display());
    let mut flow = Flow::over(postgres, seed(), |settings| settings.url = url);
    flow.start();
    flow.wait_until_it_moves("before");
    let history = hold_a_backlog(&mut flow, true);
    std::fs::remove_file(&path).unwrap();
    flow.stub.restart().unwrap();
    flow.daemon.start_again();
    flow.daemon.wait_for_event(MEANWHILE);
    wait_for_all(&mut flow, &history);
    let other = Postgres::lab(Version::usual());
    other.execute("create publication forebay_lab for table lab.plates, lab.samples, lab.transfers");
    other.query("select pg_create_logical_replication_slot('forebay_lab', 'pgoutput')");
    symlink(socket(&other), &path).unwrap();
    assert_eq!(flow.daemon.wait().code(), Some(1));
    let said = flow.daemon.log().join("\n");
    assert!(said.contains(r#"code="directory_of_other_source""#), "{said}");
    // With the right one again it goes on.
    std::fs::remove_file(&path).unwrap();
    symlink(socket(&flow.postgres), &path).unwrap();
    flow.start();
    flow.wait_until_it_moves("after");
    let report = flow.check();
    report.assert_clean();
    assert!(flow.daemon.terminate().success());
}

#[test]
fn start_without_database_refuses_other_name() {
    let mut flow = Flow::prepare(seed(), |_| {});
    flow.start();
    flow.wait_until_it_moves("before");
    hold_a_backlog(&mut flow, true);
    flow.postgres.stop(Stop::Fast);
    flow.stub.restart().unwrap();
    let before = flow.stub.stats().records;
    flow.daemon.settings().name = "other".to_owned();
    flow.daemon.start_again();
    assert_eq!(flow.daemon.wait().code(), Some(1));
    let said = flow.daemon.log().join("\n");
    assert!(said.contains(r#"code="directory_of_other_source""#) && said.contains("source (name)"), "{said}");
    assert_eq!(flow.stub.stats().records, before, "nothing of it was published");
    flow.postgres.start_again();
}
