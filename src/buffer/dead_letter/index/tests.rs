//! The file, folded.

use super::*;
use crate::buffer::dead_letter::{DeadLetterFile, FILE_NAME};

const CHANGE: &str = r#""change":{"reason":"r","position":"1:16/B374D848:3","committed":"2026-01-01T00:00:00.000000Z","size":4,"raw_kept":4,"relation":{},"raw":"AAAA"}"#;

/// The one letter after these lines.
fn folded(lines: &[String]) -> Letter {
    let mut index = Index::default();
    for line in lines {
        index.take(serde_json::from_str(line).unwrap(), line.len() as u64, |_| true);
    }
    assert_eq!(index.letters.len(), 1, "{:#?}", index.letters);
    index.letters.remove(0)
}

fn letter(frame: u64, more: &str) -> String {
    format!(
        r#"{{"frame":{frame},"part":0,"type":"lab.plates","key":"lab.plates","reason":"no"{more},{CHANGE}}}"#
    )
}

fn act(state: &str) -> String {
    let id = folded(&[letter(1, "")]).id;
    format!(r#"{{"letter":"{id}","state":"{state}","at":"now","reason":"why"}}"#)
}

#[test]
fn the_last_act_counts_and_coming_again_is_no_act() {
    let (plain, standing) = (letter(1, ""), letter(1, r#","standing":true"#));
    for (lines, state) in [
        (vec![plain.clone()], State::Waiting),
        (vec![plain.clone(), plain.clone()], State::Waiting),
        (vec![standing.clone()], State::Standing),
        (vec![standing.clone(), plain.clone()], State::Waiting),
        (vec![plain.clone(), act("retrying")], State::Retrying),
        (vec![plain.clone(), act("retrying"), letter(9, "")], State::Retrying),
        (vec![plain.clone(), act("retrying"), letter(9, ""), act("waiting")], State::Waiting),
        (vec![plain.clone(), act("retrying"), act("published")], State::Published),
        (vec![plain.clone(), act("retrying"), act("waiting"), standing.clone()], State::Waiting),
        (vec![standing, act("discarded"), plain], State::Discarded),
    ] {
        let folded = folded(&lines);
        assert_eq!(folded.state, state, "{lines:#?}");
        assert_eq!(folded.note.as_deref(), (state == State::Discarded).then_some("why"));
    }
}

#[test]
fn a_line_of_the_first_release_is_read_and_keeps_its_id() {
    let old = folded(&[letter(1, "").replace(r#","relation":{}"#, "")]);
    let new = folded(&[letter(7, &format!(r#","id":"{}""#, old.id))]);
    assert_eq!(old.id, new.id);
    assert!(old.hopeless.is_some() && new.hopeless.is_none());
    let cut = folded(&[letter(1, "").replace(r#""raw_kept":4"#, r#""raw_kept":3"#)]);
    assert!(cut.hopeless.is_some());
    let event = r#"{"frame":5,"part":1,"type":"t","key":"k","reason":"r","event":{"sequence":"000100000016B374D848000000030000","recordedtime":"T"}}"#;
    let event = folded(&[event.to_owned()]);
    assert_eq!((event.id, event.committed.as_deref(), event.hopeless), (new.id, Some("T"), None));
}

#[test]
fn what_only_the_checkpoint_knows_corrects_the_state() {
    let identity = crate::buffer::checkpoint::Identity {
        system_id: String::new(),
        timeline: 1,
        database: String::new(),
        slot: String::new(),
        publication: String::new(),
        source: String::new(),
        stream: None,
        lane_hash: String::new(),
    };
    let phase = crate::buffer::checkpoint::Phase::Running;
    let mut checkpoint = Checkpoint::fresh(identity, phase, 1, crate::position::Lsn::ZERO);
    checkpoint.low.frame = FrameNo(4);
    let settled = |lines: &[String], requested: bool| {
        let mut index = Index::default();
        for line in lines {
            index.take(serde_json::from_str(line).unwrap(), line.len() as u64, |_| true);
        }
        index.settle(Some(&checkpoint), |_| requested);
        index.letters[0].state
    };
    let standing = |frame| letter(frame, r#","standing":true"#);
    assert_eq!(settled(&[standing(4)], false), State::Published, "low has passed it");
    assert_eq!(settled(&[standing(5)], false), State::Standing);
    let interrupted = [letter(1, ""), act("retrying")];
    assert_eq!(settled(&interrupted, false), State::Waiting, "nobody knows of the retry any more");
    assert_eq!(settled(&interrupted, true), State::Retrying);
}

#[test]
fn a_growing_file_is_read_on_and_a_line_being_written_is_left() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(FILE_NAME);
    let mut index = Index::read(&path).unwrap();
    assert_eq!(index.letters().count(), 0);
    let mut file = DeadLetterFile::open(directory.path()).unwrap();
    file.append(format!("{}\nnot json\n", letter(1, "")).as_bytes()).unwrap();
    let torn = std::fs::read(&path).unwrap();
    std::fs::write(&path, [&torn[..], b"{\"letter\":"].concat()).unwrap();
    index.catch_up(&path).unwrap();
    assert_eq!((index.letters().count(), index.unreadable), (1, 1));
    let first = index.letters().next().unwrap().clone();
    assert_eq!(index.typed(first.id.to_string().get(..5).unwrap()), [&first]);
    std::fs::write(&path, [&torn[..], act("published").as_bytes(), b"\n"].concat()).unwrap();
    index.catch_up(&path).unwrap();
    assert_eq!(index.get(&first.id).map(|letter| letter.state), Some(State::Published));
    // Acts on letters that are not wanted are nothing to it.
    let frame = first.last_frame().unwrap();
    for (after, count) in [(FrameNo(0), 1), (frame, 0)] {
        let some = Index::read_where(&path, |place| place.frame > after).unwrap();
        let states: Vec<_> = some.letters().map(|letter| letter.state).collect();
        assert_eq!(states, vec![State::Published; count], "{after}");
    }
    let line = crate::buffer::dead_letter::line_at(directory.path(), first.offset).unwrap();
    assert_eq!(Index::of_line(&line).map(|letter| letter.id), Some(first.id));
}
