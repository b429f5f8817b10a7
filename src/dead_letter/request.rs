//! Requests of operators about dead letters, durable until the daemon has carried them out.
//!
//! Each is a file in `requests/` of the buffer directory, mode 0600, written atomically. The daemon deletes
//! it when its effect is durable elsewhere. Until then it may be carried out again, which changes nothing.

use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::buffer::disk::{Directory, DiskError, failed};
use crate::letter_id::LetterId;

/// The folder in the buffer directory.
const FOLDER: &str = "requests";

/// The action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Act {
    /// Publish the letters now.
    Retry,
    /// Discard the letters.
    Discard,
}

/// A request of the operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// The action.
    pub act: Act,
    /// The letters.
    pub letters: Vec<LetterId>,
    /// The operator's reason.
    pub reason: Option<String>,
    /// When it was written, microseconds since the Unix epoch.
    pub at: i64,
}

/// The file of a request.
#[derive(Clone, Debug)]
pub struct Filed {
    /// The directory of requests.
    folder: Directory,
    /// Name of the file in it.
    name: String,
    /// Its content; `None` if it is invalid.
    pub request: Option<Request>,
}

/// Writes a request; durable on return.
///
/// # Errors
/// I/O error.
pub fn file(directory: &Directory, request: &Request) -> Result<(), DiskError> {
    let folder = directory.create_folder(FOLDER)?;
    let name = format!("{:020}-{}.json", request.at, std::process::id());
    let text = serde_json::to_vec(request)
        .map_err(io::Error::other)
        .map_err(failed("write", &folder.path_of(&name)))?;
    folder.replace_durably(&name, &text).map(drop)
}

impl Filed {
    /// Its path, for messages.
    pub fn path(&self) -> PathBuf {
        self.folder.path_of(&self.name)
    }
}

/// All requests, oldest first.
///
/// # Errors
/// I/O error.
pub fn filed(directory: &Directory) -> Result<Vec<Filed>, DiskError> {
    let Some(folder) = directory.folder(FOLDER)? else { return Ok(Vec::new()) };
    let mut names = folder.list()?;
    names.retain(|name| name.strip_suffix(".json").is_some_and(|stem| !stem.is_empty()));
    names.sort_unstable();
    let mut filed = Vec::new();
    for name in names {
        match folder.read(&name) {
            // It was carried out in the meantime, or its owner is not changed yet.
            Err(error)
                if matches!(
                    error.kind(),
                    Some(io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied)
                ) => {}
            read => {
                let request = read.ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
                filed.push(Filed { folder: folder.clone(), name, request });
            }
        }
    }
    Ok(filed)
}

/// Deletes a request whose effect is durable. If a crash restores it, it is carried out again and changes
/// nothing.
///
/// # Errors
/// I/O error.
pub fn done(filed: &Filed) -> Result<(), DiskError> {
    filed.folder.remove(&filed.name)
}

/// Renames an invalid request, so that it is not read again.
///
/// # Errors
/// I/O error.
pub fn put_aside(filed: &Filed) -> Result<(), DiskError> {
    filed.folder.put_aside(&filed.name, "not-understood")
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn requests_are_private_ordered_and_removed_when_done() {
        let root = tempfile::tempdir().unwrap();
        let directory = Directory::open(root.path()).unwrap();
        assert!(filed(&directory).unwrap().is_empty());
        let request =
            |at| Request { act: Act::Discard, letters: vec![LetterId::of_text("x")], reason: None, at };
        for at in [7, 3] {
            file(&directory, &request(at)).unwrap();
        }
        fs::write(directory.path_of("requests").join("9.json"), b"{").unwrap();
        fs::create_dir(directory.path_of("requests").join("a-folder.json")).unwrap();
        let found = filed(&directory).unwrap();
        let times: Vec<_> =
            found.iter().map(|filed| filed.request.as_ref().map(|request| request.at)).collect();
        assert_eq!(times, [Some(3), Some(7), None, None]);
        let mode = fs::metadata(found[0].path()).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);
        put_aside(&found[2]).unwrap();
        put_aside(&found[3]).unwrap();
        done(&found[0]).unwrap();
        assert_eq!(filed(&directory).unwrap().len(), 1);
    }
}
