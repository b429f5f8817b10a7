//! Files of the log: their names, their headers, and the frames found in them. The format is specified in
//! [`log`](super::log).

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use super::disk::{Directory, DiskError, failed};
use super::frame::{self, Decoded, FrameHead};
use crate::position::FrameNo;

/// First bytes of a segment.
const MAGIC: [u8; 8] = *b"FOREBAYL";
/// Version of the format that this program writes, and the newest that it reads.
pub const FORMAT_VERSION: u32 = 2;
/// Length of the header in bytes: magic, version, first frame number, checksum.
pub const HEADER: usize = 24;
/// Size of a read in bytes while searching for frames. Large enough that the cost of the calls does not
/// matter.
const WINDOW: usize = 1 << 20;

/// Name of the segment whose first frame has this number. Names sort like numbers.
pub(super) fn name(first: FrameNo) -> String {
    format!("{:020}.log", first.0)
}

/// Its path, for messages.
pub(super) fn path(directory: &Directory, first: FrameNo) -> PathBuf {
    directory.path_of(&name(first))
}

/// First frame numbers of the segments in a directory, in order. Other files are ignored.
pub(super) fn list(directory: &Directory) -> Result<Vec<FrameNo>, DiskError> {
    let mut found: Vec<FrameNo> = directory.list()?.iter().filter_map(|name| number_of(name)).collect();
    found.sort_unstable();
    Ok(found)
}

fn number_of(name: &str) -> Option<FrameNo> {
    let digits = name.strip_suffix(".log")?;
    let well_formed = digits.len() == 20 && digits.bytes().all(|digit| digit.is_ascii_digit());
    if well_formed { digits.parse().ok().map(FrameNo) } else { None }
}

/// The header of a segment.
pub(super) fn header(first: FrameNo) -> [u8; HEADER] {
    let mut bytes = [0; HEADER];
    let parts = MAGIC.into_iter().chain(FORMAT_VERSION.to_le_bytes()).chain(first.0.to_le_bytes());
    for (to, from) in bytes.iter_mut().zip(parts) {
        *to = from;
    }
    let checksum = crc32c::crc32c(bytes.get(..HEADER - 4).unwrap_or_default());
    if let Some(last) = bytes.last_chunk_mut::<4>() {
        *last = checksum.to_le_bytes();
    }
    bytes
}

/// A decoded header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Header {
    /// A segment of this program's format, with this first frame.
    Ours(FrameNo),
    /// Written by a newer release.
    Newer(u32),
    /// Torn, or not a segment.
    Damaged,
}

/// Reads a header. Magic, version and checksum have the same offsets in every version of the format, so that
/// a newer version is distinguished from damage.
pub(super) fn read_header(bytes: &[u8]) -> Header {
    let Some((checked, checksum)) = bytes.get(..HEADER).and_then(<[u8]>::split_last_chunk::<4>) else {
        return Header::Damaged;
    };
    if crc32c::crc32c(checked).to_le_bytes() != *checksum {
        return Header::Damaged;
    }
    let parts = checked.strip_prefix(&MAGIC).and_then(<[u8]>::split_first_chunk::<4>);
    match parts.map(|(version, first)| (u32::from_le_bytes(*version), first.first_chunk())) {
        Some((version, _)) if version > FORMAT_VERSION => Header::Newer(version),
        Some((_, Some(first))) => Header::Ours(FrameNo(u64::from_le_bytes(*first))),
        Some((_, None)) | None => Header::Damaged,
    }
}

/// The content at an offset of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// A whole frame.
    Frame {
        /// Its head.
        head: FrameHead,
        /// Byte offset after it.
        end: u64,
    },
    /// The end of the segment was reached.
    End,
    /// Bytes that are not a frame.
    Damage(&'static str),
}

/// Reads the frames of one segment through a window that moves forward.
#[derive(Debug)]
pub(super) struct Walk {
    file: File,
    path: PathBuf,
    /// The header.
    header: Header,
    /// Length when it was opened. Bytes appended later are not read.
    end: u64,
    window: Vec<u8>,
    window_start: u64,
}

impl Walk {
    /// Opens the segment and reads its header.
    pub(super) fn open(directory: &Directory, first: FrameNo) -> Result<Self, DiskError> {
        let path = path(directory, first);
        let file = directory.open_to_read(&name(first))?;
        let end = file.metadata().map_err(failed("stat", &path))?.len();
        let mut walk = Self { file, path, header: Header::Damaged, end, window: Vec::new(), window_start: 0 };
        walk.header = read_header(walk.look(0, HEADER)?);
        Ok(walk)
    }

    /// The header.
    pub(super) const fn header(&self) -> Header {
        self.header
    }

    /// Path of the segment.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Its length in bytes when it was opened.
    pub(super) const fn length(&self) -> u64 {
        self.end
    }

    /// The open file, for a reader that continues from here.
    pub(super) fn into_file(self) -> File {
        self.file
    }

    /// Reads what is at `offset`.
    pub(super) fn at(&mut self, offset: u64) -> Result<Found, DiskError> {
        if offset >= self.end {
            return Ok(Found::End);
        }
        let left = usize::try_from(self.end - offset).unwrap_or(usize::MAX);
        let mut wanted = HEADER;
        loop {
            match frame::decode(self.look(offset, wanted)?) {
                Decoded::Whole { head, length } => {
                    return Ok(Found::Frame { head, end: offset + length as u64 });
                }
                Decoded::Incomplete { needed } if needed <= left => wanted = needed,
                Decoded::Incomplete { .. } => return Ok(Found::Damage("it is cut off")),
                Decoded::Damaged(reason) => return Ok(Found::Damage(reason)),
            }
        }
    }

    /// The bytes from `offset` to `end`, which is not beyond [`length`](Self::length).
    pub(super) fn bytes(&mut self, offset: u64, end: u64) -> Result<&[u8], DiskError> {
        let length = usize::try_from(end.saturating_sub(offset)).unwrap_or(usize::MAX);
        Ok(self.look(offset, length)?.get(..length).unwrap_or_default())
    }

    /// Byte offset of frame `number`; `None` if this segment does not contain it whole. Damage before it is
    /// skipped.
    pub(super) fn find(&mut self, number: FrameNo) -> Result<Option<u64>, DiskError> {
        let mut offset = HEADER as u64;
        loop {
            match self.at(offset)? {
                Found::Frame { head, .. } if head.number == number => return Ok(Some(offset)),
                Found::Frame { head, end } if head.number < number => offset = end,
                Found::End | Found::Frame { .. } => return Ok(None),
                Found::Damage(_) => {
                    return Ok(self.search(offset, number, number)?.map(|(offset, _)| offset));
                }
            }
        }
    }

    /// Searches byte by byte, from `offset` on, for a whole frame numbered from `first` to `last`.
    pub(super) fn search(
        &mut self,
        mut offset: u64,
        first: FrameNo,
        last: FrameNo,
    ) -> Result<Option<(u64, FrameNo)>, DiskError> {
        const NUMBER_END: usize = 16;
        while offset < self.end {
            let bytes = self.look(offset, NUMBER_END)?;
            let plausible = |bytes: &[u8]| {
                frame::number_at(bytes).is_some_and(|number| (first.0..=last.0).contains(&number))
            };
            let Some(skip) = bytes.windows(NUMBER_END).position(plausible) else {
                let skip = bytes.len().saturating_sub(NUMBER_END - 1).max(1);
                offset += skip as u64;
                continue;
            };
            offset += skip as u64;
            if let Found::Frame { head, .. } = self.at(offset)?
                && (first..=last).contains(&head.number)
            {
                return Ok(Some((offset, head.number)));
            }
            offset += 1;
        }
        Ok(None)
    }

    /// The bytes from `offset` on: at least `wanted` of them, or all up to the end.
    fn look(&mut self, offset: u64, wanted: usize) -> Result<&[u8], DiskError> {
        let left = usize::try_from(self.end.saturating_sub(offset)).unwrap_or(usize::MAX);
        let wanted = wanted.min(left);
        let inside = offset.checked_sub(self.window_start).and_then(|skip| usize::try_from(skip).ok());
        let has = |skip: usize| self.window.len().saturating_sub(skip) >= wanted;
        let skip = if let Some(skip) = inside.filter(|skip| has(*skip)) {
            skip
        } else {
            self.window.clear();
            self.window.resize(wanted.max(WINDOW.min(left)), 0);
            self.window_start = offset;
            self.file.read_exact_at(&mut self.window, offset).map_err(failed("read", &self.path))?;
            0
        };
        Ok(self.window.get(skip..).unwrap_or_default())
    }
}

/// Whether a segment has been deleted, or emptied for deletion, since it was opened.
pub(super) fn is_reclaimed(error: &DiskError) -> bool {
    error.kind() == Some(io::ErrorKind::UnexpectedEof) || error.is_missing()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segment_listing_is_ordered_and_ignores_other_files() {
        let root = tempfile::tempdir().unwrap();
        let directory = Directory::open(root.path()).unwrap();
        for number in [300, 2, u64::MAX] {
            directory.create_file(&name(FrameNo(number))).unwrap();
        }
        for other in ["lock", "checkpoint", "1.log", "0000000000000000000x.log", "99999999999999999999.log"] {
            directory.create_file(other).unwrap();
        }
        assert_eq!(list(&directory).unwrap(), [FrameNo(2), FrameNo(300), FrameNo(u64::MAX)]);
    }

    #[test]
    fn header_is_valid_newer_or_damaged() {
        let good = header(FrameNo(77));
        assert_eq!(read_header(&good), Header::Ours(FrameNo(77)));
        for bit in 0..HEADER * 8 {
            let mut bytes = good;
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(read_header(&bytes), Header::Damaged, "bit {bit}");
        }
        for length in 0..HEADER {
            assert_eq!(read_header(&good[..length]), Header::Damaged, "{length} bytes");
        }
        let mut newer = good;
        newer[8] = 3;
        let checksum = crc32c::crc32c(&newer[..HEADER - 4]);
        newer[HEADER - 4..].copy_from_slice(&checksum.to_le_bytes());
        assert_eq!(read_header(&newer), Header::Newer(3));
    }
}
