//! A second instance waits for the slot of the first one, and takes over.

use std::time::Instant;

use crate::support::daemon::Daemon;
use crate::support::eventually;
use crate::support::flow::{DRAINED_WITHIN, Flow};
use crate::support::random::seed;

/// With `never` no volume is shared: the second instance has a directory of its own, and the slot is the lock. The first one goes
/// on for a while under the eyes of the second, so that the slot has moved when it is killed.
#[test]
fn second_instance_takes_over_after_a_kill() {
    let mut flow = Flow::prepare(seed(), |settings| settings.confirm_after = Some("never".to_owned()));
    flow.start();
    flow.wait_until_it_moves("the first instance");
    let mut second = Daemon::prepare(flow.daemon.settings().clone());
    second.start_again();
    let waits = second.wait_for_event("source_unavailable");
    assert!(waits.contains("active"), "{waits}");
    let before = flow.confirmed();
    for _ in 0..3 {
        flow.wait_until_it_moves("the first instance, with a second one");
    }
    eventually("the slot moves", DRAINED_WITHIN, || (flow.confirmed() > before).then_some(()));
    assert!(second.is_running(), "it waits:\n{}", second.log().join("\n"));
    flow.daemon.kill9();
    let killed = Instant::now();
    flow.wait_until_it_moves("the second instance");
    println!(
        "the first event of the second instance came {:.1} s after the kill",
        killed.elapsed().as_secs_f64()
    );
    flow.wait_until_published();
    let report = flow.check();
    assert!(report.is_clean(), "{report:#?}");
    assert!(second.terminate().success());
}
