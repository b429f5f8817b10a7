//! Per event type, how many events were appended to the log and how many changes rules have filtered, since
//! the process started. The number of types is bounded.

use std::collections::HashMap;

use crate::buffer::ledger::{EVENT_TYPES_MAX, OTHER_TYPES};

/// The counts of one event type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TypeCounts {
    /// Events appended to the log.
    pub received: u64,
    /// Changes that a rule selects by table, and excludes by its conditions.
    pub filtered: u64,
}

/// The counts of all types since the process started.
#[derive(Clone, Debug, Default)]
pub struct ReceivedCounts {
    types: Vec<(Box<str>, TypeCounts)>,
    by_name: HashMap<Box<str>, usize>,
    /// Index of the type that was counted last: events of one type usually come in a row.
    last: usize,
}

impl ReceivedCounts {
    /// Counts an appended event.
    pub fn receive(&mut self, event_type: &str) {
        self.add(event_type, TypeCounts { received: 1, filtered: 0 });
    }

    /// Counts filtered changes.
    pub fn filter(&mut self, event_type: &str, changes: u64) {
        self.add(event_type, TypeCounts { received: 0, filtered: changes });
    }

    /// Adds the counts of `other` and sets those to zero.
    pub fn take(&mut self, other: &mut Self) {
        for (name, counts) in &mut other.types {
            let counts = std::mem::take(counts);
            if counts != TypeCounts::default() {
                self.add(name, counts);
            }
        }
    }

    /// The types with their counts.
    pub fn iter(&self) -> impl Iterator<Item = (&str, TypeCounts)> {
        self.types.iter().map(|(name, counts)| (&**name, *counts))
    }

    /// The counts of one type.
    pub fn get(&self, event_type: &str) -> TypeCounts {
        let index = self.by_name.get(event_type);
        index.and_then(|index| self.types.get(*index)).map(|(_, counts)| *counts).unwrap_or_default()
    }

    fn add(&mut self, event_type: &str, counts: TypeCounts) {
        self.last = self.index_of(event_type);
        if let Some((_, sum)) = self.types.get_mut(self.last) {
            sum.received += counts.received;
            sum.filtered += counts.filtered;
        }
    }

    fn index_of(&mut self, event_type: &str) -> usize {
        if self.types.get(self.last).is_some_and(|(name, _)| **name == *event_type) {
            return self.last;
        }
        if let Some(index) = self.by_name.get(event_type) {
            return *index;
        }
        let is_full = self.types.len() >= EVENT_TYPES_MAX && event_type != OTHER_TYPES;
        if is_full {
            return self.index_of(OTHER_TYPES);
        }
        self.types.push((event_type.into(), TypeCounts::default()));
        self.by_name.insert(event_type.into(), self.types.len() - 1);
        self.types.len() - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_taken_once_and_types_are_bounded() {
        let (mut all, mut new) = (ReceivedCounts::default(), ReceivedCounts::default());
        for n in 0..EVENT_TYPES_MAX + 10 {
            new.receive(&format!("type {n}"));
        }
        new.filter("type 3", 2);
        all.take(&mut new);
        all.take(&mut new);
        new.receive("type 3");
        all.take(&mut new);
        assert_eq!(all.get("type 3"), TypeCounts { received: 2, filtered: 2 });
        assert_eq!(all.get(OTHER_TYPES).received, 10);
        assert_eq!(all.iter().count(), EVENT_TYPES_MAX + 1);
        assert_eq!(all.iter().map(|(_, counts)| counts.received).sum::<u64>(), EVENT_TYPES_MAX as u64 + 11);
    }
}
