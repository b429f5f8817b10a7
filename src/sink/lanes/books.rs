//! Counts per event type, of what `low` has passed. Names are kept once, so that a record costs a number.

use std::collections::HashMap;
use std::sync::Arc;

use crate::buffer::checkpoint::Totals;

/// Idle names kept for the next record of that type; an outbox may bring names without end.
const IDLE_MAX: usize = 1024;

/// What a record remembers of its event type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TypeId(u32);

#[derive(Debug)]
struct Account {
    name: Arc<str>,
    totals: Totals,
    /// Records of this type in the window.
    open: u64,
}

/// The books of the window.
#[derive(Debug, Default)]
pub(super) struct Books {
    accounts: Vec<Option<Account>>,
    free: Vec<u32>,
    by_name: HashMap<Arc<str>, TypeId>,
    last: Option<TypeId>,
}

impl Books {
    /// A record of this type has entered the window.
    pub(super) fn open(&mut self, name: &str) -> TypeId {
        let same = self.last.filter(|id| self.account(*id).is_some_and(|account| *account.name == *name));
        let id = same.or_else(|| self.by_name.get(name).copied()).unwrap_or_else(|| self.add(name));
        self.last = Some(id);
        if let Some(account) = self.account_mut(id) {
            account.open += 1;
        }
        id
    }

    /// A record has left the window, published or quarantined.
    pub(super) fn close(&mut self, id: TypeId, quarantined: bool) {
        if let Some(account) = self.account_mut(id) {
            account.open -= 1;
            let total =
                if quarantined { &mut account.totals.quarantined } else { &mut account.totals.published };
            *total += 1;
        }
    }

    /// A record has left a window and is counted elsewhere.
    pub(super) fn forget(&mut self, id: TypeId) {
        if let Some(account) = self.account_mut(id) {
            account.open -= 1;
        }
    }

    /// The counts since they were last taken; types without any are left out.
    pub(super) fn take(&mut self) -> Vec<(Arc<str>, Totals)> {
        let crowded = self.by_name.len() > IDLE_MAX;
        let mut taken = Vec::new();
        for (index, slot) in (0u32..).zip(self.accounts.iter_mut()) {
            let Some(account) = slot else { continue };
            let totals = std::mem::take(&mut account.totals);
            if totals != Totals::default() {
                taken.push((Arc::clone(&account.name), totals));
            }
            if crowded && account.open == 0 {
                self.by_name.remove(&account.name);
                self.free.push(index);
                *slot = None;
            }
        }
        taken
    }

    fn add(&mut self, name: &str) -> TypeId {
        let name: Arc<str> = name.into();
        let account = Some(Account { name: Arc::clone(&name), totals: Totals::default(), open: 0 });
        let index = self.free.pop().unwrap_or_else(|| {
            self.accounts.push(None);
            u32::try_from(self.accounts.len() - 1).unwrap_or(u32::MAX)
        });
        if let Some(slot) = self.accounts.get_mut(index as usize) {
            *slot = account;
        }
        self.by_name.insert(name, TypeId(index));
        TypeId(index)
    }

    /// The name of a type that has a record in the window.
    pub(super) fn name(&self, id: TypeId) -> Arc<str> {
        self.account(id).map_or_else(|| "".into(), |account| Arc::clone(&account.name))
    }

    fn account(&self, id: TypeId) -> Option<&Account> {
        self.accounts.get(id.0 as usize)?.as_ref()
    }

    fn account_mut(&mut self, id: TypeId) -> Option<&mut Account> {
        self.accounts.get_mut(id.0 as usize)?.as_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_given_once_under_their_name() {
        let mut books = Books::default();
        let ids: Vec<_> = ["a", "b", "a", "a"].map(|name| books.open(name)).into();
        books.close(ids[0], false);
        books.close(ids[1], true);
        books.close(ids[2], false);
        let totals = |published, quarantined| Totals { published, quarantined };
        assert_eq!(books.take(), [("a".into(), totals(2, 0)), ("b".into(), totals(0, 1))]);
        assert_eq!(books.take(), []);
        books.close(ids[3], false);
        assert_eq!(books.take(), [("a".into(), totals(1, 0))]);
    }

    #[test]
    fn names_without_end_do_not_stay() {
        let mut books = Books::default();
        let kept = books.open("kept");
        for round in 0..10 {
            for n in 0..2 * IDLE_MAX {
                let id = books.open(&format!("type {round} {n}"));
                books.close(id, false);
            }
            assert_eq!(books.take().len(), 2 * IDLE_MAX);
        }
        assert!(books.accounts.len() <= 4 * IDLE_MAX, "{}", books.accounts.len());
        assert_eq!(&*books.name(kept), "kept");
    }
}
