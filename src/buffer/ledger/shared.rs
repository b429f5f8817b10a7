//! The ledger as both loops and the checkpointer share it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Ledger;

/// The ledger, shared by the two loops and the checkpointer. The lock is held for a few assignments, never
/// across I/O.
#[derive(Clone, Debug)]
pub struct SharedLedger(Arc<Mutex<Ledger>>);

impl SharedLedger {
    /// Shares a ledger.
    pub fn new(ledger: Ledger) -> Self {
        Self(Arc::new(Mutex::new(ledger)))
    }

    /// Locks it. A panic on another thread ends the process (`panic = "abort"`), so a poisoned lock occurs
    /// only in tests.
    pub fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
