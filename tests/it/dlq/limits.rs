//! A dead-letter file that is full or slow blocks the keys of its records only. Events that applications make are bounded, too.

use serde_json::Value;

use super::{event_counts, lab, large, letters, run, version, wait_for_letters};
use crate::disk::tracer::{self, Injection};
use crate::outbox::shop_with;
use crate::support::flow::Flow;
use crate::support::{SOON, eventually};

fn insert(flow: &Flow, plate: u64) {
    flow.postgres
        .execute(&format!("insert into lab.plates (plate_id, barcode) values ({plate}, 'P{plate}')"));
}

fn shorten(flow: &Flow, plate: u64) {
    flow.postgres.execute(&format!("update lab.plates set notes = 'short' where plate_id = {plate}"));
}

#[track_caller]
fn wait_for_version(flow: &mut Flow, plate: u64, number: i64) {
    let wanted = version(&plate.to_string(), number);
    eventually(&format!("{wanted:?} is published"), SOON, || {
        flow.published().contains(&wanted).then_some(())
    });
}

#[track_caller]
fn wait_for_blocked(flow: &Flow, count: f64) {
    eventually("the metric counts blocked records", SOON, || {
        let blocked = flow.daemon.metric("forebay_dead_letters_blocked")?;
        ((blocked - count).abs() < 0.1).then_some(())
    });
}

/// The file has room for one letter of 1.15 MB.
#[test]
fn full_dead_letter_file_blocks_only_affected_keys() {
    let limit = |size: &str| ("buffer".to_owned(), format!("max_dead_letter_size = \"{size}\""));
    let mut flow = lab(|settings| settings.more.push(limit("2 MiB")));
    large(&flow, 1);
    wait_for_letters(&flow, 1, "waiting");
    large(&flow, 2);
    shorten(&flow, 2);
    let line = flow.daemon.wait_for_event("dead_letters_full");
    assert!(line.contains("ERROR") && line.contains("max_dead_letter_size"), "{line}");
    wait_for_blocked(&flow, 1.0);
    insert(&flow, 3);
    shorten(&flow, 1);
    wait_for_version(&mut flow, 3, 1);
    wait_for_version(&mut flow, 1, 3);
    assert!(
        !flow.published().contains(&version("2", 3)),
        "it would be published before its predecessor is settled"
    );
    assert_eq!(letters(&flow).len(), 1);
    assert!(flow.daemon.terminate().success());
    flow.daemon.settings().more = vec![limit("8 MiB")];
    flow.start();
    wait_for_version(&mut flow, 2, 3);
    wait_for_letters(&flow, 2, "waiting");
    wait_for_blocked(&flow, 0.0);
    assert_eq!(event_counts(&flow)["lab.plates.updated.v1"], (2, 2));
    assert!(flow.daemon.terminate().success());
}

/// Judged by order: the tracer reports an fsync when it ends, and another key's event is published before that. Where the
/// machine was slower than the fsync, the next plate tries.
#[test]
fn slow_dead_letter_fsync_blocks_only_affected_keys() {
    if !tracer::is_here() {
        return;
    }
    let mut flow = lab(|_| {});
    let report = flow.daemon.home().join("strace.txt");
    let slow = Injection {
        calls: "fdatasync",
        answer: "delay_enter=8000000".to_owned(),
        paths: vec![flow.daemon.buffer_directory().join("dead_letters.jsonl")],
    };
    let _tracer = slow.attach(flow.daemon.id(), &report);
    let ended = || {
        let text = std::fs::read_to_string(&report).unwrap_or_default();
        text.lines().filter(|line| line.contains("= 0 (DELAYED)")).count()
    };
    let blocked = (1..=5).any(|nth| {
        let (poison, healthy) = (nth * 10, nth * 10 + 1);
        let before = ended();
        large(&flow, poison);
        shorten(&flow, poison);
        // The line is written, and its fsync begins.
        wait_for_letters(&flow, usize::try_from(nth).unwrap(), "waiting");
        insert(&flow, healthy);
        wait_for_version(&mut flow, healthy, 1);
        let still_blocked = !flow.published().contains(&version(&poison.to_string(), 3)) && ended() == before;
        wait_for_version(&mut flow, poison, 3);
        still_blocked && ended() > before
    });
    assert!(blocked, "no key was published while a batch was written");
}

#[test]
fn huge_outbox_rows_and_messages_do_not_stop_receiving() {
    let mut flow = shop_with(|settings| "16 MiB".clone_into(&mut settings.max_size));
    flow.start();
    let outbox = |kind: &str, id: &str, name: &str, payload: &str| {
        format!(
            "insert into shop.outbox (aggregatetype, aggregateid, type, payload) values ({kind}, {id}, {name}, {payload})"
        )
    };
    let message =
        |prefix: &str, content: &str| format!("select pg_logical_emit_message(true, {prefix}, {content})");
    let many = "repeat('m', 3000000)";
    for statement in [
        outbox("'order'", "'1'", "'order_seen'", "to_jsonb(repeat(chr(1), 3000000))"),
        outbox("'order'", many, "'order_seen'", "'null'"),
        outbox("'order'", "'1'", many, "'null'"),
        outbox(many, "'1'", "'order_seen'", "'null'"),
        message("'event:order_seen:1'", "repeat('x', 14000000)"),
        message(&format!("'event:' || {many} || ':1'"), "'{}'"),
        message(&format!("'event:order_seen:' || {many}"), "'{}'"),
    ] {
        flow.postgres.execute(&statement);
    }
    for last in ["last", "after a restart"] {
        flow.postgres.execute(&outbox("'order'", &format!("'{last}'"), "'order_seen'", "'null'"));
        eventually("the last event is published", SOON, || {
            flow.records().iter().any(|record| record.key == last).then_some(())
        });
        // Other keys do not wait for them.
        let letters = eventually("the others are dead letters", SOON, || {
            Some(letters(&flow)).filter(|letters| letters.len() >= 3)
        });
        let reasons: Vec<&Value> = letters.iter().map(|letter| &letter["reason"]).collect();
        assert!(reasons.iter().all(|reason| reason.as_str().unwrap().len() < 6_000));
        let id = letters[0]["id"].as_str().unwrap();
        assert!(!run(&flow, &["dlq", "show", id]).is_empty());
        assert!(flow.daemon.terminate().success());
        flow.start();
    }
    assert!(flow.daemon.terminate().success());
}
