//! The power goes at random moments: nothing is lost, nothing overtakes, and nobody has to adopt. And the proof that the
//! rig would see it: without fsync it does.
//!
//! `POWER_CUTS=n` cuts more often, `SEED=n` repeats the choices.

use super::rig::{Rig, Void};
use super::tracer;
use crate::support::random::seed;

fn rounds(usual: usize) -> usize {
    std::env::var("POWER_CUTS").map_or(usual, |text| text.parse().expect("POWER_CUTS is a number"))
}

#[test]
fn power_cuts_lose_and_reorder_nothing() {
    let cuts = rounds(5);
    let Some(rig) = Rig::prepare(seed()) else { return };
    let summary = rig.run(cuts);
    summary.assert_clean();
}

#[test]
fn power_cut_in_first_start_needs_no_adoption() {
    let cuts = rounds(5);
    let Some(rig) = Rig::prepare(seed()) else { return };
    let summary = rig.run_first_starts(cuts);
    assert_eq!(summary.refused, None);
    summary.report.assert_clean();
}

#[test]
fn missing_fsync_is_found_by_power_cut() {
    if !tracer::is_here() {
        return;
    }
    let seed = seed();
    for (void, says) in [
        (Void::Everything, r#"code="slot_ahead""#),
        (Void::Checkpoint, r#"code="slot_ahead""#),
        (Void::Log, "cannot be read"),
    ] {
        // On a slow machine the kernel may have written everything back by itself: then another cut tries.
        let found = (0..4).any(|_| {
            let Some(rig) = Rig::prepare(seed) else { return true };
            let summary = rig.run_without_fsync(void);
            let refused = summary.refused.as_deref().unwrap_or_default();
            println!("without the fsync of {void:?}: {refused}");
            // Where it starts all the same, what the cut has taken must be missed.
            if summary.refused.is_some() { refused.contains(says) } else { !summary.report.lost.is_empty() }
        });
        assert!(found, "{void:?} was not found");
    }
}
