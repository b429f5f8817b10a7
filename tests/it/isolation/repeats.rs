//! What a restart repeats while a shard rejects everything: nothing that the checkpoint knows, whatever `confirm_after` is.
//!
//! The load is light, so that the window of the rejected records never fills and their lanes stay with the others.

use super::{BATCH, Load, STUCK, knows};
use crate::support::flow::{DRAINED_WITHIN, Flow};
use crate::support::random::seed;
use crate::support::{SOON, eventually};
use forebay::position::FrameNo;
use kinesis_stub::{Fault, Refusal, Rule};

/// A flow whose healthy shards have everything of a light load, and whose first shard has nothing.
fn ahead(confirm_after: &str) -> (Flow, Load) {
    let mut flow = Flow::prepare(seed(), |settings| settings.confirm_after = Some(confirm_after.to_owned()));
    flow.start();
    flow.stub.set(Rule::new(Fault::Reject { code: Refusal::Throttled }).lanes(STUCK)).unwrap();
    let mut load = Load { plates: 0, healthy: 0 };
    load.insert(&flow, BATCH);
    load.wait_until_the_healthy_have_all(&flow);
    (flow, load)
}

/// Starts again, and counts what has come twice once the shard is healed and everything has come.
fn repeats(mut flow: Flow, mut load: Load) -> usize {
    flow.start();
    load.insert(&flow, BATCH);
    eventually("new plates arrive", DRAINED_WITHIN, || {
        (flow
            .published()
            .iter()
            .filter(|change| change.key.parse::<u64>().is_ok_and(|key| key > BATCH))
            .count()
            > 0)
        .then_some(())
    });
    flow.stub.heal();
    flow.wait_until_published();
    let report = flow.check();
    report.assert_clean();
    report.duplicates
}

#[test]
fn clean_stop_with_never_repeats_nothing_of_healthy_shards() {
    let (mut flow, load) = ahead("never");
    assert!(flow.daemon.terminate().success());
    assert_eq!(repeats(flow, load), 0);
}

#[test]
fn kill_repeats_no_noted_event_of_healthy_shards() {
    for confirm_after in ["never", "60s"] {
        let (mut flow, load) = ahead(confirm_after);
        eventually("the checkpoint knows it", SOON, || knows(&flow, FrameNo(load.plates)).then_some(()));
        flow.daemon.kill9();
        assert_eq!(repeats(flow, load), 0, "{confirm_after}");
    }
}
