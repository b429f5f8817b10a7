//! The dead-letter file: records that cannot leave, one JSON line each, fsynced before they count as finished.
//!
//! It holds rows, so its mode is 0600. A crash between the fsync and the next checkpoint repeats an entry; it is never
//! lost. A line that a crash has torn is cut when the file is opened: its record was not finished and comes again.
//!
//! What persons decide about letters is appended to the same file ([`index`] has the format), after they have asked for it
//! ([`request`]).

mod id;
pub mod index;
pub mod request;

use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::disk::{self, DiskError};
use crate::failure::Failure;

pub use self::id::{LetterId, position_of, position_of_sequence};

/// Its name in the buffer directory.
pub const FILE_NAME: &str = "dead_letters.jsonl";

/// Why an entry could not be written.
#[derive(Debug, thiserror::Error)]
pub enum DeadLetterError {
    /// No room: publishing of this key waits until there is.
    #[error("the disk is full: cannot append to the dead-letter file {}: {source}", path.display())]
    Full {
        /// The file.
        path: PathBuf,
        /// What the disk said.
        source: std::io::Error,
    },
    /// The disk refused.
    #[error("cannot write the dead-letter file")]
    Disk(#[from] DiskError),
}

impl From<DeadLetterError> for Failure {
    fn from(error: DeadLetterError) -> Self {
        match error {
            DeadLetterError::Full { .. } => Self::retry(error),
            DeadLetterError::Disk(_) => Self::stop(error),
        }
    }
}

/// The file, open for appending.
#[derive(Debug)]
pub struct DeadLetterFile {
    path: PathBuf,
    file: File,
    /// End of the last whole line.
    end: u64,
}

impl DeadLetterFile {
    /// Opens or creates it in the buffer directory, and cuts a torn line.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn open(directory: &Path) -> Result<Self, DiskError> {
        let path = directory.join(FILE_NAME);
        let created = !path.exists();
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(disk::failed("open", &path))?;
        if created {
            disk::sync_directory(directory)?;
        }
        let length = file.metadata().map_err(disk::failed("look at", &path))?.len();
        let end = end_of_last_line(&mut file, length).map_err(disk::failed("read", &path))?;
        if end < length {
            file.set_len(end).map_err(disk::failed("cut", &path))?;
        }
        // What a killed process has written may be in the page cache only, and counts from here on.
        file.sync_all().map_err(disk::failed("fsync", &path))?;
        Ok(Self { path, file, end })
    }

    /// Appends one line, which ends in a line feed, and fsyncs it.
    ///
    /// # Errors
    /// Nothing of the line is left in the file if the disk is full.
    pub fn append(&mut self, line: &[u8]) -> Result<(), DeadLetterError> {
        let written = self.file.seek(SeekFrom::Start(self.end)).and_then(|_| self.file.write_all(line));
        if let Err(source) = written {
            self.file.set_len(self.end).map_err(disk::failed("cut", &self.path))?;
            if disk::is_full(&source) {
                return Err(DeadLetterError::Full { path: self.path.clone(), source });
            }
            return Err(disk::failed("write", &self.path)(source).into());
        }
        self.file.sync_data().map_err(disk::failed("fsync", &self.path))?;
        self.end += u64::try_from(line.len()).unwrap_or_default();
        Ok(())
    }
}

/// The line that begins at this offset of a directory's dead-letter file.
///
/// # Errors
/// The file cannot be read.
pub fn line_at(directory: &Path, offset: u64) -> std::io::Result<Vec<u8>> {
    let mut file = File::open(directory.join(FILE_NAME))?;
    file.seek(SeekFrom::Start(offset))?;
    let mut line = Vec::new();
    std::io::BufReader::with_capacity(64 << 10, file).read_until(b'\n', &mut line)?;
    Ok(line)
}

/// Searches backwards for the last line feed.
fn end_of_last_line(file: &mut File, length: u64) -> std::io::Result<u64> {
    const STEP: u64 = 64 << 10;
    let mut end = length;
    while end > 0 {
        let start = end.saturating_sub(STEP);
        let mut block = Vec::new();
        file.seek(SeekFrom::Start(start))?;
        std::io::Read::by_ref(file).take(end - start).read_to_end(&mut block)?;
        if let Some(at) = block.iter().rposition(|byte| *byte == b'\n') {
            return Ok(start + u64::try_from(at).unwrap_or_default() + 1);
        }
        end = start;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_line_is_cut_and_whole_ones_stay() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE_NAME);
        let long = format!("{{\"raw\":\"{}\"}}\n", "x".repeat(100_000));
        for (found, kept) in [
            ("", ""),
            ("torn", ""),
            ("{}\n", "{}\n"),
            ("{}\n{\"torn", "{}\n"),
            (&format!("{long}{}", "y".repeat(70_000)), &long),
        ] {
            std::fs::write(&path, found).unwrap();
            let mut file = DeadLetterFile::open(directory.path()).unwrap();
            file.append(b"{\"next\":1}\n").unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("{kept}{{\"next\":1}}\n"));
        }
    }
}
