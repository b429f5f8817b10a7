//! The one home of fsync rules, modes, the directory lock and the classes of disk errors.
//!
//! The rules, each learnt by somebody's loss:
//! - a new file exists after a power cut only if the file *and then* its directory were fsynced;
//! - a replaced file is the old or the new one only if the new one is fsynced before the rename, and the directory after;
//! - after a failed fsync the kernel calls the lost pages clean, so that a second fsync "succeeds": whoever sees one
//!   fail must not try again, but stop and start from what it had before;
//! - `fdatasync` writes the data and whatever is needed to read them again (the size), not the times.
//!
//! Nothing here decides what to do about a full disk; [`is_full`] only names it.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::failure::Failure;

/// Name of the lock file in the buffer's directory.
const LOCK_FILE: &str = "lock";

/// Why the disk did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// The operating system refused.
    #[error("could not {action} {} ({}, then start again)", path.display(), advice(source))]
    Io {
        /// What was tried: a verb that the path completes.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The operating system's answer.
        source: io::Error,
    },
    /// An earlier write or fsync failed: nothing of this file can be believed until the process starts again.
    #[error("the files in {} are not used any more since an earlier failure: {reason}", path.display())]
    Poisoned {
        /// The directory or file.
        path: PathBuf,
        /// What failed.
        reason: String,
    },
}

impl From<DiskError> for Failure {
    fn from(error: DiskError) -> Self {
        match error {
            DiskError::Io { .. } | DiskError::Poisoned { .. } => Self::stop(error),
        }
    }
}

/// What a person should do about it. Nothing that depends on what failed was confirmed, so a new start is always right.
fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        _ if is_full(error) => "make room for it",
        io::ErrorKind::PermissionDenied => "let the user who runs this have it",
        io::ErrorKind::ReadOnlyFilesystem => "look at the kernel's log for why it is read-only",
        _ => "look at the disk and at the kernel's log",
    }
}

/// Turns an I/O error into one that says what was tried on which path.
pub(super) fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DiskError {
    move |source| DiskError::Io { action, path: path.to_owned(), source }
}

/// Whether an error means "no room": disk or quota full, or the file-size limit of the process reached.
pub fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
}

/// Which room there is none of.
pub(super) fn why_full(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::QuotaExceeded => "the quota is used up",
        io::ErrorKind::FileTooLarge => "files of this process may not be larger (ulimit -f, LimitFSIZE)",
        _ => "the file system is full",
    }
}

/// Makes the directory, and those above it that are missing, readable by the owner only; durable when it returns. One that
/// exists and has files is left as it is. Where an earlier try may have been killed between making and fsyncing, the
/// fsync is made up for.
pub fn create_directory(path: &Path) -> Result<(), DiskError> {
    let is_one = |part: &&Path| !part.as_os_str().is_empty();
    let missing: Vec<&Path> = path.ancestors().take_while(is_one).take_while(|part| !part.exists()).collect();
    if missing.is_empty() && has_files(path) {
        return Ok(());
    }
    if let Some(existing) = path.ancestors().nth(missing.len()).filter(is_one) {
        match sync_directory(parent(existing)) {
            // Then it was not made by us either.
            Err(DiskError::Io { source, .. }) if source.kind() == io::ErrorKind::PermissionDenied => {}
            synced => synced?,
        }
    }
    for part in missing.into_iter().rev() {
        match DirBuilder::new().mode(0o700).create(part) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(failed("make the directory", part)(error));
            }
            Ok(()) | Err(_) => sync_directory(parent(part))?,
        }
    }
    Ok(())
}

/// Whether a directory has files beside the lock. One that cannot be looked at says so when it is used.
fn has_files(directory: &Path) -> bool {
    fs::read_dir(directory).is_ok_and(|entries| entries.flatten().any(|entry| entry.file_name() != LOCK_FILE))
}

/// The directory that holds `path`; `.` for a bare name.
fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."))
}

/// Makes a file that must not exist yet, for reading and writing by the owner only. Not durable before the file and its
/// directory are fsynced.
pub(super) fn create_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)
}

/// Makes the entries of a directory durable: files made, renamed and deleted in it.
pub fn sync_directory(path: &Path) -> Result<(), DiskError> {
    File::open(path).and_then(|directory| directory.sync_all()).map_err(failed("fsync the directory", path))
}

/// Puts `bytes` in place of `target`, or makes it. After a power cut the file is the old or the new one, never a mixture;
/// when this returns it is the new one. The new file is returned, open for reading and writing.
pub(super) fn replace_durably(target: &Path, bytes: &[u8]) -> Result<File, DiskError> {
    let mut name = target.as_os_str().to_owned();
    name.push(".new");
    let draft = PathBuf::from(name);
    remove_file(&draft)?;
    let file = create_file(&draft).map_err(failed("create", &draft))?;
    file.write_all_at(bytes, 0).map_err(failed("write", &draft))?;
    file.sync_all().map_err(failed("fsync", &draft))?;
    #[expect(clippy::disallowed_methods, reason = "this is the durable replace")]
    fs::rename(&draft, target).map_err(failed("rename a new file to", target))?;
    sync_directory(parent(target))?;
    Ok(file)
}

/// Adds a line to a file for the owner only; file and entry are durable when it returns. What a torn write has left stays, on
/// a line of its own.
pub fn append_line(path: &Path, line: &str) -> Result<(), DiskError> {
    let mut file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
        .map_err(failed("open", path))?;
    let torn = ends_torn(&file).map_err(failed("read", path))?;
    let text = format!("{}{line}\n", if torn { "\n" } else { "" });
    file.write_all(text.as_bytes()).map_err(failed("write", path))?;
    file.sync_all().map_err(failed("fsync", path))?;
    sync_directory(parent(path))
}

/// Whether a file's last line has no end.
fn ends_torn(file: &File) -> io::Result<bool> {
    let Some(last) = file.metadata()?.len().checked_sub(1) else { return Ok(false) };
    let mut byte = [0];
    file.read_exact_at(&mut byte, last)?;
    Ok(byte != *b"\n")
}

/// Renames a file to one with this ending added; durable when it returns.
pub(super) fn put_aside(path: &Path, ending: &str) -> Result<(), DiskError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    #[expect(
        clippy::disallowed_methods,
        reason = "the directory is fsynced, and the content is not ours to fsync"
    )]
    fs::rename(path, &name).map_err(failed("put aside", path))?;
    sync_directory(parent(path))
}

/// Deletes a file; one that is not there is no error.
pub(super) fn remove_file(path: &Path) -> Result<(), DiskError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("delete", path)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Deletes a file and gives back its room at once, also where somebody still has it open: a reader that waits for more in
/// it would keep the disk full, and nothing more could come. First the name goes, then the room, so that nobody ever finds
/// it emptied. One that is not there is no error.
pub(super) fn discard_file(path: &Path) -> Result<(), DiskError> {
    match OpenOptions::new().write(true).open(path) {
        Ok(file) => {
            remove_file(path)?;
            file.set_len(0).map_err(failed("empty", path))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed("open", path)(error)),
    }
}

/// Why the directory could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process works in it.
    #[error("another process{} works in {}: stop it, or give this one its own buffer.dir", holder(pid.as_deref()), directory.display())]
    Held {
        /// The directory.
        directory: PathBuf,
        /// The process id it left in the lock file, if it is readable.
        pid: Option<String>,
    },
    /// The lock file could not be used.
    #[error("the lock file cannot be used")]
    Disk(#[from] DiskError),
}

fn holder(pid: Option<&str>) -> String {
    pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default()
}

impl From<LockError> for Failure {
    fn from(error: LockError) -> Self {
        match error {
            LockError::Held { .. } => Self::stop(error),
            LockError::Disk(error) => error.into(),
        }
    }
}

/// The right to work in a buffer directory, held by one process at a time until this is dropped. The kernel gives it
/// back when the process dies, however it dies; the file itself stays, because deleting it would race with a taker.
#[derive(Debug)]
pub struct DirectoryLock {
    _file: File,
}

impl DirectoryLock {
    /// Takes the lock of an existing directory, without waiting.
    pub fn acquire(directory: &Path) -> Result<Self, LockError> {
        let path = directory.join(LOCK_FILE);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(failed("open", &path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                let pid = fs::read_to_string(&path).ok().map(|text| text.trim().to_owned());
                let pid = pid.filter(|pid| !pid.is_empty());
                return Err(LockError::Held { directory: directory.to_owned(), pid });
            }
            Err(fs::TryLockError::Error(error)) => return Err(failed("lock", &path)(error).into()),
        }
        // A fixed width, so that a later process overwrites it in place: that works on a full disk too. There, the first
        // one goes without: the number only serves the error message.
        match file.write_all_at(format!("{:<10}\n", std::process::id()).as_bytes(), 0) {
            Err(error) if !is_full(&error) => Err(failed("write", &path)(error).into()),
            Ok(()) | Err(_) => Ok(Self { _file: file }),
        }
    }
}

/// The process that holds a directory, as far as the operating system shows; nothing is locked to find out, so that no
/// daemon is ever kept from starting.
pub fn held_by(directory: &Path) -> Option<String> {
    use std::os::unix::fs::MetadataExt as _;
    let path = directory.join(LOCK_FILE);
    let inode = fs::metadata(&path).ok()?.ino();
    let locks = fs::read_to_string("/proc/locks").ok()?;
    let held = locks.lines().any(|line| line.contains(" FLOCK ") && line.contains(&format!(":{inode} ")));
    held.then(|| fs::read_to_string(&path).unwrap_or_default().trim().to_owned())
}

/// The name of the file system that holds `path` (or that will, if it does not exist yet), if what is written there does
/// not outlive the machine or the container.
pub fn is_volatile(path: &Path) -> Option<&'static str> {
    let existing = path.ancestors().find(|part| part.exists()).unwrap_or_else(|| Path::new("."));
    file_system_magic(existing).and_then(volatile_name)
}

#[cfg(target_os = "linux")]
fn file_system_magic(path: &Path) -> Option<u64> {
    rustix::fs::statfs(path).ok().and_then(|facts| u64::try_from(facts.f_type).ok())
}

/// Only Linux names file systems by number; elsewhere a directory counts as a disk.
#[cfg(not(target_os = "linux"))]
fn file_system_magic(_path: &Path) -> Option<u64> {
    None
}

/// The numbers of statfs(2) that are no disks.
fn volatile_name(magic: u64) -> Option<&'static str> {
    match magic {
        0x0102_1994 => Some("tmpfs"),
        0x8584_58F6 => Some("ramfs"),
        0x794C_7630 => Some("overlay"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn what_is_made_is_for_the_owner_only() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("a/b");
        create_directory(&directory).unwrap();
        create_directory(&directory).unwrap();
        let file = directory.join("file");
        replace_durably(&file, b"one").unwrap();
        replace_durably(&file, b"two").unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"two");
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 1, "the draft is gone");
        assert_eq!((mode(&directory), mode(&file)), (0o700, 0o600));
    }

    #[test]
    fn a_line_is_added_behind_what_a_torn_write_has_left() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("file");
        for (found, expected) in [("", "new\n"), ("old\n", "old\nnew\n"), ("to", "to\nnew\n")] {
            fs::write(&path, found).unwrap();
            append_line(&path, "new").unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), expected);
        }
    }

    #[test]
    fn a_directory_is_held_by_one_at_a_time_and_the_error_says_by_whom() {
        let root = tempfile::tempdir().unwrap();
        let lock = DirectoryLock::acquire(root.path()).unwrap();
        let error = DirectoryLock::acquire(root.path()).unwrap_err();
        assert!(error.to_string().contains(&format!("pid {}", std::process::id())), "{error}");
        drop(lock);
        DirectoryLock::acquire(root.path()).unwrap();
    }

    #[test]
    fn no_room_is_told_from_other_trouble() {
        for (number, full) in [(28, true), (122, true), (27, true), (5, false), (30, false)] {
            assert_eq!(is_full(&io::Error::from_raw_os_error(number)), full, "errno {number}");
        }
    }

    #[test]
    fn storage_that_does_not_last_is_recognised() {
        assert_eq!(volatile_name(0xEF53), None, "ext4");
        assert_eq!(volatile_name(0x794C_7630), Some("overlay"));
        if cfg!(target_os = "linux") && Path::new("/dev/shm").exists() {
            assert_eq!(is_volatile(Path::new("/dev/shm/not/there/yet")), Some("tmpfs"));
        }
    }
}
