//! The dead-letter file: records that cannot be published, one JSON line each, fsynced before they count as
//! finished.
//!
//! It contains row values, so its mode is 0600. A crash between the fsync and the next checkpoint repeats a
//! line; none is lost. A torn line is truncated when the file is opened: its record was not finished and is
//! written again.
//!
//! If something else deletes, renames, replaces or resizes the file (log rotation, for instance), the next
//! line is not written: the process stops, and the next start creates the file again.
//!
//! Decisions about letters are appended to the same file ([`entry`](super::entry) has the format) when a
//! [`request`](super::request) is carried out.

use std::fs::File;
use std::io::{BufRead as _, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::PathBuf;

use crate::buffer::disk::{self, Directory, DiskError};
use crate::failure::{Explain, Failure};

/// Its name in the buffer directory.
pub const FILE_NAME: &str = "dead_letters.jsonl";

/// Why an entry could not be written.
#[derive(Debug, thiserror::Error)]
pub enum DeadLetterError {
    /// The disk has no space. Events of this key wait until it has.
    #[error("disk full: cannot append to the dead-letter file {}", path.display())]
    Full {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// The file has reached its size limit. Events of this key wait until it has space.
    #[error("the dead-letter file {} has reached buffer.max_dead_letter_size", path.display())]
    AtItsLimit {
        /// The file.
        path: PathBuf,
        /// Its size in bytes.
        size: u64,
        /// The limit.
        max: u64,
    },
    /// I/O error.
    #[error("cannot write the dead-letter file")]
    Disk(#[from] DiskError),
}

impl Explain for DeadLetterError {
    fn detail(&self) -> Option<String> {
        match self {
            Self::Full { source, .. } => Some(source.to_string()),
            Self::AtItsLimit { size, max, .. } => {
                Some(format!("It has {size} bytes; the limit is {max} bytes."))
            }
            Self::Disk(error) => error.detail(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Full { .. } => Some("Free space on the file system.".to_owned()),
            Self::AtItsLimit { .. } => Some(
                "Raise buffer.max_dead_letter_size and restart; or stop Forebay, move the file away and start it again."
                    .to_owned(),
            ),
            Self::Disk(error) => error.hint(),
        }
    }
}

impl From<DeadLetterError> for Failure {
    fn from(error: DeadLetterError) -> Self {
        match error {
            DeadLetterError::Full { .. } | DeadLetterError::AtItsLimit { .. } => Self::retry(error),
            DeadLetterError::Disk(_) => Self::stop(error),
        }
    }
}

/// The file, open for appending.
#[derive(Debug)]
pub struct DeadLetterFile {
    directory: Directory,
    path: PathBuf,
    file: File,
    /// Offset of the end of the last whole line.
    end: u64,
    /// Whether lines were written since the last fsync.
    unsynced: bool,
}

impl DeadLetterFile {
    /// Opens or creates it in the buffer directory, and truncates a torn line.
    ///
    /// # Errors
    /// I/O error.
    pub fn open(directory: &Directory) -> Result<Self, DiskError> {
        let path = directory.path_of(FILE_NAME);
        let (mut file, created) = directory.open_or_create(FILE_NAME)?;
        if created {
            directory.sync()?;
        }
        let length = file.metadata().map_err(disk::failed("stat", &path))?.len();
        let end = end_of_last_line(&mut file, length).map_err(disk::failed("read", &path))?;
        if end < length {
            file.set_len(end).map_err(disk::failed("truncate", &path))?;
        }
        // Lines of a killed process may be only in the page cache. From here on they count as durable.
        file.sync_all().map_err(disk::failed("fsync", &path))?;
        Ok(Self { directory: directory.clone(), path, file, end, unsynced: false })
    }

    /// Writes one line, given in parts. The last part ends with a line feed. [`sync`](Self::sync) makes the
    /// line durable.
    ///
    /// # Errors
    /// An I/O error. After a full disk, no part of the line is left in the file.
    pub fn push(&mut self, parts: &[&[u8]]) -> Result<(), DeadLetterError> {
        if !self.unsynced {
            self.check_unchanged()?;
        }
        let mut length = 0;
        let written = self.file.seek(SeekFrom::Start(self.end)).and_then(|_| {
            parts.iter().try_for_each(|part| {
                length += part.len() as u64;
                self.file.write_all(part)
            })
        });
        if let Err(source) = written {
            self.file.set_len(self.end).map_err(disk::failed("truncate", &self.path))?;
            if disk::is_full(&source) {
                return Err(DeadLetterError::Full { path: self.path.clone(), source });
            }
            return Err(disk::failed("write", &self.path)(source).into());
        }
        self.end += length;
        self.unsynced = true;
        Ok(())
    }

    /// Whether `more` bytes would make the file larger than `max`.
    pub const fn exceeds(&self, more: usize, max: u64) -> bool {
        self.end.saturating_add(more as u64) > max
    }

    /// Fsyncs the lines that were pushed.
    ///
    /// # Errors
    /// I/O error.
    pub fn sync(&mut self) -> Result<(), DiskError> {
        if std::mem::take(&mut self.unsynced) {
            self.file.sync_data().map_err(disk::failed("fsync", &self.path))?;
            self.check_unchanged()?;
        }
        Ok(())
    }

    fn check_unchanged(&self) -> Result<(), DiskError> {
        self.directory.check_unchanged(FILE_NAME, &self.file, &(self.end..=self.end))
    }

    /// Appends lines and makes them durable.
    ///
    /// # Errors
    /// The disk is full, or I/O fails.
    pub fn append(&mut self, lines: &[u8]) -> Result<(), DeadLetterError> {
        self.push(&[lines])?;
        Ok(self.sync()?)
    }

    /// Bytes of whole lines.
    pub const fn size(&self) -> u64 {
        self.end
    }
}

/// The line that begins at this offset of a directory's dead-letter file.
///
/// # Errors
/// The file cannot be read.
pub fn line_at(directory: &Directory, offset: u64) -> Result<Vec<u8>, DiskError> {
    let mut file = directory.open_to_read(FILE_NAME)?;
    let mut line = Vec::new();
    file.seek(SeekFrom::Start(offset))
        .and_then(|_| std::io::BufReader::with_capacity(64 << 10, file).read_until(b'\n', &mut line))
        .map_err(disk::failed("read", &directory.path_of(FILE_NAME)))?;
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
    use std::path::Path;

    use super::*;

    #[test]
    fn torn_line_is_truncated_and_whole_lines_stay() {
        let root = tempfile::tempdir().unwrap();
        let directory = Directory::open(root.path()).unwrap();
        let path = directory.path_of(FILE_NAME);
        let long = format!("{{\"raw\":\"{}\"}}\n", "x".repeat(100_000));
        for (found, kept) in [
            ("", ""),
            ("torn", ""),
            ("{}\n", "{}\n"),
            ("{}\n{\"torn", "{}\n"),
            (&format!("{long}{}", "y".repeat(70_000)), &long),
        ] {
            std::fs::write(&path, found).unwrap();
            let mut file = DeadLetterFile::open(&directory).unwrap();
            file.append(b"{\"next\":1}\n").unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("{kept}{{\"next\":1}}\n"));
        }
    }

    fn rename(from: &Path, to: &Path) {
        std::fs::hard_link(from, to).unwrap();
        std::fs::remove_file(from).unwrap();
    }

    /// A change of the file by another program, before a line is written or before its fsync.
    #[test]
    fn line_in_a_changed_file_is_not_written() {
        type Change = fn(&Path);
        let changes: [(&str, Change); 5] = [
            ("deleted or renamed", |path| std::fs::remove_file(path).unwrap()),
            ("deleted or renamed", |path| rename(path, &path.with_extension("1"))),
            ("replaced", |path| {
                rename(path, &path.with_extension("1"));
                std::fs::write(path, "{\"first\":1}\n").unwrap();
            }),
            ("truncated", |path| std::fs::write(path, "").unwrap()),
            ("extended", |path| {
                std::fs::write(path, "{\"first\":1}\n{\"second\":2}\n{\"third\":3}\n").unwrap();
            }),
        ];
        for (change, make) in changes {
            for pushed in [false, true] {
                let root = tempfile::tempdir().unwrap();
                let directory = Directory::open(root.path()).unwrap();
                let mut file = DeadLetterFile::open(&directory).unwrap();
                file.append(b"{\"first\":1}\n").unwrap();
                if pushed {
                    file.push(&[b"{\"pushed\":1}\n"]).unwrap();
                }
                make(&directory.path_of(FILE_NAME));
                let error = if pushed {
                    file.sync().unwrap_err()
                } else {
                    match file.append(b"{\"lost\":1}\n") {
                        Err(DeadLetterError::Disk(error)) => error,
                        other => panic!("{change}: {other:?}"),
                    }
                };
                assert!(
                    matches!(error, DiskError::ChangedByOthers { change: found, .. } if found == change),
                    "{error}"
                );
                DeadLetterFile::open(&directory).unwrap().append(b"{}\n").unwrap();
            }
        }
    }
}
