//! How late events are, as the daemon and the stream say it, and the heartbeat that proves the loop.

use std::collections::BTreeMap;

use kinesis_stub::{Fault, Refusal};
use serde_json::Value;

use super::status;
use crate::support::flow::Flow;
use crate::support::random::seed;
use crate::support::{SOON, eventually};

/// The distinct events about the stream itself under a key, by `sequence`.
fn notices(flow: &Flow, key: &str) -> BTreeMap<String, Value> {
    let records = flow.records();
    let of_key = records.iter().filter(|record| record.key == key);
    let events = of_key.map(|record| serde_json::from_slice::<Value>(&record.data).unwrap());
    events.map(|event| (event["sequence"].as_str().unwrap().to_owned(), event)).collect()
}

/// An outage, a kill in it, and the end: one announcement, one recovery, in the order of their sequences. Meanwhile, and
/// without any change of a table, the heartbeat goes round.
#[test]
fn lag_is_announced_once_through_a_kill() {
    let mut flow = Flow::prepare(seed(), |settings| {
        for (section, line) in
            [("", "max_lag = \"6s\""), ("events", "lag = true"), ("source", "heartbeat = \"1s\"")]
        {
            settings.more.push((section.to_owned(), line.to_owned()));
        }
    });
    flow.start();
    eventually("the heartbeat goes round", SOON, || {
        let status = status(&flow);
        (status["heartbeat"]["loop_seconds"].as_f64()? > 0.0 && status["lag"]["exceeded"] == false)
            .then_some(())
    });
    let heartbeats = notices(&flow, "urn:forebay:lab:heartbeat");
    let first = heartbeats.values().next().unwrap();
    assert_eq!((&first["type"], &first["data"]["number"]), (&"forebay.heartbeat.v1".into(), &1.into()));
    assert!(flow.daemon.metric("forebay_heartbeat_loop_seconds").unwrap() > 0.0);
    assert!(notices(&flow, "urn:forebay:lab").is_empty());

    flow.stub.set(Fault::Reject { code: Refusal::Throttled }).unwrap();
    flow.mark();
    flow.daemon.wait_for_event("lag_exceeded");
    eventually("the announcement is in the log, behind the change and a heartbeat", SOON, || {
        (status(&flow)["buffer"]["unpublished_frames"].as_u64()? >= 3).then_some(())
    });
    assert_eq!(flow.daemon.metric("forebay_lag_exceeded"), Some(1.0));
    let findings = status(&flow)["findings"].to_string();
    assert!(findings.contains("catching up: events have been late by more than 6s"), "{findings}");
    flow.daemon.kill9();
    flow.start();
    eventually("the new process knows of it", SOON, || {
        (flow.daemon.metric("forebay_lag_exceeded")? > 0.0).then_some(())
    });
    flow.stub.heal();
    flow.daemon.wait_for_event("lag_recovered");
    let before = eventually("the recovery is published", SOON, || {
        Some(notices(&flow, "urn:forebay:lab")).filter(|found| found.len() >= 2)
    });
    let published: Vec<_> = before.values().collect();
    let types: Vec<_> = published.iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(types, ["forebay.lag_exceeded.v1", "forebay.lag_recovered.v1"]);
    assert_eq!(
        (&published[0]["data"]["max_lag_seconds"], &published[1]["data"]["max_lag_seconds"]),
        (&6.into(), &6.into())
    );
    assert_eq!(published[1]["data"]["exceeded_at"], published[0]["time"]);
    assert_eq!(flow.daemon.metric("forebay_lag_exceeded"), Some(0.0));
    flow.wait_until_published();
    let report = flow.check();
    assert!(report.is_clean(), "{report:#?}");
}
