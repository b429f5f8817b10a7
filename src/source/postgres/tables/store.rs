//! The stored definitions of tables and types, and the choice of the one for a change. Does no I/O.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::look::{Look, LookedAt};
use super::personal::PersonalColumns;
use super::sheet::Sheet;
use super::state::{TableState, TypeState, precedes};
use super::types::TypesThen;
use super::versions::{RowMoment, Versions};
use crate::change::{PersonalOrigin, Relation, ReplicaIdentity};
use crate::source::postgres::catalog;
use crate::source::postgres::pgoutput::Announced;

/// Most stored tables, dropped ones included.
const TABLES_MAX: usize = 4_000;
/// Most stored types.
const TYPES_MAX: usize = 8_000;
/// Most combinations of type states that are tried with one row.
const COMBINATIONS_MAX: usize = 16;

/// Tables and types with their earlier states.
#[derive(Clone, Debug, Default)]
pub(super) struct Store {
    /// Tables by `pg_class.oid`. A state of `None` means that the table was dropped.
    pub(super) tables: HashMap<u32, Versions<Option<TableState>>>,
    /// By `pg_type.oid`.
    pub(super) types: HashMap<u32, Versions<TypeState>>,
    /// Columns with personal data.
    pub(super) personal: PersonalColumns,
}

/// The differences that a look found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Changed {
    /// Whether anything new was stored.
    pub any: bool,
    /// Types whose state differs from the previous one.
    pub types: Vec<u32>,
}

/// The states that some types may have had, the likeliest first.
pub(super) type Candidates = Vec<(u32, Vec<TypeState>)>;

impl Store {
    /// Tables that exist, as far as known.
    pub(super) fn existing(&self) -> Vec<u32> {
        let exists = |versions: &Versions<Option<TableState>>| {
            versions.newest().is_some_and(|newest| newest.state.is_some())
        };
        let mut oids: Vec<u32> =
            self.tables.iter().filter(|(_, versions)| exists(versions)).map(|(oid, _)| *oid).collect();
        oids.sort_unstable();
        oids
    }

    /// Stores the result of a look.
    pub(super) fn note(&mut self, look: Look) -> Changed {
        let at = Arc::new(look.at);
        let mut changed = Changed::default();
        let mut new = Vec::new();
        let mut is_more = false;
        for (oid, state) in &look.tables {
            let Some(state) = state else { continue };
            is_more |= self.personal.note(*oid, state);
            if !self.tables.contains_key(oid) {
                new.push(*oid);
            }
        }
        changed.any |= self.personal.note_heirs(&look.heirs) | is_more;
        for (oid, state) in look.tables {
            match self.tables.get_mut(&oid) {
                Some(versions) => {
                    changed.any |= versions.note(state, &at, |a, b| match (a, b) {
                        (Some(a), Some(b)) => a.is_same(b),
                        (a, b) => a.is_none() && b.is_none(),
                    });
                }
                None if state.is_some() => {
                    changed.any = true;
                    self.tables.insert(oid, Versions::new(state, &at));
                }
                None => {}
            }
        }
        if is_more {
            new = self.existing();
        }
        for oid in new {
            changed.any |= self.note_copy(oid);
        }
        for (oid, state) in look.types {
            if let Some(versions) = self.types.get_mut(&oid) {
                if versions.note(state, &at, PartialEq::eq) {
                    changed.any = true;
                    changed.types.push(oid);
                }
            } else {
                changed.any = true;
                self.types.insert(oid, Versions::new(state, &at));
            }
        }
        self.bound();
        changed
    }

    /// Notes the columns with personal data in all stored states.
    pub(super) fn note_personal(&mut self) {
        for (oid, versions) in &self.tables {
            for state in versions.all().iter().filter_map(|version| version.state.as_ref()) {
                self.personal.note(*oid, state);
            }
        }
    }

    /// Notes the columns with personal data of a new table that has, side by side, all columns of a table
    /// with personal data: a copy, or a child that has left its table.
    pub(super) fn note_copy(&mut self, oid: u32) -> bool {
        let newest = self.tables.get(&oid).and_then(|versions| versions.newest()?.state.as_ref());
        let Some(copy) = newest.filter(|_| !self.personal.is_empty()) else { return false };
        let Some((table, state, at)) = self.like(copy, oid) else { return false };
        let numbers =
            |state: &TableState| state.columns.iter().map(|column| column.number).collect::<Vec<i16>>();
        let (like, numbers) = (numbers(state), numbers(copy));
        self.personal.note_copy(oid, numbers.get(at..).unwrap_or_default(), (table, &like))
    }

    /// A table with personal data whose columns, now or earlier, another table has side by side, with the
    /// index of the first of them.
    fn like(&self, copy: &TableState, oid: u32) -> Option<(u32, &TableState, usize)> {
        let shape: Vec<(&str, u32)> = copy.shape().collect();
        let personal = self.tables.iter().filter(|(other, _)| **other != oid && self.personal.has(**other));
        let states = personal.flat_map(|(oid, versions)| {
            versions.all().iter().filter_map(move |version| Some((*oid, version.state.as_ref()?)))
        });
        let at = |state: &TableState| {
            let like: Vec<(&str, u32)> = state.shape().collect();
            shape.windows(like.len().max(1)).position(|window| window == like)
        };
        let alike = states.filter_map(|(other, state)| Some((other, state, at(state)?)));
        alike.min_by_key(|(other, ..)| *other)
    }

    /// Notes that a look at these tables found no difference.
    pub(super) fn confirm(&mut self, tables: &[u32], at: LookedAt) {
        let at = Arc::new(at);
        let mut below = HashSet::new();
        for oid in tables {
            let Some(versions) = self.tables.get_mut(oid) else { continue };
            versions.confirm(&at);
            if let Some(state) = versions.newest().and_then(|newest| newest.state.as_ref()) {
                below.extend(state.columns.iter().map(|column| column.type_oid));
            }
        }
        let mut wanted: Vec<u32> = below.iter().copied().collect();
        while let Some(oid) = wanted.pop() {
            let Some(versions) = self.types.get_mut(&oid) else { continue };
            versions.confirm(&at);
            let parts = versions.newest().map(|newest| newest.state.parts()).unwrap_or_default();
            wanted.extend(parts.into_iter().filter(|part| below.insert(*part)));
        }
    }

    /// Removes dropped tables, and unused types, if too many are stored.
    fn bound(&mut self) {
        if self.tables.len() > TABLES_MAX {
            self.tables.retain(|_, versions| versions.newest().is_some_and(|newest| newest.state.is_some()));
        }
        while self.tables.len() > TABLES_MAX
            && let Some(oid) = self.tables.keys().next().copied()
        {
            self.tables.remove(&oid);
        }
        if self.types.len() > TYPES_MAX {
            let states =
                self.tables.values().flat_map(Versions::all).filter_map(|version| version.state.as_ref());
            let used = states.flat_map(|state| state.columns.iter().map(|column| column.type_oid));
            let then = TypesThen::below(used, |oid| Some(&self.types.get(&oid)?.newest()?.state));
            let kept: HashSet<u32> = self.types.keys().copied().filter(|oid| then.has(*oid)).collect();
            self.types.retain(|oid, _| kept.contains(oid));
        }
    }

    /// Describes a table that was announced at this moment. `is_expected`: the server had another reason to
    /// announce it than a changed definition.
    pub(super) fn describe(&self, announced: Announced, moment: RowMoment, is_expected: bool) -> Sheet {
        let versions = self.tables.get(&announced.oid);
        let picked = versions.map(|versions| versions.pick(&announced, moment, is_expected));
        let is_guess = picked.as_ref().is_some_and(|picked| picked.is_guess);
        let key = picked.and_then(|picked| picked.key);
        let by_key = matches!(announced.identity, ReplicaIdentity::Full | ReplicaIdentity::Nothing);
        let mut unknown = (by_key && key.is_none()).then(|| {
            "the primary key at the time of the change is not known: the table, whose REPLICA IDENTITY names no key, was altered \
             or dropped before Forebay could look at it"
                .to_owned()
        });
        let in_force = versions.map(|versions| versions.in_force(moment)).unwrap_or_default();
        let not_null = |name: &str| {
            let found = || in_force.iter().filter_map(|state| state.columns.iter().find(|c| c.name == name));
            found().next().is_some() && found().all(|column| column.not_null)
        };
        let is_full = announced.identity == ReplicaIdentity::Full;
        let today = versions.and_then(|versions| versions.newest()?.state.as_ref());
        // A partition that became FULL in the meantime is so for later transactions.
        let is_whole = |leaf: u32| {
            let whole = today.and_then(|today| today.whole.iter().find(|(oid, _)| *oid == leaf));
            whole.is_some_and(|(_, since)| precedes(*since, moment.xid))
        };
        let sends_less =
            is_full && in_force.iter().flat_map(|state| &state.lesser).any(|leaf| !is_whole(*leaf));
        let absent = versions.map(|versions| absent(versions, &announced, moment)).unwrap_or_default();
        let types: Vec<u32> = announced
            .columns
            .iter()
            .map(|column| column.type_oid)
            .chain(absent.iter().map(|(_, type_oid, _)| *type_oid))
            .collect();
        let candidates = self.candidates(&types, moment);
        let then = first_of(&candidates);
        if unknown.is_none()
            && let Some(column) = announced.columns.iter().find(|column| !then.knows(column.type_oid))
        {
            unknown = Some(format!(
                "column {}: its type at the time of the change is not known: it was dropped before Forebay could look at it",
                column.name
            ));
        }
        let mutable = then.mutable();
        let origins = self.origins(&announced, moment);
        let mut sheet = Sheet::new(announced, key, not_null, absent);
        match origins {
            Ok(origins) => sheet.set_origins(&origins),
            Err(reason) => unknown = unknown.or(Some(reason)),
        }
        sheet.set_unknown(unknown);
        sheet.is_guess = is_guess;
        sheet.sends_less = sends_less;
        sheet.mutable = mutable;
        sheet.fill(&then);
        sheet
    }

    /// The columns with personal data from other columns, by name.
    ///
    /// # Errors
    /// Why that is unknown.
    fn origins(
        &self,
        announced: &Announced,
        moment: RowMoment,
    ) -> Result<HashMap<String, PersonalOrigin>, String> {
        let mut found = HashMap::new();
        if self.personal.is_empty() {
            return Ok(found);
        }
        let names = || announced.columns.iter().map(|column| column.name.as_str());
        let Some(versions) = self.tables.get(&announced.oid) else {
            return self.origins_of_unseen(announced);
        };
        let today = versions.newest().and_then(|newest| newest.state.as_ref());
        for column in today.iter().flat_map(|today| &today.columns) {
            if let Some(origin) = self.personal.of(announced.oid, column.number) {
                found.insert(column.name.clone(), origin.clone());
            }
        }
        if !self.personal.has(announced.oid) {
            return Ok(found);
        }
        let states = versions.in_force(moment);
        let fits: Vec<(Vec<i16>, bool)> = states.iter().filter_map(|state| state.numbers(names())).collect();
        let is_exact = fits.iter().any(|(_, is_exact)| *is_exact);
        let mut fits = fits.iter().filter(|(_, exact)| *exact || !is_exact).peekable();
        if fits.peek().is_none() {
            return Err(format!(
                "which of the columns held the personal data of {}.{} at the time of the change is not known: the table was altered \
                 more than once before Forebay could look at it",
                announced.schema, announced.table
            ));
        }
        names().for_each(|name| drop(found.remove(name)));
        for (numbers, _) in fits {
            for (name, number) in names().zip(numbers) {
                if let Some(origin) = self.personal.of(announced.oid, *number) {
                    found.insert(name.to_owned(), origin.clone());
                }
            }
        }
        Ok(found)
    }

    /// Like [`origins`](Self::origins), for a table that no look has found.
    fn origins_of_unseen(&self, announced: &Announced) -> Result<HashMap<String, PersonalOrigin>, String> {
        let Announced { schema, table, columns, .. } = announced;
        let pii = self.personal.pii();
        let is_decided = |name: &str| pii.names(schema, table, name) || pii.excepts(schema, table, name);
        if columns.iter().all(|column| is_decided(&column.name)) {
            return Ok(HashMap::new());
        }
        Err("which of its columns hold personal data is not known: the table was dropped before Forebay could look at it".to_owned())
    }

    /// Sets the personal data origin of a table's columns, as far as the names in one of its states show it.
    pub(super) fn tag(&self, relation: &mut Relation, state: &TableState) -> bool {
        let names = relation.columns.iter().map(|column| column.name.as_str());
        let Some((numbers, _)) = state.numbers(names) else { return !self.personal.has(relation.oid) };
        for (column, number) in relation.columns.iter_mut().zip(numbers) {
            let origin = self.personal.of(relation.oid, number).cloned();
            column.origin = origin.or_else(|| column.origin.take());
        }
        for column in &mut relation.absent {
            let number = state.columns.iter().find(|known| known.name == column.name);
            let origin = number.and_then(|known| self.personal.of(relation.oid, known.number)).cloned();
            column.origin = origin.or_else(|| column.origin.take());
        }
        true
    }

    /// Like [`tag`](Self::tag), with the newest state of the table.
    pub(super) fn tag_today(&self, relation: &mut Relation) {
        let newest = self.tables.get(&relation.oid).and_then(|versions| versions.newest()?.state.as_ref());
        if let Some(state) = newest {
            self.tag(relation, state);
        }
    }

    /// The states that these types, and all types that they consist of, may have had at a moment.
    pub(super) fn candidates(&self, oids: &[u32], moment: RowMoment) -> Candidates {
        self.walk(oids, |versions| versions.at(moment))
    }

    fn walk(&self, oids: &[u32], states: impl Fn(&Versions<TypeState>) -> Vec<TypeState>) -> Candidates {
        let mut found: HashMap<u32, Vec<TypeState>> = HashMap::new();
        let mut wanted: Vec<u32> = oids.to_vec();
        while let Some(oid) = wanted.pop() {
            if catalog::is_builtin(oid) || found.contains_key(&oid) {
                continue;
            }
            let Some(versions) = self.types.get(&oid) else { continue };
            let states = states(versions);
            wanted.extend(states.iter().flat_map(TypeState::parts));
            found.insert(oid, states);
        }
        let mut found: Candidates = found.into_iter().collect();
        found.sort_unstable_by_key(|(oid, _)| *oid);
        found
    }

    /// The range of WAL positions for which the newest states of these types are certain: after the first,
    /// and not after the second.
    pub(super) fn certain(&self, types: &[u32]) -> (u64, u64) {
        let newest = || types.iter().filter_map(|oid| self.types.get(oid)?.newest());
        let from = newest().map(|newest| newest.first.after).max();
        (from.unwrap_or(0), newest().map(|newest| newest.last.before).min().unwrap_or(u64::MAX))
    }

    /// Whether a change is older than all stored states of one of these types, and the type was altered
    /// since.
    pub(super) fn is_before_oldest(&self, types: &[u32], moment: RowMoment) -> bool {
        types.iter().any(|oid| self.types.get(oid).is_some_and(|versions| versions.is_before_oldest(moment)))
    }

    /// Whether the last look at one of these types was before the end of this transaction, which may have
    /// altered it.
    pub(super) fn misses(&self, types: &[u32], xid: u32) -> bool {
        let mut newest = types.iter().filter_map(|oid| self.types.get(oid)?.newest());
        newest.any(|newest| newest.last.sees(xid) == Some(false))
    }

    /// The table of a dead letter with other states of itself and its types, the newest first. One of them
    /// may fit its row.
    pub(super) fn again(&self, relation: &Relation) -> Vec<Relation> {
        let Some(versions) = self.tables.get(&relation.oid) else { return Vec::new() };
        let mut found: Vec<Relation> = Vec::new();
        for state in versions.all().iter().rev().filter_map(|version| version.state.as_ref()) {
            let mut tagged = relation.clone();
            // The names under which its columns held personal data may be unknown in this state.
            if !self.tag(&mut tagged, state) && relation.unknown.is_some() {
                continue;
            }
            let Some(mut sheet) = Sheet::again(&tagged, state) else { continue };
            let candidates = self.walk(&sheet.type_oids(), |versions| {
                versions.all().iter().rev().map(|version| version.state.clone()).collect()
            });
            for then in combinations(&candidates) {
                if !sheet.type_oids().iter().all(|oid| then.knows(*oid)) {
                    continue;
                }
                sheet.fill(&then);
                if sheet.relation() != relation && !found.contains(sheet.relation()) {
                    found.push(sheet.relation().clone());
                }
            }
        }
        found
    }
}

/// Columns that the table has now and the announcement does not, because its rows are older.
fn absent(
    versions: &Versions<Option<TableState>>,
    announced: &Announced,
    moment: RowMoment,
) -> Vec<(String, u32, i32)> {
    let Some(today) = versions.newest().and_then(|newest| newest.state.as_ref()) else { return Vec::new() };
    let earliest = versions.earliest(moment);
    let was_there = |number: i16| {
        earliest.is_some_and(|version| {
            let state = version.state.as_ref();
            version.first.sees(moment.xid) != Some(true)
                && state.is_some_and(|state| state.columns.iter().any(|column| column.number == number))
        })
    };
    let is_absent = |column: &&super::state::ColumnState| {
        column.listed
            && !column.generated
            && !was_there(column.number)
            && !announced.columns.iter().any(|announced| announced.name == column.name)
    };
    let absent = today.columns.iter().filter(is_absent);
    absent.map(|column| (column.name.clone(), column.type_oid, column.modifier)).collect()
}

/// The likeliest states.
pub(super) fn first_of(candidates: &Candidates) -> TypesThen<'_> {
    candidates.iter().filter_map(|(oid, states)| Some((*oid, states.first()?))).collect()
}

fn possible_combinations(candidates: &Candidates) -> usize {
    let counts = candidates.iter().map(|(_, states)| states.len().max(1));
    counts.fold(1, usize::saturating_mul)
}

/// Whether there are more combinations than are tried with a row.
pub(super) fn is_too_many(candidates: &Candidates) -> bool {
    possible_combinations(candidates) > COMBINATIONS_MAX
}

/// The combinations of states, the likeliest first, at most as many as are tried with a row.
pub(super) fn combinations(candidates: &Candidates) -> Vec<TypesThen<'_>> {
    let count = possible_combinations(candidates).min(COMBINATIONS_MAX);
    let combine = |mut nth: usize| {
        let choose = |(oid, states): &'_ (u32, Vec<TypeState>)| {
            let at = nth.checked_rem(states.len())?;
            nth /= states.len();
            Some((*oid, at))
        };
        let chosen: Vec<(u32, usize)> = candidates.iter().filter_map(choose).collect();
        chosen
    };
    let state = |oid: u32, at: usize| {
        candidates.iter().find(|(other, _)| *other == oid).and_then(|(_, states)| states.get(at))
    };
    (0..count)
        .map(|nth| combine(nth).into_iter().filter_map(|(oid, at)| Some((oid, state(oid, at)?))).collect())
        .collect()
}
