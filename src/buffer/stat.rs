//! What a buffer directory says of itself at this moment: for a person who looks. Changes nothing, needs no lock, and
//! tolerates a daemon that works meanwhile.

use std::collections::BTreeMap;
use std::path::Path;

use super::checkpoint::{Checkpoint, CheckpointFile};
use super::dead_letter::FILE_NAME;
use super::dead_letter::index::Index;
use super::disk::failed;
use super::scan::ScanError;
use super::segment::{self, Found, HEADER, Walk};
use super::verify::VerifyError;
use crate::position::{FrameNo, Transaction};

/// See the module.
#[derive(Debug, Default)]
pub struct Stat {
    /// What the checkpoint says; `None` before the first.
    pub checkpoint: Option<Checkpoint>,
    /// The last whole frame of the log, as far as it was looked at.
    pub tail: FrameNo,
    /// Files of the log.
    pub segments: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The transaction of the oldest change that is not published, if there is one.
    pub oldest: Option<Transaction>,
    /// Bytes of frames that the next start would cut if the process died now.
    pub cut_bytes: u64,
    /// Dead letters by the name of their state.
    pub letters: BTreeMap<&'static str, u64>,
}

impl Stat {
    /// What the next start keeps at most.
    pub fn kept(&self) -> FrameNo {
        self.checkpoint.as_ref().map_or(FrameNo(0), |found| found.low.frame.max(found.held.frame))
    }
}

/// Looks at a directory.
///
/// # Errors
/// The checkpoint has no whole slot, or the disk refuses.
pub fn stat(directory: &Path) -> Result<Stat, VerifyError> {
    let checkpoint = CheckpointFile::peek(directory)?.checkpoint;
    let mut stat = Stat { checkpoint, ..Stat::default() };
    stat.tail = stat.kept();
    let low = stat.checkpoint.as_ref().map_or(FrameNo(0), |found| found.low.frame);
    let segments = segment::list(directory).map_err(ScanError::from)?;
    for (at, first) in segments.iter().enumerate() {
        let is_last = at + 1 == segments.len();
        // The first frame behind it, if that is known.
        let end = segments.get(at + 1).copied().unwrap_or(FrameNo(u64::MAX));
        match stat.segment(directory, *first, end, (low, is_last)) {
            // Released since it was listed.
            Err(ScanError::Disk(error)) if segment::is_released(&error) => {}
            seen => seen?,
        }
    }
    let path = directory.join(FILE_NAME);
    let mut index = Index::read(&path).map_err(failed("read", &path)).map_err(ScanError::from)?;
    index.settle(stat.checkpoint.as_ref(), |_| true);
    for letter in index.letters() {
        *stat.letters.entry(letter.state.name()).or_default() += 1;
    }
    Ok(stat)
}

impl Stat {
    /// Reads frames only of the segments where `low`, the cut and the tail are.
    fn segment(
        &mut self,
        directory: &Path,
        first: FrameNo,
        end: FrameNo,
        (low, is_last): (FrameNo, bool),
    ) -> Result<(), ScanError> {
        let mut walk = Walk::open(directory, first)?;
        self.segments += 1;
        self.bytes += walk.length();
        let cut = self.kept().next();
        if self.oldest.is_none() && low.next() < end {
            self.oldest = oldest(&mut walk, low.next().max(first))?;
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

/// The transaction of the first change from this frame on, within a segment. Injected frames have none.
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
