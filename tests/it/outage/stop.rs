//! A stop in order: within 5 s whatever the ends do, and the next start repeats nothing that was answered.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use kinesis_stub::{Fault, Refusal, Rule};

use crate::support::SOON;
use crate::support::flow::Flow;
use crate::support::postgres::{Postgres, Stop, Version};
use crate::support::process::Signal;
use crate::support::proxy::{Proxy, Target};
use crate::support::random::seed;
use crate::support::stopwatch::Stopwatch;
use crate::support::workload::Running;

/// What it promises, and what a busy machine may add.
const STOPS_WITHIN: Duration = Duration::from_secs(6);

#[track_caller]
fn terminate(flow: &mut Flow) -> Duration {
    let watch = Stopwatch::start();
    let status = flow.daemon.terminate();
    let took = watch.elapsed();
    assert!(status.success(), "{status}");
    assert!(took < STOPS_WITHIN, "it took {took:?}\n{}", flow.daemon.log().join("\n"));
    took
}

#[test]
fn clean_restart_repeats_no_acknowledged_event() {
    let seed = seed();
    let mut flow = Flow::prepare(seed, |_| {});
    flow.start();
    let refused_always = flow.mark();
    let refuse = Fault::Reject { code: Refusal::Throttled };
    flow.stub.add(Rule::new(refuse.clone()).keys([&refused_always])).unwrap();
    flow.stub.add(Rule::new(refuse).share(0.1)).unwrap();
    flow.stub.add(Rule::new(Fault::Slow { millis: 20 }).share(0.3)).unwrap();
    let load = Running::start(&flow.postgres, 3, 30, seed);
    for round in 0..6 {
        let target = flow.stub.stats().records + 300;
        assert!(flow.stub.wait(SOON, |stats| stats.records >= target), "nothing comes");
        let took = terminate(&mut flow);
        println!("round {round}: {} records, stopped in {took:?}", flow.stub.stats().records);
        flow.daemon.wait_for_event("clean_shutdown");
        flow.start();
    }
    assert!(!flow.published().iter().any(|change| change.key == refused_always));
    load.stop();
    flow.stub.heal();
    flow.wait_until_published();
    terminate(&mut flow);
    let report = flow.check();
    println!("{report}");
    report.assert_clean();
    assert_eq!(report.duplicates, 0, "no answer was lost, so nothing is repeated");
}

#[test]
fn second_interrupt_exits_at_once() {
    let seed = seed();
    let mut flow = Flow::prepare(seed, |_| {});
    flow.start();
    flow.stub.set(Fault::HoldAnswer).unwrap();
    flow.mark();
    assert!(flow.stub.wait(SOON, |stats| stats.held > 0), "nothing was sent");
    flow.daemon.signal(Signal::INT);
    flow.daemon.wait_for_event("shutdown_started");
    let watch = Stopwatch::start();
    flow.daemon.signal(Signal::INT);
    let status = flow.daemon.wait();
    let took = watch.elapsed();
    println!("ended after {took:?}");
    assert_eq!(status.code(), Some(130));
    // A first one alone would have waited 3 s for the answer.
    assert!(took < Duration::from_secs(2));
    flow.stub.heal();
    flow.start();
    flow.wait_until_published();
    flow.check().assert_clean();
}

#[test]
fn sigterm_exits_in_time_with_both_ends_silent() {
    let seed = seed();
    let postgres = Postgres::lab(Version::usual());
    let target = SocketAddr::from((Ipv4Addr::LOCALHOST, postgres.port()));
    let proxy = Proxy::start(Target::Tcp(target)).unwrap();
    let through = format!("postgres://forebay@{}/lab", proxy.address());
    let mut flow = Flow::over(postgres, seed, |settings| settings.url = through);
    flow.start();
    flow.stub.set(Rule::new(Fault::Hang).operations(["*"])).unwrap();
    flow.mark();
    assert!(flow.stub.wait(SOON, |stats| stats.requests.faults > 0), "nothing was sent");
    proxy.stall();
    println!("both silent: stopped in {:?}", terminate(&mut flow));
    // And before it has ever been connected.
    flow.daemon.start_again();
    flow.daemon.wait_for_event("starting");
    println!("not connected: stopped in {:?}", terminate(&mut flow));
    proxy.resume();
    proxy.cut();
    flow.stub.heal();
    flow.start();
    flow.wait_until_published();
    flow.postgres.stop(Stop::Fast);
    println!("Postgres gone: stopped in {:?}", terminate(&mut flow));
    flow.postgres.start_again();
    flow.check().assert_clean();
}
