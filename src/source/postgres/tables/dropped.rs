//! Tables that were announced and dropped since: their descriptions are forgotten when no change of them can follow.
//!
//! A table is dropped under a lock that no transaction with changes of it shares. So all of its changes were committed before its
//! DROP, and a look that does not find it was taken after that: once the stream has delivered a commit beyond the look, none of
//! its changes can follow. A table that takes over the OID is announced anew.

use tokio_postgres::Client;
use tokio_postgres::types::Type;

use super::look::{WAL, lsn};
use crate::source::postgres::error::Error;

/// So many announced tables are described before it is asked which of them are gone.
pub const RELATIONS_MAX: usize = 20_000;

/// Tables that a look did not find.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DroppedTables {
    /// `pg_class.oid`.
    pub tables: Vec<u32>,
    /// End of the WAL after the look.
    pub after: u64,
}

/// Looks which of these tables are gone.
///
/// # Errors
/// The connection broke, or the statement was cancelled.
pub(super) async fn look(client: &Client, tables: &[u32]) -> Result<DroppedTables, Error> {
    let query = format!(
        "{WAL}, ARRAY(SELECT t.oid FROM pg_catalog.unnest($1) t (oid)
                      WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = t.oid)) AS tables"
    );
    let rows = client.query_typed(&query, &[(&tables, Type::OID_ARRAY)]).await?;
    let row = rows.first().ok_or_else(|| Error::Protocol("a look at tables without a row".to_owned()))?;
    Ok(DroppedTables { tables: row.try_get("tables")?, after: lsn(row.try_get("wal")?) })
}

/// When to ask which tables are gone, and when to forget them. Pure.
#[derive(Debug)]
pub struct Forgetting {
    /// The limit of the configuration.
    step: usize,
    /// Described tables at which it is asked.
    limit: usize,
    /// What was found, until it is safe to forget it.
    found: Option<DroppedTables>,
}

impl Forgetting {
    /// With a limit.
    pub const fn new(limit: usize) -> Self {
        Self { step: limit, limit, found: None }
    }

    /// Whether to ask, with so many tables described.
    pub const fn must_ask(&self, described: usize) -> bool {
        self.found.is_none() && described > self.limit
    }

    /// Takes what was found; `described`: that many tables are described. Those that remain are asked about when the limit is
    /// reached beside them.
    pub fn found(&mut self, dropped: DroppedTables, described: usize) {
        self.limit = described.saturating_sub(dropped.tables.len()).saturating_add(self.step);
        self.found = Some(dropped);
    }

    /// The tables to forget after a commit that ends there.
    pub fn committed(&mut self, end: u64) -> Vec<u32> {
        let is_beyond = |found: &mut DroppedTables| end > found.after;
        self.found.take_if(is_beyond).map(|found| found.tables).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropped_tables_are_forgotten_after_a_commit_beyond() {
        let mut forgetting = Forgetting::new(3);
        assert!(!forgetting.must_ask(3) && forgetting.must_ask(4));
        forgetting.found(DroppedTables { tables: vec![7, 8], after: 100 }, 6);
        assert!(!forgetting.must_ask(60), "one question at a time");
        assert!(forgetting.committed(100).is_empty());
        assert_eq!(forgetting.committed(101), [7, 8]);
        assert!(forgetting.committed(102).is_empty());
        // Four are left.
        assert!(!forgetting.must_ask(7) && forgetting.must_ask(8));
    }
}
