//! Reads the log after a given frame: whole frames, in order, each verified by its checksum.
//!
//! A reader belongs to one attempt of the publish loop. It reads up to the published tail and changes
//! nothing.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::demand::Demand;
use super::disk::{DiskError, failed};
use super::frame::{self, Decoded, Frame};
use super::log::{Extent, Log};
use super::segment::{FORMAT_VERSION, HEADER, Header, Walk};
use crate::failure::{Explain, Failure};
use crate::position::FrameNo;

/// Size of a read in bytes, unless a single frame is larger. Enough for several full requests.
const CHUNK: u64 = 256 << 10;

/// Why the log could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// A disk operation failed.
    #[error("the log cannot be read")]
    Disk(#[from] DiskError),
    /// The bytes differ from what was written.
    #[error("frame {frame} is damaged at byte {offset} of {}: {reason}", path.display())]
    Damaged {
        /// The frame that was expected.
        frame: FrameNo,
        /// The segment.
        path: PathBuf,
        /// Offset at which it should begin, in bytes.
        offset: u64,
        /// The damage.
        reason: &'static str,
    },
    /// The frame was reclaimed before it was read: the reader began below `watermark`.
    #[error("frame {frame} of the log in {} was reclaimed already", directory.display())]
    Reclaimed {
        /// The frame.
        frame: FrameNo,
        /// The log.
        directory: PathBuf,
    },
    /// A newer release wrote the segment.
    #[error("{} has the newer format version {version}", path.display())]
    Newer {
        /// The segment.
        path: PathBuf,
        /// Its version.
        version: u32,
    },
}

impl Explain for ReadError {
    fn code(&self) -> Option<&'static str> {
        match self {
            Self::Disk(error) => error.code(),
            Self::Newer { .. } => Some("format_newer"),
            Self::Damaged { .. } | Self::Reclaimed { .. } => None,
        }
    }

    fn detail(&self) -> Option<String> {
        match self {
            Self::Newer { .. } => Some(format!("This release reads up to version {FORMAT_VERSION}.")),
            Self::Disk(_) | Self::Damaged { .. } | Self::Reclaimed { .. } => None,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Disk(error) => error.hint(),
            Self::Damaged { .. } => Some(
                "Check the disk, then start again. The start reports what the replication slot still has."
                    .to_owned(),
            ),
            Self::Reclaimed { .. } | Self::Newer { .. } => None,
        }
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Disk(_)
            | ReadError::Damaged { .. }
            | ReadError::Reclaimed { .. }
            | ReadError::Newer { .. } => Self::stop(error),
        }
    }
}

/// The open segment.
#[derive(Debug)]
struct Open {
    first: FrameNo,
    file: File,
    path: PathBuf,
    /// Byte offset of the next frame.
    offset: u64,
}

/// One reader of the log, with a position of its own.
#[derive(Debug)]
pub struct Reader {
    log: Arc<Log>,
    /// The last frame that was returned.
    last: FrameNo,
    open: Option<Open>,
}

impl Reader {
    /// A reader that returns the frames after `after`.
    pub fn new(log: &Arc<Log>, after: FrameNo) -> Self {
        Self { log: Arc::clone(log), last: after, open: None }
    }

    /// The last frame that was returned.
    pub const fn last(&self) -> FrameNo {
        self.last
    }

    /// Waits until there is this much to read. Cancel-safe: no frame is missed between two calls. Only one
    /// reader of a log may wait.
    pub async fn grown(&self, demand: Demand) {
        self.log.grown(self.last, demand).await;
    }

    /// The next whole frames, as many as fit into about 256 KiB; `None` if everything was read. Blocks on the
    /// disk.
    pub fn next_chunk(&mut self) -> Result<Option<Chunk>, ReadError> {
        self.next_chunk_until(FrameNo(u64::MAX))
    }

    /// Like [`next_chunk`](Self::next_chunk), without frames after `until`.
    pub fn next_chunk_until(&mut self, until: FrameNo) -> Result<Option<Chunk>, ReadError> {
        let wanted = self.last.next();
        // Read the tail first: otherwise a frame written between the two checks would look reclaimed.
        let until = until.min(self.log.supply().frame);
        if wanted > until {
            return Ok(None);
        }
        let Some(extent) = self.log.extent(wanted)? else { return Err(self.reclaimed()) };
        if self.open.as_ref().is_none_or(|open| open.first != extent.first) {
            self.open = Some(self.open_segment(extent, wanted)?);
        }
        let Some(open) = &mut self.open else { return Ok(None) };
        let chunk = read_chunk(open, extent, wanted, until)?;
        open.offset += chunk.bytes.len() as u64;
        self.last = chunk.last;
        Ok(Some(chunk))
    }

    fn open_segment(&self, extent: Extent, wanted: FrameNo) -> Result<Open, ReadError> {
        let first = extent.first;
        let mut walk = match Walk::open(&self.log.config().directory, first) {
            Err(error) if error.is_missing() && !self.log.has(first) => return Err(self.reclaimed()),
            walk => walk?,
        };
        let path = walk.path().to_owned();
        if let Header::Newer(version) = walk.header() {
            return Err(ReadError::Newer { path, version });
        }
        let offset = if first == wanted { Some(HEADER as u64) } else { walk.find(wanted)? };
        let Some(offset) = offset else {
            let reason = "the segment that should hold it does not";
            return Err(ReadError::Damaged { frame: wanted, path, offset: HEADER as u64, reason });
        };
        Ok(Open { first, file: walk.into_file(), path, offset })
    }

    fn reclaimed(&self) -> ReadError {
        ReadError::Reclaimed {
            frame: self.last.next(),
            directory: self.log.config().directory.path().to_owned(),
        }
    }
}

/// Reads whole frames from `wanted` to `until`, within the extent. Frames before a damaged one are returned,
/// and the next call reports the damage.
fn read_chunk(open: &Open, extent: Extent, wanted: FrameNo, until: FrameNo) -> Result<Chunk, ReadError> {
    let left = extent.length.saturating_sub(open.offset);
    let mut size = left.min(CHUNK);
    loop {
        let mut bytes = BytesMut::zeroed(usize::try_from(size).unwrap_or(usize::MAX));
        open.file.read_exact_at(&mut bytes, open.offset).map_err(failed("read", &open.path))?;
        let (end, next, stop) = whole_frames(&bytes, wanted, until);
        if next > wanted {
            bytes.truncate(end);
            return Ok(Chunk { bytes: bytes.freeze(), last: FrameNo(next.0 - 1) });
        }
        let reason = match stop {
            Stop::Incomplete(needed) if needed <= left => {
                size = needed;
                continue;
            }
            Stop::Incomplete(_) | Stop::Reached => "it is cut off",
            Stop::Damaged(reason) => reason,
        };
        let (path, offset) = (open.path.clone(), open.offset);
        return Err(ReadError::Damaged { frame: wanted, path, offset, reason });
    }
}

/// Why a sequence of frames ends.
enum Stop {
    /// The last requested frame was reached.
    Reached,
    /// The last frame needs this many bytes in all.
    Incomplete(u64),
    Damaged(&'static str),
}

/// The end offset of the whole frames numbered from `next` to `until`, the number after the last, and why
/// they end there.
fn whole_frames(bytes: &[u8], mut next: FrameNo, until: FrameNo) -> (usize, FrameNo, Stop) {
    let mut end = 0;
    loop {
        if next > until {
            return (end, next, Stop::Reached);
        }
        let stop = match frame::decode(bytes.get(end..).unwrap_or_default()) {
            Decoded::Whole { head, length } if head.number == next => {
                end += length;
                next = next.next();
                continue;
            }
            Decoded::Whole { .. } => Stop::Damaged("unexpected frame number"),
            Decoded::Incomplete { needed } => Stop::Incomplete(needed as u64),
            Decoded::Damaged(reason) => Stop::Damaged(reason),
        };
        return (end, next, stop);
    }
}

/// Whole, verified frames that share one buffer.
#[derive(Clone, Debug)]
pub struct Chunk {
    bytes: Bytes,
    last: FrameNo,
}

impl Chunk {
    /// The frames in order.
    pub fn frames(&self) -> impl Iterator<Item = Frame<'_>> {
        let mut offset = 0;
        std::iter::from_fn(move || {
            let (frame, end) = Frame::at(&self.bytes, offset)?;
            offset = end;
            Some(frame)
        })
    }

    /// Number of its last frame.
    pub const fn last(&self) -> FrameNo {
        self.last
    }

    /// Size in bytes. The memory stays allocated as long as any record of the chunk is in use.
    pub const fn size(&self) -> usize {
        self.bytes.len()
    }
}
