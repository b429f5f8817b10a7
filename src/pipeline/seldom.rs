//! What would be said for every row is said seldom.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::change::Relation;

/// How often at most.
const AGAIN: Duration = Duration::from_mins(1);

/// Tables that are remembered; with more, one is said again.
const TABLES_MAX: usize = 1_000;

/// Once a minute.
#[derive(Debug, Default)]
pub(super) struct Seldom {
    last: Option<Instant>,
}

impl Seldom {
    /// Whether to say it now.
    pub(super) fn is_due(&mut self) -> bool {
        let now = Instant::now();
        let due = self.last.is_none_or(|last| now.duration_since(last) >= AGAIN);
        if due {
            self.last = Some(now);
        }
        due
    }
}

/// Tables that have changed under their rules: said once for each description of them.
#[derive(Debug, Default)]
pub(super) struct Drifted {
    tables: HashMap<u32, Arc<Relation>>,
}

impl Drifted {
    /// Whether this description was not said before.
    pub(super) fn is_new(&mut self, relation: &Arc<Relation>) -> bool {
        if self.tables.len() >= TABLES_MAX {
            self.tables.clear();
        }
        // A reconnect brings the same description once more.
        self.tables.insert(relation.oid, Arc::clone(relation)).is_none_or(|said| said != *relation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::ReplicaIdentity;

    #[test]
    fn a_table_that_drifted_is_told_once_for_each_description() {
        let relation = |table: &str| {
            Arc::new(Relation {
                oid: 5,
                schema: "lab".into(),
                table: table.into(),
                identity: ReplicaIdentity::Default,
                columns: Vec::new(),
                primary_key: Vec::new(),
                absent: Vec::new(),
            })
        };
        let mut drifted = Drifted::default();
        let told: Vec<bool> =
            ["a", "a", "b", "b", "a"].map(|table| drifted.is_new(&relation(table))).to_vec();
        assert_eq!(told, [true, false, true, false, true]);
    }

    #[test]
    fn a_minute_has_one() {
        let mut seldom = Seldom::default();
        assert_eq!([seldom.is_due(), seldom.is_due()], [true, false]);
    }
}
