//! The archive: what CloudFormation deploys, what Firehose writes of a stream into S3, and what the generated SQL makes of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;

use crate::consumers::kcl::KclView;
use crate::consumers::{assert_lambda_stores_plates, assert_view_is_the_tables, view_of_archive};
use crate::support::daemon::{Daemon, Settings};
use crate::support::fixture::Fixture;
use crate::support::kinesis::{Implementation, Kinesis, StreamRecord};
use crate::support::postgres::{Postgres, Version};
use crate::support::python::{Environment, printed};
use crate::support::random::seed;
use crate::support::workload::Workload;
use crate::support::{SOON, eventually, repository};

mod ddl;

const TEMPLATE: &str = "deploy/cloudformation/forebay.yaml";

/// A rule over a table whose rows need no old values.
const RULES: &str = r#"
[[event]]
type = "lab.liquid_transferred.v1"
about = "Liquid was moved from one plate to another."
from = "lab.transfers"
on = "insert"
key = "target_plate"
data = """
  transfer_id,                 -- number of the transfer
  volume_ul,                   -- microlitres moved
  wells,
  done_at
"""
"#;

/// A configuration with the rule, and all automatic events beside it; its contracts are locked.
fn prepare(settings: &mut Settings) {
    settings.more.push(("events".to_owned(), "rules = \"events/*.toml\"\nautomatic = \"also\"".to_owned()));
}

fn lock(daemon: &Daemon, rules: &str) {
    let folder = daemon.home().join("events");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("lab.toml"), rules).unwrap();
    let output = daemon.run(&["events", "lock"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The script for an engine.
#[track_caller]
fn ddl_for(daemon: &Daemon, engine: &str, location: &str) -> String {
    let output = daemon.run(&["events", "archive-ddl", "--engine", engine, "--location", location]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

type Rows = Vec<Vec<Option<String>>>;

/// What DuckDB answers, over the views of a script.
#[track_caller]
fn query(script: &Path, queries: &[&str]) -> Vec<Rows> {
    let mut python = Environment::Analysis.script("tests/it/archive/query.py");
    let answers = printed(python.arg(script), &Value::from(queries.to_vec()).to_string());
    serde_json::from_str(&answers).unwrap()
}

#[test]
fn template_passes_cfn_lint() {
    if !Environment::Analysis.is_here() {
        return;
    }
    let template = repository().join(TEMPLATE);
    printed(
        Environment::Analysis.program("cfn-lint").args(["--include-checks", "I", "--"]).arg(&template),
        "",
    );
    // The linter can refuse.
    let home = tempfile::tempdir().unwrap();
    let wrong =
        std::fs::read_to_string(&template).unwrap().replace("RetentionPeriodHours:", "RetentionHours:");
    std::fs::write(home.path().join("wrong.yaml"), wrong).unwrap();
    let verdict =
        Environment::Analysis.program("cfn-lint").arg(home.path().join("wrong.yaml")).output().unwrap();
    assert!(!verdict.status.success());
}

/// Both ways to start LocalStack run the same script with the same template, which is the one that users deploy.
#[test]
fn compose_and_host_mode_deploy_one_template() {
    for file in ["localstack/run", "localstack/compose.yaml"] {
        let text = std::fs::read_to_string(repository().join(file)).unwrap();
        for part in ["ready.d", TEMPLATE, "FOREBAY_TEMPLATE"] {
            assert!(text.contains(part), "{file} without {part}");
        }
    }
}

/// The same permissions are in the README and in the template.
fn assert_policy_is_documented(statements: &Value) {
    let readme = std::fs::read_to_string(repository().join("README.md")).unwrap();
    let policy = readme.split("```json\n").nth(1).unwrap().split("```").next().unwrap();
    let policy: Value = serde_json::from_str(policy).unwrap();
    let (deployed, documented) = (&statements[0], &policy["Statement"][0]);
    assert_eq!((&deployed["Action"], &deployed["Effect"]), (&documented["Action"], &documented["Effect"]));
    // Without a key of the user's own, the second statement is left out.
    assert_eq!(statements.as_array().unwrap().len(), 1);
}

fn facts(kinesis: &Kinesis) -> Value {
    let mut python = Environment::Client.script("tests/it/archive/facts.py");
    serde_json::from_str(&printed(python.arg(kinesis.endpoint()), "")).unwrap()
}

fn assert_stack_is_the_templates(kinesis: &Kinesis) {
    let facts = facts(kinesis);
    assert_eq!(facts["status"], "CREATE_COMPLETE");
    assert_eq!(facts["outputs"]["StreamName"], "lab-events");
    assert_eq!(facts["outputs"]["ArchiveBucket"], "lab-archive");
    assert!(facts["public"].as_object().unwrap().values().all(|blocked| *blocked == true), "{facts:#}");
    assert_eq!(facts["alarms"].as_array().unwrap().len(), 3);
    assert_policy_is_documented(&facts["statements"]);
    // LocalStack ignores these: the template says 168 hours, KMS, and two rules of a life cycle.
    assert_eq!((&facts["retention"], &facts["encryption"]), (&24.into(), &"NONE".into()));
    assert_eq!(facts["lifecycle"], "NoSuchLifecycleConfiguration");
}

fn lines(records: &[StreamRecord]) -> BTreeMap<Vec<u8>, usize> {
    count(records.iter().flat_map(|record| record.data.split_inclusive(|&byte| byte == b'\n')))
}

fn count<'a>(lines: impl Iterator<Item = &'a [u8]>) -> BTreeMap<Vec<u8>, usize> {
    let mut counts = BTreeMap::new();
    for line in lines {
        *counts.entry(line.to_vec()).or_default() += 1;
    }
    counts
}

/// A copy of the bucket.
struct Copy {
    home: tempfile::TempDir,
}

impl Copy {
    fn new() -> Self {
        let home = tempfile::Builder::new().prefix("fb-archive-").tempdir_in(env!("CARGO_TARGET_TMPDIR"));
        Self { home: home.unwrap() }
    }

    fn fetch(&self, kinesis: &Kinesis) -> Value {
        let mut python = Environment::Client.script("tests/it/archive/fetch.py");
        python.args([&kinesis.endpoint(), "lab-archive"]).arg(self.home.path());
        serde_json::from_str(&printed(&mut python, "")).unwrap()
    }

    /// Its lines, each with how often it is there.
    fn lines(&self) -> BTreeMap<Vec<u8>, usize> {
        let bytes = std::fs::read(self.home.path().join("lines")).unwrap_or_default();
        count(bytes.split_inclusive(|&byte| byte == b'\n'))
    }
}

/// How the records begin that show that Firehose reads.
const MARKER: &[u8] = b"{\"marker\"";

/// Firehose on LocalStack delivers what is put after it reads a shard. A record of each shard shows that it does.
fn wait_until_firehose_reads(kinesis: &Kinesis, copy: &Copy) {
    let shards = kinesis.shards("lab-events").len();
    let mut number = 0;
    eventually("Firehose delivers from each shard", SOON * 2, || {
        // MD5 puts these two keys into different halves.
        for key in ["a", "b"] {
            number += 1;
            kinesis.put("lab-events", key, format!("{{\"marker\":{number},\"key\":\"{key}\"}}\n").as_bytes());
        }
        copy.fetch(kinesis);
        let has = |key: &str| {
            let end = format!("\"key\":\"{key}\"}}\n");
            copy.lines().keys().any(|line| line.ends_with(end.as_bytes()))
        };
        (shards == 2 && has("a") && has("b")).then_some(())
    });
}

/// Everything at once, because LocalStack takes long to start: rows of a database through the daemon, Kinesis and Firehose into
/// S3; and from there the events by type and day, and the rows again. The daemon is killed on the way, so that there are
/// repeats.
///
/// No resharding: LocalStack's Firehose does not read child shards.
#[test]
fn archive_has_every_event_and_yields_the_tables() {
    if !Implementation::LocalStackWithArchive.is_here()
        || !Environment::Client.is_here()
        || !Environment::Analysis.is_here()
        || !KclView::is_here()
    {
        return;
    }
    let kinesis = Kinesis::start(Implementation::LocalStackWithArchive);
    assert_stack_is_the_templates(&kinesis);
    let kcl = KclView::start(&kinesis);
    let copy = Copy::new();
    wait_until_firehose_reads(&kinesis, &copy);

    let postgres = Postgres::lab(Version::usual());
    let mut settings = Settings::lab(&postgres, &kinesis);
    prepare(&mut settings);
    let mut fixture = Fixture { daemon: Daemon::prepare(settings), kinesis, postgres };
    fixture.postgres.execute(
        "create publication forebay_lab for table lab.plates, lab.samples, lab.transfers \
         with (publish_via_partition_root = true)",
    );
    lock(&fixture.daemon, RULES);
    fixture.go_on();
    let mut work = Workload::new(&fixture.postgres, seed());
    work.commit(15);
    fixture.daemon.kill9();
    work.commit(10);
    fixture.go_on();
    work.commit(15);
    fixture.wait_until_confirmed();
    fixture.wait_until_published();
    assert!(fixture.daemon.terminate().success());

    let published = lines(&fixture.records());
    println!("{} row changes, {} lines in the stream", fixture.postgres.history().len(), published.len());
    eventually("the archive is complete", SOON, || {
        copy.fetch(&fixture.kinesis);
        let archived = copy.lines();
        let has = |line: &Vec<u8>| line.starts_with(MARKER) || archived.contains_key(line);
        published.keys().all(has).then_some(())
    });
    let archived = copy.lines();
    assert!(archived.keys().all(|line| published.contains_key(line)), "a line that was never published");
    assert!(archived.keys().all(|line| serde_json::from_slice::<Value>(line).is_ok()));
    let found = copy.fetch(&fixture.kinesis);
    // LocalStack takes the `!{…}` of prefixes literally.
    assert_eq!((&found["literal"], &found["others"]), (&found["objects"], &serde_json::json!([])), "{found}");

    let script = copy.home.path().join("archive.sql");
    std::fs::write(&script, ddl_for(&fixture.daemon, "duckdb", copy.home.path().to_str().unwrap())).unwrap();
    assert_counts_equal(&script, &published);
    assert_rows_equal(&script, &fixture.postgres);
    assert_audit_agrees(&fixture);
    // The consumers' examples, where they need what only LocalStack has.
    assert_view_is_the_tables(&view_of_archive(copy.home.path()), &fixture.postgres);
    let events: Vec<_> =
        fixture.records().into_iter().filter(|record| !record.data.starts_with(MARKER)).collect();
    assert_lambda_stores_plates(&events, &fixture.kinesis, &fixture.postgres);
    kcl.assert_view_of_disturbed_stream(&fixture.kinesis);
}

/// The audit reads the objects in S3.
fn assert_audit_agrees(fixture: &Fixture) {
    fixture
        .postgres
        .execute("grant usage on schema lab to forebay; grant select on all tables in schema lab to forebay");
    let endpoint = fixture.kinesis.endpoint();
    for table in ["lab.plates", "lab.samples", "lab.transfers"] {
        let archive = ["--archive", "s3://lab-archive", "--s3-endpoint", &endpoint];
        let output = fixture.daemon.run(&[&["audit", "--table", table][..], &archive].concat());
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
        assert!(said.ends_with("they agree\n") && !said.contains("; 0 objects;"), "{said}");
    }
}

/// Events by type, by the lines of the stream and by DuckDB. The day is that of the objects.
fn assert_counts_equal(script: &Path, published: &BTreeMap<Vec<u8>, usize>) {
    let mut expected: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut repeated = 0;
    for (line, times) in published {
        let event: Value = serde_json::from_slice(line).unwrap();
        let (Some(name), Some(id)) = (event["type"].as_str(), event["id"].as_str()) else { continue };
        expected.entry(name.to_owned()).or_default().insert(id.to_owned());
        repeated += times - 1;
    }
    println!("{} types, {repeated} repeats", expected.len());
    let expected: BTreeMap<_, _> = expected.into_iter().map(|(name, ids)| (name, ids.len())).collect();
    let by_type =
        "select type, day, count(*) from forebay_events where type is not null group by all order by all";
    let [rows, unreadable] = <[Rows; 2]>::try_from(query(
        script,
        &[by_type, "select * from lab_plates_updated_v1 where event_unreadable is not null"],
    ))
    .unwrap();
    let mut counted: BTreeMap<String, usize> = BTreeMap::new();
    for row in rows {
        let [Some(name), Some(day), Some(count)] = <[_; 3]>::try_from(row).unwrap() else { panic!() };
        assert!(day.starts_with("20") && day.len() == 10, "{day}");
        *counted.entry(name).or_default() += count.parse::<usize>().unwrap();
    }
    assert_eq!(counted, expected);
    assert!(unreadable.is_empty(), "{unreadable:?}");
}

/// The rows of the tables, from the archive and from the database.
fn assert_rows_equal(script: &Path, postgres: &Postgres) {
    let plates =
        "plate_id, barcode, status, volume_ul, wells, {us}, labels, protocol, notes, operator_email, version";
    let transfers = "transfer_id, source_plate, target_plate, volume_ul, wells, version";
    let samples = "sample_code, plate_id, well, version";
    let tables = [("plates", plates), ("transfers", transfers), ("samples", samples)];
    let of_archive: Vec<String> = tables
        .iter()
        .map(|(table, columns)| {
            let columns = columns.replace("{us}", "epoch_us(sealed_at)");
            format!("select {columns} from lab_{table}")
        })
        .collect();
    let answers = query(script, &of_archive.iter().map(String::as_str).collect::<Vec<_>>());
    for ((table, columns), mut found) in tables.into_iter().zip(answers) {
        let columns = columns
            .replace("{us}", "(extract(epoch from sealed_at) * 1000000)::bigint")
            .replace("labels", "to_jsonb(labels)")
            .replace(", wells", if table == "transfers" { ", to_jsonb(wells)" } else { ", wells" });
        let mut expected = postgres.query(&format!("select {columns} from lab.{table}"));
        for row in found.iter_mut().chain(&mut expected) {
            row.iter_mut().flatten().for_each(compact);
        }
        found.sort_unstable();
        expected.sort_unstable();
        assert!(!expected.is_empty());
        assert_eq!(found, expected, "lab.{table}");
    }
}

/// One spelling of a JSON document. Other texts may begin as one.
fn compact(text: &mut String) {
    if let (true, Ok(value)) = (text.starts_with(['[', '{']), serde_json::from_str::<Value>(text)) {
        *text = value.to_string();
    }
}
