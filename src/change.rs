//! What a source delivers: changes of rows, in commit order, transaction by transaction.
//!
//! Everything that holds row values borrows from the source's receive buffer, so that a row costs no allocation.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::position::{Lsn, Position, Transaction};
use crate::types::{Kind, SqlType};

/// A table as the source described it before its first change. Its serde form is kept in dead letters and in `events.lock/`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Relation {
    /// `pg_class.oid`.
    pub oid: u32,
    /// Schema name.
    pub schema: String,
    /// Table name.
    pub table: String,
    /// What an UPDATE or DELETE tells of the old row.
    pub identity: ReplicaIdentity,
    /// The published columns, in the order of the tuples.
    pub columns: Vec<Column>,
    /// Indexes into `columns` of the primary key, in the key's order, from today's catalogue; empty if there is none,
    /// or if the publication leaves out one of its columns.
    pub primary_key: Vec<usize>,
    /// Columns of today's catalogue that the source's description lacks: its rows are older than they are. For rules, which
    /// read them as NULL; automatic events stay by the description alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub absent: Vec<Column>,
}

impl Relation {
    /// Whether a column is called this, here or in today's catalogue.
    pub fn has_had(&self, name: &str) -> bool {
        self.columns.iter().chain(&self.absent).any(|column| column.name == name)
    }

    /// Indexes of the columns that are its key: the replica identity's; with `FULL` or `NOTHING`, which say nothing of a key,
    /// the primary key's. Empty if there is none.
    pub fn key(&self) -> Vec<usize> {
        let in_identity = |at: &usize| self.columns.get(*at).is_some_and(|column| column.in_identity);
        match self.identity {
            ReplicaIdentity::Default | ReplicaIdentity::Index => {
                (0..self.columns.len()).filter(in_identity).collect()
            }
            ReplicaIdentity::Full | ReplicaIdentity::Nothing => self.primary_key.clone(),
        }
    }
}

impl Relation {
    /// The same table, of whose old rows only the primary key is told: partitions do not take `REPLICA IDENTITY FULL` from their
    /// table, and no message says which of them a row is in.
    #[must_use]
    pub fn by_primary_key(&self) -> Self {
        let mut relation = Self { identity: ReplicaIdentity::Default, ..self.clone() };
        for (at, column) in relation.columns.iter_mut().enumerate() {
            column.in_identity = self.primary_key.contains(&at);
        }
        relation
    }
}

/// A table as today's catalogue describes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Described {
    /// What a relation message says of it, if all columns are published.
    pub relation: Relation,
    /// `COMMENT ON TABLE`.
    pub comment: Option<String>,
    /// `COMMENT ON COLUMN`, by the relation's columns.
    pub comments: Vec<Option<String>>,
}

impl Described {
    /// Keeps only the columns that a publication's column list names; `None`: all are published.
    pub fn publish(&mut self, columns: Option<&[String]>) {
        let Some(published) = columns else { return };
        let keep: Vec<bool> =
            self.relation.columns.iter().map(|column| published.contains(&column.name)).collect();
        let key = self.relation.primary_key.iter().map(|&at| {
            keep.get(at)
                .copied()
                .unwrap_or_default()
                .then(|| keep.iter().take(at).filter(|kept| **kept).count())
        });
        self.relation.primary_key = key.collect::<Option<Vec<usize>>>().unwrap_or_default();
        let mut kept = keep.iter().copied();
        self.relation.columns.retain(|_| kept.next().unwrap_or_default());
        let mut kept = keep.iter().copied();
        self.comments.retain(|_| kept.next().unwrap_or_default());
    }
}

/// A published column.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// Name.
    pub name: String,
    /// How its values become JSON.
    pub kind: Kind,
    /// Its SQL type, for expressions.
    pub data_type: SqlType,
    /// Whether today's catalogue says `NOT NULL`. Rows may be older than that.
    pub not_null: bool,
    /// Whether the relation message flags it as part of the replica identity (with `Full`: all are).
    pub in_identity: bool,
}

/// `REPLICA IDENTITY` of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplicaIdentity {
    /// The primary key.
    Default,
    /// Nothing: updates and deletes cannot be published.
    Nothing,
    /// The whole old row.
    Full,
    /// The columns of a unique index.
    Index,
}

/// One column's place in a tuple, as decoded. `start` counts from the beginning of the tuple's message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cell {
    /// SQL NULL; in the old key of a `Default` or `Index` identity also "not part of the key".
    Null,
    /// A TOASTed value that the update did not touch: the server does not send it.
    Unchanged,
    /// Text form of the value.
    Text {
        /// First byte in the message.
        start: u32,
        /// Length in bytes.
        length: u32,
    },
}

/// A value of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// SQL NULL.
    Null,
    /// Neither a value nor NULL: an unchanged TOASTed value that was not sent.
    Unavailable,
    /// Postgres's text form, UTF-8 unless the database is not.
    Text(&'a [u8]),
}

/// A row, or the key of one: the cells of one message.
#[derive(Clone, Copy, Debug)]
pub struct Tuple<'a> {
    message: &'a [u8],
    cells: &'a [Cell],
}

impl<'a> Tuple<'a> {
    /// A tuple of these cells of `message`. A cell that points outside the message reads as NULL; decoders never make one.
    pub const fn new(message: &'a [u8], cells: &'a [Cell]) -> Self {
        Self { message, cells }
    }

    /// How many columns it has.
    pub const fn len(&self) -> usize {
        self.cells.len()
    }

    /// Whether it has no columns.
    pub const fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }

    /// The value of a column; NULL beyond the last one.
    #[inline]
    pub fn get(&self, column: usize) -> Value<'a> {
        match self.cells.get(column) {
            Some(Cell::Unchanged) => Value::Unavailable,
            Some(&Cell::Text { start, length }) => {
                let start = start as usize;
                self.message.get(start..start + length as usize).map_or(Value::Null, Value::Text)
            }
            Some(Cell::Null) | None => Value::Null,
        }
    }
}

/// What is known of a row before its change.
#[derive(Clone, Copy, Debug)]
pub enum OldRow<'a> {
    /// The replica identity's columns; the others read as NULL and are not known.
    Key(Tuple<'a>),
    /// The whole row (`REPLICA IDENTITY FULL`).
    Full(Tuple<'a>),
}

/// What happened to a row, or to a table.
#[derive(Clone, Copy, Debug)]
pub enum Operation<'a> {
    /// A row came.
    Insert {
        /// The row.
        new: Tuple<'a>,
    },
    /// A row changed.
    Update {
        /// Given if the replica identity's columns changed, or if the identity is `Full`.
        old: Option<OldRow<'a>>,
        /// The row now; unchanged TOASTed values may be unavailable.
        new: Tuple<'a>,
    },
    /// A row went.
    Delete {
        /// What the replica identity tells of it.
        old: OldRow<'a>,
    },
    /// All rows of the table went.
    Truncate {
        /// `TRUNCATE … CASCADE`.
        cascade: bool,
        /// `TRUNCATE … RESTART IDENTITY`.
        restart_identity: bool,
    },
}

/// A change of one row, or the truncation of one table.
#[derive(Clone, Copy, Debug)]
pub struct Change<'a> {
    /// Where it stands.
    pub place: Place,
    /// The table.
    pub relation: &'a Arc<Relation>,
    /// What happened.
    pub operation: Operation<'a>,
    /// The message as it was received, for the dead letter.
    pub raw: &'a [u8],
}

/// Where a change stands in its transaction and in the write-ahead log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The transaction that made it.
    pub transaction: Transaction,
    /// Ordinal in the transaction, counted over everything delivered.
    pub index: u32,
    /// LSN of the change itself. Several changes can share one (COPY, TRUNCATE of several tables).
    pub lsn: Lsn,
    /// Ordinal among the changes of the same kind of message with this LSN.
    pub nth: u32,
}

impl Place {
    /// The position of the change in this epoch.
    pub const fn position(&self, epoch: u16) -> Position {
        Position { epoch, commit: self.transaction.commit, index: self.index }
    }
}

/// A change that was delivered but cannot be read: it goes to the dead letter.
#[derive(Clone, Copy, Debug)]
pub struct Unreadable<'a> {
    /// Where it stands.
    pub place: Place,
    /// The table, if that much could be read.
    pub relation: Option<&'a Relation>,
    /// Its name, `schema.table`.
    pub table: Option<&'a str>,
    /// Why it cannot be read; never contains row values.
    pub reason: &'a str,
    /// Size of the whole message in bytes.
    pub size: u64,
    /// The message, or the beginning of one that is larger than the row-size limit.
    pub raw: &'a [u8],
}

/// A transactional logical message (`pg_logical_emit_message`): it has an index and no row.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// Where it stands.
    pub place: Place,
    /// What it is for; in the database's encoding.
    pub prefix: &'a [u8],
    /// What it says, as it was given.
    pub content: &'a [u8],
    /// Size of the whole message in bytes.
    pub size: u64,
    /// The message as it was received, or the beginning of one that is larger than the row-size limit.
    pub raw: &'a [u8],
}

impl Message<'_> {
    /// Whether all of it was kept.
    pub const fn is_whole(&self) -> bool {
        self.raw.len() as u64 == self.size
    }
}

/// What a source has to tell, in this order: `Begin`, changes, `Commit`; `Progress` at any time.
#[derive(Clone, Copy, Debug)]
pub enum Delivery<'a> {
    /// A committed transaction begins to arrive.
    Begin(Transaction),
    /// One of its changes.
    Change(Change<'a>),
    /// One of its changes, unreadable.
    Unreadable(Unreadable<'a>),
    /// A transactional logical message.
    Message(Message<'a>),
    /// The transaction is complete.
    Commit {
        /// End of its commit record: what may be confirmed once its changes are settled.
        end: Lsn,
    },
    /// The server has sent everything up to here (a keepalive).
    Progress {
        /// What may be confirmed once everything received is settled and no transaction is open.
        wal_end: Lsn,
    },
}
