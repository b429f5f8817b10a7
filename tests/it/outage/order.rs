//! What the service does to the order of a key: numbers that fall are noticed while it runs; a request that lands late leaves
//! a repeat that a reader of the contract drops.

use kinesis_stub::{Fault, Rule};

use super::pack::packed;
use crate::support::checker;
use crate::support::flow::Flow;
use crate::support::random::seed;
use crate::support::{SOON, eventually};

const VIOLATIONS: &str = "forebay_order_violations_total";

#[test]
fn order_violation_is_metric_and_error_without_row() {
    let mut flow = Flow::prepare(seed(), |_| {});
    flow.start();
    flow.postgres.execute("insert into lab.plates (plate_id, barcode) values (123454321, 'SECRET')");
    let update = "update lab.plates set volume_ul = volume_ul + 1 where plate_id = 123454321;";
    flow.postgres.execute(&format!("begin; {} commit;", update.repeat(20)));
    flow.wait_until_published();
    eventually("the metrics are there", SOON, || (flow.daemon.metric(VIOLATIONS)? == 0.0).then_some(()));
    flow.stub.set(Fault::FallingNumbers).unwrap();
    eventually("the violation is counted", SOON, || {
        flow.postgres.execute(&format!("begin; {} commit;", update.repeat(20)));
        (flow.daemon.metric(VIOLATIONS)? > 0.0).then_some(())
    });
    flow.stub.heal();
    let line = flow.daemon.wait_for_event("order_violated");
    for part in
        ["ERROR", "shard=\"shardId-", "before=\"", "after=\"48", "lab.plates.updated.v1", "frame=", "lane="]
    {
        assert!(line.contains(part), "no {part} in {line}");
    }
    assert!(!line.contains("123454321") && !line.contains("SECRET"), "{line}");
    flow.wait_until_published();
    flow.check().assert_clean();
    flow.daemon.assert_quiet(&["order_violated"]);
    assert!(flow.daemon.terminate().success());
}

#[test]
fn late_request_is_dropped_by_consumer_rule() {
    for pack in ["off", "lines"] {
        let mut flow = Flow::prepare(seed(), |settings| packed(settings, pack));
        flow.start();
        flow.postgres.execute("insert into lab.plates (plate_id, barcode) values (7, 'P7')");
        flow.wait_until_published();
        // It lands after what takes its place, which is one or two requests and the probe among them, and a newer event.
        flow.stub.add(Rule::new(Fault::AcceptLate { after_requests: 3 }).keys(["7"]).times(1)).unwrap();
        let update = "update lab.plates set volume_ul = volume_ul + 1 where plate_id = 7;";
        flow.postgres.execute(&format!("begin; {update} {update} commit;"));
        flow.wait_until_published();
        assert_eq!(flow.stub.stats().late, 1, "it has not landed yet");
        assert_eq!(checker::late(&flow.records()), 0);
        flow.postgres.execute(update);
        assert!(flow.stub.wait(SOON, |stats| stats.late == 0), "{:?}", flow.stub.stats());
        flow.wait_until_published();
        let (raw, records) = (flow.check(), flow.records());
        println!("pack = {pack}: {raw}");
        raw.assert_clean();
        assert!(raw.duplicates >= 1 && checker::late(&records) == raw.duplicates, "{raw}");
        let late = checker::change(
            records.last().unwrap().data.split_inclusive(|byte| *byte == b'\n').next().unwrap(),
        );
        assert_eq!(late.unwrap().version, Some(2), "an older event is the last of the stream");
        let view = flow.check_as_consumer();
        view.assert_clean();
        assert_eq!((view.published, view.duplicates), (4, 0));
        flow.daemon.assert_quiet(&["records_retried"]);
        assert!(flow.daemon.terminate().success());
    }
}
