//! kill -9 at random moments under load: nothing is lost, nothing overtakes, and the slot is never confirmed past what
//! stream and directory have.
//!
//! `ROUNDS=n` kills more often, `SEED=n` repeats the choices.

mod promise;

use std::time::{Duration, Instant};

use kinesis_stub::{Fault, Refusal, Rule};

use crate::support::flow::Flow;
use crate::support::random::{Random, seed};
use crate::support::workload::Running;
use crate::support::{SOON, eventually, poll};

use self::promise::{Kept, Witness};

/// In one round of so many, Kinesis is away.
const OUTAGE_EVERY: usize = 10;
/// How long a round waits for a confirm.
const PATIENCE: Duration = Duration::from_secs(8);

/// What becomes of the directory at a kill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Directory {
    Stays,
    /// A container's end.
    IsWiped,
}

#[test]
fn kills_lose_and_reorder_nothing() {
    kill("5s", Directory::Stays, 50);
}

#[test]
fn kills_lose_and_reorder_nothing_when_everything_is_held_first() {
    kill("0s", Directory::Stays, 15);
}

#[test]
fn kills_lose_and_reorder_nothing_when_a_second_of_waiting_holds() {
    kill("1s", Directory::Stays, 15);
}

#[test]
fn kills_with_the_directory_wiped_lose_and_reorder_nothing_where_only_the_stream_counts() {
    kill("never", Directory::IsWiped, 20);
}

fn kill(confirm_after: &str, directory: Directory, rounds: usize) {
    let rounds = std::env::var("ROUNDS").map_or(rounds, |text| text.parse().expect("ROUNDS is a number"));
    let seed = seed();
    let mut random = Random::new(seed);
    let began = Instant::now();
    let mut flow = Flow::prepare(seed, |settings| settings.confirm_after = Some(confirm_after.to_owned()));
    let mut witness = Witness::swear(&flow);
    flow.start();
    let mut kept = Kept::default();
    for round in 0..rounds {
        let load = Running::start(&flow.postgres, 3, 20, random.bits());
        if round % OUTAGE_EVERY == OUTAGE_EVERY / 2 && directory == Directory::Stays {
            live_without_kinesis(&flow);
        } else {
            trouble(&flow, &mut random);
            live(&flow, &mut random);
        }
        flow.daemon.kill9();
        load.stop();
        kept += promise::check(&mut flow, &mut witness);
        if directory == Directory::IsWiped && flow.daemon.buffer_directory().exists() {
            flow.daemon.wipe();
        }
        flow.stub.restart().unwrap();
        flow.daemon.start_again();
    }
    flow.stub.heal();
    flow.wait_until_told();
    // What came before may have been told by a daemon that was killed: this one must live before it is stopped.
    flow.wait_until_it_moves("the last daemon");
    assert!(flow.daemon.terminate().success());
    let held_at_a_kill = kept.only_held;
    kept += promise::check(&mut flow, &mut witness);
    let report = flow.check();
    println!(
        "confirm_after {confirm_after}, {rounds} kills in {:?}: {report}; {} duplicates a restart; confirmed: {} changes, \
         {held_at_a_kill} of them only held at a kill",
        began.elapsed(),
        report.duplicates / rounds.max(1),
        kept.promised,
    );
    report.assert_clean();
    assert_eq!(kept.promised, report.committed, "the slot has confirmed everything in the end");
    if directory == Directory::Stays && rounds >= OUTAGE_EVERY {
        assert!(held_at_a_kill > 0, "no kill met changes that only the log had");
    }
}

/// What can be seen from outside, and how.
type Step<'a> = (&'a str, &'a dyn Fn(&Flow) -> bool);

#[test]
fn a_kill_at_any_step_of_the_first_start_leaves_nothing_that_the_next_start_cannot_go_on_from() {
    let mut flow = Flow::prepare(seed(), |_| {});
    let exists = |flow: &Flow, sql: &str| flow.postgres.value(sql) == "1";
    let file = |flow: &Flow, name: &str| flow.daemon.buffer_directory().join(name).exists();
    let steps: [Step<'_>; 6] = [
        ("the directory is there", &|flow| flow.daemon.buffer_directory().exists()),
        ("it is locked", &|flow| {
            std::fs::read_dir(flow.daemon.buffer_directory()).is_ok_and(|d| d.count() > 0)
        }),
        ("the intent is written", &|flow| file(flow, "checkpoint")),
        ("the publication is there", &|flow| exists(flow, "select count(*) from pg_publication")),
        ("the slot is there", &|flow| exists(flow, "select count(*) from pg_replication_slots")),
        ("it receives", &|flow| flow.daemon.log().iter().any(|line| line.contains("receiving"))),
    ];
    for (step, reached) in steps {
        flow.daemon.start_again();
        eventually(step, SOON, || reached(&flow).then_some(()));
        flow.daemon.kill9();
        flow.start();
        flow.wait_until_it_moves(step);
        flow.daemon.assert_quiet(&[
            "cannot start yet",
            "cannot be asked yet",
            "cannot receive yet",
            "is opened again",
        ]);
        assert!(flow.daemon.terminate().success());
        flow.wait_until_slot_is_free();
        flow.postgres.execute("drop publication forebay_lab; select pg_drop_replication_slot('forebay_lab')");
        flow.daemon.wipe();
    }
    flow.check().assert_clean();
}

/// Lets the daemon live for a random time, also less than a start takes; or until it has confirmed something, and a random
/// part of the keeper's second longer.
fn live(flow: &Flow, random: &mut Random) {
    if random.once_in(2) {
        let before = flow.confirmed();
        // With a service that is this bad, it need not happen.
        poll(PATIENCE, || (flow.confirmed() > before).then_some(()));
    }
    let most = *random.pick(&[50, 300, 1_100]);
    let time = Duration::from_millis(random.below(most) as u64);
    let target = flow.stub.stats().records + 5_000;
    flow.stub.wait(time, |stats| stats.records >= target);
}

/// Takes Kinesis away, and lets the daemon live until the slot has passed what was committed meanwhile.
fn live_without_kinesis(flow: &Flow) {
    flow.stub.stop();
    let committed = flow.wal_end();
    eventually("the slot moves without Kinesis", SOON, || (flow.confirmed() > Some(committed)).then_some(()));
}

/// Other faults than in the last round.
fn trouble(flow: &Flow, random: &mut Random) {
    flow.stub.heal();
    let pattern = (*random.pick(&["+-", "-+", "++-", "-", "+--+"])).to_owned();
    let faults = [
        Rule::new(Fault::Reject { code: Refusal::Throttled }).share(0.2),
        Rule::new(Fault::Reject { code: Refusal::InternalFailure }).share(0.1),
        Rule::new(Fault::AcceptSome { pattern, code: Refusal::Throttled }).share(0.3),
        Rule::new(Fault::AcceptThenLoseAnswer).share(0.2),
        Rule::new(Fault::AcceptLate { after_requests: 1 + random.below(4) as u32 }).share(0.1),
        Rule::new(Fault::ServerErrorBefore).share(0.2),
        Rule::new(Fault::ServerErrorAfter).share(0.2),
        Rule::new(Fault::Reset).share(0.2),
        Rule::new(Fault::Throttle).share(0.2),
        Rule::new(Fault::Slow { millis: 50 }).share(0.3),
        Rule::new(Fault::Shuffle),
    ];
    for _ in 0..random.below(4) {
        flow.stub.add(random.pick(&faults).clone()).unwrap();
    }
}
