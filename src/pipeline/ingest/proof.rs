//! The proof that a connection continues the known history. Until then, nothing new is published. This module
//! does no I/O.
//!
//! A start truncates the log to the settled position, but an earlier process may have published more, up to
//! the last seen transaction. If the server had another history, its events before that position would have a
//! lower `sequence` than events that consumers already know. So new changes are received, but withheld from
//! publishing until the server has begun exactly that transaction. A process that has received the
//! transaction itself needs no proof: it drops repeats at or below its tail.

use crate::failure::{Explain, Failure};
use crate::position::{CommitSeq, Position, Transaction};

/// The server's history differs from that of the withheld frames. The next start truncates them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the server was exchanged for one without the history that was received last")]
pub struct WithheldContradicted {
    /// Position at which the server began a different transaction.
    pub at: CommitSeq,
    /// The transaction that this process received there before.
    pub expected: Transaction,
}

impl Explain for WithheldContradicted {
    fn code(&self) -> Option<&'static str> {
        Some("server_exchanged")
    }

    fn detail(&self) -> Option<String> {
        Some(format!(
            "The server has passed {} without {}, which this process has received. Nothing of it was published.",
            self.at, self.expected
        ))
    }

    fn hint(&self) -> Option<String> {
        Some(
            "Check that this is the right server, and start again: what was received is received anew."
                .to_owned(),
        )
    }
}

impl From<WithheldContradicted> for Failure {
    fn from(error: WithheldContradicted) -> Self {
        Self::stop(error)
    }
}

/// What one connection must still prove.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proof {
    /// The last withheld transaction of an earlier connection, until this connection delivers it.
    withheld: Option<Transaction>,
    /// The last transaction seen.
    seen: Transaction,
}

impl Proof {
    /// The proof that a connection must give: it delivers `expect`. `last` is the last change of this epoch
    /// in the log. Returns `None` if no new change can precede that transaction.
    pub fn needed(expect: Option<Transaction>, last: Option<Position>) -> Option<Self> {
        let seen = expect.filter(|seen| last.is_none_or(|last| last.commit < seen.commit))?;
        Some(Self { withheld: None, seen })
    }

    /// Adds the transaction of the last withheld frame, which this connection must deliver again too.
    #[must_use]
    pub const fn and(self, withheld: Option<Transaction>) -> Self {
        Self { withheld, ..self }
    }

    /// The last transaction seen.
    pub const fn seen(&self) -> Transaction {
        self.seen
    }

    /// Notes that a transaction begins, and returns whether the proof is complete. If the server skips the
    /// last seen transaction, the source detects it.
    ///
    /// # Errors
    /// The withheld frames belong to another history.
    pub fn begin(&mut self, transaction: Transaction) -> Result<bool, WithheldContradicted> {
        if let Some(expected) = self.withheld {
            if transaction == expected {
                self.withheld = None;
            } else if transaction.commit >= expected.commit {
                return Err(WithheldContradicted { at: transaction.commit, expected });
            }
        }
        Ok(self.withheld.is_none() && transaction == self.seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transaction(commit: u64, xid: u32) -> Transaction {
        Transaction { commit: CommitSeq::new(commit), xid, time: 5 }
    }

    fn last(commit: u64) -> Position {
        Position { epoch: 0, commit: CommitSeq::new(commit), index: 3 }
    }

    #[test]
    fn proof_is_needed_only_beyond_the_tail() {
        let seen = Some(transaction(200, 2));
        assert!(Proof::needed(seen, Some(last(199))).is_some());
        assert!(Proof::needed(seen, None).is_some());
        assert_eq!(Proof::needed(seen, Some(last(200))), None);
        assert_eq!(Proof::needed(None, Some(last(100))), None);
    }

    #[test]
    fn last_seen_transaction_is_the_proof() {
        let mut proof = Proof::needed(Some(transaction(200, 2)), Some(last(100))).unwrap();
        assert_eq!(proof.begin(transaction(150, 1)), Ok(false));
        assert_eq!(proof.begin(transaction(200, 2)), Ok(true));
    }

    #[test]
    fn withheld_transaction_must_come_again() {
        let proof = Proof::needed(Some(transaction(200, 2)), Some(last(100))).unwrap();
        let proof = proof.and(Some(transaction(150, 1)));
        for other in [transaction(150, 7), transaction(151, 1)] {
            assert!({ proof }.begin(other).is_err(), "{other}");
        }
        let mut proof = proof;
        assert_eq!(proof.begin(transaction(140, 9)), Ok(false));
        assert_eq!(proof.begin(transaction(150, 1)), Ok(false));
        assert_eq!(proof.begin(transaction(200, 2)), Ok(true));
    }
}
