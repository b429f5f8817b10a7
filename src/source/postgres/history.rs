//! Checks that the server continues the known history. Does no I/O.
//!
//! A database that was restored from an older copy reuses LSNs. If the slot starts at or before the last seen
//! transaction of this directory, the server must deliver exactly that transaction. Until then nothing is
//! confirmed. A stream that passes its LSN without it has another history.

use crate::failure::{Explain, Failure};
use crate::position::Transaction;
use crate::source::postgres::lsn::Lsn;

/// The server sends another history than the one this directory has seen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the server has a different history")]
pub struct AnotherHistory {
    /// Position that the stream has reached.
    pub at: Lsn,
    /// The expected transaction.
    pub expected: Transaction,
}

impl Explain for AnotherHistory {
    fn code(&self) -> Option<&'static str> {
        Some("history_differs")
    }

    fn detail(&self) -> Option<String> {
        Some(format!(
            "The server has passed {} without {}, which this directory has seen. The server was restored from an older copy, or a \
             standby that lagged was promoted. Log sequence numbers are used a second time, so no change can be skipped safely.",
            self.at, self.expected
        ))
    }

    fn hint(&self) -> Option<String> {
        Some(
            "Check that this is the right server. Then run `forebay adopt --reason \"…\"` to continue in its history; nothing of \
             it is lost."
                .to_owned(),
        )
    }
}

impl From<AnotherHistory> for Failure {
    fn from(error: AnotherHistory) -> Self {
        Self::stop(error)
    }
}

/// Follows the transactions of one connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct History {
    expect: Option<Transaction>,
    open: Option<Transaction>,
}

impl History {
    /// For a connection that must deliver `expect` before anything is confirmed.
    pub const fn new(expect: Option<Transaction>) -> Self {
        Self { expect, open: None }
    }

    /// Notes that a transaction begins.
    ///
    /// # Errors
    /// It is at or beyond the position of the expected one, and is another transaction.
    pub fn begin(&mut self, transaction: Transaction) -> Result<(), AnotherHistory> {
        match self.expect {
            Some(expected) if transaction.commit >= expected.commit && transaction != expected => {
                return Err(AnotherHistory { at: transaction.commit, expected });
            }
            _ => {}
        }
        self.open = Some(transaction);
        Ok(())
    }

    /// Notes that the open transaction is complete. Returns whether it may be confirmed once it is settled.
    pub fn commit(&mut self) -> bool {
        if self.open.take() == self.expect {
            self.expect = None;
        }
        self.expect.is_none()
    }

    /// Notes that the server has sent everything up to `wal_end`. Returns whether that position may be
    /// confirmed once everything received is settled.
    ///
    /// # Errors
    /// The server has passed the expected transaction without delivering it.
    pub fn progress(&mut self, wal_end: Lsn) -> Result<bool, AnotherHistory> {
        match (self.open, self.expect) {
            (Some(_), _) => Ok(false),
            (None, Some(expected)) if wal_end > expected.commit => {
                Err(AnotherHistory { at: wal_end, expected })
            }
            (None, expected) => Ok(expected.is_none()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transaction(commit: u64, xid: u32) -> Transaction {
        Transaction { commit: Lsn::new(commit), xid, time: 5 }
    }

    #[test]
    fn nothing_is_confirmed_before_last_seen_is_delivered() {
        let mut history = History::new(Some(transaction(200, 2)));
        assert_eq!(history.progress(Lsn::new(150)), Ok(false));
        history.begin(transaction(180, 1)).unwrap();
        assert!(!history.commit());
        history.begin(transaction(200, 2)).unwrap();
        assert_eq!(history.progress(Lsn::new(210)), Ok(false), "the transaction is open");
        assert!(history.commit());
        assert_eq!(history.progress(Lsn::new(220)), Ok(true));
    }

    #[test]
    fn stream_that_skips_last_seen_has_another_history() {
        let expected = transaction(200, 2);
        for other in [transaction(200, 3), Transaction { time: 6, ..expected }, transaction(201, 2)] {
            assert!(History::new(Some(expected)).begin(other).is_err(), "{other}");
        }
        assert_eq!(History::new(Some(expected)).progress(Lsn::new(200)), Ok(false), "not passed yet");
        assert!(History::new(Some(expected)).progress(Lsn::new(201)).is_err());
    }

    #[test]
    fn without_last_seen_complete_changes_may_be_confirmed() {
        let mut history = History::new(None);
        assert_eq!(history.progress(Lsn::new(5)), Ok(true));
        history.begin(transaction(10, 1)).unwrap();
        assert_eq!(history.progress(Lsn::new(12)), Ok(false));
        assert!(history.commit());
    }
}
