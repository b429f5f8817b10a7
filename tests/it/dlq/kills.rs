//! kill -9 between every two steps of a retry and of a discard: by chance, often.

use std::collections::BTreeSet;
use std::time::Duration;

use kinesis_stub::{Fault, Refusal, Rule};

use super::{event_counts, id, lab, large, letters, run, set_limit, version, wait_for_letters};
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

/// The change was not durable when the process was killed, so it is received again. It could be published now, but a later event of
/// its key is in the stream: it stays a dead letter.
#[test]
fn change_received_again_stays_a_dead_letter() {
    let mut flow = lab(|settings| settings.confirm_after = Some("1h".to_owned()));
    // The watermark stays before what follows.
    let rule = Rule::new(Fault::Reject { code: Refusal::Throttled }).keys(["1"]);
    flow.stub.set(rule).unwrap();
    flow.postgres.execute("insert into lab.plates (plate_id, barcode) values (1, 'P1')");
    flow.postgres.execute(
        "insert into lab.plates (plate_id, barcode, notes) values (5, 'P5', repeat(chr(1), 1800000))",
    );
    let before = wait_for_letters(&flow, 1, "waiting");
    flow.postgres.execute("update lab.plates set notes = 'short' where plate_id = 5");
    eventually("the next version is published", SOON, || {
        flow.published().contains(&version("5", 2)).then_some(())
    });
    flow.daemon.kill9();
    flow.daemon.settings().more.push(("tables".to_owned(), "drop = [\"lab.plates.notes\"]".to_owned()));
    flow.start();
    flow.stub.heal();
    flow.wait_until_it_moves("after the restart");
    let after = wait_for_letters(&flow, 1, "waiting");
    assert_eq!((id(&after[0]), &after[0]["reason"]), (id(&before[0]), &before[0]["reason"]));
    assert!(flow.daemon.terminate().success());
    let report = flow.check();
    assert_eq!(report.lost, [r#"lab.plates "5" Inserted, version 1"#]);
    assert!(report.reordered.is_empty(), "{report}");
    // A retry publishes it.
    assert!(run(&flow, &["dlq", "retry", "--all"]).contains("when the daemon runs again"));
    flow.start();
    wait_for_letters(&flow, 1, "published");
    assert!(flow.published().contains(&version("5", 1)));
    assert!(flow.daemon.terminate().success());
}

/// The same of one event: its rule failed, and was corrected before the restart.
#[test]
fn event_of_a_corrected_rule_stays_a_dead_letter() {
    let rule = |ratio: &str| {
        format!(
            "[[event]]\ntype = \"lab.plate_ratio.v1\"\nabout = \"A ratio.\"\nowner = \"lab\"\nfrom = \"lab.plates\"\n\
             on = \"insert, update\"\ndata = \"plate_id, {ratio} as ratio\"\n"
        )
    };
    let mut flow = Flow::prepare(seed(), |settings| {
        settings.confirm_after = Some("1h".to_owned());
        settings.more.push(("events".to_owned(), "rules = \"ratio.toml\"".to_owned()));
    });
    let file = flow.daemon.home().join("ratio.toml");
    std::fs::write(&file, rule("10 / length(notes)")).unwrap();
    flow.start();
    let throttled = Rule::new(Fault::Reject { code: Refusal::Throttled }).keys(["1"]);
    flow.stub.set(throttled).unwrap();
    flow.postgres.execute(
        "insert into lab.plates (plate_id, barcode, notes) values (1, 'P1', 'x'); \
         insert into lab.plates (plate_id, barcode, notes) values (5, 'P5', '')",
    );
    let before = wait_for_letters(&flow, 1, "waiting");
    assert_eq!(before[0]["type"], "lab.plate_ratio.v1");
    flow.postgres.execute("update lab.plates set notes = 'abc' where plate_id = 5");
    let ratios = |flow: &Flow, plate: &str| -> Vec<i64> {
        let records = flow.records();
        let lines = records.iter().flat_map(|record| record.data.split(|byte| *byte == b'\n'));
        let events = lines.filter_map(|line| serde_json::from_slice::<serde_json::Value>(line).ok());
        let of_plate =
            events.filter(|event| event["type"] == "lab.plate_ratio.v1" && event["subject"] == plate);
        of_plate.map(|event| event["data"]["ratio"].as_i64().unwrap()).collect()
    };
    eventually("the next event is published", SOON, || ratios(&flow, "5").contains(&3).then_some(()));
    flow.daemon.kill9();
    std::fs::write(&file, rule("10 / (length(notes) + 1)")).unwrap();
    flow.start();
    flow.stub.heal();
    flow.postgres.execute("insert into lab.plates (plate_id, barcode, notes) values (6, 'P6', 'x')");
    eventually("what comes later is published", SOON, || ratios(&flow, "6").contains(&5).then_some(()));
    let after = wait_for_letters(&flow, 1, "waiting");
    assert_eq!(id(&after[0]), id(&before[0]));
    assert!(!ratios(&flow, "5").contains(&10), "{:?}", ratios(&flow, "5"));
    run(&flow, &["dlq", "retry", "--all"]);
    wait_for_letters(&flow, 1, "published");
    assert!(ratios(&flow, "5").contains(&10));
    assert!(flow.daemon.terminate().success());
}
