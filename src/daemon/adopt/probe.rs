//! Reads what the slot sends next, before it is adopted. Nothing is confirmed, so everything is sent again.
//!
//! If the server cannot send a transaction, an adoption does not change that. So the adoption is refused,
//! unless it skips that transaction. All changes before it must have been received.

use std::time::Duration;

use tokio::time::timeout;

use crate::buffer::checkpoint::Skipped;
use crate::change::Delivery;
use crate::event::Records;
use crate::failure::{Explain, Failure, Problem};
use crate::position::{CommitSeq, Transaction};
use crate::source::Source as _;
use crate::source::postgres::admit::Wanted;
use crate::source::postgres::conninfo::Settings;
use crate::source::postgres::error::Error;
use crate::source::postgres::session::Session;
use crate::source::postgres::waits::PatientStatement;
use crate::source::postgres::{PostgresSource, Stream, slot};
use crate::translate::{RuleOutcome, Translator};

/// How long to search for a transaction that cannot be sent, if none is given.
const LOOK_FOR: Duration = Duration::from_secs(20);
/// How long the server may take to release a slot whose stream has ended.
const FREE_WITHIN: Duration = Duration::from_secs(10);
/// Pause between two attempts to advance the slot.
const FREE_AGAIN: Duration = Duration::from_millis(100);
/// SQLSTATE `object_in_use`.
const IN_USE: &str = "55006";

/// The slot to read.
#[derive(Debug)]
pub(super) struct Probe<'a> {
    pub(super) settings: &'a Settings,
    pub(super) wanted: &'a Wanted,
    /// Confirmed position of the slot, and end of the server's WAL.
    pub(super) range: (CommitSeq, CommitSeq),
    /// Decides which changes make events.
    pub(super) translator: Translator,
    /// Commit position of the last change that the directory keeps.
    pub(super) kept: CommitSeq,
}

impl Probe<'_> {
    /// Refuses the adoption if the server cannot send the next transaction. Without a result after
    /// `LOOK_FOR`, it does not refuse.
    pub(super) async fn check(mut self) -> Result<(), Failure> {
        let Ok(mut source) = self.start().await else { return Ok(()) };
        let looked = timeout(LOOK_FOR, self.read(&mut source, None)).await;
        match looked {
            Ok(Err(failure)) if source.has_unsendable_change() => {
                Err(SkipError::Unsendable(failure.problem().clone()).into())
            }
            Ok(Err(Failure::Stop(problem))) => Err(Failure::Stop(problem)),
            _ => {
                drop(source.close().await);
                Ok(())
            }
        }
    }

    /// Advances the slot beyond the transaction that commits at `named`, and returns that transaction.
    pub(super) async fn skip(
        mut self,
        (session, report_wait): (&mut Session, &dyn Fn(String)),
        named: CommitSeq,
    ) -> Result<(CommitSeq, Skipped), Failure> {
        let (from, end) = self.range;
        if named < from || named > end {
            return Err(SkipError::OutOfRange { named, from, end }.into());
        }
        let mut source = self.start().await?;
        let skipped = match self.read(&mut source, Some(named)).await {
            Ok(found) => {
                drop(source.close().await);
                return Err(SkipError::Sendable { named, found }.into());
            }
            Err(failure) if source.has_unsendable_change() => {
                let cause = failure.problem().detail().unwrap_or_default().to_owned();
                match source.transaction() {
                    // It is another transaction. The error has its position.
                    Some(transaction) if transaction.commit != named => return Err(failure),
                    transaction => Skipped { commit: named, transaction, cause },
                }
            }
            Err(failure) => return Err(failure),
        };
        drop(source);
        let slot = &self.wanted.slot;
        // A transaction is sent if its commit record begins at or after the slot's position.
        let behind = CommitSeq::new(named.get() + 1);
        let advance = async {
            loop {
                let advanced = PatientStatement::new("advancing the replication slot", report_wait)
                    .run(session, async |client| slot::advance_slot(client, slot, behind).await)
                    .await;
                match advanced {
                    Err(Error::Server(error)) if error.code == IN_USE => tokio::time::sleep(FREE_AGAIN).await,
                    advanced => return advanced,
                }
            }
        };
        let advanced = timeout(FREE_WITHIN, advance)
            .await
            .map_err(|_| SkipError::SlotInUse { slot: slot.clone() })??;
        Ok((advanced, skipped))
    }

    async fn start(&self) -> Result<PostgresSource, Failure> {
        let stream = Stream::new(self.wanted.slot.clone(), self.wanted.publication.clone());
        PostgresSource::start(self.settings, &stream).await
    }

    /// Reads up to the end of the WAL, or beyond the given transaction. Everything before that transaction
    /// must have been received. Returns the transaction if it was seen.
    async fn read(
        &mut self,
        source: &mut PostgresSource,
        named: Option<CommitSeq>,
    ) -> Result<Option<Transaction>, Failure> {
        let mut current: Option<Transaction> = None;
        loop {
            source.receive().await?;
            while let Some(delivery) = source.take()? {
                match &delivery {
                    Delivery::Begin(transaction) => {
                        current = Some(*transaction);
                        if named.is_some_and(|named| transaction.commit > named) {
                            return Ok(None);
                        }
                    }
                    Delivery::Commit { .. } if current.map(|found| found.commit) == named => {
                        return Ok(current);
                    }
                    Delivery::Progress { resume } if resume.seq() >= self.range.1 => return Ok(None),
                    Delivery::Backfill | Delivery::Commit { .. } | Delivery::Progress { .. } => {}
                    Delivery::Change(_) | Delivery::Unreadable(_) | Delivery::Message(_) => {
                        let before = current.filter(|found| {
                            named.is_some_and(|named| found.commit < named) && found.commit > self.kept
                        });
                        if let Some(transaction) = before
                            && self.makes_events(&delivery)
                        {
                            return Err(SkipError::NotReceived { transaction }.into());
                        }
                    }
                }
            }
        }
    }

    /// Whether a change would make events or a dead letter.
    fn makes_events(&mut self, delivery: &Delivery<'_>) -> bool {
        let mut records = Records::default();
        match delivery {
            Delivery::Change(change) => {
                let mut outcome = RuleOutcome::default();
                let made = self.translator.translate(change, &mut records, &mut outcome);
                made.is_err() || !records.is_empty() || !outcome.failed.is_empty()
            }
            Delivery::Unreadable(change) => {
                change.relation.is_none_or(|relation| self.translator.wants(relation))
            }
            Delivery::Message(message) => {
                self.translator.message(message, &mut records).is_err() || !records.is_empty()
            }
            Delivery::Begin(_) | Delivery::Backfill | Delivery::Commit { .. } | Delivery::Progress { .. } => {
                false
            }
        }
    }
}

/// Why an adoption would not help, or why a transaction is not skipped.
#[derive(Debug, thiserror::Error)]
pub(super) enum SkipError {
    /// The server cannot send the next transaction, and an adoption would not change that.
    #[error("an adoption would change nothing: {}", .0.primary())]
    Unsendable(Problem),
    /// `--skip-transaction` has a position that the slot does not send.
    #[error(
        "--skip-transaction {named} is not between the slot's position {from} and the end of the WAL {end}"
    )]
    OutOfRange {
        /// Position in `--skip-transaction`.
        named: CommitSeq,
        /// Confirmed position of the slot.
        from: CommitSeq,
        /// End of the WAL.
        end: CommitSeq,
    },
    /// The server can send the transaction, or no transaction commits there.
    #[error("{}", sendable(*named, found.as_ref()))]
    Sendable {
        /// Position in `--skip-transaction`.
        named: CommitSeq,
        /// The transaction.
        found: Option<Transaction>,
    },
    /// The slot has changes before the given transaction that this directory does not have.
    #[error("{transaction} comes before the transaction that is to be skipped, and was not received yet")]
    NotReceived {
        /// The transaction.
        transaction: Transaction,
    },
    /// Another session reads the slot.
    #[error("replication slot \"{slot}\" is in use")]
    SlotInUse {
        /// The slot's name.
        slot: String,
    },
    /// `--skip-transaction` and `--recreate-slot` exclude each other.
    #[error("--skip-transaction and --recreate-slot exclude each other")]
    InNewSlot,
}

fn sendable(named: CommitSeq, found: Option<&Transaction>) -> String {
    found.map_or_else(
        || format!("no published transaction commits at {named}"),
        |found| format!("the server can send {found}, so nothing needs to be skipped"),
    )
}

impl Explain for SkipError {
    fn code(&self) -> Option<&'static str> {
        Some(match self {
            Self::Unsendable(_) => "change_unsendable",
            Self::OutOfRange { .. } => "skip_out_of_range",
            Self::Sendable { .. } => "skip_needless",
            Self::NotReceived { .. } => "skip_too_early",
            Self::SlotInUse { .. } => "slot_in_use",
            Self::InNewSlot => "skip_in_new_slot",
        })
    }

    fn detail(&self) -> Option<String> {
        match self {
            Self::Unsendable(problem) => problem.detail().map(str::to_owned),
            _ => None,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Unsendable(problem) => return problem.hint().map(str::to_owned),
            Self::OutOfRange { .. } | Self::Sendable { .. } => {
                "Start Forebay: its log names the position of a transaction that cannot be sent.".to_owned()
            }
            Self::NotReceived { .. } => {
                "Start Forebay until it reports the transaction that cannot be sent again, stop it with SIGTERM, and repeat the command."
                    .to_owned()
            }
            Self::SlotInUse { .. } => "Stop the process that reads it.".to_owned(),
            Self::InNewSlot => "Use one of them: a new slot sends nothing of what the old one retains.".to_owned(),
        })
    }
}

impl From<SkipError> for Failure {
    fn from(error: SkipError) -> Self {
        Self::stop(error)
    }
}
