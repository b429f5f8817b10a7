//! An external merge sort by key and sequence, in bounded memory.
//!
//! Entries are collected in memory, sorted, and written to an unnamed temporary file as a *run*. The runs are
//! merged when they are read. If there are too many runs, they are first merged into one, so that the number
//! of open files is bounded. Reading does not consume the entries: more can be added, and all can be read
//! again.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

/// Most runs that are merged at once. Each has an open file and a buffer.
const RUNS_MAX: usize = 128;
/// Size of each run's read buffer, in bytes.
const READ_BUFFER: usize = 64 << 10;

/// One entry. Entries are sorted by key, then by sequence; the body is not compared.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SortEntry {
    /// The key. Entries with equal keys are read one after the other.
    pub(super) key: Vec<u8>,
    /// The order within a key.
    pub(super) sequence: u128,
    /// Opaque to the sorter.
    pub(super) body: Vec<u8>,
}

/// Collects and sorts entries.
#[derive(Debug)]
pub(super) struct Sorter {
    directory: PathBuf,
    memory: usize,
    entries: Vec<SortEntry>,
    /// Bytes of `entries`.
    in_memory: usize,
    runs: Vec<Run>,
}

impl Sorter {
    /// A sorter that uses about `memory` bytes; further entries are written to files in `directory`.
    pub(super) fn new(directory: &Path, memory: usize) -> Self {
        Self { directory: directory.to_owned(), memory, entries: Vec::new(), in_memory: 0, runs: Vec::new() }
    }

    /// Adds an entry.
    ///
    /// # Errors
    /// A temporary file cannot be written.
    pub(super) fn push(&mut self, entry: SortEntry) -> io::Result<()> {
        self.in_memory += size_of::<SortEntry>() + entry.key.len() + entry.body.len();
        self.entries.push(entry);
        if self.in_memory >= self.memory { self.spill() } else { Ok(()) }
    }

    /// Writes the entries in memory as a run.
    fn spill(&mut self) -> io::Result<()> {
        if self.entries.is_empty() {
            return Ok(());
        }
        self.entries.sort_unstable();
        let mut writer = RunWriter::create(&self.directory)?;
        for entry in self.entries.drain(..) {
            writer.push(&entry)?;
        }
        self.in_memory = 0;
        self.runs.push(writer.finish()?);
        if self.runs.len() >= RUNS_MAX {
            let mut writer = RunWriter::create(&self.directory)?;
            merge(&mut self.runs, |entry| writer.push(&entry))?;
            self.runs = vec![writer.finish()?];
        }
        Ok(())
    }

    /// Calls `take` with all entries in order.
    ///
    /// # Errors
    /// A temporary file cannot be written or read; an error of `take`.
    pub(super) fn read(&mut self, take: impl FnMut(SortEntry) -> io::Result<()>) -> io::Result<()> {
        self.spill()?;
        merge(&mut self.runs, take)
    }
}

/// Merges runs.
fn merge(runs: &mut [Run], mut take: impl FnMut(SortEntry) -> io::Result<()>) -> io::Result<()> {
    let mut readers = Vec::with_capacity(runs.len());
    let mut heap = BinaryHeap::with_capacity(runs.len());
    for (at, run) in runs.iter_mut().enumerate() {
        let mut reader = RunReader::open(run)?;
        if let Some(entry) = reader.next()? {
            heap.push(Reverse((entry, at)));
        }
        readers.push(reader);
    }
    while let Some(Reverse((entry, at))) = heap.pop() {
        if let Some(next) = readers.get_mut(at).map(RunReader::next).transpose()?.flatten() {
            heap.push(Reverse((next, at)));
        }
        take(entry)?;
    }
    Ok(())
}

/// A sorted file without a name.
#[derive(Debug)]
struct Run {
    file: File,
    entries: u64,
}

struct RunWriter {
    file: BufWriter<File>,
    entries: u64,
}

impl RunWriter {
    fn create(directory: &Path) -> io::Result<Self> {
        Ok(Self { file: BufWriter::new(tempfile::tempfile_in(directory)?), entries: 0 })
    }

    fn push(&mut self, entry: &SortEntry) -> io::Result<()> {
        let length = |bytes: &[u8]| {
            let too_long = |_| io::Error::other("an entry is longer than 4 GiB");
            u32::try_from(bytes.len()).map(u32::to_le_bytes).map_err(too_long)
        };
        self.file.write_all(&length(&entry.key)?)?;
        self.file.write_all(&length(&entry.body)?)?;
        self.file.write_all(&entry.sequence.to_le_bytes())?;
        self.file.write_all(&entry.key)?;
        self.file.write_all(&entry.body)?;
        self.entries += 1;
        Ok(())
    }

    fn finish(self) -> io::Result<Run> {
        let file = self.file.into_inner().map_err(io::IntoInnerError::into_error)?;
        Ok(Run { file, entries: self.entries })
    }
}

struct RunReader<'a> {
    file: BufReader<&'a mut File>,
    left: u64,
}

impl<'a> RunReader<'a> {
    fn open(run: &'a mut Run) -> io::Result<Self> {
        run.file.seek(SeekFrom::Start(0))?;
        Ok(Self { file: BufReader::with_capacity(READ_BUFFER, &mut run.file), left: run.entries })
    }

    fn next(&mut self) -> io::Result<Option<SortEntry>> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(None) };
        self.left = left;
        let (key, body) = (self.length()?, self.length()?);
        let mut sequence = [0; 16];
        self.file.read_exact(&mut sequence)?;
        let sequence = u128::from_le_bytes(sequence);
        Ok(Some(SortEntry { sequence, key: self.bytes(key)?, body: self.bytes(body)? }))
    }

    fn length(&mut self) -> io::Result<usize> {
        let mut bytes = [0; 4];
        self.file.read_exact(&mut bytes)?;
        usize::try_from(u32::from_le_bytes(bytes)).map_err(io::Error::other)
    }

    fn bytes(&mut self, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.file.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// With a memory of a few entries there are more runs than may be merged at once.
        #[test]
        fn entries_come_sorted_and_again_with_later_ones(
            first in proptest::collection::vec((0_u8..40, 0_u128..9, 0_u8..3), 0..600),
            second in proptest::collection::vec((0_u8..40, 0_u128..9, 0_u8..3), 0..50),
            memory in 1_usize..400,
        ) {
            let mut sorter = Sorter::new(&std::env::temp_dir(), memory);
            let mut expected = Vec::new();
            for part in [first, second] {
                for (key, sequence, size) in part {
                    let entry = SortEntry { key: vec![b'k'; key.into()], sequence, body: vec![7; size.into()] };
                    expected.push(entry.clone());
                    sorter.push(entry).unwrap();
                }
                expected.sort();
                let mut found = Vec::new();
                sorter.read(|entry| { found.push(entry); Ok(()) }).unwrap();
                prop_assert_eq!(&found, &expected);
                prop_assert!(sorter.runs.len() < RUNS_MAX);
            }
        }
    }
}
