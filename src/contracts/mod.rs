//! Contracts of what is published: described ([`model`]), written ([`lock`]), compared ([`check`]) and tested
//! ([`trial`]).
//!
//! Everything here works offline, from the rules and the table definitions, and is never on the path of an
//! event. The definitions come from the database ([`crate::daemon::contract`]) or from the snapshot in
//! `events.lock/tables.json`.
//!
//! A contract is a closed JSON Schema (draft-07) of `data` per event type and minor version, with its key,
//! subject, time and id, and beside it what the event means ([`meaning`]). Inside a major version fields may
//! only be added. A locked schema is never rewritten.

pub mod archive;
pub mod asyncapi;
pub mod catalog;
pub mod check;
pub mod codegen;
pub mod document;
pub mod envelope;
pub mod lock;
pub mod locking;
pub mod meaning;
pub mod model;
pub mod open;
pub mod own;
mod promises;
pub mod published;
pub mod shape;
pub mod snapshot;
pub mod trial;

use std::path::Path;
use std::sync::Arc;

use crate::config::{Config, TableName};
use crate::failure::Explain;
use crate::rules::RuleErrors;
use crate::translate::{SettingsError, TranslateSettings};

use self::lock::{Lock, LockError};
use self::model::Model;
use self::snapshot::SnapshotError;

/// Why the model cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The table definitions are not available.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The rules have errors.
    #[error(transparent)]
    Rules(#[from] RuleErrors),
}

impl LoadError {
    fn cause(&self) -> &dyn Explain {
        match self {
            Self::Snapshot(error) => error,
            Self::Rules(error) => error,
        }
    }
}

impl Explain for LoadError {
    fn primary(&self) -> String {
        self.cause().primary()
    }

    fn detail(&self) -> Option<String> {
        self.cause().detail()
    }

    fn hint(&self) -> Option<String> {
        self.cause().hint()
    }
}

/// Models the published events from the rules and the snapshot, without a database.
///
/// # Errors
/// There is no snapshot, or the rules have errors.
pub fn load(config: &Config) -> Result<Model, LoadError> {
    load_from(config, &config.events.lock_directory())
}

/// The settings of translation, with the locked contracts and the addresses of the schemas.
///
/// # Errors
/// The rules, the key or the contracts have errors.
pub fn settings(config: &Config) -> Result<TranslateSettings, SetUpError> {
    let mut settings = TranslateSettings::load(config)?;
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

/// Why translation cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum SetUpError {
    /// The rules or the key have errors.
    #[error(transparent)]
    TranslateSettings(#[from] SettingsError),
    /// The contracts cannot be read.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// There are no contracts, so `events.schemas` would point to nothing.
    #[error("events.schemas is set, but {0} does not exist")]
    NoLock(String),
}

impl SetUpError {
    fn cause(&self) -> Option<&dyn Explain> {
        match self {
            Self::TranslateSettings(error) => Some(error),
            Self::Lock(error) => Some(error),
            Self::NoLock(_) => None,
        }
    }
}

impl Explain for SetUpError {
    fn code(&self) -> Option<&'static str> {
        self.cause().map_or(Some("contracts_missing"), Explain::code)
    }

    fn primary(&self) -> String {
        self.cause().map_or_else(|| self.to_string(), Explain::primary)
    }

    fn detail(&self) -> Option<String> {
        self.cause()?.detail()
    }

    fn hint(&self) -> Option<String> {
        let missing = || Some("Run `forebay events lock`, or remove events.schemas.".to_owned());
        self.cause().map_or_else(missing, Explain::hint)
    }
}

/// The published tables that have a locked automatic event.
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
    let settings = TranslateSettings::without_key(config)?;
    let tables = snapshot::read(directory)?;
    let schemas = config.events.schemas.as_deref();
    Ok(Model::new(&config.source_urn(), schemas, &settings, &tables)?)
}
