//! Every table of a database, and what matters for publishing it, for `forebay init`. Reads only the
//! catalogue and its statistics, and locks no table: sizes are those of the last VACUUM or ANALYZE.

use tokio_postgres::{Client, Row};

use crate::config::TableName;
use crate::source::postgres::error::Error;
use crate::source::postgres::name::{CatalogText, raw_name, table_name, texts};
use crate::source::postgres::pages;

use super::identity::{KEY, unfit};
use super::{COLUMN, SCHEMA, TABLE, version};

/// A table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SurveyedTable {
    /// Its name.
    pub name: TableName,
    /// Why it is left out; `None` if it can be published.
    pub left_out: Option<&'static str>,
    /// Columns of its key.
    pub key: Vec<String>,
    /// The first key column that a row filter can hash, and the hash function for it.
    pub hashed: Option<(String, &'static str)>,
    /// Whether the whole old row is sent (`REPLICA IDENTITY FULL`).
    pub is_full: bool,
    /// Number of rows, as last counted.
    pub rows: u64,
    /// Bytes without indexes and TOAST, as last counted.
    pub bytes: u64,
    /// Inserts, updates and deletes since the statistics were reset.
    pub changes: u64,
    /// Columns whose names suggest personal data.
    pub personal: Vec<String>,
}

/// The survey of a database.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DatabaseSurvey {
    /// Its tables, by name.
    pub tables: Vec<SurveyedTable>,
    /// Number of tables beyond the limit.
    pub more: usize,
    /// Existing publications.
    pub publications: Vec<String>,
    /// Seconds for which changes have been counted.
    pub counted_for: u64,
    /// The server's version as a number, such as 180000.
    pub version: i32,
}

/// Most tables that are described. Of the rest, only the number is known.
const TABLES_MAX: usize = 10_000;

/// Pattern for names of columns that often hold personal data.
const PERSONAL: &str = "(^|_)(e?mail|phone|mobile|passw(or)?d|ssn|iban|birth_?(day|date)?|(first|last|full)_?name|surname|street|address)($|_)";

/// Examines all tables in user schemas.
///
/// # Errors
/// The connection broke.
pub async fn survey(client: &Client) -> Result<DatabaseSurvey, Error> {
    const ABOUT: &str = "SELECT greatest(extract(epoch FROM clock_timestamp() - stats_reset), 1)::int8
        FROM pg_catalog.pg_stat_database WHERE datname = current_database()";
    const PUBLICATIONS: &str = concat!(
        "SELECT ARRAY(SELECT ",
        raw_name!("p.pubname"),
        " FROM pg_catalog.pg_publication p ORDER BY p.pubname)"
    );
    let mut found = DatabaseSurvey::default();
    let take = |row: &Row| {
        if found.tables.len() < TABLES_MAX {
            found.tables.push(table(row)?);
        } else {
            found.more += 1;
        }
        Ok(())
    };
    let version = version(client).await?;
    pages::each(client, &query(version), PERSONAL, take).await?;
    found.version = version;
    let row = client.query_one(PUBLICATIONS, &[]).await?;
    found.publications = texts(row.try_get::<_, Vec<CatalogText>>(0)?);
    let row = client.query_one(ABOUT, &[]).await?;
    found.counted_for = count(row.try_get(0)?);
    Ok(found)
}

fn count(value: Option<i64>) -> u64 {
    value.and_then(|value| u64::try_from(value).ok()).unwrap_or_default()
}

fn table(row: &Row) -> Result<SurveyedTable, Error> {
    let texts_at = |at| -> Result<Vec<String>, Error> {
        Ok(row.try_get::<_, Option<Vec<CatalogText>>>(at)?.map(texts).unwrap_or_default())
    };
    let (kind, persistence, unfit): (&str, &str, Option<&str>) =
        (row.try_get(2)?, row.try_get(3)?, row.try_get(4)?);
    let left_out = match (kind, persistence, unfit) {
        ("f", ..) => Some("a foreign table: its changes are not in this database's WAL"),
        ("m", ..) => Some("a materialized view: PostgreSQL does not publish it"),
        (_, "u", _) => Some("UNLOGGED: its changes are not in the WAL"),
        (.., Some("none")) => Some("no primary key: add one, or set REPLICA IDENTITY FULL"),
        (.., Some("key")) => Some("its key has a generated column, which is not sent"),
        (.., Some(_)) => Some("REPLICA IDENTITY FULL, but generated columns that are not sent"),
        (.., None) => None,
    };
    let (key, types) = (texts_at(6)?, row.try_get::<_, Option<Vec<i64>>>(11)?.unwrap_or_default());
    let hashed = key.iter().zip(types).find_map(|(column, of)| Some((column.clone(), hash_function(of)?)));
    Ok(SurveyedTable {
        name: table_name(row, 0)?,
        left_out,
        is_full: row.try_get(5)?,
        key,
        hashed,
        rows: count(row.try_get(7)?),
        bytes: count(row.try_get(8)?),
        changes: count(row.try_get(9)?),
        personal: texts_at(10)?,
    })
}

/// The function that hashes a type to 64 bits; `None` for types that a row filter may not use, or whose
/// function takes another type. The OIDs of these types never change (`pg_type.dat`).
fn hash_function(type_oid: i64) -> Option<&'static str> {
    Some(match type_oid {
        20 => "hashint8extended",
        21 => "hashint2extended",
        23 => "hashint4extended",
        25 | 1043 => "hashtextextended",
        1042 => "hashbpcharextended",
        1700 => "hash_numeric_extended",
        2950 => "uuid_hash_extended",
        _ => return None,
    })
}

/// The query. Parameter 1 is a pattern for names of columns.
fn query(version: i32) -> String {
    format!(
        "WITH RECURSIVE tree (top, oid) AS (
             SELECT c.oid, c.oid FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
             WHERE c.relkind IN ('r', 'p', 'f', 'm') AND c.relpersistence <> 't' AND NOT c.relispartition
               AND n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\\_%'
               AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_class'::regclass
                               AND d.objid = c.oid AND d.deptype = 'e')
             UNION
             SELECT t.top, i.inhrelid FROM tree t
             JOIN pg_catalog.pg_class c ON c.oid = t.oid AND c.relkind = 'p'
             JOIN pg_catalog.pg_inherits i ON i.inhparent = t.oid),
         sums (top, rows, bytes, changes) AS (
             SELECT t.top, sum(greatest(l.reltuples, 0))::int8,
                    sum(l.relpages::int8 * current_setting('block_size')::int8)::int8,
                    sum(pg_catalog.pg_stat_get_tuples_inserted(l.oid) + pg_catalog.pg_stat_get_tuples_updated(l.oid)
                        + pg_catalog.pg_stat_get_tuples_deleted(l.oid))::int8
             FROM tree t JOIN pg_catalog.pg_class l ON l.oid = t.oid AND l.relkind <> 'p' GROUP BY t.top)
         SELECT {SCHEMA}, {TABLE}, c.relkind::text, c.relpersistence::text,
                CASE WHEN c.relkind IN ('r', 'p') THEN {} END,
                c.relreplident = 'f',
                (SELECT array_agg({COLUMN} ORDER BY a.attnum) FROM {KEY}),
                s.rows, s.bytes, s.changes,
                (SELECT array_agg({COLUMN} ORDER BY a.attnum) FROM pg_catalog.pg_attribute a
                 WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attname ~* $1),
                (SELECT array_agg(a.atttypid::int8 ORDER BY a.attnum) FROM {KEY})
         FROM (SELECT DISTINCT top FROM tree) t
         JOIN pg_catalog.pg_class c ON c.oid = t.top
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
         LEFT JOIN sums s ON s.top = t.top
         ORDER BY 1, 2",
        unfit(version)
    )
}
