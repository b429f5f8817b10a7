//! Repairs a damaged log during an adoption, and keeps every readable frame.
//!
//! An unreadable frame is replaced by an empty injected frame with the same number, so that later frames keep
//! their numbers. Each segment is replaced durably as a whole: after a crash in between there is less damage
//! than before, and the next attempt continues.

use super::disk::{self, Directory, DiskError};
use super::frame::{self, FrameError, FrameHead, FrameKind};
use super::segment::{self, Found, HEADER, Walk};
use crate::event::{Origin, Records};
use crate::failure::{Explain, Failure};
use crate::position::{FrameNo, Position, Transaction};

/// Why a log could not be repaired.
#[derive(Debug, thiserror::Error)]
pub enum SalvageError {
    /// A disk operation failed.
    #[error("the log cannot be repaired")]
    Disk(#[from] DiskError),
    /// An empty frame could not be encoded. This would be a bug.
    #[error(transparent)]
    Frame(#[from] FrameError),
}

impl Explain for SalvageError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Disk(error) => error.hint(),
            Self::Frame(_) => None,
        }
    }
}

impl From<SalvageError> for Failure {
    fn from(error: SalvageError) -> Self {
        match error {
            SalvageError::Disk(_) | SalvageError::Frame(_) => Self::stop(error),
        }
    }
}

/// Makes the frames of `(watermark, durable]` readable without a gap. Returns how many of them are lost.
///
/// # Errors
/// A disk operation failed; segments repaired so far stay repaired.
pub fn salvage(directory: &Directory, watermark: FrameNo, durable: FrameNo) -> Result<u64, SalvageError> {
    let wanted = watermark.next();
    let all = segment::list(directory)?;
    let begin = all.partition_point(|first| *first <= wanted).saturating_sub(1);
    let mut segments: Vec<FrameNo> = all.get(begin..).unwrap_or_default().to_vec();
    let mut lost = 0;
    if segments.first().is_none_or(|first| *first > wanted) {
        segments.insert(0, wanted);
    }
    for (at, first) in segments.iter().enumerate().filter(|(_, first)| **first <= durable) {
        let next = segments.get(at + 1).map_or(durable, |next| FrameNo(next.0 - 1));
        lost += repair(directory, *first, next.min(durable), watermark)?;
    }
    Ok(lost)
}

/// Repairs one segment, which must contain the frames from `first` to `last`.
fn repair(
    directory: &Directory,
    first: FrameNo,
    last: FrameNo,
    watermark: FrameNo,
) -> Result<u64, SalvageError> {
    let name = segment::name(first);
    let mut repaired = segment::header(first).to_vec();
    let mut next = first;
    let mut given_up = Vec::new();
    if let Some(bytes) = disk::if_exists(directory.read(&name))? {
        let mut walk = Walk::open(directory, first)?;
        let mut offset = HEADER as u64;
        while next <= last {
            if let Found::Frame { head, end } = walk.at(offset)?
                && head.number == next
            {
                let range =
                    usize::try_from(offset).unwrap_or_default()..usize::try_from(end).unwrap_or_default();
                repaired.extend_from_slice(bytes.get(range).unwrap_or_default());
                (next, offset) = (next.next(), end);
                continue;
            }
            let Some((at, number)) = walk.search(offset, next, last)? else { break };
            fill(&mut repaired, &mut given_up, next, number)?;
            (next, offset) = (number, at);
        }
    }
    fill(&mut repaired, &mut given_up, next, last.next())?;
    if !given_up.is_empty() {
        drop(directory.replace_durably(&name, &repaired)?);
    }
    Ok(u64::try_from(given_up.iter().filter(|frame| **frame > watermark).count()).unwrap_or(u64::MAX))
}

/// Appends empty frames from `next` to before `end`.
fn fill(
    out: &mut Vec<u8>,
    given_up: &mut Vec<FrameNo>,
    next: FrameNo,
    end: FrameNo,
) -> Result<(), FrameError> {
    for number in (next.0..end.0).map(FrameNo) {
        let head = FrameHead {
            origin: Origin::Live,
            number,
            kind: FrameKind::Injected,
            position: Position::default(),
            transaction: Transaction::default(),
        };
        frame::encode(out, &head, &Records::default())?;
        given_up.push(number);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::checkpoint::Mark;
    use super::super::log::{Log, LogConfig};
    use super::*;
    use crate::event::RecordKind;
    use crate::position::CommitSeq;

    /// Twelve frames in segments of at most four.
    fn log(directory: &Directory) -> Vec<FrameNo> {
        let config = LogConfig { segment_size: 2_100, ..LogConfig::new(directory.clone(), 16 << 20) };
        let scan = Log::scan(directory, Mark::default(), FrameNo(0)).unwrap();
        let (_log, mut writer) = Log::open(config, FrameNo(0), scan).unwrap();
        for index in 0..12 {
            let mut records = Records::default();
            let line = |out: &mut Vec<u8>| {
                out.extend_from_slice(&[b'x'; 400]);
                Ok::<(), ()>(())
            };
            records.push(RecordKind::Event, "t", "k", line).unwrap();
            let position = Position { epoch: 0, commit: CommitSeq::new(5), index };
            writer.append(FrameKind::Change, position, Transaction::default(), &records).unwrap();
            writer.flush().unwrap();
        }
        segment::list(directory).unwrap()
    }

    fn readable(directory: &Directory, watermark: FrameNo, durable: FrameNo) -> FrameNo {
        let mark = Mark { frame: watermark, position: None };
        Log::scan(directory, mark, durable).unwrap().good.frame
    }

    #[test]
    fn readable_frames_beyond_damage_are_kept() {
        let root = tempfile::tempdir().unwrap();
        let directory = Directory::open(root.path()).unwrap();
        let segments = log(&directory);
        assert!(segments.len() >= 3, "{segments:?}");
        let path = segment::path(&directory, segments[1]);
        let mut bytes = fs::read(&path).unwrap();
        bytes[HEADER + 100] ^= 1;
        fs::write(&path, &bytes).unwrap();
        let durable = FrameNo(11);
        assert_eq!(readable(&directory, FrameNo(1), durable), FrameNo(segments[1].0 - 1));
        assert_eq!(salvage(&directory, FrameNo(1), durable).unwrap(), 1);
        assert_eq!(readable(&directory, FrameNo(1), durable), durable);
        assert_eq!(salvage(&directory, FrameNo(1), durable).unwrap(), 0, "nothing is left to repair");
    }

    #[test]
    fn missing_segment_is_filled_at_any_place() {
        for missing in 0..3 {
            let root = tempfile::tempdir().unwrap();
            let directory = Directory::open(root.path()).unwrap();
            let segments = log(&directory);
            fs::remove_file(segment::path(&directory, segments[missing])).unwrap();
            let end = segments.get(missing + 1).map_or(13, |next| next.0);
            let lost = end - segments[missing].0;
            assert_eq!(salvage(&directory, FrameNo(0), FrameNo(12)).unwrap(), lost, "segment {missing}");
            assert_eq!(readable(&directory, FrameNo(0), FrameNo(12)), FrameNo(12));
        }
    }

    #[test]
    fn empty_directory_loses_every_frame() {
        let root = tempfile::tempdir().unwrap();
        let directory = Directory::open(root.path()).unwrap();
        assert_eq!(salvage(&directory, FrameNo(7), FrameNo(9)).unwrap(), 2);
        assert_eq!(readable(&directory, FrameNo(7), FrameNo(9)), FrameNo(9));
    }
}
