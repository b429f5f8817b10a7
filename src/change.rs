//! Deliveries of a source: row changes in commit order, transaction by transaction.
//!
//! All row values borrow from the source's receive buffer, so that a row costs no allocation.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::config::selector;
use crate::position::{CommitSeq, Position, ResumePoint, Transaction};
use crate::types::{Kind, SqlType, TypeParts};

/// A table as the source described it before its first change. Stored in dead letters and in `events.lock/`
/// in its serde form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Relation {
    /// `pg_class.oid`.
    pub oid: u32,
    /// Schema name.
    pub schema: String,
    /// Table name.
    pub table: String,
    /// Which part of the old row of an UPDATE or DELETE the source sends.
    pub identity: ReplicaIdentity,
    /// The published columns, in the order of the tuples.
    pub columns: Vec<Column>,
    /// Indexes into `columns` of the primary key, in the key's order, from the current catalogue. Empty
    /// without a primary key, or if the publication leaves out one of its columns.
    pub primary_key: Vec<usize>,
    /// Columns of the current catalogue that the source's description lacks, because its rows are older.
    /// Rules read them as NULL; automatic events ignore them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub absent: Vec<Column>,
    /// Facts about the table at the time of its rows that are unknown. If there are any, rows cannot become
    /// events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unknown: Option<String>,
}

impl Relation {
    /// Schema and table in selector syntax: `lab.plates`, `lab."a.b"`. No two tables share it.
    pub fn name(&self) -> String {
        format!("{}.{}", selector::quoted(&self.schema), selector::quoted(&self.table))
    }

    /// Whether the description or the current catalogue has a column of this name.
    pub fn has_had(&self, name: &str) -> bool {
        self.columns.iter().chain(&self.absent).any(|column| column.name == name)
    }

    /// Indexes of the key's columns: those of the replica identity. `FULL` and `NOTHING` define no key, so
    /// the primary key is used. Empty if there is none.
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
    /// The same table with the primary key as its replica identity. Partitions do not inherit `REPLICA
    /// IDENTITY FULL` from their table, and no message contains the partition of a row.
    #[must_use]
    pub fn by_primary_key(&self) -> Self {
        let mut relation = Self { identity: ReplicaIdentity::Default, ..self.clone() };
        for (at, column) in relation.columns.iter_mut().enumerate() {
            column.in_identity = self.primary_key.contains(&at);
        }
        relation
    }
}

/// A table as the current catalogue describes it, with the columns that the publication sends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Described {
    /// The relation message of the table.
    pub relation: Relation,
    /// `COMMENT ON TABLE`.
    pub comment: Option<String>,
    /// `COMMENT ON COLUMN`, in the order of the relation's columns.
    pub comments: Vec<Option<String>>,
    /// The parts of composite and range types of its columns, at any depth.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub types: Vec<TypeParts>,
    /// `pg_attribute.attnum` of each column, which a rename does not change. Empty unless it was read from a
    /// database, because it differs between databases.
    #[serde(skip)]
    pub numbers: Vec<i16>,
    /// Columns that are not sent. Empty unless they were read from a database.
    #[serde(skip)]
    pub unsent: Vec<UnsentColumn>,
}

/// A column that the table has and the publication does not send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnsentColumn {
    /// The column.
    pub column: Column,
    /// Why it is not sent.
    pub reason: &'static str,
    /// Advice for the operator.
    pub hint: String,
}

/// A published column.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// Name.
    pub name: String,
    /// How its values are written as JSON.
    pub kind: Kind,
    /// Its SQL type, for expressions.
    pub data_type: SqlType,
    /// Whether the current catalogue has `NOT NULL`. Older rows may still be NULL.
    pub not_null: bool,
    /// Whether the relation message flags it as part of the replica identity (with `Full`: all columns).
    pub in_identity: bool,
    /// The column whose personal data this one holds, if `[pii]` matches that column.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<PersonalOrigin>,
}

/// A column that `[pii]` matches, and whose data another column holds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PersonalOrigin {
    /// How the data was derived from it.
    pub how: Inheritance,
    /// Its schema.
    pub schema: String,
    /// Its table.
    pub table: String,
    /// Its name.
    pub column: String,
}

impl fmt::Display for PersonalOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.schema, self.table, self.column)
    }
}

/// How a column got the data of another column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Inheritance {
    /// It is the same column, which had another name.
    Former,
    /// Its table is a child or a partition of that table, or was one.
    Ancestor,
    /// It is a generated column, computed from that one.
    Computed,
    /// Its table has all columns of that table, side by side, as CREATE TABLE … (LIKE …) creates it.
    Copy,
}

/// `REPLICA IDENTITY` of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplicaIdentity {
    /// The primary key.
    Default,
    /// None. Updates and deletes cannot be published.
    Nothing,
    /// The whole old row.
    Full,
    /// The columns of a unique index.
    Index,
}

/// The position of one column's value in its message, as decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cell {
    /// SQL NULL. In the old key of a `Default` or `Index` identity also a column outside the key.
    Null,
    /// An unchanged TOASTed value, which the server does not send.
    Unchanged,
    /// Text form of the value.
    Text {
        /// Offset in the message.
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
    /// An unchanged TOASTed value that was not sent.
    Unavailable,
    /// PostgreSQL's text form, in UTF-8 unless the database has another encoding.
    Text(&'a [u8]),
}

/// A row or a key: the cells of one message.
#[derive(Clone, Copy, Debug)]
pub struct Tuple<'a> {
    message: &'a [u8],
    cells: &'a [Cell],
}

impl<'a> Tuple<'a> {
    /// A tuple of these cells of `message`. A cell outside of the message reads as NULL; decoders never
    /// produce one.
    pub const fn new(message: &'a [u8], cells: &'a [Cell]) -> Self {
        Self { message, cells }
    }

    /// Number of columns.
    pub const fn len(&self) -> usize {
        self.cells.len()
    }

    /// Whether there are no columns.
    pub const fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }

    /// The value of a column; NULL after the last one.
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

/// The known part of a row before its change.
#[derive(Clone, Copy, Debug)]
pub enum OldRow<'a> {
    /// The replica identity's columns. The others are unknown and read as NULL.
    Key(Tuple<'a>),
    /// The whole row (`REPLICA IDENTITY FULL`).
    Full(Tuple<'a>),
}

/// The operation of a change.
#[derive(Clone, Copy, Debug)]
pub enum Operation<'a> {
    /// A row was inserted.
    Insert {
        /// The row.
        new: Tuple<'a>,
    },
    /// A row was updated.
    Update {
        /// Present if the replica identity's columns changed, or if the identity is `Full`.
        old: Option<OldRow<'a>>,
        /// The row after the update; unchanged TOASTed values may be unavailable.
        new: Tuple<'a>,
    },
    /// A row was deleted.
    Delete {
        /// The part of the row that the replica identity provides.
        old: OldRow<'a>,
    },
    /// All rows of the table were removed.
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
    /// Position.
    pub place: ChangePlace,
    /// The table.
    pub relation: &'a Arc<Relation>,
    /// The operation.
    pub operation: Operation<'a>,
    /// The message as received, for the dead letter.
    pub raw: &'a [u8],
}

/// Position of a change in its transaction and in its source's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChangePlace {
    /// The transaction.
    pub transaction: Transaction,
    /// Index in the transaction, counted over everything delivered.
    pub index: u32,
    /// Position of the change's record in the source's log. Several changes can share one (COPY, TRUNCATE of
    /// several tables).
    pub record: CommitSeq,
    /// Index among the changes of the same kind that share a record.
    pub nth: u32,
}

impl ChangePlace {
    /// The position of the change in this epoch.
    pub const fn position(&self, epoch: u16) -> Position {
        Position { epoch, commit: self.transaction.commit, index: self.index }
    }
}

/// A change that was delivered but cannot be decoded. It becomes a dead letter.
#[derive(Clone, Copy, Debug)]
pub struct Unreadable<'a> {
    /// Position.
    pub place: ChangePlace,
    /// The table, if it could be decoded.
    pub relation: Option<&'a Relation>,
    /// Its name, `schema.table`.
    pub table: Option<&'a str>,
    /// Why the change cannot be decoded. Never contains row values.
    pub reason: &'a str,
    /// Size of the whole message in bytes.
    pub size: u64,
    /// The message. Truncated if it exceeds the row-size limit.
    pub raw: &'a [u8],
}

/// A transactional logical message (`pg_logical_emit_message`). It has a position and no row.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// Position.
    pub place: ChangePlace,
    /// The prefix, in the database's encoding.
    pub prefix: &'a [u8],
    /// The content.
    pub content: &'a [u8],
    /// Size of the whole message in bytes.
    pub size: u64,
    /// The message as received. Truncated if it exceeds the row-size limit.
    pub raw: &'a [u8],
}

impl Message<'_> {
    /// Whether the message is not truncated.
    pub const fn is_whole(&self) -> bool {
        self.raw.len() as u64 == self.size
    }
}

/// A delivery of a source. The order is `Begin`, changes, `Commit`; `Progress` comes between transactions.
#[derive(Clone, Debug)]
pub enum Delivery<'a> {
    /// A committed transaction starts.
    Begin(Transaction),
    /// The rows of this transaction existed before the source was first read. It is delivered directly after
    /// `Begin`.
    Backfill,
    /// A change of the transaction.
    Change(Change<'a>),
    /// A change of the transaction that cannot be decoded.
    Unreadable(Unreadable<'a>),
    /// A transactional logical message.
    Message(Message<'a>),
    /// The transaction is complete.
    Commit {
        /// The point to confirm once the transaction's changes are settled. `None` while the source cannot
        /// yet verify that the history is the checkpoint's.
        resume: Option<ResumePoint>,
    },
    /// Between two transactions: everything up to here was delivered.
    Progress {
        /// The point to confirm once everything received is settled.
        resume: ResumePoint,
    },
}
