//! Assembles messages into changes, with their transaction, index and table. Does no I/O.
//!
//! It works in two steps, so that nothing is borrowed while the next message is awaited:
//! [`Assembler::assemble`] classifies a message ([`Step`]), and [`Assembler::view`] returns it as a
//! [`Delivery`].

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;

use crate::change::{
    Change, ChangePlace, Delivery, Message as LogicalMessage, OldRow, Operation, Relation, Tuple, Unreadable,
};
use crate::position::{ResumePoint, Transaction};
use crate::source::postgres::lsn::Lsn;

use super::connection::POSTGRES_EPOCH;
use super::pgoutput::{self, Announced, Cells, DecodeError, Message, Old};

/// Number of message kinds that are changes: insert, update, delete, truncate, logical.
const KINDS: usize = 5;

/// One message of the stream, as received.
#[derive(Clone, Copy, Debug)]
pub struct Received<'a> {
    /// The LSN that the server sent with it.
    pub lsn: Lsn,
    /// Its bytes; for a message above the limit, only the beginning.
    pub bytes: &'a [u8],
    /// Length of the whole message in bytes.
    pub size: u64,
}

/// The class of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing to deliver.
    Nothing,
    /// The definition of a table. Call [`Assembler::learn`] before the next message.
    LookUp(Announced),
    /// A transaction begins.
    Begin(Transaction),
    /// The transaction ends.
    Commit(Lsn),
    /// A row message.
    Row(ChangePlace, RowKind, u32),
    /// One table of a TRUNCATE. [`Assembler::next_truncated`] returns the others.
    Truncate {
        /// Its position.
        place: ChangePlace,
        /// `pg_class.oid`.
        relation: u32,
        /// `CASCADE`.
        cascade: bool,
        /// `RESTART IDENTITY`.
        restart_identity: bool,
    },
    /// A row message that cannot be decoded.
    Unreadable(ChangePlace),
    /// A logical message of the transaction.
    Message(ChangePlace),
}

/// The kind of a row message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowKind {
    /// A row was inserted.
    Insert,
    /// A row was updated.
    Update(Old),
    /// A row was deleted.
    Delete(Old),
}

/// The server broke the order of the stream, so the rest cannot be trusted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// A message that cannot be decoded and is not a row.
    #[error("at {lsn}: {cause}")]
    Decode {
        /// LSN of the message.
        lsn: Lsn,
        /// What is wrong with it.
        cause: DecodeError,
    },
    /// A message that is not allowed here.
    #[error("at {lsn}: {what}")]
    Order {
        /// LSN of the message.
        lsn: Lsn,
        /// Kind of the message.
        what: &'static str,
    },
}

/// The transaction that is being received, and the tables seen so far. It belongs to one connection.
#[derive(Debug, Default)]
pub struct Assembler {
    relations: HashMap<u32, Arc<Relation>>,
    transaction: Option<Transaction>,
    next_index: u32,
    /// Number of changes so far per message kind, at the LSN of the last one.
    at: Lsn,
    counts: [u32; KINDS],
    cells: Cells,
    truncate: Truncate,
    table: String,
    reason: String,
}

/// The remaining tables of a TRUNCATE of several.
#[derive(Debug, Default)]
struct Truncate {
    lsn: Lsn,
    cascade: bool,
    restart_identity: bool,
    next: usize,
}

impl Assembler {
    /// Classifies a message.
    ///
    /// # Errors
    /// The stream is broken. A row that cannot be decoded is a step, not an error.
    pub fn assemble(&mut self, received: Received<'_>) -> Result<Step, StreamError> {
        let lsn = received.lsn;
        if received.size > received.bytes.len() as u64 {
            return self.oversize(received);
        }
        match pgoutput::decode(received.bytes, &mut self.cells) {
            Ok(Message::Begin { commit, time, xid }) => {
                if self.transaction.is_some() {
                    return Err(order(lsn, "Begin inside a transaction"));
                }
                let transaction = Transaction { commit, xid, time: time.saturating_add(POSTGRES_EPOCH) };
                self.transaction = Some(transaction);
                self.next_index = 0;
                self.counts = [0; KINDS];
                Ok(Step::Begin(transaction))
            }
            Ok(Message::Commit { commit, end }) => match self.transaction.take() {
                Some(begun) if begun.commit == commit => Ok(Step::Commit(end)),
                Some(_) => Err(order(lsn, "Commit of another transaction than the one that began")),
                None => Err(order(lsn, "Commit outside a transaction")),
            },
            Ok(Message::Relation(announced)) => Ok(Step::LookUp(announced)),
            Ok(Message::Origin | Message::Type | Message::Logical { transactional: false, .. }) => {
                Ok(Step::Nothing)
            }
            Ok(Message::Logical { transactional: true, lsn }) => self.place(lsn, 4).map(Step::Message),
            Ok(Message::Insert { relation }) => self.row(lsn, 0, RowKind::Insert, relation),
            Ok(Message::Update { relation, old }) => self.row(lsn, 1, RowKind::Update(old), relation),
            Ok(Message::Delete { relation, old }) => self.row(lsn, 2, RowKind::Delete(old), relation),
            Ok(Message::Truncate { cascade, restart_identity }) => {
                self.truncate = Truncate { lsn, cascade, restart_identity, next: 0 };
                Ok(self.next_truncated()?.unwrap_or(Step::Nothing))
            }
            Err(DecodeError::Row { relation, reason }) => {
                self.known(lsn, relation)?;
                self.unreadable(received, reason)
            }
            Err(cause @ (DecodeError::Message(_) | DecodeError::Unknown(_))) => {
                Err(StreamError::Decode { lsn, cause })
            }
        }
    }

    /// The next table of the last assembled TRUNCATE; `None` after the last one.
    ///
    /// # Errors
    /// The table was never announced.
    pub fn next_truncated(&mut self) -> Result<Option<Step>, StreamError> {
        let Truncate { lsn, cascade, restart_identity, next } = self.truncate;
        let Some(&relation) = self.cells.relations.get(next) else { return Ok(None) };
        self.truncate.next += 1;
        self.known(lsn, relation)?;
        let place = self.place(lsn, 3)?;
        Ok(Some(Step::Truncate { place, relation, cascade, restart_identity }))
    }

    /// Adds the description of a table, for the rows that follow.
    pub fn learn(&mut self, relation: Arc<Relation>) {
        self.relations.insert(relation.oid, relation);
    }

    /// Number of described tables.
    pub fn described(&self) -> usize {
        self.relations.len()
    }

    /// The tables that are described, by `pg_class.oid`.
    pub fn tables(&self) -> Vec<u32> {
        self.relations.keys().copied().collect()
    }

    /// Removes tables of which no change can follow before they are announced again.
    pub fn forget(&mut self, tables: &[u32]) {
        for table in tables {
            self.relations.remove(table);
        }
        self.relations.shrink_to(2 * self.relations.len());
    }

    /// Whether a transaction is being received.
    pub fn in_transaction(&self) -> bool {
        self.transaction.is_some()
    }

    /// The transaction that is being received.
    pub const fn transaction(&self) -> Option<Transaction> {
        self.transaction
    }

    /// Returns a step as a delivery; `None` for [`Step::Nothing`] and [`Step::LookUp`]. `received` is the
    /// message that the step came from.
    pub fn view<'a>(&'a self, step: &Step, received: Received<'a>) -> Option<Delivery<'a>> {
        Some(match *step {
            Step::Nothing | Step::LookUp(_) => return None,
            Step::Begin(transaction) => Delivery::Begin(transaction),
            Step::Commit(end) => Delivery::Commit { resume: Some(ResumePoint::at(end)) },
            Step::Message(place) => {
                // An assembled message has both. In an oversized message, a prefix longer than the kept part
                // is unknown, and no rule can match it.
                let (prefix, content) = pgoutput::logical_of(received.bytes).unwrap_or_default();
                let (size, raw) = (received.size, received.bytes);
                Delivery::Message(LogicalMessage { place, prefix, content, size, raw })
            }
            Step::Unreadable(place) => Delivery::Unreadable(Unreadable {
                place,
                relation: pgoutput::relation_of(received.bytes)
                    .and_then(|oid| self.relations.get(&oid))
                    .map(Arc::as_ref),
                table: (!self.table.is_empty()).then_some(self.table.as_str()),
                reason: &self.reason,
                size: received.size,
                raw: received.bytes,
            }),
            Step::Truncate { place, relation, cascade, restart_identity } => Delivery::Change(Change {
                place,
                relation: self.relations.get(&relation)?,
                operation: Operation::Truncate { cascade, restart_identity },
                raw: received.bytes,
            }),
            Step::Row(place, kind, relation) => Delivery::Change(Change {
                place,
                relation: self.relations.get(&relation)?,
                operation: operation(&self.cells, kind, received.bytes),
                raw: received.bytes,
            }),
        })
    }

    fn row(&mut self, lsn: Lsn, kind: usize, row: RowKind, oid: u32) -> Result<Step, StreamError> {
        let relation = self.known(lsn, oid)?;
        let columns = relation.columns.len();
        let has_new = !matches!(row, RowKind::Delete(_));
        let has_old = !matches!(row, RowKind::Insert | RowKind::Update(Old::Absent));
        let fits =
            (!has_new || self.cells.new.len() == columns) && (!has_old || self.cells.old.len() == columns);
        if fits {
            return Ok(Step::Row(self.place(lsn, kind)?, row, oid));
        }
        let given = if has_new { self.cells.new.len() } else { self.cells.old.len() };
        self.set_reason(Some(oid), |reason| {
            write!(reason, "the row has {given} columns, its table was announced with {columns}")
        });
        Ok(Step::Unreadable(self.place(lsn, kind)?))
    }

    fn unreadable(&mut self, received: Received<'_>, why: &str) -> Result<Step, StreamError> {
        let relation = pgoutput::relation_of(received.bytes);
        self.set_reason(relation, |reason| reason.write_str(why));
        let kind = match received.bytes.first() {
            Some(b'I') => 0,
            Some(b'U') => 1,
            _ => 2,
        };
        Ok(Step::Unreadable(self.place(received.lsn, kind)?))
    }

    /// Classifies a message of which only the beginning was kept.
    fn oversize(&mut self, received: Received<'_>) -> Result<Step, StreamError> {
        let lsn = received.lsn;
        match received.bytes {
            [b'I' | b'U' | b'D', ..] => {
                if let Some(relation) = pgoutput::relation_of(received.bytes) {
                    self.known(lsn, relation)?;
                }
                let why = format!("the row's message of {} bytes is larger than max_row_size", received.size);
                self.unreadable(received, &why)
            }
            // A logical message outside of a transaction is ignored, whatever its size.
            [b'M', 0, ..] => Ok(Step::Nothing),
            [b'M', _, ..] => self.place(lsn, 4).map(Step::Message),
            _ => Err(order(lsn, "a message above max_row_size that is neither a row nor a logical message")),
        }
    }

    fn set_reason(&mut self, relation: Option<u32>, write: impl FnOnce(&mut String) -> std::fmt::Result) {
        self.table.clear();
        self.reason.clear();
        let written = write(&mut self.reason);
        if let Some(relation) = relation.and_then(|oid| self.relations.get(&oid)) {
            self.table.push_str(&relation.name());
        }
        debug_assert!(written.is_ok(), "writing to a String cannot fail");
    }

    fn known(&self, lsn: Lsn, oid: u32) -> Result<&Arc<Relation>, StreamError> {
        self.relations.get(&oid).ok_or_else(|| order(lsn, "a change of a table that was not announced"))
    }

    fn place(&mut self, lsn: Lsn, kind: usize) -> Result<ChangePlace, StreamError> {
        let transaction = self.transaction.ok_or_else(|| order(lsn, "a change outside a transaction"))?;
        if self.at != lsn {
            self.at = lsn;
            self.counts = [0; KINDS];
        }
        let count = self.counts.get_mut(kind).ok_or_else(|| order(lsn, "a change of an unknown kind"))?;
        let (index, nth) = (self.next_index, *count);
        *count += 1;
        self.next_index =
            index.checked_add(1).ok_or_else(|| order(lsn, "more than 2^32 changes in one transaction"))?;
        Ok(ChangePlace { transaction, index, record: lsn, nth })
    }
}

/// A row message as an operation. `cells` are those that it was decoded into.
pub(super) fn operation<'a>(cells: &'a Cells, kind: RowKind, message: &'a [u8]) -> Operation<'a> {
    let new = Tuple::new(message, &cells.new);
    let old = Tuple::new(message, &cells.old);
    match kind {
        RowKind::Insert => Operation::Insert { new },
        RowKind::Update(Old::Absent) => Operation::Update { old: None, new },
        RowKind::Update(Old::Key) => Operation::Update { old: Some(OldRow::Key(old)), new },
        RowKind::Update(Old::Full) => Operation::Update { old: Some(OldRow::Full(old)), new },
        RowKind::Delete(Old::Full) => Operation::Delete { old: OldRow::Full(old) },
        RowKind::Delete(Old::Key | Old::Absent) => Operation::Delete { old: OldRow::Key(old) },
    }
}

fn order(lsn: Lsn, what: &'static str) -> StreamError {
    StreamError::Order { lsn, what }
}

#[cfg(test)]
#[path = "transaction_tests.rs"]
mod tests;
