//! Errors of disk operations, and their classes.

use std::io;
use std::path::{Path, PathBuf};

use crate::failure::{Explain, Failure};

/// Why a disk operation failed.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// A system call failed.
    #[error("could not {action} {}", path.display())]
    Io {
        /// The operation: a verb whose object is the path.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The buffer directory does not exist.
    #[error("buffer directory {} does not exist", path.display())]
    Missing {
        /// The directory.
        path: PathBuf,
    },
    /// The file is not of a kind that this program creates: a link, a device, or another user's file.
    #[error("{} is refused: {detail}", path.display())]
    Refused {
        /// The file or directory.
        path: PathBuf,
        /// What was found, for the detail of the message.
        detail: String,
        /// Advice for the operator.
        hint: &'static str,
    },
    /// Something other than this process deleted, renamed, replaced or resized a file that this process has
    /// open.
    #[error("{} was {change} while Forebay used it", path.display())]
    ChangedByOthers {
        /// The file.
        path: PathBuf,
        /// The change, as a past participle: `deleted or renamed`.
        change: &'static str,
    },
    /// An earlier write or fsync failed. The file is not used again until a restart.
    #[error("{} is disabled after an earlier failure: {reason}", path.display())]
    Poisoned {
        /// The directory or file.
        path: PathBuf,
        /// The operation that failed.
        reason: String,
    },
}

impl DiskError {
    /// Whether there is no such file.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Missing { .. }) || self.kind() == Some(io::ErrorKind::NotFound)
    }

    /// The class of the operating system's error.
    pub fn kind(&self) -> Option<io::ErrorKind> {
        match self {
            Self::Io { source, .. } => Some(source.kind()),
            Self::Missing { .. }
            | Self::Refused { .. }
            | Self::ChangedByOthers { .. }
            | Self::Poisoned { .. } => None,
        }
    }
}

impl From<DiskError> for Failure {
    fn from(error: DiskError) -> Self {
        match error {
            DiskError::Io { .. }
            | DiskError::Missing { .. }
            | DiskError::Refused { .. }
            | DiskError::ChangedByOthers { .. }
            | DiskError::Poisoned { .. } => Self::stop(error),
        }
    }
}

/// Turns the error about a missing file into `None`.
pub fn if_exists<T>(opened: Result<T, DiskError>) -> Result<Option<T>, DiskError> {
    match opened {
        Err(error) if error.is_missing() => Ok(None),
        opened => opened.map(Some),
    }
}

impl Explain for DiskError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Io { source, .. } => Some(advice(source).to_owned()),
            Self::Missing { .. } => Some(
                "Check buffer.dir, and run this on the machine of the daemon. The first `forebay run` creates the directory."
                    .to_owned(),
            ),
            Self::Refused { hint, .. } => Some((*hint).to_owned()),
            Self::ChangedByOthers { .. } => Some(
                "Find out what changed it, and exclude buffer.dir from it. If the file was moved, move it back. Then start again."
                    .to_owned(),
            ),
            Self::Poisoned { .. } => None,
        }
    }
}

/// The hint for an error. A restart is always safe, because nothing that depends on the failed operation was
/// confirmed.
fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        _ if is_full(error) => "Free space on this disk, then start again.",
        io::ErrorKind::PermissionDenied => {
            "Give the user of this process read and write permission, then start again. In a container, mount a volume that this \
             user may write."
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            "The file system is read-only. In a container, mount a volume there; else look at the kernel's log for the reason, \
             then start again."
        }
        io::ErrorKind::NotADirectory => "A part of this path is a file, not a directory: correct buffer.dir.",
        _ => "Look at the disk and at the kernel's log, then start again.",
    }
}

/// Adds the operation and the path to an I/O error.
pub fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DiskError {
    move |source| DiskError::Io { action, path: path.to_owned(), source }
}

/// Whether an error means that there is no space: disk or quota full, or the file-size limit of the process
/// reached.
pub fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
}

/// The limit that a full disk has reached.
pub fn why_full(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::QuotaExceeded => "the quota is used up",
        io::ErrorKind::FileTooLarge => "files of this process may not be larger (ulimit -f, LimitFSIZE)",
        _ => "the file system is full",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_no_room_are_full() {
        for (number, full) in [(28, true), (122, true), (27, true), (5, false), (30, false)] {
            assert_eq!(is_full(&io::Error::from_raw_os_error(number)), full, "errno {number}");
        }
    }
}
