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
    /// Kinesis: the shard of a hash is split there, which is no 256th.
    Split(u128),
    /// Kinesis: the shard of a hash and the next one become one.
    Merge(u128),
    /// Kinesis: a shard takes 1,000 records and 1 MiB a second from now on.
    Limit,
    /// Line to Kinesis: so many bytes a second.
    SlowLine(u64),
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
    /// Postgres: a table under ACCESS EXCLUSIVE until everything is repaired.
    Lock(&'static str),
    /// Postgres: parameters of the role or the database, drawn with these bits; with the connections cut, or as they are.
    Parameters { of: Owner, bits: u64, cut: bool },
    /// Postgres: so many rows at which a rule fails.
    LetterFlood(u32),
    /// Postgres: a row whose event no stream takes.
    TooLarge,
    /// Kinesis and Postgres: a row whose event this stream refuses always.
    Refused,
    /// The daemon: killed and started again.
    Kill,
    /// The daemon: asked to stop, and started again.
    Stop,
    /// The daemon: SIGSTOP.
    Freeze,
    /// The daemon: SIGCONT.
    Thaw,
}

/// Whose parameters are changed.
#[derive(Clone, Copy, Debug)]
pub enum Owner {
    Role,
    Database,
    RoleInDatabase,
}

/// Tables that are locked.
const TABLES: [&str; 5] = ["lab.plates", "lab.samples", "lab.transfers", "lab.shapes", "lab.letters"];

/// A round.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What happens, and when after the begin; in order.
    pub acts: Vec<(Duration, Act)>,
    /// When everything is repaired.
    pub length: Duration,
    /// Whether the daemon is killed in the end, and what it has confirmed is checked.
    pub ends_in_a_kill: bool,
}

impl Plan {
    /// Faults at both ends, several at once. Of those that need a table, a parameter or a line, each round has the next one, so
    /// that a few rounds have all.
    pub fn draw(random: &mut Random, round: usize) -> Self {
        let length = 1_200 + random.below(1_800);
        let mut acts = in_turn(random, round, length);
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

fn in_turn(random: &mut Random, round: usize, length: usize) -> Vec<(usize, Act)> {
    let at = random.below(length / 2);
    let act = match round % 7 {
        0 => lock(random),
        1 => parameters(random),
        2 => Act::SlowLine(4_000 + random.below(200_000) as u64),
        3 => Act::LetterFlood(100 + random.below(900) as u32),
        4 => return (0..4).flat_map(|_| uneven(random, length)).collect(),
        5 => Act::TooLarge,
        _ => Act::Refused,
    };
    vec![(at, act)]
}

fn lock(random: &mut Random) -> Act {
    Act::Lock(TABLES[random.below(TABLES.len())])
}

fn parameters(random: &mut Random) -> Act {
    let of = *random.pick(&[Owner::Role, Owner::Database, Owner::RoleInDatabase]);
    Act::Parameters { of, bits: random.bits(), cut: random.once_in(2) }
}

/// Boundaries anywhere in the hash range.
fn uneven(random: &mut Random, length: usize) -> Vec<(usize, Act)> {
    let hash = u128::from(random.bits()) << 64 | u128::from(random.bits());
    let act = if random.once_in(3) { Act::Merge(hash) } else { Act::Split(hash) };
    vec![(random.below(length), act)]
}

fn at_kinesis(random: &mut Random, length: usize) -> Vec<(usize, Act)> {
    let at = random.below(length * 2 / 3);
    match random.below(12) {
        0 => vec![(at, Act::Reshard(*random.pick(&[1, 2, 3, 4, 5, 6, 7, 8, 12, 48, 100])))],
        3 => uneven(random, length),
        4 => vec![(at, Act::SlowLine(4_000 + random.below(200_000) as u64))],
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
    match random.below(16) {
        11 => lock(random),
        12 => parameters(random),
        13 => Act::LetterFlood(100 + random.below(900) as u32),
        14 => Act::TooLarge,
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
fn fault_plan_covers_all_faults_and_is_seeded() {
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
        (0..2_000).map(|round| Plan::draw(&mut random, round)).collect()
    };
    let drawn: std::collections::BTreeSet<String> = plans(1).iter().flat_map(words).collect();
    assert_eq!(drawn.len(), 15 + 24, "{drawn:?}");
    assert_eq!(format!("{:?}", plans(1)), format!("{:?}", plans(1)));
    assert_ne!(format!("{:?}", plans(1)), format!("{:?}", plans(2)));
}
