//! Counts per event type. A name is stored once, and a record stores only its number.
//!
//! An outcome is counted when the progress of its lane passes the record. The count is final when the record
//! leaves its window. Until then it is counted as *ahead*, again for each report, so that the counts of a
//! report match its progress. A record that progress had passed before a reader read it was counted earlier.
//! Received events are counted separately, when the watermark passes them. An event that is not sent counts
//! only as received.
//!
//! Invariants: each outcome is counted once; a name is kept as long as a window has a record of its type.

use std::collections::HashMap;
use std::sync::Arc;

use super::types::Outcome;
use crate::buffer::checkpoint::Totals;
use crate::event::KeyHash;
use crate::position::FrameNo;

/// Idle names kept for the next record of the type. The rows of an outbox may have any number of types.
const IDLE_MAX: usize = 1024;

/// Number of an event type, stored with each record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TypeId(u32);

/// A finished record that the main reader has passed while another reader hands over its section. It is
/// counted when the hand-over is finished.
#[derive(Debug)]
pub(super) struct HandedOver {
    pub(super) hash: KeyHash,
    pub(super) event_type: TypeId,
    pub(super) outcome: Outcome,
    pub(super) frame: FrameNo,
}

#[derive(Debug)]
struct Account {
    name: Arc<str>,
    totals: Totals,
    /// Outcomes of records that are still in a window.
    ahead: Totals,
    /// Number of records of this type in the windows.
    open: u64,
}

/// The counts of all windows.
#[derive(Debug, Default)]
pub(super) struct EventCounts {
    accounts: Vec<Option<Account>>,
    free: Vec<u32>,
    by_name: HashMap<Arc<str>, TypeId>,
    last: Option<TypeId>,
    handed_over: Vec<HandedOver>,
    /// The last frame with a final count.
    last_frame: FrameNo,
}

impl EventCounts {
    /// Starts after `last_frame`: everything up to it was counted earlier.
    pub(super) fn starting_at(last_frame: FrameNo) -> Self {
        Self { last_frame, ..Self::default() }
    }

    /// The last frame with a final count.
    pub(super) const fn last_frame(&self) -> FrameNo {
        self.last_frame
    }

    /// Notes that a record of this type has entered a window.
    pub(super) fn open(&mut self, name: &str) -> TypeId {
        let same = self.last.filter(|id| self.account(*id).is_some_and(|account| *account.name == *name));
        let id = same.or_else(|| self.by_name.get(name).copied()).unwrap_or_else(|| self.add(name));
        self.last = Some(id);
        if let Some(account) = self.account_mut(id) {
            account.open += 1;
        }
        id
    }

    /// Counts a record that the watermark has passed.
    pub(super) fn receive(&mut self, id: TypeId) {
        if let Some(account) = self.account_mut(id) {
            account.totals.received += 1;
        }
    }

    /// Counts an outcome for good: progress has passed the record and does not go back.
    pub(super) fn settle(&mut self, id: TypeId, outcome: Outcome, frame: FrameNo) {
        self.last_frame = self.last_frame.max(frame);
        if let Some(account) = self.account_mut(id) {
            count(&mut account.totals, outcome);
        }
    }

    /// Postpones the count of a record until [`end_hand_over`](Self::end_hand_over).
    pub(super) fn hand_over(&mut self, record: HandedOver) {
        self.handed_over.push(record);
    }

    /// Ends the hand-over of the sections with these hashes. If `done`, their records are counted; otherwise
    /// the other reader keeps the sections and counts them.
    pub(super) fn end_hand_over(&mut self, is_of: impl Fn(KeyHash) -> bool, done: bool) {
        let mut all = std::mem::take(&mut self.handed_over);
        for one in all.extract_if(.., |one| is_of(one.hash)) {
            if done {
                self.settle(one.event_type, one.outcome, one.frame);
            }
            self.leave(one.event_type);
        }
        self.handed_over = all;
    }

    /// Resets the counts of records in the windows.
    pub(super) fn begin_ahead(&mut self) {
        self.accounts.iter_mut().flatten().for_each(|account| account.ahead = Totals::default());
    }

    /// Counts an outcome that progress covers while its record is still in a window.
    pub(super) fn count_ahead(&mut self, id: TypeId, outcome: Outcome) {
        if let Some(account) = self.account_mut(id) {
            count(&mut account.ahead, outcome);
        }
    }

    /// The counts since [`begin_ahead`](Self::begin_ahead).
    pub(super) fn ahead(&self) -> Vec<(Arc<str>, Totals)> {
        let ahead = self.accounts.iter().flatten().filter(|account| account.ahead != Totals::default());
        ahead.map(|account| (Arc::clone(&account.name), account.ahead)).collect()
    }

    /// Notes that a record has left its window.
    pub(super) fn leave(&mut self, id: TypeId) {
        if let Some(account) = self.account_mut(id) {
            account.open -= 1;
        }
    }

    /// The counts since the last call, without types that have none.
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
                account.ahead = Totals::default();
                self.by_name.remove(&account.name);
                self.free.push(index);
                *slot = None;
            }
        }
        taken
    }

    fn add(&mut self, name: &str) -> TypeId {
        let name: Arc<str> = name.into();
        let (totals, ahead) = (Totals::default(), Totals::default());
        let account = Some(Account { name: Arc::clone(&name), totals, ahead, open: 0 });
        let index = self.free.pop().unwrap_or_else(|| {
            self.accounts.push(None);
            u32::try_from(self.accounts.len() - 1).expect("a window holds fewer types than 2^32")
        });
        if let Some(slot) = self.accounts.get_mut(index as usize) {
            *slot = account;
        }
        self.by_name.insert(name, TypeId(index));
        TypeId(index)
    }

    /// The name of a type with a record in a window.
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

const fn count(totals: &mut Totals, outcome: Outcome) {
    match outcome {
        Outcome::Published => totals.published += 1,
        Outcome::Quarantined => totals.quarantined += 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn totals(published: u64, quarantined: u64) -> Totals {
        Totals { received: 0, published, quarantined }
    }

    #[test]
    fn event_counts_are_drained_once_by_type() {
        let mut counts = EventCounts::default();
        let ids: Vec<_> = ["a", "b", "a", "a"].map(|name| counts.open(name)).into();
        counts.settle(ids[0], Outcome::Published, FrameNo(1));
        counts.settle(ids[1], Outcome::Quarantined, FrameNo(9));
        counts.settle(ids[2], Outcome::Published, FrameNo(2));
        counts.receive(ids[2]);
        let received = Totals { received: 1, ..totals(2, 0) };
        assert_eq!(counts.take(), [("a".into(), received), ("b".into(), totals(0, 1))]);
        assert_eq!(counts.take(), []);
        counts.settle(ids[3], Outcome::Published, FrameNo(3));
        assert_eq!(counts.take(), [("a".into(), totals(1, 0))]);
        assert_eq!(counts.last_frame(), FrameNo(9));
    }

    #[test]
    fn counts_ahead_are_absolute() {
        let mut counts = EventCounts::default();
        let id = counts.open("a");
        for outcomes in [&[Outcome::Published, Outcome::Quarantined][..], &[Outcome::Published], &[]] {
            counts.begin_ahead();
            for outcome in outcomes {
                counts.count_ahead(id, *outcome);
            }
            let (all, quarantined) = (outcomes.len() as u64, u64::from(outcomes.len() > 1));
            let expected = (all > 0).then(|| ("a".into(), totals(all - quarantined, quarantined)));
            assert_eq!(counts.ahead(), Vec::from_iter(expected));
        }
    }

    #[test]
    fn unbounded_type_names_are_not_kept() {
        let mut counts = EventCounts::default();
        let kept = counts.open("kept");
        for round in 0..10 {
            for n in 0..2 * IDLE_MAX {
                let id = counts.open(&format!("type {round} {n}"));
                counts.settle(id, Outcome::Published, FrameNo(1));
                counts.leave(id);
            }
            assert_eq!(counts.take().len(), 2 * IDLE_MAX);
        }
        assert!(counts.accounts.len() <= 4 * IDLE_MAX, "{}", counts.accounts.len());
        assert_eq!(&*counts.name(kept), "kept");
    }
}
