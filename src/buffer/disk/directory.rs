//! The buffer directory. Everything in it is opened relative to one descriptor, without following links.
//!
//! Another user may own the directory: `forebay dlq` and `forebay adopt` are often run by root. Each file is
//! therefore checked through its descriptor before use: it must be a plain file (or a directory) of the
//! directory's owner or of our own user. Files that root creates are given to the directory's owner.

use std::fs::{self, File, Metadata};
use std::io::{self, Write as _};
use std::ops::RangeInclusive;
use std::os::unix::fs::{FileExt as _, FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::create::{self, FOLDER_MODE};
use super::error::{DiskError, failed, if_exists};
use super::volatile;

/// For the owner only, because the files contain row values.
const FILE_MODE: u32 = 0o600;
/// Mode bits that let other users write.
const WRITABLE_BY_OTHERS: u32 = 0o022;
const ROOT: u32 = 0;

/// An opened directory. A clone shares the descriptor. Names are plain names, without a slash.
#[derive(Clone, Debug)]
pub struct Directory(Arc<Opened>);

#[derive(Debug)]
struct Opened {
    handle: File,
    /// For messages only.
    path: PathBuf,
    owner: Owner,
    /// Effective user of this process.
    user: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Owner {
    user: u32,
    group: u32,
}

impl Owner {
    fn of(facts: &Metadata) -> Self {
        Self { user: facts.uid(), group: facts.gid() }
    }
}

/// Access mode of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    Read,
    Write,
}

impl Directory {
    /// Opens the directory, and creates it and its parents if they are missing. A created directory is
    /// durable on return.
    ///
    /// # Errors
    /// The same as those of [`open`](Self::open), or the directory cannot be created.
    pub fn create(path: &Path) -> Result<Self, DiskError> {
        create::create(path)?;
        Self::open(path)
    }

    /// Opens an existing directory.
    ///
    /// # Errors
    /// It does not exist, is not a directory, belongs to another user and is writable by others, or cannot be
    /// opened.
    pub fn open(path: &Path) -> Result<Self, DiskError> {
        let user = rustix::process::geteuid().as_raw();
        let handle = match open_directory(path, OFlags::NOFOLLOW) {
            // The path itself may be a link if root or our own user created it.
            Err(Errno::LOOP | Errno::NOTDIR) if is_trusted_link(path, user) => {
                open_directory(path, OFlags::empty())
            }
            opened => opened,
        };
        let handle = match handle {
            Ok(handle) => handle,
            Err(Errno::NOENT) => return Err(DiskError::Missing { path: path.to_owned() }),
            Err(errno) => return Err(not_a_directory(path, errno)),
        };
        let facts = handle.metadata().map_err(failed("stat", path))?;
        let foreign = facts.uid() != user && facts.uid() != ROOT;
        if foreign && facts.mode() & WRITABLE_BY_OTHERS != 0 {
            return Err(DiskError::Refused {
                path: path.to_owned(),
                detail: format!(
                    "it belongs to user {}, and others may write it (mode {:04o}); this process runs as user {user}",
                    facts.uid(),
                    facts.mode() & 0o7777
                ),
                hint: "Check what others have written there, then run `chmod go-w` on it.",
            });
        }
        let owner = Owner::of(&facts);
        Ok(Self(Arc::new(Opened { handle, path: path.to_owned(), owner, user })))
    }

    /// Its path, for messages only.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// The path of a file in it, for messages only.
    pub fn path_of(&self, name: &str) -> PathBuf {
        self.0.path.join(name)
    }

    /// Opens a file for reading.
    ///
    /// # Errors
    /// It is missing (see [`DiskError::is_missing`]), it is not a file that Forebay creates, or the operating
    /// system call fails.
    pub fn open_to_read(&self, name: &str) -> Result<File, DiskError> {
        self.open_file(name, Access::Read)
    }

    /// Opens an existing file for reading and writing.
    ///
    /// # Errors
    /// As [`open_to_read`](Self::open_to_read).
    pub fn open_to_write(&self, name: &str) -> Result<File, DiskError> {
        self.open_file(name, Access::Write)
    }

    /// Opens a file for reading and writing, and creates it if it is missing. The second value is whether it
    /// was created. A new file is durable only after the file and the directory were fsynced.
    ///
    /// # Errors
    /// It is not a file that Forebay creates, or the operating system call fails.
    pub fn open_or_create(&self, name: &str) -> Result<(File, bool), DiskError> {
        loop {
            match self.open_to_write(name) {
                Err(error) if error.is_missing() => {}
                opened => return opened.map(|file| (file, false)),
            }
            match self.create_file(name) {
                // Another process has created it in between.
                Err(error) if error.kind() == Some(io::ErrorKind::AlreadyExists) => {}
                made => return made.map(|file| (file, true)),
            }
        }
    }

    /// Creates a file that must not exist yet, for reading and writing by the owner only. It is durable only
    /// after the file and the directory were fsynced.
    ///
    /// # Errors
    /// It exists, or the operating system call fails.
    pub fn create_file(&self, name: &str) -> Result<File, DiskError> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let path = || self.path_of(name);
        let file = rustix::fs::openat(&self.0.handle, plain(name), flags, Mode::from_raw_mode(FILE_MODE))
            .map_err(|errno| failed("create", &path())(errno.into()))?;
        let file = File::from(file);
        self.hand_over(&file, &path())?;
        Ok(file)
    }

    /// Reads a whole file.
    ///
    /// # Errors
    /// As [`open_to_read`](Self::open_to_read).
    pub fn read(&self, name: &str) -> Result<Vec<u8>, DiskError> {
        let mut bytes = Vec::new();
        let mut file = self.open_to_read(name)?;
        io::Read::read_to_end(&mut file, &mut bytes).map_err(failed("read", &self.path_of(name)))?;
        Ok(bytes)
    }

    /// Whether an entry of this name exists, of any type.
    ///
    /// # Errors
    /// The operating system refuses.
    pub fn exists(&self, name: &str) -> Result<bool, DiskError> {
        match rustix::fs::statat(&self.0.handle, plain(name), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(failed("stat", &self.path_of(name))(errno.into())),
        }
    }

    /// Replaces or creates a file with `bytes`. After a power loss the file is the old or the new one, never
    /// a mixture. The new one is durable on return, and open for reading and writing.
    ///
    /// # Errors
    /// The operating system refuses.
    pub fn replace_durably(&self, name: &str, bytes: &[u8]) -> Result<File, DiskError> {
        let file = self.replace(name, bytes)?;
        self.sync()?;
        Ok(file)
    }

    /// Like [`replace_durably`](Self::replace_durably), but after a power loss the file may be the old one.
    ///
    /// # Errors
    /// The operating system refuses.
    pub fn replace(&self, name: &str, bytes: &[u8]) -> Result<File, DiskError> {
        let draft = format!("{name}.new");
        self.remove(&draft)?;
        let file = self.create_file(&draft)?;
        let path = self.path_of(&draft);
        file.write_all_at(bytes, 0).map_err(failed("write", &path))?;
        file.sync_all().map_err(failed("fsync", &path))?;
        self.rename(&draft, name, "rename a new file to", name)?;
        Ok(file)
    }

    /// Appends a line to a file that only the owner can read. The file and its directory entry are durable on
    /// return. The rest of a torn write stays, on a line of its own.
    ///
    /// # Errors
    /// It is not a file that Forebay creates, or the operating system call fails.
    pub fn append_line(&self, name: &str, line: &str) -> Result<(), DiskError> {
        let (mut file, _) = self.open_or_create(name)?;
        let path = self.path_of(name);
        let torn = ends_torn(&file).map_err(failed("read", &path))?;
        io::Seek::seek(&mut file, io::SeekFrom::End(0)).map_err(failed("read", &path))?;
        let text = format!("{}{line}\n", if torn { "\n" } else { "" });
        file.write_all(text.as_bytes()).map_err(failed("write", &path))?;
        file.sync_all().map_err(failed("fsync", &path))?;
        self.sync()
    }

    /// Renames a file by appending `ending` to its name; durable on return.
    ///
    /// # Errors
    /// The operating system refuses.
    pub fn put_aside(&self, name: &str, ending: &str) -> Result<(), DiskError> {
        self.rename(name, &format!("{name}.{ending}"), "rename", name)?;
        self.sync()
    }

    /// Deletes a file. A missing file is not an error.
    ///
    /// # Errors
    /// The operating system refuses.
    pub fn remove(&self, name: &str) -> Result<(), DiskError> {
        match rustix::fs::unlinkat(&self.0.handle, plain(name), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(failed("delete", &self.path_of(name))(errno.into())),
        }
    }

    /// Deletes a file and frees its space at once, even if a reader still has it open: a reader that waits
    /// for more data in it would otherwise keep a full disk full. The name is deleted before the file is
    /// emptied, so that no later open finds an empty file. A missing file is not an error.
    ///
    /// # Errors
    /// The operating system refuses.
    pub fn discard(&self, name: &str) -> Result<(), DiskError> {
        let Some(file) = if_exists(self.open_to_write(name))? else { return Ok(()) };
        self.remove(name)?;
        file.set_len(0).map_err(failed("empty", &self.path_of(name)))
    }

    /// Fails unless `name` still names this open file, and its size is in `sizes`. An fsync of a file that
    /// something else deleted, renamed or replaced succeeds, and its data is gone at the next start: only
    /// data in a file that passes this *after* the fsync is durable.
    ///
    /// # Errors
    /// Something other than this process changed the file, or the operating system refuses.
    pub fn check_unchanged(
        &self,
        name: &str,
        file: &File,
        sizes: &RangeInclusive<u64>,
    ) -> Result<(), DiskError> {
        let changed = |change| Err(DiskError::ChangedByOthers { path: self.path_of(name), change });
        let unknown = |errno: Errno| failed("look at", &self.path_of(name))(errno.into());
        let open = rustix::fs::fstat(file).map_err(unknown)?;
        let size = u64::try_from(open.st_size).unwrap_or_default();
        match rustix::fs::statat(&self.0.handle, plain(name), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(named) if (named.st_dev, named.st_ino) != (open.st_dev, open.st_ino) => changed("replaced"),
            Ok(_) if size < *sizes.start() => changed("truncated"),
            Ok(_) if size > *sizes.end() => changed("extended"),
            Ok(_) => Ok(()),
            Err(Errno::NOENT) => changed("deleted or renamed"),
            Err(errno) => Err(unknown(errno)),
        }
    }

    /// Opens the directory again: the new descriptor can have a lock of its own.
    pub(super) fn reopen(&self) -> Result<File, DiskError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::openat(&self.0.handle, c".", flags, Mode::empty())
            .map(File::from)
            .map_err(|errno| failed("open the directory", self.path())(errno.into()))
    }

    /// Makes created, renamed and deleted entries durable.
    ///
    /// # Errors
    /// The operating system call fails.
    pub fn sync(&self) -> Result<(), DiskError> {
        self.0.handle.sync_all().map_err(failed("fsync the directory", self.path()))
    }

    /// The names in it, in no order. Names that are not UTF-8 are left out, because Forebay creates none.
    ///
    /// # Errors
    /// The operating system call fails.
    pub fn list(&self) -> Result<Vec<String>, DiskError> {
        let unreadable = |errno: Errno| failed("list", self.path())(errno.into());
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.0.handle).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            names.extend(
                entry
                    .file_name()
                    .to_str()
                    .ok()
                    .filter(|name| !matches!(*name, "." | ".."))
                    .map(str::to_owned),
            );
        }
        Ok(names)
    }

    /// Opens a directory in it; `None` if it does not exist.
    ///
    /// # Errors
    /// It is not a directory that Forebay creates, or the operating system call fails.
    pub fn folder(&self, name: &str) -> Result<Option<Self>, DiskError> {
        let path = self.path_of(name);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let handle = match rustix::fs::openat(&self.0.handle, plain(name), flags, Mode::empty()) {
            Ok(handle) => File::from(handle),
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP | Errno::NOTDIR) => {
                return Err(refused(path, "it is not a directory".to_owned()));
            }
            Err(errno) => return Err(failed("open", &path)(errno.into())),
        };
        let facts = handle.metadata().map_err(failed("stat", &path))?;
        self.check_owner(&facts, &path)?;
        let owner = self.0.owner;
        Ok(Some(Self(Arc::new(Opened { handle, path, owner, user: self.0.user }))))
    }

    /// Opens a directory in it, and creates it if it is missing; durable on return.
    ///
    /// # Errors
    /// As [`folder`](Self::folder).
    pub fn create_folder(&self, name: &str) -> Result<Self, DiskError> {
        let path = self.path_of(name);
        match rustix::fs::mkdirat(&self.0.handle, plain(name), Mode::from_raw_mode(FOLDER_MODE)) {
            Ok(()) => self.sync()?,
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(failed("create the directory", &path)(errno.into())),
        }
        let Some(folder) = self.folder(name)? else {
            return Err(failed("open", &path)(io::ErrorKind::NotFound.into()));
        };
        // Repeated for an existing directory: its creator may have been killed before it changed the owner.
        self.hand_over(&folder.0.handle, &path)?;
        Ok(folder)
    }

    /// The name of its file system, if data on it is lost with the machine or the container.
    pub fn volatile_kind(&self) -> Option<&'static str> {
        volatile::kind(&self.0.handle)
    }

    fn open_file(&self, name: &str, access: Access) -> Result<File, DiskError> {
        let mode = if access == Access::Read { OFlags::RDONLY } else { OFlags::RDWR };
        // NONBLOCK: opening a pipe without a writer would block before it is refused. It has no effect on a
        // plain file.
        let flags = mode | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let path = || self.path_of(name);
        let file = match rustix::fs::openat(&self.0.handle, plain(name), flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::LOOP) => return Err(refused(path(), "it is a symbolic link".to_owned())),
            Err(Errno::NXIO | Errno::ISDIR) => {
                return Err(refused(path(), "it is not a plain file".to_owned()));
            }
            Err(errno) => return Err(failed("open", &path())(errno.into())),
        };
        let facts = file.metadata().map_err(|error| failed("stat", &path())(error))?;
        if !facts.is_file() {
            return Err(refused(path(), format!("it is {}", kind_of(&facts))));
        }
        self.check_owner(&facts, &path())?;
        // A second hard link may be in any directory, and a write here would change that file too.
        if facts.nlink() > 1 && (access == Access::Write || facts.uid() != self.0.owner.user) {
            return Err(refused(path(), format!("it has {} names (hard links)", facts.nlink())));
        }
        Ok(file)
    }

    fn check_owner(&self, facts: &Metadata, path: &Path) -> Result<(), DiskError> {
        let (owner, user) = (self.0.owner.user, self.0.user);
        if facts.uid() == owner || facts.uid() == user {
            return Ok(());
        }
        Err(refused(
            path.to_owned(),
            format!("it belongs to user {}, the directory to user {owner}", facts.uid()),
        ))
    }

    /// Gives a file that root created to the directory's owner, who must be able to read it.
    fn hand_over(&self, file: &File, path: &Path) -> Result<(), DiskError> {
        let Owner { user, group } = self.0.owner;
        if self.0.user != ROOT {
            return Ok(());
        }
        let now = file.metadata().map_err(failed("stat", path))?;
        if Owner::of(&now) == self.0.owner {
            return Ok(());
        }
        std::os::unix::fs::fchown(file, Some(user), Some(group)).map_err(failed("chown", path))
    }

    fn rename(&self, from: &str, to: &str, action: &'static str, about: &str) -> Result<(), DiskError> {
        let handle = &self.0.handle;
        rustix::fs::renameat(handle, plain(from), handle, plain(to))
            .map_err(|errno| failed(action, &self.path_of(about))(errno.into()))
    }
}

/// Checks that a name cannot lead out of the directory. All names come from the program or from
/// [`Directory::list`].
fn plain(name: &str) -> &str {
    debug_assert!(!name.is_empty() && !name.contains('/') && name != "." && name != "..", "{name:?}");
    name
}

fn open_directory(path: &Path, more: OFlags) -> Result<File, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | more;
    rustix::fs::open(path, flags, Mode::empty()).map(File::from)
}

/// Whether a path is a link created by root or by our own user. Another user's link could lead anywhere.
fn is_trusted_link(path: &Path, user: u32) -> bool {
    fs::symlink_metadata(path)
        .is_ok_and(|facts| facts.is_symlink() && (facts.uid() == ROOT || facts.uid() == user))
}

fn not_a_directory(path: &Path, errno: Errno) -> DiskError {
    let link = fs::symlink_metadata(path).is_ok_and(|facts| facts.is_symlink());
    match errno {
        Errno::LOOP | Errno::NOTDIR if link => DiskError::Refused {
            path: path.to_owned(),
            detail: "it is a symbolic link of another user, or does not lead to a directory".to_owned(),
            hint: "Set buffer.dir to the directory itself.",
        },
        Errno::NOTDIR if path.is_file() => DiskError::Refused {
            path: path.to_owned(),
            detail: "it is a file, not a directory".to_owned(),
            hint: "Set buffer.dir to a directory. In a container, mount a volume there.",
        },
        errno => failed("open the directory", path)(errno.into()),
    }
}

fn refused(path: PathBuf, detail: String) -> DiskError {
    let hint = "Only plain files and directories of the buffer directory's owner are used. Find out who created it, and move \
                it away.";
    DiskError::Refused { path, detail, hint }
}

fn kind_of(facts: &Metadata) -> &'static str {
    let kind = facts.file_type();
    match () {
        () if kind.is_dir() => "a directory",
        () if kind.is_fifo() => "a named pipe",
        () if kind.is_socket() => "a socket",
        () if kind.is_block_device() || kind.is_char_device() => "a device",
        () => "not a plain file",
    }
}

/// Whether a file's last line has no line feed, because its write was torn.
fn ends_torn(file: &File) -> io::Result<bool> {
    let Some(last) = file.metadata()?.len().checked_sub(1) else { return Ok(false) };
    let mut byte = [0];
    file.read_exact_at(&mut byte, last)?;
    Ok(byte != *b"\n")
}

#[cfg(test)]
mod tests;
