//! A deterministic simulation of the real code: the two loops, the buffer, the checkpointer and recovery run in one thread, on a
//! paused clock, over a scripted source and destination, in a directory in memory.
//!
//! A history is its seed: faults at both ends, failovers, reshardings, and deaths of the process at any of its steps. In the end
//! a consumer by the rule of docs/EVENTS.md must have what the tables have. `SEED=n` replays one history with its trace,
//! `SIMULATIONS=n` runs more (from `SEED` on). The simulation can fail: every planted fault must be found.

mod history;
mod planted;
mod process;
mod reader;
mod rows;
mod shared;
mod source;
mod stream;

use self::history::{Seen, run};
use self::planted::Planted;

/// Histories in a run of the tests.
const SIMULATIONS: u64 = 600;
/// Histories in which a planted fault must be found.
const TO_FIND_A_FAULT: u64 = 2_000;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap())
}

fn replay(seed: u64, planted: Option<Planted>) -> Seen {
    let seen = run(seed, planted, true);
    for line in &seen.trace {
        eprintln!("{line}");
    }
    seen
}

/// Whatever happens at both ends and to the process, the consumer's state is the tables'.
#[test]
fn consumer_ends_with_the_state_of_the_tables() {
    let (given, count) = (number("SEED"), number("SIMULATIONS"));
    if let (Some(seed), None) = (given, count) {
        let seen = replay(seed, None);
        assert_eq!(seen.violation, None, "SEED={seed}");
        return;
    }
    let (first, count) = (given.unwrap_or(0), count.unwrap_or(SIMULATIONS));
    let began = std::time::Instant::now();
    let mut sum = Seen::default();
    for seed in first..first + count {
        let seen = run(seed, None, false);
        if let Some(violation) = seen.violation {
            replay(seed, None);
            panic!("SEED={seed}: {violation}");
        }
        sum.events += seen.events;
        sum.repeats += seen.repeats;
        sum.deaths += seen.deaths;
        sum.adopts += seen.adopts;
    }
    let Seen { events, repeats, deaths, adopts, .. } = sum;
    println!(
        "SUMMARY rounds={count} seconds={} events={events} lost=0 reordered=0 repeats={repeats} \
         duplicates_a_restart={} deaths={deaths} adopts={adopts}",
        began.elapsed().as_secs(),
        repeats / deaths.max(1)
    );
    assert!(events > 0 && repeats > 0 && deaths > 0 && adopts > 0);
}

#[test]
fn same_seed_gives_the_same_trace() {
    for seed in 0..20 {
        assert_eq!(run(seed, None, true), run(seed, None, true), "SEED={seed}");
    }
}

fn finds(planted: Planted) {
    if let Some(seed) = number("SEED") {
        eprintln!("{planted:?}, SEED={seed}: {:?}", replay(seed, Some(planted)).violation);
        return;
    }
    let found =
        (0..TO_FIND_A_FAULT).find_map(|seed| Some((seed, run(seed, Some(planted), false).violation?)));
    match found {
        Some((seed, violation)) => println!("{planted:?} found by SEED={seed}: {violation}"),
        None => panic!("{planted:?} was not found in {TO_FIND_A_FAULT} histories"),
    }
}

#[test]
fn early_confirm_is_found() {
    finds(Planted::ConfirmsWhatIsNotSettled);
}

#[test]
fn early_acknowledgement_is_found() {
    finds(Planted::AcknowledgesBeforeStoring);
}

#[test]
fn ignored_history_is_found() {
    finds(Planted::IgnoresTheHistory);
}

#[test]
fn publishing_unproven_history_is_found() {
    finds(Planted::PublishesUnproven);
}
