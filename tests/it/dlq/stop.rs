//! `on_poison = "stop"`: a person's decision is enough, no restart.

use kinesis_stub::{Fault, Rule};
use serde_json::Value;

use super::{event_counts, id, lab, large, letters, run, set_limit, version, wait_for_letters};
use crate::support::eventually;
use crate::support::flow::{DRAINED_WITHIN, Flow};

fn stopped() -> Flow {
    let mut flow = lab(|settings| settings.more.push((String::new(), "on_poison = \"stop\"".to_owned())));
    large(&flow, 5);
    flow.postgres.execute("update lab.plates set notes = 'short' where plate_id = 5");
    flow.daemon.wait_for_event("publishing_stopped");
    wait_for_metric(&flow, 1.0);
    assert!(!flow.published().contains(&version("5", 3)));
    flow
}

fn wait_for_metric(flow: &Flow, value: f64) {
    let shown =
        || flow.daemon.metric("forebay_publishing_halted").filter(|shown| (shown - value).abs() < 0.1);
    eventually("the metric shows it", crate::support::SOON, || shown().map(drop));
}

/// Later versions of the key leave once the record that halted publishing is decided about; events of other keys may leave first.
#[track_caller]
fn wait_for_last_version(flow: &mut Flow) {
    eventually("the last version is published", crate::support::SOON, || {
        flow.published().contains(&version("5", 3)).then_some(())
    });
}

fn halted(flow: &Flow) -> String {
    let [letter] = <[Value; 1]>::try_from(wait_for_letters(flow, 1, "halted")).unwrap();
    id(&letter)
}

#[test]
fn discard_resumes_publishing_and_survives_restart() {
    let mut flow = stopped();
    let id = halted(&flow);
    run(&flow, &["dlq", "discard", &id, "--reason", "nobody needs it"]);
    flow.wait_until_it_moves("after the discard");
    wait_for_last_version(&mut flow);
    wait_for_metric(&flow, 0.0);
    wait_for_letters(&flow, 1, "discarded");
    assert_eq!(event_counts(&flow)["lab.plates.updated.v1"], (1, 1));
    let report = flow.check();
    assert_eq!(report.lost, [r#"lab.plates "5" Updated, version 2"#]);
    assert!(report.reordered.is_empty(), "{report}");
    assert!(flow.daemon.terminate().success());
}

#[test]
fn discard_before_kill_is_applied_by_next_start() {
    let mut flow = stopped();
    let id = halted(&flow);
    flow.daemon.kill9();
    run(&flow, &["dlq", "discard", &id, "--reason", "nobody needs it"]);
    flow.start();
    flow.wait_until_it_moves("after the start");
    wait_for_letters(&flow, 1, "discarded");
    wait_for_last_version(&mut flow);
    assert!(flow.daemon.terminate().success());
}

#[test]
fn retry_of_halting_letter_keeps_order() {
    let mut flow = stopped();
    let id = halted(&flow);
    let mark = flow.daemon.mark();
    run(&flow, &["dlq", "retry", &id]);
    flow.daemon.wait_for_event_since(mark, "publishing_stopped");
    assert_eq!(halted(&flow), id);
    set_limit(&flow, 2048);
    run(&flow, &["dlq", "retry", &id]);
    flow.wait_until_it_moves("after the retry");
    wait_for_letters(&flow, 1, "published");
    flow.wait_until_published();
    let report = flow.check();
    assert!(report.lost.is_empty() && report.reordered.is_empty() && report.altered.is_empty(), "{report}");
    assert_eq!(event_counts(&flow)["lab.plates.updated.v1"], (2, 0));
    assert!(flow.daemon.terminate().success());
}

#[test]
fn retry_sends_record_that_stream_rejected() {
    let mut flow = lab(|settings| settings.more.push((String::new(), "on_poison = \"stop\"".to_owned())));
    let invalid = Fault::Error { status: 400, code: "ValidationException".to_owned() };
    flow.stub.add(Rule::new(invalid).keys(["5"])).unwrap();
    flow.postgres.execute("insert into lab.plates (plate_id, barcode) values (5, 'P5')");
    let halts = || flow.daemon.metric("forebay_publishing_halted").filter(|halted| *halted > 0.0);
    // Others are accepted meanwhile: that is the evidence.
    eventually("publishing is halted", DRAINED_WITHIN, || {
        flow.mark();
        halts().map(drop)
    });
    let id = halted(&flow);
    flow.stub.heal();
    run(&flow, &["dlq", "retry", &id]);
    flow.wait_until_published();
    wait_for_letters(&flow, 1, "published");
    let report = flow.check();
    assert!(report.lost.is_empty() && report.reordered.is_empty(), "{report}");
    assert!(flow.daemon.terminate().success());
}

#[test]
fn retried_untranslatable_change_is_published_late() {
    let mut flow = lab(|settings| settings.more.push((String::new(), "on_poison = \"stop\"".to_owned())));
    flow.postgres.execute(
        "insert into lab.plates (plate_id, barcode, notes) values (5, 'P5', repeat(chr(1), 1800000))",
    );
    flow.daemon.wait_for_event("publishing_stopped");
    let id = halted(&flow);
    assert!(flow.daemon.terminate().success());
    flow.daemon.settings().more.push(("tables".to_owned(), "drop = [\"lab.plates.notes\"]".to_owned()));
    flow.start();
    flow.daemon.wait_for_event("publishing_stopped");
    run(&flow, &["dlq", "retry", &id]);
    flow.wait_until_it_moves("after the retry");
    wait_for_letters(&flow, 1, "published");
    eventually("it is published", crate::support::SOON, || {
        flow.published().contains(&version("5", 1)).then_some(())
    });
    assert_eq!(letters(&flow)[0]["id"], Value::from(id));
    assert_eq!(event_counts(&flow)["lab.plates"], (0, 0));
    assert!(flow.daemon.terminate().success());
}
