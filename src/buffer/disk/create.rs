//! Creates the buffer directory durably if it does not exist.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use super::error::{DiskError, failed};

/// For the owner only, because the files contain row values.
pub(super) const FOLDER_MODE: u32 = 0o700;
/// Name of the lock file in the buffer's directory.
pub(super) const LOCK_FILE: &str = "lock";

/// Creates the directory and its missing parents, for the owner only; durable on return. A directory that has
/// files is left unchanged. An empty one is fsynced again: an earlier process may have been killed between
/// creation and fsync.
pub(super) fn create(path: &Path) -> Result<(), DiskError> {
    if path.as_os_str().is_empty() {
        return Err(DiskError::Refused {
            path: path.to_owned(),
            detail: "buffer.dir is empty".to_owned(),
            hint: "Set buffer.dir to the path of a directory.",
        });
    }
    let is_one = |part: &&Path| !part.as_os_str().is_empty();
    let missing: Vec<&Path> = path.ancestors().take_while(is_one).take_while(|part| !part.exists()).collect();
    if missing.is_empty() && has_entries(path) {
        return Ok(());
    }
    if let Some(existing) = path.ancestors().nth(missing.len()).filter(is_one) {
        match sync_path(parent(existing)) {
            // This user may not open the parent, so it has not created the directory either.
            Err(DiskError::Io { source, .. }) if source.kind() == io::ErrorKind::PermissionDenied => {}
            synced => synced?,
        }
    }
    for part in missing.into_iter().rev() {
        match DirBuilder::new().mode(FOLDER_MODE).create(part) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(failed("create the directory", part)(error));
            }
            Ok(()) | Err(_) => sync_path(parent(part))?,
        }
    }
    Ok(())
}

/// Whether a directory has entries other than the lock. A directory that cannot be read fails when it is
/// used.
fn has_entries(path: &Path) -> bool {
    fs::read_dir(path).is_ok_and(|entries| entries.flatten().any(|entry| entry.file_name() != LOCK_FILE))
}

/// The directory that holds `path`; `.` for a bare name.
fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."))
}

fn sync_path(path: &Path) -> Result<(), DiskError> {
    File::open(path).and_then(|directory| directory.sync_all()).map_err(failed("fsync the directory", path))
}
