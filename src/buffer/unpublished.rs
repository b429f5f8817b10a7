//! Reads the frames after a given one, for a report. Changes nothing, needs no lock, and tolerates a running
//! daemon.

use bytes::Bytes;

use super::disk::Directory;
use super::frame::Frame;
use super::scan::ScanError;
use super::segment::{self, Found, HEADER, Header, Walk};
use crate::position::FrameNo;

/// How far the log could be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadOut {
    /// To its end.
    Whole,
    /// A daemon has published and deleted a part in the meantime. Read the newer checkpoint, then try again.
    Reclaimed,
    /// Up to damage, before this frame.
    Damaged(FrameNo),
}

/// Bytes of the segments that hold the frames after `after`.
///
/// # Errors
/// A disk operation failed.
pub fn size(directory: &Directory, after: FrameNo) -> Result<u64, ScanError> {
    let mut bytes = 0;
    for first in needed(directory, after)? {
        match Walk::open(directory, first) {
            Err(error) if segment::is_reclaimed(&error) => {}
            walk => bytes += walk?.length(),
        }
    }
    Ok(bytes)
}

/// Passes the frames after `after` to `each`, in order. After each segment, passes the number of bytes read
/// from it to `read`.
///
/// # Errors
/// A newer release wrote the log, or a disk operation failed.
pub fn read(
    directory: &Directory,
    after: FrameNo,
    mut each: impl FnMut(&Frame<'_>),
    mut read: impl FnMut(u64),
) -> Result<ReadOut, ScanError> {
    let mut wanted = after.next();
    for first in needed(directory, after)? {
        let mut walk = match Walk::open(directory, first) {
            Err(error) if segment::is_reclaimed(&error) => return Ok(ReadOut::Reclaimed),
            walk => walk?,
        };
        if let Header::Newer(version) = walk.header() {
            return Err(ScanError::Newer { path: walk.path().to_owned(), version });
        }
        if first > wanted {
            return Ok(ReadOut::Reclaimed);
        }
        let offset = if first == wanted { Some(HEADER as u64) } else { walk.find(wanted)? };
        let Some(mut offset) = offset else {
            // No frame of this segment is after `after`.
            continue;
        };
        let begun = offset;
        loop {
            match walk.at(offset) {
                Err(error) if segment::is_reclaimed(&error) => return Ok(ReadOut::Reclaimed),
                Err(error) => return Err(error.into()),
                Ok(Found::End) => break,
                Ok(Found::Frame { head, end }) if head.number == wanted => {
                    let bytes = Bytes::copy_from_slice(walk.bytes(offset, end)?);
                    if let Some((frame, _)) = Frame::at(&bytes, 0) {
                        each(&frame);
                    }
                    (offset, wanted) = (end, wanted.next());
                }
                // At the very end of the log, the frame is still being written.
                Ok(Found::Frame { .. } | Found::Damage(_)) => {
                    let is_last = segment::list(directory)?.last() == Some(&first);
                    return Ok(if is_last { ReadOut::Whole } else { ReadOut::Damaged(wanted) });
                }
            }
        }
        read(offset - begun);
    }
    Ok(ReadOut::Whole)
}

/// The segments that can hold frames after `after`, in order.
fn needed(directory: &Directory, after: FrameNo) -> Result<Vec<FrameNo>, ScanError> {
    let mut segments = segment::list(directory)?;
    let begin = segments.partition_point(|first| *first <= after.next()).saturating_sub(1);
    segments.drain(..begin);
    Ok(segments)
}
