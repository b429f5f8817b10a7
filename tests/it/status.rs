//! What the process says of itself on `/health/ready`, `/status` and `/metrics`, while one of its ends is in trouble.

use std::net::{Ipv4Addr, SocketAddr};

use kinesis_stub::{Fault, Refusal};
use serde_json::Value;

use crate::support::flow::Flow;
use crate::support::postgres::{Postgres, Version};
use crate::support::proxy::{Proxy, Target};
use crate::support::random::seed;
use crate::support::{SOON, eventually};

mod lag;

/// Waits until `/health/ready` says no, with this text.
#[track_caller]
fn wait_until_not_ready(flow: &Flow, text: &str) -> String {
    eventually(&format!("not ready: {text:?}"), SOON, || {
        flow.daemon.ready().err().filter(|reason| reason.contains(text))
    })
}

fn status(flow: &Flow) -> Value {
    serde_json::from_str(&flow.daemon.get("/status").unwrap()).unwrap()
}

/// Fault D5: every record was throttled for 90 s, and the page said ready.
#[test]
fn stream_that_throttles_everything_is_not_ready() {
    let mut flow = Flow::prepare(seed(), |_| {});
    flow.start();
    flow.wait_until_it_moves("all is well");
    flow.wait_until_ready();
    flow.stub.set(Fault::Reject { code: Refusal::Throttled }).unwrap();
    flow.mark();
    let reason = wait_until_not_ready(&flow, "acknowledged nothing");
    assert!(reason.contains("throttled"), "{reason}");
    assert_eq!(flow.daemon.metric("forebay_kinesis_available"), Some(0.0));
    assert!(flow.daemon.metric("forebay_oldest_unpublished_seconds").unwrap() > 10.0);
    assert!(flow.daemon.metric("forebay_publish_stalled_seconds").unwrap() > 10.0);
    let status = status(&flow);
    assert_eq!(
        (&status["ready"], &status["publish"]["available"]),
        (&Value::Bool(false), &Value::Bool(false))
    );
    assert_eq!(status["findings"][0]["subject"], "stream", "{status}");
    flow.stub.heal();
    flow.wait_until_published();
    flow.wait_until_ready();
    let done = || (flow.daemon.metric("forebay_oldest_unpublished_seconds")? == 0.0).then_some(());
    eventually("nothing is unpublished", SOON, done);
}

/// One shard refuses while another accepts: that is not the stream's outage.
#[test]
fn one_refused_key_among_others_stays_ready() {
    let mut flow = Flow::prepare(seed(), |_| {});
    flow.start();
    let refused = flow.mark();
    flow.wait_until_published();
    let throttled = Fault::Reject { code: Refusal::Throttled };
    flow.stub.add(kinesis_stub::Rule::new(throttled).keys([&refused])).unwrap();
    flow.postgres.execute(&format!("update lab.plates set barcode = 'again' where plate_id = {refused}"));
    eventually("it is old, while others go on", SOON, || {
        flow.mark();
        (flow.daemon.metric("forebay_oldest_unpublished_seconds")? > 14.0).then_some(())
    });
    assert_eq!(flow.daemon.ready(), Ok(()));
    assert_eq!(flow.daemon.metric("forebay_kinesis_available"), Some(1.0));
    flow.stub.heal();
    flow.wait_until_published();
}

/// As little as one event a quarter of a minute, longer than it takes to notice an outage: the readiness of each moment counts.
#[test]
fn one_refused_key_under_light_traffic_stays_ready() {
    let mut flow = Flow::prepare(seed(), |_| {});
    flow.start();
    let refused = flow.mark();
    flow.wait_until_published();
    let throttled = Fault::Reject { code: Refusal::Throttled };
    flow.stub.add(kinesis_stub::Rule::new(throttled).keys([&refused])).unwrap();
    flow.postgres.execute(&format!("update lab.plates set barcode = 'again' where plate_id = {refused}"));
    let age = || flow.daemon.metric("forebay_oldest_unpublished_seconds").unwrap_or_default();
    eventually("it is refused", SOON, || (age() > 0.0).then_some(()));
    for next in [16.0, 32.0] {
        let other = flow.mark();
        eventually("another key is published", SOON, || {
            flow.records().iter().any(|record| record.key == other).then_some(())
        });
        eventually("the next event comes late", SOON, || {
            assert_eq!(flow.daemon.ready(), Ok(()));
            (age() > next).then_some(())
        });
    }
    let status = status(&flow);
    let finding = &status["findings"][0];
    assert_eq!(
        (&finding["severity"], &finding["subject"]),
        (&"warning".into(), &"stream".into()),
        "{status}"
    );
    assert!(finding["fact"].as_str().unwrap().contains("keys refused: 1"), "{finding}");
    // An outage of the whole stream is distinguished from it.
    flow.stub.set(Fault::Reject { code: Refusal::Throttled }).unwrap();
    flow.mark();
    wait_until_not_ready(&flow, "acknowledged nothing");
    flow.stub.heal();
    flow.wait_until_published();
    flow.wait_until_ready();
}

/// Fault D5: a database that hangs was noticed after 124 s.
#[test]
fn database_that_hangs_is_not_ready() {
    let postgres = Postgres::lab(Version::usual());
    let target = SocketAddr::from((Ipv4Addr::LOCALHOST, postgres.port()));
    let proxy = Proxy::start(Target::Tcp(target)).unwrap();
    let through = format!("postgres://forebay@{}/lab", proxy.address());
    let mut flow = Flow::over(postgres, seed(), |settings| settings.url = through);
    flow.start();
    flow.wait_until_ready();
    proxy.stall();
    wait_until_not_ready(&flow, "nothing has been received from the database");
    assert!(flow.daemon.metric("forebay_source_silent_seconds").unwrap() > 10.0);
    proxy.resume();
    flow.wait_until_ready();
    flow.wait_until_it_moves("it hangs no longer");
}

/// A quiet database is asked often enough that its silence is never taken for a hang.
#[test]
fn quiet_database_stays_ready() {
    let mut flow = Flow::prepare(seed(), |_| {});
    flow.start();
    flow.wait_until_ready();
    let mut highest = 0.0_f64;
    let mut resets = 0;
    // Three times the server sent something after some silence.
    eventually("the server answers", SOON, || {
        assert_eq!(flow.daemon.ready(), Ok(()));
        let silent = flow.daemon.metric("forebay_source_silent_seconds")?;
        if silent + 1.0 < highest {
            resets += 1;
            highest = 0.0;
        }
        highest = highest.max(silent);
        (resets >= 3).then_some(())
    });
}

/// Every name of `/status`, in order.
const NAMES: [&str; 59] = [
    "buffer.bytes",
    "buffer.disk_free_bytes",
    "buffer.disk_full_in_seconds",
    "buffer.full_in_seconds",
    "buffer.growth_per_second",
    "buffer.max_bytes",
    "buffer.published_position",
    "buffer.received_commit_at",
    "buffer.received_position",
    "buffer.unpublished_frames",
    "findings",
    "heartbeat.every_seconds",
    "heartbeat.last_seconds",
    "heartbeat.loop_seconds",
    "heartbeat.waiting_seconds",
    "ingest.confirmed_at",
    "ingest.confirmed_lsn",
    "ingest.connected",
    "ingest.connected_at",
    "ingest.error",
    "ingest.paused",
    "ingest.paused_at",
    "ingest.silent_seconds",
    "lag.exceeded",
    "lag.exceeded_at",
    "lag.max_seconds",
    "lag.seconds",
    "name",
    "publish.acknowledged_at",
    "publish.available",
    "publish.described",
    "publish.halted",
    "publish.lanes_behind_frames",
    "publish.lanes_behind_seconds",
    "publish.lanes_detached",
    "publish.lanes_paused",
    "publish.oldest_unpublished_commit_at",
    "publish.oldest_unpublished_seconds",
    "publish.reason",
    "publish.requests_in_flight",
    "publish.shard_rate_lowest_bytes",
    "publish.shard_rate_lowest_records",
    "publish.shards_limited",
    "publish.shards_refusing",
    "publish.waiting_seconds",
    "publish.window_bytes",
    "ready",
    "slot.horizon_age_seconds",
    "slot.looked_at",
    "slot.lost_in_seconds",
    "slot.retained_wal_bytes",
    "slot.tables_gone",
    "slot.tables_missing",
    "slot.unconfirmed_wal_bytes",
    "slot.wal_growth_per_second",
    "slot.watched",
    "started_at",
    "uptime_seconds",
    "version",
];

/// Programs read these names.
#[test]
fn status_page_has_stable_names() {
    let mut flow = Flow::prepare(seed(), |_| {});
    flow.start();
    flow.wait_until_it_moves("all is well");
    flow.wait_until_ready();
    eventually("the watchdog has looked", SOON, || {
        status(&flow)["slot"]["looked_at"].is_string().then_some(())
    });
    let status = status(&flow);
    let mut names = Vec::new();
    for (name, value) in status.as_object().unwrap() {
        match value.as_object() {
            Some(part) => names.extend(part.keys().map(|key| format!("{name}.{key}"))),
            None => names.push(name.clone()),
        }
    }
    names.sort();
    assert_eq!(names, NAMES);
    assert_eq!(status["findings"], Value::Array(Vec::new()));
    assert!(flow.daemon.get("/metrics").unwrap().contains("forebay_build_info{version="));
}
