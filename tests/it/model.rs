//! The model of recovery: random walks over append, fsync, checkpoint, status, answer, release, kill, power cut, restore,
//! promotion and a stuck lane, around the real `Ledger`, `recover`, `admit`, `History` and `Lanes`.
//!
//! No I/O and no time: a walk is its seed. `SEED=n` replays one with its trace, `WALKS=n` walks longer. The model can fail:
//! every planted fault must be found.

mod checks;
mod daemon;
mod disk;
mod ingest;
mod keeper;
mod planted;
mod publish;
mod random;
mod sim;
mod stream;
mod walk;
mod world;

use self::planted::Fault;
use self::walk::walk;

const WALKS: u64 = 2_000;
/// The rarest is found within some thousand walks; all are made only if a fault is not found.
const WALKS_TO_FIND_A_FAULT: u64 = 20_000;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap())
}

#[test]
fn nothing_is_lost_nothing_overtakes_and_nothing_is_refused_for_nothing() {
    if let Some(seed) = number("SEED") {
        if let Err(violation) = walk(seed, None, true) {
            panic!("SEED={seed}: {violation}");
        }
        return;
    }
    for seed in 0..number("WALKS").unwrap_or(WALKS) {
        if let Err(violation) = walk(seed, None, false) {
            panic!("SEED={seed}: {violation}");
        }
    }
}

fn finds(fault: Fault) {
    if let Some(seed) = number("SEED") {
        eprintln!("{fault:?}, SEED={seed}: {:?}", walk(seed, Some(fault), true));
        return;
    }
    let found =
        (0..WALKS_TO_FIND_A_FAULT).find_map(|seed| Some((seed, walk(seed, Some(fault), false).err()?)));
    match found {
        Some((seed, violation)) => eprintln!("{fault:?} found by SEED={seed}: {violation}"),
        None => panic!("{fault:?} was not found in {WALKS_TO_FIND_A_FAULT} walks"),
    }
}

#[test]
fn confirming_before_the_checkpoint_is_durable_is_found() {
    finds(Fault::ConfirmBeforeTheCheckpoint);
}

#[test]
fn confirming_without_raising_told_is_found() {
    finds(Fault::ToldNotRaised);
}

#[test]
fn releasing_before_the_checkpoint_is_durable_is_found() {
    finds(Fault::ReleaseBeforeTheCheckpoint);
}

#[test]
fn keeping_lane_progress_beyond_the_cut_is_found() {
    finds(Fault::LanesBeyondTheCut);
}

#[test]
fn taking_a_found_tail_as_held_is_found() {
    finds(Fault::FoundTailIsHeld);
}

#[test]
fn dropping_repeats_by_lsn_alone_is_found() {
    finds(Fault::DedupeByLsn);
}

#[test]
fn a_reader_that_outlives_its_attempt_is_found() {
    finds(Fault::ReaderOutlivesItsAttempt);
}

#[test]
fn a_checkpoint_before_acceptance_is_found() {
    finds(Fault::LowBeforeAcceptance);
}

#[test]
fn ignoring_the_tip_after_a_restore_is_found() {
    finds(Fault::TipIgnored);
}

#[test]
fn forgetting_what_is_staged_when_connecting_again_is_found() {
    finds(Fault::StagedNotInTip);
}

#[test]
fn taking_a_transaction_of_an_old_epoch_for_the_tip_is_found() {
    finds(Fault::OldEpochInTip);
}

#[test]
fn judging_a_reconnect_by_the_timeline_on_disk_is_found() {
    finds(Fault::StaleTimeline);
}

#[test]
fn confirming_what_another_connection_delivered_is_found() {
    finds(Fault::ConfirmOnAnyConnection);
}

#[test]
fn confirming_a_keepalive_inside_a_transaction_is_found() {
    finds(Fault::KeepaliveInsideCounts);
}

#[test]
fn overlooking_that_the_standby_was_promoted_is_found() {
    finds(Fault::PromotionUnnoticed);
}
