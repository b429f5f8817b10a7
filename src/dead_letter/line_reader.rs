//! Reads the dead-letter file line by line, from any line on.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::FileExt as _;

use super::FILE_NAME;
use crate::buffer::disk::{Directory, DiskError, failed, if_exists};

/// Longest line that is kept in memory, in bytes. A frame of the log is smaller, so Forebay never writes a
/// longer line.
const LINE_MAX: u64 = 96 << 20;

/// The whole lines of the file. A line that is still being written is left out.
#[derive(Debug)]
pub struct LineReader {
    lines: BufReader<File>,
    /// Offset of the next line.
    offset: u64,
    line: Vec<u8>,
    directory: Directory,
}

impl LineReader {
    /// Begins at the line at offset `from`, or at the first line if none begins there, because another file
    /// may have taken its place. `None`: there is no file.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn open(directory: &Directory, from: u64) -> Result<Option<Self>, DiskError> {
        let Some(mut file) = if_exists(directory.open_to_read(FILE_NAME))? else { return Ok(None) };
        let offset = if begins_line(&file, from) { from } else { 0 };
        file.seek(SeekFrom::Start(offset)).map_err(failed("read", &directory.path_of(FILE_NAME)))?;
        let lines = BufReader::with_capacity(256 << 10, file);
        Ok(Some(Self { lines, offset, line: Vec::new(), directory: directory.clone() }))
    }

    /// Offset of the next line, in bytes.
    pub const fn offset(&self) -> u64 {
        self.offset
    }

    /// Offset of the next line, and the line with its line feed. The line is empty if it is too long to be a
    /// dead letter.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn next_line(&mut self) -> Result<Option<(u64, &[u8])>, DiskError> {
        let path = self.directory.path_of(FILE_NAME);
        let Some(length) = self.read_line().map_err(failed("read", &path))? else { return Ok(None) };
        let offset = self.offset;
        self.offset += length;
        Ok(Some((offset, &self.line)))
    }

    fn read_line(&mut self) -> io::Result<Option<u64>> {
        self.line.clear();
        let mut length = (&mut self.lines).take(LINE_MAX).read_until(b'\n', &mut self.line)? as u64;
        if self.line.last() == Some(&b'\n') {
            return Ok(Some(length));
        }
        if length < LINE_MAX {
            return Ok(None);
        }
        self.line = Vec::new();
        loop {
            let block = self.lines.fill_buf()?;
            if block.is_empty() {
                return Ok(None);
            }
            let end = block.iter().position(|byte| *byte == b'\n');
            let used = end.map_or(block.len(), |at| at + 1);
            self.lines.consume(used);
            length += used as u64;
            if end.is_some() {
                return Ok(Some(length));
            }
        }
    }
}

fn begins_line(file: &File, offset: u64) -> bool {
    let mut before = [0];
    offset.checked_sub(1).is_none_or(|at| file.read_exact_at(&mut before, at).is_ok() && before == *b"\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_begins_at_a_line_or_at_the_start() {
        let root = tempfile::tempdir().unwrap();
        let directory = Directory::open(root.path()).unwrap();
        assert!(LineReader::open(&directory, 0).unwrap().is_none());
        std::fs::write(directory.path_of(FILE_NAME), b"one\ntwo\nto").unwrap();
        for (from, offset, line) in [
            (0, 0, Some((0, &b"one\n"[..]))),
            (4, 4, Some((4, &b"two\n"[..]))),
            (8, 8, None),
            (5, 0, Some((0, &b"one\n"[..]))),
            (99, 0, Some((0, &b"one\n"[..]))),
        ] {
            let mut lines = LineReader::open(&directory, from).unwrap().unwrap();
            assert_eq!((lines.offset(), lines.next_line().unwrap()), (offset, line), "{from}");
        }
    }
}
