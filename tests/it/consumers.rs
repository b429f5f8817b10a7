//! The programs of `examples/consumers`, over a stream that is as bad as the contract allows: events again, late, several in one
//! record, keys out of order against each other, and a reshard. What they make of it equals the tables.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kinesis_stub::{Config, Stub};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::flow::Flow;
use crate::support::kinesis::{Kinesis, REGION, StreamRecord, client};
use crate::support::postgres::Postgres;
use crate::support::process::Process;
use crate::support::python::{Environment, printed, write};
use crate::support::random::{Random, seed};
use crate::support::session::runtime;
use crate::support::workload::Workload;
use crate::support::{SOON, cache, eventually, missing, repository};

const STREAM: &str = "lab-events";

/// A database after some work, and what the daemon has published of it.
struct ConsumerFixture {
    flow: Flow,
    records: Vec<StreamRecord>,
    seed: u64,
}

impl ConsumerFixture {
    fn new() -> Self {
        let seed = seed();
        let mut flow = Flow::prepare(seed, |_| {});
        flow.start();
        Workload::new(&flow.postgres, seed).commit(60);
        // A value that an update does not touch is not sent again.
        flow.postgres.execute(
            "insert into lab.plates (plate_id, barcode, notes) values (1, 'PLT-1', repeat('long ', 3000));
             update lab.plates set volume_ul = 1.5 where plate_id = 1;
             insert into lab.plates (plate_id, barcode) values (2, 'PLT-2'); delete from lab.plates where plate_id = 2;
             insert into lab.plates (plate_id, barcode) values (2, 'again')",
        );
        flow.wait_until_published();
        assert!(flow.daemon.terminate().success());
        let records = flow.records();
        Self { flow, records, seed }
    }

    /// The records as the contract allows them to arrive.
    fn disturbed(&self) -> Vec<StreamRecord> {
        let mut random = Random::new(self.seed);
        let mut waiting: VecDeque<StreamRecord> = self.records.iter().cloned().collect();
        let mut sent: Vec<StreamRecord> = Vec::new();
        let mut out = Vec::new();
        while !waiting.is_empty() {
            let at = random.below(waiting.len().min(40));
            // The first of its key: first appearances of one key are in order.
            let first = waiting.iter().position(|record| record.key == waiting[at].key).unwrap();
            let mut record = waiting.remove(first).unwrap();
            let own = record.clone();
            let former = sent.iter().rev().find(|former| former.key == record.key);
            if let Some(former) = former.filter(|_| random.once_in(4)) {
                // A record of several lines, one of them a repeat.
                record.data = [former.data.as_slice(), &record.data].concat();
            }
            out.push(record);
            sent.push(own);
            if random.once_in(4) {
                out.push(sent[random.below(sent.len())].clone());
            }
        }
        assert!(out.len() > self.records.len() + 20, "too few repeats");
        out
    }

    /// The same lines as an archive, in objects whose order says nothing.
    fn archive(&self) -> PathBuf {
        let archive = self.flow.daemon.home().join("archive");
        for (number, lines) in self.disturbed().chunks(50).enumerate() {
            let data: Vec<u8> = lines.iter().flat_map(|record| record.data.clone()).collect();
            write(&archive.join(format!("events/day=2026-11-30/{}", 1000 - number)), &data);
        }
        archive
    }

    /// The table's rows as their events have them, by key.
    fn rows(&self, table: &str, key: &str) -> BTreeMap<String, Value> {
        rows(&self.flow.postgres, table, key)
    }

    fn assert_view_is_the_tables(&self, view: &str) {
        assert_view_is_the_tables(view, &self.flow.postgres);
    }
}

fn rows(postgres: &Postgres, table: &str, key: &str) -> BTreeMap<String, Value> {
    let mut session = postgres.session("postgres");
    session.execute("set timezone = 'UTC'");
    let rows = session.query(&format!(
        "select {key}::text, replace(to_jsonb(t)::text, '+00:00\"', 'Z\"') from lab.{table} t"
    ));
    let row = |row: Vec<Option<String>>| {
        let [Some(key), Some(text)] = <[_; 2]>::try_from(row).unwrap() else { panic!() };
        (key, serde_json::from_str(&text).unwrap())
    };
    rows.into_iter().map(row).collect()
}

/// What `view.py --print` printed, against the database.
pub(crate) fn assert_view_is_the_tables(view: &str, postgres: &Postgres) {
    let mut found: BTreeMap<String, BTreeMap<String, Value>> = BTreeMap::new();
    for line in view.lines() {
        let (table, key, row): (String, String, Value) = serde_json::from_str(line).unwrap();
        found.entry(table).or_default().insert(key, row);
    }
    for (table, key) in [("plates", "plate_id"), ("samples", "sample_code"), ("transfers", "transfer_id")] {
        let mut expected = rows(postgres, table, key);
        assert!(!expected.is_empty());
        assert_eq!(found.remove(&format!("lab.{table}")), Some(std::mem::take(&mut expected)), "lab.{table}");
    }
    assert!(found.is_empty());
}

/// A stream that the records are put into, resharded twice on the way.
struct Target {
    stub: Stub,
    home: TempDir,
}

impl Target {
    fn new() -> Self {
        let stub = Stub::start(Config::default().stream(STREAM, 2)).unwrap();
        Self { stub, home: tempfile::tempdir().unwrap() }
    }

    fn put(&self, records: &[StreamRecord]) {
        let client = client(&self.stub.endpoint());
        runtime().block_on(async {
            for record in records {
                let put = client.put_record().stream_name(STREAM).partition_key(&record.key);
                put.data(record.data.clone().into()).send().await.unwrap();
            }
        });
    }

    /// A consumer over it, not started yet.
    fn consumer(&self, mut program: Command) -> Command {
        program.arg("--database").arg(self.home.path().join("database"));
        program.args(["--stream", STREAM, "--endpoint", &self.stub.endpoint()]);
        program
    }

    /// One of the consumers in Python.
    fn python(&self, program: &str) -> Command {
        self.consumer(Environment::Client.script(&format!("examples/consumers/python/{program}")))
    }

    /// Puts everything, while a consumer runs that is killed in the middle, after it has committed something to its database.
    fn put_while_consumed(
        &self,
        consumer: &mut Command,
        has_committed: impl Fn(&Path) -> bool,
        records: &[StreamRecord],
    ) {
        let (first, rest) = records.split_at(records.len() / 2);
        let mut consumer = Process::spawn("consumer", consumer);
        self.put(first);
        let database = self.home.path().join("database");
        eventually("the consumer has committed something", SOON, || {
            assert!(consumer.is_running(), "{}", consumer.tail());
            has_committed(&database).then_some(())
        });
        consumer.kill9();
        self.stub.reshard(STREAM, 3).unwrap();
        let (second, third) = rest.split_at(rest.len() / 2);
        self.put(second);
        self.stub.merge(STREAM, 0).unwrap();
        self.put(third);
    }
}

/// Whether a table of a consumer in Python has rows.
fn has_rows(database: &Path, table: &str) -> bool {
    let count = format!(
        "import sqlite3, sys; print(sqlite3.connect(sys.argv[1]).execute('select count(*) from {table}').fetchone()[0])"
    );
    let output = Command::new("/usr/bin/python3").args(["-c", &count]).arg(database).output().unwrap();
    output.status.success() && output.stdout != b"0\n"
}

#[test]
fn view_of_disturbed_stream_equals_the_tables() {
    if !Environment::Client.is_here() {
        return;
    }
    let fixture = ConsumerFixture::new();
    let target = Target::new();
    let has_committed = |database: &Path| has_rows(database, "rows");
    target.put_while_consumed(&mut target.python("view.py"), has_committed, &fixture.disturbed());
    let view = printed(target.python("view.py").args(["--until-idle", "--print"]), "");
    fixture.assert_view_is_the_tables(&view);
    fixture.assert_view_is_the_tables(&view_of_archive(&fixture.archive()));
}

/// The consumer in Node, copied to a folder from which Node finds the packages that `scripts/setup` installed.
struct NodeExample {
    folder: TempDir,
}

impl NodeExample {
    /// `None` if the packages are not installed, and the developer asked to skip what needs them.
    fn new() -> Option<Self> {
        let Ok(packages) = cache().join("consumers-node/node_modules").canonicalize() else {
            missing("the packages of the Node consumer");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        for entry in repository().join("examples/consumers/node").read_dir().unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                std::fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
            }
        }
        std::os::unix::fs::symlink(packages, folder.path().join("node_modules")).unwrap();
        Some(Self { folder })
    }

    /// Not started yet. Nothing of the developer's own AWS settings reaches it.
    fn view(&self) -> Command {
        let mut command = Command::new("node");
        command.arg(self.folder.path().join("view.js")).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("HOME", self.folder.path());
        command.env("AWS_ACCESS_KEY_ID", "test").env("AWS_SECRET_ACCESS_KEY", "test");
        command.env("AWS_REGION", REGION);
        command
    }

    /// Whether its database, a JSON file, has rows.
    fn has_rows(database: &Path) -> bool {
        let state = std::fs::read(database).unwrap_or_default();
        let state: Value = serde_json::from_slice(&state).unwrap_or_default();
        state["rows"].as_object().is_some_and(|rows| !rows.is_empty())
    }
}

/// The rows of a view as they are written, with all digits, by table and key.
fn texts(view: &str) -> BTreeMap<(String, String), String> {
    let row = |line: &str| {
        let (table, key, row): (String, String, Box<RawValue>) = serde_json::from_str(line).unwrap();
        ((table, key), row.get().to_owned())
    };
    view.lines().map(row).collect()
}

#[test]
fn node_view_of_disturbed_stream_equals_the_tables() {
    let Some(node) = NodeExample::new() else { return };
    if !Environment::Client.is_here() {
        return;
    }
    let fixture = ConsumerFixture::new();
    let target = Target::new();
    let mut consumer = target.consumer(node.view());
    target.put_while_consumed(&mut consumer, NodeExample::has_rows, &fixture.disturbed());
    let view = printed(target.consumer(node.view()).args(["--until-idle", "--print"]), "");
    fixture.assert_view_is_the_tables(&view);
    // SQLite leaves numbers as they are written. JavaScript's own parser would not.
    assert_eq!(texts(&view), texts(&view_of_archive(&fixture.archive())));
}

/// What `view.py` makes of an archive.
pub(crate) fn view_of_archive(directory: &Path) -> String {
    let mut view = Environment::Client.script("examples/consumers/python/view.py");
    let home = tempfile::tempdir().unwrap();
    view.arg("--database").arg(home.path().join("view.db")).arg("--archive").arg(directory.join("events"));
    printed(view.arg("--print"), "")
}

#[test]
fn consumer_has_one_effect_per_event_of_disturbed_stream() {
    if !Environment::Client.is_here() {
        return;
    }
    let fixture = ConsumerFixture::new();
    let target = Target::new();
    let has_committed = |database: &Path| has_rows(database, "notices");
    target.put_while_consumed(&mut target.python("consume.py"), has_committed, &fixture.disturbed());
    let counts = printed(target.python("consume.py").arg("--until-idle"), "");
    let mut expected: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in fixture.records.iter().flat_map(|record| record.data.split_inclusive(|&byte| byte == b'\n')) {
        let event: Value = serde_json::from_slice(line).unwrap();
        let text = |name: &str| event[name].as_str().unwrap().to_owned();
        expected.entry(text("type")).or_default().insert(text("id"));
    }
    let expected: Vec<String> =
        expected.iter().map(|(name, ids)| format!("{:>9}  {name}", ids.len())).collect();
    assert_eq!(counts.lines().collect::<Vec<_>>(), expected);
    // Nothing new, and no effect again.
    assert_eq!(printed(target.python("consume.py").arg("--until-idle"), ""), counts);
}

/// Records as the driver of the Lambda example reads them.
fn recorded(records: &[StreamRecord]) -> String {
    let line = |record: &StreamRecord| {
        json!([record.shard, record.sequence, record.key, STANDARD.encode(&record.data)]).to_string() + "\n"
    };
    records.iter().map(line).collect()
}

/// What the Lambda example stores of these records, in a dictionary or in DynamoDB.
fn stored(records: &[StreamRecord], seed: u64, dynamodb: Option<&Kinesis>) -> BTreeMap<String, Value> {
    let mut driver = Environment::Client.script("tests/it/consumers/drive.py");
    driver.arg((seed >> 1).to_string()).args(dynamodb.map(Kinesis::endpoint));
    let printed = printed(&mut driver, &recorded(records));
    let row = |line: &str| {
        let (key, event): (String, String) = serde_json::from_str(line).unwrap();
        (key, serde_json::from_str(&event).unwrap())
    };
    printed.lines().map(row).collect()
}

/// The events that the Lambda example stored have the rows of the table. A value that was not sent is not in the event.
fn assert_stored_plates_are_the_table(stored: &BTreeMap<String, Value>, mut rows: BTreeMap<String, Value>) {
    for (key, row) in &mut rows {
        let event = stored.get(key).unwrap_or_else(|| panic!("plate {key} is not stored"));
        for column in event["unavailable"].as_str().iter().flat_map(|names| names.split(',')) {
            row.as_object_mut().unwrap().remove(column);
        }
        assert_eq!(&event["data"], row);
    }
    assert_eq!(stored.len(), rows.len());
}

/// The Lambda example, with DynamoDB on LocalStack.
pub(crate) fn assert_lambda_stores_plates(records: &[StreamRecord], dynamodb: &Kinesis, postgres: &Postgres) {
    let stored = stored(records, seed(), Some(dynamodb));
    assert_stored_plates_are_the_table(&stored, rows(postgres, "plates", "plate_id"));
}

#[test]
fn lambda_of_disturbed_stream_stores_the_table() {
    if !Environment::Client.is_here() {
        return;
    }
    let fixture = ConsumerFixture::new();
    let target = Target::new();
    let disturbed = fixture.disturbed();
    let (first, second) = disturbed.split_at(disturbed.len() / 2);
    target.put(first);
    target.stub.reshard(STREAM, 3).unwrap();
    target.put(second);
    let as_read = |record: &kinesis_stub::Record| StreamRecord {
        shard: record.shard.to_string(),
        sequence: record.sequence.clone(),
        key: record.key.clone(),
        data: record.data.to_vec(),
    };
    let records: Vec<_> = target.stub.records().iter().map(as_read).collect();
    let stored = stored(&records, fixture.seed, None);
    assert_stored_plates_are_the_table(&stored, fixture.rows("plates", "plate_id"));
}

#[test]
fn lambda_filter_matches_the_types_it_handles() {
    let folder = repository().join("examples/consumers/lambda");
    let pattern: Value =
        serde_json::from_str(&std::fs::read_to_string(folder.join("filter.json")).unwrap()).unwrap();
    let template = std::fs::read_to_string(folder.join("template.yaml")).unwrap();
    let deployed = template.split("Pattern: '").nth(1).unwrap().split('\'').next().unwrap();
    assert_eq!(serde_json::from_str::<Value>(deployed).unwrap(), pattern);

    if Environment::Analysis.is_here() {
        printed(Environment::Analysis.program("cfn-lint").arg(folder.join("template.yaml")), "");
    }
    let python = cache().join("localstack/venv/bin/python");
    if !python.exists() {
        missing("LocalStack");
        return;
    }
    let lines = [
        json!({"type": "lab.plates.updated.v1", "data": {"type": "other"}}),
        json!({"type": "lab.samples.inserted.v1", "data": {"type": "lab.plates."}}),
        json!({"type": "forebay.gap.v1"}),
    ];
    let mut matcher = Command::new(python);
    matcher.arg(repository().join("tests/it/consumers/filter.py")).arg(folder.join("filter.json"));
    let verdicts = printed(&mut matcher, &lines.map(|line| format!("{line}\n")).concat());
    assert_eq!(verdicts.split_whitespace().collect::<Vec<_>>(), ["true", "false", "false"]);
}
