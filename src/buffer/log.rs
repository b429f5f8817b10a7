//! The log: a run of segments that writer, reader and keeper share.
//!
//! # On disk, format version 1
//!
//! A segment is a file `<number of its first frame, 20 digits>.log`, mode 0600. All numbers are little endian; every
//! checksum is CRC-32C.
//!
//! ```text
//! segment = header frame*
//! header  = magic "FOREBAYL" | version u32 | first frame number u64 | checksum of the 20 bytes before u32
//! frame   = length of body u32 | checksum of body u32 | body
//! body    = number u64 | kind u8 (0 change, 1 injected)
//!           | epoch u16 | commit u64 | index u32                      the position
//!           | commit u64 | xid u32 | commit time i64 (µs since 1970)  the transaction
//!           | count of records u16 | record*
//! record  = kind u8 (0 event, 1 dead letter) | key hash u64
//!           | type length u16 | key length u16 | line length u32 | type | key | line
//! ```
//!
//! A body has at most 64 MiB; type and key are UTF-8; the key hash is [`KeyHash`](crate::event::KeyHash). Frames are numbered
//! without gaps, over all segments. A frame holds all records of one change, as they will be sent.
//! Magic, version and checksum of the header keep their places in every later version; a newer version is refused. A
//! damaged header is no loss: the name tells the first number, and every frame has its own number and checksum.
//!
//! # Who may do what
//!
//! One [`Writer`] appends; any number of readers read up to the published tail; the keeper syncs and releases. Only
//! [`Log::open`] cuts what is whole. The one mutex guards the list of segments and is never held across I/O. There is no
//! fsync but in [`Log::sync`] and [`Log::open`].
//!
//! Invariants: published bytes of a segment are whole frames and never change; a segment is emptied and deleted only below a
//! released `low`, and never while it is written; after a failed fsync or an unexplained failed write, nothing works any more.

use std::collections::VecDeque;
use std::error::Error as _;
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::checkpoint::Mark;
use super::disk::{self, DiskError, failed};
use super::scan::{self, Run, Scan, ScanError};
use super::segment;
use super::writer::Writer;
use crate::failure::Failure;
use crate::position::{FrameNo, Position, Transaction};

/// How many files wait for their fsync with an open handle. The handle is what makes sure that a write-back error is
/// seen by our fsync; without it the kernel may forget the error together with the inode. 64 segments of 64 MiB are more
/// than any `confirm_after` leaves unsynced, and where it is `never` the log is not what counts; the limit keeps a huge
/// unsynced log within the usual 1024 handles of a process.
const UNSYNCED_HANDLES_MAX: usize = 64;

/// How a log is laid out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// The directory; it exists.
    pub directory: PathBuf,
    /// Most bytes that all segments have together.
    pub max_size: u64,
    /// A segment with this many bytes is not continued.
    pub segment_size: u64,
    /// A segment that the publisher keeps up with is not continued after this time.
    pub rotate_after: Duration,
}

impl LogConfig {
    /// The layout for a log of at most `max_size` bytes: segments of 1/16 of it, because space comes back by whole
    /// segments, but at least 1 MiB (a file has its price) and at most 64 MiB (a restart reads one to find its place).
    /// They are changed after 5 s where the publisher keeps up: well before the kernel writes dirty pages back (30 s).
    pub fn new(directory: impl Into<PathBuf>, max_size: u64) -> Self {
        Self {
            directory: directory.into(),
            max_size,
            segment_size: (max_size / 16).clamp(1 << 20, 64 << 20),
            rotate_after: Duration::from_secs(5),
        }
    }
}

/// The end of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tail {
    /// Its last frame.
    pub frame: FrameNo,
    /// Position of the last change at or before that frame: injected frames do not move it.
    pub position: Option<Position>,
    /// Transaction of that change; unknown after a start until the first change, if no change was found in the log.
    pub transaction: Option<Transaction>,
}

impl Tail {
    /// As a checkpoint notes it.
    pub const fn mark(&self) -> Mark {
        Mark { frame: self.frame, position: self.position }
    }
}

/// Why a log could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The disk refused.
    #[error("the log cannot be opened")]
    Disk(#[from] DiskError),
    /// Looking at it again failed.
    #[error("the log cannot be opened")]
    Scan(#[from] ScanError),
    /// Frames would have to be kept that were not found, or given up below `low`.
    #[error("the log in {} cannot be cut after frame {cut_after}: it is good from {low} to {good}", directory.display())]
    Cut {
        /// Where.
        directory: PathBuf,
        /// What was asked for.
        cut_after: FrameNo,
        /// Everything up to here is published.
        low: FrameNo,
        /// Last readable frame.
        good: FrameNo,
    },
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Disk(_) | OpenError::Scan(_) | OpenError::Cut { .. } => Self::stop(error),
        }
    }
}

/// A file of the log, as far as it is published.
#[derive(Debug)]
struct Segment {
    first: FrameNo,
    /// Its last frame; the one before `first` while it is empty.
    last: FrameNo,
    /// Bytes of whole frames, header included.
    length: u64,
    /// Whether the writer has done with it.
    sealed: bool,
    unsynced: bool,
    /// Kept for the fsync.
    handle: Option<Arc<File>>,
}

#[derive(Debug)]
struct State {
    segments: VecDeque<Segment>,
    bytes: u64,
    tail: Tail,
    low: FrameNo,
    /// Counts the files that were made.
    created: u64,
    /// As many of them are durable in the directory.
    created_durable: u64,
    poisoned: Option<String>,
}

/// What writer, readers and keeper share.
#[derive(Debug)]
pub struct Log {
    config: LogConfig,
    state: Mutex<State>,
    grown: watch::Sender<FrameNo>,
    freed: watch::Sender<u64>,
}

/// A segment's published extent, for a reader.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extent {
    pub(super) first: FrameNo,
    pub(super) length: u64,
}

impl Log {
    /// Looks which frames of `(low, held]` can be read in a row; changes nothing. Reads all of them.
    pub fn scan(directory: &Path, low: Mark, held: FrameNo) -> Result<Scan, ScanError> {
        scan::scan(directory, low, held)
    }

    /// Cuts everything above `cut_after`, which lies between the scan's `low` and its `good`, and gives out the log and
    /// its only writer. Cut and deletions are durable when it returns. The next frame is `cut_after + 1`, even if no
    /// file is left.
    pub fn open(config: LogConfig, cut_after: FrameNo, scan: Scan) -> Result<(Arc<Self>, Writer), OpenError> {
        let directory = config.directory.clone();
        if !(scan.low.frame..=scan.good.frame).contains(&cut_after) {
            let (low, good) = (scan.low.frame, scan.good.frame);
            return Err(OpenError::Cut { directory, cut_after, low, good });
        }
        let kept =
            if cut_after == scan.good.frame { scan } else { scan::scan(&directory, scan.low, cut_after)? };
        cut(&directory, &kept)?;
        let segments: VecDeque<Segment> = kept.runs.iter().map(Segment::kept).collect();
        let state = State {
            bytes: segments.iter().map(|segment| segment.length).sum(),
            segments,
            tail: kept.good,
            low: kept.low.frame,
            created: 0,
            created_durable: 0,
            poisoned: None,
        };
        let log = Arc::new(Self {
            config,
            state: Mutex::new(state),
            grown: watch::Sender::new(cut_after),
            freed: watch::Sender::new(0),
        });
        let writer = Writer::new(Arc::clone(&log));
        Ok((log, writer))
    }

    /// How it is laid out.
    pub const fn config(&self) -> &LogConfig {
        &self.config
    }

    /// The last frame that readers can see.
    pub fn tail(&self) -> Tail {
        self.state().tail
    }

    /// Bytes of all segments.
    pub fn bytes(&self) -> u64 {
        self.state().bytes
    }

    /// How many segments there are.
    pub fn segments(&self) -> usize {
        self.state().segments.len()
    }

    /// Makes everything durable that readers can see at the moment of the call, and returns how far that is. Blocks: call
    /// it on a blocking thread. If it fails, the log is not used any more.
    pub fn sync(&self) -> Result<Tail, DiskError> {
        let (tail, created, created_durable, unsynced) = {
            let state = self.usable()?;
            let of = |segment: &Segment| (segment.first, segment.length, segment.handle.clone());
            let unsynced: Vec<_> = state.segments.iter().filter(|s| s.unsynced).map(of).collect();
            (state.tail, state.created, state.created_durable, unsynced)
        };
        for (first, length, handle) in unsynced {
            self.sync_segment(first, handle).or_else(|error| self.poison(error))?;
            let mut state = self.state();
            if let Some(segment) = state.segments.iter_mut().find(|segment| segment.first == first)
                && segment.sealed
                && segment.length == length
            {
                segment.unsynced = false;
                segment.handle = None;
            }
        }
        if created > created_durable {
            disk::sync_directory(&self.config.directory).or_else(|error| self.poison(error))?;
        }
        let mut state = self.usable()?;
        state.created_durable = state.created_durable.max(created);
        Ok(tail)
    }

    fn sync_segment(&self, first: FrameNo, handle: Option<Arc<File>>) -> Result<(), DiskError> {
        let path = segment::path(&self.config.directory, first);
        let file = match handle {
            Some(file) => file,
            None => match File::open(&path) {
                Ok(file) => Arc::new(file),
                Err(_) if !self.has(first) => return Ok(()),
                Err(error) => return Err(failed("open for fsync", &path)(error)),
            },
        };
        file.sync_data().map_err(failed("fsync", &path))
    }

    /// Deletes the segments whose frames are all at or below `low`, but never the one that is written. The checkpoint
    /// that says `low` must be durable.
    pub fn release(&self, low: FrameNo) -> Result<(), DiskError> {
        let mut gone = Vec::new();
        {
            let mut state = self.usable()?;
            state.low = state.low.max(low);
            while let Some(segment) = state.segments.front()
                && segment.sealed
                && segment.last <= state.low
            {
                gone.push(segment.first);
                state.bytes -= segment.length;
                state.segments.pop_front();
            }
        }
        for first in &gone {
            disk::discard_file(&segment::path(&self.config.directory, *first))?;
        }
        if !gone.is_empty() {
            self.freed.send_modify(|times| *times += 1);
        }
        Ok(())
    }

    /// Hears of published frames.
    pub(super) fn growth(&self) -> watch::Receiver<FrameNo> {
        self.grown.subscribe()
    }

    /// Hears of deleted segments.
    pub(super) fn freedom(&self) -> watch::Receiver<u64> {
        self.freed.subscribe()
    }

    /// What everything up to is released.
    pub(super) fn low(&self) -> FrameNo {
        self.state().low
    }

    /// Whether a segment has not been released.
    pub(super) fn has(&self, first: FrameNo) -> bool {
        self.state().segments.iter().any(|segment| segment.first == first)
    }

    /// The segment that holds a frame, as far as it is published; `None` if the frame is beyond the tail or released.
    pub(super) fn extent(&self, frame: FrameNo) -> Result<Option<Extent>, DiskError> {
        let state = self.usable()?;
        let after = state.segments.partition_point(|segment| segment.first <= frame);
        let segment = after.checked_sub(1).and_then(|index| state.segments.get(index));
        let extent = |s: &Segment| Extent { first: s.first, length: s.length };
        Ok(segment.filter(|segment| frame <= segment.last).map(extent))
    }

    /// Takes note of a new file, with its header written.
    pub(super) fn created(&self, first: FrameNo, length: u64, file: &Arc<File>) {
        let mut state = self.state();
        if state.segments.iter().filter(|segment| segment.handle.is_some()).count() >= UNSYNCED_HANDLES_MAX
            && let Some(oldest) = state.segments.iter_mut().find(|segment| segment.handle.is_some())
        {
            oldest.handle = None;
        }
        state.segments.push_back(Segment {
            first,
            last: FrameNo(first.0 - 1),
            length,
            sealed: false,
            unsynced: true,
            handle: Some(Arc::clone(file)),
        });
        state.bytes += length;
        state.created += 1;
    }

    /// Shows readers what has been written to the last segment.
    pub(super) fn publish(&self, bytes: u64, tail: Tail) {
        {
            let mut state = self.state();
            if let Some(segment) = state.segments.back_mut() {
                segment.length += bytes;
                segment.last = tail.frame;
            }
            state.bytes += bytes;
            state.tail = tail;
        }
        self.grown.send_replace(tail.frame);
    }

    /// The last segment is not written any more.
    pub(super) fn seal(&self) {
        if let Some(segment) = self.state().segments.back_mut() {
            segment.sealed = true;
        }
    }

    /// From now on everything fails; returns the error that is the reason.
    pub(super) fn poison<T>(&self, error: DiskError) -> Result<T, DiskError> {
        let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
        self.state().poisoned.get_or_insert_with(|| format!("{error}{cause}"));
        Err(error)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state, unless something has failed.
    fn usable(&self) -> Result<MutexGuard<'_, State>, DiskError> {
        let state = self.state();
        match &state.poisoned {
            None => Ok(state),
            Some(reason) => {
                Err(DiskError::Poisoned { path: self.config.directory.clone(), reason: reason.clone() })
            }
        }
    }

    /// Fails if something has failed before.
    pub(super) fn check(&self) -> Result<(), DiskError> {
        self.usable().map(drop)
    }
}

impl Segment {
    /// A segment that was there before, durable as far as it is kept.
    fn kept(run: &Run) -> Self {
        let &Run { first, last, end } = run;
        Self { first, last, length: end, sealed: true, unsynced: false, handle: None }
    }
}

/// Deletes and cuts everything but the runs of `kept`. From the end, so that a crash in between leaves no gap. The last
/// run's file is fsynced even if nothing is cut: an earlier try may have cut it and died before its fsync, and what comes
/// back after a power cut would stand before the frames written since.
fn cut(directory: &Path, kept: &Scan) -> Result<(), DiskError> {
    for first in kept.segments.iter().rev() {
        let path = segment::path(directory, *first);
        match kept.runs.iter().find(|run| run.first == *first) {
            None => disk::remove_file(&path)?,
            Some(run) => {
                let file = OpenOptions::new().write(true).open(&path).map_err(failed("open", &path))?;
                let length = file.metadata().map_err(failed("look at", &path))?.len();
                if length > run.end {
                    file.set_len(run.end).map_err(failed("cut", &path))?;
                }
                if length > run.end || kept.runs.last() == Some(run) {
                    file.sync_all().map_err(failed("fsync", &path))?;
                }
            }
        }
    }
    disk::sync_directory(directory)
}
