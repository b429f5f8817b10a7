//! What is published, as readers may rely on it: described ([`model`]), written down ([`lock`]), compared ([`check`]), and tried before use ([`trial`]).
//!
//! Offline: everything here works from the rules and a description of the tables, and is never on the way of an event. The
//! description comes from the database ([`crate::pipeline::contract`]) or from the snapshot in `events.lock/tables.json`.
//!
//! A contract is one JSON Schema (draft-07) of `data` per event type and minor version, closed, with the facts of its order
//! (key, subject, time, id). Inside a major version fields may only be added; a locked file is never written again.

pub mod document;
pub mod lock;
pub mod model;
pub mod shape;
pub mod snapshot;
pub mod trial;

use std::path::Path;

use crate::config::Config;
use crate::rules::RuleErrors;
use crate::translate::Settings;

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

fn load_from(config: &Config, directory: &Path) -> Result<Model, LoadError> {
    let settings = Settings::without_key(config)?;
    let tables = snapshot::read(directory)?;
    let schemas = config.events.schemas.as_deref();
    Ok(Model::new(&config.source_urn(), schemas, &settings, &tables)?)
}
