//! What is published, as readers may rely on it: described ([`model`]), written down ([`lock`]), compared ([`check`]), and tried before use ([`trial`]).
//!
//! Offline: everything here works from the rules and a description of the tables, and is never on the way of an event. The
//! description comes from the database ([`crate::pipeline::contract`]) or from the snapshot in `events.lock/tables.json`.
//!
//! A contract is one JSON Schema (draft-07) of `data` per event type and minor version, closed, with the facts of its order
//! (key, subject, time, id). Inside a major version fields may only be added; a locked file is never written again.

pub mod asyncapi;
pub mod catalog;
pub mod check;
pub mod document;
pub mod envelope;
pub mod lock;
pub mod model;
pub mod open;
mod promises;
pub mod shape;
pub mod snapshot;
pub mod trial;

use std::path::Path;
use std::sync::Arc;

use crate::config::{Config, TableName};
use crate::rules::RuleErrors;
use crate::translate::{Settings, SettingsError};

use self::lock::{Lock, LockError};
use self::model::Model;
use self::snapshot::SnapshotError;

/// Why there is no description.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The tables are not known.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The rules are wrong.
    #[error(transparent)]
    Rules(#[from] RuleErrors),
}

/// Describes what is published from the rules and the snapshot, without a database.
///
/// # Errors
/// There is no snapshot, or the rules are wrong.
pub fn load(config: &Config) -> Result<Model, LoadError> {
    load_from(config, &config.events.lock_directory())
}

/// What translation is told, with what is locked and where its schemas are served.
///
/// # Errors
/// Rules, key or contracts are wrong.
pub fn settings(config: &Config) -> Result<Settings, SetUpError> {
    let mut settings = Settings::load(config)?;
    let directory = config.events.lock_directory();
    match (Lock::read(&directory)?, &config.events.schemas) {
        (Some(lock), schemas) => {
            settings.schemas = schemas.as_ref().map(|base| lock.addresses(base)).unwrap_or_default();
            settings.contracts = Some(Arc::new(lock));
        }
        (None, Some(_)) => return Err(SetUpError::NoLock(directory.display().to_string())),
        (None, None) => {}
    }
    Ok(settings)
}

/// Why translation cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum SetUpError {
    /// Rules or key are wrong.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The contracts cannot be read.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// There is nothing that could be served.
    #[error("events.schemas is set, but {0} does not exist: run `forebay events lock`, or leave the key out")]
    NoLock(String),
}

/// The published tables of which an automatic event is locked.
pub fn of_automatic<'a>(
    lock: &'a Lock,
    tables: impl Iterator<Item = &'a TableName>,
) -> impl Iterator<Item = &'a TableName> {
    tables.filter(|name| {
        let stem = format!("{name}.");
        lock.locked.iter().any(|locked| locked.is_automatic() && locked.stem.starts_with(&stem))
    })
}

fn load_from(config: &Config, directory: &Path) -> Result<Model, LoadError> {
    let settings = Settings::without_key(config)?;
    let tables = snapshot::read(directory)?;
    let schemas = config.events.schemas.as_deref();
    Ok(Model::new(&config.source_urn(), schemas, &settings, &tables)?)
}
