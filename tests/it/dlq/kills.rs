//! kill -9 between every two steps of a retry and of a discard: by chance, often.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{event_counts, id, large, letters, run, set_limit};
use crate::support::flow::Flow;
use crate::support::random::{Random, seed};
use crate::support::{SOON, eventually, poll};

/// A retry takes about two seconds, most of which it waits for the checkpoint.
const LIFE_MS: usize = 3_000;

/// The letter that is waiting and that nobody has decided about.
fn newest(flow: &Flow, known: &BTreeSet<String>) -> String {
    eventually("the new letter is listed", SOON, || {
        letters(flow).iter().map(id).find(|id| !known.contains(id))
    })
}

#[test]
fn kills_lose_no_decision_and_event_counts_balance() {
    let rounds = std::env::var("ROUNDS").map_or(8, |text| text.parse().expect("ROUNDS is a number"));
    let seed = seed();
    let mut random = Random::new(seed);
    let mut flow = Flow::prepare(seed, |settings| settings.confirm_after = Some("1s".to_owned()));
    let (mut known, mut discarded) = (BTreeSet::new(), BTreeSet::new());
    for plate in 1..=rounds {
        // What is quarantined now is published by this round's retry, or by one after a kill.
        set_limit(&flow, 1024);
        flow.start();
        large(&flow, plate);
        let letter = newest(&flow, &known);
        if random.once_in(3) {
            run(&flow, &["dlq", "discard", &letter, "--reason", "by lot"]);
            discarded.insert(format!("lab.plates \"{plate}\" Updated, version 2"));
        } else {
            set_limit(&flow, 2048);
            run(&flow, &["dlq", "retry", &letter]);
        }
        known.insert(letter);
        let life = Duration::from_millis(random.below(LIFE_MS) as u64);
        // It may be killed at any time: nothing is waited for.
        let nothing: Option<()> = poll(life, || None);
        assert!(nothing.is_none());
        flow.daemon.kill9();
    }
    set_limit(&flow, 2048);
    flow.start();
    // What was retried while the stream took less is a dead letter again.
    eventually("every letter is published or discarded", SOON, || {
        let open: Vec<_> = letters(&flow)
            .into_iter()
            .filter(|letter| letter["since"].is_null() || letter["state"] == "waiting")
            .collect();
        if open.iter().any(|letter| letter["requested"].is_null() && letter["state"] == "waiting") {
            run(&flow, &["dlq", "retry", "--all"]);
        }
        letters(&flow)
            .iter()
            .all(|letter| letter["state"] == "published" || letter["state"] == "discarded")
            .then_some(())
    });
    assert_eq!(letters(&flow).len(), known.len(), "no letter has become two");
    let given_up = discarded.len() as u64;
    let event_counts = event_counts(&flow);
    assert_eq!(event_counts["lab.plates.updated.v1"], (rounds - given_up, given_up), "{event_counts:?}");
    assert_eq!(event_counts["lab.plates.inserted.v1"], (rounds, 0));
    assert!(flow.daemon.terminate().success());
    let report = flow.check();
    assert_eq!(report.lost.iter().cloned().collect::<BTreeSet<_>>(), discarded, "{report}");
    assert!(report.reordered.is_empty() && report.altered.is_empty(), "{report}");
}
