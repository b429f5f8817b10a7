//! What a consumer must not forget: its effects, and how far it has come.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::Error;
use crate::contract::Sequences;
use crate::view::View;

/// One JSON file, which is replaced as a whole: all parts are committed together, or none of them.
///
/// Each commit writes everything, so this is for small states. For larger ones use a database, and commit by a transaction.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct State {
    /// By shard.
    pub(crate) checkpoints: BTreeMap<String, Checkpoint>,
    pub(crate) sequences: Sequences,
    pub(crate) view: View,
    #[serde(skip)]
    path: PathBuf,
}

/// How far a shard is processed.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Checkpoint {
    /// Of the last record whose effects are committed; `None`: none yet.
    pub(crate) sequence_number: Option<String>,
    /// The shard was resharded, and all of its records are processed.
    pub(crate) finished: bool,
}

impl State {
    /// Reads the state. Without a file it is empty.
    pub(crate) fn load(path: &Path) -> Result<Self, Error> {
        let state = match std::fs::read(path) {
            Ok(text) => serde_json::from_slice(&text)?,
            Err(error) if error.kind() == ErrorKind::NotFound => Self::default(),
            Err(error) => return Err(error.into()),
        };
        Ok(Self { path: path.to_owned(), ..state })
    }

    /// Replaces the file: written beside it, flushed to disk, then renamed, so that there is never half a file. If a power
    /// failure undoes the rename, it undoes the checkpoints as well, and the same records are read again.
    #[expect(
        clippy::disallowed_methods,
        reason = "the daemon's own files need a durable rename; this one does not"
    )]
    pub(crate) fn commit(&self) -> Result<(), Error> {
        let mut beside = self.path.clone().into_os_string();
        beside.push(".new");
        let mut file = File::create(&beside)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        file.sync_all()?;
        std::fs::rename(beside, &self.path)?;
        Ok(())
    }
}
