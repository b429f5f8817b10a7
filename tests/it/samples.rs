//! The samples under `config/`: their fixtures pass, and a real database makes their events. Also `forebay events
//! test` and `forebay events preview`.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::support::daemon::Settings;
use crate::support::flow::Flow;
use crate::support::random::seed;
use crate::support::{SOON, eventually, repository};

const HMAC_KEY: &str = "a key that only this test knows";

/// The lab sample between a database and a stream.
pub(crate) fn lab() -> Flow {
    let flow = Flow::prepare(seed(), |settings: &mut Settings| {
        settings.more.push(("events".to_owned(), "rules = \"events/*.toml\"".to_owned()));
        settings.more.push(("pii".to_owned(), "columns = [\"lab.plates.operator_email\"]".to_owned()));
        settings.environment.push(("FOREBAY_PII__HMAC_KEY".to_owned(), HMAC_KEY.to_owned()));
    });
    let folder = flow.daemon.home().join("events");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::copy(repository().join("config/lab/events/lab.toml"), folder.join("lab.toml")).unwrap();
    flow
}

pub(crate) fn replica_identity(flow: &Flow) {
    let path = repository().join("config/lab/replica-identity.sql");
    flow.postgres.execute(&std::fs::read_to_string(path).unwrap());
}

/// Statements that each rule of the sample selects a part of.
const DAY: &str = "
    insert into lab.plates (plate_id, barcode, operator_email, protocol, volume_ul)
        values (7, 'PLT-7', 'ada@lab.example', '{\"name\": \"elution\"}', 150.04), (8, 'PLT-8', null, '{}', 0);
    insert into lab.samples (sample_code, plate_id, well) values ('S-1', 7, 'A1');
    insert into lab.transfers (transfer_id, source_plate, target_plate, volume_ul, wells)
        values (31, 7, 8, 10, '{1,2,3}');
    update lab.plates set status = 'sealed', sealed_at = '2026-11-21 08:00+01' where plate_id = 7;
    update lab.plates set status = 'completed' where plate_id = 7;
    update lab.plates set notes = 'in the archive' where plate_id = 7;
    delete from lab.samples where sample_code = 'S-1'";

fn text(output: &[u8]) -> String {
    String::from_utf8(output.to_vec()).unwrap()
}

fn lines(output: &Output) -> Vec<Value> {
    text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn of_type<'a>(events: &'a [Value], event_type: &str) -> Vec<&'a Value> {
    events.iter().filter(|event| event["type"] == event_type).collect()
}

/// Runs `forebay events test` with a configuration file.
fn tested(config: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
    command.args(["events", "test", "--config"]).arg(config).args(arguments).env_clear().output().unwrap()
}

#[test]
fn lab_fixtures_pass_and_make_every_event() {
    let output = tested(&repository().join("config/lab/forebay.toml"), &[]);
    let said = text(&output.stdout);
    assert!(output.status.success(), "{said}{}", text(&output.stderr));
    assert!(said.contains("; 0 failed") && !said.contains("no case makes"), "{said}");
}

#[test]
fn lab_sample_publishes_as_documented() {
    let mut flow = lab();
    flow.daemon.start_again();
    assert!(!flow.daemon.wait().success());
    let log = flow.daemon.log().join("\n");
    assert!(log.contains("REPLICA IDENTITY FULL"), "{log}");
    replica_identity(&flow);
    flow.start();
    flow.postgres.execute(DAY);
    let events: Vec<Value> = eventually("the withdrawn sample", SOON, || {
        let records = flow.stub.records();
        let events: Vec<Value> =
            records.iter().map(|record| serde_json::from_slice(&record.data).unwrap()).collect();
        (events.len() >= 7).then_some(events)
    });
    // Two plates and a sample were inserted, which no rule reads.
    assert_eq!(of_type(&events, "lab.plates.inserted.v1").len(), 2, "{events:#?}");
    assert_eq!(of_type(&events, "lab.samples.inserted.v1").len(), 1, "{events:#?}");
    assert_eq!(events.len(), 7, "{events:#?}");
    assert!(!events.iter().any(|event| event.to_string().contains("ada@lab.example")), "{events:#?}");
    let [second] = of_type(&events, "lab.plate_completed.v2")[..] else { panic!("{events:#?}") };
    let operator = second["data"]["operator"].as_str().unwrap();
    assert!(operator.starts_with("p_"), "{operator}");
    assert_eq!(
        second["data"],
        json!({
            "plate_id": 7, "barcode": "PLT-7", "previous_status": "sealed", "volume_ul": 150.0, "wells": 96,
            "sealed_at": "2026-11-21T07:00:00Z", "protocol": "elution", "operator": operator
        })
    );
    let [first] = of_type(&events, "lab.plate_completed.v1")[..] else { panic!("{events:#?}") };
    assert_eq!(first["data"], json!({"plate_id": 7, "barcode": "PLT-7", "volume": 150.0}));
    assert_eq!((&first["partitionkey"], &first["deprecated"]), (&second["partitionkey"], &json!(true)));
    let [moved] = of_type(&events, "lab.liquid_transferred.v1")[..] else { panic!("{events:#?}") };
    assert_eq!((&moved["partitionkey"], &moved["subject"]), (&json!("8"), &json!("31")));
    assert_eq!(moved["data"]["volume_per_well_ul"], json!(3.333));
    let [gone] = of_type(&events, "lab.sample_withdrawn.v1")[..] else { panic!("{events:#?}") };
    assert_eq!(gone["data"], json!({"sample_code": "S-1", "last_plate": 7, "last_well": "A1"}));
    assert!(flow.daemon.terminate().success());
}

#[test]
fn row_preview_shows_events_and_changes_nothing() {
    let flow = lab();
    replica_identity(&flow);
    flow.postgres.execute(DAY);
    // Privileges for replication, but not for reading the tables.
    flow.postgres.execute("revoke lab from forebay");
    let denied = flow.daemon.run(&["events", "preview"]);
    let said = text(&denied.stderr);
    assert!(
        !denied.status.success() && said.contains("GRANT SELECT ON \"lab\".\"plates\" TO \"forebay\""),
        "{said}"
    );
    flow.postgres
        .execute("grant usage on schema lab to forebay; grant select on all tables in schema lab to forebay");
    let output = flow.daemon.run(&["events", "preview", "--last", "1"]);
    let (events, said) = (lines(&output), text(&output.stderr));
    assert!(output.status.success(), "{said}");
    // Events of the newest plate, which is not completed, and of the transfer. The sample is deleted.
    let types: Vec<_> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(types, ["lab.plates.inserted.v1", "lab.liquid_transferred.v1"], "{said}");
    assert!(
        said.contains("lab.plate_completed.v2: 1 rows of lab.plates, 0 events, 1 filtered out"),
        "{said}"
    );
    let output = flow.daemon.run(&["events", "preview", "--type", "lab.plate_completed.v1"]);
    let [event] = &lines(&output)[..] else { panic!("{}", text(&output.stderr)) };
    assert_eq!(event["data"], json!({"plate_id": 7, "barcode": "PLT-7", "volume": 150.0}));
    let output = flow.daemon.run(&["events", "preview", "--type", "lab.nobody.v1"]);
    assert!(
        text(&output.stderr)
            .contains("no rule or table makes lab.nobody.v1; the rules make lab.plate_completed.v2")
    );
    assert_eq!(flow.postgres.value("select count(*) from pg_replication_slots"), "0");
    assert_eq!(flow.postgres.value("select count(*) from pg_publication"), "0");
    assert_eq!(flow.stub.records().len(), 0);
    assert!(!flow.daemon.buffer_directory().join("checkpoint").exists());
}

#[test]
fn live_preview_uses_a_temporary_slot() {
    let flow = lab();
    replica_identity(&flow);
    let live = ["events", "preview", "--live", "2", "--for", "0s", "--type", "lab.liquid_transferred.v1"];
    let output = flow.daemon.run(&live);
    assert!(text(&output.stderr).contains("CREATE PUBLICATION forebay_lab"), "{}", text(&output.stderr));
    flow.postgres.execute("create publication forebay_lab for table lab.plates, lab.samples, lab.transfers");
    let child = flow.daemon.command(&live).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    eventually("the temporary slot is read", SOON, || {
        let reading = "select count(*) from pg_replication_slots where temporary and active and confirmed_flush_lsn is not null";
        (flow.postgres.value(reading) == "1").then_some(())
    });
    flow.postgres.execute(DAY);
    flow.postgres.execute(
        "insert into lab.transfers (transfer_id, source_plate, target_plate, volume_ul) values (32, 7, 8, 5)",
    );
    let output = child.wait_with_output().unwrap();
    let said = text(&output.stderr);
    assert!(output.status.success(), "{said}");
    let subjects: Vec<_> = lines(&output).iter().map(|event| event["subject"].clone()).collect();
    assert_eq!(subjects, [json!("31"), json!("32")], "{said}");
    assert!(said.contains("lab.liquid_transferred.v1: 2 changes of lab.transfers, 2 events"), "{said}");
    eventually("the slot is gone", SOON, || {
        (flow.postgres.value("select count(*) from pg_replication_slots") == "0").then_some(())
    });
}

/// A configuration with one rule and one fixture file.
fn project(fixture: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write(
        "forebay.toml",
        "name = \"t\"\n[source]\nurl = \"postgres://x@127.0.0.1/x\"\n[kinesis]\nstream = \"s\"\n[buffer]\ndir = \"/x\"\n\
         [events]\nrules = \"events/*.toml\"\n",
    );
    write(
        "events/rules.toml",
        "[[event]]\ntype = \"t.halved.v1\"\nfrom = \"t.numbers\"\non = \"insert, update\"\nwhen = \"n > 0\"\n\
         data = \"n, 100 / (n - 7) as share, note\"\n",
    );
    let tables =
        "[tables]\n\"t.numbers\" = { id = \"bigint primary key\", n = \"integer\", note = \"text\" }\n";
    write("events/tests/all.toml", &format!("{tables}{fixture}"));
    folder
}

#[test]
fn fixture_passes_only_on_equal_events() {
    let rest = "table = \"t.numbers\"\n";
    for (case, difference) in [
        (
            "new = { id = 1, n = 8 }\nevents = [{ type = \"t.halved.v1\", key = \"1\", data = { n = 8, share = 100, note = { null = true } } }]",
            None,
        ),
        (
            "new = { id = 1, n = 8 }\nevents = [{ type = \"t.halved.v1\", data = { n = 8 }, contains = true }]",
            None,
        ),
        (
            "new = { id = 1, n = 8 }\nevents = [{ type = \"t.halved.v1\", data = { n = 8 } }]",
            Some("data.share: unexpected 100"),
        ),
        (
            "new = { id = 1, n = 8 }\nevents = [{ type = \"t.halved.v1\", data = '{\"n\": 9}', contains = true }]",
            Some("data.n: expected 9, came 8"),
        ),
        (
            "new = { id = 1, n = 8 }\nevents = [{ type = \"t.halved.v1\", key = \"2\" }]",
            Some("key: expected \"2\", came \"1\""),
        ),
        ("new = { id = 1, n = 8 }\nnothing = true", Some("came     t.halved.v1")),
        ("new = { id = 1, n = 0 }\nnothing = true", None),
        ("new = { id = 1, n = 0 }\nevents = [{ type = \"t.halved.v1\" }]", Some("came     no event")),
        ("new = { id = 1, n = 7 }\nfails = \"division by zero\"", None),
        ("new = { id = 1, n = 7 }\nfails = \"overflow\"", Some("division by zero")),
        ("new = { id = 1, n = 8 }\nfails = \"division by zero\"", Some("no event failed")),
        ("new = { id = 1, n = 7 }\nnothing = true", Some("t.halved.v1 failed: share: division by zero")),
        (
            "on = \"update\"\nnew = { id = 1, n = 8, note = { unavailable = true } }\nevents = [{ type = \"t.halved.v1\", unavailable = [\"note\"], data = { n = 8, share = 100 } }]",
            None,
        ),
        (
            "on = \"update\"\nnew = { id = 1, n = 8, note = { unavailable = true } }\nevents = [{ type = \"t.halved.v1\", data = { n = 8, share = 100 } }]",
            Some("unavailable: expected \"\", came \"note\""),
        ),
        (
            "on = \"delete\"\nold = { id = 1 }\nevents = [{ type = \"t.numbers.deleted.v1\", data = { id = 1 } }]",
            None,
        ),
    ] {
        let folder = project(&format!("[[case]]\nname = \"it\"\n{rest}{case}\n"));
        let output = tested(&folder.path().join("forebay.toml"), &[]);
        let said = text(&output.stdout);
        assert_eq!(output.status.success(), difference.is_none(), "{case}\n{said}{}", text(&output.stderr));
        match difference {
            Some(difference) => {
                assert!(said.contains(difference) && said.contains("all.toml:3: it"), "{case}\n{said}");
            }
            None => assert!(said.contains("test events/tests/all.toml: it ... ok"), "{case}\n{said}"),
        }
    }
}

#[test]
fn all_fixture_errors_are_reported_with_place() {
    let folder = project(
        "\"t.broken\" = { id = \"bigitn\" }\n\
         [[case]]\nname = \"a\"\ntable = \"t.numbers\"\nnew = { id = 1, m = 2 }\nnothing = true\n\
         [[case]]\nname = \"b\"\ntable = \"t.numbers\"\non = \"upsert\"\nnothing = true\n\
         [[case]]\nname = \"c\"\ntable = \"t.other\"\nnothing = true\n\
         [[case]]\nname = \"d\"\ntable = \"t.numbers\"\nnew = { id = \"x\" }\nevens = []\n\
         [[case]]\nname = \"e\"\ntable = \"t.numbers\"\non = \"update\"\nold = { n = 1 }\nnew = { id = 1, n = 2 }\nnothing = true\n\
         [[case]]\nname = \"f\"\ntable = \"t.numbers\"\nnew = { id = 1, n = \"x\" }\nnothing = true\n",
    );
    let output = tested(&folder.path().join("forebay.toml"), &[]);
    let said = text(&output.stderr);
    assert!(!output.status.success());
    for part in [
        "all.toml:3:16: id: \"bigitn\" is not a supported type",
        "a: t.numbers has no column m",
        "hint: Did you mean n?",
        "b: on = \"upsert\"",
        "c: the columns of t.other are unknown",
        "d: unknown key \"evens\"",
        "hint: Did you mean \"events\"?",
        "d: missing expectation",
        "e: the replica identity of t.numbers does not provide the old value of n",
        "f: n: \"x\" is not a valid integer: invalid input syntax",
        "^",
    ] {
        assert!(said.contains(part), "{part:?} is missing:\n{said}");
    }
}

#[test]
fn cases_are_selected_by_name_and_none_is_failure() {
    let case = "table = \"t.numbers\"\nnew = { id = 1, n = 0 }\nnothing = true\n";
    let folder = project(&format!("[[case]]\nname = \"one\"\n{case}[[case]]\nname = \"two\"\n{case}"));
    let config = folder.path().join("forebay.toml");
    let said = text(&tested(&config, &["--case", "tw"]).stdout);
    assert!(
        said.contains("two ... ok") && !said.contains("one") && said.contains("1 passed; 0 failed"),
        "{said}"
    );
    let said = text(&tested(&config, &[]).stdout);
    assert!(said.contains("2 passed") && said.contains("no case makes t.halved.v1"), "{said}");
    let none = tested(&config, &["--case", "three"]);
    assert!(!none.status.success() && text(&none.stderr).contains("no case matches"));
    std::fs::remove_dir_all(folder.path().join("events/tests")).unwrap();
    let none = tested(&config, &[]);
    assert!(!none.status.success() && text(&none.stderr).contains("no fixtures"));
}
