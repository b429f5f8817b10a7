//! A directory that the release with format 1 has written opens: nothing in it may be lost by an upgrade.
//!
//! `tests/fixtures/format-1.tar.gz` was made with the programs of commit aafb28e: 4,842 frames, of which shard 0 (a quarter of
//! the lanes) refused all, so that every other lane is ahead of the watermark; a dead letter with the request to retry it; a
//! gap that was adopted and not published.

use std::path::PathBuf;
use std::process::Command;

use forebay::buffer::checkpoint::{CheckpointFile, Injection, Phase};
use forebay::buffer::verify::verify;
use forebay::position::FrameNo;

use super::opened;
use crate::support::repository;

/// What `forebay buffer stat` printed when the directory was made.
const PUBLISHED: FrameNo = FrameNo(5);
const DURABLE: FrameNo = FrameNo(4_842);

fn unpacked() -> (tempfile::TempDir, PathBuf) {
    let root = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let archive = repository().join("tests/fixtures/format-1.tar.gz");
    let status = Command::new("tar")
        .arg("-xzf")
        .arg(archive)
        .args(["--no-same-owner", "-C"])
        .arg(root.path())
        .status()
        .unwrap();
    assert!(status.success());
    let buffer = root.path().join("buffer");
    (root, buffer)
}

#[test]
fn format_1_checkpoint_says_what_it_said() {
    let (_root, buffer) = unpacked();
    let (_, checkpoint) = CheckpointFile::open(&opened(&buffer)).unwrap();
    let checkpoint = checkpoint.expect("the checkpoint is there");
    assert_eq!((checkpoint.phase, checkpoint.epoch), (Phase::Running, 1));
    assert_eq!((checkpoint.watermark.frame, checkpoint.durable.frame), (PUBLISHED, DURABLE));
    assert_eq!(checkpoint.ever_confirmed.to_string(), "0/19EE9D0");
    assert_eq!(checkpoint.lanes.len(), 255, "lanes ahead of the watermark");
    assert_eq!(checkpoint.identity.stream, None, "`adopt` forgets the stream");
    assert!(matches!(&checkpoint.injections[..], [Injection::Gap { epoch: 1, .. }]));
    assert_eq!(checkpoint.event_counts["lab.plates.inserted.v1"].published, 5);
}

#[test]
fn format_1_log_is_whole() {
    let (_root, buffer) = unpacked();
    let verified = verify(&opened(&buffer)).unwrap();
    assert_eq!((verified.frames, verified.last, verified.torn), (DURABLE.0, DURABLE, 0));
    assert!(verified.findings.is_empty(), "{:?}", verified.findings);
}

#[test]
fn format_1_dead_letter_is_listed() {
    let (root, buffer) = unpacked();
    let config = root.path().join("forebay.toml");
    let text = format!(
        "name = \"lab\"\n[source]\nurl = \"postgres://postgres@127.0.0.1/lab\"\n[kinesis]\nstream = \"lab-events\"\n\
         region = \"eu-central-1\"\n[buffer]\ndir = {buffer:?}\n"
    );
    std::fs::write(&config, text).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_forebay"))
        .args(["dlq", "list", "--config"])
        .arg(&config)
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(printed.contains("bd02342b8739") && printed.contains("lab.samples.inserted.v1"), "{printed}");
}
