//! Something deletes, renames or empties the dead-letter file under the running daemon, as log rotation does.

use std::path::Path;

use super::{lab, large, letters, wait_for_letters};
use crate::support::{SOON, eventually};

type LetterFileChange = fn(&Path);

/// Fault 2 of the second review: the letter went into a file without a name, and its slot was confirmed.
#[test]
fn dead_letter_in_a_changed_file_is_not_confirmed() {
    let changes: [(&str, LetterFileChange); 3] = [
        ("was deleted or renamed", |path| std::fs::remove_file(path).unwrap()),
        ("was deleted or renamed", |path| {
            std::fs::hard_link(path, path.with_extension(path.metadata().unwrap().len().to_string()))
                .unwrap();
            std::fs::remove_file(path).unwrap();
        }),
        ("was truncated", |path| std::fs::write(path, "").unwrap()),
    ];
    let mut flow = lab(|_| {});
    for (plate, (says, change)) in (1..).zip(changes) {
        let (first, second) = (plate * 10, plate * 10 + 1);
        let known = letters(&flow).len();
        large(&flow, first);
        wait_for_letters(&flow, known + 1, "waiting");
        flow.wait_until_it_moves("after the first letter");
        let file = flow.daemon.buffer_directory().join("dead_letters.jsonl");
        change(&file);
        large(&flow, second);
        assert_eq!(flow.daemon.wait().code(), Some(1), "{:?}", flow.daemon.log());
        let log = flow.daemon.log().join("\n");
        assert!(log.contains(says), "{log}");
        flow.start();
        // The first letter too, if no checkpoint had passed it.
        let barcode = format!("P{second}");
        let again = || std::fs::read_to_string(&file).unwrap_or_default().contains(&barcode);
        eventually("the letter is written again", SOON, || again().then_some(()));
    }
    assert!(flow.daemon.terminate().success());
}
