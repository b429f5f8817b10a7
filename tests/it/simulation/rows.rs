//! What the transactions of the world do to two tables: the truth that a consumer of the stream must end with.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use crate::model::world::Txn;

/// A row of one of the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RowKey {
    pub table: u8,
    pub id: u8,
}

/// A value says who wrote it: the number of the transaction, and the ordinal of the change in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Written(u64, u32);

impl Written {
    /// As the row has it; of different lengths.
    pub fn text(self) -> String {
        let filling = usize::try_from(self.0 % 7).unwrap() * 20;
        format!("{}.{} {}", self.0, self.1, "x".repeat(filling))
    }

    /// What [`text`](Self::text) has made, and nothing else.
    pub fn read(text: &str) -> Option<Self> {
        let (number, index) = text.split_once(' ')?.0.split_once('.')?;
        let written = Self(number.parse().ok()?, index.parse().ok()?);
        (written.text() == text).then_some(written)
    }
}

/// What one change does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Insert(RowKey, Written),
    /// With the old key, if it changes.
    Update(Option<RowKey>, RowKey, Written),
    Delete(RowKey),
    /// A change of a table that no event is made of.
    Foreign,
}

/// The tables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rows(pub BTreeMap<RowKey, Written>);

impl Rows {
    /// The tables after these transactions.
    pub fn after<'a>(txns: impl IntoIterator<Item = &'a Txn>) -> Self {
        let mut rows = Self::default();
        for txn in txns {
            for index in 0..txn.changes.len() {
                rows.apply(txn, index);
            }
        }
        rows
    }

    /// What this change does to the tables as they are, which it then has done. Depends on nothing else, so that a server that
    /// sends it again sends the same.
    pub fn apply(&mut self, txn: &Txn, index: usize) -> Step {
        let key = |key: u8| RowKey { table: key % 2, id: key + 6 * u8::try_from(txn.uid % 4).unwrap() };
        let Some(&first) = txn.changes[index].first() else { return Step::Foreign };
        let row = key(first);
        let value = Written(txn.uid, u32::try_from(index).unwrap());
        if let Entry::Vacant(free) = self.0.entry(row) {
            free.insert(value);
            return Step::Insert(row, value);
        }
        let other = txn.changes[index].get(1).map(|&second| RowKey { table: row.table, ..key(second) });
        if let Some(other) = other.filter(|other| !self.0.contains_key(other)) {
            self.0.remove(&row);
            self.0.insert(other, value);
            return Step::Update(Some(row), other, value);
        }
        if (txn.uid + index as u64).is_multiple_of(3) {
            self.0.remove(&row);
            return Step::Delete(row);
        }
        self.0.insert(row, value);
        Step::Update(None, row, value)
    }
}

/// Rows that these transactions touch, in the history that they are part of.
pub fn touched<'a>(history: &'a [Txn], those: impl Fn(&'a Txn) -> bool) -> BTreeSet<RowKey> {
    let (mut rows, mut found) = (Rows::default(), BTreeSet::new());
    for txn in history {
        for index in 0..txn.changes.len() {
            let step = rows.apply(txn, index);
            if those(txn) {
                found.extend(keys(&step));
            }
        }
    }
    found
}

/// The rows of a step.
pub fn keys(step: &Step) -> Vec<RowKey> {
    match step {
        Step::Foreign => Vec::new(),
        Step::Insert(key, _) | Step::Update(None, key, _) | Step::Delete(key) => vec![*key],
        Step::Update(Some(old), new, _) => vec![*old, *new],
    }
}
