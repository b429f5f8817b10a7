//! The stream refuses in part, throttles, loses answers, accepts late and answers out of order: per key, order holds.

use kinesis_stub::{Fault, Refusal, Rule};

use crate::support::eventually;
use crate::support::flow::{DRAINED_WITHIN, Flow};
use crate::support::random::seed;
use crate::support::workload::Running;

/// Each of these for some requests, under load, in one life of the daemon.
#[test]
fn key_order_holds_under_any_stream_response() {
    let seed = seed();
    let mut flow = Flow::prepare(seed, |_| {});
    flow.start();
    let load = Running::start(&flow.postgres, 3, 30, seed);
    let some = |pattern: &str| Fault::AcceptSome { pattern: pattern.to_owned(), code: Refusal::Throttled };
    let plans: Vec<(&str, Vec<Rule>)> = vec![
        ("partly refused", vec![Rule::new(some("+-")), Rule::new(Fault::Shuffle)]),
        ("mostly refused", vec![Rule::new(some("-+--")).share(0.9)]),
        ("throttled", vec![Rule::new(Fault::Throttle).share(0.5)]),
        ("answers lost", vec![Rule::new(Fault::AcceptThenLoseAnswer).share(0.5)]),
        ("failed after all", vec![Rule::new(Fault::ServerErrorAfter).share(0.5)]),
        ("accepted late", vec![Rule::new(Fault::AcceptLate { after_requests: 3 }).share(0.4)]),
        ("out of order", vec![Rule::new(Fault::Slow { millis: 80 }).share(0.4), Rule::new(Fault::Shuffle)]),
        (
            "everything",
            vec![
                Rule::new(some("++-")).share(0.5),
                Rule::new(Fault::AcceptLate { after_requests: 2 }).share(0.1),
                Rule::new(Fault::AcceptThenLoseAnswer).share(0.1),
                Rule::new(Fault::Reset).share(0.1),
                Rule::new(Fault::Slow { millis: 30 }).share(0.5),
            ],
        ),
    ];
    for (name, rules) in plans {
        let before = flow.stub.stats();
        for rule in rules {
            flow.stub.add(rule).unwrap();
        }
        let struck = flow.stub.wait(DRAINED_WITHIN, |stats| {
            stats.requests.faults >= before.requests.faults + 10 && stats.records >= before.records + 200
        });
        assert!(struck, "{name}: {:?}", flow.stub.stats());
        flow.stub.heal();
    }
    flow.stub.reshard("lab-events", 7).unwrap();
    flow.wait_until_it_moves("after a resharding");
    load.stop();
    flow.wait_until_published();
    let report = flow.check();
    println!("{report}");
    report.assert_clean();
    let consumer = flow.check_as_consumer();
    consumer.assert_clean();
    assert_eq!(consumer.duplicates, 0, "a reader that drops what it has had sees everything once");
    // Refusals of a part of the records are what an overloaded shard gives: its rate falls. On a slow machine what waits for it
    // may fill half of the window, and then its lanes are detached, as they should be. They come back once nothing is refused.
    eventually("all lanes are together", DRAINED_WITHIN, || {
        (flow.daemon.metric("forebay_lanes_detached") == Some(0.0)).then_some(())
    });
    flow.daemon.assert_quiet(&["records_retried", "record_blocked", "stream_unverified", "lanes_detached"]);
    assert!(flow.daemon.terminate().success());
}
