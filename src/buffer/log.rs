//! The log: a sequence of segments, shared by the writer, the readers and the checkpointer.
//!
//! # On disk, format version 2
//!
//! A segment is a file `<number of its first frame, 20 digits>.log`, mode 0600. All numbers are little endian; every
//! checksum is CRC-32C.
//!
//! ```text
//! segment = header frame*
//! header  = magic "FOREBAYL" | version u32 | first frame number u64 | checksum of the 20 bytes before u32
//! frame   = length of body u32 | checksum of body u32 | body
//! body    = number u64 | flags u8
//!           | epoch u16 | commit u64 | index u32                      the position
//!           | commit u64 | xid u32 | commit time i64 (µs since 1970)  the transaction
//!           | count of records u16 | record*
//! record  = kind u8 (0 event, 1 dead letter) | key hash u64
//!           | type length u16 | key length u16 | line length u32 | type | key | line
//! ```
//!
//! The flags are, from the lowest bit: kind, 2 bits (0 change, 1 injected); origin, 2 bits (0 live, 1 backfill, 2 replay);
//! hash of keys, 4 bits (0 MD5). Version 1, which is still read, has only the kind: its other bits are 0.
//!
//! A body has at most 64 MiB; type and key are UTF-8; the key hash is [`KeyHash`](crate::event::KeyHash). Frames are numbered
//! without gaps, over all segments. A frame holds all records of one change, as they will be sent.
//! Magic, version and checksum of the header keep their offsets in every later version; a newer version is refused. A
//! damaged header loses nothing: the file name has the first number, and every frame has its own number and checksum.
//!
//! # Roles
//!
//! One [`Writer`](super::writer::Writer) appends. Any number of readers read up to the published tail. The checkpointer fsyncs and reclaims. Only
//! [`Log::open`] truncates whole frames. The mutex guards the list of segments and is never held across I/O. Only
//! [`Log::sync`] and [`Log::open`] call fsync.
//!
//! Invariants: the published bytes of a segment are whole frames and never change. A segment is deleted only below the
//! reclaimed `watermark`, and never while it is written. After a failed fsync, or a failed write that is not a full disk, the
//! log refuses every operation.

use std::collections::VecDeque;
use std::error::Error as _;
use std::fs::File;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::checkpoint::Mark;
use super::demand::{Demand, DemandWatch, Supply};
use super::disk::{Directory, DiskError, failed};
use super::scan::{self, Run, Scan, ScanError};
use super::segment;
use super::tail::Tail;
use crate::failure::{Explain, Failure};
use crate::position::{FrameNo, Transaction};

/// Most files whose handle stays open until their fsync. The open handle ensures that our fsync reports a write-back error;
/// without it the kernel may drop the error together with the inode. 64 segments of 64 MiB are more than any
/// `confirm_after` leaves unsynced; with `never` only repeats depend on the log. It keeps within the usual 1024 descriptors.
const UNSYNCED_HANDLES_MAX: usize = 64;

/// Directory and sizes of a log.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// The directory of its segments.
    pub directory: Directory,
    /// Largest total size of all segments in bytes.
    pub max_size: u64,
    /// Size in bytes at which a segment is closed.
    pub segment_size: u64,
    /// Age at which a segment is closed while the publisher keeps up.
    pub rotate_after: Duration,
}

impl LogConfig {
    /// The layout of a log of at most `max_size` bytes. Segments have 1/16 of it, because space is reclaimed by whole segments,
    /// but at least 1 MiB (each file has a cost) and at most 64 MiB (a restart reads a whole segment). While the publisher
    /// keeps up, a segment is closed after 5 s: well before the kernel writes back dirty pages (30 s).
    pub fn new(directory: Directory, max_size: u64) -> Self {
        Self {
            directory,
            max_size,
            segment_size: (max_size / 16).clamp(1 << 20, 64 << 20),
            rotate_after: Duration::from_secs(5),
        }
    }
}

/// Why a log could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A disk operation failed.
    #[error("the log cannot be opened")]
    Disk(#[from] DiskError),
    /// The scan failed.
    #[error("the log cannot be opened")]
    Scan(#[from] ScanError),
    /// The truncation point is below `watermark` or above the last readable frame.
    #[error("the log in {} cannot be truncated after frame {truncate_after}: it is readable from {watermark} to {good}", directory.display())]
    Cut {
        /// Directory of the log.
        directory: PathBuf,
        /// The requested last frame.
        truncate_after: FrameNo,
        /// Everything up to here is published.
        watermark: FrameNo,
        /// Last readable frame.
        good: FrameNo,
    },
}

impl Explain for OpenError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Disk(error) => error.hint(),
            Self::Scan(error) => error.hint(),
            Self::Cut { .. } => None,
        }
    }
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Disk(_) | OpenError::Scan(_) | OpenError::Cut { .. } => Self::stop(error),
        }
    }
}

/// A segment, as far as it is published.
#[derive(Debug)]
struct Segment {
    first: FrameNo,
    /// Its last frame; the one before `first` while it is empty.
    last: FrameNo,
    /// Bytes of whole frames, header included.
    length: u64,
    /// Whether the writer has closed it.
    sealed: bool,
    unsynced: bool,
    /// The handle for the fsync.
    handle: Option<Arc<File>>,
}

#[derive(Debug)]
struct State {
    segments: VecDeque<Segment>,
    bytes: u64,
    /// Bytes of frames appended since the log was opened.
    appended: u64,
    tail: Tail,
    /// The last visible frame while frames are withheld: see [`Log::withhold`].
    withheld: Option<Tail>,
    /// The last durable frame, if readers may see only durable frames.
    durable: Option<FrameNo>,
    watermark: FrameNo,
    /// Number of files created.
    created: u64,
    /// Number of them whose directory entry is durable.
    created_durable: u64,
    poisoned: Option<String>,
}

/// The state that the writer, the readers and the checkpointer share.
#[derive(Debug)]
pub struct Log {
    config: LogConfig,
    state: Mutex<State>,
    demand: DemandWatch,
    freed: watch::Sender<u64>,
}

/// A segment's published extent, for a reader.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extent {
    pub(super) first: FrameNo,
    pub(super) length: u64,
}

impl Log {
    /// Checks which frames of `(watermark, durable]` are readable without a gap. Reads all of them and changes nothing.
    pub fn scan(directory: &Directory, watermark: Mark, durable: FrameNo) -> Result<Scan, ScanError> {
        scan::scan(directory, watermark, durable)
    }

    /// The last transaction that any readable frame of the directory names, and its epoch. Reads at least the last segment.
    pub fn last_seen(directory: &Directory) -> Result<Option<(u16, Transaction)>, ScanError> {
        scan::last_seen(directory)
    }

    /// Truncates all frames above `truncate_after`, which lies between the scan's `watermark` and `good`.
    /// Durable on return. The next frame is `truncate_after + 1`, even if no file is left.
    pub(super) fn truncate(
        config: LogConfig,
        truncate_after: FrameNo,
        scan: Scan,
    ) -> Result<Arc<Self>, OpenError> {
        let directory = config.directory.clone();
        if !(scan.watermark.frame..=scan.good.frame).contains(&truncate_after) {
            let (watermark, good) = (scan.watermark.frame, scan.good.frame);
            let directory = directory.path().to_owned();
            return Err(OpenError::Cut { directory, truncate_after, watermark, good });
        }
        let kept = if truncate_after == scan.good.frame {
            scan
        } else {
            scan::scan(&directory, scan.watermark, truncate_after)?
        };
        cut(&directory, &kept)?;
        let segments: VecDeque<Segment> = kept.runs.iter().map(Segment::kept).collect();
        let state = State {
            bytes: segments.iter().map(|segment| segment.length).sum(),
            segments,
            appended: 0,
            tail: kept.good,
            withheld: None,
            durable: None,
            watermark: kept.watermark.frame,
            created: 0,
            created_durable: 0,
            poisoned: None,
        };
        Ok(Arc::new(Self {
            config,
            state: Mutex::new(state),
            demand: DemandWatch::new(truncate_after),
            freed: watch::Sender::new(0),
        }))
    }

    /// Directory and sizes.
    pub const fn config(&self) -> &LogConfig {
        &self.config
    }

    /// The last written frame.
    pub fn tail(&self) -> Tail {
        self.state().tail
    }

    /// The last frame visible to readers.
    pub fn visible(&self) -> Tail {
        self.state().visible()
    }

    /// Hides all frames written from now on from readers and [`sync`](Self::sync), until
    /// [`show`](Self::show): they may belong to another history. Returns the last visible frame.
    pub fn withhold(&self) -> Tail {
        let mut state = self.state();
        let tail = state.tail;
        *state.withheld.get_or_insert(tail)
    }

    /// Ends [`withhold`](Self::withhold): every written frame is visible.
    pub fn show(&self) {
        self.grow(|state| state.withheld = None);
    }

    /// From now on, readers see only frames up to `durable`, which [`show_durable`](Self::show_durable) raises.
    pub fn show_only_durable(&self, durable: FrameNo) {
        self.state().durable = Some(durable);
    }

    /// Raises the limit of [`show_only_durable`](Self::show_only_durable) to this durable frame.
    pub fn show_durable(&self, frame: FrameNo) {
        self.grow(|state| state.durable = state.durable.map(|durable| durable.max(frame)));
    }

    /// Changes the state, and wakes the waiting reader if there is enough to read.
    fn grow(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.demand.supply(|| self.supply());
    }

    /// What readers may read.
    pub(super) fn supply(&self) -> Supply {
        let state = self.state();
        Supply { frame: state.readable(), appended: state.appended }
    }

    /// Total size of all segments in bytes.
    pub fn bytes(&self) -> u64 {
        self.state().bytes
    }

    /// Number of segments.
    pub fn segments(&self) -> usize {
        self.state().segments.len()
    }

    /// Makes all frames durable that are visible at the time of the call, and returns the last of them.
    /// Blocks: call it on a blocking thread. After a failure the log refuses every operation.
    pub fn sync(&self) -> Result<Tail, DiskError> {
        let (tail, created, created_durable, unsynced) = {
            let state = self.usable()?;
            let of = |segment: &Segment| (segment.first, segment.length, segment.handle.clone());
            let unsynced: Vec<_> = state.segments.iter().filter(|s| s.unsynced).map(of).collect();
            (state.visible(), state.created, state.created_durable, unsynced)
        };
        for (first, length, handle) in unsynced {
            self.sync_segment(first, length, handle).or_else(|error| self.poison(error))?;
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
            self.config.directory.sync().or_else(|error| self.poison(error))?;
        }
        let mut state = self.usable()?;
        state.created_durable = state.created_durable.max(created);
        Ok(tail)
    }

    fn sync_segment(&self, first: FrameNo, length: u64, handle: Option<Arc<File>>) -> Result<(), DiskError> {
        let (directory, name) = (&self.config.directory, segment::name(first));
        let file = match handle {
            Some(file) => file,
            None => match directory.open_to_read(&name) {
                Ok(file) => Arc::new(file),
                Err(_) if !self.has(first) => return Ok(()),
                Err(error) => return Err(error),
            },
        };
        file.sync_data().map_err(failed("fsync", &segment::path(directory, first)))?;
        match directory.check_unchanged(&name, &file, &(length..=u64::MAX)) {
            // The writer has reclaimed it in the meantime.
            Err(_) if !self.has(first) => Ok(()),
            checked => checked,
        }
    }

    /// Deletes the segments whose frames are all at or below `watermark`, except the one that is being written. The checkpoint
    /// with this `watermark` must be durable.
    pub fn reclaim(&self, watermark: FrameNo) -> Result<(), DiskError> {
        let mut gone = Vec::new();
        {
            let mut state = self.usable()?;
            state.watermark = state.watermark.max(watermark);
            while let Some(segment) = state.segments.front()
                && segment.sealed
                && segment.last <= state.watermark
            {
                gone.push(segment.first);
                state.bytes -= segment.length;
                state.segments.pop_front();
            }
        }
        for first in &gone {
            self.config.directory.discard(&segment::name(*first))?;
        }
        if !gone.is_empty() {
            self.freed.send_modify(|times| *times += 1);
        }
        Ok(())
    }

    /// Waits until there is this much to read after a frame. Cancel-safe. Only one reader may wait.
    pub(super) async fn grown(&self, after: FrameNo, demand: Demand) {
        self.demand.met(after, demand).await;
    }

    /// Receives a change whenever segments are deleted.
    pub(super) fn freedom(&self) -> watch::Receiver<u64> {
        self.freed.subscribe()
    }

    /// The frame up to which segments are reclaimed.
    pub(super) fn watermark(&self) -> FrameNo {
        self.state().watermark
    }

    /// Whether a segment is still in the log.
    pub(super) fn has(&self, first: FrameNo) -> bool {
        self.state().segments.iter().any(|segment| segment.first == first)
    }

    /// The published extent of the segment with this frame; `None` if the frame is beyond the tail or reclaimed. It may reach
    /// beyond what is visible.
    pub(super) fn extent(&self, frame: FrameNo) -> Result<Option<Extent>, DiskError> {
        let state = self.usable()?;
        let after = state.segments.partition_point(|segment| segment.first <= frame);
        let segment = after.checked_sub(1).and_then(|index| state.segments.get(index));
        let extent = |s: &Segment| Extent { first: s.first, length: s.length };
        Ok(segment.filter(|segment| frame <= segment.last).map(extent))
    }

    /// Registers a new file whose header is written.
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

    /// Makes frames of the last segment visible to readers, unless they are withheld.
    pub(super) fn publish(&self, bytes: u64, tail: Tail) {
        self.grow(|state| {
            if let Some(segment) = state.segments.back_mut() {
                segment.length += bytes;
                segment.last = tail.frame;
            }
            state.bytes += bytes;
            state.appended += bytes;
            state.tail = tail;
        });
    }

    /// Closes the last segment.
    pub(super) fn seal(&self) {
        if let Some(segment) = self.state().segments.back_mut() {
            segment.sealed = true;
        }
    }

    /// Makes every later operation fail, and returns `error`.
    pub(super) fn poison<T>(&self, error: DiskError) -> Result<T, DiskError> {
        let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
        self.state().poisoned.get_or_insert_with(|| format!("{error}{cause}"));
        Err(error)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state, unless an earlier operation failed.
    fn usable(&self) -> Result<MutexGuard<'_, State>, DiskError> {
        let state = self.state();
        match &state.poisoned {
            None => Ok(state),
            Some(reason) => Err(DiskError::Poisoned {
                path: self.config.directory.path().to_owned(),
                reason: reason.clone(),
            }),
        }
    }

    /// Fails if an earlier operation failed.
    pub(super) fn check(&self) -> Result<(), DiskError> {
        self.usable().map(drop)
    }
}

impl State {
    fn visible(&self) -> Tail {
        self.withheld.unwrap_or(self.tail)
    }

    fn readable(&self) -> FrameNo {
        let visible = self.visible().frame;
        self.durable.map_or(visible, |durable| durable.min(visible))
    }
}

impl Segment {
    /// A segment of an earlier process, durable up to its kept end.
    fn kept(run: &Run) -> Self {
        let &Run { first, last, end } = run;
        Self { first, last, length: end, sealed: true, unsynced: false, handle: None }
    }
}

/// Deletes and truncates everything outside of `kept`, from the end, so that a crash in between leaves no gap. The last file is
/// fsynced even if it is not truncated: an earlier attempt may have truncated it and crashed before its fsync. After a power
/// loss the old frames would otherwise reappear before the frames written since.
fn cut(directory: &Directory, kept: &Scan) -> Result<(), DiskError> {
    for first in kept.segments.iter().rev() {
        let (name, path) = (segment::name(*first), segment::path(directory, *first));
        match kept.runs.iter().find(|run| run.first == *first) {
            None => directory.remove(&name)?,
            Some(run) => {
                let file = directory.open_to_write(&name)?;
                let length = file.metadata().map_err(failed("stat", &path))?.len();
                if length > run.end {
                    file.set_len(run.end).map_err(failed("truncate", &path))?;
                }
                if length > run.end || kept.runs.last() == Some(run) {
                    file.sync_all().map_err(failed("fsync", &path))?;
                }
            }
        }
    }
    directory.sync()
}
