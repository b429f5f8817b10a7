//! What a log is worth after a restart: which of the frames that count can be read.
//!
//! Looks only, never changes a file. Frames at or below `low` are published and may be damaged; frames above `held` were
//! never promised. What lies between them must be there, and if it is not, a person or the slot has to say what next.

use std::path::{Path, PathBuf};

use super::checkpoint::Mark;
use super::disk::DiskError;
use super::frame::FrameKind;
use super::log::Tail;
use super::segment::{self, FORMAT_VERSION, Found, HEADER, Header, Walk};
use crate::failure::Failure;
use crate::position::FrameNo;

/// Why a directory could not be looked at.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// The disk refused.
    #[error("the log cannot be looked at")]
    Disk(#[from] DiskError),
    /// Another release wrote it.
    #[error(
        "{} has format version {version}, this program reads up to {FORMAT_VERSION}: start the newer release again, \
         and let it publish all and stop before going back",
        path.display()
    )]
    Newer {
        /// The segment.
        path: PathBuf,
        /// Its version.
        version: u32,
    },
}

impl From<ScanError> for Failure {
    fn from(error: ScanError) -> Self {
        match error {
            ScanError::Disk(_) | ScanError::Newer { .. } => Self::stop(error),
        }
    }
}

/// Where the frames that should be there end too early.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("frame {frame} cannot be read at byte {offset} of {}: {reason}", path.display())]
pub struct Damage {
    /// The first frame that cannot be read.
    pub frame: FrameNo,
    /// The segment where it should begin; the directory if there is none.
    pub path: PathBuf,
    /// Where in the file, in bytes.
    pub offset: u64,
    /// What is wrong.
    pub reason: &'static str,
    /// The first readable frame behind the damage, up to `held`.
    pub beyond: Option<FrameNo>,
}

/// What [`Log::scan`](super::log::Log::scan) has found.
#[derive(Clone, Debug)]
pub struct Scan {
    /// Where the scan began: everything up to here is published.
    pub low: Mark,
    /// The last of the frames that can be read in a row from `low + 1` on, at most `held`; `low` itself if there are none.
    pub good: Tail,
    /// Why `good` is below `held`, if it is.
    pub damage: Option<Damage>,
    /// The segments that hold the frames from `low + 1` to `good`, in order.
    pub(super) runs: Vec<Run>,
    /// All segments of the directory, in order.
    pub(super) segments: Vec<FrameNo>,
}

impl Scan {
    /// Where a row would begin that has all segments in it.
    pub fn before_first(&self) -> Mark {
        let first = self.segments.first().map_or(1, |first| first.0);
        Mark { frame: FrameNo(first.saturating_sub(1)), position: None }
    }

    /// Whether the directory has any segments.
    pub fn any(&self) -> bool {
        !self.segments.is_empty()
    }
}

/// The good part of one segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    /// Number in the segment's name.
    pub(super) first: FrameNo,
    /// Its last good frame.
    pub(super) last: FrameNo,
    /// Offset behind that frame.
    pub(super) end: u64,
}

pub(super) fn scan(directory: &Path, low: Mark, held: FrameNo) -> Result<Scan, ScanError> {
    let segments = segment::list(directory)?;
    for first in &segments {
        let walk = Walk::open(directory, *first)?;
        if let Header::Newer(version) = walk.header() {
            return Err(ScanError::Newer { path: walk.path().to_owned(), version });
        }
    }
    let good = Tail { frame: low.frame, position: low.position, transaction: None };
    let mut scan = Scan { low, good, damage: None, runs: Vec::new(), segments };
    let begin = scan.segments.partition_point(|first| *first <= low.frame.next()).saturating_sub(1);
    let ahead = scan.segments.get(begin..).unwrap_or_default().to_vec();
    let mut ahead = ahead.into_iter();
    while scan.good.frame < held && scan.damage.is_none() {
        let wanted = scan.good.frame.next();
        let stop = match ahead.next() {
            None => Some(Stop::new(directory, 0, "no segment holds it")),
            Some(first) if first > wanted => {
                // The segment is whole as far as we know, so that it can hold what lies beyond the gap.
                let beyond = search(directory, first, HEADER as u64, wanted, held)?;
                Some(Stop { beyond, ..Stop::new(directory, 0, "the segment that should hold it is missing") })
            }
            Some(first) => read_segment(directory, first, &mut scan, held)?,
        };
        let Some(stop) = stop else { continue };
        let mut beyond = stop.beyond;
        while beyond.is_none()
            && let Some(first) = ahead.next()
        {
            beyond = search(directory, first, HEADER as u64, wanted, held)?;
        }
        let (frame, Stop { path, offset, reason, .. }) = (scan.good.frame.next(), stop);
        scan.damage = Some(Damage { frame, path, offset, reason, beyond });
    }
    Ok(scan)
}

/// Why a row of good frames ends within a segment.
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

/// Goes on with the row in this segment, up to its end or `held`.
fn read_segment(
    directory: &Path,
    first: FrameNo,
    scan: &mut Scan,
    held: FrameNo,
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
    while reason.is_none() && scan.good.frame < held {
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
            Found::Frame { .. } => reason = Some("another frame stands in its place"),
            Found::Damage(damage) => reason = Some(damage),
            Found::End => break,
        }
    }
    if scan.good.frame >= wanted {
        scan.runs.push(Run { first, last: scan.good.frame, end: offset });
    }
    let Some(reason) = reason else { return Ok(None) };
    let beyond = walk.search(offset, scan.good.frame.next().next(), held)?.map(|(_, number)| number);
    Ok(Some(Stop { beyond, ..Stop::new(walk.path(), offset, reason) }))
}

fn search(
    directory: &Path,
    segment: FrameNo,
    offset: u64,
    after: FrameNo,
    held: FrameNo,
) -> Result<Option<FrameNo>, ScanError> {
    Ok(Walk::open(directory, segment)?.search(offset, after.next(), held)?.map(|(_, number)| number))
}
