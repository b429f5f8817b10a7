//! PostgreSQL's logical replication as a [`Source`](crate::source::Source).

pub mod catalog;
pub mod connection;
pub mod conninfo;
pub mod pgoutput;
pub mod slot;
pub mod tls;
pub mod transaction;
