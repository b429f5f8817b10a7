//! The model of recovery: random walks over append, fsync, checkpoint, status, answer, release, kill, power cut, restore,
//! promotion and a stuck lane, around the real `Ledger`, `recover`, `admit`, `History` and `Lanes`.
//!
//! No I/O and no time: a walk is its seed. `SEED=n` replays one with its trace, `WALKS=n` walks longer. The model can fail:
//! every planted fault must be found.

mod checkpointer;
mod checks;
mod daemon;
mod disk;
mod ingest;
mod planted;
mod publish;
pub mod random;
mod sim;
mod stream;
mod walk;
pub mod world;

use self::planted::Fault;
use self::walk::walk;

const WALKS: u64 = 2_000;
/// The rarest is found within some thousand walks; all are made only if a fault is not found.
const WALKS_TO_FIND_A_FAULT: u64 = 20_000;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap())
}

#[test]
fn model_loses_reorders_and_refuses_nothing() {
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
fn confirm_before_durable_checkpoint_is_found() {
    finds(Fault::ConfirmBeforeTheCheckpoint);
}

#[test]
fn confirm_without_raising_confirmed_lsn_is_found() {
    finds(Fault::ToldNotRaised);
}

#[test]
fn reclaim_before_durable_checkpoint_is_found() {
    finds(Fault::ReleaseBeforeTheCheckpoint);
}

#[test]
fn keeping_lane_progress_beyond_truncation_is_found() {
    finds(Fault::LanesBeyondTheCut);
}

#[test]
fn treating_found_tail_as_durable_is_found() {
    finds(Fault::FoundTailIsHeld);
}

#[test]
fn deduplication_by_lsn_alone_is_found() {
    finds(Fault::DedupeByLsn);
}

#[test]
fn reader_outliving_its_attempt_is_found() {
    finds(Fault::ReaderOutlivesItsAttempt);
}

#[test]
fn checkpoint_before_acceptance_is_found() {
    finds(Fault::LowBeforeAcceptance);
}

#[test]
fn ignoring_last_seen_after_restore_is_found() {
    finds(Fault::TipIgnored);
}

#[test]
fn forgetting_staged_frames_on_reconnect_is_found() {
    finds(Fault::StagedNotInTip);
}

#[test]
fn taking_old_epoch_for_last_seen_is_found() {
    finds(Fault::OldEpochInTip);
}

#[test]
fn judging_reconnect_by_timeline_on_disk_is_found() {
    finds(Fault::StaleTimeline);
}

#[test]
fn confirming_other_connections_delivery_is_found() {
    finds(Fault::ConfirmOnAnyConnection);
}

#[test]
fn confirming_keepalive_inside_transaction_is_found() {
    finds(Fault::KeepaliveInsideCounts);
}

#[test]
fn overlooked_standby_promotion_is_found() {
    finds(Fault::PromotionUnnoticed);
}

#[test]
fn publishing_before_proof_is_found() {
    finds(Fault::PublishesUnproven);
}
