//! `kinesis.pack = "lines"`: a hot key leaves in few records, and what a reader gets is the same.

use kinesis_stub::{Fault, Refusal, Rule};

use crate::support::daemon::Settings;
use crate::support::flow::{DRAINED_WITHIN, Flow};
use crate::support::random::seed;
use crate::support::workload::Running;
use crate::support::{SOON, eventually, poll};

pub(super) fn packed(settings: &mut Settings, pack: &str) {
    settings.more.push(("kinesis".to_owned(), format!("pack = {pack:?}")));
}

/// Lines of each record of this key.
fn lines_of(flow: &Flow, key: &str) -> Vec<usize> {
    let records = flow.records();
    let of_key = records.iter().filter(|record| record.key == key);
    of_key.map(|record| record.data.split_inclusive(|byte| *byte == b'\n').count()).collect()
}

#[test]
fn hot_key_backlog_is_packed_only_if_enabled() {
    for pack in ["lines", "off"] {
        let mut flow = Flow::prepare(seed(), |settings| packed(settings, pack));
        flow.start();
        flow.stub.set(Rule::new(Fault::HoldAnswer).times(1)).unwrap();
        flow.postgres.execute("insert into lab.plates (plate_id, barcode) values (7, 'P7')");
        assert!(flow.stub.wait(SOON, |stats| stats.held == 1));
        let update = "update lab.plates set volume_ul = volume_ul + 1 where plate_id = 7;";
        flow.postgres.execute(&format!("begin; {} commit;", update.repeat(200)));
        eventually("all of them wait", SOON, || {
            (flow.daemon.metric("forebay_log_frames_unpublished")? >= 200.0).then_some(())
        });
        flow.stub.release();
        flow.wait_until_published();
        flow.check().assert_clean();
        let lines = lines_of(&flow, "7");
        println!("pack = {pack}: {lines:?}");
        let events = eventually("they are counted", SOON, || {
            flow.daemon.metric("forebay_events_accepted_total").filter(|events| *events >= 201.0)
        });
        let records = flow.daemon.metric("forebay_records_accepted_total").unwrap();
        if pack == "lines" {
            assert!(lines.len() < 100 && lines.iter().any(|lines| *lines > 50), "{lines:?}");
            assert!(records < 100.0, "{records} records, {events} events");
        } else {
            assert!(lines.iter().all(|lines| *lines == 1), "{lines:?}");
            assert_eq!(records.to_bits(), events.to_bits());
        }
        let largest = flow.records().iter().map(|record| record.key.len() + record.data.len()).max();
        assert!(largest.unwrap() <= forebay::sink::pacing::PACK_BYTES, "{largest:?}");
        assert!(flow.daemon.terminate().success());
    }
}

#[test]
fn key_order_holds_packed_or_not() {
    let seed = seed();
    let mut flow = Flow::prepare(seed, |settings| packed(settings, "lines"));
    flow.start();
    let load = Running::start(&flow.postgres, 2, 30, seed);
    for rule in [
        Rule::new(Fault::AcceptSome { pattern: "++-".to_owned(), code: Refusal::Throttled }).share(0.5),
        Rule::new(Fault::AcceptLate { after_requests: 2 }).share(0.1),
        Rule::new(Fault::AcceptThenLoseAnswer).share(0.1),
        Rule::new(Fault::Reset).share(0.1),
        Rule::new(Fault::Slow { millis: 30 }).share(0.5),
    ] {
        flow.stub.add(rule).unwrap();
    }
    let mut session = flow.postgres.session("postgres");
    // The workload may delete it: then it comes again.
    let update = "insert into lab.plates (plate_id, barcode) values (0, 'hot') \
                  on conflict (plate_id) do update set volume_ul = lab.plates.volume_ul + 1;";
    let (mut faults, mut packed) = (0, 0);
    let enough = poll(DRAINED_WITHIN, || {
        session.execute(&format!("begin; {} commit;", update.repeat(20)));
        packed = lines_of(&flow, "0").iter().filter(|lines| **lines > 1).count();
        faults = flow.stub.stats().requests.faults;
        (faults >= 30 && packed >= 5).then_some(())
    });
    assert!(enough.is_some(), "{faults} faults, {packed} packed records: {:?}", flow.stub.stats());
    flow.stub.heal();
    flow.stub.reshard("lab-events", 7).unwrap();
    flow.wait_until_it_moves("after a resharding");
    load.stop();
    // A clean stop and a start in between: what comes again may be packed otherwise.
    assert!(flow.daemon.terminate().success());
    flow.start();
    flow.wait_until_published();
    let report = flow.check();
    println!("{report}");
    report.assert_clean();
    let view = flow.check_as_consumer();
    view.assert_clean();
    assert_eq!(view.duplicates, 0);
    flow.daemon.assert_quiet(&["records_retried"]);
    assert!(flow.daemon.terminate().success());
}
