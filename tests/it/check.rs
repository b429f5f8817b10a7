//! `forebay check`: it names what a start would stumble over, changes nothing, and its commands fix what it names.

use kinesis_stub::{Fault, Rule};
use serde_json::Value;

use crate::support::flow::Flow;
use crate::support::postgres::{Postgres, Version};
use crate::support::random::seed;

/// What `check --json` found, and whether it exited with 0.
#[track_caller]
fn check(flow: &Flow) -> (bool, Vec<Value>) {
    let output = flow.daemon.run(&["check", "--json"]);
    let said = String::from_utf8(output.stdout).unwrap();
    let report: Value = serde_json::from_str(&said)
        .unwrap_or_else(|error| panic!("{error}: {said}{}", String::from_utf8_lossy(&output.stderr)));
    let ready = report["ready"].as_bool().unwrap();
    assert_eq!(output.status.code(), Some(i32::from(!ready)), "{said}");
    (ready, report["findings"].as_array().unwrap().clone())
}

fn of_severity<'a>(found: &'a [Value], severity: &str) -> Vec<&'a Value> {
    found.iter().filter(|one| one["severity"] == severity).collect()
}

/// The only blocker.
#[track_caller]
fn blocker(flow: &Flow) -> Value {
    let (ready, found) = check(flow);
    let blockers = of_severity(&found, "blocker");
    assert!(!ready && blockers.len() == 1, "{found:#?}");
    blockers[0].clone()
}

#[track_caller]
fn assert_sound(flow: &Flow) {
    let (ready, found) = check(flow);
    assert!(ready, "{found:#?}");
}

/// Logical slots, publications, and the stream's records.
fn traces(flow: &Flow) -> String {
    let of_database = flow.postgres.value(
        "select concat((select count(*) from pg_replication_slots), '/', (select count(*) from pg_publication))",
    );
    format!("{of_database}/{}", flow.stub.stats().records)
}

#[test]
fn check_of_sound_set_up_passes_and_changes_nothing() {
    for version in [Version::OLDEST, Version::usual(), Version::NEWEST] {
        let mut flow = Flow::over(Postgres::lab(version), seed(), |_| {});
        let (ready, found) = check(&flow);
        assert!(ready, "{found:#?}");
        let warnings = of_severity(&found, "warning");
        assert!(warnings.iter().all(|one| one["fact"] == "not encrypted at rest"), "{warnings:#?}");
        assert_eq!(traces(&flow), "0/0/0");
        assert!(!flow.daemon.buffer_directory().exists());
        flow.start();
        flow.mark();
        flow.wait_until_published();
        // A running daemon is left alone.
        assert_sound(&flow);
        assert!(flow.daemon.terminate().success());
        assert!(flow.daemon.count_events("setup_warning") == 0, "{:#?}", flow.daemon.log());
    }
}

/// Each is fixed by the command that `check` prints, and by nothing else.
#[test]
fn commands_of_check_fix_the_database() {
    let flow = Flow::prepare(seed(), |_| {});
    for broken in [
        "alter role forebay noreplication",
        "revoke create on database lab from public, lab, forebay",
        "create publication forebay_lab for table lab.keyless",
    ] {
        flow.postgres.execute("create table if not exists lab.keyless (t text)");
        flow.postgres.execute(broken);
        let found = blocker(&flow);
        flow.postgres.execute(found["command"].as_str().unwrap_or_else(|| panic!("{broken}: {found}")));
        assert_sound(&flow);
    }
}

#[test]
fn role_that_owns_no_table_gets_the_statement() {
    let mut flow = Flow::prepare(seed(), |_| {});
    flow.postgres.execute("create role reader login replication; grant create on database lab to reader");
    flow.daemon.settings().url = flow.postgres.url("reader");
    let found = blocker(&flow);
    flow.postgres.execute(found["command"].as_str().unwrap());
    assert_sound(&flow);
    let (_, found) = check(&flow);
    let start = found.iter().find(|one| one["subject"] == "start").unwrap();
    assert!(start["fact"].as_str().unwrap().contains("a first start: it uses the publication"), "{start}");
}

/// Each warning is gone after its command.
#[test]
fn commands_of_check_complete_the_publication() {
    let flow = Flow::prepare(seed(), |_| {});
    flow.postgres.execute("create publication forebay_lab for table lab.plates with (publish = 'insert')");
    let of_publication = || {
        let (ready, found) = check(&flow);
        assert!(ready, "{found:#?}");
        let warnings = of_severity(&found, "warning").into_iter();
        let warnings = warnings.filter(|one| one["subject"] == "publication \"forebay_lab\"");
        warnings.map(|one| one["command"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let commands = of_publication();
    assert_eq!(commands.len(), 2, "{commands:?}");
    for command in commands {
        flow.postgres.execute(&command);
    }
    assert_eq!(of_publication(), Vec::<String>::new());
}

#[test]
fn unreachable_ends_are_two_blockers() {
    let mut flow = Flow::prepare(seed(), |_| {});
    flow.daemon.settings().url = "postgres://forebay@127.0.0.1:1/lab".to_owned();
    flow.daemon.settings().endpoint = "http://127.0.0.1:1".to_owned();
    let (ready, found) = check(&flow);
    let subjects: Vec<_> =
        of_severity(&found, "blocker").into_iter().map(|one| one["subject"].as_str().unwrap()).collect();
    assert!(!ready && subjects.len() == 2 && subjects[0] == "source", "{found:#?}");
    assert!(subjects[1].starts_with("stream "), "{found:#?}");
}

#[test]
fn used_slot_is_a_blocker_of_check() {
    let flow = Flow::prepare(seed(), |_| {});
    flow.postgres.execute("create publication forebay_lab for table lab.plates");
    flow.postgres.query("select pg_create_logical_replication_slot('forebay_lab', 'pgoutput')");
    let found = blocker(&flow);
    assert_eq!(found["subject"], "start", "{found}");
    assert!(found["hint"].as_str().unwrap().contains("forebay adopt"), "{found}");
}

#[test]
fn denied_rights_on_the_stream_are_named() {
    let mut flow = Flow::prepare(seed(), |_| {});
    let denied = || Fault::Error { status: 400, code: "AccessDeniedException".to_owned() };
    for (operation, severity) in
        [("PutRecords", "blocker"), ("DescribeStreamSummary", "blocker"), ("ListShards", "warning")]
    {
        flow.stub.add(Rule::new(denied()).operations([operation])).unwrap();
        let (_, found) = check(&flow);
        let denials: Vec<_> =
            found.iter().filter(|one| one["fact"].as_str().unwrap().contains("AccessDenied")).collect();
        assert_eq!(denials.len(), 1, "{operation}: {found:#?}");
        assert_eq!(denials[0]["severity"], severity, "{operation}: {found:#?}");
        let command = denials[0]["command"].as_str().unwrap();
        assert!(command.contains("kinesis:PutRecords") && command.contains("stream/lab-events"), "{command}");
        flow.stub.heal();
    }
    flow.daemon.settings().stream = "no-such".to_owned();
    let found = blocker(&flow);
    assert!(found["command"].as_str().unwrap().contains("create-stream --stream-name no-such"), "{found}");
    assert_eq!(flow.stub.stats().records, 0);
}

/// The limit of a slot as a time, by `check` and in the log of `run`; and the command ends both.
#[test]
fn short_wal_limit_is_a_warning_of_check_and_run() {
    let mut postgres =
        Postgres::builder(Version::usual()).without_fsync().setting("max_slot_wal_keep_size=64MB").start();
    postgres.create_lab();
    let mut flow = Flow::over(postgres, seed(), |_| {});
    let of_limit = |found: &[Value]| {
        of_severity(found, "warning")
            .into_iter()
            .find(|one| one["subject"] == "max_slot_wal_keep_size")
            .cloned()
    };
    let (ready, found) = check(&flow);
    let warning = of_limit(&found).unwrap_or_else(|| panic!("{found:#?}"));
    assert!(ready);
    flow.start();
    flow.daemon.wait_for_event_with(0, "setup_warning", "max_slot_wal_keep_size");
    let page = flow.daemon.get("/status").unwrap();
    let findings = serde_json::from_str::<Value>(&page).unwrap()["findings"].as_array().unwrap().clone();
    assert!(of_limit(&findings).is_some(), "{findings:#?}");
    assert!(flow.daemon.terminate().success());
    let setting = warning["command"].as_str().unwrap().split(';').next().unwrap();
    flow.postgres.execute("alter system set max_slot_wal_keep_size = -1");
    assert!(setting.starts_with("ALTER SYSTEM SET max_slot_wal_keep_size"), "{setting}");
    flow.postgres.execute("select pg_reload_conf()");
    let (_, found) = check(&flow);
    assert_eq!(of_limit(&found), None);
}
