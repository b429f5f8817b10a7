//! Facts about the configuration of the database that a start does not need and an operator should know: how
//! long the slot survives without a reader, what a failover does to it, what the publication leaves out.
//! [`judge`] turns them into diagnoses.
//!
//! Reads only the catalogue. No fact here decides whether a process starts.

pub mod judge;

use std::fmt;
use std::time::Duration;

use tokio_postgres::{Client, Row};

use crate::config::TableName;
use crate::time;

use super::error::Error;
use super::name::{CatalogText, raw_name, table_name, texts};
use super::pages;
use super::publication::{SCHEMA, TABLE, members, version};

/// The facts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SetupFacts {
    /// `max_slot_wal_keep_size` in bytes; `None`: no limit.
    pub keep_max: Option<u64>,
    /// `idle_replication_slot_timeout` (from PostgreSQL 18); `None`: no limit.
    pub idle_max: Option<Duration>,
    /// `hot_standby_feedback`.
    pub standby_feedback: bool,
    /// Names of the physical slots. Usually each belongs to a standby.
    pub physical_slots: Vec<String>,
    /// Whether `synchronized_standby_slots` (from PostgreSQL 17) is set.
    pub waits_for_standbys: bool,
    /// Number of walsenders in use.
    pub senders_used: u32,
    /// Bytes of WAL per second, on average since the server's statistics were reset.
    pub wal_rate: u64,
    /// Microseconds that the server's clock is ahead of ours, within the uncertainty of the query's duration.
    pub clock_ahead: i64,
    /// Special cases among the published tables.
    pub tables: TableHazards,
}

/// Special cases among the published tables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableHazards {
    /// Tables with generated columns that are not sent.
    pub generated: TableSet,
    /// Tables for which an UPDATE does not send large values that it leaves unchanged (TOAST).
    pub toasted: TableSet,
    /// Partitions whose changes are sent under their own names.
    pub partitions: TableSet,
}

/// A number of tables, and the first few names. For a million tables it stores only these.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableSet {
    count: usize,
    first: Vec<TableName>,
}

impl TableSet {
    /// Number of names that are shown.
    const SHOWN: usize = 3;

    /// Whether no table was added.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Adds a table.
    pub fn add(&mut self, table: &TableName) {
        self.count += 1;
        if self.first.len() < Self::SHOWN {
            self.first.push(table.clone());
        }
    }
}

impl<'a> FromIterator<&'a TableName> for TableSet {
    fn from_iter<T: IntoIterator<Item = &'a TableName>>(tables: T) -> Self {
        tables.into_iter().fold(Self::default(), |mut set, table| {
            set.add(table);
            set
        })
    }
}

/// Such as `lab.a, lab.b and 7 more`.
impl fmt::Display for TableSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self.first.iter().map(TableName::to_string).collect();
        f.write_str(&names.join(", "))?;
        match self.count - self.first.len() {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

/// Reads settings from `pg_settings`, which has their units.
const SETTINGS: &str = concat!(
    "SELECT (SELECT setting::int8 FROM pg_catalog.pg_settings WHERE name = 'max_slot_wal_keep_size'),
            (SELECT setting::int8 * CASE unit WHEN 'min' THEN 60 ELSE 1 END FROM pg_catalog.pg_settings
             WHERE name = 'idle_replication_slot_timeout'),
            current_setting('hot_standby_feedback') = 'on',
            ARRAY(SELECT ",
    raw_name!("s.slot_name"),
    " FROM pg_catalog.pg_replication_slots s WHERE s.slot_type = 'physical' AND NOT s.temporary ORDER BY s.slot_name),
            coalesce(current_setting('synchronized_standby_slots', true), '') <> '',
            (SELECT count(*) FROM pg_catalog.pg_stat_replication),
            (SELECT (w.wal_bytes / greatest(extract(epoch FROM clock_timestamp() - w.stats_reset), 1)::numeric)::int8
             FROM pg_catalog.pg_stat_wal w),
            (extract(epoch FROM clock_timestamp()) * 1000000)::int8"
);

/// Reads the facts.
///
/// # Errors
/// The connection broke, or the role may not read a part of the catalogue.
pub async fn read(client: &Client, publication: &str) -> Result<SetupFacts, Error> {
    let tables = hazards(client, publication).await?;
    let before = time::now_micros();
    let row = client.query_one(SETTINGS, &[]).await?;
    let after = time::now_micros();
    let theirs: i64 = row.try_get(7)?;
    let keep_mib: Option<i64> = row.try_get(0)?;
    let idle: Option<i64> = row.try_get(1)?;
    let positive = |value: Option<i64>| value.and_then(|value| u64::try_from(value).ok());
    Ok(SetupFacts {
        keep_max: positive(keep_mib).map(|mib| mib.saturating_mul(1 << 20)),
        idle_max: positive(idle).filter(|seconds| *seconds > 0).map(Duration::from_secs),
        standby_feedback: row.try_get(2)?,
        physical_slots: texts(row.try_get::<_, Vec<CatalogText>>(3)?),
        waits_for_standbys: row.try_get(4)?,
        senders_used: u32::try_from(row.try_get::<_, i64>(5)?).unwrap_or(u32::MAX),
        wal_rate: positive(row.try_get(6)?).unwrap_or_default(),
        clock_ahead: beyond(theirs, before, after),
        tables,
    })
}

/// Distance of a point in time from an interval; 0 within it.
fn beyond(point: i64, from: i64, to: i64) -> i64 {
    if point < from { point - from } else { (point - to).max(0) }
}

async fn hazards(client: &Client, publication: &str) -> Result<TableHazards, Error> {
    const LIVE: &str =
        "pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped";
    // Column lists are read as JSON, because PostgreSQL 14 has none.
    let query = format!(
        "{}
         SELECT {SCHEMA}, {TABLE},
                EXISTS (SELECT FROM {LIVE} AND a.attgenerated <> '' AND NOT (a.attgenerated = 's' AND
                    CASE WHEN jsonb_typeof(r.entry -> 'prattrs') = 'array' THEN r.entry -> 'prattrs' @> to_jsonb(a.attnum::int)
                         ELSE coalesce(to_jsonb(p) ->> 'pubgencols', 'n') = 's' END)),
                c.relreplident <> 'f' AND EXISTS (SELECT FROM {LIVE} AND a.attstorage <> 'p'),
                c.relispartition
         FROM p CROSS JOIN members m
         JOIN pg_catalog.pg_class c ON c.oid = m.oid
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
         LEFT JOIN LATERAL (SELECT to_jsonb(e) FROM pg_catalog.pg_publication_rel e
                            WHERE e.prpubid = p.oid AND e.prrelid = c.oid) r (entry) ON true
         WHERE CASE WHEN p.pubviaroot THEN NOT m.below ELSE c.relkind = 'r' END
         ORDER BY 1, 2",
        members(version(client).await?)
    );
    let mut found = TableHazards::default();
    let take = |row: &Row| {
        let table = table_name(row, 0)?;
        for (set, at) in [(&mut found.generated, 2), (&mut found.toasted, 3), (&mut found.partitions, 4)] {
            if row.try_get(at)? {
                set.add(&table);
            }
        }
        Ok(())
    };
    pages::each(client, &query, publication, take).await?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_tables_are_named_and_others_counted() {
        let names: Vec<_> = ["a", "b", "c", "d", "e"]
            .iter()
            .map(|table| TableName { schema: "lab".to_owned(), table: (*table).to_owned() })
            .collect();
        let shown = |count| names.iter().take(count).collect::<TableSet>().to_string();
        assert_eq!(shown(1), "lab.a");
        assert_eq!(shown(3), "lab.a, lab.b, lab.c");
        assert_eq!(shown(5), "lab.a, lab.b, lab.c and 2 more");
    }

    #[test]
    fn clock_within_the_query_is_right() {
        for (point, expected) in [(95, -5), (100, 0), (105, 0), (110, 0), (111, 1)] {
            assert_eq!(beyond(point, 100, 110), expected);
        }
    }
}
