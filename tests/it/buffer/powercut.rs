//! Every state of the directory that a power cut permits: what was fsynced is there; what was not may be missing, short,
//! filled with zeroes, or there in some sectors only; what was deleted may be back, whole or emptied. From each the start goes
//! on with exactly what is durable, and what is written afterwards is never mixed with what came back.
//!
//! tests/it/disk has the same with a real file system, which shows few of these states in one run.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use forebay::buffer::checkpoint::{Checkpoint, CheckpointFile, Phase};
use forebay::buffer::log::{Log, LogConfig};
use forebay::buffer::reader::Reader;
use forebay::buffer::writer::Writer;
use forebay::daemon::recover::recover;
use forebay::pipeline::start::recover::{LogState, identity};
use forebay::position::{CommitSeq, FrameNo};
use forebay::source::postgres::admit::{ReplicationSlot, Server, Wanted};
use tempfile::TempDir;

use super::{Content, Random, opened, quick_directory, read_all, segments, tiny};
use crate::support::random::seed;

const SECTOR: usize = 512;

type Files = BTreeMap<String, Vec<u8>>;

fn files(directory: &Path) -> Files {
    let entry = |path: std::path::PathBuf| {
        (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(&path).unwrap())
    };
    segments(directory).into_iter().map(entry).collect()
}

/// A process with its directory; what of it is durable is known.
struct Life {
    directory: TempDir,
    log: Arc<Log>,
    writer: Writer,
    checkpoint: Checkpoint,
    /// Frame `n` is `frames[n - 1]`; up to `watermark` they need not be kept.
    frames: Vec<Content>,
    /// What the directory has for sure.
    durable: Files,
    /// What was deleted and may come back.
    deleted: Files,
    /// Counts power cuts: frames that are written again differ from those that came back.
    generation: u64,
}

fn wanted() -> Wanted {
    let text = |text: &str| text.to_owned();
    Wanted {
        database: text("lab"),
        slot: text("forebay_lab"),
        publication: text("forebay_lab"),
        source: text("urn:forebay:lab"),
        never_written: false,
        epoch_least: 0,
        at: 0,
    }
}

fn server() -> Server {
    Server {
        system_id: "7000000000000000001".to_owned(),
        timeline: 1,
        switches: Vec::new(),
        wal_end: CommitSeq::new(u64::MAX / 2),
        in_recovery: false,
        publication_exists: true,
    }
}

fn layout(directory: &Path) -> LogConfig {
    tiny(directory, 900)
}

impl Life {
    fn begin() -> Self {
        let directory = quick_directory();
        let (log, writer) = super::new_log(layout(directory.path()));
        let mut checkpoint = Checkpoint::fresh(
            identity(wanted().identity(&server()), wanted().source),
            Phase::Running,
            1,
            CommitSeq::ZERO,
        );
        checkpoint.ever_confirmed = CommitSeq::new(1).into();
        CheckpointFile::open(&opened(directory.path())).unwrap().0.write(&checkpoint).unwrap();
        let (frames, durable, deleted) = (Vec::new(), Files::new(), Files::new());
        Self { directory, log, writer, checkpoint, frames, durable, deleted, generation: 0 }
    }

    fn step(&mut self, random: &mut Random) {
        match random.below(10) {
            0..5 => self.append(random),
            5..7 => self.hold(),
            _ => self.reclaim(random),
        }
    }

    fn append(&mut self, random: &mut Random) {
        for _ in 0..random.between(1, 8) {
            let number = self.frames.len() as u64 + 1;
            let mut content = Content::simple(number);
            content.position.epoch = 1;
            content.records[0].3 =
                format!("{{\"generation\":{},\"number\":{number}}}\n", self.generation).into_bytes();
            content.records[0].3.extend(vec![b' '; random.below(300) as usize]);
            assert_eq!(content.append(&mut self.writer).unwrap(), FrameNo(number));
            self.frames.push(content);
        }
        self.writer.flush().unwrap();
    }

    /// The log is fsynced, then the checkpoint says so.
    fn hold(&mut self) {
        let tail = self.log.sync().unwrap();
        self.durable.extend(files(self.directory.path()));
        self.checkpoint.durable = tail.mark();
        self.checkpoint.last_seen = tail.transaction.or(self.checkpoint.last_seen);
        self.note();
    }

    /// Some more is published; the checkpoint says so, then segments are deleted.
    fn reclaim(&mut self, random: &mut Random) {
        let (watermark, tail) = (self.checkpoint.watermark.frame.0, self.log.tail().frame.0);
        let published = random.between(watermark, tail);
        if published > watermark {
            self.checkpoint.watermark = forebay::buffer::checkpoint::Mark {
                frame: FrameNo(published),
                position: Some(self.frames[published as usize - 1].position),
            };
        }
        self.note();
        let before = files(self.directory.path());
        self.log.reclaim(FrameNo(published)).unwrap();
        let after = files(self.directory.path());
        for (name, bytes) in before.into_iter().filter(|(name, _)| !after.contains_key(name)) {
            self.durable.remove(&name);
            self.deleted.insert(name, bytes);
        }
    }

    fn note(&mut self) {
        let (mut file, _) = CheckpointFile::open(&opened(self.directory.path())).unwrap();
        let ever_confirmed = self.checkpoint.watermark.position.max(self.checkpoint.durable.position);
        self.checkpoint.ever_confirmed = self
            .checkpoint
            .ever_confirmed
            .seq()
            .max(ever_confirmed.map_or(CommitSeq::ZERO, |position| position.commit))
            .into();
        file.write(&self.checkpoint).unwrap();
    }

    /// The directory after a power cut, one of the many that may be.
    fn cut(&mut self, random: &mut Random) {
        let current = files(self.directory.path());
        let next = quick_directory();
        fs::copy(self.directory.path().join("checkpoint"), next.path().join("checkpoint")).unwrap();
        for (name, bytes) in &current {
            let durable = self.durable.get(name);
            if durable.is_none() && random.below(3) == 0 {
                continue;
            }
            let kept = durable.map_or(0, Vec::len);
            fs::write(next.path().join(name), unsynced(random, bytes, kept)).unwrap();
        }
        for (name, bytes) in &self.deleted {
            let back = match random.below(4) {
                0 => continue,
                1 => Vec::new(),
                2 => unsynced(random, bytes, 0),
                _ => bytes.clone(),
            };
            fs::write(next.path().join(name), back).unwrap();
        }
        self.directory = next;
    }

    /// Starts on what is there, and checks that it is what was durable.
    fn start(&mut self) {
        let path = self.directory.path().to_owned();
        let (_, found) = CheckpointFile::open(&opened(&path)).unwrap();
        assert_eq!(found.as_ref(), Some(&self.checkpoint));
        let (watermark, durable) = (self.checkpoint.watermark, self.checkpoint.durable);
        let scan = Log::scan(&opened(&path), watermark, durable.frame).unwrap();
        assert_eq!(scan.damage, None, "watermark {watermark:?}, durable {durable:?}");
        let damage = scan.damage.as_ref().map(ToString::to_string);
        let state = LogState { good: scan.good.mark(), damage, any: scan.any(), seen: None };
        // Postgres has forgotten everything that it was allowed to.
        let slot = ReplicationSlot { confirmed: self.checkpoint.ever_confirmed.seq(), unusable: None };
        let start = recover(&wanted(), found.as_ref(), &state, Some(&slot), &server()).unwrap();
        let end = watermark.frame.max(durable.frame);
        assert_eq!(start.truncate_after, end);
        let (log, writer) = Log::open(layout(&path), start.truncate_after, scan).unwrap();
        self.frames.truncate(end.0 as usize);
        let expected: Vec<_> =
            (watermark.frame.0..end.0).map(|n| (FrameNo(n + 1), self.frames[n as usize].clone())).collect();
        assert_eq!(read_all(&mut Reader::new(&log, watermark.frame)), expected);
        (self.log, self.writer, self.checkpoint) = (log, writer, start.checkpoint);
        self.durable = files(&path);
        self.deleted.clear();
        self.generation += 1;
    }
}

/// A file of which the first `kept` bytes are durable: the rest is missing, in part or not, or is there in some sectors only.
fn unsynced(random: &mut Random, bytes: &[u8], kept: usize) -> Vec<u8> {
    let length = match random.below(3) {
        0 => kept,
        1 => random.between(kept as u64, bytes.len() as u64) as usize,
        _ => bytes.len(),
    };
    let mut left = bytes[..length].to_vec();
    let everything = random.below(3) == 0;
    for start in (0..length).step_by(SECTOR) {
        let end = length.min(start + SECTOR);
        if end > kept && !everything && random.below(2) == 0 {
            left[start.max(kept)..end].fill(0);
        }
    }
    left
}

#[test]
fn power_cut_leaves_exactly_durable_frames() {
    let seed = seed();
    let (mut cuts, mut back, mut unsynced_frames) = (0, 0, 0);
    for run in 0..150 {
        let mut random = Random(seed.wrapping_mul(1_000).wrapping_add(run));
        let mut life = Life::begin();
        for _ in 0..8 {
            for _ in 0..random.below(12) {
                life.step(&mut random);
            }
            let durable = life.checkpoint.durable.frame.max(life.checkpoint.watermark.frame);
            unsynced_frames += life.log.tail().frame.0 - durable.0;
            back += life.deleted.len();
            life.cut(&mut random);
            life.start();
            cuts += 1;
        }
    }
    println!("{cuts} cuts; {back} deleted segments, {unsynced_frames} frames that were not durable");
    assert!(back > 500 && unsynced_frames > 2_000, "the cuts hit too little");
}

/// A process that was killed between cutting a segment and fsyncing it: what it cut comes back with the power cut, unless
/// the next start fsyncs the file although there is nothing left to cut. `disk::errors` shows that it does; here, what would
/// be lost if it did not: frames that came back stand where new durable ones should be.
#[test]
fn resurrected_frames_are_read_without_truncation_fsync() {
    let mut life = Life::begin();
    let mut random = Random(1);
    life.append(&mut random);
    life.hold();
    life.append(&mut random);
    let stale = files(life.directory.path());
    life.cut(&mut Random(0));
    life.start();
    life.append(&mut random);
    life.hold();
    let durable = life.checkpoint.durable.frame;
    for (name, bytes) in stale {
        let path = life.directory.path().join(name);
        let grown = fs::metadata(&path).is_ok_and(|metadata| metadata.len() < bytes.len() as u64);
        if grown {
            fs::write(&path, bytes).unwrap();
        }
    }
    let scan = Log::scan(&opened(life.directory.path()), life.checkpoint.watermark, durable).unwrap();
    let (log, _writer) = Log::open(layout(life.directory.path()), scan.good.frame, scan).unwrap();
    let read = read_all(&mut Reader::new(&log, FrameNo(0)));
    let differ = read.iter().any(|(number, content)| *content != life.frames[number.0 as usize - 1]);
    assert!(differ, "then the fsync is not needed");
}
