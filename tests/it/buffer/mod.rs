//! The log and the checkpoint on a real disk.

mod changed;
mod checkpoint;
mod damage;
mod format;
mod former_format;
mod full;
mod inspect;
mod model;
mod powercut;
mod threads;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use forebay::buffer::checkpoint::Mark;
use forebay::buffer::disk::Directory;
use forebay::buffer::frame::FrameKind;
use forebay::buffer::log::{Log, LogConfig};
use forebay::buffer::reader::{Chunk, Reader};
use forebay::buffer::writer::{WriteError, Writer};
use forebay::event::{RecordKind, Records};
use forebay::position::{CommitSeq, FrameNo, Position, Transaction};

/// A small generator of random numbers (splitmix64), the same from the same seed everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`.
    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// A number from `first` to `last`.
    fn between(&mut self, first: u64, last: u64) -> u64 {
        first + self.below(last - first + 1)
    }
}

/// A directory in memory where there is one: for tests that open thousands of logs, each with its fsyncs.
fn quick_directory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// What a frame holds, owned: to compare what was written with what is read.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Content {
    kind: FrameKind,
    position: Position,
    transaction: Transaction,
    records: Vec<(RecordKind, String, String, Vec<u8>)>,
}

impl Content {
    /// Frame content that depends on the number and on nothing else.
    fn simple(number: u64) -> Self {
        let commit = CommitSeq::new(1000 + number);
        let key = format!("key {number}");
        let line = format!("{{\"number\":{number}}}\n").into_bytes();
        Self {
            kind: FrameKind::Change,
            position: Position { epoch: 1, commit, index: 0 },
            transaction: Transaction { commit, xid: 7, time: 5 },
            records: vec![(RecordKind::Event, "t.v1".to_owned(), key, line)],
        }
    }

    /// Frame content of any shape, with lines up to `line_max` bytes.
    fn random(random: &mut Random, number: u64, line_max: u64) -> Self {
        let mut content = Self::simple(number);
        if random.below(8) == 0 {
            content.kind = FrameKind::Injected;
        }
        content.records = (0..random.below(4))
            .map(|ordinal| {
                let kind = if random.below(5) == 0 { RecordKind::DeadLetter } else { RecordKind::Event };
                let line = (0..random.below(line_max)).map(|_| random.next().to_le_bytes()[0]).collect();
                (kind, format!("type {ordinal}"), "k".repeat(random.between(1, 30) as usize), line)
            })
            .collect();
        content
    }

    fn append(&self, writer: &mut Writer) -> Result<FrameNo, WriteError> {
        let mut records = Records::default();
        for (kind, event_type, key, line) in &self.records {
            let write = |out: &mut Vec<u8>| {
                out.extend_from_slice(line);
                Ok::<(), ()>(())
            };
            records.push(*kind, event_type, key, write).unwrap();
        }
        writer.append(self.kind, self.position, self.transaction, &records)
    }
}

/// The frames of a chunk.
fn contents(chunk: &Chunk) -> Vec<(FrameNo, Content)> {
    let content = |frame: forebay::buffer::frame::Frame<'_>| {
        let records = frame.records();
        let records = records.map(|r| {
            (r.kind, r.event_type.to_owned(), String::from_utf8(r.key.to_vec()).unwrap(), r.line.to_vec())
        });
        let head = *frame.head();
        let records: Vec<_> = records.collect();
        assert_eq!(records.len(), frame.len(), "all records can be read");
        (
            head.number,
            Content { kind: head.kind, position: head.position, transaction: head.transaction, records },
        )
    };
    chunk.frames().map(content).collect()
}

/// Everything that can be read now.
fn read_all(reader: &mut Reader) -> Vec<(FrameNo, Content)> {
    let mut all = Vec::new();
    while let Some(chunk) = reader.next_chunk().unwrap() {
        all.extend(contents(&chunk));
    }
    all
}

fn mark(frame: u64) -> Mark {
    Mark { frame: FrameNo(frame), position: None }
}

fn opened(directory: &Path) -> Directory {
    Directory::open(directory).unwrap()
}

/// A layout with tiny segments.
fn tiny(directory: &Path, segment_size: u64) -> LogConfig {
    LogConfig {
        directory: opened(directory),
        max_size: 1 << 30,
        segment_size,
        rotate_after: Duration::from_hours(1),
    }
}

/// The log of an empty directory.
fn new_log(config: LogConfig) -> (Arc<Log>, Writer) {
    let scan = Log::scan(&config.directory, mark(0), FrameNo(0)).unwrap();
    Log::open(config, FrameNo(0), scan).unwrap()
}

/// A log with simple frames 1 to `count` in segments of `segment_size` bytes.
fn filled(directory: &Path, segment_size: u64, count: u64) -> (Arc<Log>, Writer) {
    let (log, mut writer) = new_log(tiny(directory, segment_size));
    for number in 1..=count {
        assert_eq!(Content::simple(number).append(&mut writer).unwrap(), FrameNo(number));
    }
    writer.flush().unwrap();
    (log, writer)
}

/// Paths of the segments in order.
fn segments(directory: &Path) -> Vec<std::path::PathBuf> {
    let mut paths: Vec<_> =
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
    paths.sort();
    paths
}
