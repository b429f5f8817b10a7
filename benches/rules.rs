//! What a rule costs, on one core and without anything around it: rows are decoded, and translated as the daemon does it.
//!
//! `cargo bench --bench rules [rounds]`. Everything is measured in one run, in turn, in rounds; the figures are the CPU time that
//! Linux counts for the thread: the median of the rounds, the least and the most. "decode" is the row message of `pgoutput` into
//! cells; the others do that too, so that the difference to it, taken round by round, is what the rule costs.
//!
//! Without `--bench`, as in `cargo test`, one short round is run: it says nothing of speed, but that the bench measures what it says.

use std::fmt::Write as _;
use std::sync::Arc;

use forebay::change::{Change, ChangePlace, Column, Relation, ReplicaIdentity};
use forebay::config::Automatic;
use forebay::event::Records;
use forebay::position::{CommitSeq, Transaction};
use forebay::rules::Rules;
use forebay::source::postgres::pgoutput::Cells;
use forebay::source::postgres::redecode;
use forebay::translate::{RuleOutcome, TranslateSettings, Translator};
use forebay::types::{Base, Enumeration, Kind, SqlType};

/// Rows of one measurement: some tenths of a second, within which the machine does the same for all.
const ROWS: u32 = 100_000;

const RULE: &str = r#"
[[event]]
type = "lab.plate_completed.v1"
from = "lab.plates"
on = "insert"
when = "status = 'completed'"
data = """
  plate_id, barcode, status, wells, sealed_at, notes, operator_email, version,
  round(volume_ul, 1) as volume_ul,
  volume_ul / wells as well_ul
"""
"#;

fn main() {
    let measured = std::env::args().any(|word| word == "--bench");
    let (default, count) = if measured { (15, ROWS) } else { (1, 1_000) };
    let rounds: usize = std::env::args().find_map(|word| word.parse().ok()).unwrap_or(default);
    let relation = Arc::new(plates());
    let completed = rows("completed");
    let filled = rows("filled");
    let refused = &RULE.replace("on = \"insert\"", "on = \"update\"");
    let mut cases: Vec<(&str, Work<'_>)> = vec![
        ("decode", Work { translator: None, rows: &completed, events: 0 }),
        ("a rule: filter, eight fields, two computed", work(RULE, Automatic::Off, &completed, 1)),
        ("the automatic event of the same row", work("", Automatic::Unmapped, &completed, 1)),
        ("a row that the filter does not want", work(RULE, Automatic::Off, &filled, 0)),
        ("a row of an operation that no rule wants", work(refused, Automatic::Off, &filled, 0)),
        ("a row of a table without rules", work("", Automatic::Off, &filled, 0)),
    ];
    let mut taken = vec![Vec::new(); cases.len()];
    for _ in 0..rounds {
        for ((_, work), taken) in cases.iter_mut().zip(&mut taken) {
            taken.push(work.run(&relation, count));
        }
    }
    let mut out = String::new();
    let decode = taken.first().cloned().unwrap_or_default();
    for ((name, _), taken) in cases.iter().zip(taken) {
        let more = taken.iter().zip(&decode).map(|(taken, decode)| taken - decode).collect();
        let (whole, more, decode) = (Spread::of(taken), Spread::of(more), Spread::of(decode.clone()));
        let times = whole.median * 10 / decode.median.max(1);
        writeln!(
            out,
            "{name:<45} {whole} ns a row, {}.{} of decoding it; {more} more",
            times / 10,
            times % 10
        )
        .expect("a String takes all");
    }
    std::io::Write::write_all(&mut std::io::stdout(), out.as_bytes()).expect("standard output");
}

/// The figures of all rounds: `640 (612 to 701)`. What the machine does beside it only adds, so the quietest round is the truest.
struct Spread {
    least: i64,
    median: i64,
    most: i64,
}

impl Spread {
    fn of(mut figures: Vec<i64>) -> Self {
        figures.sort_unstable();
        let at = |nth: usize| figures.get(nth).copied().unwrap_or_default();
        Self { least: at(0), median: at(figures.len() / 2), most: at(figures.len().saturating_sub(1)) }
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:>5} ({:>4} to {:>5})", self.median, self.least, self.most)
    }
}

/// What is done with each row.
struct Work<'a> {
    translator: Option<Translator>,
    rows: &'a [Vec<u8>],
    /// How many events each row must become: a bench that measures nothing is found.
    events: usize,
}

fn work<'a>(rule: &str, automatic: Automatic, rows: &'a [Vec<u8>], events: usize) -> Work<'a> {
    let folder = std::env::temp_dir().join(format!("forebay-bench-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    std::fs::write(folder.join("rule.toml"), rule).expect("a rule file");
    let rules = Rules::load("*.toml", &folder).expect("rules");
    std::fs::remove_dir_all(&folder).expect("the folder goes");
    let settings = TranslateSettings { automatic, rules: Arc::new(rules), ..TranslateSettings::default() };
    Work { translator: Some(Translator::new("urn:forebay:lab", 0, settings)), rows, events }
}

impl Work<'_> {
    /// Nanoseconds of CPU a row.
    fn run(&mut self, relation: &Arc<Relation>, count: u32) -> i64 {
        let (mut cells, mut records, mut outcome) =
            (Cells::default(), Records::default(), RuleOutcome::default());
        let before = cpu_ns();
        for (nth, raw) in (0..count).zip(self.rows.iter().cycle()) {
            let operation = redecode::decode(raw, relation.columns.len(), &mut cells).expect("a row");
            let place = ChangePlace {
                transaction: Transaction {
                    commit: CommitSeq::new(u64::from(nth / 100)),
                    xid: nth / 100,
                    time: i64::from(nth / 100),
                },
                index: nth % 100,
                record: CommitSeq::new(u64::from(nth)),
                nth: 0,
            };
            let change = Change { place, relation, operation, raw };
            if let Some(translator) = &mut self.translator {
                records.clear();
                translator.translate(&change, &mut records, &mut outcome).expect("events");
            }
            std::hint::black_box((&change, &records));
            debug_assert_eq!(records.len(), self.events);
        }
        let taken = cpu_ns() - before;
        assert_eq!(
            (records.len(), outcome.failed.len()),
            (self.events, 0),
            "the last row became something else"
        );
        taken / i64::from(count)
    }
}

/// What this thread has had of a CPU. Linux adds it up at each tick of 4 ms, and when the thread gives way.
fn cpu_ns() -> i64 {
    std::thread::yield_now();
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux with schedstat");
    text.split(' ').next().and_then(|text| text.parse().ok()).expect("a number")
}

/// The plates of `config/lab/schema.sql`.
fn plates() -> Relation {
    let status = Enumeration {
        oid: 0,
        name: "lab.plate_status".into(),
        labels: ["empty", "filled", "sealed", "completed", "discarded"].map(Into::into).to_vec(),
    };
    let text_array = Kind::Array { element: Arc::new(Kind::Text), delimiter: b',' };
    let columns = [
        ("plate_id", Kind::Number, Base::Int8),
        ("barcode", Kind::Text, Base::Text),
        ("status", Kind::Text, Base::Enum(Arc::new(status))),
        ("volume_ul", Kind::Number, Base::Numeric),
        ("wells", Kind::Number, Base::Int2),
        ("sealed_at", Kind::TimestampTz, Base::TimestampTz),
        ("labels", text_array, Base::Array(Arc::new(Base::Text))),
        ("protocol", Kind::Json, Base::Jsonb),
        ("notes", Kind::Text, Base::Text),
        ("operator_email", Kind::Text, Base::Text),
        ("version", Kind::Number, Base::Int8),
    ];
    let column = |(name, kind, base): (&str, Kind, Base)| Column {
        name: name.to_owned(),
        kind,
        data_type: SqlType::plain(base),
        not_null: name != "notes",
        origin: None,
        in_identity: name == "plate_id",
    };
    Relation {
        oid: 16_384,
        schema: "lab".into(),
        table: "plates".into(),
        identity: ReplicaIdentity::Default,
        columns: columns.map(column).to_vec(),
        primary_key: vec![0],
        absent: Vec::new(),
        unknown: None,
    }
}

/// Some row messages of about 280 bytes, as the server sends them.
fn rows(status: &str) -> Vec<Vec<u8>> {
    let row = |nth: u32| {
        let values = [
            (1_000_000 + nth).to_string(),
            format!("PLT-{nth:08}"),
            status.to_owned(),
            format!("{}.{:03}", 100 + nth % 50, nth % 1000),
            "96".to_owned(),
            format!("2026-11-21 08:{:02}:07.123456+00", nth % 60),
            "{frozen,\"second run\"}".to_owned(),
            "{\"steps\": [\"fill\", \"seal\"], \"revision\": 3}".to_owned(),
            "Nothing remarkable, but \"quoted\" once; the left corner was wet.".to_owned(),
            format!("operator{}@lab.example", nth % 10),
            nth.to_string(),
        ];
        let mut raw = b"I\0\0\x40\0N\0\x0b".to_vec();
        for value in values {
            raw.push(b't');
            raw.extend_from_slice(&u32::try_from(value.len()).unwrap_or(0).to_be_bytes());
            raw.extend_from_slice(value.as_bytes());
        }
        raw
    };
    (0..1_000).map(row).collect()
}
