//! Compares, key by key, the newest event with the row of the database, and reports the differences. Does no
//! I/O.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::entry::{AuditEntry, Digests, EntryKind, FieldNames};
use super::line::digest;
use super::scope::AuditScope;
use super::sorter::SortEntry;

/// How a key differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DifferenceKind {
    /// The database has a row, and no event shows it.
    Missing,
    /// The newest event has other values than the row.
    Stale,
    /// The newest event shows a row that the database does not have.
    Extra,
    /// Two different events have the same sequence.
    Conflict,
}

impl DifferenceKind {
    /// The name of this kind in the report.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Stale => "stale",
            Self::Extra => "extra",
            Self::Conflict => "conflict",
        }
    }
}

/// A key that differs. It contains no values of rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// How the key differs.
    pub kind: DifferenceKind,
    /// Which events differ: `lab.plates.*`, or the type of a rule's events.
    pub events: String,
    /// The `subject` of the events.
    pub key: String,
    /// The fields that differ, for [`DifferenceKind::Stale`].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<String>,
}

/// The counts of one scope.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ScopeCounts {
    /// `lab.plates.*`, or the type of a rule's events.
    pub events: String,
    /// What is compared, in words.
    pub compared: String,
    /// Rows of the database that should have an event.
    pub rows: u64,
    /// Keys for which the archive has a row.
    pub archived: u64,
    /// Rows that are equal to their newest event.
    pub equal: u64,
    /// Differences, by kind.
    pub differences: BTreeMap<DifferenceKind, u64>,
    /// Repeated deliveries of an event, equal byte for byte. Delivery is at least once, so they are not a
    /// difference.
    pub repeated: u64,
    /// Rows without an event, whose events may be older than the oldest that was read.
    pub unseen: u64,
    /// Rows that share their subject with other rows, so that no event belongs to exactly one of them.
    pub shared: u64,
    /// Keys that only one side has and that cannot be decided, because these events do not show deletes or
    /// changed keys.
    pub undecided: u64,
    /// Fields that could not be compared, with the number of rows whose event does not have the field.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub not_compared: BTreeMap<String, u64>,
}

/// The position up to which events count.
#[derive(Clone, Copy, Debug)]
pub(super) struct Until {
    /// The newest epoch.
    pub(super) epoch: u16,
    /// In that epoch, transactions that commit before this one.
    pub(super) commit: u64,
}

impl Until {
    /// Whether the transaction of this event is visible in the database's snapshot.
    pub(super) fn includes(self, sequence: u128) -> bool {
        let epoch = sequence >> 112;
        let commit = (sequence >> 48) & u128::from(u64::MAX);
        epoch < u128::from(self.epoch)
            || (epoch == u128::from(self.epoch) && commit < u128::from(self.commit))
    }
}

/// The scopes, position and options of a comparison.
#[derive(Debug)]
pub(super) struct AuditQuestion<'a> {
    pub(super) scopes: &'a [AuditScope],
    pub(super) names: &'a FieldNames,
    pub(super) until: Until,
    pub(super) truncated: &'a BTreeSet<u128>,
    /// Whether the events that were read contain at least one of every row.
    pub(super) complete: bool,
    /// Whether no UPDATE of the table changes a key.
    pub(super) fixed_keys: bool,
    /// How many keys to list of each kind of difference.
    pub(super) list: usize,
}

/// Receives the sorted entries and returns the result.
#[derive(Debug)]
pub(super) struct KeyComparison<'a> {
    question: AuditQuestion<'a>,
    /// Sequence of the last truncation before the position; 0 without one.
    emptied: u128,
    null: u128,
    key: Option<KeyState>,
    counts: Vec<ScopeCounts>,
    listed: Vec<Difference>,
    /// Events after the position.
    later: u64,
}

/// The state of one key while its entries are read.
#[derive(Debug, Default)]
struct KeyState {
    key: Vec<u8>,
    last: Option<(u128, u128)>,
    /// The fields of the newest event. `None`: the newest event is a delete, or there is none.
    present: Option<Digests>,
    row: Option<Digests>,
    rows: u64,
    repeated: u64,
    conflict: bool,
}

impl<'a> KeyComparison<'a> {
    pub(super) fn new(question: AuditQuestion<'a>) -> Self {
        let counted = |sequence: &&u128| question.until.includes(**sequence);
        let emptied = question.truncated.iter().rev().find(counted).copied().unwrap_or_default();
        let of = |scope: &AuditScope| ScopeCounts {
            events: scope.events.clone(),
            compared: scope.compared().to_owned(),
            ..ScopeCounts::default()
        };
        let counts = question.scopes.iter().map(of).collect();
        let null = digest(b"null");
        Self { question, emptied, null, key: None, counts, listed: Vec::new(), later: 0 }
    }

    /// Processes the next entry.
    pub(super) fn take(&mut self, next: SortEntry) {
        let SortEntry { key, sequence, body } = next;
        let Some(entry) = AuditEntry::read(&body) else { return };
        if self.key.as_ref().is_none_or(|state| state.key != key) {
            self.end_of_key();
            self.key = Some(KeyState { key, ..KeyState::default() });
        }
        let Some(state) = &mut self.key else { return };
        if entry.kind == EntryKind::Row {
            state.rows += 1;
            state.row = Some(entry.fields);
        } else if self.question.until.includes(sequence) {
            state.event(sequence, entry);
        } else {
            self.later += 1;
        }
    }

    /// The counts, the differences, and the number of events after the position.
    pub(super) fn finish(mut self) -> (Vec<ScopeCounts>, Vec<Difference>, u64) {
        self.end_of_key();
        (self.counts, self.listed, self.later)
    }

    fn end_of_key(&mut self) {
        let Some(state) = self.key.take() else { return };
        let Some((group, subject)) = state.key.split_first() else { return };
        let at = usize::from(*group);
        let (Some(scope), Some(counts)) = (self.question.scopes.get(at), self.counts.get_mut(at)) else {
            return;
        };
        counts.rows += state.rows;
        counts.repeated += state.repeated;
        let mut found = Vec::new();
        if state.conflict {
            found.push((DifferenceKind::Conflict, Vec::new()));
        }
        let newest = state.last.map(|(sequence, _)| sequence);
        let present = state.present.filter(|_| newest > Some(self.emptied));
        counts.archived += u64::from(present.is_some());
        match (state.row, present) {
            (None, None) => {}
            (None, Some(_)) if scope.deletes => found.push((DifferenceKind::Extra, Vec::new())),
            (None, Some(_)) => counts.undecided += 1,
            _ if state.rows > 1 => counts.shared += state.rows,
            (Some(_), None) if newest.is_none() && !self.question.complete => counts.unseen += 1,
            // An UPDATE of the key moves a row to a subject for which there is no INSERT event.
            (Some(_), None) if !scope.values && !self.question.fixed_keys => counts.undecided += 1,
            (Some(_), None) => found.push((DifferenceKind::Missing, Vec::new())),
            (Some(_), Some(_)) if !scope.values => counts.equal += 1,
            (Some(row), Some(event)) => {
                let stale = compare(&row, &event, self.null, |field| {
                    *counts.not_compared.entry(self.question.names.name(field).to_owned()).or_default() += 1;
                });
                if stale.is_empty() {
                    counts.equal += 1;
                } else {
                    found.push((DifferenceKind::Stale, stale));
                }
            }
        }
        for (kind, fields) in found {
            let count = counts.differences.entry(kind).or_default();
            *count += 1;
            if *count <= self.question.list as u64 {
                self.listed.push(Difference {
                    kind,
                    events: counts.events.clone(),
                    key: String::from_utf8_lossy(subject).into_owned(),
                    fields: fields.iter().map(|field| self.question.names.name(*field).to_owned()).collect(),
                });
            }
        }
    }
}

impl KeyState {
    fn event(&mut self, sequence: u128, entry: AuditEntry) {
        if let Some((last, line)) = self.last
            && last == sequence
        {
            if line == entry.line {
                self.repeated += 1;
            } else {
                self.conflict = true;
            }
            return;
        }
        self.last = Some((sequence, entry.line));
        let before = self.present.take();
        if entry.kind == EntryKind::Deleted {
            return;
        }
        let mut fields = entry.fields;
        // For an unchanged TOASTed value, an earlier event has the value.
        let kept = before.into_iter().flatten().filter(|(field, _)| entry.unavailable.contains(field));
        fields.extend(kept);
        self.present = Some(fields);
    }
}

/// The fields whose values differ. `not_compared` is called with the fields that only one side has.
fn compare(row: &Digests, event: &Digests, null: u128, mut not_compared: impl FnMut(u16)) -> Vec<u16> {
    let of =
        |side: &Digests, field: u16| side.iter().find(|(name, _)| *name == field).map(|(_, value)| *value);
    let mut stale = Vec::new();
    for (field, value) in row {
        match of(event, *field) {
            Some(known) if known == *value => {}
            Some(_) => stale.push(*field),
            // The column was added to the table after the event.
            None if *value == null => {}
            None => not_compared(*field),
        }
    }
    for (field, _) in event {
        if of(row, *field).is_none() {
            not_compared(*field);
        }
    }
    stale
}
