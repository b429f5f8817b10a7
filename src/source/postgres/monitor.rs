//! Compares the publication with its earlier state. PostgreSQL skips changes that a publication leaves out,
//! and the stream does not show that.
//!
//! Each difference is logged once, with a stable `event`, and counted. Changes of the publication while the
//! process was not running are not detected, unless the publication leaves something out now.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::TableName;
use crate::source::postgres::inspect::Seen;
use crate::source::postgres::publication::{Partition, PublicationFacts, PublishedTable, quoted};

/// The last known state of the publication.
#[derive(Debug)]
pub struct PublicationMonitor {
    /// `source.tables`, if it is configured.
    configured: Vec<TableName>,
    facts: Option<PublicationFacts>,
    /// Every table that was published since the start, in its last published state, by `pg_class.oid`.
    known: BTreeMap<u32, PublishedTable>,
    /// The tables among them that are not published now.
    gone: BTreeSet<u32>,
    /// Tables of `source.tables` that were renamed.
    renamed: BTreeMap<TableName, u32>,
    /// Tables of `source.tables` that are not published now.
    missing: BTreeSet<TableName>,
    /// File nodes of partitions, by `pg_class.oid`.
    files: BTreeMap<u32, u32>,
}

/// The state of the publication at one check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observed {
    /// New differences.
    pub differences: usize,
    /// Tables that left the publication since the start.
    pub gone: usize,
    /// Tables of `source.tables` that the publication does not send.
    pub missing: usize,
}

/// A difference to report.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Difference {
    Recreated,
    OperationsStopped(Vec<&'static str>),
    OperationsResumed(Vec<&'static str>),
    OperationsOmitted(Vec<&'static str>),
    ViaRoot(bool),
    GeneratedColumns,
    TableGone(TableName),
    TableReturned(TableName),
    TableRenamed(TableName, TableName),
    TableMissing(TableName),
    RowFilter(TableName),
    Columns(TableName),
    PartitionEmptied(TableName, TableName),
}

impl PublicationMonitor {
    /// A monitor without an earlier state.
    pub fn new(configured: Option<Vec<TableName>>) -> Self {
        Self {
            configured: configured.unwrap_or_default(),
            facts: None,
            known: BTreeMap::new(),
            gone: BTreeSet::new(),
            renamed: BTreeMap::new(),
            missing: BTreeSet::new(),
            files: BTreeMap::new(),
        }
    }

    /// Checks the publication and logs the differences from its earlier state. Returns `None` if there is no
    /// publication, which is reported elsewhere.
    pub fn observe(&mut self, seen: &Seen) -> Option<Observed> {
        let facts = seen.publication.as_ref()?;
        let differences = self.compare(facts, &seen.partitions);
        for difference in &differences {
            difference.report(&seen.facts.database);
        }
        let (gone, missing) = (self.gone.len(), self.missing.len());
        Some(Observed { differences: differences.len(), gone, missing })
    }

    fn compare(&mut self, now: &PublicationFacts, partitions: &[Partition]) -> Vec<Difference> {
        let mut found = match self.facts.as_ref() {
            Some(before) => options(before, now),
            None => omitted(now),
        };
        let is_new = self.facts.as_ref().is_some_and(|before| before.oid != now.oid);
        self.tables(now, is_new, &mut found);
        let published: BTreeSet<&TableName> = now.tables.iter().map(|table| &table.name).collect();
        let is_sent = |name: &TableName| {
            published.contains(name) || self.renamed.get(name).is_some_and(|oid| !self.gone.contains(oid))
        };
        let missing: BTreeSet<TableName> =
            self.configured.iter().filter(|name| !is_sent(name)).cloned().collect();
        // A table that was published before is reported as gone instead.
        let gone: BTreeSet<&TableName> =
            self.gone.iter().filter_map(|oid| self.known.get(oid)).map(|table| &table.name).collect();
        let new = missing.difference(&self.missing).filter(|name| !gone.contains(name));
        found.extend(new.cloned().map(Difference::TableMissing));
        self.missing = missing;
        self.partitions(partitions, &mut found);
        // Its tables are stored separately in `known`.
        self.facts = Some(PublicationFacts {
            name: now.name.clone(),
            tables: Vec::new(),
            generated: now.generated.clone(),
            ..*now
        });
        found
    }

    fn tables(&mut self, now: &PublicationFacts, is_new: bool, found: &mut Vec<Difference>) {
        let published: BTreeSet<u32> = now.tables.iter().map(|table| table.oid).collect();
        // A table that was dropped and created again has the same name and another OID.
        let vanished: BTreeMap<TableName, u32> = self
            .known
            .iter()
            .filter(|(oid, _)| !published.contains(oid))
            .map(|(oid, table)| (table.name.clone(), *oid))
            .collect();
        for table in &now.tables {
            let name = &table.name;
            let mut was_gone = self.gone.contains(&table.oid);
            let mut before = self.known.insert(table.oid, table.clone());
            if let (None, Some(former)) = (&before, vanished.get(name)) {
                was_gone = self.gone.contains(former);
                before = self.known.remove(former);
            }
            let Some(before) = before else { continue };
            if before.name != *name {
                self.renamed.insert(before.name.clone(), table.oid);
                found.push(Difference::TableRenamed(before.name.clone(), name.clone()));
            }
            let kept = before.entries.is_empty() && table.entries.is_empty()
                || before.entries.iter().any(|entry| table.entries.contains(entry));
            let changed = before.filter != table.filter || before.columns != table.columns;
            if was_gone || !(kept || is_new || changed) {
                found.push(Difference::TableReturned(name.clone()));
            }
            if before.filter != table.filter {
                found.push(Difference::RowFilter(name.clone()));
            }
            if before.columns != table.columns {
                found.push(Difference::Columns(name.clone()));
            }
        }
        let gone: BTreeSet<u32> = self.known.keys().copied().filter(|oid| !published.contains(oid)).collect();
        let new = gone.difference(&self.gone).filter_map(|oid| self.known.get(oid));
        found.extend(new.map(|table| Difference::TableGone(table.name.clone())));
        self.gone = gone;
    }

    /// TRUNCATE gives each partition that it empties a new file without counted rows. PostgreSQL sends the
    /// TRUNCATE of a whole table. So a partition is reported only if other partitions of its table have kept
    /// their files.
    fn partitions(&mut self, now: &[Partition], found: &mut Vec<Difference>) {
        let kept: BTreeSet<&TableName> = now
            .iter()
            .filter(|partition| self.files.get(&partition.oid) == Some(&partition.file))
            .map(|partition| &partition.root)
            .collect();
        for partition in now {
            let is_other = self.files.get(&partition.oid).is_some_and(|file| *file != partition.file);
            if is_other && partition.uncounted && kept.contains(&partition.root) {
                let (name, root) = (partition.name.clone(), partition.root.clone());
                found.push(Difference::PartitionEmptied(name, root));
            }
        }
        self.files = now.iter().map(|partition| (partition.oid, partition.file)).collect();
    }
}

fn operations(facts: &PublicationFacts) -> [(&'static str, bool); 4] {
    [
        ("insert", facts.insert),
        ("update", facts.update),
        ("delete", facts.delete),
        ("truncate", facts.truncate),
    ]
}

/// The operations that a publication does not send.
pub fn omitted_operations(now: &PublicationFacts) -> Vec<&'static str> {
    operations(now).into_iter().filter(|(_, sent)| !sent).map(|(name, _)| name).collect()
}

fn omitted(now: &PublicationFacts) -> Vec<Difference> {
    let omitted = omitted_operations(now);
    if omitted.is_empty() { Vec::new() } else { vec![Difference::OperationsOmitted(omitted)] }
}

fn options(before: &PublicationFacts, now: &PublicationFacts) -> Vec<Difference> {
    let mut found = Vec::new();
    if before.oid != now.oid {
        found.push(Difference::Recreated);
    }
    let (mut stopped, mut resumed) = (Vec::new(), Vec::new());
    for ((name, was), (_, is)) in operations(before).into_iter().zip(operations(now)) {
        match (was, is) {
            (true, false) => stopped.push(name),
            (false, true) => resumed.push(name),
            _ => {}
        }
    }
    if !stopped.is_empty() {
        found.push(Difference::OperationsStopped(stopped));
    }
    if !resumed.is_empty() {
        found.push(Difference::OperationsResumed(resumed));
    }
    if before.via_root != now.via_root {
        found.push(Difference::ViaRoot(now.via_root));
    }
    if before.generated != now.generated {
        found.push(Difference::GeneratedColumns);
    }
    found
}

fn renamed(before: &TableName, table: &TableName) {
    tracing::error!(
        event = "publication_table_renamed",
        before = quoted(before),
        table = quoted(table),
        "table has another name: its automatic events have another type now, and rules and selectors with its former name no longer \
         match"
    );
}

/// The hint for a publication that does not send every operation.
const SEND_ALL_OPERATIONS: &str =
    "Run ALTER PUBLICATION … SET (publish = 'insert, update, delete, truncate'), unless this is intended.";

impl Difference {
    fn report(&self, database: &str) {
        match self {
            Self::Recreated => tracing::error!(
                event = "publication_recreated",
                database,
                "publication was dropped and created again; changes made in between were not sent"
            ),
            Self::OperationsStopped(operations) => tracing::error!(
                event = "publication_operations_stopped",
                operations = operations.join(", "),
                hint = SEND_ALL_OPERATIONS,
                "publication no longer sends these operations; such changes are lost to the stream"
            ),
            Self::OperationsResumed(operations) => tracing::warn!(
                event = "publication_operations_resumed",
                operations = operations.join(", "),
                "publication sends these operations again; changes made meanwhile were not sent"
            ),
            Self::OperationsOmitted(operations) => tracing::warn!(
                event = "publication_omits_operations",
                operations = operations.join(", "),
                hint = SEND_ALL_OPERATIONS,
                "publication does not send these operations"
            ),
            Self::ViaRoot(via_root) => tracing::error!(
                event = "publication_via_root_changed",
                publish_via_partition_root = via_root,
                "changes of partitions are sent under another table name than before"
            ),
            Self::GeneratedColumns => tracing::warn!(
                event = "publication_generated_columns_changed",
                "publication sends other generated columns than before"
            ),
            Self::TableGone(table) => tracing::error!(
                event = "publication_table_gone",
                table = quoted(table),
                hint = "Run ALTER PUBLICATION … ADD TABLE … to send its later changes. Changes made meanwhile are not sent.",
                "table left the publication, or was dropped; its changes are no longer sent"
            ),
            Self::TableReturned(table) => tracing::error!(
                event = "publication_table_returned",
                table = quoted(table),
                "table left the publication and returned; changes made meanwhile were not sent"
            ),
            Self::TableRenamed(before, table) => renamed(before, table),
            Self::TableMissing(table) => tracing::error!(
                event = "publication_table_missing",
                table = quoted(table),
                hint = "Run ALTER PUBLICATION … ADD TABLE …, or remove the table from source.tables.",
                "source.tables names a table that the publication does not send"
            ),
            Self::RowFilter(table) => tracing::error!(
                event = "publication_row_filter_changed",
                table = quoted(table),
                "row filter of the table was changed; rows that it excludes are not sent"
            ),
            Self::Columns(table) => tracing::error!(
                event = "publication_columns_changed",
                table = quoted(table),
                "column list of the table was changed; columns that it leaves out are not sent"
            ),
            Self::PartitionEmptied(partition, root) => tracing::error!(
                event = "partition_truncated",
                partition = quoted(partition),
                table = quoted(root),
                detail = "PostgreSQL sends no TRUNCATE of a single partition of a table that is published as a whole.",
                "partition was emptied, as by TRUNCATE; no event says so"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(table: &str) -> TableName {
        TableName { schema: "lab".to_owned(), table: table.to_owned() }
    }

    fn table(table: &str, entry: u32) -> PublishedTable {
        PublishedTable {
            oid: entry + 1000,
            name: name(table),
            columns: None,
            filter: None,
            unsent_key: Vec::new(),
            entries: vec![entry],
        }
    }

    fn facts() -> PublicationFacts {
        PublicationFacts {
            name: "forebay_lab".to_owned(),
            version: 180_000,
            oid: 1,
            all_tables: false,
            insert: true,
            update: true,
            delete: true,
            truncate: true,
            via_root: true,
            generated: None,
            tables: vec![table("a", 10), table("b", 11)],
        }
    }

    /// The differences of a second check, and of a third one without a change.
    fn after(change: impl FnOnce(&mut PublicationFacts)) -> Vec<Difference> {
        let mut monitor = PublicationMonitor::new(None);
        assert_eq!(monitor.compare(&facts(), &[]), []);
        let mut now = facts();
        change(&mut now);
        let found = monitor.compare(&now, &[]);
        assert_eq!(monitor.compare(&now, &[]), [], "each difference is reported once");
        found
    }

    #[test]
    fn every_difference_is_reported_once() {
        assert_eq!(after(|_| {}), []);
        assert_eq!(after(|now| now.oid = 2), [Difference::Recreated]);
        assert_eq!(after(|now| now.update = false), [Difference::OperationsStopped(vec!["update"])]);
        assert_eq!(after(|now| now.via_root = false), [Difference::ViaRoot(false)]);
        assert_eq!(after(|now| now.generated = Some("s".to_owned())), [Difference::GeneratedColumns]);
        assert_eq!(after(|now| drop(now.tables.remove(0))), [Difference::TableGone(name("a"))]);
        assert_eq!(after(|now| now.tables[0].entries = vec![12]), [Difference::TableReturned(name("a"))]);
        let renamed = Difference::TableRenamed(name("a"), name("x"));
        assert_eq!(after(|now| now.tables[0].name = name("x")), [renamed]);
        assert_eq!(after(|now| now.tables[0] = table("a", 15)), [Difference::TableReturned(name("a"))]);
        let filtered = |now: &mut PublicationFacts| {
            now.tables[1].filter = Some("f".to_owned());
            // ALTER PUBLICATION … SET TABLE creates a new entry for the table.
            now.tables[1].entries = vec![13];
        };
        assert_eq!(after(filtered), [Difference::RowFilter(name("b"))]);
        let listed = |now: &mut PublicationFacts| now.tables[1].columns = Some(vec!["id".to_owned()]);
        assert_eq!(after(listed), [Difference::Columns(name("b"))]);
        assert_eq!(after(|now| now.tables.push(table("c", 14))), [], "a new table is no loss");
    }

    #[test]
    fn table_that_comes_back_is_reported_again() {
        let mut monitor = PublicationMonitor::new(Some(vec![name("a"), name("z")]));
        assert_eq!(monitor.compare(&facts(), &[]), [Difference::TableMissing(name("z"))]);
        let mut without = facts();
        without.tables.remove(0);
        assert_eq!(monitor.compare(&without, &[]), [Difference::TableGone(name("a"))]);
        assert_eq!(monitor.compare(&facts(), &[]), [Difference::TableReturned(name("a"))]);
        assert_eq!(monitor.compare(&without, &[]), [Difference::TableGone(name("a"))]);
    }

    /// Two tables exchange their names. `source.tables` contains one of them.
    #[test]
    fn renamed_table_is_not_reported_as_lost() {
        let mut monitor = PublicationMonitor::new(Some(vec![name("a")]));
        assert_eq!(monitor.compare(&facts(), &[]), []);
        let mut now = facts();
        now.tables[0].name = name("c");
        assert_eq!(monitor.compare(&now, &[]), [Difference::TableRenamed(name("a"), name("c"))]);
        assert!(monitor.missing.is_empty());
        now.tables[1].name = name("a");
        assert_eq!(monitor.compare(&now, &[]), [Difference::TableRenamed(name("b"), name("a"))]);
        drop(now.tables.remove(0));
        assert_eq!(monitor.compare(&now, &[]), [Difference::TableGone(name("c"))]);
        assert_eq!(
            monitor.compare(&facts(), &[]).len(),
            3,
            "both have their names again, and one has come back"
        );
    }

    #[test]
    fn only_a_single_partition_that_is_emptied_is_reported() {
        let partition = |oid: u32, file: u32, uncounted: bool| Partition {
            oid,
            name: name(&format!("p{oid}")),
            root: name("p"),
            file,
            uncounted,
        };
        let mut monitor = PublicationMonitor::new(None);
        monitor.compare(&facts(), &[partition(1, 100, false), partition(2, 200, true)]);
        let rewritten = [partition(1, 101, false), partition(2, 200, true)];
        assert_eq!(monitor.compare(&facts(), &rewritten), []);
        let emptied = [partition(1, 102, true), partition(2, 200, true)];
        let expected = [Difference::PartitionEmptied(name("p1"), name("p"))];
        assert_eq!(monitor.compare(&facts(), &emptied), expected);
        let all = [partition(1, 103, true), partition(2, 201, true)];
        assert_eq!(monitor.compare(&facts(), &all), [], "TRUNCATE of the whole table is sent");
    }
}
