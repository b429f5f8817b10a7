//! The commands of the runbook that look at the buffer and at dead letters, typed as they stand there.

use serde_json::Value;

use super::{blocks, document};
use crate::support::flow::Flow;
use crate::support::random::seed;
use crate::support::{SOON, eventually};

#[test]
fn runbook_commands_for_buffer_and_dead_letters_work() {
    let mut flow = Flow::prepare(seed(), |_| {});
    flow.start();
    flow.postgres.execute("insert into lab.plates (plate_id, barcode, notes) select n, n, repeat('long ', 230000) from generate_series(1, 2) n");
    let letters = || -> Vec<Value> {
        let listed = flow.daemon.run(&["dlq", "list", "--json"]);
        String::from_utf8(listed.stdout)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    };
    let waiting = || letters().into_iter().filter(|letter| letter["state"] == "waiting").collect::<Vec<_>>();
    let lines: Vec<_> = blocks(&document("docs/OPERATIONS.md"), "sh")
        .iter()
        .flat_map(|block| block.lines())
        .filter(|line| line.starts_with("forebay dlq ") || line.starts_with("forebay buffer "))
        .map(str::to_owned)
        .collect();
    assert!(lines.len() >= 8, "{lines:#?}");
    for line in &lines {
        let command = line.split('#').next().unwrap();
        // Retries fail, because the stream takes no more than before: each command finds letters that wait.
        let needed = if command.contains("dlq discard") || command.contains("buffer") { 1 } else { 2 };
        let found =
            eventually("letters wait", SOON, || Some(waiting()).filter(|found| found.len() >= needed));
        let id = found[0]["id"].as_str().unwrap();
        let mut quoted = false;
        let words = command.trim().split(|letter: char| {
            quoted ^= letter == '"';
            letter == ' ' && !quoted
        });
        let words: Vec<String> = words.skip(1).map(|word| word.trim_matches('"').replace("ID", id)).collect();
        let output = flow.daemon.run(&words.iter().map(String::as_str).collect::<Vec<_>>());
        let said = String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned();
        assert!(output.status.success(), "{line}: {said}");
        if command.contains("retry") || command.contains("discard") {
            assert!(said.contains("within a second"), "{line}: {said}");
            // The request is taken up, and what it began is over.
            let over = |letter: &Value| letter["requested"].is_null() && letter["state"] != "retrying";
            eventually("the request is done", SOON, || letters().iter().all(over).then_some(()));
        }
    }
    assert!(flow.daemon.terminate().success());
}
