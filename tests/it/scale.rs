//! Several instances on one stream: each has a publication with a row filter on a hash of the key, and so a part of the keys.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::time::Instant;

use kinesis_stub::{Fault, Refusal};
use serde_json::Value;

use crate::support::daemon::Daemon;
use crate::support::flow::{DRAINED_WITHIN, Flow};
use crate::support::random::seed;
use crate::support::workload::Running;
use crate::support::{SOON, eventually, repository};

/// Makes the publications as `forebay init --instances` writes them.
fn publish_parts(flow: &Flow, instances: usize) {
    // Not the lab's own log of what was written.
    flow.postgres.execute("alter table audit.changes replica identity nothing");
    let home = flow.daemon.home().join("init");
    std::fs::create_dir(&home).unwrap();
    let file = home.join("lab.toml");
    let output = Command::new(env!("CARGO_BIN_EXE_forebay"))
        .env_clear()
        .args(["init", "--source", &flow.postgres.url("forebay"), "--stream", "lab-events", "--name", "lab"])
        .args(["--instances", &instances.to_string(), "--output"])
        .arg(&file)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("lab_publications.sql") && said.contains("Stop the writers"), "{said}");
    for instance in 0..instances {
        let text = std::fs::read_to_string(home.join(format!("lab_{instance}.toml"))).unwrap();
        let config: toml::Table = text.parse().unwrap();
        assert_eq!(config["name"].as_str(), Some(format!("lab_{instance}").as_str()));
        assert_eq!(config["kinesis"]["stream"].as_str(), Some("lab-events"));
    }
    let sql = std::fs::read_to_string(home.join("lab_publications.sql")).unwrap();
    assert_eq!(sql.matches("CREATE PUBLICATION").count(), instances);
    flow.postgres.execute(&sql);
}

/// The workload also changes keys, which moves a row from one instance to another. One instance is killed meanwhile.
#[test]
fn two_instances_share_keys_without_loss() {
    let runbook = std::fs::read_to_string(repository().join("docs/OPERATIONS.md")).unwrap();
    assert!(runbook.contains("forebay init") && runbook.contains("--instances"), "another way than here");
    let seed = seed();
    let mut flow = Flow::prepare(seed, |settings| {
        settings.name = "lab_0".to_owned();
        settings.slot = "forebay_lab_0".to_owned();
        settings.tables.clear();
    });
    publish_parts(&flow, 2);
    let mut settings = flow.daemon.settings().clone();
    settings.name = "lab_1".to_owned();
    settings.slot = "forebay_lab_1".to_owned();
    let mut second = Daemon::prepare(settings);
    flow.start();
    second.start_again();
    second.wait_for_event("receiving");
    let load = Running::start(&flow.postgres, 3, 60, seed);
    let before = flow.published().len();
    eventually("some is published", DRAINED_WITHIN, || (flow.published().len() > before + 300).then_some(()));
    second.kill9();
    second.start_again();
    let before = flow.published().len();
    eventually("more is published", DRAINED_WITHIN, || (flow.published().len() > before + 300).then_some(()));
    load.stop();
    flow.wait_until_published();
    let report = flow.check();
    assert!(
        report.lost.is_empty() && report.unexpected.is_empty() && report.reordered.is_empty(),
        "{report:#?}"
    );
    // Each instance numbers the changes that it receives of a transaction: a `sequence` is unique within a source.
    let altered = report.altered.iter().find(|altered| !altered.contains("has the sequence of"));
    assert_eq!(altered, None, "{report:#?}");
    let mut owners: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
    for line in flow.records().iter().flat_map(|record| record.data.split(|byte| *byte == b'\n')) {
        let Ok(event) = serde_json::from_slice::<Value>(line) else { continue };
        let text = |name: &str| event[name].as_str().unwrap().to_owned();
        let table = text("type").rsplitn(3, '.').last().unwrap().to_owned();
        owners.entry((table, text("subject"))).or_default().insert(text("source"));
    }
    let several: Vec<_> = owners.iter().filter(|(_, sources)| sources.len() > 1).collect();
    assert!(several.is_empty(), "keys with several owners: {several:?}");
    let of = |source: &str| owners.values().filter(|sources| sources.contains(source)).count();
    let (first, second_keys) = (of("urn:forebay:lab_0"), of("urn:forebay:lab_1"));
    println!("keys: {first} and {second_keys}");
    assert!(first > 20 && second_keys > 20, "{first} and {second_keys}");
    assert!(second.terminate().success());
}

/// Each has its own directory, which may be lost: the second one waits for the slot, and goes on where the first one was
/// killed. That one comes back with an empty directory, and waits in its turn.
#[test]
fn second_instance_takes_over_the_slot() {
    let seed = seed();
    let mut flow = Flow::prepare(seed, |settings| settings.confirm_after = Some("never".to_owned()));
    flow.start();
    flow.wait_until_it_moves("by the first");
    let mut second = Daemon::prepare(flow.daemon.settings().clone());
    second.start_again();
    second.wait_for_event("waiting_to_take_over");
    let reason = second.ready().unwrap_err();
    assert!(reason.contains("waiting to take over") && reason.contains("PID"), "{reason}");
    assert!(!second.buffer_directory().join("checkpoint").exists(), "it has decided nothing");
    let load = Running::start(&flow.postgres, 3, 60, seed);
    let more = |flow: &mut Flow, what: &str| {
        let before = flow.published().len();
        eventually(what, DRAINED_WITHIN, || (flow.published().len() > before + 300).then_some(()));
    };
    more(&mut flow, "the first publishes");
    // A kill while it waits changes nothing.
    second.kill9();
    second.start_again();
    second.wait_for_event("waiting_to_take_over");
    flow.daemon.kill9();
    let began = Instant::now();
    second.wait_for_event("taking_over");
    second.wait_for_event("receiving");
    println!("{:?} from the kill to the second one's stream", began.elapsed());
    more(&mut flow, "the second publishes");
    flow.daemon.wipe();
    flow.daemon.start_again();
    flow.daemon.wait_for_event("waiting_to_take_over");
    assert!(second.terminate().success());
    flow.daemon.wait_for_event("receiving");
    more(&mut flow, "the first publishes again");
    load.stop();
    flow.wait_until_published();
    let report = flow.check();
    println!("{report}");
    report.assert_clean();
    assert!(flow.daemon.terminate().success());
}

/// One directory on a volume for both: the second one waits for its lock, and continues with the log of the first.
#[test]
fn second_instance_takes_over_the_directory() {
    let seed = seed();
    let mut flow = Flow::prepare(seed, |_| {});
    flow.start();
    flow.wait_until_it_moves("by the first");
    let mut second = Daemon::prepare_on(flow.daemon.settings().clone(), &flow.daemon.buffer_directory());
    second.start_again();
    second.wait_for_event("waiting_to_take_over");
    let reason = second.ready().unwrap_err();
    assert!(reason.contains("waiting to take over") && reason.contains("PID"), "{reason}");
    let load = Running::start(&flow.postgres, 3, 60, seed);
    flow.wait_until_it_moves("by the first, under load");
    // What only the log of the first one has is published by the second one.
    flow.stub.set(Fault::Reject { code: Refusal::Throttled }).unwrap();
    flow.mark();
    let unpublished = || flow.daemon.metric("forebay_log_frames_unpublished");
    eventually("changes are in the log", SOON, || unpublished().filter(|frames| *frames > 50.0));
    flow.daemon.kill9();
    let began = Instant::now();
    second.wait_for_event("taking_over");
    second.wait_for_event("receiving");
    println!("{:?} from the kill to the second one's stream", began.elapsed());
    flow.stub.heal();
    flow.daemon.start_again();
    flow.daemon.wait_for_event("waiting_to_take_over");
    assert!(second.terminate().success());
    flow.daemon.wait_for_event("taking_over");
    load.stop();
    flow.wait_until_published();
    let report = flow.check();
    println!("{report}");
    report.assert_clean();
    assert!(flow.daemon.terminate().success());
}
