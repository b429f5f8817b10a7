//! What was committed, according to the database itself: the audit table that triggers fill in the same transaction.

use super::postgres::Postgres;

/// What happened to a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Op {
    /// The key came into being.
    Inserted,
    /// The row changed, its key did not.
    Updated,
    /// The key is gone.
    Deleted,
}

impl Op {
    /// The op as event types and the audit table spell it.
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "inserted" => Some(Self::Inserted),
            "updated" => Some(Self::Updated),
            "deleted" => Some(Self::Deleted),
            _ => None,
        }
    }
}

/// One committed change of one row.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Change {
    /// `schema.table`.
    pub table: String,
    /// The primary key as text.
    pub key: String,
    /// What happened.
    pub op: Op,
    /// The row's version after it; none for a deletion.
    pub version: Option<i64>,
}

impl Change {
    /// Of the event that describes it.
    pub fn event_type(&self) -> String {
        let op = match self.op {
            Op::Inserted => "inserted",
            Op::Updated => "updated",
            Op::Deleted => "deleted",
        };
        format!("{}.{op}.v1", self.table)
    }
}

impl Postgres {
    /// All committed changes of the lab's tables. For each key in the order of commits.
    pub fn history(&self) -> Vec<Change> {
        self.history_after(0).into_iter().map(|(_, change)| change).collect()
    }

    /// Those with a higher audit number, with their numbers. Whoever asks for one part after the other asks while nobody
    /// writes: a transaction that is open has numbers already.
    pub fn history_after(&self, nr: u64) -> Vec<(u64, Change)> {
        self.changes(&format!("nr > {nr}"))
    }

    /// Those that fulfil a condition on the audit table.
    pub fn changes(&self, condition: &str) -> Vec<(u64, Change)> {
        let rows = self.query(&format!(
            "select nr, table_name, key, op, version from audit.changes where {condition} order by nr"
        ));
        let change = |row: Vec<Option<String>>| {
            let [nr, table, key, op, version] = <[_; 5]>::try_from(row).unwrap();
            let change = Change {
                table: table.unwrap(),
                key: key.unwrap(),
                op: Op::parse(&op.unwrap()).unwrap(),
                version: version.map(|version| version.parse().unwrap()),
            };
            (nr.unwrap().parse().unwrap(), change)
        };
        rows.into_iter().map(change).collect()
    }
}
