//! Letters combined from the lines of a file.

use super::*;
use crate::dead_letter::{DeadLetterFile, FILE_NAME};

const CHANGE: &str = r#""change":{"reason":"r","position":"1:16/B374D848:3","committed":"2026-01-01T00:00:00.000000Z","size":4,"raw_kept":4,"relation":{},"raw":"AAAA"}"#;

/// The letter that results from these lines.
fn one(lines: &[String]) -> Letter {
    folded((0..).zip(lines.iter().map(String::as_bytes))).expect("one letter")
}

fn letter(frame: u64, more: &str) -> String {
    format!(
        r#"{{"frame":{frame},"part":0,"type":"lab.plates","key":"lab.plates","reason":"no"{more},{CHANGE}}}"#
    )
}

fn act(state: &str) -> String {
    let id = one(&[letter(1, "")]).id;
    format!(r#"{{"letter":"{id}","state":"{state}","at":"now","reason":"why"}}"#)
}

#[test]
fn last_action_decides_state_and_repeated_letter_is_ignored() {
    let (plain, standing) = (letter(1, ""), letter(1, r#","halted":true"#));
    for (lines, state) in [
        (vec![plain.clone()], State::Waiting),
        (vec![plain.clone(), plain.clone()], State::Waiting),
        (vec![standing.clone()], State::Halted),
        (vec![standing.clone(), plain.clone()], State::Waiting),
        (vec![plain.clone(), act("retrying")], State::Retrying),
        (vec![plain.clone(), act("retrying"), letter(9, "")], State::Retrying),
        (vec![plain.clone(), act("retrying"), letter(9, ""), act("waiting")], State::Waiting),
        (vec![plain.clone(), act("retrying"), act("published")], State::Published),
        (vec![plain.clone(), act("retrying"), act("waiting"), standing.clone()], State::Waiting),
        (vec![standing, act("discarded"), plain], State::Discarded),
    ] {
        let letter = one(&lines);
        assert_eq!(letter.state, state, "{lines:#?}");
        assert_eq!(letter.note.as_deref(), (state == State::Discarded).then_some("why"));
    }
}

#[test]
fn first_release_line_is_read_and_keeps_its_id() {
    let old = one(&[letter(1, "").replace(r#","relation":{}"#, "")]);
    let new = one(&[letter(7, &format!(r#","id":"{}""#, old.id))]);
    assert_eq!(old.id, new.id);
    assert!(old.hopeless.is_some() && new.hopeless.is_none());
    let cut = one(&[letter(1, "").replace(r#""raw_kept":4"#, r#""raw_kept":3"#)]);
    assert!(cut.hopeless.is_some());
    let event = r#"{"frame":5,"part":1,"type":"t","key":"k","reason":"r","event":{"sequence":"000100000016B374D848000000030000","recordedtime":"T"}}"#;
    let event = one(&[event.to_owned()]);
    assert_eq!((event.id, event.committed.as_deref(), event.hopeless), (new.id, Some("T"), None));
}

#[test]
fn only_wanted_letters_and_their_raw_letters_are_read() {
    let root = tempfile::tempdir().unwrap();
    let directory = Directory::open(root.path()).unwrap();
    let line = |id: &LetterId, raw: &str| {
        format!(
            r#"{{"id":"{id}","frame":1,"part":0,"type":"t","key":"k","reason":"r","change":{{"position":"1:0/7:3","size":1,"raw_kept":1,{raw}}}}}"#
        ) + "\n"
    };
    let [first, second, third] = ["first", "second", "third"].map(LetterId::of_text);
    let mut file = DeadLetterFile::open(&directory).unwrap();
    let raw_in = |id: &LetterId| format!(r#""raw_in":"{id}""#);
    file.append(line(&first, r#""relation":{},"raw":"AA==""#).as_bytes()).unwrap();
    file.append(line(&second, &raw_in(&first)).as_bytes()).unwrap();
    file.append(line(&third, &raw_in(&second)).as_bytes()).unwrap();
    let mut index = Index::of(&directory, [&first]).unwrap();
    assert!(index.get(&first).is_some() && index.get(&second).is_none());
    index.select(&directory, [&third]).unwrap();
    let letter = index.get(&third).unwrap();
    assert_eq!(index.raw_letter(letter).map(|letter| &letter.id), Some(&first));
    // Appended lines are read. Another file is read from its start.
    let discarded = crate::dead_letter::entry::decision(&third, State::Discarded, None, Some("why"));
    file.append(&discarded).unwrap();
    index.catch_up(&directory).unwrap();
    assert_eq!(index.get(&third).map(|letter| letter.state), Some(State::Discarded));
    std::fs::write(directory.path_of(FILE_NAME), line(&third, &raw_in(&first))).unwrap();
    index.catch_up(&directory).unwrap();
    assert!(index.get(&first).is_none());
    assert_eq!(index.get(&third).map(|letter| letter.state), Some(State::Waiting));
}
