//! kill -9 at random moments under load: nothing is lost, nothing overtakes, and the slot is never confirmed past what
//! stream and directory have.
//!
//! `ROUNDS=n` or `SOAK_SECONDS=n` kill more often, `SEED=n` repeats the choices. A long run is checked in windows.

pub mod promise;

use std::time::Duration;

use kinesis_stub::{Fault, Refusal, Rule};

use crate::soak::figures::{Extent, Figures};
use crate::soak::world::lasting;
use crate::support::daemon::Settings;
use crate::support::flow::Flow;
use crate::support::random::{Random, seed};
use crate::support::workload::Running;
use crate::support::{SOON, eventually, poll};

use self::promise::Recorder;

/// In one round of so many, Kinesis is away.
const OUTAGE_EVERY: usize = 10;
/// How long a round waits for a confirm.
const PATIENCE: Duration = Duration::from_secs(8);
/// Rounds of a window.
const WINDOW: usize = 25;
/// `buffer.max_size` of these daemons, which they never come near.
const LOG_MAX: u64 = 1 << 30;

/// What becomes of the directory at a kill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Directory {
    Stays,
    /// A container's end.
    IsWiped,
}

#[test]
fn kills_lose_and_reorder_nothing() {
    Kills { phase: "kills-5s", confirm_after: &["5s"], directory: Directory::Stays }.run(20);
}

#[test]
fn kills_with_durable_first_lose_and_reorder_nothing() {
    Kills { phase: "kills-0s", confirm_after: &["0s"], directory: Directory::Stays }.run(10);
}

#[test]
fn kills_with_one_second_patience_lose_and_reorder_nothing() {
    Kills { phase: "kills-1s", confirm_after: &["1s"], directory: Directory::Stays }.run(10);
}

#[test]
fn kills_with_wiped_directory_and_never_lose_nothing() {
    Kills { phase: "kills-never", confirm_after: &["never"], directory: Directory::IsWiped }.run(15);
}

#[test]
fn kills_with_changing_confirm_after_lose_nothing() {
    Kills { phase: "kills", confirm_after: &["0s", "1s", "1s", "5s"], directory: Directory::Stays }.run(15);
}

/// A run of kills over one database, one stream and one directory.
struct Kills {
    phase: &'static str,
    /// One of these at each start.
    confirm_after: &'static [&'static str],
    directory: Directory,
}

impl Kills {
    fn run(self, rounds: usize) {
        let seed = seed();
        let mut random = Random::new(seed);
        let extent = Extent::read(rounds);
        let mut figures = Figures::new(self.phase, seed, extent);
        let mut flow = Flow::over(lasting(), seed, |settings| self.choose(settings, &mut random));
        let mut recorder = Recorder::swear(&flow);
        flow.start();
        figures.starts += 1;
        while figures.go_on() {
            self.round(&mut flow, &mut recorder, &mut figures, &mut random);
            figures.next_round();
            flow.stub.restart().unwrap();
            self.choose(flow.daemon.settings(), &mut random);
            flow.daemon.start_again();
            figures.starts += 1;
            if figures.rounds().is_multiple_of(WINDOW) {
                close(&mut flow, &mut figures);
            }
        }
        close(&mut flow, &mut figures);
        // What came before may have been published by a daemon that was killed: this one must live before it is stopped.
        flow.wait_until_it_moves("the last daemon");
        assert!(flow.daemon.terminate().success());
        let durable_at_a_kill = figures.kept.only_durable;
        figures.kept += promise::check(&mut flow, &mut recorder);
        figures.window(flow.close());
        println!("{}", figures.summary());
        let (promised, committed) = (figures.kept.promised, figures.report.committed);
        assert_eq!(promised, committed, "the slot has confirmed everything in the end");
        if self.directory == Directory::Stays && figures.rounds() >= OUTAGE_EVERY {
            assert!(durable_at_a_kill > 0, "no kill hit changes that only the log had");
        }
    }

    fn choose(&self, settings: &mut Settings, random: &mut Random) {
        settings.confirm_after = Some((*random.pick(self.confirm_after)).to_owned());
    }

    /// Load, faults, a kill, and what is left of it.
    fn round(&self, flow: &mut Flow, recorder: &mut Recorder, figures: &mut Figures, random: &mut Random) {
        let settings = flow.daemon.settings().confirm_after.clone().unwrap_or_default();
        let load = Running::start(&flow.postgres, 3, 20, random.bits());
        let outage =
            figures.rounds() % OUTAGE_EVERY == OUTAGE_EVERY / 2 && self.directory == Directory::Stays;
        if outage {
            figures.doing(format!("confirm_after {settings}, without Kinesis"));
            live_without_kinesis(flow);
        } else {
            let faults = trouble(flow, random);
            figures.doing(format!("confirm_after {settings}, {faults:?}"));
            live(flow, random);
        }
        assert!(flow.daemon.is_running(), "it has ended by itself:\n{}", flow.daemon.log().join("\n"));
        figures.measure(&flow.daemon, LOG_MAX);
        flow.daemon.kill9();
        load.stop();
        figures.kept += promise::check(flow, recorder);
        if self.directory == Directory::IsWiped && flow.daemon.buffer_directory().exists() {
            flow.daemon.wipe();
        }
    }
}

/// Nothing is wrong, nobody writes and the daemon was started: all that was committed is published, and the window closed.
fn close(flow: &mut Flow, figures: &mut Figures) {
    figures.doing("everything is to be published");
    flow.stub.heal();
    flow.wait_until_published();
    figures.window(flow.close());
}

/// What can be seen from outside, and how.
type Step<'a> = (&'a str, &'a dyn Fn(&Flow) -> bool);

#[test]
fn kill_during_first_start_is_recovered_by_next_start() {
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
        ("it receives", &|flow| flow.daemon.count_events("receiving") > 0),
    ];
    for (step, reached) in steps {
        flow.daemon.start_again();
        eventually(step, SOON, || reached(&flow).then_some(()));
        flow.daemon.kill9();
        flow.start();
        flow.wait_until_it_moves(step);
        flow.daemon.assert_quiet(&[
            "start_retried",
            "database_unavailable",
            "source_unavailable",
            "source_disconnected",
        ]);
        assert!(flow.daemon.terminate().success());
        flow.wait_until_slot_is_free();
        flow.postgres.execute("drop publication forebay_lab; select pg_drop_replication_slot('forebay_lab')");
        flow.daemon.wipe();
    }
    flow.check().assert_clean();
}

/// Lets the daemon live for a random time, also less than a start takes; or until it has confirmed something, and a random
/// part of the checkpointer's second longer.
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
    // The slot also passes transactions that were rolled back: this one only the log can have.
    flow.mark();
    let committed = flow.wal_end();
    eventually("the slot moves without Kinesis", SOON, || (flow.confirmed() > Some(committed)).then_some(()));
}

/// Other faults than in the last round.
fn trouble(flow: &Flow, random: &mut Random) -> Vec<Rule> {
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
    let drawn: Vec<Rule> = (0..random.below(4)).map(|_| random.pick(&faults).clone()).collect();
    for rule in &drawn {
        flow.stub.add(rule.clone()).unwrap();
    }
    drawn
}
