//! What a start would find at the path of the buffer directory. Creates nothing.

use std::path::{Path, PathBuf};

use rustix::fs::{Access, access, fstatvfs, statvfs};

use super::directory::Directory;
use super::error::{DiskError, failed};

/// A path for the buffer directory, which may not exist yet.
#[derive(Clone, Debug)]
pub struct DirectoryRoom {
    /// The directory, if it exists and can be used.
    pub directory: Option<Directory>,
    /// The deepest directory of the path that exists.
    pub existing: PathBuf,
    /// Whether this user may create files there.
    pub writable: bool,
    /// Bytes that this user may still write there.
    pub free: u64,
    /// The file system, if its data does not outlive the machine or the container.
    pub volatile: Option<&'static str>,
}

impl DirectoryRoom {
    /// Examines a path.
    ///
    /// # Errors
    /// The directory exists and cannot be used, or a system call failed.
    pub fn look(path: &Path) -> Result<Self, DiskError> {
        let directory = match Directory::open(path) {
            Err(DiskError::Missing { .. }) => None,
            opened => Some(opened?),
        };
        let existing = path
            .ancestors()
            .map(|part| if part.as_os_str().is_empty() { Path::new(".") } else { part })
            .find(|part| part.exists())
            .unwrap_or_else(|| Path::new("."))
            .to_owned();
        let facts = statvfs(&existing).map_err(|errno| failed("stat", &existing)(errno.into()))?;
        let volatile = match &directory {
            Some(directory) => directory.volatile_kind(),
            // The existing path may be a file. Creating the directory then fails with a clear error.
            None => Directory::open(&existing).ok().and_then(|parent| parent.volatile_kind()),
        };
        Ok(Self {
            directory,
            writable: access(&existing, Access::WRITE_OK | Access::EXEC_OK).is_ok(),
            free: facts.f_bavail.saturating_mul(facts.f_frsize),
            volatile,
            existing,
        })
    }
}

/// Used and free bytes of a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskSpace {
    /// Used by anyone.
    pub used: u64,
    /// Free for this user.
    pub free: u64,
}

impl Directory {
    /// The space of its file system. May block while the disk does not respond.
    ///
    /// # Errors
    /// The operating system call fails.
    pub fn space(&self) -> Result<DiskSpace, DiskError> {
        let refused = |errno: rustix::io::Errno| failed("stat", self.path())(errno.into());
        let facts = fstatvfs(self.reopen()?).map_err(refused)?;
        let used = facts.f_blocks.saturating_sub(facts.f_bfree).saturating_mul(facts.f_frsize);
        Ok(DiskSpace { used, free: facts.f_bavail.saturating_mul(facts.f_frsize) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_directory_is_judged_by_its_parent() {
        let temporary = tempfile::tempdir().unwrap();
        let room = DirectoryRoom::look(&temporary.path().join("a/b")).unwrap();
        assert!(room.directory.is_none() && room.writable && room.free > 0, "{room:?}");
        assert_eq!(room.existing, temporary.path());
        assert!(!temporary.path().join("a").exists());
        let room = DirectoryRoom::look(temporary.path()).unwrap();
        assert!(room.directory.is_some(), "{room:?}");
        let space = room.directory.unwrap().space().unwrap();
        assert!(space.used > 0 && space.free > 0, "{space:?}");
    }

    #[test]
    fn relative_path_begins_in_the_working_directory() {
        assert_eq!(DirectoryRoom::look(Path::new("no-such/buffer")).unwrap().existing, Path::new("."));
    }
}
