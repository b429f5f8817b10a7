//! Which columns hold personal data, by table and column number: names change, numbers do not. Does no I/O.
//!
//! `[pii]` has names of columns. Each matching column is stored by its number when the catalogue is read, so
//! that the tag follows renames of column, table and schema. The tag is passed on to children, to partitions
//! (detached ones too), to generated columns, and to tables that have all columns of a tagged one side by
//! side, as `CREATE TABLE … (LIKE …)` creates them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::state::{ColumnState, TableState};
use crate::change::{Inheritance, PersonalOrigin};
use crate::config::Pii;

/// Most stored columns.
const COLUMNS_MAX: usize = 100_000;

/// A column, by table OID and column number.
pub(super) type ColumnId = (u32, i16);

/// The columns that hold personal data.
#[derive(Clone, Debug, Default)]
pub(super) struct PersonalColumns {
    pii: Pii,
    known: BTreeMap<ColumnId, PersonalOrigin>,
}

/// A stored column, in the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PersonalLine {
    table: u32,
    number: i16,
    origin: PersonalOrigin,
}

/// A column of a child or partition, and the corresponding column of its ancestor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heir {
    /// The column of the child.
    pub(super) column: ColumnId,
    /// The column of the ancestor.
    pub(super) ancestor: ColumnId,
}

impl PersonalColumns {
    /// The stored columns that these entries still match.
    pub(super) fn new(pii: Pii, lines: Vec<PersonalLine>) -> Self {
        let is_named = |origin: &PersonalOrigin| pii.tags(&origin.schema, &origin.table, &origin.column);
        let kept = lines.into_iter().filter(|line| is_named(&line.origin));
        let known = kept.map(|line| ((line.table, line.number), line.origin)).collect();
        Self { pii, known }
    }

    /// The columns for the file.
    pub(super) fn lines(&self) -> Vec<PersonalLine> {
        let line = |(&(table, number), origin): (&ColumnId, &PersonalOrigin)| PersonalLine {
            table,
            number,
            origin: origin.clone(),
        };
        self.known.iter().map(line).collect()
    }

    /// The entries of `[pii]`.
    pub(super) const fn pii(&self) -> &Pii {
        &self.pii
    }

    /// Whether the entries match no column.
    pub(super) fn is_empty(&self) -> bool {
        self.pii.columns.is_empty()
    }

    /// All columns.
    pub(super) fn ids(&self) -> Vec<ColumnId> {
        self.known.keys().copied().collect()
    }

    /// Removes all columns, because their numbers belong to another cluster.
    pub(super) fn clear(&mut self) {
        self.known.clear();
    }

    /// The personal data origin of a column; `None` if it has none.
    pub(super) fn of(&self, table: u32, number: i16) -> Option<&PersonalOrigin> {
        self.known.get(&(table, number))
    }

    /// Whether a table has any such column.
    pub(super) fn has(&self, table: u32) -> bool {
        self.known.range((table, i16::MIN)..=(table, i16::MAX)).next().is_some()
    }

    /// Notes the columns of a table in one of its states. Returns whether any is new.
    pub(super) fn note(&mut self, table: u32, state: &TableState) -> bool {
        if self.is_empty() {
            return false;
        }
        let before = self.known.len();
        let mut changed = false;
        for column in &state.columns {
            if self.pii.names(&state.schema, &state.table, &column.name) {
                changed |= self.own(table, column, state);
            }
            if let Some(origin) = column.inherits.iter().find_map(|ancestor| self.inherited(ancestor, column))
            {
                self.add((table, column.number), Inheritance::Ancestor, &origin);
            }
        }
        for column in &state.columns {
            let tagged = column.computed.iter().find_map(|number| self.of(table, *number)).cloned();
            if let Some(origin) = tagged {
                self.add((table, column.number), Inheritance::Computed, &origin);
            }
        }
        changed || self.known.len() != before
    }

    fn own(&mut self, table: u32, column: &ColumnState, state: &TableState) -> bool {
        let id = (table, column.number);
        if self.known.get(&id).is_some_and(|known| known.how == Inheritance::Former) {
            return false;
        }
        let origin = PersonalOrigin {
            how: Inheritance::Former,
            schema: state.schema.clone(),
            table: state.table.clone(),
            column: column.name.clone(),
        };
        self.known.insert(id, origin);
        true
    }

    fn inherited(
        &self,
        ancestor: &(u32, i16, String, String),
        column: &ColumnState,
    ) -> Option<PersonalOrigin> {
        let (table, number, schema, name) = ancestor;
        if let Some(known) = self.of(*table, *number) {
            return Some(known.clone());
        }
        self.pii.names(schema, name, &column.name).then(|| PersonalOrigin {
            how: Inheritance::Ancestor,
            schema: schema.clone(),
            table: name.clone(),
            column: column.name.clone(),
        })
    }

    fn add(&mut self, id: ColumnId, how: Inheritance, origin: &PersonalOrigin) {
        if self.known.len() < COLUMNS_MAX {
            self.known.entry(id).or_insert_with(|| PersonalOrigin { how, ..origin.clone() });
        }
    }

    /// Notes the columns of children and partitions, because they may leave their table later.
    pub(super) fn note_heirs(&mut self, heirs: &[Heir]) -> bool {
        let before = self.known.len();
        for Heir { column, ancestor } in heirs {
            if let Some(origin) = self.known.get(ancestor).cloned() {
                self.add(*column, Inheritance::Ancestor, &origin);
            }
        }
        self.known.len() != before
    }

    /// Notes the columns of a table that was created like another one, whose columns have these numbers.
    pub(super) fn note_copy(&mut self, copy: u32, numbers: &[i16], (table, like): (u32, &[i16])) -> bool {
        let before = self.known.len();
        for (number, like) in numbers.iter().zip(like) {
            if let Some(origin) = self.of(table, *like).cloned() {
                self.add((copy, *number), Inheritance::Copy, &origin);
            }
        }
        self.known.len() != before
    }
}

impl TableState {
    /// The numbers of columns with these names, in the order of a row; `None` if this state does not have
    /// them in that order. The flag is whether they are all the columns that it sends; otherwise it has later
    /// ones too.
    pub(super) fn numbers<'a>(&self, names: impl Iterator<Item = &'a str>) -> Option<(Vec<i16>, bool)> {
        let (mut numbers, mut last) = (Vec::new(), 0);
        for name in names {
            let number = self.columns.iter().find(|column| column.name == name)?.number;
            if number <= last {
                return None;
            }
            last = number;
            numbers.push(number);
        }
        let sent = self.columns.iter().filter(|column| column.listed && !column.generated);
        let mut missing = sent.map(|column| column.number).filter(|number| !numbers.contains(number));
        let first = missing.next();
        first.is_none_or(|first| first > last).then_some((numbers, first.is_none()))
    }

    /// The names and types of its columns, by which a copy is recognised.
    pub(super) fn shape(&self) -> impl Iterator<Item = (&str, u32)> {
        self.columns.iter().map(|column| (column.name.as_str(), column.type_oid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(columns: &[(i16, &str)]) -> TableState {
        let column = |(number, name): &(i16, &str)| {
            serde_json::json!({
                "number": number, "name": name, "type": 25, "modifier": -1, "not_null": false, "generated": false, "listed": true,
            })
        };
        let state = serde_json::json!({
            "schema": "lab", "table": "people", "identity": "d", "key": [], "key_index": 0, "lesser": [], "whole": [],
            "columns": columns.iter().map(column).collect::<Vec<_>>(),
        });
        serde_json::from_value(state).unwrap()
    }

    /// Columns are in the order of their numbers, so exchanged names are detected.
    #[test]
    fn state_is_known_by_names_in_order() {
        let known = state(&[(1, "id"), (2, "email"), (5, "note")]);
        for (names, expected) in [
            (&["id", "email", "note"][..], Some((vec![1, 2, 5], true))),
            (&["id", "email"], Some((vec![1, 2], false))),
            (&["id", "note"], None),
            (&["id", "note", "email"], None),
            (&["id", "email", "note", "more"], None),
            (&["id", "mail", "note"], None),
        ] {
            assert_eq!(known.numbers(names.iter().copied()), expected, "{names:?}");
        }
    }

    #[test]
    fn tag_follows_the_number() {
        let pii = |entries: &[&str]| Pii {
            columns: entries.iter().map(|text| (*text).to_owned()).collect(),
            ..Pii::default()
        };
        let mut columns = PersonalColumns::new(pii(&["lab.people.email"]), Vec::new());
        assert!(columns.note(7, &state(&[(1, "id"), (2, "email")])));
        assert!(columns.note(7, &state(&[(1, "id"), (2, "mail"), (3, "email")])));
        assert!(!columns.note(7, &state(&[(1, "id"), (2, "mail"), (3, "email")])));
        let origins = |columns: &PersonalColumns| -> Vec<ColumnId> { columns.ids() };
        assert_eq!(origins(&columns), [(7, 2), (7, 3)]);
        assert!(columns.note_heirs(&[Heir { column: (8, 4), ancestor: (7, 2) }]));
        assert_eq!(columns.of(8, 4).unwrap().how, Inheritance::Ancestor);
        // If an entry is removed, the columns that it tagged lose the tag.
        let kept = PersonalColumns::new(pii(&["lab.people.email"]), columns.lines());
        assert_eq!(origins(&kept), origins(&columns));
        for entries in [&["lab.people.phone"][..], &["lab.people.email", "!lab.people.email"]] {
            assert_eq!(origins(&PersonalColumns::new(pii(entries), columns.lines())), []);
        }
    }
}
