//! An entry of the directory is opened only if it is of a kind that Forebay creates.

use std::os::unix::fs::{PermissionsExt as _, symlink};

use super::super::{DirectoryLock, LockError};
use super::*;
use crate::failure::Problem;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn opened(root: &tempfile::TempDir) -> Directory {
    Directory::open(root.path()).unwrap()
}

#[test]
fn new_files_are_for_the_owner_only() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("a/b");
    Directory::create(&path).unwrap();
    let directory = Directory::create(&path).unwrap();
    directory.replace_durably("file", b"one").unwrap();
    directory.replace_durably("file", b"two").unwrap();
    let folder = directory.create_folder("folder").unwrap();
    assert_eq!(directory.read("file").unwrap(), b"two");
    let mut names = directory.list().unwrap();
    names.sort_unstable();
    assert_eq!(names, ["file", "folder"], "the draft is gone");
    assert_eq!((mode(&path), mode(&path.join("file")), mode(folder.path())), (0o700, 0o600, 0o700));
}

#[test]
fn line_is_appended_behind_a_torn_one() {
    let root = tempfile::tempdir().unwrap();
    let directory = opened(&root);
    for (found, expected) in [("", "new\n"), ("old\n", "old\nnew\n"), ("to", "to\nnew\n")] {
        fs::write(root.path().join("file"), found).unwrap();
        directory.append_line("file", "new").unwrap();
        assert_eq!(fs::read_to_string(root.path().join("file")).unwrap(), expected);
    }
}

/// Creates an entry at the first path, with the second path as its target if needed.
type Make = fn(&Path, &Path);

/// A link, a pipe, a socket, a device or a directory in place of a file: no call follows or blocks on it, and
/// its target does not change.
#[test]
fn anything_but_a_plain_file_is_refused() {
    let victim = tempfile::NamedTempFile::new().unwrap();
    fs::write(victim.path(), "untouched").unwrap();
    let makers: [(&str, Make); 5] = [
        ("symbolic link", |place, victim| symlink(victim, place).unwrap()),
        ("symbolic link", |place, _| symlink("missing", place).unwrap()),
        ("named pipe", |place, _| {
            rustix::fs::mkfifoat(rustix::fs::CWD, place, Mode::from_raw_mode(0o600)).unwrap();
        }),
        ("not a plain file", |place, _| drop(std::os::unix::net::UnixListener::bind(place).unwrap())),
        ("hard link", |place, victim| fs::hard_link(victim, place).unwrap()),
    ];
    for (kind, make) in makers {
        let root = tempfile::tempdir_in(victim.path().parent().unwrap()).unwrap();
        make(&root.path().join("file"), victim.path());
        let directory = opened(&root);
        let refused = |error: DiskError| {
            assert!(matches!(error, DiskError::Refused { .. }), "{kind}: {error}");
            assert!(error.to_string().contains(kind), "{kind}: {error}");
        };
        refused(directory.open_to_write("file").unwrap_err());
        refused(directory.open_or_create("file").unwrap_err());
        refused(directory.append_line("file", "written").unwrap_err());
        refused(directory.discard("file").unwrap_err());
        if kind == "hard link" {
            // A file that is only read may have a second hard link, such as in a backup.
            assert_eq!(directory.read("file").unwrap(), b"untouched");
        } else {
            refused(directory.read("file").unwrap_err());
        }
        assert!(matches!(directory.folder("file"), Err(DiskError::Refused { .. })), "{kind}");
        assert!(directory.create_folder("file").is_err(), "{kind}");
        directory.replace_durably("file", b"ours").unwrap();
        assert_eq!(directory.read("file").unwrap(), b"ours", "{kind}");
        assert_eq!(fs::read_to_string(victim.path()).unwrap(), "untouched", "{kind}");
    }
}

#[test]
fn folder_that_is_a_link_is_refused() {
    let (root, victim) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    symlink(victim.path(), root.path().join("folder")).unwrap();
    let directory = opened(&root);
    assert!(matches!(directory.folder("folder"), Err(DiskError::Refused { .. })));
    assert!(matches!(directory.create_folder("folder"), Err(DiskError::Refused { .. })));
    assert_eq!(fs::read_dir(victim.path()).unwrap().count(), 0);
}

/// Needs root, like `forebay dlq` run by root: files that it creates belong to the directory's owner, and an
/// entry of a third user is refused.
#[test]
fn files_made_by_root_belong_to_the_directory_owner() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let (daemon, other) = (65_532, 65_533);
    let chown = |path: &Path, user| std::os::unix::fs::chown(path, Some(user), Some(user)).unwrap();
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("buffer");
    drop(Directory::create(&path).unwrap());
    chown(&path, daemon);
    let directory = Directory::open(&path).unwrap();
    directory.append_line("lines", "x").unwrap();
    directory.create_folder("folder").unwrap().replace_durably("file", b"x").unwrap();
    for made in ["lines", "folder", "folder/file"] {
        assert_eq!(fs::metadata(path.join(made)).unwrap().uid(), daemon, "{made}");
    }
    chown(&path.join("lines"), other);
    assert!(matches!(directory.read("lines"), Err(DiskError::Refused { .. })));
    chown(&path.join("folder"), other);
    assert!(matches!(directory.create_folder("folder"), Err(DiskError::Refused { .. })));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o770)).unwrap();
    assert!(matches!(Directory::open(&path), Err(DiskError::Refused { .. })), "others may write it");
    let link = root.path().join("link");
    symlink(&path, &link).unwrap();
    std::os::unix::fs::lchown(&link, Some(other), Some(other)).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
    assert!(matches!(Directory::open(&link), Err(DiskError::Refused { .. })), "another user's link");
    std::os::unix::fs::lchown(&link, Some(0), Some(0)).unwrap();
    assert!(Directory::open(&link).is_ok(), "an administrator's link");
}

#[test]
fn unusable_directory_error_says_why() {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("file"), "").unwrap();
    for (path, says) in [
        (root.path().join("file"), "it is a file, not a directory"),
        (root.path().join("file/below"), "A part of this path is a file"),
        (PathBuf::new(), "buffer.dir is empty"),
    ] {
        let error = Problem::from(Directory::create(&path).unwrap_err()).lines();
        assert!(error.contains(says), "{error}");
    }
    let error = Directory::open(&root.path().join("missing")).unwrap_err();
    assert!(error.is_missing() && error.to_string().contains("does not exist"), "{error}");
}

#[test]
fn second_process_is_refused_and_first_is_named() {
    let root = tempfile::tempdir().unwrap();
    let directory = opened(&root);
    let lock = DirectoryLock::acquire(&directory).unwrap();
    let error = DirectoryLock::acquire(&opened(&root)).unwrap_err();
    assert!(matches!(error, LockError::InUse { .. }));
    let process = format!("Its process id is {}.", std::process::id());
    assert_eq!(Problem::from(error).detail(), Some(process.as_str()));
    if cfg!(target_os = "linux") {
        assert_eq!(DirectoryLock::holder(&directory), Some(std::process::id().to_string()));
    }
    drop(lock);
    DirectoryLock::acquire(&directory).unwrap();
}
