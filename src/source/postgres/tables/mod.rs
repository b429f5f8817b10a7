//! The definitions of tables and types at the time of a change.
//!
//! pgoutput decodes a row with the catalogue of its time, and announces the columns of its table. It does not
//! send the primary key of a table with REPLICA IDENTITY FULL, the parts of domains, arrays and composites,
//! or columns that a column list leaves out. These are read from the catalogue, which may have changed since.
//! So each definition is stored with the snapshots that saw it, across connections and restarts, and a change
//! is described by the definition of its time. If that is unknown, the rows become dead letters.
//!
//! ```text
//!  look ▶ store (state, versions: no I/O) ▶ sheet ▶ Relation
//!            ▲ file                          watch: a row against the types of its time
//! ```

mod dropped;
mod file;
mod inquiry;
mod look;
mod personal;
mod sheet;
mod state;
mod store;
mod types;
mod versions;
mod watch;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio_postgres::Client;

use crate::buffer::disk::Directory;
use crate::change::{ChangePlace, Message, Operation, Relation};
use crate::config::Pii;
use crate::source::Redecode;
use crate::source::postgres::error::Error;
use crate::source::postgres::pgoutput::{Announced, AnnouncedColumn};
use crate::source::postgres::publication;
use crate::source::postgres::redecode::Pgoutput;

pub use dropped::{DroppedTables, Forgetting, RELATIONS_MAX};
pub use file::HistoryOrigin;
pub use inquiry::{CatalogAnswer, Inquiry};
pub use look::{Look, LookedAt};
pub use personal::Heir;
use personal::{ColumnId, PersonalColumns};
#[cfg(test)]
pub(super) use sheet::Sheet;
use store::{Changed, Store};
pub use versions::RowMoment;
pub use watch::{Announcements, Suits};

/// Most tables that are read before they are announced, and every second.
const EAGER_MAX: usize = 1_000;

/// All stored definitions. Clones share them. The lock is held only briefly.
#[derive(Clone, Debug, Default)]
pub struct TableHistory {
    store: Arc<Mutex<Store>>,
    place: Option<(Directory, Arc<Mutex<HistoryOrigin>>)>,
}

impl TableHistory {
    /// Opens the definitions that this directory has stored about the database in this epoch.
    pub fn open(directory: &Directory, (database, epoch): (&str, u16), pii: &Pii) -> Self {
        let (store, origin) = file::read(directory, (database, epoch), pii);
        Self {
            store: Arc::new(Mutex::new(store)),
            place: Some((directory.clone(), Arc::new(Mutex::new(origin)))),
        }
    }

    /// Without definitions and without a file.
    pub fn empty(pii: &Pii) -> Self {
        let store = Store { personal: PersonalColumns::new(pii.clone(), Vec::new()), ..Store::default() };
        Self { store: Arc::new(Mutex::new(store)), place: None }
    }

    /// A copy of the definitions for this cluster, without the file. Later changes are not shared.
    #[must_use]
    pub fn copy_for(&self, system_id: &str) -> Self {
        let mut store = self.lock().clone();
        let is_other = self.place.as_ref().is_some_and(|(_, origin)| {
            let origin = origin.lock().unwrap_or_else(PoisonError::into_inner);
            !origin.system_id.is_empty() && origin.system_id != system_id
        });
        if is_other {
            store = Self::empty(store.personal.pii()).lock().clone();
        }
        Self { store: Arc::new(Mutex::new(store)), place: None }
    }

    /// Whether a table has columns with personal data.
    pub fn has_personal(&self, table: u32) -> bool {
        self.lock().personal.has(table)
    }

    /// Sets the personal data origin of a table's columns, according to the current catalogue.
    pub fn tag(&self, relation: &mut Relation) {
        self.lock().tag_today(relation);
    }

    /// Sets the cluster of the connection. Definitions of another cluster are dropped.
    pub fn begin(&self, system_id: &str) {
        let Some((_, origin)) = &self.place else { return };
        let mut origin = origin.lock().unwrap_or_else(PoisonError::into_inner);
        if origin.system_id != system_id {
            let mut store = self.lock();
            let mut personal = std::mem::take(&mut store.personal);
            if !origin.system_id.is_empty() {
                personal.clear();
            }
            *store = Store { personal, ..Store::default() };
            system_id.clone_into(&mut origin.system_id);
        }
    }

    /// Whether the newest stored definition of a table agrees with the announcement.
    pub fn remembers(&self, announced: &Announced) -> bool {
        let store = self.lock();
        let newest = store.tables.get(&announced.oid).and_then(|versions| versions.newest()?.state.as_ref());
        newest.is_some_and(|state| {
            let has = |column: &AnnouncedColumn| {
                state
                    .columns
                    .iter()
                    .any(|known| known.name == column.name && known.type_oid == column.type_oid)
            };
            announced.table == state.table && announced.columns.iter().all(has)
        })
    }

    /// Stores the result of a look. If it is new, also on disk.
    fn note(&self, look: Look) -> Changed {
        let changed = self.lock().note(look);
        if changed.any {
            self.save();
        }
        changed
    }

    /// Writes the file. After a failure, a later start knows fewer definitions.
    pub fn save(&self) {
        let Some((directory, origin)) = &self.place else { return };
        let origin = origin.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let bytes = file::bytes(&origin, &self.lock());
        if let Err(error) = file::write(directory, &bytes) {
            tracing::warn!(
                event = "table_descriptions_not_saved", %error,
                "table definitions cannot be saved; after a restart, changes made before a DDL command may become dead letters"
            );
        }
    }

    fn lock(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Redecode for TableHistory {
    fn row(&self, raw: &[u8], columns: usize, then: &mut dyn FnMut(Operation<'_>)) -> Result<(), String> {
        Pgoutput.row(raw, columns, then)
    }

    fn message<'a>(&self, place: ChangePlace, raw: &'a [u8]) -> Result<Message<'a>, String> {
        Pgoutput.message(place, raw)
    }

    fn descriptions(&self, relation: &Relation) -> Vec<Relation> {
        self.lock().again(relation)
    }
}

/// The query of every second: all known tables, and the fingerprint of its last result.
#[derive(Clone, Debug, Default)]
pub struct Survey {
    tables: Vec<u32>,
    /// Columns with personal data. Their children and partitions are searched for.
    personal: Vec<ColumnId>,
    fingerprint: String,
}

/// The result of a survey.
#[derive(Debug)]
pub struct Surveyed {
    survey: Survey,
    at: LookedAt,
    /// The new definitions; `None` if nothing has changed.
    look: Option<Look>,
    /// How long the fingerprint took.
    pub took: Duration,
}

impl Survey {
    /// The first look of a connection: the tables of the publication, and those stored.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn begin(client: &Client, tables: &TableHistory, publication: &str) -> Result<Surveyed, Error> {
        let mut all = publication::table_oids(client, publication, EAGER_MAX).await?;
        let pii = tables.lock().personal.pii().clone();
        let mut named = look::named(client, &pii).await?;
        named.truncate(EAGER_MAX);
        if !named.is_empty() {
            // First, so that the same survey searches for their children and partitions.
            tables.note(look::look(client, &named, &[], publication).await?);
        }
        all.extend(tables.lock().existing());
        let survey = Self::default().of(all, &tables.lock().personal, &named);
        survey.look(client, publication).await
    }

    /// Adds the tables that have become known.
    #[must_use]
    pub fn with_known(self, tables: &TableHistory) -> Self {
        let known = tables.lock().existing();
        self.of(known, &tables.lock().personal, &[])
    }

    /// For these tables. If there are too many, those with personal data are first.
    fn of(mut self, mut tables: Vec<u32>, personal: &PersonalColumns, named: &[u32]) -> Self {
        tables.extend(named);
        tables.sort_unstable_by_key(|oid| (!personal.has(*oid) && !named.contains(oid), *oid));
        tables.dedup();
        tables.truncate(EAGER_MAX);
        tables.sort_unstable();
        let personal = personal.ids();
        if tables != self.tables || personal != self.personal {
            self = Self { tables, personal, fingerprint: String::new() };
        }
        self
    }

    /// Checks whether any definition has changed. If so, reads all of them.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn look(self, client: &Client, publication: &str) -> Result<Surveyed, Error> {
        let (fingerprint, at, took) = look::fingerprint(client, &self.tables, publication).await?;
        let look = if fingerprint == self.fingerprint {
            None
        } else {
            let mut look = look::look(client, &self.tables, &[], publication).await?;
            look.heirs = look::heirs(client, &self.personal).await?;
            Some(look)
        };
        Ok(Surveyed { survey: Self { fingerprint, ..self }, at, look, took })
    }
}

impl Surveyed {
    /// Stores the result. Returns the types that have changed, and the next survey.
    pub fn note(self, tables: &TableHistory) -> (Vec<u32>, Survey) {
        let Self { survey, at, look, .. } = self;
        if let Some(look) = look {
            // The look is newer than the fingerprint. If a definition changed between the two, the next
            // survey finds it again.
            return (tables.note(look).types, survey);
        }
        tables.lock().confirm(&survey.tables, at);
        (Vec::new(), survey)
    }
}

/// Reads one table, and the types of its rows.
///
/// # Errors
/// The connection broke.
pub async fn look_at(client: &Client, table: u32, types: &[u32], publication: &str) -> Result<Look, Error> {
    look::look(client, &[table], types, publication).await
}
