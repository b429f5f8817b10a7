//! No room: the log at its limit, a transaction larger than the log, a full disk. The source is paused, publishing goes on,
//! and nothing is lost.

use crate::support::checker::Report;
use crate::support::flow::{DRAINED_WITHIN, Flow};
use crate::support::postgres::{Postgres, Version};
use crate::support::random::seed;
use crate::support::{SOON, eventually};

/// Inserts `count` plates of about 4 KiB in one transaction.
fn fill(flow: &Flow, first: u32, count: u32) {
    flow.postgres.execute(&format!(
        "insert into lab.plates (plate_id, barcode, notes) \
         select n, 'F' || n, repeat('x', 4000) from generate_series({first}, {}) n",
        first + count - 1
    ));
}

fn finish(mut flow: Flow) -> Report {
    flow.wait_until_published();
    let report = flow.check();
    println!("{report}");
    report.assert_clean();
    flow.daemon.assert_quiet(&[
        "source_paused",
        "records_retried",
        "stream_unavailable",
        "stream_not_described",
        "stream_unverified",
    ]);
    assert!(flow.daemon.terminate().success());
    report
}

#[test]
fn full_log_pauses_source_and_loses_nothing() {
    let builder = Postgres::builder(Version::usual()).without_fsync();
    let mut postgres = builder.setting("wal_sender_timeout='10s'").start();
    postgres.create_lab();
    let mut flow = Flow::over(postgres, seed(), |settings| settings.max_size = "16 MiB".to_owned());
    flow.start();
    flow.wait_until_it_moves("before");
    // What is sent without a response is sent again.
    flow.wait_until_drained();
    flow.stub.stop();
    for go in 0..8 {
        fill(&flow, 1 + go * 1_000, 1_000);
    }
    flow.daemon.wait_for_event("source_paused");
    eventually("the metric says so", SOON, || {
        (flow.daemon.metric("forebay_source_paused") == Some(1.0)).then_some(())
    });
    let (bytes, at) = (flow.daemon.log_bytes(), flow.postgres.value("select clock_timestamp()"));
    assert!((8 << 20..=16 << 20).contains(&bytes), "the log has {bytes} bytes");
    // Longer than the server waits for a silent client.
    eventually("the paused connection is kept alive", SOON, || {
        let alive = format!(
            "select count(*) from pg_stat_replication where reply_time > '{at}'::timestamptz + interval '15 s'"
        );
        (flow.postgres.value(&alive) == "1").then_some(())
    });
    assert!(flow.daemon.log_bytes() <= 16 << 20);
    let restarts = flow.daemon.count_events("source_disconnected");
    assert_eq!(restarts, 0, "the connection was lost meanwhile");
    // A stop in order does not wait for room, and what it leaves behind is as full.
    assert!(flow.daemon.terminate().success());
    flow.start();
    flow.daemon.wait_for_event("source_paused");
    flow.stub.restart().unwrap();
    flow.daemon.wait_for_event("source_resumed");
    assert_eq!(finish(flow).duplicates, 0);
}

#[test]
fn transaction_larger_than_log_passes_through() {
    let mut flow = Flow::prepare(seed(), |settings| settings.max_size = "16 MiB".to_owned());
    flow.start();
    flow.wait_until_it_moves("before");
    flow.stub.stop();
    fill(&flow, 1, 10_000);
    flow.daemon.wait_for_event("source_paused");
    let sent = flow.stub.stats().records;
    flow.stub.restart().unwrap();
    let some = flow.stub.wait(DRAINED_WITHIN, |stats| stats.records > sent + 2_000);
    assert!(some, "its first part is published before its end is received");
    // In the middle of it, with nothing of it confirmed.
    flow.daemon.kill9();
    flow.start();
    let mut most = 0;
    let marker = flow.mark();
    eventually("the transaction has passed", DRAINED_WITHIN, || {
        most = most.max(flow.daemon.log_bytes());
        flow.published().iter().any(|change| change.key == marker).then_some(())
    });
    println!("at most {most} bytes in the log, {} bytes resident", flow.daemon.resident());
    assert!(most <= 16 << 20, "the log has had {most} bytes");
    finish(flow);
}

#[test]
fn full_disk_pauses_source_and_loses_nothing() {
    // Room for the checkpoint's 4 MiB and for segments of 6 MiB.
    let mut flow = Flow::prepare(seed(), |settings| settings.largest_file_kib = Some(6 << 10));
    flow.start();
    flow.wait_until_it_moves("before");
    flow.stub.stop();
    for go in 0..3 {
        fill(&flow, 1 + go * 1_000, 1_000);
    }
    let mark = flow.daemon.mark();
    let line = flow.daemon.wait_for_event("source_paused");
    assert!(line.contains("disk full") || line.contains("the log is full"), "{line}");
    flow.stub.restart().unwrap();
    flow.daemon.wait_for_event_since(mark, "source_resumed");
    flow.wait_until_it_moves("after");
    // The same with the disk still full at the next start.
    flow.stub.stop();
    for go in 3..6 {
        fill(&flow, 1 + go * 1_000, 1_000);
    }
    flow.daemon.kill9();
    flow.daemon.start_again();
    flow.daemon.wait_for_event("source_paused");
    flow.stub.restart().unwrap();
    finish(flow);
}
