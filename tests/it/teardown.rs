//! `forebay teardown`: what it says, what it refuses, and that nothing is left that retains WAL.

use std::process::Output;

use kinesis_stub::{Fault, Refusal};

use crate::support::daemon::Daemon;
use crate::support::flow::Flow;
use crate::support::postgres::{Postgres, Version};
use crate::support::random::seed;
use crate::support::{SOON, eventually};

fn teardown(daemon: &Daemon, more: &[&str]) -> (Option<i32>, String) {
    let Output { status, stdout, stderr } = daemon.run(&[&["teardown"], more].concat());
    let said = String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned();
    println!("teardown {more:?}: {said}");
    (status.code(), said)
}

#[track_caller]
fn refused(daemon: &Daemon, more: &[&str], text: &str) {
    let (code, said) = teardown(daemon, more);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains(text), "not said: {text:?}\n{said}");
}

fn left(postgres: &Postgres) -> String {
    postgres.value(
        "select concat((select string_agg(slot_name, ',') from pg_replication_slots), '/',
                       (select string_agg(pubname, ',') from pg_publication))",
    )
}

#[test]
fn teardown_leaves_no_slot_and_loses_nothing_unasked() {
    let mut flow = Flow::prepare(seed(), |_| {});
    flow.start();
    flow.mark();
    flow.wait_until_published();
    let both = left(&flow.postgres);
    assert!(both.starts_with("forebay_lab/"), "{both}");
    refused(&flow.daemon, &["--yes"], "another process uses the buffer directory");

    // A backlog that the stream does not have.
    flow.stub.set(Fault::Reject { code: Refusal::Throttled }).unwrap();
    flow.mark();
    let written = flow.wal_end();
    eventually("the change is durable", SOON, || (flow.confirmed()? >= written).then_some(()));
    assert!(flow.daemon.terminate().success());
    let (code, said) = teardown(&flow.daemon, &["--discard-unpublished", "--drop-publication"]);
    assert_eq!(code, Some(0), "{said}");
    for text in ["\"forebay_lab\" will be dropped", "unpublished changes", "Nothing was changed"] {
        assert!(said.contains(text), "not said: {text:?}\n{said}");
    }
    refused(&flow.daemon, &["--yes"], "the buffer directory has unpublished changes");
    assert_eq!(left(&flow.postgres), both, "neither a plan nor a refusal changes anything");

    let (code, said) = teardown(&flow.daemon, &["--yes", "--discard-unpublished", "--drop-publication"]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(left(&flow.postgres), "/");
    let audit = std::fs::read_to_string(flow.daemon.buffer_directory().join("adoptions.jsonl")).unwrap();
    assert!(audit.contains("\"dropped_slot\":\"forebay_lab\""), "{audit}");
    let (code, said) = teardown(&flow.daemon, &["--yes", "--discard-unpublished"]);
    assert_eq!(code, Some(0), "it may be repeated: {said}");
    flow.stub.heal();
    flow.daemon.start_again();
    assert_eq!(
        flow.daemon.wait().code(),
        Some(1),
        "a directory whose slot was dropped does not begin again by itself"
    );
}

#[test]
fn slot_of_another_source_is_not_dropped() {
    let mut flow = Flow::prepare(seed(), |_| {});
    flow.start();
    flow.mark();
    flow.wait_until_published();
    assert!(flow.daemon.terminate().success());
    flow.wait_until_slot_is_free();
    let url = flow.daemon.settings().url.clone();
    let other = Postgres::lab(Version::usual());
    other.query("select pg_create_logical_replication_slot('forebay_lab', 'pgoutput')");
    let before = left(&other);
    flow.daemon.settings().url = other.url("forebay");
    refused(
        &flow.daemon,
        &["--yes", "--discard-unpublished"],
        "the buffer directory belongs to database cluster",
    );
    assert_eq!(left(&other), before);

    flow.daemon.settings().url = url;
    flow.daemon.settings().slot = "other".to_owned();
    refused(&flow.daemon, &["--yes", "--discard-unpublished"], "belongs to slot \"forebay_lab\"");
    flow.daemon.settings().slot = "forebay_lab".to_owned();
    flow.postgres.query("select pg_drop_replication_slot('forebay_lab')");
    flow.postgres.query("select pg_create_logical_replication_slot('forebay_lab', 'test_decoding')");
    refused(&flow.daemon, &["--yes", "--discard-unpublished"], "it is made for test_decoding");
    assert!(left(&flow.postgres).starts_with("forebay_lab/"));

    // Without a directory nothing proves that the slot is ours.
    flow.postgres.query("select pg_drop_replication_slot('forebay_lab')");
    flow.postgres.query("select pg_create_logical_replication_slot('forebay_lab', 'pgoutput')");
    flow.daemon.wipe();
    refused(&flow.daemon, &["--yes"], "it is unknown which changes were published");
    assert!(left(&flow.postgres).starts_with("forebay_lab/"));
    let (code, said) = teardown(&flow.daemon, &["--yes", "--discard-unpublished"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(left(&flow.postgres).starts_with('/'), "{}", left(&flow.postgres));
}
