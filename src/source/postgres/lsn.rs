//! PostgreSQL's log sequence number: a byte address in the write-ahead log.
//!
//! With logical replication, it *is* the commit sequence by which the core orders changes. So it is the same
//! type, under the name that PostgreSQL's documentation uses.

pub use crate::position::CommitSeq as Lsn;
