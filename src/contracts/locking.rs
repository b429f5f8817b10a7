//! What `events lock` writes: the schemas that are missing, and the meaning of each locked type.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use super::check::{changes, to_lock};
use super::lock::{Lock, LockError, meaning_path, path};
use super::meaning::MeaningSource;
use super::meaning::file::{Acceptance, LockedMeaning};
use super::model::Model;

/// The options of `forebay events lock`.
#[derive(Clone, Copy, Debug, Default)]
pub struct LockRequest<'a> {
    /// Whether automatic events are locked too.
    pub automatic: bool,
    /// Why a different meaning is accepted, and the day, `YYYY-MM-DD`.
    pub accepted: Option<(&'a str, &'a str)>,
}

/// A file lock that lets one process at a time lock contracts. The kernel releases it when the process ends.
#[derive(Debug)]
pub struct Turn {
    _held: Option<File>,
}

impl Turn {
    /// Waits until no other process locks contracts in this directory. `waits` is called before a wait.
    ///
    /// # Errors
    /// An I/O error. On a file system without file locks there is no wait and no exclusion.
    pub fn take(directory: &Path, waits: impl FnOnce()) -> Result<Self, LockError> {
        // The lock is on the directory above, because an empty contract directory would already count as
        // contracts.
        let Some(place) = directory.ancestors().skip(1).find(|folder| folder.is_dir()) else {
            return Ok(Self { _held: None });
        };
        let failed = |source: io::Error| LockError::Io { path: place.to_owned(), source };
        let held = File::open(place).map_err(failed)?;
        let waited = match held.try_lock() {
            Ok(()) => Ok(()),
            Err(TryLockError::WouldBlock) => {
                waits();
                held.lock()
            }
            Err(TryLockError::Error(error)) => Err(error),
        };
        match waited {
            Ok(()) => Ok(Self { _held: Some(held) }),
            Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(Self { _held: None }),
            Err(error) => Err(failed(error)),
        }
    }
}

/// The files to write, relative to the directory, in order: a meaning follows the schemas whose checksums it
/// has.
///
/// # Errors
/// Never in practice: texts and numbers can always be written as JSON.
pub fn files(
    model: &Model,
    lock: &Lock,
    request: &LockRequest<'_>,
) -> Result<Vec<(PathBuf, String)>, serde_json::Error> {
    let schemas = to_lock(model, lock, request.automatic, request.accepted.is_some());
    let mut files = Vec::new();
    for (event, minor, schema) in &schemas {
        let text = serde_json::to_string_pretty(schema)? + "\n";
        files.push((path(&event.stem, event.major, *minor), text));
    }
    for event in &model.events {
        let (locked, new) =
            (lock.of(&event.event_type), schemas.iter().find(|(other, ..)| std::ptr::eq(*other, event)));
        if locked.is_none() && new.is_none() {
            continue;
        }
        let version = |minor: u32| format!("{}.{minor}", event.major);
        let known = locked.iter().flat_map(|locked| &locked.versions).map(|(minor, schema)| (minor, schema));
        let all = known.chain(new.iter().map(|(_, minor, schema)| (minor, schema)));
        let before = locked.and_then(|locked| locked.meaning.as_ref());
        let mut accepted = before.map(|before| before.accepted.clone()).unwrap_or_default();
        if let (Some(locked), Some((reason, on))) = (locked, request.accepted) {
            let changes = changes(event, locked);
            if !changes.is_empty() {
                let minor = new.map_or_else(|| locked.minor(), |(_, minor, _)| *minor);
                let (on, reason) = (on.to_owned(), reason.to_owned());
                accepted.push(Acceptance { version: version(minor), on, reason, changes });
            }
        }
        let all = all.map(|(minor, schema)| (version(*minor), schema));
        let meaning = LockedMeaning::new(&event.event_type, all, event.sources(), accepted);
        if before.is_none_or(|before| differ(before, &meaning)) {
            files.push((meaning_path(&event.stem, event.major), meaning.text()?));
        }
    }
    Ok(files)
}

/// Whether a meaning must be written again. Column numbers are ignored, because they differ between
/// databases.
fn differ(before: &LockedMeaning, now: &LockedMeaning) -> bool {
    let plain = |sources: &[MeaningSource]| {
        let mut sources = sources.to_vec();
        sources.iter_mut().for_each(MeaningSource::forget_numbers);
        sources
    };
    !before.is_of_this_parser()
        || before.schemas != now.schemas
        || before.accepted != now.accepted
        || plain(&before.sources) != plain(&now.sources)
}
