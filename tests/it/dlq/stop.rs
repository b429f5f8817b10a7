//! `on_poison = "stop"`: a person's decision is enough, no restart.

use serde_json::Value;

use super::{books, id, lab, large, letters, run, set_limit, version, wait_for_letters};
use crate::support::eventually;
use crate::support::flow::Flow;

fn stopped() -> Flow {
    let mut flow = lab(|settings| settings.more.push((String::new(), "on_poison = \"stop\"".to_owned())));
    large(&flow, 5);
    flow.postgres.execute("update lab.plates set notes = 'short' where plate_id = 5");
    flow.daemon.wait_for_log("publishing stops before");
    wait_for_metric(&flow, 1.0);
    assert!(!flow.told().contains(&version("5", 3)));
    flow
}

fn wait_for_metric(flow: &Flow, value: f64) {
    let shown =
        || flow.daemon.metric("forebay_publishing_halted").filter(|shown| (shown - value).abs() < 0.1);
    eventually("the metric tells it", crate::support::SOON, || shown().map(drop));
}

fn standing(flow: &Flow) -> String {
    let [letter] = <[Value; 1]>::try_from(wait_for_letters(flow, 1, "standing")).unwrap();
    id(&letter)
}

#[test]
fn a_discard_lets_publishing_go_on_without_a_restart_and_survives_one() {
    let mut flow = stopped();
    let id = standing(&flow);
    run(&flow, &["dlq", "discard", &id, "--reason", "nobody needs it"]);
    flow.wait_until_it_moves("after the discard");
    assert!(flow.told().contains(&version("5", 3)));
    wait_for_metric(&flow, 0.0);
    wait_for_letters(&flow, 1, "discarded");
    assert_eq!(books(&flow)["lab.plates.updated.v1"], (1, 1));
    let report = flow.check();
    assert_eq!(report.lost, [r#"lab.plates "5" Updated, version 2"#]);
    assert!(report.reordered.is_empty(), "{report}");
    assert!(flow.daemon.terminate().success());
}

#[test]
fn a_discard_before_a_kill_is_found_by_the_next_start() {
    let mut flow = stopped();
    let id = standing(&flow);
    flow.daemon.kill9();
    run(&flow, &["dlq", "discard", &id, "--reason", "nobody needs it"]);
    flow.start();
    flow.wait_until_it_moves("after the start");
    wait_for_letters(&flow, 1, "discarded");
    assert!(flow.told().contains(&version("5", 3)));
    assert!(flow.daemon.terminate().success());
}

#[test]
fn a_retry_tries_again_in_its_place_so_that_nothing_overtakes() {
    let mut flow = stopped();
    let id = standing(&flow);
    let mark = flow.daemon.mark();
    run(&flow, &["dlq", "retry", &id]);
    flow.daemon.wait_for_log_since(mark, "publishing stops before");
    assert_eq!(standing(&flow), id);
    set_limit(&flow, 2048);
    run(&flow, &["dlq", "retry", &id]);
    flow.wait_until_it_moves("after the retry");
    wait_for_letters(&flow, 1, "published");
    let report = flow.check();
    assert!(report.lost.is_empty() && report.reordered.is_empty() && report.altered.is_empty(), "{report}");
    assert_eq!(books(&flow)["lab.plates.updated.v1"], (2, 0));
    assert!(flow.daemon.terminate().success());
}

#[test]
fn a_change_that_could_not_be_translated_is_put_away_and_comes_when_it_comes() {
    let mut flow = lab(|settings| settings.more.push((String::new(), "on_poison = \"stop\"".to_owned())));
    flow.postgres.execute(
        "insert into lab.plates (plate_id, barcode, notes) values (5, 'P5', repeat(chr(1), 1800000))",
    );
    flow.daemon.wait_for_log("publishing stops before");
    let id = standing(&flow);
    assert!(flow.daemon.terminate().success());
    flow.daemon.settings().more.push(("tables".to_owned(), "drop = [\"lab.plates.notes\"]".to_owned()));
    flow.start();
    flow.daemon.wait_for_log("publishing stops before");
    run(&flow, &["dlq", "retry", &id]);
    flow.wait_until_it_moves("after the retry");
    wait_for_letters(&flow, 1, "published");
    eventually("it is told", crate::support::SOON, || flow.told().contains(&version("5", 1)).then_some(()));
    assert_eq!(letters(&flow)[0]["id"], Value::from(id));
    assert_eq!(books(&flow)["lab.plates"], (0, 0));
    assert!(flow.daemon.terminate().success());
}
