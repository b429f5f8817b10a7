//! `forebay audit`: a clean archive is not accused; each planted difference is found, by its key alone.

use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::Value;

use crate::support::flow::Flow;
use crate::support::python::write;
use crate::support::random::seed;
use crate::support::workload::Workload;
use crate::support::{SOON, eventually};

/// Events with some columns of a row: on every change, on inserts only, and one that reads the old row and cannot be compared.
const RULES: &str = r#"
[[event]]
type = "lab.plate_labelled.v1"
about = "A plate has a barcode and a state."
from = "lab.plates"
on = "insert or update"
data = """
  plate_id,          -- number of the plate
  barcode,           -- what is printed on it
  volume_ul          -- microlitres
"""

[[event]]
type = "lab.plate_seen.v1"
about = "A plate was seen for the first time."
from = "lab.plates"
on = "insert"
data = """
  plate_id,          -- number of the plate
  status             -- its state then
"""

[[event]]
type = "lab.sample_moved.v1"
about = "A sample was moved to another well."
from = "lab.samples"
on = "insert or update"
when = "old.well <> well"
data = """
  sample_code        -- code of the sample
"""
"#;

/// A database, the lines that were published of it, and an archive of them.
struct Audited {
    flow: Flow,
    lines: Vec<Vec<u8>>,
}

impl Audited {
    fn new() -> Self {
        let mut flow = Flow::prepare(seed(), |settings| {
            settings
                .more
                .push(("events".to_owned(), "rules = \"events/*.toml\"\nautomatic = \"also\"".to_owned()));
        });
        let folder = flow.daemon.home().join("events");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("lab.toml"), RULES).unwrap();
        flow.postgres.execute(
            "alter table lab.samples replica identity full;
             grant usage on schema lab to forebay; grant select on all tables in schema lab to forebay",
        );
        flow.start();
        Workload::new(&flow.postgres, seed()).commit(30);
        flow.daemon.kill9();
        // A row that an UPDATE of its key moves, one whose long value no later event has, one that a deletion ends.
        flow.postgres.execute(
            "truncate lab.samples;
             insert into lab.plates (plate_id, barcode, notes) values (1, 'PLT-1', repeat('long ', 3000));
             update lab.plates set volume_ul = 1.5 where plate_id = 1;
             insert into lab.plates (plate_id, barcode) values (2, 'PLT-2'), (4, 'PLT-4');
             delete from lab.plates where plate_id = 2;
             update lab.plates set plate_id = 3 where plate_id = 4;
             update lab.plates set volume_ul = 2.5 where plate_id = 3;
             insert into lab.samples (sample_code, plate_id, well) values ('after', 1, 'A1')",
        );
        flow.start();
        flow.wait_until_published();
        assert!(flow.daemon.terminate().success());
        let records = flow.records();
        let lines = records.iter().flat_map(|record| record.data.split_inclusive(|byte| *byte == b'\n'));
        Self { lines: lines.map(<[u8]>::to_vec).collect(), flow }
    }

    /// An archive with these lines, in an order that says nothing.
    fn archive(&self, name: &str, lines: &[Vec<u8>]) -> PathBuf {
        let place = self.flow.daemon.home().join(name);
        for (number, part) in lines.chunks(40).enumerate() {
            write(&place.join(format!("events/day=2026-11-30/{}", 1000 - number)), &part.concat());
        }
        place
    }

    fn audit(&self, table: &str, archive: &Path) -> (i32, Value) {
        let output = self.run(table, &["--archive", archive.to_str().unwrap()]);
        let report = serde_json::from_slice(&output.stdout);
        let report =
            report.unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
        (output.status.code().unwrap(), report)
    }

    fn run(&self, table: &str, more: &[&str]) -> Output {
        self.flow.daemon.run(&[&["audit", "--table", table, "--json", "--list", "1000"], more].concat())
    }

    /// The place of the last line of this type and subject.
    fn last(&self, event_type: &str, subject: &str) -> usize {
        let is_it = |line: &Vec<u8>| {
            let event: Value = serde_json::from_slice(line).unwrap();
            event["type"] == event_type && event["subject"] == subject
        };
        self.lines.iter().rposition(is_it).unwrap()
    }

    fn without(&self, unwanted: impl Fn(&Value) -> bool) -> Vec<Vec<u8>> {
        let keep = |line: &&Vec<u8>| !unwanted(&serde_json::from_slice(line).unwrap());
        self.lines.iter().filter(keep).cloned().collect()
    }
}

/// The differences as text, and their counts by scope must say the same.
fn differences(report: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let listed = report["differences"].as_array().unwrap();
    let counted: u64 = report["scopes"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|scope| scope["differences"].as_object().unwrap().values())
        .map(|count| count.as_u64().unwrap())
        .sum();
    assert_eq!(counted, listed.len() as u64);
    let line = |one: &Value| {
        let fields: Vec<String> = one["fields"].as_array().into_iter().flatten().map(text).collect();
        format!("{} {} {} {}", text(&one["kind"]), text(&one["events"]), text(&one["key"]), fields.join(","))
    };
    listed.iter().map(|one| line(one).trim_end().to_owned()).collect()
}

/// One database for all cases: a clean archive first, then one planted difference in each.
#[test]
fn audit_finds_planted_differences_and_no_others() {
    let audited = Audited::new();
    let rows = audited.flow.postgres.query("select count(*) from lab.plates")[0][0].clone().unwrap();
    println!("{} lines, {rows} plates", audited.lines.len());

    let whole = audited.archive("whole", &audited.lines);
    for table in ["lab.plates", "lab.samples", "lab.transfers"] {
        let (code, report) = audited.audit(table, &whole);
        assert_eq!((code, differences(&report)), (0, Vec::new()), "{table}: {report:#}");
        assert!(report["scopes"][0]["equal"].as_u64() > Some(0), "{report:#}");
    }
    let (_, report) = audited.audit("lab.plates", &whole);
    let count = |scope: usize, what: &str| report["scopes"][scope][what].as_u64().unwrap();
    let all: u64 = rows.parse().unwrap();
    // A row whose key an UPDATE has changed was inserted under another one.
    assert_eq!([count(0, "equal"), count(1, "equal"), count(2, "equal")], [all, all, all - 1], "{report:#}");
    let (_, samples) = audited.audit("lab.samples", &whole);
    let notes = samples["notes"].to_string();
    assert!(notes.contains("lab.sample_moved.v1") && notes.contains("before the change"), "{notes}");
    // The value that no later event has was found in an earlier one.
    assert_eq!(report["scopes"][0].get("not_compared"), None, "{report:#}");
    let fixed = audited.run("lab.plates", &["--archive", whole.to_str().unwrap(), "--fixed-keys"]);
    let fixed: Value = serde_json::from_slice(&fixed.stdout).unwrap();
    assert_eq!(differences(&fixed), ["missing lab.plate_seen.v1 3"]);
    // The stream has the same, and it is complete.
    let of_stream = audited.run("lab.plates", &["--stream", "--complete"]);
    let of_stream: Value = serde_json::from_slice(&of_stream.stdout).unwrap();
    assert_eq!(
        (&of_stream["agrees"], &of_stream["scopes"][0]["rows"]),
        (&true.into(), &report["scopes"][0]["rows"])
    );

    let plate = |name: &str, lines: Vec<Vec<u8>>| {
        let (code, report) = audited.audit("lab.plates", &audited.archive(name, &lines));
        let found = differences(&report);
        assert_eq!(code, i32::from(!found.is_empty()));
        (found, report)
    };
    // A loss: no event of the key is there.
    let lost = audited.without(|event| event["subject"] == "1" && event["type"] != "lab.plate_seen.v1");
    let expected = ["missing lab.plates.* 1", "missing lab.plate_labelled.v1 1"];
    assert_eq!(plate("lost", lost).0, expected);
    // A stale row: its last event is not there.
    let at = audited.last("lab.plates.updated.v1", "3");
    let mut stale = audited.lines.clone();
    stale.remove(at);
    assert_eq!(plate("stale", stale).0, ["stale lab.plates.* 3 volume_ul,version"]);
    let at = audited.last("lab.plate_labelled.v1", "3");
    let mut stale = audited.lines.clone();
    stale.remove(at);
    assert_eq!(plate("stale-rule", stale).0, ["stale lab.plate_labelled.v1 3 volume_ul"]);
    // A deletion that is not there.
    let extra = audited.without(|event| event["type"] == "lab.plates.deleted.v1" && event["subject"] == "2");
    assert_eq!(plate("extra", extra).0, ["extra lab.plates.* 2"]);
    // A duplicate, byte for byte: found, and allowed. The same with another value is not.
    let copy = audited.lines[audited.last("lab.plates.updated.v1", "3")].clone();
    let before = report["scopes"][0]["repeated"].as_u64().unwrap();
    let (found, repeated) = plate("repeated", [audited.lines.clone(), vec![copy.clone()]].concat());
    assert_eq!((found, repeated["scopes"][0]["repeated"].as_u64()), (Vec::new(), Some(before + 1)));
    let other = String::from_utf8(copy).unwrap().replace("2.500", "9.500").into_bytes();
    let (found, _) = plate("conflict", [audited.lines.clone(), vec![other]].concat());
    assert!(found.contains(&"conflict lab.plates.* 3".to_owned()), "{found:?}");
    // A truncation that is not there.
    let full = audited.without(|event| event["type"] == "lab.samples.truncated.v1");
    let (code, report) = audited.audit("lab.samples", &audited.archive("full", &full));
    assert!(
        code == 1 && differences(&report).iter().all(|one| one.starts_with("extra lab.samples.* ")),
        "{report:#}"
    );
    // A key is named; a value never is.
    assert!(!report.to_string().contains("long long"));

    assert_refusals_lead_on(&audited, &rows, &whole);
}

/// What cannot be compared, and what cannot be audited.
fn assert_refusals_lead_on(audited: &Audited, rows: &str, whole: &Path) {
    // A stream alone may begin after a row's last event.
    audited.flow.stub.take_records();
    let nothing = audited.run("lab.plates", &["--stream"]);
    let report: Value = serde_json::from_slice(&nothing.stdout).unwrap();
    assert_eq!(
        (nothing.status.code(), report["scopes"][0]["unseen"].to_string()),
        (Some(0), rows.to_owned())
    );

    // What cannot be audited is an error of its own, with the way out.
    audited
        .flow
        .postgres
        .execute("alter table lab.plates owner to postgres; revoke all on lab.plates from forebay, lab");
    let refused = audited.run("lab.plates", &["--archive", whole.to_str().unwrap()]);
    assert_eq!(refused.status.code(), Some(2));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("GRANT SELECT ON"), "{said}");
    assert_eq!(audited.run("lab.none", &["--stream"]).status.code(), Some(2));
    // No slot is left behind: the server drops it soon after the connection has ended.
    eventually("no slot of an audit is left", SOON, || {
        let slots = audited.flow.postgres.query("select slot_name from pg_replication_slots");
        (slots.len() == 1).then_some(())
    });
}
