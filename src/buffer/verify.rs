//! Reads every frame of a log and says what is damaged and what that means. Changes nothing, needs no lock, and tolerates a
//! daemon that appends and releases meanwhile. Memory: one window of a megabyte, or the largest frame.

use std::path::{Path, PathBuf};

use super::checkpoint::{CheckpointError, CheckpointFile};
use super::frame::FrameKind;
use super::scan::ScanError;
use super::segment::{self, Found, HEADER, Header, Walk};
use crate::position::{FrameNo, Position};

/// The least that a frame takes in a segment, in bytes: it bounds which numbers can be in one.
const FRAME_MIN: u64 = 53;
/// Findings that are told one by one.
const FINDINGS_MAX: usize = 1_000;

/// How often damage is looked at again where a daemon has published meanwhile: it may have released what seemed to be missing.
const LOOKS_AGAIN: usize = 3;

/// What a damage means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Zone {
    /// At or below `low`: published, never read again.
    Published,
    /// Held and not published: the next start needs it.
    Held,
    /// Never promised: the next start cuts it, and Postgres sends it again.
    Beyond,
}

/// Frames that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The segment; the directory where one is missing.
    pub path: PathBuf,
    /// Where in it, in bytes.
    pub offset: u64,
    /// What is wrong.
    pub reason: &'static str,
    /// The first frame that cannot be read.
    pub first: FrameNo,
    /// The last one; the one before `first` if none is lost, as where only a header is damaged.
    pub last: FrameNo,
    /// The last change that can be read before it, if any.
    pub before: Option<Position>,
    /// What it means.
    pub zone: Zone,
}

/// What was read.
#[derive(Debug, Default)]
pub struct Verified {
    /// Everything up to this frame is published.
    pub low: FrameNo,
    /// Everything up to this frame must be readable.
    pub held: FrameNo,
    /// Whether there is a checkpoint at all.
    pub checkpoint: bool,
    /// Per slot of the checkpoint file: its sequence, if it is whole.
    pub slots: Vec<Option<u64>>,
    /// Segments that were read.
    pub segments: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Whole frames in their places.
    pub frames: u64,
    /// The last of them.
    pub last: FrameNo,
    /// Bytes of a frame that was being written, at the very end.
    pub torn: u64,
    /// Damage, in order.
    pub findings: Vec<Finding>,
    /// Damage that is not told one by one.
    pub more: u64,
}

/// Why a directory cannot be verified.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The checkpoint.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The log.
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
/// The checkpoint has no whole slot, a newer release wrote the directory, or the disk refuses.
pub fn verify(directory: &Path) -> Result<Verified, VerifyError> {
    let mut verified = look(directory)?;
    for _ in 0..LOOKS_AGAIN {
        let moved = |low| -> Result<bool, CheckpointError> {
            Ok(CheckpointFile::peek(directory)?.checkpoint.is_some_and(|now| now.low.frame > low))
        };
        if verified.findings.is_empty() || !moved(verified.low)? {
            break;
        }
        verified = look(directory)?;
    }
    Ok(verified)
}

fn look(directory: &Path) -> Result<Verified, VerifyError> {
    let peeked = CheckpointFile::peek(directory)?;
    let mut verified = Verified { slots: peeked.slots, ..Verified::default() };
    if let Some(found) = peeked.checkpoint {
        (verified.low, verified.held, verified.checkpoint) = (found.low.frame, found.held.frame, true);
    }
    let segments = segment::list(directory).map_err(ScanError::from)?;
    let released = verified.low;
    let mut reading = Reading { directory, next: None, position: None, released, verified };
    for (at, first) in segments.iter().enumerate() {
        let following = segments.get(at + 1).copied();
        let told = (reading.verified.findings.len(), reading.verified.more);
        match reading.segment(*first, following) {
            // Released since it was listed. One that is shorter than it was, and not released, was cut by a full disk.
            Err(VerifyError::Log(ScanError::Disk(error))) if segment::is_released(&error) => {
                reading.next = None;
            }
            read => read?,
        }
        // Released while it was read: its name goes before its bytes do, so what was found in it means nothing.
        if matches!(segment::path(directory, *first).try_exists(), Ok(false)) {
            reading.verified.findings.truncate(told.0);
            reading.verified.more = told.1;
            reading.next = None;
        }
    }
    reading.end()?;
    Ok(reading.verified)
}

struct Reading<'a> {
    directory: &'a Path,
    /// The frame that must come next; unknown at the beginning.
    next: Option<FrameNo>,
    /// Of the last readable change.
    position: Option<Position>,
    /// What the checkpoint says is published by now: a daemon may have moved on since the first look.
    released: FrameNo,
    verified: Verified,
}

impl Reading<'_> {
    fn segment(&mut self, first: FrameNo, following: Option<FrameNo>) -> Result<(), VerifyError> {
        let mut walk = Walk::open(self.directory, first).map_err(ScanError::from)?;
        if walk.length() == 0
            && let Some(following) = following
            && self.is_released(FrameNo(following.0.saturating_sub(1)))?
        {
            // It is being deleted, or came back empty after a power cut.
            self.next = None;
            return Ok(());
        }
        let path = walk.path().to_owned();
        let mut next = self.next.unwrap_or(first);
        if first > next {
            self.found(self.directory, 0, "a segment is missing", (next, first));
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
                Found::Frame { .. } => "another frame stands in its place",
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
                // Nobody was promised it: the frame that a kill has cut off, or that is being written now.
                None if next > self.verified.held => self.verified.torn = walk.length() - offset,
                None => {
                    self.found(&path, offset, reason, (next, self.verified.held.next()));
                    next = self.verified.held.next();
                }
            }
            break;
        }
        self.next = Some(next);
        Ok(())
    }

    /// What is held must not be missing at the end either.
    fn end(&mut self) -> Result<(), CheckpointError> {
        let (low, held) = (self.verified.low, self.verified.held);
        let next = self.next.unwrap_or_else(|| low.next());
        if held > low && next <= held && !self.is_released(held)? {
            let next = next.max(self.released.next());
            self.found(self.directory, 0, "the log ends early", (next, held.next()));
        }
        Ok(())
    }

    /// Whether everything up to this frame is published by now. Segments are released after the checkpoint says so.
    fn is_released(&mut self, frame: FrameNo) -> Result<bool, CheckpointError> {
        if frame > self.released
            && let Some(found) = CheckpointFile::peek(self.directory)?.checkpoint
        {
            self.released = self.released.max(found.low.frame);
        }
        Ok(frame <= self.released)
    }

    /// Notes that the frames from `first` up to, and without, `end` cannot be read.
    fn found(&mut self, path: &Path, offset: u64, reason: &'static str, (first, end): (FrameNo, FrameNo)) {
        if self.verified.findings.len() >= FINDINGS_MAX {
            self.verified.more += 1;
            return;
        }
        let last = FrameNo(end.0.saturating_sub(1));
        let (low, held) = (self.verified.low, self.verified.held);
        let zone = if last <= low || last < first && first <= held {
            Zone::Published
        } else if first > held {
            Zone::Beyond
        } else {
            Zone::Held
        };
        let before = self.position;
        let path = path.to_owned();
        self.verified.findings.push(Finding { path, offset, reason, first, last, before, zone });
    }
}
