//! `events.lock/`: one JSON Schema per event type and minor version, `<type>/<major>.<minor>.json`, in the
//! user's git repository.
//!
//! A locked file is never rewritten. Keys are sorted and files end in a line feed, so that diffs show only
//! what changed.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::failure::Explain;
use crate::small_file;

use super::meaning::file::{LockedMeaning, checksum};

/// Largest file of a contract.
const FILE_MAX: u64 = 16 << 20;

/// The locked contracts.
#[derive(Clone, Debug, Default)]
pub struct Lock {
    /// By type. Types that were never locked are missing.
    pub locked: Vec<Locked>,
}

/// One event type with its locked minor versions.
#[derive(Clone, Debug)]
pub struct Locked {
    /// `lab.plate_completed.v2`.
    pub event_type: String,
    /// `lab.plate_completed`.
    pub stem: String,
    /// `2`.
    pub major: u32,
    /// Minor versions with their schemas, in order.
    pub versions: Vec<(u32, Value)>,
    /// Its meaning. `None`: an older version of Forebay locked it.
    pub meaning: Option<LockedMeaning>,
}

/// The origin of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Maker {
    /// A rule.
    Rule,
    /// A table, automatically.
    Table,
    /// The application, through an outbox.
    Application,
}

/// Why contracts cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// An I/O error.
    #[error("{}: {source}", path.display())]
    Io {
        /// Path of the file.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
    /// A file is not a valid contract.
    #[error("{} is not a valid contract: {reason}", path.display())]
    Malformed {
        /// Path of the file.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
}

impl Explain for LockError {
    fn code(&self) -> Option<&'static str> {
        Some(match self {
            Self::Io { .. } => "contracts_unreadable",
            Self::Malformed { .. } => "contract_invalid",
        })
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Io { .. } => None,
            Self::Malformed { .. } => Some("Restore it from version control.".to_owned()),
        }
    }
}

impl Locked {
    /// The newest minor version.
    pub fn minor(&self) -> u32 {
        self.versions.last().map_or(0, |(minor, _)| *minor)
    }

    /// The schema of the newest minor version.
    pub fn newest(&self) -> &Value {
        self.versions.last().map_or(&Value::Null, |(_, schema)| schema)
    }

    /// Files that are missing or were changed by hand, as sentences. `all`: every contract must have its
    /// meaning.
    pub fn tampered(&self, all: bool) -> Vec<String> {
        let own = meaning_path(&self.stem, self.major).display().to_string();
        let Some(meaning) = &self.meaning else {
            return all.then(|| format!("{own} is missing")).into_iter().collect();
        };
        let mut found: Vec<String> =
            (!meaning.is_untouched()).then(|| format!("{own} has another content")).into_iter().collect();
        let file = |version: &str| Path::new(&escaped(&self.stem)).join(format!("{version}.json"));
        let version = |minor: u32| format!("{}.{minor}", self.major);
        for (known, sum) in &meaning.schemas {
            match self.versions.iter().find(|(minor, _)| version(*minor) == *known) {
                None => found.push(format!("{} is missing", file(known).display())),
                Some((_, schema)) if checksum(schema) != *sum => {
                    found.push(format!("{} has another content", file(known).display()));
                }
                Some(_) => {}
            }
        }
        let is_new = |minor: &u32| !meaning.schemas.contains_key(&version(*minor));
        let new = self.versions.iter().map(|(minor, _)| *minor).filter(is_new);
        found.extend(new.map(|minor| format!("{} was added", file(&version(minor)).display())));
        found
    }

    /// Whether it is the contract of an automatic event.
    pub fn is_automatic(&self) -> bool {
        self.maker() == Maker::Table
    }

    /// The origin of the event.
    pub fn maker(&self) -> Maker {
        let is = |mark: &str| self.newest().get(mark).and_then(Value::as_bool).unwrap_or_default();
        match (is("x-automatic"), is("x-outbox")) {
            (true, _) => Maker::Table,
            (false, true) => Maker::Application,
            (false, false) => Maker::Rule,
        }
    }
}

impl Lock {
    /// Reads a directory; `None` if it does not exist.
    ///
    /// # Errors
    /// The directory cannot be read, or a file is not a valid contract.
    pub fn read(directory: &Path) -> Result<Option<Self>, LockError> {
        match fs::metadata(directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            // A directory without read permission still has contracts: an error, not an absence.
            Err(error) => return Err(failed(directory)(error)),
            Ok(_) => {}
        }
        let mut locked: Vec<Locked> = Vec::new();
        for folder in entries(directory)?.into_iter().filter(|path| path.is_dir()) {
            let files = entries(&folder)?;
            for file in &files {
                let Some((major, minor)) = version(file) else { continue };
                let found = read(file, (major, minor))?;
                match locked.iter_mut().find(|known| known.event_type == found.event_type) {
                    Some(known) => known.versions.extend(found.versions),
                    None => locked.push(found),
                }
            }
            for file in files.iter().filter(|file| is_meaning(file)) {
                let found = read_meaning(file)?;
                let Some(of) = locked.iter_mut().find(|known| known.event_type == found.event) else {
                    let reason = format!("the schemas of {} beside it are missing", found.event);
                    return Err(LockError::Malformed { path: file.clone(), reason });
                };
                of.meaning = Some(found);
            }
        }
        for one in &mut locked {
            one.versions.sort_by_key(|(minor, _)| *minor);
        }
        locked.sort_by(|a, b| (&a.stem, a.major).cmp(&(&b.stem, b.major)));
        Ok(Some(Self { locked }))
    }

    /// The contract of a type.
    pub fn of(&self, event_type: &str) -> Option<&Locked> {
        self.locked.iter().find(|locked| locked.event_type == event_type)
    }

    /// Whether a version of Forebay that locks meanings wrote this directory.
    pub fn has_meanings(&self) -> bool {
        self.locked.iter().any(|locked| locked.meaning.is_some())
    }

    /// Addresses of the newest minor versions, by type.
    pub fn addresses(&self, base: &str) -> HashMap<String, String> {
        let address = |locked: &Locked| url(base, &locked.stem, locked.major, locked.minor());
        self.locked.iter().map(|locked| (locked.event_type.clone(), address(locked))).collect()
    }
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> LockError {
    let path = path.to_owned();
    move |source| LockError::Io { path, source }
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, LockError> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed(folder))? {
        paths.push(entry.map_err(failed(folder))?.path());
    }
    paths.sort();
    Ok(paths)
}

/// The version in a file name such as `2.0.json`; `None` for other files.
fn version(file: &Path) -> Option<(u32, u32)> {
    let (major, minor) = file.file_name()?.to_str()?.strip_suffix(".json")?.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

fn read(file: &Path, (major, minor): (u32, u32)) -> Result<Locked, LockError> {
    let malformed = |reason: String| LockError::Malformed { path: file.to_owned(), reason };
    let bytes = small_file::read(file, FILE_MAX).map_err(failed(file))?;
    let schema: Value = serde_json::from_slice(&bytes).map_err(|error| malformed(error.to_string()))?;
    let says = |key: &str| schema.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let event_type = says("x-event");
    let stem = event_type.strip_suffix(&format!(".v{major}")).map(str::to_owned);
    let folder = file.parent().and_then(Path::file_name).and_then(|name| name.to_str());
    match stem {
        Some(stem) if folder == Some(&escaped(&stem)) && says("x-version") == format!("{major}.{minor}") => {
            Ok(Locked { event_type, stem, major, versions: vec![(minor, schema)], meaning: None })
        }
        _ => Err(malformed("x-event and x-version do not match the file name".to_owned())),
    }
}

/// The end of the name of a file such as `2.meaning.json`.
const MEANING: &str = ".meaning.json";

fn is_meaning(file: &Path) -> bool {
    let name = file.file_name().and_then(|name| name.to_str());
    name.and_then(|name| name.strip_suffix(MEANING)).is_some_and(|major| major.parse::<u32>().is_ok())
}

fn read_meaning(file: &Path) -> Result<LockedMeaning, LockError> {
    let bytes = small_file::read(file, FILE_MAX).map_err(failed(file))?;
    LockedMeaning::parse(&bytes).map_err(|reason| LockError::Malformed { path: file.to_owned(), reason })
}

/// Path of the meaning of a type in the directory.
pub fn meaning_path(stem: &str, major: u32) -> PathBuf {
    Path::new(&escaped(stem)).join(format!("{major}{MEANING}"))
}

/// Path of a contract in the directory.
pub fn path(stem: &str, major: u32, minor: u32) -> PathBuf {
    Path::new(&escaped(stem)).join(format!("{major}.{minor}.json"))
}

/// Address of a schema.
pub fn url(base: &str, stem: &str, major: u32, minor: u32) -> String {
    // A percent sign in the file name is escaped in the address.
    format!("{base}/{}/{major}.{minor}.json", escaped(stem).replace('%', "%25"))
}

/// Longest directory name, in bytes. File systems allow 255; names of a schema and a table can exceed that.
const FOLDER_MAX: usize = 200;

/// A type as a directory name and as a part of an address. Event types of rules are unchanged. Table names
/// can contain anything: special characters are escaped, and a long name ends in a hash of the whole.
pub(super) fn escaped(stem: &str) -> String {
    let mut text = String::with_capacity(stem.len());
    for byte in stem.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-') {
            text.push(char::from(byte));
        } else {
            let written = write!(text, "%{byte:02X}");
            debug_assert!(written.is_ok(), "writing to a String cannot fail");
        }
    }
    if text.len() > FOLDER_MAX {
        text.truncate(FOLDER_MAX);
        text.push('~');
        for byte in Sha256::digest(stem).iter().take(8) {
            let written = write!(text, "{byte:02x}");
            debug_assert!(written.is_ok(), "writing to a String cannot fail");
        }
    }
    text
}

/// Writes a file atomically. Returns whether anything changed.
///
/// # Errors
/// An I/O error.
pub fn put(path: &Path, text: &str) -> Result<bool, LockError> {
    if fs::read(path).is_ok_and(|found| found == text.as_bytes()) {
        return Ok(false);
    }
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(failed(folder))?;
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let draft = PathBuf::from(name);
    let write = || -> io::Result<()> {
        let mut file = fs::File::create(&draft)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    write().map_err(failed(&draft))?;
    #[expect(
        clippy::disallowed_methods,
        reason = "a file of the user's repository, which version control keeps"
    )]
    fs::rename(&draft, path).map_err(failed(path))?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(event_type: &str, version: &str) -> String {
        serde_json::json!({"x-event": event_type, "x-version": version}).to_string()
    }

    #[test]
    fn locked_schemas_are_read_back_by_type_and_version() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Lock::read(&folder.path().join("none")).unwrap().is_none());
        for (event_type, stem, major, minor) in [
            ("lab.x.v1", "lab.x", 1, 0),
            ("lab.x.v1", "lab.x", 1, 10),
            ("lab.x.v1", "lab.x", 1, 9),
            ("lab.x.v2", "lab.x", 2, 0),
            ("Lab/1.Plä.inserted.v1", "Lab/1.Plä.inserted", 1, 0),
        ] {
            let file = folder.path().join(path(stem, major, minor));
            assert!(put(&file, &schema(event_type, &format!("{major}.{minor}"))).unwrap());
            assert!(!put(&file, &schema(event_type, &format!("{major}.{minor}"))).unwrap());
        }
        fs::write(folder.path().join("lab.x/README.md"), "ours").unwrap();
        let no_directory = Lock::read(&folder.path().join("lab.x/README.md/events.lock")).unwrap_err();
        assert!(no_directory.to_string().contains("Not a directory"), "{no_directory}");
        assert!(Lock::read(&folder.path().join("lab.x/README.md")).is_err(), "a file is no directory");
        let lock = Lock::read(folder.path()).unwrap().unwrap();
        let known: Vec<_> =
            lock.locked.iter().map(|l| (l.event_type.as_str(), l.minor(), l.versions.len())).collect();
        assert_eq!(known, [("Lab/1.Plä.inserted.v1", 0, 1), ("lab.x.v1", 10, 3), ("lab.x.v2", 0, 1)]);
        let addresses = lock.addresses("https://s.example");
        assert_eq!(addresses["lab.x.v1"], "https://s.example/lab.x/1.10.json");
        assert_eq!(
            addresses["Lab/1.Plä.inserted.v1"],
            "https://s.example/Lab%252F1.Pl%25C3%25A4.inserted/1.0.json"
        );
    }

    #[test]
    fn overlong_type_names_get_distinct_folders() {
        let folder = tempfile::tempdir().unwrap();
        let mut types: Vec<String> = ["inserted", "updated", "deleted"]
            .map(|what| format!("{}.{}.{what}", "実".repeat(21), "験".repeat(21)))
            .to_vec();
        for stem in &types {
            let file = folder.path().join(path(stem, 1, 0));
            assert!(put(&file, &schema(&format!("{stem}.v1"), "1.0")).unwrap());
        }
        types.sort_unstable();
        let lock = Lock::read(folder.path()).unwrap().unwrap();
        let read: Vec<_> = lock.locked.iter().map(|locked| locked.stem.as_str()).collect();
        assert_eq!(read, types);
    }

    #[test]
    fn invalid_contract_is_refused() {
        for (file, text) in [
            ("lab.x/1.0.json", "{".to_owned()),
            ("lab.x/1.0.json", schema("lab.x.v2", "2.0")),
            ("lab.x/1.0.json", schema("lab.x.v1", "1.1")),
            ("lab.y/1.0.json", schema("lab.x.v1", "1.0")),
        ] {
            let folder = tempfile::tempdir().unwrap();
            put(&folder.path().join(file), &text).unwrap();
            let error = Lock::read(folder.path()).unwrap_err().to_string();
            assert!(error.contains("is not a valid contract"), "{error}");
        }
    }
}
