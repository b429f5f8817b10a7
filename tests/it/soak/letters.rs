//! The dead letters of the mixed rounds: exactly those that were planted, and rows of the table that is altered whose past was
//! not known.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;

use crate::support::flow::{DRAINED_WITHIN, Flow};
use crate::support::history::Change;
use crate::support::{eventually, poll};

/// A rule that fails where `n` is 0, and whose condition is never true.
pub const RULES: &str = r#"
[[event]]
type = "lab.letter_counted.v1"
about = "Never."
owner = "lab"
from = "lab.letters"
on = "insert"
when = "1 / n > 1"
key = "letter_id"
data = "letter_id"
"#;
/// The table that is altered.
pub const SHAPES: &str = "lab.shapes";

/// What the file had when the last window was closed.
#[derive(Debug, Default)]
pub struct Letters {
    closed: HashSet<String>,
}

/// What is different between what was planted and what the file has.
#[derive(Debug, Default)]
struct Difference {
    /// Committed, neither in the stream nor in the file.
    missing: Vec<Change>,
    /// Of the altered table: not in the stream.
    unknown: Vec<Change>,
    /// Of the altered table: in the file since the last window.
    unknown_letters: usize,
    planted: BTreeSet<String>,
    found: BTreeSet<String>,
    other: Vec<Value>,
}

impl Difference {
    fn is_none(&self) -> bool {
        self.missing.is_empty()
            // One that was published before a kill may be read again later, when its past is not known any more.
            && self.unknown.len() <= self.unknown_letters
            && self.planted == self.found
            && self.other.is_empty()
    }
}

impl Letters {
    /// Waits until every committed change is in the stream or a dead letter. Those of the altered table whose past was not known.
    #[track_caller]
    pub fn wait_until_published(&self, flow: &mut Flow) -> HashSet<Change> {
        let mut difference = Difference::default();
        let none = poll(DRAINED_WITHIN, || {
            difference = self.look(flow);
            // That a stream refuses this record and no other is proven by others that it takes.
            if difference.missing.is_empty() && difference.planted != difference.found {
                flow.mark();
            }
            difference.is_none().then_some(())
        });
        let log = flow.daemon.log();
        let tail = log.get(log.len().saturating_sub(30)..).unwrap_or_default().join("\n");
        assert!(none.is_some(), "within {DRAINED_WITHIN:?}: {}\nlog:\n{tail}", describe(&difference));
        // A row of the altered table that is still on its way is not unknown: there may be more letters than missing rows.
        flow.wait_until_it_moves("after all others");
        eventually("nothing is on its way", DRAINED_WITHIN, || {
            (flow.daemon.metric("forebay_log_frames_unpublished") == Some(0.0)).then_some(())
        });
        difference = self.look(flow);
        assert!(difference.is_none(), "{}", describe(&difference));
        difference.unknown.into_iter().collect()
    }

    /// A window is closed.
    pub fn close(&mut self, flow: &Flow) {
        self.closed = read(flow).into_iter().map(|letter| id(&letter)).collect();
    }

    fn look(&self, flow: &mut Flow) -> Difference {
        let mut difference = Difference::default();
        let published = flow.published().clone();
        for (_, change) in flow.postgres.history_after(flow.closed()) {
            if published.contains(&change) {
                continue;
            }
            if change.table == SHAPES {
                difference.unknown.push(change);
            } else {
                difference.missing.push(change);
            }
        }
        // Where one is missing, the others need no look.
        if !difference.missing.is_empty() {
            return difference;
        }
        let planted = flow.postgres.query("select key from audit.planted");
        difference.planted = planted.into_iter().flatten().flatten().collect();
        for letter in read(flow) {
            let of = member(&letter, "type");
            if of.starts_with("lab.poison.") {
                difference.found.insert(member(&letter, "key"));
            } else if of == "lab.letter_counted.v1" {
                difference.found.insert(first_value(&letter));
            } else if of == SHAPES {
                difference.unknown_letters += usize::from(!self.closed.contains(&id(&letter)));
            } else {
                difference.other.push(letter);
            }
        }
        difference
    }
}

fn describe(difference: &Difference) -> String {
    let Difference { missing, unknown, unknown_letters, planted, found, other } = difference;
    let few =
        |changes: &[Change]| changes.iter().take(10).map(|change| format!("{change:?}")).collect::<Vec<_>>();
    format!(
        "{} changes have not come: {:#?}; {} rows of {SHAPES} are missing, {unknown_letters} are dead letters: {:#?}; \
         planted and not found: {:?}; found and not planted: {:?}; other letters: {other:#?}",
        missing.len(),
        few(missing),
        unknown.len(),
        few(unknown),
        planted.difference(found).take(10).collect::<Vec<_>>(),
        found.difference(planted).take(10).collect::<Vec<_>>(),
    )
}

/// Each letter once. A line that is being written is one of the next look.
fn read(flow: &Flow) -> Vec<Value> {
    let path = flow.daemon.buffer_directory().join("dead_letters.jsonl");
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut seen = HashSet::new();
    lines.filter(|letter| letter["id"].is_string() && seen.insert(id(letter))).collect()
}

/// The first column of an inserted row, which is its key: message type, table, `N` and the number of columns come before it.
fn first_value(letter: &Value) -> String {
    let raw = STANDARD.decode(member(&letter["change"], "raw")).unwrap();
    let column = raw.get(8..).unwrap();
    let (head, rest) = column.split_first_chunk::<5>().unwrap();
    let length = u32::from_be_bytes(*head.last_chunk().unwrap());
    String::from_utf8(rest.get(..usize::try_from(length).unwrap()).unwrap().to_vec()).unwrap()
}

fn member(letter: &Value, name: &str) -> String {
    letter[name].as_str().unwrap_or_default().to_owned()
}

fn id(letter: &Value) -> String {
    member(letter, "id")
}

/// What the checkpoint counts as published, of each type, against what was committed. Not of the altered table: see `is_none`.
#[track_caller]
pub fn check_counts(flow: &Flow, published: &BTreeMap<String, u64>) {
    let mut counted = BTreeMap::new();
    let agrees = poll(DRAINED_WITHIN, || {
        let output = flow.daemon.run(&["buffer", "stat", "--json"]);
        assert!(output.status.success(), "{output:?}");
        let stat: Value = serde_json::from_slice(&output.stdout).unwrap();
        counted = BTreeMap::new();
        for (name, totals) in stat["event_counts"].as_object()? {
            counted.insert(name.clone(), totals["published"].as_u64()?);
        }
        let is_counted = |name: &str| !name.starts_with("forebay.") && !name.starts_with(SHAPES);
        counted.retain(|name, count| *count > 0 && is_counted(name));
        (counted == *published).then_some(())
    });
    assert!(agrees.is_some(), "counted as published: {counted:#?}\nin the stream: {published:#?}");
}
