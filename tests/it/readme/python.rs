//! The Python of docs/EVENTS.md, run by Python.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::Arc;

use forebay::types::Kind;

use super::{blocks, document};

/// The blocks: the reader's rule, the id, and the pseudonym.
pub fn blocks_of_events() -> Vec<String> {
    let found = blocks(&document("docs/EVENTS.md"), "python");
    assert_eq!(found.len(), 3);
    found
}

/// What an expression prints after the document's own code has run.
pub fn print(expression: &str) -> String {
    run(&format!("{}\nprint({expression})\n", blocks_of_events().join("\n"))).trim().to_owned()
}

fn run(program: &str) -> String {
    let mut python = Command::new("python3")
        .arg("-")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    python.stdin.take().unwrap().write_all(program.as_bytes()).unwrap();
    let output = python.wait_with_output().unwrap();
    assert!(output.status.success(), "{program}\n{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn consumer_rule_takes_each_event_once_in_order() {
    let seen = run(&format!(
        "{}\n\
         seen, last = [], {{}}\n\
         for key, n in [('a', 1), ('b', 2), ('a', 3), ('a', 1), ('a', 3), ('b', 2), ('b', 4), ('a', 5)]:\n\
         \x20   handle({{'source': 's', 'partitionkey': key, 'sequence': f'{{n:032X}}'}}, last, lambda e: seen.append(int(e['sequence'], 16)))\n\
         print(seen)\n",
        blocks_of_events()[0]
    ));
    assert_eq!(seen.trim(), "[1, 2, 3, 4, 5]");
}

/// The raw stream has a record that was given up, sent again, and landed after newer ones: whole records, packed or not.
#[test]
fn consumer_rule_drops_late_records() {
    let seen = run(&format!(
        "{}\n\
         def record(*numbers):\n\
         \x20   texts = [json.dumps({{'source': 's', 'partitionkey': 'a', 'sequence': f'{{n:032X}}', 'data': 'x\\r\\n'}}) for n in numbers]\n\
         \x20   return ''.join(text + '\\n' for text in texts).encode()\n\
         seen, last = [], {{}}\n\
         for data in [record(1, 2), record(1), record(2, 3, 4), record(5), record(1, 2), record(4, 5), record(6)]:\n\
         \x20   for event in events(data):\n\
         \x20       handle(event, last, lambda e: seen.append(int(e['sequence'], 16)))\n\
         print(seen)\n",
        blocks_of_events()[0]
    ));
    assert_eq!(seen.trim(), "[1, 2, 3, 4, 5, 6]");
}

#[test]
fn documented_recipe_yields_asserted_id() {
    let id = print(
        "event_id('urn:forebay:lab', 'lab.plates.inserted.v1', 1790848800123456, 742, '1/A2B3C000', 1)",
    );
    assert_eq!(id, "5f66167a-f8a9-5965-a8cf-f6045a4dcfd2");
}

/// The deepest event: `data` and the envelope, arrays and composites, then a document of type json. Python's parser gives up at
/// 1,000 levels, those of the program itself included.
#[test]
fn default_parser_reads_deepest_event() {
    let composite = (0..31).fold(Kind::Json, |inner, _| Kind::Vector { element: Arc::new(inner) });
    let document = |levels: usize| format!("{}1{}", "[".repeat(levels), "]".repeat(levels));
    let levels = (1..2_000).rev().find(|&levels| value(&composite, &document(levels)).is_some()).unwrap();
    let line = format!(r#"{{"data":{{"a":{}}}}}"#, value(&composite, &document(levels)).unwrap());
    assert!(levels > 800 && line.matches('[').count() == levels + 31);
    let program = "def nested(n, line): return events(line)[0] if n == 0 else nested(n - 1, line)";
    let depth = format!(
        "def depth(x, n=0):\n\
         \x20   while isinstance(x, list): x, n = x[0], n + 1\n\
         \x20   return n\n\
         print(depth(nested(20, b'{line}')['data']['a']))\n"
    );
    let seen = run(&format!("{}\n{program}\n{depth}", blocks_of_events()[0]));
    assert_eq!(seen.trim(), (levels + 31).to_string());
}

/// What the default parser rejects or rounds.
#[test]
fn documented_parser_keeps_all_digits() {
    let recipe = "json.loads(line, parse_int=Decimal, parse_float=Decimal)";
    assert!(document("docs/EVENTS.md").contains(recipe));
    let seen = run(&format!(
        "import json\nfrom decimal import Decimal\nfor text in ['9' * 131072, '0.' + '1' * 16383, '1e400', '150.000']:\n\
         \x20   line = f'{{{{\"data\":{{text}}}}}}'\n\
         \x20   print({recipe}['data'] == Decimal(text))\n"
    ));
    assert_eq!(seen.split_whitespace().collect::<Vec<_>>(), ["True"; 4]);
}

fn value(kind: &Kind, text: &str) -> Option<String> {
    let mut out = Vec::new();
    forebay::json::write_value(&mut out, kind, text.as_bytes()).ok()?;
    Some(String::from_utf8(out).unwrap())
}
