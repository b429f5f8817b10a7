//! Limits log lines that would otherwise appear for every row.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::change::Relation;
use crate::time;

/// Shortest time between two lines.
const AGAIN: Duration = Duration::from_mins(1);

/// Most tables remembered. Beyond that, all are forgotten, and a table may be logged again.
const TABLES_MAX: usize = 1_000;

/// Allows one line a minute.
#[derive(Debug, Default)]
pub(super) struct RateLimitedLog {
    last: Option<Instant>,
}

impl RateLimitedLog {
    /// Whether the line may be logged now. If so, the next one is due in a minute.
    pub(super) fn is_due(&mut self) -> bool {
        let now = time::now();
        let due = self.last.is_none_or(|last| now.duration_since(last) >= AGAIN);
        if due {
            self.last = Some(now);
        }
        due
    }
}

/// Tables that no longer fit their rules. Each definition of a table is logged once.
#[derive(Debug, Default)]
pub(super) struct Drifted {
    tables: HashMap<u32, Arc<Relation>>,
}

impl Drifted {
    /// Whether this definition has not been logged yet.
    pub(super) fn is_new(&mut self, relation: &Arc<Relation>) -> bool {
        if self.tables.len() >= TABLES_MAX {
            self.tables.clear();
        }
        // A reconnect delivers the same definition again.
        self.tables.insert(relation.oid, Arc::clone(relation)).is_none_or(|logged| logged != *relation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::ReplicaIdentity;

    #[test]
    fn drift_is_logged_once_per_table_description() {
        let relation = |table: &str| {
            Arc::new(Relation {
                oid: 5,
                schema: "lab".into(),
                table: table.into(),
                identity: ReplicaIdentity::Default,
                columns: Vec::new(),
                primary_key: Vec::new(),
                absent: Vec::new(),
                unknown: None,
            })
        };
        let mut drifted = Drifted::default();
        let new: Vec<bool> = ["a", "a", "b", "b", "a"].map(|table| drifted.is_new(&relation(table))).to_vec();
        assert_eq!(new, [true, false, true, false, true]);
    }

    #[test]
    fn rate_limited_log_allows_one_line_per_minute() {
        let mut log = RateLimitedLog::default();
        assert_eq!([log.is_due(), log.is_due()], [true, false]);
    }
}
