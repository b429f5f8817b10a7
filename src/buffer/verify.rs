//! Reads every frame of a log and reports damage and its consequences. Changes nothing, needs no lock, and
//! tolerates a running daemon. It needs memory for one window of 1 MiB, or for the largest frame.

use std::path::{Path, PathBuf};

use super::checkpoint::{CheckpointError, CheckpointFile};
use super::disk::Directory;
use super::frame::FrameKind;
use super::scan::ScanError;
use super::segment::{self, Found, HEADER, Header, Walk};
use crate::position::{FrameNo, Position};

/// Smallest size of a frame in a segment in bytes. It bounds the numbers that a segment can contain.
const FRAME_MIN: u64 = 53;
/// Most findings that are listed.
const FINDINGS_MAX: usize = 1_000;

/// Most repetitions after damage was found while a daemon publishes: the daemon may have reclaimed the
/// segment that seems to be missing.
const LOOKS_AGAIN: usize = 3;

/// The consequence of damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Zone {
    /// At or below `watermark`: published, and never read again.
    Published,
    /// Durable and unpublished: the next start needs it.
    Durable,
    /// Not durable: the next start truncates it, and the source sends it again.
    Beyond,
}

/// Frames that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The segment; the directory if a segment is missing.
    pub path: PathBuf,
    /// Byte offset in it.
    pub offset: u64,
    /// The damage.
    pub reason: &'static str,
    /// The first frame that cannot be read.
    pub first: FrameNo,
    /// The last lost frame; the one before `first` if only a header is damaged.
    pub last: FrameNo,
    /// The last readable change before it; `None` if there is none.
    pub before: Option<Position>,
    /// The consequence.
    pub zone: Zone,
}

/// The result of a verification.
#[derive(Debug, Default)]
pub struct Verified {
    /// Everything up to this frame is published.
    pub watermark: FrameNo,
    /// Everything up to this frame must be readable.
    pub durable: FrameNo,
    /// Whether there is a checkpoint at all.
    pub checkpoint: bool,
    /// The sequence of each slot of the checkpoint file; `None` if the slot is damaged.
    pub slots: Vec<Option<u64>>,
    /// Number of segments that were read.
    pub segments: u64,
    /// Size of these segments in bytes.
    pub bytes: u64,
    /// Number of whole frames in their places.
    pub frames: u64,
    /// The last of them.
    pub last: FrameNo,
    /// Bytes of a frame that was being written, at the very end.
    pub torn: u64,
    /// Damage, in order.
    pub findings: Vec<Finding>,
    /// Number of findings that are not listed.
    pub more: u64,
}

/// Why a directory cannot be verified.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The checkpoint cannot be read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The log cannot be read.
    #[error(transparent)]
    Log(#[from] ScanError),
}

impl From<VerifyError> for crate::failure::Failure {
    fn from(error: VerifyError) -> Self {
        match error {
            VerifyError::Checkpoint(error) => error.into(),
            VerifyError::Log(error) => error.into(),
        }
    }
}

/// Verifies a buffer directory.
///
/// # Errors
/// The checkpoint has no whole slot, a newer release wrote the directory, or a disk operation failed.
pub fn verify(directory: &Directory) -> Result<Verified, VerifyError> {
    verify_showing(directory, &|_| ())
}

/// Progress of a verification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VerifyProgress {
    /// Reading of this many segments begins, possibly again.
    Total(u64),
    /// A segment was read.
    Segment,
}

/// Like [`verify`]; `show` receives the progress.
///
/// # Errors
/// The same as those of [`verify`].
pub fn verify_showing(directory: &Directory, show: &dyn Fn(VerifyProgress)) -> Result<Verified, VerifyError> {
    let mut verified = look(directory, show)?;
    for _ in 0..LOOKS_AGAIN {
        let moved = |watermark| -> Result<bool, CheckpointError> {
            Ok(CheckpointFile::peek(directory)?.checkpoint.is_some_and(|now| now.watermark.frame > watermark))
        };
        if verified.findings.is_empty() || !moved(verified.watermark)? {
            break;
        }
        verified = look(directory, show)?;
    }
    Ok(verified)
}

fn look(directory: &Directory, show: &dyn Fn(VerifyProgress)) -> Result<Verified, VerifyError> {
    let peeked = CheckpointFile::peek(directory)?;
    let mut verified = Verified { slots: peeked.slots, ..Verified::default() };
    if let Some(found) = peeked.checkpoint {
        (verified.watermark, verified.durable, verified.checkpoint) =
            (found.watermark.frame, found.durable.frame, true);
    }
    let segments = segment::list(directory).map_err(ScanError::from)?;
    show(VerifyProgress::Total(segments.len() as u64));
    let reclaimed = verified.watermark;
    let mut reading = Reading { directory, next: None, position: None, reclaimed, verified };
    for (at, first) in segments.iter().enumerate() {
        let following = segments.get(at + 1).copied();
        let before = (reading.verified.findings.len(), reading.verified.more);
        match reading.segment(*first, following) {
            // The segment was reclaimed after it was listed. A segment that became shorter for another reason
            // was truncated after a full disk.
            Err(VerifyError::Log(ScanError::Disk(error))) if segment::is_reclaimed(&error) => {
                reading.next = None;
            }
            read => read?,
        }
        show(VerifyProgress::Segment);
        // The segment was reclaimed while it was read. Its name is deleted before its bytes, so damage found
        // in it does not count.
        if matches!(directory.exists(&segment::name(*first)), Ok(false)) {
            reading.verified.findings.truncate(before.0);
            reading.verified.more = before.1;
            reading.next = None;
        }
    }
    reading.end()?;
    Ok(reading.verified)
}

struct Reading<'a> {
    directory: &'a Directory,
    /// The next expected frame; `None` before the first.
    next: Option<FrameNo>,
    /// Position of the last readable change.
    position: Option<Position>,
    /// The current watermark of the checkpoint: a daemon may have raised it since the first read.
    reclaimed: FrameNo,
    verified: Verified,
}

impl Reading<'_> {
    fn segment(&mut self, first: FrameNo, following: Option<FrameNo>) -> Result<(), VerifyError> {
        let mut walk = Walk::open(self.directory, first).map_err(ScanError::from)?;
        if walk.length() == 0
            && let Some(following) = following
            && self.is_reclaimed(FrameNo(following.0.saturating_sub(1)))?
        {
            // The segment is being deleted, or became empty in a power loss.
            self.next = None;
            return Ok(());
        }
        let path = walk.path().to_owned();
        let mut next = self.next.unwrap_or(first);
        if first > next {
            self.found(self.directory.path(), 0, "a segment is missing", (next, first));
            next = first;
        }
        match walk.header() {
            Header::Newer(version) => return Err(ScanError::Newer { path, version }.into()),
            Header::Ours(number) if number == first => {}
            Header::Ours(_) => {
                self.found(&path, 0, "its header is another segment's; the frames count", (next, next));
            }
            Header::Damaged if walk.length() < HEADER as u64 && following.is_none() => {}
            Header::Damaged => {
                self.found(&path, 0, "its header is damaged; the frames count", (next, next));
            }
        }
        self.verified.segments += 1;
        self.verified.bytes += walk.length();
        let mut offset = HEADER as u64;
        loop {
            let reason = match walk.at(offset).map_err(ScanError::from)? {
                Found::End => break,
                Found::Frame { head, end } if head.number == next => {
                    if head.kind == FrameKind::Change {
                        self.position = Some(head.position);
                    }
                    self.verified.frames += 1;
                    self.verified.last = next;
                    (next, offset) = (next.next(), end);
                    continue;
                }
                Found::Frame { .. } => "unexpected frame number",
                Found::Damage(reason) => reason,
            };
            let most = match following {
                Some(following) => FrameNo(following.0.saturating_sub(1)),
                None => FrameNo(next.0.saturating_add(walk.length() / FRAME_MIN)),
            };
            if let Some((at, number)) = walk.search(offset, next, most).map_err(ScanError::from)? {
                self.found(&path, offset, reason, (next, number));
                (next, offset) = (number, at);
                continue;
            }
            match following {
                Some(following) => {
                    self.found(&path, offset, reason, (next, following.max(next)));
                    next = following.max(next);
                }
                // Not durable: a frame that a kill has torn, or one that is being written now.
                None if next > self.verified.durable => self.verified.torn = walk.length() - offset,
                None => {
                    self.found(&path, offset, reason, (next, self.verified.durable.next()));
                    next = self.verified.durable.next();
                }
            }
            break;
        }
        self.next = Some(next);
        Ok(())
    }

    /// Reports durable frames that are missing at the end.
    fn end(&mut self) -> Result<(), CheckpointError> {
        let (watermark, durable) = (self.verified.watermark, self.verified.durable);
        let next = self.next.unwrap_or_else(|| watermark.next());
        if durable > watermark && next <= durable && !self.is_reclaimed(durable)? {
            let next = next.max(self.reclaimed.next());
            self.found(self.directory.path(), 0, "the log ends early", (next, durable.next()));
        }
        Ok(())
    }

    /// Whether everything up to this frame has been published in the meantime. Segments are reclaimed only
    /// after the checkpoint is written.
    fn is_reclaimed(&mut self, frame: FrameNo) -> Result<bool, CheckpointError> {
        if frame > self.reclaimed
            && let Some(found) = CheckpointFile::peek(self.directory)?.checkpoint
        {
            self.reclaimed = self.reclaimed.max(found.watermark.frame);
        }
        Ok(frame <= self.reclaimed)
    }

    /// Notes that the frames from `first` to before `end` cannot be read.
    fn found(&mut self, path: &Path, offset: u64, reason: &'static str, (first, end): (FrameNo, FrameNo)) {
        if self.verified.findings.len() >= FINDINGS_MAX {
            self.verified.more += 1;
            return;
        }
        let last = FrameNo(end.0.saturating_sub(1));
        let (watermark, durable) = (self.verified.watermark, self.verified.durable);
        let zone = if last <= watermark || last < first && first <= durable {
            Zone::Published
        } else if first > durable {
            Zone::Beyond
        } else {
            Zone::Durable
        };
        let before = self.position;
        let path = path.to_owned();
        self.verified.findings.push(Finding { path, offset, reason, first, last, before, zone });
    }
}
