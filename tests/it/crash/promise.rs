//! What must be true at any moment of a kill: everything that the slot will not send again is published, or is in the
//! readable log up to `durable`.
//!
//! Which commits those are, a second slot shows (`test_decoding`), so that no word of ours is trusted. The directory is
//! read through the library, but from a copy: what is looked at is not changed.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use forebay::buffer::checkpoint::{Checkpoint, CheckpointFile, Phase};
use forebay::buffer::disk::Directory;
use forebay::buffer::log::{Log, LogConfig};
use forebay::buffer::reader::Reader;
use forebay::event::RecordKind;
use forebay::position::CommitSeq;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::checker;
use crate::support::flow::Flow;
use crate::support::history::Change;

/// A second slot, and what it has shown: where each change ends that the audit table notes.
#[derive(Debug, Default)]
pub struct Recorder {
    /// Audit number and where its commit record ends, beyond what was confirmed when last looked.
    beyond: Vec<(CommitSeq, u64)>,
}

impl Recorder {
    /// Makes the slot. To be called before the first commit.
    pub fn swear(flow: &Flow) -> Self {
        flow.postgres.query("select pg_create_logical_replication_slot('recorder', 'test_decoding')");
        Self::default()
    }

    /// The changes of commits that end at or before `confirmed`, and that were not given before, with their audit numbers.
    fn forgotten(&mut self, flow: &Flow, confirmed: CommitSeq) -> Vec<(u64, Change)> {
        let rows = flow.postgres.query(&format!(
            r"select lsn, substring(data from 'nr\[bigint\]:(\d+)')
              from pg_logical_slot_get_changes('recorder', '{confirmed}', null, 'skip-empty-xacts', '1')
              where data like 'table audit.changes: INSERT:%' or data like 'COMMIT%'"
        ));
        let mut open = Vec::new();
        for row in rows {
            let [lsn, nr] = <[_; 2]>::try_from(row).unwrap();
            if let Some(nr) = nr {
                open.push(nr.parse().unwrap());
                continue;
            }
            // The line of a commit has the place where its record ends.
            let end: CommitSeq = lsn.unwrap().parse().unwrap();
            self.beyond.extend(open.drain(..).map(|nr| (end, nr)));
        }
        let (forgotten, beyond) = self.beyond.drain(..).partition(|(end, _)| *end <= confirmed);
        self.beyond = beyond;
        let wanted: Vec<String> = forgotten.iter().map(|(_, nr)| nr.to_string()).collect();
        flow.postgres.changes(&format!("nr = any('{{{}}}')", wanted.join(",")))
    }
}

/// What a directory of a dead process is worth.
#[derive(Debug, Default)]
pub struct Found {
    pub checkpoint: Option<Checkpoint>,
    /// What the frames from `watermark` to `durable` show.
    pub durable: HashSet<Change>,
    /// How many changes of each table are dead letters, in the file or in those frames.
    letters: HashMap<String, usize>,
}

impl Found {
    /// Reads a copy of the directory; all of `(watermark, durable]` must be readable.
    pub fn look(directory: &Path) -> Self {
        if !directory.exists() {
            return Self::default();
        }
        let copy = copy(directory);
        let directory = Directory::open(copy.path()).unwrap();
        let (_, checkpoint) = CheckpointFile::open(&directory).unwrap();
        let Some(checkpoint) = checkpoint else { return Self::default() };
        let (watermark, durable) = (checkpoint.watermark, checkpoint.durable);
        let scan = Log::scan(&directory, watermark, durable.frame).unwrap();
        assert_eq!(scan.damage, None, "watermark {watermark:?}, durable {durable:?}");
        let end = watermark.frame.max(durable.frame);
        assert_eq!(scan.good.frame, end, "watermark {watermark:?}, durable {durable:?}");
        let (log, _writer) = Log::open(LogConfig::new(directory, 1 << 40), end, scan).unwrap();
        let mut reader = Reader::new(&log, watermark.frame);
        let mut found = HashSet::new();
        let mut letters = letters(copy.path());
        while let Some(chunk) = reader.next_chunk().unwrap() {
            let records = chunk.frames().flat_map(|frame| frame.records().collect::<Vec<_>>());
            for record in records {
                match record.kind {
                    RecordKind::Event => found.extend(checker::change(&record.line)),
                    RecordKind::DeadLetter => *letters.entry(record.event_type.to_string()).or_default() += 1,
                }
            }
        }
        assert_eq!(reader.last(), end);
        Self { checkpoint: Some(checkpoint), durable: found, letters }
    }
}

/// Changes in the dead-letter file, by table.
fn letters(directory: &Path) -> HashMap<String, usize> {
    let mut found = HashMap::new();
    let text = std::fs::read_to_string(directory.join("dead_letters.jsonl")).unwrap_or_default();
    for letter in text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
        if letter["change"].is_object() {
            *found.entry(letter["type"].as_str().unwrap().to_owned()).or_default() += 1;
        }
    }
    found
}

fn copy(directory: &Path) -> TempDir {
    let copy = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    for entry in std::fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    copy
}

/// What was checked.
#[derive(Clone, Copy, Debug, Default)]
pub struct Kept {
    /// Changes that the slot will not send again.
    pub promised: usize,
    /// How many of them only the log had.
    pub only_durable: usize,
}

impl std::ops::AddAssign for Kept {
    fn add_assign(&mut self, other: Self) {
        self.promised += other.promised;
        self.only_durable += other.only_durable;
    }
}

/// What the slot has confirmed since the last look, against stream and directory. The daemon is dead.
#[track_caller]
pub fn check(flow: &mut Flow, recorder: &mut Recorder) -> Kept {
    flow.wait_until_slot_is_free();
    let Some(confirmed) = flow.confirmed() else { return Kept::default() };
    let found = Found::look(&flow.daemon.buffer_directory());
    if let Some(checkpoint) = &found.checkpoint
        && checkpoint.phase == Phase::Running
    {
        let ever_confirmed = checkpoint.ever_confirmed.seq();
        assert!(
            confirmed <= ever_confirmed,
            "the slot stands at {confirmed}, the checkpoint knows of {ever_confirmed}"
        );
    }
    let promised = recorder.forgotten(flow, confirmed);
    let closed = flow.closed();
    let published = flow.published();
    let in_the_log_at_best = |(nr, change): &&(u64, Change)| *nr > closed && !published.contains(change);
    let unpublished: Vec<_> = promised.iter().filter(in_the_log_at_best).map(|(_, change)| change).collect();
    let mut lost: Vec<_> = unpublished.iter().filter(|change| !found.durable.contains(change)).collect();
    // A dead letter does not say which change of its table it is. Those of a window that is closed are counted there.
    let mut letters = found.letters.clone();
    lost.retain(|change| {
        let left = letters.entry(change.table.clone()).or_default();
        let is_letter = *left > 0;
        *left = left.saturating_sub(1);
        !is_letter
    });
    assert!(
        lost.is_empty(),
        "confirmed up to {confirmed}, neither published nor durable: {lost:#?}\n{:?}",
        found.checkpoint
    );
    Kept { promised: promised.len(), only_durable: unpublished.len() }
}
