//! What the two ends, the process and the world of one history share.

use std::cell::{Ref, RefCell, RefMut};
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use forebay::buffer::ledger::SharedLedger;
use forebay::daemon::recover::StartRefusal;
use forebay::source::postgres::admit::{SourceRefusal, Wanted};
use tokio::time::Instant;

use super::planted::Planted;
use super::rows::{self, RowKey, Rows};
use super::stream::Stream;
use crate::model::random::Random;
use crate::model::world::{Txn, World};

/// What a history has shown to be wrong.
pub type Violation = String;

/// See the module.
#[derive(Debug)]
pub struct State {
    pub random: Random,
    pub world: World,
    /// The tables of its server as they are.
    pub rows: Rows,
    pub stream: Stream,
    pub planted: Option<Planted>,
    /// No more faults: everything must come through.
    pub quiet: bool,
    /// What stopped the process does not pass: a person must adopt.
    pub refused: bool,
    /// Stops that pass with the next start, and are not judged yet.
    pub restarts: usize,
    pub adopts: usize,
    /// Of the process that runs, or ran last.
    pub ledger: Option<SharedLedger>,
    /// Where the epoch began, as long as no process has run in it.
    pub begun: u64,
    /// Whether a connection is open.
    pub connected: bool,
    /// Transactions that went with their slot; the gap event says so.
    pub excused: BTreeSet<u64>,
    /// Rows whose last event may be of a history that was lost.
    pub tainted: BTreeSet<RowKey>,
    pub violation: Option<Violation>,
    began: Instant,
    pub trace: Option<Vec<String>>,
}

/// Shared within one thread.
#[derive(Clone, Debug)]
pub struct Shared(Rc<RefCell<State>>);

impl Shared {
    pub fn new(seed: u64, planted: Option<Planted>, trace: bool) -> Self {
        let mut random = Random::new(seed);
        let standby = random.one_in(5);
        let shards = 1 + random.below(7);
        Self(Rc::new(RefCell::new(State {
            world: World::new(standby),
            rows: Rows::default(),
            stream: Stream::new(shards),
            random,
            planted,
            quiet: false,
            refused: false,
            restarts: 0,
            adopts: 0,
            ledger: None,
            begun: 0,
            connected: false,
            excused: BTreeSet::new(),
            tainted: BTreeSet::new(),
            violation: None,
            began: Instant::now(),
            trace: trace.then(Vec::new),
        })))
    }

    pub fn borrow(&self) -> Ref<'_, State> {
        self.0.borrow()
    }

    pub fn borrow_mut(&self) -> RefMut<'_, State> {
        self.0.borrow_mut()
    }

    /// Waits up to so many milliseconds.
    pub async fn pause(&self, milliseconds: u64) {
        let drawn = self.borrow_mut().random.below(milliseconds);
        tokio::time::sleep(Duration::from_millis(drawn)).await;
    }
}

/// What the directory belongs to.
pub fn wanted() -> Wanted {
    Wanted {
        database: "lab".into(),
        slot: "s".into(),
        publication: "p".into(),
        source: "urn:forebay:lab".into(),
        never_written: false,
        epoch_least: 0,
        at: 0,
    }
}

impl State {
    pub fn note(&mut self, what: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            let now = self.began.elapsed().as_millis();
            trace.push(format!("{now:>7} ms  {}", what()));
        }
    }

    pub fn wrong(&mut self, what: String) {
        self.note(|| format!("WRONG: {what}"));
        self.violation.get_or_insert(what);
    }

    /// A refusal is right only if the world has really lost something.
    pub fn judge(&mut self, refusal: &StartRefusal) {
        self.note(|| format!("refused: {refusal}"));
        // A start that finds out the same begins a new epoch by itself.
        self.restarts += usize::from(matches!(refusal, StartRefusal::Source(SourceRefusal::Unproven { .. })));
        self.refused |=
            !refusal.passes() && !matches!(refusal, StartRefusal::Source(SourceRefusal::Unproven { .. }));
        let right = match refusal {
            StartRefusal::Source(SourceRefusal::StandbyBehind { .. }) => self.world.server.in_recovery,
            StartRefusal::Source(SourceRefusal::OtherHistory { .. }) => self.world.switched,
            StartRefusal::Source(SourceRefusal::SlotMissing { .. }) => self.world.server.slot.is_none(),
            StartRefusal::Source(SourceRefusal::SlotAhead { .. }) => self.world.tampered,
            StartRefusal::Source(SourceRefusal::Unproven { known, now }) => known != now,
            _ => false,
        };
        if !right {
            self.wrong(format!("false refusal: {refusal}"));
        }
    }

    /// A transaction commits: what it touches is what it says, in whatever history.
    pub fn commit(&mut self) {
        self.world.commit(&mut self.random);
        let Some(last) = self.world.server.txns.last() else { return };
        for index in 0..last.changes.len() {
            for key in rows::keys(&self.rows.apply(last, index)) {
                self.tainted.remove(&key);
            }
        }
    }

    /// A copy takes the server's place; what it lacks is lost.
    pub fn replace(&mut self) {
        let confirmed = match &self.ledger {
            Some(ledger) => ledger.lock().checkpoint().ever_confirmed.seq().get(),
            None => self.begun,
        };
        let before = self.world.server.txns.clone();
        self.world.replace(&mut self.random);
        self.lose(&before);
        self.world.tampered |= self.world.server.slot.is_some_and(|slot| slot.confirmed > confirmed);
        self.note(|| "another server".into());
    }

    pub fn promote(&mut self) {
        let before = self.world.server.txns.clone();
        self.world.promote();
        // The end of recovery is a record.
        self.world.foreign(8);
        self.lose(&before);
        self.note(|| "promoted".into());
        // A connection outlives it, and the watchdog notes it in the ledger.
        let timeline = self.world.facts().timeline;
        if let Some(ledger) = self.ledger.as_ref().filter(|_| self.connected) {
            ledger.lock().promoted(timeline);
        }
    }

    fn lose(&mut self, before: &[Txn]) {
        self.rows = Rows::after(&self.world.server.txns);
        let now: BTreeSet<u64> = self.world.server.txns.iter().map(|txn| txn.uid).collect();
        let had: BTreeSet<u64> = before.iter().map(|txn| txn.uid).collect();
        let mut lost = rows::touched(before, |txn| !now.contains(&txn.uid));
        // What comes back with an older server is below the events of the history between.
        lost.extend(rows::touched(&self.world.server.txns, |txn| !had.contains(&txn.uid)));
        // Rows of both tables have one partition key where their ids are equal.
        let rows = lost.iter().flat_map(|key| [0, 1].map(|table| RowKey { table, ..*key }));
        self.tainted.extend(rows);
    }

    /// The slot is gone, and a new one begins at the end.
    pub fn excuse_all(&mut self) {
        self.excused = self.world.server.txns.iter().map(|txn| txn.uid).collect();
        let all = rows::touched(&self.world.server.txns, |_| true);
        self.tainted.extend(all);
    }
}
