//! The states of letters, and the offsets of their lines.

use super::*;
use crate::buffer::checkpoint::Phase;
use crate::dead_letter::{DeadLetterFile, FILE_NAME};
use crate::identity::{Identity, ReplicationIdentity, SourceIdentity};
use crate::position::CommitSeq;

fn letter(frame: u64, more: &str) -> String {
    let change = r#"{"position":"1:16/B374D848:3","size":4,"raw_kept":4,"relation":{},"raw":"AAAA"}"#;
    format!(
        r#"{{"frame":{frame},"part":0,"type":"lab.plates","key":"k","reason":"at {frame}"{more},"change":{change}}}"#
    ) + "\n"
}

fn directory() -> (tempfile::TempDir, Directory) {
    let root = tempfile::tempdir().unwrap();
    let directory = Directory::open(root.path()).unwrap();
    (root, directory)
}

fn decision(directory: &Directory, state: State) -> String {
    let id = Overview::read(directory).unwrap().letters().next().unwrap().id.clone();
    String::from_utf8(crate::dead_letter::entry::decision(&id, state, None, None)).unwrap()
}

#[test]
fn checkpoint_corrects_letter_state() {
    let identity = Identity {
        source: SourceIdentity::Replication(ReplicationIdentity {
            system_id: String::new(),
            timeline: 1,
            database: String::new(),
            slot: String::new(),
            publication: String::new(),
        }),
        name: String::new(),
        stream: None,
        lane_hash: String::new(),
    };
    let mut checkpoint = Checkpoint::fresh(identity, Phase::Running, 1, CommitSeq::ZERO);
    checkpoint.watermark.frame = FrameNo(4);
    let (_root, directory) = directory();
    let settled = |text: &str, requested: bool| {
        std::fs::write(directory.path_of(FILE_NAME), text).unwrap();
        let mut overview = Overview::read(&directory).unwrap();
        overview.settle(Some(&checkpoint), |_| requested);
        overview.letters().next().unwrap().state
    };
    let halted = |frame| letter(frame, r#","halted":true"#);
    assert_eq!(settled(&halted(4), false), State::Published, "the watermark has passed it");
    assert_eq!(settled(&halted(5), false), State::Halted);
    assert_eq!(
        settled(&letter(5, r#","standing":true"#), false),
        State::Halted,
        "as older releases wrote it"
    );
    let interrupted = letter(1, "") + &decision(&directory, State::Retrying);
    assert_eq!(settled(&interrupted, false), State::Waiting, "no checkpoint has the retry any more");
    assert_eq!(settled(&interrupted, true), State::Retrying);
}

#[test]
fn growing_file_is_read_without_partial_line() {
    let (_root, directory) = directory();
    let path = directory.path_of(FILE_NAME);
    let mut overview = Overview::read(&directory).unwrap();
    assert_eq!(overview.letters().count(), 0);
    let mut file = DeadLetterFile::open(&directory).unwrap();
    file.append(format!("{}not json\n", letter(1, "")).as_bytes()).unwrap();
    let whole = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, whole.clone() + "{\"letter\":").unwrap();
    overview.catch_up(&directory).unwrap();
    assert_eq!((overview.letters().count(), overview.unreadable), (1, 1));
    let first = overview.letters().next().unwrap().clone();
    assert_eq!(overview.typed(first.id.to_string().get(..5).unwrap()), [&first]);
    let more = letter(9, "") + &decision(&directory, State::Discarded);
    std::fs::write(&path, whole + &more).unwrap();
    overview.catch_up(&directory).unwrap();
    let summary = overview.get(&first.id).unwrap();
    assert_eq!((summary.state, summary.last_frame), (State::Discarded, FrameNo(9)));
    let letter = overview.letter(&directory, summary).unwrap().unwrap();
    assert_eq!((letter.reason.as_str(), letter.state), ("at 9", State::Discarded));
    assert!(letter.since.is_some() && letter.note.is_some() && letter.came_in(FrameNo(1)));
}

/// A start reads only the lines from an offset on.
#[test]
fn earlier_lines_are_not_read() {
    let (_root, directory) = directory();
    let mut file = DeadLetterFile::open(&directory).unwrap();
    file.append(b"not json\n").unwrap();
    let from = file.size();
    file.append(letter(7, "").as_bytes()).unwrap();
    let mut overview = Overview::starting_at(from);
    overview.catch_up(&directory).unwrap();
    assert_eq!((overview.letters().count(), overview.unreadable), (1, 0));
    let mut found = Vec::new();
    records_from(&directory, from, |offset, end, frame, _| found.push((offset, end, frame))).unwrap();
    assert_eq!(found, [(from, file.size(), FrameNo(7))]);
}

#[test]
fn event_that_halts_publishing_is_not_finished() {
    let (_root, directory) = directory();
    let event = |part: u64, more: &str| {
        format!(
            r#"{{"frame":5,"part":{part},"type":"t","key":"k","reason":"r"{more},"event":{{"sequence":"000100000016B374D84800000003000{part}"}}}}"#
        ) + "\n"
    };
    let text = event(0, "") + &event(1, r#","halted":true"#) + &letter(6, "");
    std::fs::write(directory.path_of(FILE_NAME), text).unwrap();
    let parts = |wanted: bool| -> Vec<u16> {
        finished_events(&directory, 0, |_| wanted).unwrap().iter().map(|event| event.part).collect()
    };
    assert_eq!((parts(true), parts(false)), (vec![0], vec![]));
}

/// Whole changes and failed rules beyond a position, but neither events nor letters that halt publishing.
#[test]
fn changes_that_are_dead_letters_are_found() {
    let (_root, directory) = directory();
    let position = Position { epoch: 1, commit: CommitSeq::new(0x0016_B374_D848), index: 3 };
    let of_rule = format!(r#","id":"{}""#, LetterId::of_rule(position, "lab.counted.v1"));
    let event = r#"{"frame":5,"part":0,"type":"t","key":"k","reason":"r","event":{"sequence":"000100000016B374D848000000030000"}}"#;
    let before = Position { index: 2, ..position };
    for (text, after, found) in [
        (letter(5, ""), None, Some("")),
        (letter(5, ""), Some(before), Some("")),
        (letter(5, "") + &letter(7, ""), Some(before), Some("")),
        (letter(5, ""), Some(position), None),
        (letter(5, &of_rule), None, Some("lab.plates")),
        (letter(5, r#","halted":true"#), None, None),
        (format!("{event}\n"), None, None),
    ] {
        std::fs::write(directory.path_of(FILE_NAME), &text).unwrap();
        let changes = quarantined_changes(&directory, 0, after).unwrap();
        assert_eq!(changes.get(&position).map(|types| types.join(" ")).as_deref(), found, "{text}");
    }
}
