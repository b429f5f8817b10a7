//! Appends frames to the log: staged in memory, written by [`Writer::flush`], and only then shown to readers.
//!
//! It never fsyncs. When there is no room it loses nothing: the file ends with the last whole frame, the staged frames
//! stay staged, and the next flush tries again. What is staged has a limit, so that the one who appends must stop.

use std::collections::VecDeque;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::watch;

use super::disk::{self, DiskError, failed, is_full};
use super::frame::{self, FrameError, FrameHead, FrameKind};
use super::log::{Log, Tail};
use super::segment::{self, HEADER};
use crate::event::Records;
use crate::failure::Failure;
use crate::position::{FrameNo, Position, Transaction};

/// From this many staged bytes on, an append writes first. What is staged is copied again by the write: this much stays in
/// the processor's cache in between (measured: 0.32 µs a frame of 630 bytes, with 256 KiB 0.75 µs).
const STAGED_MAX: usize = 64 << 10;
/// Memory that is kept for staging: one huge frame must not stay for ever.
const STAGED_KEEP: usize = 1 << 20;

/// Why frames could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The log has the size it may have. Goes on after a release.
    #[error("the log in {} is full: it has {bytes} of at most {max_size} bytes (buffer.max_size)", directory.display())]
    LogFull {
        /// Where.
        directory: PathBuf,
        /// Bytes of all segments.
        bytes: u64,
        /// The limit.
        max_size: u64,
    },
    /// The disk has no room. Goes on when somebody makes some.
    #[error("there is no room on the disk for {}: {}", path.display(), disk::why_full(source))]
    DiskFull {
        /// The segment.
        path: PathBuf,
        /// The operating system's answer.
        source: std::io::Error,
    },
    /// The log could not hold this frame even if it were empty. The frame is not staged.
    #[error(
        "the records of the change at {position} take {size} bytes, but the whole log may have only {max_size} \
         (buffer.max_size): raise it"
    )]
    TooLargeForLog {
        /// The change.
        position: Position,
        /// Bytes of the frame.
        size: u64,
        /// The limit.
        max_size: u64,
    },
    /// The records are no frame. The frame is not staged.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The disk failed; the log is not used any more.
    #[error("the log cannot be written")]
    Disk(#[from] DiskError),
}

impl WriteError {
    /// Whether it passes when there is room; nothing is lost, and [`Writer::flush`] may be called again.
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

/// The segment that is written.
#[derive(Debug)]
struct Active {
    file: Arc<File>,
    path: PathBuf,
    first: FrameNo,
    /// Bytes of whole, published frames, header included.
    length: u64,
    opened: Instant,
}

/// A frame in memory.
#[derive(Debug)]
struct Staged {
    /// Where it ends in the staged bytes.
    end: usize,
    /// The log's tail once it is written.
    tail: Tail,
}

/// The only one who appends.
#[derive(Debug)]
pub struct Writer {
    log: Arc<Log>,
    active: Option<Active>,
    staged: Vec<u8>,
    /// So many of the staged bytes are written.
    written: usize,
    frames: VecDeque<Staged>,
    /// The tail once everything staged is written.
    tail: Tail,
    freed: watch::Receiver<u64>,
}

impl Writer {
    pub(super) fn new(log: Arc<Log>) -> Self {
        let (tail, freed) = (log.tail(), log.freedom());
        Self { log, active: None, staged: Vec::new(), written: 0, frames: VecDeque::new(), tail, freed }
    }

    /// Stages the records of one change, whole or not at all, and returns their frame's number. Writes first if much is
    /// staged already: an error then means that this frame is not staged, and the same call may be made again.
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
        frame::encode(&mut self.staged, &FrameHead { number, kind, position, transaction }, records)?;
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

    /// Bytes that are staged and not written: what a flush has to do.
    pub const fn staged(&self) -> usize {
        self.staged.len() - self.written
    }

    /// The log's tail once everything staged is written: what is received again at or below it is a repeat.
    pub const fn tail(&self) -> Tail {
        self.tail
    }

    /// Writes what is staged and shows it to readers. On an error that [`is_full`](WriteError::is_full), what did not
    /// fit stays staged.
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

    /// Waits until segments were deleted since the last [`flush`](Self::flush) began. Cancel-safe. On a full disk others
    /// may make room unseen: try again after a time too.
    pub async fn room(&mut self) {
        // The sender lives in the log, which lives as long as the writer.
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
                    // Only a drained log can be emptied to make room; the file that is written counts too.
                    if self.active.is_none() || self.log.low() < self.log.tail().frame {
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

    /// Whether the publisher has caught up with a segment that is older than it should get: it will be deleted soon, if
    /// it is not continued, before the kernel has written it back.
    fn is_due(&self) -> bool {
        self.active.as_ref().is_some_and(|active| {
            active.length > HEADER as u64
                && active.opened.elapsed() >= self.log.config().rotate_after
                && self.log.low() >= active.first
        })
    }

    /// Whether the next frame would make the segment larger than it should get.
    fn is_filled(&self) -> bool {
        let next = self.frames.front().map_or(0, |frame| frame.end - self.written) as u64;
        self.active.as_ref().is_some_and(|active| {
            active.length > HEADER as u64 && active.length + next > self.log.config().segment_size
        })
    }

    /// How many staged frames fit into the segment and the log; the first one need not fit into the segment.
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

    /// Ends the segment that is written. Deletes it, and others, if their frames are released.
    fn seal(&mut self) -> Result<(), WriteError> {
        if self.active.take().is_some() {
            self.log.seal();
            self.log.release(self.log.low())?;
        }
        Ok(())
    }

    /// Writes the staged bytes up to `end` behind what is published, in a new segment if there is none.
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
            file.set_len(*length).or_else(|error| self.log.poison(failed("cut", path)(error)))?;
            return Err(WriteError::DiskFull { path: path.clone(), source: error });
        }
        active.length += bytes.len() as u64;
        Ok(())
    }

    fn create(&self, first: FrameNo) -> Result<Active, WriteError> {
        let path = segment::path(&self.log.config().directory, first);
        let made = disk::create_file(&path);
        let written = made.and_then(|file| file.write_all_at(&segment::header(first), 0).map(|()| file));
        match written {
            Ok(file) => {
                let (file, length) = (Arc::new(file), HEADER as u64);
                self.log.created(first, length, &file);
                Ok(Active { file, path, first, length, opened: Instant::now() })
            }
            Err(error) if is_full(&error) => {
                disk::remove_file(&path).or_else(|error| self.log.poison(error))?;
                Err(WriteError::DiskFull { path, source: error })
            }
            Err(error) => Ok(self.log.poison(failed("create", &path)(error))?),
        }
    }

    fn log_full(&self) -> WriteError {
        let config = self.log.config();
        let (bytes, max_size) = (self.log.bytes(), config.max_size);
        WriteError::LogFull { directory: config.directory.clone(), bytes, max_size }
    }
}
