//! Tables that were announced and have been dropped since. Their descriptions are forgotten once no change of
//! them can follow.
//!
//! DROP TABLE takes a lock that excludes transactions with changes of the table. So all its changes were
//! committed before the DROP, and a catalogue read that does not find the table was later. Once the stream
//! has delivered a commit beyond that read, none of its changes can follow. A new table with the same OID is
//! announced again.

use tokio_postgres::Client;
use tokio_postgres::types::Type;

use super::look::{WAL, lsn};
use crate::source::postgres::error::Error;

/// From this number of described tables on, the catalogue is queried for those that were dropped.
pub const RELATIONS_MAX: usize = 20_000;

/// Tables that a catalogue read did not find.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DroppedTables {
    /// `pg_class.oid`.
    pub tables: Vec<u32>,
    /// End of the WAL after the read.
    pub after: u64,
}

/// Reads which of these tables do not exist any more.
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

/// Decides when to check for dropped tables, and when to forget them. Does no I/O.
#[derive(Debug)]
pub struct Forgetting {
    /// The configured number of tables between two checks.
    step: usize,
    /// Number of described tables at which the next check is due.
    limit: usize,
    /// Dropped tables, until it is safe to forget them.
    found: Option<DroppedTables>,
}

impl Forgetting {
    /// With this number of tables between two checks.
    pub const fn new(limit: usize) -> Self {
        Self { step: limit, limit, found: None }
    }

    /// Whether a check is due with this many described tables.
    pub const fn must_ask(&self, described: usize) -> bool {
        self.found.is_none() && described > self.limit
    }

    /// Notes the result of a check. `described` is the number of described tables. The next check is due when
    /// the limit is reached on top of those that remain.
    pub fn found(&mut self, dropped: DroppedTables, described: usize) {
        self.limit = described.saturating_sub(dropped.tables.len()).saturating_add(self.step);
        self.found = Some(dropped);
    }

    /// The tables to forget after a commit that ends at this position.
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
        // Four tables are left.
        assert!(!forgetting.must_ask(7) && forgetting.must_ask(8));
    }
}
