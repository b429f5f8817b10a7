//! The Python of docs/EVENTS.md, run by Python.

use std::io::Write as _;
use std::process::{Command, Stdio};

use super::{blocks, document};

/// The blocks: the reader's rule, and the id.
pub fn blocks_of_events() -> Vec<String> {
    let found = blocks(&document("docs/EVENTS.md"), "python");
    assert_eq!(found.len(), 2);
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
fn the_readers_rule_takes_each_event_once_and_in_order() {
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
fn a_reader_who_splits_records_and_follows_the_rule_drops_what_lands_late() {
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
fn the_recipe_gives_the_id_it_asserts() {
    let id = print(
        "event_id('urn:forebay:lab', 'lab.plates.inserted.v1', 1790848800123456, 742, '1/A2B3C000', 1)",
    );
    assert_eq!(id, "5f66167a-f8a9-5965-a8cf-f6045a4dcfd2");
}
