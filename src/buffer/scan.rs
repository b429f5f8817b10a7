//! Determines which of the needed frames are readable after a restart.
//!
//! Never changes a file. Frames at or below `watermark` are published and may be damaged. Frames above
//! `durable` were never confirmed. The frames between them are needed. If some are missing, recovery decides
//! whether the source can send them again; otherwise an operator must.

use std::path::{Path, PathBuf};

use super::checkpoint::Mark;
use super::disk::{Directory, DiskError};
use super::frame::FrameKind;
use super::segment::{self, FORMAT_VERSION, Found, HEADER, Header, Walk};
use super::tail::Tail;
use crate::failure::{Explain, Failure};
use crate::position::{FrameNo, Transaction};

/// Why a log could not be scanned.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// A disk operation failed.
    #[error("the log cannot be scanned")]
    Disk(#[from] DiskError),
    /// A newer release wrote it.
    #[error("{} has the newer format version {version}", path.display())]
    Newer {
        /// The segment.
        path: PathBuf,
        /// Its version.
        version: u32,
    },
}

impl Explain for ScanError {
    fn code(&self) -> Option<&'static str> {
        match self {
            Self::Disk(error) => error.code(),
            Self::Newer { .. } => Some("format_newer"),
        }
    }

    fn detail(&self) -> Option<String> {
        match self {
            Self::Disk(error) => error.detail(),
            Self::Newer { .. } => Some(format!("This release reads up to version {FORMAT_VERSION}.")),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Disk(error) => error.hint(),
            Self::Newer { .. } => Some(
                "Start the newer release again. Let it publish everything and stop it before you downgrade."
                    .to_owned(),
            ),
        }
    }
}

impl From<ScanError> for Failure {
    fn from(error: ScanError) -> Self {
        match error {
            ScanError::Disk(_) | ScanError::Newer { .. } => Self::stop(error),
        }
    }
}

/// The first place at which needed frames cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("frame {frame} cannot be read at byte {offset} of {}: {reason}", path.display())]
pub struct Damage {
    /// The first frame that cannot be read.
    pub frame: FrameNo,
    /// The segment in which it should begin; the directory if that segment is missing.
    pub path: PathBuf,
    /// Byte offset in the file.
    pub offset: u64,
    /// The damage.
    pub reason: &'static str,
    /// The first readable frame after the damage, up to `durable`.
    pub beyond: Option<FrameNo>,
}

/// The result of [`Log::scan`](super::log::Log::scan).
#[derive(Clone, Debug)]
pub struct Scan {
    /// Where the scan begins: everything up to here is published.
    pub watermark: Mark,
    /// The last frame that is readable without a gap from `watermark + 1` on, at most `durable`; `watermark`
    /// if there is none.
    pub good: Tail,
    /// Why `good` is below `durable`; `None` if it is not.
    pub damage: Option<Damage>,
    /// The segments that hold the frames from `watermark + 1` to `good`, in order.
    pub(super) runs: Vec<Run>,
    /// All segments of the directory, in order.
    pub(super) segments: Vec<FrameNo>,
}

impl Scan {
    /// A mark before the first frame of all segments.
    pub fn before_first(&self) -> Mark {
        let first = self.segments.first().map_or(1, |first| first.0);
        Mark { frame: FrameNo(first.saturating_sub(1)), position: None }
    }

    /// Whether the directory has any segments.
    pub fn any(&self) -> bool {
        !self.segments.is_empty()
    }
}

/// The readable part of one segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    /// Number in the segment's name.
    pub(super) first: FrameNo,
    /// Its last readable frame.
    pub(super) last: FrameNo,
    /// Byte offset after that frame.
    pub(super) end: u64,
}

pub(super) fn scan(directory: &Directory, watermark: Mark, durable: FrameNo) -> Result<Scan, ScanError> {
    let segments = segment::list(directory)?;
    for first in &segments {
        let walk = Walk::open(directory, *first)?;
        if let Header::Newer(version) = walk.header() {
            return Err(ScanError::Newer { path: walk.path().to_owned(), version });
        }
    }
    let good = Tail { frame: watermark.frame, position: watermark.position, transaction: None };
    let mut scan = Scan { watermark, good, damage: None, runs: Vec::new(), segments };
    let begin = scan.segments.partition_point(|first| *first <= watermark.frame.next()).saturating_sub(1);
    let ahead = scan.segments.get(begin..).unwrap_or_default().to_vec();
    let mut ahead = ahead.into_iter();
    while scan.good.frame < durable && scan.damage.is_none() {
        let wanted = scan.good.frame.next();
        let stop = match ahead.next() {
            None => Some(Stop::new(directory.path(), 0, "no segment holds it")),
            Some(first) if first > wanted => {
                // The segment may be complete, and may contain the frames after the gap.
                let beyond = search(directory, first, HEADER as u64, wanted, durable)?;
                Some(Stop {
                    beyond,
                    ..Stop::new(directory.path(), 0, "the segment that should hold it is missing")
                })
            }
            Some(first) => read_segment(directory, first, &mut scan, durable)?,
        };
        let Some(stop) = stop else { continue };
        let mut beyond = stop.beyond;
        while beyond.is_none()
            && let Some(first) = ahead.next()
        {
            beyond = search(directory, first, HEADER as u64, wanted, durable)?;
        }
        let (frame, Stop { path, offset, reason, .. }) = (scan.good.frame.next(), stop);
        scan.damage = Some(Damage { frame, path, offset, reason, beyond });
    }
    Ok(scan)
}

/// The last transaction in any readable frame, and its epoch. It proves that the transaction was received,
/// even if the frame was never durable. Frames of changes are in the order of their positions, so the last
/// segment with a change has it.
pub(super) fn last_seen(directory: &Directory) -> Result<Option<(u16, Transaction)>, ScanError> {
    /// More frames than a segment can have.
    const FRAMES_MAX: u64 = 1 << 32;
    for first in segment::list(directory)?.into_iter().rev() {
        let mut walk = Walk::open(directory, first)?;
        let (mut seen, mut offset) = (None, HEADER as u64);
        loop {
            match walk.at(offset)? {
                Found::Frame { head, end } => {
                    if head.kind == FrameKind::Change {
                        seen = Some((head.position.epoch, head.transaction));
                    }
                    offset = end;
                }
                Found::End => break,
                Found::Damage(_) => {
                    let last = FrameNo(first.0.saturating_add(FRAMES_MAX));
                    let Some((next, _)) = walk.search(offset + 1, first, last)? else { break };
                    offset = next;
                }
            }
        }
        if seen.is_some() {
            return Ok(seen);
        }
    }
    Ok(None)
}

/// Why a sequence of readable frames ends within a segment.
struct Stop {
    path: PathBuf,
    offset: u64,
    reason: &'static str,
    beyond: Option<FrameNo>,
}

impl Stop {
    fn new(path: &Path, offset: u64, reason: &'static str) -> Self {
        Self { path: path.to_owned(), offset, reason, beyond: None }
    }
}

/// Continues the sequence in this segment, up to its end or `durable`.
fn read_segment(
    directory: &Directory,
    first: FrameNo,
    scan: &mut Scan,
    durable: FrameNo,
) -> Result<Option<Stop>, ScanError> {
    let mut walk = Walk::open(directory, first)?;
    let wanted = scan.good.frame.next();
    let mut offset = HEADER as u64;
    let mut reason = None;
    if first < wanted {
        match walk.find(wanted)? {
            Some(found) => offset = found,
            None => reason = Some("the segment that should hold it does not"),
        }
    }
    while reason.is_none() && scan.good.frame < durable {
        match walk.at(offset)? {
            Found::Frame { head, end } if head.number == scan.good.frame.next() => {
                let tail = &mut scan.good;
                tail.frame = head.number;
                if head.kind == FrameKind::Change {
                    tail.position = Some(head.position);
                    tail.transaction = Some(head.transaction);
                }
                offset = end;
            }
            Found::Frame { .. } => reason = Some("unexpected frame number"),
            Found::Damage(damage) => reason = Some(damage),
            Found::End => break,
        }
    }
    if scan.good.frame >= wanted {
        scan.runs.push(Run { first, last: scan.good.frame, end: offset });
    }
    let Some(reason) = reason else { return Ok(None) };
    let beyond = walk.search(offset, scan.good.frame.next().next(), durable)?.map(|(_, number)| number);
    Ok(Some(Stop { beyond, ..Stop::new(walk.path(), offset, reason) }))
}

fn search(
    directory: &Directory,
    segment: FrameNo,
    offset: u64,
    after: FrameNo,
    durable: FrameNo,
) -> Result<Option<FrameNo>, ScanError> {
    Ok(Walk::open(directory, segment)?.search(offset, after.next(), durable)?.map(|(_, number)| number))
}
