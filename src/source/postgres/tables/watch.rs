//! The tables that one connection has announced, and whether a row fits the current definitions of its types.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use super::look::Look;
use super::sheet::Sheet;
use super::store::{Candidates, combinations};
use super::types::labels;
use super::versions::RowMoment;
use super::{Survey, Surveyed, TableHistory};
use crate::change::{Change, Inheritance, OldRow, Operation, Relation, Tuple, Value};
use crate::config::Pii;
use crate::json;
use crate::source::postgres::pgoutput::Announced;
use crate::types::Kind;

/// Most announced tables in memory.
const ANNOUNCED_MAX: usize = 10_000;

/// Whether the description in use fits a row.
#[derive(Clone, Debug)]
pub enum Suits {
    /// It fits.
    Yes,
    /// This description fits instead.
    Other(Arc<Relation>),
    /// The types must be read first.
    Look,
}

/// The announcements of one connection.
#[derive(Debug, Default)]
pub struct Announcements {
    tables: TableHistory,
    /// For each announced table, a hash of the facts that make the server announce it again without a new
    /// definition.
    noise: HashMap<u32, u64>,
    /// Tables with types that can change without an announcement.
    watches: HashMap<u32, TypeWatch>,
}

/// A table with composites or enums.
#[derive(Debug)]
struct TypeWatch {
    sheet: Sheet,
    /// The description with the newest states of its types.
    current: Arc<Relation>,
    /// The description with which rows are read now: `current`, or an earlier one.
    in_use: Arc<Relation>,
    /// The newest states are certain for rows with a higher LSN than this …
    from: u64,
    /// … and not higher than this one.
    until: u64,
    has_composite: bool,
    /// Descriptions that were tried with an earlier row, and the states in them.
    tried: (Candidates, Vec<Arc<Relation>>),
}

impl Announcements {
    /// For a new connection.
    pub fn new(tables: TableHistory) -> Self {
        Self { tables, ..Self::default() }
    }

    /// The stored definitions.
    pub const fn tables(&self) -> &TableHistory {
        &self.tables
    }

    /// Whether an announced table has no types that can change without an announcement.
    pub fn is_plain(&self, table: u32) -> bool {
        self.watches.is_empty() || !self.watches.contains_key(&table)
    }

    /// Describes an announced table after a look at it.
    pub fn announce(&mut self, announced: Announced, look: Look, moment: RowMoment) -> Arc<Relation> {
        let oid = announced.oid;
        let noise = look.noise.iter().find(|(table, _)| *table == oid).map(|(_, noise)| hash(noise));
        if self.noise.len() >= ANNOUNCED_MAX {
            self.noise.clear();
        }
        let before = self.noise.insert(oid, noise.unwrap_or_default());
        let is_expected = before.is_none() || noise.is_none() || before != noise;
        let changed = self.tables.note(look);
        self.refresh(&changed.types);
        let sheet = self.tables.lock().describe(announced, moment, is_expected);
        let relation = Arc::new(sheet.sent());
        report(&sheet);
        report_personal(&relation, self.tables.lock().personal.pii());
        self.watches.remove(&oid);
        if !sheet.mutable.is_empty() {
            let mut watch = TypeWatch {
                sheet,
                current: Arc::clone(&relation),
                in_use: Arc::clone(&relation),
                from: 0,
                until: 0,
                has_composite: false,
                tried: (Vec::new(), Vec::new()),
            };
            watch.refresh(&self.tables);
            self.watches.insert(oid, watch);
        }
        relation
    }

    /// Stores a look at a table for one of its rows.
    pub fn look(&mut self, look: Look) {
        let changed = self.tables.note(look);
        self.refresh(&changed.types);
        self.extend();
    }

    /// The types of an announced table's columns, if they can change without an announcement. The table may
    /// have dropped some of these columns since.
    pub fn types(&self, table: u32) -> Vec<u32> {
        self.watches.get(&table).map(|watch| watch.sheet.type_oids()).unwrap_or_default()
    }

    /// Forgets dropped tables of which no change can follow.
    pub fn forget(&mut self, tables: &[u32]) {
        for table in tables {
            self.noise.remove(table);
            self.watches.remove(table);
        }
    }

    /// Stores the result of a survey.
    pub fn survey(&mut self, surveyed: Surveyed) -> Survey {
        let (types, survey) = surveyed.note(&self.tables);
        self.refresh(&types);
        self.extend();
        survey
    }

    fn refresh(&mut self, types: &[u32]) {
        if types.is_empty() {
            return;
        }
        for watch in self
            .watches
            .values_mut()
            .filter(|watch| types.iter().any(|oid| watch.sheet.mutable.contains(oid)))
        {
            watch.refresh(&self.tables);
            let relation = watch.sheet.relation();
            tracing::info!(
                event = "type_changed",
                table = relation.name(),
                "a type of the table's columns was altered; rows from then on are published under its new definition"
            );
        }
    }

    fn extend(&mut self) {
        let store = self.tables.lock();
        for watch in self.watches.values_mut() {
            (watch.from, watch.until) = store.certain(&watch.sheet.mutable);
        }
    }

    /// Whether a row fits the description in use. `looked`: its types were just read.
    pub fn suits(&mut self, change: &Change<'_>, moment: RowMoment, looked: bool) -> Suits {
        let Some(watch) = self.watches.get_mut(&change.relation.oid) else { return Suits::Yes };
        let is_certain =
            moment.wal < watch.until && !self.tables.lock().misses(&watch.sheet.mutable, moment.xid);
        let may_look = !looked && !is_certain;
        if may_look && watch.has_composite {
            return Suits::Look;
        }
        let fits = watch.has_labels(change);
        if may_look && !fits {
            return Suits::Look;
        }
        if fits && moment.wal > watch.from {
            return watch.uses(Arc::clone(&watch.current));
        }
        watch.earlier(&self.tables, change, moment)
    }
}

impl TypeWatch {
    /// Applies the newest states of the types.
    fn refresh(&mut self, tables: &TableHistory) {
        let store = tables.lock();
        let newest = store.candidates(&self.sheet.type_oids(), RowMoment { xid: 0, wal: u64::MAX });
        let then = super::store::first_of(&newest);
        self.sheet.mutable = then.mutable();
        self.sheet.fill(&then);
        self.current = Arc::new(self.sheet.sent());
        self.has_composite = self.current.columns.iter().any(|column| has_composite(&column.kind));
        (self.from, self.until) = store.certain(&self.sheet.mutable);
    }

    fn uses(&mut self, relation: Arc<Relation>) -> Suits {
        if Arc::ptr_eq(&self.in_use, &relation) {
            return Suits::Yes;
        }
        self.in_use = Arc::clone(&relation);
        Suits::Other(relation)
    }

    /// Whether the value of each enum in a row is a label of its type.
    fn has_labels(&self, change: &Change<'_>) -> bool {
        let columns = self.current.columns.iter().enumerate();
        columns.filter_map(|(at, column)| Some((at, labels(&column.data_type)?))).all(|(at, labels)| {
            tuples(&change.operation).all(|tuple| match tuple.get(at) {
                Value::Text(text) => labels.iter().any(|label| label.as_bytes() == text),
                Value::Null | Value::Unavailable => true,
            })
        })
    }

    /// The description with which a row was written, after its types were altered.
    fn earlier(&mut self, tables: &TableHistory, change: &Change<'_>, moment: RowMoment) -> Suits {
        let candidates = tables.lock().candidates(&self.sheet.type_oids(), moment);
        if candidates != self.tried.0 || self.tried.1.is_empty() {
            let fill = |then: &super::types::TypesThen<'_>| {
                let mut sheet = self.sheet.clone();
                sheet.fill(then);
                let relation = sheet.sent();
                if relation == *self.current { Arc::clone(&self.current) } else { Arc::new(relation) }
            };
            let filled = combinations(&candidates).iter().map(fill).collect();
            self.tried = (candidates, filled);
        }
        let tried = || self.tried.1.iter();
        // The label of an enum may be in no description. Then only the composites show which descriptions
        // fit. If none fits, any of them may be the right one.
        let with_labels = [true, false]
            .into_iter()
            .find(|with_labels| tried().any(|relation| fits(relation, change, *with_labels)));
        let mut fitting = tried()
            .filter(|relation| with_labels.is_none_or(|with_labels| fits(relation, change, with_labels)));
        let chosen = fitting.next().unwrap_or(&self.current);
        let states = || self.tried.0.iter().flat_map(|(_, states)| states);
        let is_altered = states().any(|state| state.was_altered_by(moment.xid));
        let unknown = if tables.lock().is_before_oldest(&self.sheet.mutable, moment) {
            Some(
                "a composite type of its columns was altered after the change, and what it was before is not known: Forebay could not \
                 look at it then, or it was altered too often since"
                    .to_owned(),
            )
        } else if is_altered
            && (super::store::is_too_many(&self.tried.0)
                || states().any(|state| state.was_remade_by(moment.xid)))
        {
            Some(
                "the types of its columns were altered several times in the transaction of the change, and which form they had at the \
                 time of the change is not known"
                    .to_owned(),
            )
        } else if is_altered {
            // Neither the position nor the transaction shows whether the row was written before or after the
            // alteration.
            fitting.find_map(|other| differing(chosen, other)).map(|column| {
                format!(
                    "column {column}: its type was altered in the transaction of the change, and which form it had at the time of \
                     the change is not known"
                )
            })
        } else {
            None
        };
        if unknown.is_some() {
            let relation = Arc::new(Relation { unknown, ..Relation::clone(chosen) });
            return self.uses(relation);
        }
        self.uses(Arc::clone(chosen))
    }
}

/// The first column whose values are read differently with the two descriptions.
fn differing<'a>(one: &'a Relation, other: &Relation) -> Option<&'a str> {
    let mut columns = one.columns.iter().zip(&other.columns);
    columns.find(|(one, other)| one.kind != other.kind).map(|(one, _)| &*one.name)
}

/// Whether the values of a row fit the types of a description. `with_labels`: the labels of its enums must
/// exist too.
fn fits(relation: &Relation, change: &Change<'_>, with_labels: bool) -> bool {
    let mut scratch = Vec::new();
    relation.columns.iter().enumerate().all(|(at, column)| {
        let labels = labels(&column.data_type).filter(|_| with_labels);
        if labels.is_none() && !has_composite(&column.kind) {
            return true;
        }
        tuples(&change.operation).all(|tuple| {
            let Value::Text(text) = tuple.get(at) else { return true };
            scratch.clear();
            labels.is_none_or(|labels| labels.iter().any(|label| label.as_bytes() == text))
                && json::write_value(&mut scratch, &column.kind, text).is_ok()
        })
    })
}

fn tuples<'a>(operation: &Operation<'a>) -> impl Iterator<Item = Tuple<'a>> + use<'a> {
    let old = |old: OldRow<'a>| match old {
        OldRow::Full(tuple) | OldRow::Key(tuple) => tuple,
    };
    let (new, old) = match *operation {
        Operation::Insert { new } => (Some(new), None),
        Operation::Update { old: before, new } => (Some(new), before.map(old)),
        Operation::Delete { old: before } => (None, Some(old(before))),
        Operation::Truncate { .. } => (None, None),
    };
    new.into_iter().chain(old)
}

fn has_composite(kind: &Kind) -> bool {
    match kind {
        Kind::Composite { .. } => true,
        Kind::Array { element, .. } | Kind::Vector { element } => has_composite(element),
        _ => false,
    }
}

fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

/// Logs the columns that hold personal data under a name that no entry of `[pii]` matches.
fn report_personal(relation: &Relation, pii: &Pii) {
    let table = relation.name();
    for column in &relation.columns {
        let Some(origin) = &column.origin else { continue };
        let is_named = pii.names(&relation.schema, &relation.table, &column.name);
        if is_named || !pii.tags_column(relation, column) {
            continue;
        }
        let from = origin.to_string();
        let column = &column.name;
        match origin.how {
            Inheritance::Former => tracing::warn!(
                event = "personal_column_renamed",
                table,
                column,
                from,
                hint = "Add the column to pii.columns under its new name, or with a leading ! if it holds no personal data.",
                "column holds personal data under another name; changes that would publish it become dead letters"
            ),
            Inheritance::Copy => tracing::warn!(
                event = "personal_table_copied",
                table,
                column,
                from,
                hint = "Add the column to pii.columns, with a leading ! if it holds no personal data.",
                "table has all the columns of a table with personal data; this column is not published"
            ),
            Inheritance::Ancestor | Inheritance::Computed => tracing::info!(
                event = "personal_data_carried",
                table,
                column,
                from,
                "column is taken or computed from one with personal data; it is not published"
            ),
        }
    }
}

fn report(sheet: &Sheet) {
    let relation = sheet.relation();
    let table = || relation.name();
    if sheet.sends_less {
        tracing::warn!(
            event = "partition_identity_incomplete",
            table = table(),
            hint = "Run ALTER TABLE … REPLICA IDENTITY FULL for each partition.",
            "table is REPLICA IDENTITY FULL, but not all of its partitions are; of their old rows only the key is known"
        );
    }
    if let Some(reason) = &relation.unknown {
        tracing::warn!(
            event = "table_past_unknown",
            table = table(),
            reason,
            "table definition at the time of these changes is unknown; they become dead letters"
        );
    } else if sheet.is_guess {
        let columns = &relation.columns;
        let key =
            relation.primary_key.iter().filter_map(|at| columns.get(*at)).map(|column| column.name.as_str());
        tracing::warn!(
            event = "table_key_uncertain",
            table = table(),
            key = key.collect::<Vec<_>>().join(", "),
            "primary key was altered at about the time of these changes; they are published with this key"
        );
    }
}

#[cfg(test)]
#[path = "watch_tests.rs"]
mod tests;
