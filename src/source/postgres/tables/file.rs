//! The file `tables` in `buffer.dir`: all stored definitions of tables and types, as JSON. It is replaced as
//! a whole.
//!
//! If the file is missing, damaged, in another format or from another history, earlier definitions are
//! unknown. That never stops a start.

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::look::LookedAt;
use super::personal::{PersonalColumns, PersonalLine};
use super::store::Store;
use super::versions::{StateVersion, Versions};
use crate::buffer::disk::{Directory, DiskError};
use crate::config::Pii;

const NAME: &str = "tables";
const FORMAT: u32 = 1;
/// A larger file is not read, because Forebay never writes one.
const SIZE_MAX: usize = 64 << 20;

/// The database and history of the definitions. Object and transaction ids mean nothing in another database,
/// or in another history of the same cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryOrigin {
    /// `system_identifier` of the cluster; empty before the first connection.
    pub system_id: String,
    /// The database.
    pub database: String,
    /// The epoch.
    pub epoch: u16,
}

/// A definition, with the indexes of the reads that found it.
#[derive(Serialize, Deserialize)]
struct StateLine<T> {
    state: T,
    first: usize,
    last: usize,
}

#[derive(Serialize, Deserialize)]
struct StatesFile<Table, Type> {
    format: u32,
    origin: HistoryOrigin,
    looks: Vec<LookedAt>,
    tables: Vec<(u32, Vec<StateLine<Table>>)>,
    types: Vec<(u32, Vec<StateLine<Type>>)>,
    /// Columns with personal data; `None` in a file of a version that did not store them.
    #[serde(default)]
    personal: Option<Vec<PersonalLine>>,
}

/// Reads the definitions of this database in this epoch. If the file is about anything else, the result is
/// empty, except for the columns with personal data: their numbers stay valid in other epochs.
pub(super) fn read(
    directory: &Directory,
    (database, epoch): (&str, u16),
    pii: &Pii,
) -> (Store, HistoryOrigin) {
    let empty = |lines| Store { personal: PersonalColumns::new(pii.clone(), lines), ..Store::default() };
    let origin = |system_id| HistoryOrigin { system_id, database: database.to_owned(), epoch };
    let nothing = || (empty(Vec::new()), origin(String::new()));
    match directory.exists(NAME) {
        Ok(true) => {}
        Ok(false) | Err(_) => return nothing(),
    }
    let bytes = match directory.read(NAME) {
        Ok(bytes) if bytes.len() <= SIZE_MAX => bytes,
        Ok(_) | Err(_) => return damaged(nothing),
    };
    let Ok(file) = serde_json::from_slice::<StatesFile<_, _>>(&bytes) else { return damaged(nothing) };
    if file.format != FORMAT || file.origin.database != database {
        return nothing();
    }
    if file.origin.epoch != epoch {
        return (empty(file.personal.unwrap_or_default()), origin(file.origin.system_id));
    }
    let looks: Vec<Arc<LookedAt>> = file.looks.into_iter().map(Arc::new).collect();
    let is_new = file.personal.is_none();
    let mut store = Store {
        tables: versions(file.tables, &looks),
        types: versions(file.types, &looks),
        personal: PersonalColumns::new(pii.clone(), file.personal.unwrap_or_default()),
    };
    if is_new {
        store.note_personal();
    }
    (store, file.origin)
}

fn damaged(nothing: impl FnOnce() -> (Store, HistoryOrigin)) -> (Store, HistoryOrigin) {
    tracing::warn!(
        event = "table_descriptions_unreadable",
        file = NAME,
        "stored table definitions cannot be read; changes made before a DDL command may become dead letters"
    );
    nothing()
}

fn versions<T>(lines: Vec<(u32, Vec<StateLine<T>>)>, looks: &[Arc<LookedAt>]) -> HashMap<u32, Versions<T>> {
    let version = |line: StateLine<T>| {
        let (first, last) = (looks.get(line.first)?, looks.get(line.last)?);
        Some(StateVersion { state: line.state, first: Arc::clone(first), last: Arc::clone(last) })
    };
    let of = |(oid, lines): (u32, Vec<StateLine<T>>)| {
        Some((oid, Versions::of(lines.into_iter().filter_map(version).collect())?))
    };
    lines.into_iter().filter_map(of).collect()
}

/// The content of the file.
pub(super) fn bytes(origin: &HistoryOrigin, store: &Store) -> Vec<u8> {
    let mut looks = Looks::default();
    let file = StatesFile {
        format: FORMAT,
        origin: origin.clone(),
        tables: lines(&store.tables, &mut looks),
        types: lines(&store.types, &mut looks),
        personal: Some(store.personal.lines()),
        looks: looks.list,
    };
    serde_json::to_vec(&file).unwrap_or_default()
}

/// Replaces the file.
///
/// # Errors
/// The operating system call fails.
pub(super) fn write(directory: &Directory, bytes: &[u8]) -> Result<(), DiskError> {
    directory.replace(NAME, bytes).map(drop)
}

/// The catalogue reads of all definitions, without duplicates.
#[derive(Default)]
struct Looks {
    list: Vec<LookedAt>,
    places: HashMap<*const LookedAt, usize>,
}

impl Looks {
    fn place(&mut self, look: &Arc<LookedAt>) -> usize {
        let next = self.list.len();
        let place = *self.places.entry(Arc::as_ptr(look)).or_insert(next);
        if place == next {
            self.list.push(LookedAt::clone(look));
        }
        place
    }
}

fn lines<'a, T>(
    versions: &'a HashMap<u32, Versions<T>>,
    looks: &mut Looks,
) -> Vec<(u32, Vec<StateLine<&'a T>>)> {
    let mut lines: Vec<_> = versions
        .iter()
        .map(|(oid, versions)| {
            let line = |version: &'a StateVersion<T>| StateLine {
                state: &version.state,
                first: looks.place(&version.first),
                last: looks.place(&version.last),
            };
            (*oid, versions.all().iter().map(line).collect())
        })
        .collect();
    lines.sort_unstable_by_key(|(oid, _): &(u32, Vec<StateLine<&T>>)| *oid);
    lines
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
