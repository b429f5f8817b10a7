//! What a person gives up when they adopt: makes a damaged log readable again, keeping every readable frame.
//!
//! A frame that cannot be read is replaced by an empty injected one of its number, so that the frames behind it keep
//! theirs. Each segment is replaced durably, as a whole: a crash in between leaves less damage than before, and the next
//! try goes on.

use std::fs;
use std::path::Path;

use super::disk::{self, DiskError, failed};
use super::frame::{self, FrameError, FrameHead, FrameKind};
use super::segment::{self, Found, HEADER, Walk};
use crate::event::Records;
use crate::failure::Failure;
use crate::position::{FrameNo, Position, Transaction};

/// Why a log could not be made readable.
#[derive(Debug, thiserror::Error)]
pub enum SalvageError {
    /// The disk refused.
    #[error("the log cannot be mended")]
    Disk(#[from] DiskError),
    /// An empty frame could not be made: a broken invariant.
    #[error(transparent)]
    Frame(#[from] FrameError),
}

impl From<SalvageError> for Failure {
    fn from(error: SalvageError) -> Self {
        match error {
            SalvageError::Disk(_) | SalvageError::Frame(_) => Self::stop(error),
        }
    }
}

/// Makes the frames of `(low, held]` readable in a row, and returns how many of them had to be given up.
///
/// # Errors
/// The disk refuses; what was mended so far stays mended.
pub fn salvage(directory: &Path, low: FrameNo, held: FrameNo) -> Result<u64, SalvageError> {
    let wanted = low.next();
    let all = segment::list(directory)?;
    let begin = all.partition_point(|first| *first <= wanted).saturating_sub(1);
    let mut segments: Vec<FrameNo> = all.get(begin..).unwrap_or_default().to_vec();
    let mut lost = 0;
    if segments.first().is_none_or(|first| *first > wanted) {
        segments.insert(0, wanted);
    }
    for (at, first) in segments.iter().enumerate().filter(|(_, first)| **first <= held) {
        let next = segments.get(at + 1).map_or(held, |next| FrameNo(next.0 - 1));
        lost += mend(directory, *first, next.min(held), low)?;
    }
    Ok(lost)
}

/// Mends one segment, which has to hold the frames from `first` to `last`.
fn mend(directory: &Path, first: FrameNo, last: FrameNo, low: FrameNo) -> Result<u64, SalvageError> {
    let path = segment::path(directory, first);
    let mut mended = segment::header(first).to_vec();
    let mut next = first;
    let mut given_up = Vec::new();
    if path.exists() {
        let bytes = fs::read(&path).map_err(failed("read", &path))?;
        let mut walk = Walk::open(directory, first)?;
        let mut offset = HEADER as u64;
        while next <= last {
            if let Found::Frame { head, end } = walk.at(offset)?
                && head.number == next
            {
                let range =
                    usize::try_from(offset).unwrap_or_default()..usize::try_from(end).unwrap_or_default();
                mended.extend_from_slice(bytes.get(range).unwrap_or_default());
                (next, offset) = (next.next(), end);
                continue;
            }
            let Some((at, number)) = walk.search(offset, next, last)? else { break };
            fill(&mut mended, &mut given_up, next, number)?;
            (next, offset) = (number, at);
        }
    }
    fill(&mut mended, &mut given_up, next, last.next())?;
    if !given_up.is_empty() {
        drop(disk::replace_durably(&path, &mended)?);
    }
    Ok(u64::try_from(given_up.iter().filter(|frame| **frame > low).count()).unwrap_or(u64::MAX))
}

/// Adds empty frames from `next` up to, and without, `end`.
fn fill(
    out: &mut Vec<u8>,
    given_up: &mut Vec<FrameNo>,
    next: FrameNo,
    end: FrameNo,
) -> Result<(), FrameError> {
    for number in (next.0..end.0).map(FrameNo) {
        let head = FrameHead {
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
    use super::super::checkpoint::Mark;
    use super::super::log::{Log, LogConfig};
    use super::*;
    use crate::event::RecordKind;
    use crate::position::Lsn;

    /// Twelve frames in segments of at most four.
    fn log(directory: &Path) -> Vec<FrameNo> {
        let config = LogConfig { segment_size: 2_100, ..LogConfig::new(directory, 16 << 20) };
        let scan = Log::scan(directory, Mark::default(), FrameNo(0)).unwrap();
        let (_log, mut writer) = Log::open(config, FrameNo(0), scan).unwrap();
        for index in 0..12 {
            let mut records = Records::default();
            let line = |out: &mut Vec<u8>| {
                out.extend_from_slice(&[b'x'; 400]);
                Ok::<(), ()>(())
            };
            records.push(RecordKind::Event, "t", "k", line).unwrap();
            let position = Position { epoch: 0, commit: Lsn::new(5), index };
            writer.append(FrameKind::Change, position, Transaction::default(), &records).unwrap();
            writer.flush().unwrap();
        }
        segment::list(directory).unwrap()
    }

    fn readable(directory: &Path, low: FrameNo, held: FrameNo) -> FrameNo {
        let mark = Mark { frame: low, position: None };
        Log::scan(directory, mark, held).unwrap().good.frame
    }

    #[test]
    fn readable_frames_beyond_a_damage_are_kept() {
        let directory = tempfile::tempdir().unwrap();
        let segments = log(directory.path());
        assert!(segments.len() >= 3, "{segments:?}");
        let path = segment::path(directory.path(), segments[1]);
        let mut bytes = fs::read(&path).unwrap();
        bytes[HEADER + 100] ^= 1;
        fs::write(&path, &bytes).unwrap();
        let held = FrameNo(11);
        assert_eq!(readable(directory.path(), FrameNo(1), held), FrameNo(segments[1].0 - 1));
        assert_eq!(salvage(directory.path(), FrameNo(1), held).unwrap(), 1);
        assert_eq!(readable(directory.path(), FrameNo(1), held), held);
        assert_eq!(salvage(directory.path(), FrameNo(1), held).unwrap(), 0, "nothing is left to mend");
    }

    #[test]
    fn a_missing_segment_at_each_place_is_filled() {
        for missing in 0..3 {
            let directory = tempfile::tempdir().unwrap();
            let segments = log(directory.path());
            fs::remove_file(segment::path(directory.path(), segments[missing])).unwrap();
            let end = segments.get(missing + 1).map_or(13, |next| next.0);
            let lost = end - segments[missing].0;
            assert_eq!(
                salvage(directory.path(), FrameNo(0), FrameNo(12)).unwrap(),
                lost,
                "segment {missing}"
            );
            assert_eq!(readable(directory.path(), FrameNo(0), FrameNo(12)), FrameNo(12));
        }
    }

    #[test]
    fn an_empty_directory_is_all_loss() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(salvage(directory.path(), FrameNo(7), FrameNo(9)).unwrap(), 2);
        assert_eq!(readable(directory.path(), FrameNo(7), FrameNo(9)), FrameNo(9));
    }
}
