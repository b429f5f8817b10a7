//! Appends frames to the log: staged in memory, written by [`Writer::flush`], and visible to readers only
//! then.
//!
//! It never fsyncs. A full log or disk loses nothing: the file ends with the last whole frame, the staged
//! frames stay staged, and the next flush retries. The size of staged frames is limited, so the caller must
//! stop appending.

use std::collections::VecDeque;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::watch;

use super::disk::{self, DiskError, failed, is_full};
use super::frame::{self, FrameError, FrameHead, FrameKind};
use super::log::{Log, LogConfig, OpenError};
use super::scan::Scan;
use super::segment::{self, HEADER};
use super::tail::Tail;
use crate::event::{Origin, Records};
use crate::failure::{Explain, Failure};
use crate::position::{FrameNo, Position, Transaction};
use crate::time;

/// From this many staged bytes on, an append writes first. The write copies the staged bytes again, and this
/// many still fit into the processor's cache (measured: 0.32 µs for a frame of 630 bytes; with 256 KiB, 0.75
/// µs).
const STAGED_MAX: usize = 64 << 10;
/// Largest capacity in bytes that is kept for staging. The memory of a huge frame is freed.
const STAGED_KEEP: usize = 1 << 20;

/// Why frames could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The log has reached its maximum size. Writing succeeds again after segments were reclaimed.
    #[error("the log in {} is full: it has {bytes} of at most {max_size} bytes (buffer.max_size)", directory.display())]
    LogFull {
        /// Directory of the log.
        directory: PathBuf,
        /// Bytes of all segments.
        bytes: u64,
        /// The limit.
        max_size: u64,
    },
    /// The disk is full. Writing succeeds again when space is free.
    #[error("disk full: cannot write {}: {}", path.display(), disk::why_full(source))]
    DiskFull {
        /// The segment.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The frame does not fit even into an empty log. It is not staged.
    #[error(
        "the records of the change at {position} take {size} bytes, but the whole log may have only {max_size} \
         (buffer.max_size)"
    )]
    TooLargeForLog {
        /// The change.
        position: Position,
        /// Bytes of the frame.
        size: u64,
        /// The limit.
        max_size: u64,
    },
    /// The records cannot be encoded as a frame. It is not staged.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The disk failed. The log refuses every later operation.
    #[error("the log cannot be written")]
    Disk(#[from] DiskError),
}

impl Explain for WriteError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Disk(error) => error.hint(),
            Self::TooLargeForLog { .. } => Some("Raise buffer.max_size.".to_owned()),
            Self::LogFull { .. } | Self::DiskFull { .. } | Self::Frame(_) => None,
        }
    }
}

impl WriteError {
    /// Whether writing succeeds once space is free. Nothing is lost, and [`Writer::flush`] may be called
    /// again.
    pub const fn is_full(&self) -> bool {
        matches!(self, Self::LogFull { .. } | Self::DiskFull { .. })
    }
}

impl From<WriteError> for Failure {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::LogFull { .. } | WriteError::DiskFull { .. } => Self::retry(error),
            WriteError::TooLargeForLog { .. } | WriteError::Frame(_) | WriteError::Disk(_) => {
                Self::stop(error)
            }
        }
    }
}

/// The segment that is being written.
#[derive(Debug)]
struct Active {
    file: Arc<File>,
    path: PathBuf,
    first: FrameNo,
    /// Bytes of whole, published frames, header included.
    length: u64,
    opened: Instant,
}

/// A staged frame.
#[derive(Debug)]
struct Staged {
    /// Its end in the staged bytes.
    end: usize,
    /// The log's tail once the frame is written.
    tail: Tail,
}

/// Appends frames. A log has one writer.
#[derive(Debug)]
pub struct Writer {
    log: Arc<Log>,
    active: Option<Active>,
    staged: Vec<u8>,
    /// Number of staged bytes that are written already.
    written: usize,
    frames: VecDeque<Staged>,
    /// The tail once everything staged is written.
    tail: Tail,
    /// Origin of the changes that are appended.
    origin: Origin,
    freed: watch::Receiver<u64>,
}

impl Log {
    /// Truncates everything above `truncate_after`, which lies between the scan's `watermark` and its `good`.
    /// Returns the log and its only writer.
    ///
    /// # Errors
    /// The log is damaged, or a disk operation failed.
    pub fn open(
        config: LogConfig,
        truncate_after: FrameNo,
        scan: Scan,
    ) -> Result<(Arc<Self>, Writer), OpenError> {
        let log = Self::truncate(config, truncate_after, scan)?;
        let writer = Writer::new(Arc::clone(&log));
        Ok((log, writer))
    }
}

impl Writer {
    fn new(log: Arc<Log>) -> Self {
        let (tail, freed) = (log.tail(), log.freedom());
        Self {
            log,
            active: None,
            staged: Vec::new(),
            written: 0,
            frames: VecDeque::new(),
            tail,
            origin: Origin::Live,
            freed,
        }
    }

    /// Sets the origin of the changes that are appended from here on.
    pub const fn set_origin(&mut self, origin: Origin) {
        self.origin = origin;
    }

    /// Stages the records of one change, whole or not at all, and returns their frame's number. Writes first
    /// if much is staged: after an error this frame is not staged, and the call may be repeated.
    pub fn append(
        &mut self,
        kind: FrameKind,
        position: Position,
        transaction: Transaction,
        records: &Records,
    ) -> Result<FrameNo, WriteError> {
        self.log.check()?;
        if self.staged() >= STAGED_MAX {
            self.flush()?;
        }
        let number = self.tail.frame.next();
        let start = self.staged.len();
        let origin = if kind == FrameKind::Change { self.origin } else { Origin::Live };
        frame::encode(&mut self.staged, &FrameHead { number, kind, origin, position, transaction }, records)?;
        let size = (self.staged.len() - start) as u64;
        let max_size = self.log.config().max_size;
        if size + HEADER as u64 > max_size {
            self.staged.truncate(start);
            return Err(WriteError::TooLargeForLog { position, size, max_size });
        }
        self.tail.frame = number;
        if kind == FrameKind::Change {
            self.tail.position = Some(position);
            self.tail.transaction = Some(transaction);
        }
        self.frames.push_back(Staged { end: self.staged.len(), tail: self.tail });
        Ok(number)
    }

    /// Bytes that are staged and not written.
    pub const fn staged(&self) -> usize {
        self.staged.len() - self.written
    }

    /// The log's tail once everything staged is written. A change at or below it is a duplicate.
    pub const fn tail(&self) -> Tail {
        self.tail
    }

    /// Writes the staged frames and makes them visible to readers. After an error that
    /// [`is_full`](WriteError::is_full), the frames that did not fit stay staged.
    pub fn flush(&mut self) -> Result<(), WriteError> {
        self.log.check()?;
        self.freed.mark_unchanged();
        let result = self.write_staged();
        self.staged.drain(..self.written);
        self.staged.shrink_to(STAGED_KEEP);
        for frame in &mut self.frames {
            frame.end -= self.written;
        }
        self.written = 0;
        result
    }

    /// Waits until segments are deleted after the last [`flush`](Self::flush) began. Cancel-safe. Other
    /// programs may free disk space without notice, so also retry after a while.
    pub async fn room(&mut self) {
        // The log owns the sender and outlives the writer.
        let closed = self.freed.changed().await.is_err();
        debug_assert!(!closed, "the log outlives its writer");
    }

    fn write_staged(&mut self) -> Result<(), WriteError> {
        while !self.frames.is_empty() {
            let first = self.next_unwritten();
            if self.is_due() || self.is_filled() {
                self.seal()?;
            }
            let count = match self.batch() {
                0 => {
                    // The file being written counts too. It can be deleted only if it is published.
                    if self.active.is_none() || self.log.watermark() < self.log.tail().frame {
                        return Err(self.log_full());
                    }
                    self.seal()?;
                    self.batch()
                }
                count => count,
            };
            let Some(last) = count.checked_sub(1).and_then(|last| self.frames.get(last)) else {
                return Err(self.log_full());
            };
            let (end, tail) = (last.end, last.tail);
            self.write(first, end)?;
            self.log.publish((end - self.written) as u64, tail);
            self.written = end;
            self.frames.drain(..count);
        }
        Ok(())
    }

    fn next_unwritten(&self) -> FrameNo {
        FrameNo(self.tail.frame.0 + 1 - self.frames.len() as u64)
    }

    /// Whether the current segment has reached its maximum age while the publisher keeps up. Once closed, it
    /// is soon deleted, before the kernel writes it back.
    fn is_due(&self) -> bool {
        self.active.as_ref().is_some_and(|active| {
            active.length > HEADER as u64
                && time::now().duration_since(active.opened) >= self.log.config().rotate_after
                && self.log.watermark() >= active.first
        })
    }

    /// Whether the next frame would exceed the segment's maximum size.
    fn is_filled(&self) -> bool {
        let next = self.frames.front().map_or(0, |frame| frame.end - self.written) as u64;
        self.active.as_ref().is_some_and(|active| {
            active.length > HEADER as u64 && active.length + next > self.log.config().segment_size
        })
    }

    /// Number of staged frames that fit into the segment and the log. The first one may exceed the segment's
    /// size.
    fn batch(&self) -> usize {
        let config = self.log.config();
        let (length, header) = self.active.as_ref().map_or((HEADER as u64, HEADER as u64), |a| (a.length, 0));
        let room = config.max_size.saturating_sub(self.log.bytes() + header);
        let segment_room = config.segment_size.saturating_sub(length);
        let fits = |(index, frame): &(usize, &Staged)| {
            let bytes = (frame.end - self.written) as u64;
            bytes <= room && (*index == 0 || bytes <= segment_room)
        };
        self.frames.iter().enumerate().take_while(fits).count()
    }

    /// Closes the current segment. Deletes it, and others, if their frames are reclaimed.
    fn seal(&mut self) -> Result<(), WriteError> {
        if self.active.take().is_some() {
            self.log.seal();
            self.log.reclaim(self.log.watermark())?;
        }
        Ok(())
    }

    /// Appends the staged bytes up to `end` to the current segment, or to a new one.
    fn write(&mut self, first: FrameNo, end: usize) -> Result<(), WriteError> {
        let active = match self.active.take() {
            Some(active) => active,
            None => self.create(first)?,
        };
        let active = self.active.insert(active);
        let bytes = self.staged.get(self.written..end).unwrap_or_default();
        if let Err(error) = active.file.write_all_at(bytes, active.length) {
            let Active { file, path, length, .. } = active;
            if !is_full(&error) {
                return Ok(self.log.poison(failed("write", path)(error))?);
            }
            file.set_len(*length).or_else(|error| self.log.poison(failed("truncate", path)(error)))?;
            return Err(WriteError::DiskFull { path: path.clone(), source: error });
        }
        active.length += bytes.len() as u64;
        Ok(())
    }

    fn create(&self, first: FrameNo) -> Result<Active, WriteError> {
        let (directory, name) = (&self.log.config().directory, segment::name(first));
        let path = directory.path_of(&name);
        let made = directory.create_file(&name);
        let written = made.and_then(|file| {
            file.write_all_at(&segment::header(first), 0).map(|()| file).map_err(failed("write", &path))
        });
        match written {
            Ok(file) => {
                let (file, length) = (Arc::new(file), HEADER as u64);
                self.log.created(first, length, &file);
                Ok(Active { file, path, first, length, opened: time::now() })
            }
            Err(DiskError::Io { source, .. }) if is_full(&source) => {
                directory.remove(&name).or_else(|error| self.log.poison(error))?;
                Err(WriteError::DiskFull { path, source })
            }
            Err(error) => Ok(self.log.poison(error)?),
        }
    }

    fn log_full(&self) -> WriteError {
        let config = self.log.config();
        let (bytes, max_size) = (self.log.bytes(), config.max_size);
        WriteError::LogFull { directory: config.directory.path().to_owned(), bytes, max_size }
    }
}
