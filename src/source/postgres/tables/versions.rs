//! Earlier and current definitions of one table or type, and the choice of the one for an earlier change.
//! Does no I/O.

use std::ops::RangeInclusive;
use std::sync::Arc;

use super::look::LookedAt;
use super::state::{TableState, TypeState, precedes};
use crate::source::postgres::pgoutput::Announced;

/// Most stored states of a table or type. Older ones are forgotten.
const VERSIONS_MAX: usize = 8;

/// A definition, and the looks that found it.
#[derive(Clone, Debug)]
pub(super) struct StateVersion<T> {
    /// The state.
    pub state: T,
    /// The first look that found it.
    pub first: Arc<LookedAt>,
    /// The last look that found it.
    pub last: Arc<LookedAt>,
}

/// The states of a table or type, the oldest first; never empty.
#[derive(Clone, Debug)]
pub(super) struct Versions<T>(Vec<StateVersion<T>>);

impl<T> Versions<T> {
    /// With a single state.
    pub(super) fn new(state: T, at: &Arc<LookedAt>) -> Self {
        Self(vec![StateVersion { state, first: Arc::clone(at), last: Arc::clone(at) }])
    }

    /// From stored versions; `None` if there are none.
    pub(super) fn of(versions: Vec<StateVersion<T>>) -> Option<Self> {
        (!versions.is_empty()).then_some(Self(versions))
    }

    /// All states.
    pub(super) fn all(&self) -> &[StateVersion<T>] {
        &self.0
    }

    /// The definition that the last look found.
    pub(super) fn newest(&self) -> Option<&StateVersion<T>> {
        self.0.last()
    }

    /// Notes the result of a look. Returns whether it differs from the last one.
    pub(super) fn note(&mut self, state: T, at: &Arc<LookedAt>, is_same: impl Fn(&T, &T) -> bool) -> bool {
        if let Some(last) = self.0.last_mut().filter(|last| is_same(&last.state, &state)) {
            last.last = Arc::clone(at);
            return false;
        }
        if self.0.len() >= VERSIONS_MAX {
            self.0.remove(0);
        }
        self.0.push(StateVersion { state, first: Arc::clone(at), last: Arc::clone(at) });
        true
    }

    /// Notes that a later look found no difference.
    pub(super) fn confirm(&mut self, at: &Arc<LookedAt>) {
        if let Some(last) = self.0.last_mut() {
            last.last = Arc::clone(at);
        }
    }
}

/// The time of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowMoment {
    /// Id of its transaction.
    pub xid: u32,
    /// LSN of the change.
    pub wal: u64,
}

/// The definition of a table at the time of a change, as far as known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PickedState<'a> {
    /// The state that the announcement belongs to; `None` if no look has found it.
    pub state: Option<&'a TableState>,
    /// Names of the key's columns; `None` if unknown.
    pub key: Option<Vec<String>>,
    /// Whether two states were possible and neither is proven.
    pub is_guess: bool,
}

impl Versions<Option<TableState>> {
    /// The states that may have been in force. A table cannot be altered while another transaction with
    /// changes of it is open. So a state in a snapshot that does not see the transaction was in force before
    /// it or during it. A state that was first found in a snapshot that sees it was not in force earlier.
    fn possible(&self, moment: RowMoment) -> RangeInclusive<usize> {
        let versions = self.all();
        let not_before =
            |(_, version): &(usize, &StateVersion<_>)| version.first.sees(moment.xid) == Some(false);
        let lowest = versions.iter().enumerate().skip(1).rev().find(not_before).map_or(0, |(at, _)| at);
        let seen = |(_, version): &(usize, &StateVersion<_>)| version.last.sees(moment.xid) == Some(true);
        let highest = versions.iter().enumerate().find(seen).map_or(versions.len() - 1, |(at, _)| at);
        lowest..=highest.max(lowest)
    }

    /// The state in which a table was announced. `is_expected`: the server had another reason to announce it
    /// than a changed definition.
    pub(super) fn pick(
        &self,
        announced: &Announced,
        moment: RowMoment,
        is_expected: bool,
    ) -> PickedState<'_> {
        let possible = self.possible(moment);
        let states: Vec<&TableState> = self.states(&possible).collect();
        let fitting = |loosely: bool| -> Vec<&TableState> {
            states.iter().copied().filter(|state| state.fits(announced, loosely)).collect()
        };
        let mut fits = fitting(false);
        if fits.is_empty() {
            fits = fitting(true);
        }
        let Some((first, later)) = fits.split_first() else {
            let (key, is_guess) = self.key_between(&states, announced, moment);
            return PickedState { state: None, key, is_guess };
        };
        let mut state = *first;
        let mut is_guess = false;
        for next in later {
            if state.key == next.key {
                state = next;
                continue;
            }
            let before = state.newest;
            let is_written = |newest: &u32| before.is_none_or(|before| precedes(before, *newest));
            if next.newest.filter(is_written).is_some_and(|newest| precedes(newest, moment.xid)) {
                state = next;
                continue;
            }
            // The change of the key may be later than this row, or may have been made in its transaction,
            // before or after it.
            is_guess = true;
            if is_expected {
                break;
            }
            state = next;
        }
        // Before the first look there may have been another key, unless the table was created with this one.
        let is_oldest = self.all().first().is_some_and(|oldest| {
            oldest.state.as_ref().is_some_and(|oldest| std::ptr::eq(oldest, state))
                && oldest.first.sees(moment.xid) == Some(true)
        });
        let is_younger = state.created != Some(moment.xid)
            && state.key_newest.is_some_and(|newest| !precedes(newest, moment.xid));
        let key = (!is_oldest || !is_younger).then(|| state.key.clone());
        PickedState { state: Some(state), key, is_guess }
    }

    /// The states of a range, without those in which the table did not exist.
    fn states(&self, range: &RangeInclusive<usize>) -> impl Iterator<Item = &TableState> {
        let versions = self.all().get(range.clone()).unwrap_or_default();
        versions.iter().filter_map(|version| version.state.as_ref())
    }

    /// All definitions that may have been in force. A fact in which they differ is unknown.
    pub(super) fn in_force(&self, moment: RowMoment) -> Vec<&TableState> {
        self.states(&self.possible(moment)).collect()
    }

    /// The first state that may have been in force.
    pub(super) fn earliest(&self, moment: RowMoment) -> Option<&StateVersion<Option<TableState>>> {
        self.all().get(*self.possible(moment).start())
    }

    /// The key of a table in a form that no look has found. It is known if the key before and the key after
    /// agree, and certain if it is older than the change and still exists after it.
    fn key_between(
        &self,
        states: &[&TableState],
        announced: &Announced,
        moment: RowMoment,
    ) -> (Option<Vec<String>>, bool) {
        let (Some(before), Some(after)) = (states.first(), states.last()) else { return (None, false) };
        if before.key_index != 0 && before.key_index == after.key_index && self.all().len() > 1 {
            // The index is the same, so the columns are the same. Each has its earlier or its later name.
            let name = |(earlier, later): (&String, &String)| {
                let (earlier, later) = (before.has_in(earlier, announced), after.has_in(later, announced));
                match (earlier, later) {
                    (Some(earlier), Some(later)) => (earlier == later).then(|| earlier.to_owned()),
                    (found, None) | (None, found) => found.map(str::to_owned),
                }
            };
            return (before.key.iter().zip(&after.key).map(name).collect(), false);
        }
        let is_there = self.newest().is_some_and(|newest| newest.state.is_some());
        let is_older = after.key_newest.is_some_and(|newest| precedes(newest, moment.xid));
        let lasted = is_there && is_older;
        let agree = self.all().len() > 1 && before.key == after.key;
        let has_key = after.key.iter().all(|name| after.has_in(name, announced).is_some());
        let known = (agree || lasted) && !after.key.is_empty() && has_key;
        (known.then(|| after.key.clone()), known && !lasted)
    }
}

impl Versions<TypeState> {
    /// Whether a change is older than all stored states, and the composite was altered since, or in the same
    /// transaction. Then its form is unknown.
    pub(super) fn is_before_oldest(&self, moment: RowMoment) -> bool {
        self.all().first().is_some_and(|oldest| {
            let (state, xid) = (&oldest.state, moment.xid);
            let is_altered =
                state.was_altered_after(xid) || state.was_altered_by(xid) && !state.was_made_by(xid);
            moment.wal <= oldest.first.after && is_altered
        })
    }

    /// The states that a type may have had at a change, the likeliest first. ALTER TYPE locks the type, but
    /// not against transactions that use it. So WAL positions decide; and between two looks, the transactions
    /// that wrote its parts. No look before the end of the change's own transaction has found what that
    /// transaction altered.
    pub(super) fn at(&self, moment: RowMoment) -> Vec<TypeState> {
        let versions = self.all();
        let lowest = versions.iter().rposition(|version| moment.wal > version.first.after).unwrap_or(0);
        let highest = versions
            .iter()
            .position(|version| moment.wal < version.last.before)
            .unwrap_or(versions.len() - 1)
            .max(versions.iter().rposition(|version| version.state.was_altered_by(moment.xid)).unwrap_or(0))
            .max(lowest);
        let Some(possible) = versions.get(lowest..=highest) else { return Vec::new() };
        let mut found: Vec<TypeState> = Vec::new();
        let mut chosen = 0;
        for (at, version) in possible.iter().enumerate().skip(1) {
            let newest = version.state.newest();
            if newest.is_some_and(|newest| newest != moment.xid && precedes(newest, moment.xid)) {
                chosen = at;
            }
        }
        if let (Some(older), Some(newer)) = (possible.get(chosen), possible.get(chosen + 1)) {
            for between in newer.state.as_of(&older.state, moment.xid) {
                if !found.contains(&between) {
                    found.push(between);
                }
            }
        }
        // The nearest state first, newer ones before older ones.
        let newer = possible.iter().skip(chosen);
        let older = possible.iter().take(chosen).rev();
        for version in newer.chain(older) {
            if !found.contains(&version.state) {
                found.push(version.state.clone());
            }
        }
        found
    }
}

#[cfg(test)]
#[path = "versions_tests.rs"]
mod tests;
