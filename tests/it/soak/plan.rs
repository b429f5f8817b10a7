//! What goes wrong in a round of the mixed faults, and when. Drawn from the seed, before the round begins.

use std::time::Duration;

use kinesis_stub::{Fault, Refusal, Rule};

use crate::support::postgres::Stop;
use crate::support::proxy::Direction;
use crate::support::random::Random;

/// One thing that happens to one of the three.
#[derive(Clone, Debug)]
pub enum Act {
    /// Kinesis: one more rule.
    Rule(Rule),
    /// Kinesis: so many equal shards, at once.
    Reshard(u32),
    /// Kinesis: a shard takes 1,000 records and 1 MiB a second from now on.
    Limit,
    /// Kinesis: every connection closed, new ones refused.
    KinesisGone,
    /// Kinesis: takes connections again.
    KinesisBack,
    /// Line to Postgres: cut at once.
    Cut,
    /// Line to Postgres: cut after so many bytes, in the middle of a frame.
    CutAfter(u64),
    /// Line to Postgres: nothing passes; the bytes are kept.
    Stall,
    /// Line to Postgres: what goes one way is thrown away.
    HalfOpen(Direction),
    /// Line to Postgres: so many bytes a second.
    Slow(u64),
    /// Line to Postgres: cut, and no new one.
    Refuse,
    /// Postgres: the walsender is terminated.
    Walsender,
    /// Postgres: stopped without ceremony and started; `None`: killed.
    Restart(Option<Stop>),
    /// Postgres: a transaction larger than the smaller log.
    Flood,
    /// The daemon: killed and started again.
    Kill,
    /// The daemon: asked to stop, and started again.
    Stop,
    /// The daemon: SIGSTOP.
    Freeze,
    /// The daemon: SIGCONT.
    Thaw,
}

/// A round.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What happens, and when after the begin; in order.
    pub acts: Vec<(Duration, Act)>,
    /// When everything is mended.
    pub length: Duration,
    /// Whether the daemon is killed in the end, and what it has confirmed is checked.
    pub ends_in_a_kill: bool,
}

impl Plan {
    /// Faults at both ends, several at once.
    pub fn draw(random: &mut Random) -> Self {
        let length = 1_200 + random.below(1_800);
        let mut acts = Vec::new();
        for _ in 0..=random.below(3) {
            acts.extend(at_kinesis(random, length));
        }
        for _ in 0..=random.below(2) {
            acts.push((random.below(length), at_postgres(random)));
        }
        if random.once_in(3) {
            acts.extend(to_the_daemon(random, length));
        }
        acts.sort_by_key(|(at, _)| *at);
        let time = |millis: usize| Duration::from_millis(millis as u64);
        let acts = acts.into_iter().map(|(at, act)| (time(at), act)).collect();
        Self { acts, length: time(length), ends_in_a_kill: random.once_in(2) }
    }
}

fn at_kinesis(random: &mut Random, length: usize) -> Vec<(usize, Act)> {
    let at = random.below(length * 2 / 3);
    match random.below(10) {
        0 => vec![(at, Act::Reshard(1 + random.below(8) as u32))],
        1 => vec![(at, Act::Limit)],
        2 => vec![(at, Act::KinesisGone), (at + random.below(length), Act::KinesisBack)],
        _ => vec![(at, Act::Rule(rule(random)))],
    }
}

/// Any fault of the stub, more or less often.
fn rule(random: &mut Random) -> Rule {
    let pattern = (*random.pick(&["+-", "-+", "++-", "-", "+--+"])).to_owned();
    let some = |code| Fault::AcceptSome { pattern: pattern.clone(), code };
    let faults = [
        (Fault::Reject { code: Refusal::Throttled }, 0.4),
        (Fault::Reject { code: Refusal::InternalFailure }, 0.2),
        (some(Refusal::Throttled), 0.5),
        (some(Refusal::InternalFailure), 0.3),
        (Fault::AcceptThenLoseAnswer, 0.3),
        (Fault::AcceptLate { after_requests: 1 + random.below(4) as u32 }, 0.2),
        (Fault::Hold, 0.1),
        (Fault::HoldAnswer, 0.1),
        (Fault::ServerErrorBefore, 1.0),
        (Fault::ServerErrorAfter, 0.3),
        (Fault::Reset, 0.3),
        (Fault::Hang, 0.1),
        (Fault::Throttle, 0.4),
        (Fault::Slow { millis: 10 + random.below(200) as u64 }, 0.7),
        (Fault::Shuffle, 1.0),
        (Fault::ExpiredCredentials, 1.0),
        (Fault::Error { status: 400, code: "AccessDeniedException".to_owned() }, 0.2),
        (Fault::Error { status: 400, code: "KMSThrottlingException".to_owned() }, 0.3),
    ];
    let (fault, share) = random.pick(&faults).clone();
    let rule = Rule::new(fault).share(share);
    if random.once_in(4) {
        let first = random.below(256) as u8;
        return rule.lanes(first..=first.saturating_add(64));
    }
    rule
}

fn at_postgres(random: &mut Random) -> Act {
    match random.below(12) {
        0 | 1 => Act::Cut,
        2 | 3 => Act::CutAfter(1 + random.below(60_000) as u64),
        4 => Act::Stall,
        5 => Act::HalfOpen(Direction::ToClient),
        6 => Act::HalfOpen(Direction::ToTarget),
        7 => Act::Slow(2_000 + random.below(50_000) as u64),
        8 => Act::Refuse,
        9 => Act::Walsender,
        10 => Act::Restart(if random.once_in(2) { Some(Stop::Immediate) } else { None }),
        _ => Act::Flood,
    }
}

fn to_the_daemon(random: &mut Random, length: usize) -> Vec<(usize, Act)> {
    let at = random.below(length);
    match random.below(4) {
        0 => vec![(at, Act::Stop)],
        1 => vec![(at, Act::Freeze), (at + random.below(length), Act::Thaw)],
        _ => vec![(at, Act::Kill)],
    }
}

#[test]
fn every_fault_is_drawn_and_the_same_seed_draws_the_same() {
    let words = |plan: &Plan| -> Vec<String> {
        let word = |text: String| text.split(|c: char| !c.is_alphanumeric()).next().unwrap().to_owned();
        let names = plan.acts.iter().map(|(_, act)| match act {
            Act::Rule(rule) => word(format!("{:?}", rule.fault)),
            act => word(format!("{act:?}")),
        });
        names.collect()
    };
    let plans = |seed| -> Vec<Plan> {
        let mut random = Random::new(seed);
        (0..2_000).map(|_| Plan::draw(&mut random)).collect()
    };
    let drawn: std::collections::BTreeSet<String> = plans(1).iter().flat_map(words).collect();
    assert_eq!(drawn.len(), 15 + 16, "{drawn:?}");
    assert_eq!(format!("{:?}", plans(1)), format!("{:?}", plans(1)));
    assert_ne!(format!("{:?}", plans(1)), format!("{:?}", plans(2)));
}
