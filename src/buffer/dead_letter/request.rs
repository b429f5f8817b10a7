//! What a person asked of the dead letters, durable until the daemon has done it.
//!
//! One file each in `requests/` of the buffer directory, mode 0600, put there whole. The daemon deletes it when its
//! effect is durable elsewhere; until then it may be carried out again, which changes nothing.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::id::LetterId;
use crate::buffer::disk::{self, DiskError, failed};

/// The folder in the buffer directory.
const FOLDER: &str = "requests";

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Act {
    /// Publish it after all.
    Retry,
    /// Give it up.
    Discard,
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// What is to be done.
    pub act: Act,
    /// To which letters.
    pub letters: Vec<LetterId>,
    /// Why, in a person's words.
    pub reason: Option<String>,
    /// When it was asked, microseconds since the Unix epoch.
    pub at: i64,
}

/// A request in its file.
#[derive(Clone, Debug)]
pub struct Filed {
    /// The file.
    pub path: PathBuf,
    /// What it asks; what cannot be understood is kept and asks for nothing.
    pub request: Option<Request>,
}

/// Files a request; durable when this returns.
///
/// # Errors
/// The disk refuses.
pub fn file(directory: &Path, request: &Request) -> Result<(), DiskError> {
    let folder = directory.join(FOLDER);
    disk::create_directory(&folder)?;
    give_to_owner_of(directory, &folder)?;
    let name = format!("{:020}-{}.json", request.at, std::process::id());
    let path = folder.join(name);
    let text = serde_json::to_vec(request).map_err(io::Error::other).map_err(failed("write", &path))?;
    drop(disk::replace_durably(&path, &text)?);
    give_to_owner_of(directory, &path)
}

/// A person may be root, the daemon hardly ever is: what is filed belongs to whom the directory belongs.
fn give_to_owner_of(directory: &Path, path: &Path) -> Result<(), DiskError> {
    let owner = fs::metadata(directory).map_err(failed("look at", directory))?;
    let now = fs::metadata(path).map_err(failed("look at", path))?;
    if (owner.uid(), owner.gid()) == (now.uid(), now.gid()) {
        return Ok(());
    }
    std::os::unix::fs::chown(path, Some(owner.uid()), Some(owner.gid())).map_err(failed("hand over", path))
}

/// All that are filed, oldest first.
///
/// # Errors
/// The disk refuses.
pub fn filed(directory: &Path) -> Result<Vec<Filed>, DiskError> {
    let folder = directory.join(FOLDER);
    let entries = match fs::read_dir(&folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed("list", &folder))?,
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed("list", &folder))?.path();
        if path.extension().is_some_and(|ending| ending == "json") {
            paths.push(path);
        }
    }
    paths.sort_unstable();
    let mut filed = Vec::new();
    for path in paths {
        match fs::read(&path) {
            // It was done meanwhile, or is not handed over yet.
            Err(error)
                if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) => {}
            read => {
                let request = read.ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
                filed.push(Filed { path, request });
            }
        }
    }
    Ok(filed)
}

/// Forgets a request whose effect is durable. If that is not durable itself, it is carried out again and changes nothing.
///
/// # Errors
/// The disk refuses.
pub fn done(filed: &Filed) -> Result<(), DiskError> {
    disk::remove_file(&filed.path)
}

/// Puts a request aside that cannot be understood.
///
/// # Errors
/// The disk refuses.
pub fn put_aside(filed: &Filed) -> Result<(), DiskError> {
    disk::put_aside(&filed.path, "not-understood")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn what_is_filed_is_found_in_order_for_its_owner_only_and_forgotten_when_done() {
        let directory = tempfile::tempdir().unwrap();
        assert!(filed(directory.path()).unwrap().is_empty());
        let request =
            |at| Request { act: Act::Discard, letters: vec![LetterId::of_text("x")], reason: None, at };
        for at in [7, 3] {
            file(directory.path(), &request(at)).unwrap();
        }
        fs::write(directory.path().join("requests/9.json"), b"{").unwrap();
        fs::create_dir(directory.path().join("requests/a-folder.json")).unwrap();
        let found = filed(directory.path()).unwrap();
        let asked: Vec<_> =
            found.iter().map(|filed| filed.request.as_ref().map(|request| request.at)).collect();
        assert_eq!(asked, [Some(3), Some(7), None, None]);
        let mode = fs::metadata(&found[0].path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);
        put_aside(&found[2]).unwrap();
        put_aside(&found[3]).unwrap();
        done(&found[0]).unwrap();
        assert_eq!(filed(directory.path()).unwrap().len(), 1);
    }
}
