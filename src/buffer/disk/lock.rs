//! The lock of the buffer directory: one process at a time uses it.
//!
//! The lock is on the directory itself. A lock file alone could be deleted, and the next process would create
//! and lock another one. The lock file is locked too. That excludes releases that lock only the file, and
//! processes on other machines that share the directory over NFS, where the lock of a directory is local. The
//! file also contains the process id.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use super::create::LOCK_FILE;
use super::directory::Directory;
use super::error::{DiskError, failed, is_full};
use crate::failure::{Explain, Failure};

/// Why the directory could not be locked.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process holds the lock.
    #[error("another process uses the buffer directory {}", directory.display())]
    InUse {
        /// The directory.
        directory: PathBuf,
        /// The process id in the lock file, if it is readable.
        pid: Option<String>,
    },
    /// The lock file could not be used.
    #[error("the lock file cannot be used")]
    Disk(#[from] DiskError),
}

impl Explain for LockError {
    fn code(&self) -> Option<&'static str> {
        match self {
            Self::InUse { .. } => Some("directory_in_use"),
            Self::Disk(error) => error.code(),
        }
    }

    fn detail(&self) -> Option<String> {
        match self {
            Self::InUse { pid, .. } => pid.as_ref().map(|pid| format!("Its process id is {pid}.")),
            Self::Disk(error) => error.detail(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::InUse { .. } => {
                Some("Stop that process, or set another buffer.dir for this one.".to_owned())
            }
            Self::Disk(error) => error.hint(),
        }
    }
}

impl From<LockError> for Failure {
    fn from(error: LockError) -> Self {
        match error {
            LockError::InUse { .. } => Self::stop(error),
            LockError::Disk(error) => error.into(),
        }
    }
}

/// The exclusive right to use a buffer directory until this is dropped. The kernel releases it when the
/// process ends in any way. The lock file stays.
#[derive(Debug)]
pub struct DirectoryLock {
    directory: File,
    file: File,
}

impl Drop for DirectoryLock {
    /// Unlocks explicitly: while another thread starts a program, that program has copies of the descriptors,
    /// so closing them is not enough.
    fn drop(&mut self) {
        // An error only means that there is nothing to unlock.
        drop(self.file.unlock());
        drop(self.directory.unlock());
    }
}

impl DirectoryLock {
    /// Locks a directory without waiting.
    ///
    /// # Errors
    /// Another process has locked it, or the lock file cannot be used.
    pub fn acquire(directory: &Directory) -> Result<Self, LockError> {
        let path = directory.path_of(LOCK_FILE);
        let opened = directory.reopen()?;
        if !lock(&opened, directory.path())? {
            return Err(in_use(directory));
        }
        let (file, _) = directory.open_or_create(LOCK_FILE)?;
        if !lock(&file, &path)? {
            return Err(in_use(directory));
        }
        // The width is fixed, so that a later process overwrites the number in place, even on a full disk. An
        // error is ignored, because the number only serves an error message.
        match file.write_all_at(format!("{:<10}\n", std::process::id()).as_bytes(), 0) {
            Err(error) if !is_full(&error) => Err(failed("write", &path)(error).into()),
            Ok(()) | Err(_) => Ok(Self { directory: opened, file }),
        }
    }

    /// The process that holds the lock, as far as the operating system shows it. This function does not lock,
    /// because that could keep a daemon from starting.
    pub fn holder(directory: &Directory) -> Option<String> {
        let locks = fs::read_to_string("/proc/locks").ok()?;
        let file = directory.open_to_read(LOCK_FILE).ok();
        if let Some(file) = &file
            && let Ok(facts) = file.metadata()
            && flocked(&locks, &format!(":{} ", facts.ino())).is_some()
        {
            return Some(pid_in(file).unwrap_or_default());
        }
        // Nobody has locked this lock file, so the original may have been deleted. The device is compared
        // too, because the roots of all file systems have the same inode number.
        let facts = rustix::fs::fstat(directory.reopen().ok()?).ok()?;
        let (major, minor) = (rustix::fs::major(facts.st_dev), rustix::fs::minor(facts.st_dev));
        flocked(&locks, &format!(" {major:02x}:{minor:02x}:{} ", facts.st_ino)).map(str::to_owned)
    }
}

/// Tries to lock a file. `false`: another process has locked it.
fn lock(file: &File, path: &Path) -> Result<bool, LockError> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(failed("lock", path)(error).into()),
    }
}

fn in_use(directory: &Directory) -> LockError {
    let pid = directory.open_to_read(LOCK_FILE).ok().and_then(|file| pid_in(&file));
    LockError::InUse { directory: directory.path().to_owned(), pid: pid.filter(|pid| !pid.is_empty()) }
}

/// Id of the process that has locked this inode, from the text of `/proc/locks`.
fn flocked<'a>(locks: &'a str, inode: &str) -> Option<&'a str> {
    let line = locks.lines().find(|line| line.contains(" FLOCK ") && line.contains(inode))?;
    // 1: FLOCK  ADVISORY  WRITE 1234 fd:00:131 0 EOF
    line.split_whitespace().nth(4)
}

/// The content of the lock file, which is short.
fn pid_in(file: &File) -> Option<String> {
    let mut text = [0; 16];
    let length = match file.read_at(&mut text, 0) {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => return None,
        read => read.ok()?,
    };
    let text = String::from_utf8_lossy(text.get(..length)?).trim().to_owned();
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(root: &Path) -> Directory {
        Directory::create(&root.join("buffer")).unwrap()
    }

    /// Between fork and exec, a program that another thread starts holds a copy of every descriptor.
    #[test]
    fn copy_of_the_descriptor_does_not_keep_the_lock() {
        let temporary = tempfile::tempdir().unwrap();
        let directory = opened(temporary.path());
        let lock = DirectoryLock::acquire(&directory).unwrap();
        let copies = (lock.file.try_clone().unwrap(), lock.directory.try_clone().unwrap());
        drop(lock);
        assert!(DirectoryLock::acquire(&directory).is_ok());
        drop(copies);
    }

    /// Deleting, renaming or replacing the lock file does not free the lock.
    #[test]
    fn deleted_lock_file_does_not_free_the_directory() {
        let temporary = tempfile::tempdir().unwrap();
        let directory = opened(temporary.path());
        let lock = DirectoryLock::acquire(&directory).unwrap();
        for replaced in [false, true] {
            directory.remove(LOCK_FILE).unwrap();
            if replaced {
                directory.create_file(LOCK_FILE).unwrap();
            }
            for other in [directory.clone(), opened(temporary.path())] {
                assert!(matches!(DirectoryLock::acquire(&other), Err(LockError::InUse { .. })));
            }
            if cfg!(target_os = "linux") {
                assert_eq!(DirectoryLock::holder(&directory), Some(std::process::id().to_string()));
            }
        }
        drop(lock);
        assert_eq!(DirectoryLock::holder(&directory), None);
        assert!(DirectoryLock::acquire(&directory).is_ok());
    }

    #[test]
    fn process_that_locks_only_the_file_is_excluded() {
        let temporary = tempfile::tempdir().unwrap();
        let directory = opened(temporary.path());
        let (older, _) = directory.open_or_create(LOCK_FILE).unwrap();
        older.try_lock().unwrap();
        assert!(matches!(DirectoryLock::acquire(&directory), Err(LockError::InUse { .. })));
        older.unlock().unwrap();
        let lock = DirectoryLock::acquire(&directory).unwrap();
        assert!(matches!(older.try_lock(), Err(TryLockError::WouldBlock)));
        drop(lock);
    }
}
