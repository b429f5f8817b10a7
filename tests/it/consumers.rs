//! The programs of `examples/consumers`, over a stream that is as bad as the contract allows: events again, late, several in one
//! record, keys out of order against each other, and a reshard. What they make of it equals the tables.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kinesis_stub::{Config, Fault, Rule, Stub};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::flow::Flow;
use crate::support::kinesis::{Kinesis, StreamRecord, client};
use crate::support::postgres::Postgres;
use crate::support::process::Process;
use crate::support::python::{Environment, printed, write};
use crate::support::random::{Random, seed};
use crate::support::session::runtime;
use crate::support::workload::Workload;
use crate::support::{SOON, cache, eventually, missing, repository};

pub(crate) mod kcl;
mod views;

const STREAM: &str = "lab-events";

/// Large values that an update does not touch are not sent again. One column's name is an SQL identifier only in quotes.
const LARGE_VALUES: &str = r#"
    alter table lab.samples add "said ""no"", \ then" text;
    alter table lab.samples alter "said ""no"", \ then" set storage external;
    insert into lab.plates (plate_id, barcode, notes) select n, 'PLT-' || n, repeat('long ', 3000) from generate_series(1, 20) n
"#;

/// How an event names that column, in JSON.
const UNAVAILABLE: &str = r#""unavailable":"\"said \"\"no\"\", \\ then\"""#;

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
        flow.postgres.execute(LARGE_VALUES);
        Workload::new(&flow.postgres, seed).commit(60);
        flow.postgres.execute(
            "insert into lab.plates (plate_id, barcode) values (21, 'PLT-21'); delete from lab.plates where plate_id = 21;
             insert into lab.plates (plate_id, barcode) values (21, 'again');
             insert into lab.samples values ('S-1', 21, 'A1', 0.5, default, default, repeat('<no> ', 3000));
             update lab.samples set well = 'A2' where sample_code = 'S-1';
             update lab.plates set volume_ul = volume_ul + 1.5",
        );
        flow.wait_until_published();
        assert!(flow.daemon.terminate().success());
        let mut records = flow.records();
        let is_unavailable =
            |record: &StreamRecord| String::from_utf8_lossy(&record.data).contains(UNAVAILABLE);
        assert!(records.iter().any(is_unavailable), "every value was sent");
        records.push(other_event("forebay.gap.v1", &json!({"epoch": 2, "later": {"x": []}})));
        records.push(other_event("order.order_placed.v1", &json!([1, "{"])));
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

/// An event that is no row of a table, with attributes of a later version.
fn other_event(name: &str, data: &Value) -> StreamRecord {
    let event = json!({
        "specversion": "1.0", "id": name, "source": "urn:forebay:lab", "type": name, "subject": name, "partitionkey": name,
        "sequence": "00020000000000000001000000000000", "unavailable": "later", "later": [{}], "data": data,
    });
    let (shard, sequence) = <(String, String)>::default();
    StreamRecord { shard, sequence, key: name.to_owned(), data: format!("{event}\n").into_bytes() }
}

/// A stream that the records are put into, resharded twice on the way.
struct Target {
    stub: Stub,
    home: TempDir,
}

impl Target {
    fn new() -> Self {
        let stub = Stub::start(Config::default().stream(STREAM, 2)).unwrap();
        // So that parents are not read to their end before somebody asks for their children.
        let expired = Fault::Error { status: 400, code: "ExpiredIteratorException".to_owned() };
        stub.add(Rule { share: 0.5, ..Rule::new(expired).operations(["GetRecords"]) }).unwrap();
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
