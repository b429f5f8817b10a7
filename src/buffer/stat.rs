//! A summary of a buffer directory for `forebay buffer stat`. Changes nothing, needs no lock, and tolerates a
//! running daemon.

use super::checkpoint::{Checkpoint, CheckpointFile};
use super::disk::Directory;
use super::scan::ScanError;
use super::segment::{self, Found, HEADER, Walk};
use super::verify::VerifyError;
use crate::position::{FrameNo, Transaction};

/// The summary of a buffer directory.
#[derive(Debug, Default)]
pub struct Stat {
    /// The checkpoint; `None` before the first one.
    pub checkpoint: Option<Checkpoint>,
    /// The last whole frame.
    pub tail: FrameNo,
    /// Number of segments.
    pub segments: u64,
    /// Size of all segments in bytes.
    pub bytes: u64,
    /// The transaction of the oldest unpublished change.
    pub oldest: Option<Transaction>,
    /// Bytes of frames that the next start would truncate if the daemon died now.
    pub cut_bytes: u64,
}

impl Stat {
    /// The last frame that the next start keeps.
    pub fn kept(&self) -> FrameNo {
        self.checkpoint.as_ref().map_or(FrameNo(0), |found| found.watermark.frame.max(found.durable.frame))
    }
}

/// Reads a directory.
///
/// # Errors
/// The checkpoint has no whole slot, or a disk operation failed.
pub fn stat(directory: &Directory) -> Result<Stat, VerifyError> {
    let checkpoint = CheckpointFile::peek(directory)?.checkpoint;
    let mut stat = Stat { checkpoint, ..Stat::default() };
    stat.tail = stat.kept();
    let watermark = stat.checkpoint.as_ref().map_or(FrameNo(0), |found| found.watermark.frame);
    let segments = segment::list(directory).map_err(ScanError::from)?;
    for (at, first) in segments.iter().enumerate() {
        let is_last = at + 1 == segments.len();
        // The first frame of the next segment; the last segment has no upper limit.
        let end = segments.get(at + 1).copied().unwrap_or(FrameNo(u64::MAX));
        match stat.segment(directory, *first, end, (watermark, is_last)) {
            // The segment was reclaimed after it was listed.
            Err(ScanError::Disk(error)) if segment::is_reclaimed(&error) => {}
            seen => seen?,
        }
    }
    Ok(stat)
}

impl Stat {
    /// Reads only the segments that contain `watermark`, the truncation point and the tail.
    fn segment(
        &mut self,
        directory: &Directory,
        first: FrameNo,
        end: FrameNo,
        (watermark, is_last): (FrameNo, bool),
    ) -> Result<(), ScanError> {
        let mut walk = Walk::open(directory, first)?;
        self.segments += 1;
        self.bytes += walk.length();
        let cut = self.kept().next();
        if self.oldest.is_none() && watermark.next() < end {
            self.oldest = oldest(&mut walk, watermark.next().max(first))?;
        }
        if first >= cut {
            self.cut_bytes += walk.length().saturating_sub(HEADER as u64);
        } else if cut < end
            && let Some(offset) = walk.find(cut)?
        {
            self.cut_bytes += walk.length().saturating_sub(offset);
        }
        if is_last {
            let mut offset = HEADER as u64;
            while let Found::Frame { head, end } = walk.at(offset)? {
                self.tail = self.tail.max(head.number);
                offset = end;
            }
        }
        Ok(())
    }
}

/// The transaction of the first change from frame `from` on within a segment. Injected frames have no
/// transaction.
fn oldest(walk: &mut Walk, from: FrameNo) -> Result<Option<Transaction>, ScanError> {
    let Some(mut offset) = walk.find(from)? else { return Ok(None) };
    while let Found::Frame { head, end } = walk.at(offset)? {
        if head.transaction != Transaction::default() {
            return Ok(Some(head.transaction));
        }
        offset = end;
    }
    Ok(None)
}
