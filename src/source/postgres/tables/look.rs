//! A *look*: one read of tables and the types of their columns from the catalogue, in one statement and
//! therefore one snapshot.
//!
//! It takes no lock on a table: only `pg_catalog` is read, by qualified names.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Row};

use super::personal::{ColumnId, Heir};
use super::state::{TableState, TypeState};
use crate::config::{Pii, selector};
use crate::source::postgres::error::Error;
use crate::source::postgres::lsn::Lsn;
use crate::source::postgres::name::{CatalogJson, CatalogText, raw_name};

/// The snapshot of a look. The result depends only on transactions that the snapshot sees.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LookedAt {
    /// End of the WAL before the snapshot was taken.
    pub before: u64,
    /// End of the WAL after it was taken.
    pub after: u64,
    /// Transactions below this id have ended.
    xmin: u64,
    /// Transactions from this id on have not ended.
    xmax: u64,
    /// Transactions between the two that have not ended. Empty on a standby, which does not know them.
    running: Vec<u64>,
    /// Whether `running` is known.
    exact: bool,
}

impl LookedAt {
    /// Whether a transaction of the stream had ended when the snapshot was taken; `None` if unknown.
    pub(super) fn sees(&self, xid: u32) -> Option<bool> {
        let xid = self.widened(xid);
        if xid < self.xmin {
            Some(true)
        } else if xid >= self.xmax {
            Some(false)
        } else if self.exact {
            Some(!self.running.contains(&xid))
        } else {
            None
        }
    }

    /// The 64-bit form of a transaction id that is within 2^31 of the snapshot.
    fn widened(&self, xid: u32) -> u64 {
        let low = u32::try_from(self.xmax & 0xFFFF_FFFF).unwrap_or_default();
        let distance = i64::from(xid.wrapping_sub(low).cast_signed());
        self.xmax.saturating_add_signed(distance)
    }

    fn of(row: &Row, before: u64) -> Result<Self, Error> {
        let (after, snapshot, exact): (String, String, bool) =
            (row.try_get("wal")?, row.try_get("snapshot")?, row.try_get("exact")?);
        let mut parts = snapshot.split(':');
        let mut number = || parts.next().and_then(|part| part.parse().ok()).unwrap_or_default();
        let (xmin, xmax) = (number(), number());
        let running =
            parts.next().unwrap_or_default().split(',').filter_map(|xid| xid.parse().ok()).collect();
        Ok(Self { before, after: lsn(&after), xmin, xmax, running, exact })
    }
}

#[cfg(test)]
impl LookedAt {
    /// A snapshot that sees the transactions below `xmin`, and none from it on.
    pub(super) fn at(wal: u64, xid: u64) -> Self {
        Self { before: wal, after: wal, xmin: xid, xmax: xid, running: Vec::new(), exact: true }
    }
}

/// The result of a look.
#[derive(Clone, Debug, Default)]
pub struct Look {
    /// Its snapshot.
    pub(super) at: LookedAt,
    /// The requested tables; `None` if a table does not exist.
    pub(super) tables: Vec<(u32, Option<TableState>)>,
    /// The types of their columns, with all types that these consist of.
    pub(super) types: Vec<(u32, TypeState)>,
    /// For each table, the facts that make the server announce it again without a new definition.
    pub(super) noise: Vec<(u32, String)>,
    /// Columns of children and partitions of tables with personal data.
    pub(super) heirs: Vec<Heir>,
}

pub(super) fn lsn(text: &str) -> u64 {
    text.parse::<Lsn>().map(Lsn::get).unwrap_or_default()
}

/// SQL for the end of the WAL; on a standby, the replay position.
pub(super) const WAL: &str =
    "SELECT (CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn()
                        ELSE pg_catalog.pg_current_wal_insert_lsn() END)::text AS wal";

/// Reads these tables and types. The types are given separately, because rows may have a column that their
/// table no longer has.
///
/// # Errors
/// The connection broke, or the statement was cancelled.
pub(super) async fn look(
    client: &Client,
    tables: &[u32],
    types: &[u32],
    publication: &str,
) -> Result<Look, Error> {
    let (line, noise) = (raw_name!("l.line"), raw_name!("l.noise"));
    let query = format!(
        "{LINES} {WAL}, pg_catalog.pg_current_snapshot()::text AS snapshot, NOT pg_catalog.pg_is_in_recovery() AS exact,
         l.what, l.oid, {line} AS line, l.newest, l.key_newest, l.created, {noise} AS noise
         FROM (SELECT 1) one LEFT JOIN (SELECT * FROM table_lines UNION ALL SELECT * FROM type_lines) l ON true"
    );
    let before = before(client).await?;
    let rows = client.query_typed(&query, &parameters(&tables, &types, &publication)).await?;
    let mut look = Look::default();
    if let Some(first) = rows.first() {
        look.at = LookedAt::of(first, before)?;
    }
    let mut missing: Vec<u32> = tables.to_vec();
    for row in &rows {
        let Some(what) = row.try_get::<_, Option<&str>>("what")? else { continue };
        let (oid, CatalogJson(line)): (u32, CatalogJson) = (row.try_get("oid")?, row.try_get("line")?);
        if what == "table" {
            let mut state: TableState = read(&line)?;
            state.newest = xid(row, "newest")?;
            state.key_newest = xid(row, "key_newest")?;
            state.created = xid(row, "created")?;
            missing.retain(|missing| *missing != oid);
            look.noise.push((
                oid,
                row.try_get::<_, Option<CatalogText>>("noise")?
                    .map_or_else(String::new, |CatalogText(text)| text),
            ));
            look.tables.push((oid, Some(state)));
        } else {
            look.types.push((oid, read(&line)?));
        }
    }
    look.tables.extend(missing.into_iter().map(|oid| (oid, None)));
    Ok(look)
}

/// The columns of children and partitions that correspond to these columns of their ancestors.
///
/// # Errors
/// The same as those of [`look`].
pub(super) async fn heirs(client: &Client, columns: &[ColumnId]) -> Result<Vec<Heir>, Error> {
    const QUERY: &str = "
        WITH RECURSIVE wanted AS (
            SELECT DISTINCT w.oid, a.attnum, a.attname FROM ROWS FROM (pg_catalog.unnest($1::oid[]), pg_catalog.unnest($2::int2[])) AS w (oid, number)
            JOIN pg_catalog.pg_attribute a ON a.attrelid = w.oid AND a.attnum = w.number AND NOT a.attisdropped),
        heirs (top, oid) AS (
            SELECT i.inhparent, i.inhrelid FROM (SELECT DISTINCT oid FROM wanted) w
            JOIN pg_catalog.pg_inherits i ON i.inhparent = w.oid
            UNION
            SELECT h.top, i.inhrelid FROM heirs h JOIN pg_catalog.pg_inherits i ON i.inhparent = h.oid)
        SELECT h.top, w.attnum, h.oid, a.attnum
        FROM heirs h JOIN wanted w ON w.oid = h.top
        JOIN pg_catalog.pg_attribute a ON a.attrelid = h.oid AND a.attname = w.attname AND a.attnum > 0 AND NOT a.attisdropped";
    if columns.is_empty() {
        return Ok(Vec::new());
    }
    let (tables, numbers): (Vec<u32>, Vec<i16>) = columns.iter().copied().unzip();
    let rows = client.query_typed(QUERY, &[(&tables, Type::OID_ARRAY), (&numbers, Type::INT2_ARRAY)]).await?;
    let heir = |row: &Row| {
        Ok(Heir { ancestor: (row.try_get(0)?, row.try_get(1)?), column: (row.try_get(2)?, row.try_get(3)?) })
    };
    rows.iter().map(heir).collect()
}

/// The tables with columns that the entries of `[pii]` match.
///
/// # Errors
/// The same as those of [`look`].
pub(super) async fn named(client: &Client, pii: &Pii) -> Result<Vec<u32>, Error> {
    const QUERY: &str = "
        SELECT DISTINCT c.oid
        FROM ROWS FROM (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::text[]), pg_catalog.unnest($3::text[])) AS w (schema, tab, col)
        JOIN pg_catalog.pg_attribute a ON w.col IS NULL OR a.attname = w.col
        JOIN pg_catalog.pg_class c ON c.oid = a.attrelid AND c.relkind IN ('r', 'p') AND (w.tab IS NULL OR c.relname = w.tab)
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace AND (w.schema IS NULL OR n.nspname = w.schema)
        WHERE a.attnum > 0 AND NOT a.attisdropped AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'";
    let names: Vec<_> = pii
        .columns
        .iter()
        .filter(|text| !selector::is_exception(text))
        .map(|text| selector::names(text))
        .collect();
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let part = |at: usize| -> Vec<Option<&str>> {
        names.iter().map(|parts| parts.get(at).and_then(Option::as_deref)).collect()
    };
    let (schemas, tables, columns) = (part(0), part(1), part(2));
    let parameters: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 3] =
        [(&schemas, Type::TEXT_ARRAY), (&tables, Type::TEXT_ARRAY), (&columns, Type::TEXT_ARRAY)];
    let rows = client.query_typed(QUERY, &parameters).await?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

/// A fingerprint of everything that [`look`] would find for these tables alone, and how long it took.
///
/// # Errors
/// The same as those of [`look`].
pub(super) async fn fingerprint(
    client: &Client,
    tables: &[u32],
    publication: &str,
) -> Result<(String, LookedAt, Duration), Error> {
    let query = format!(
        "{LINES} {WAL}, pg_catalog.pg_current_snapshot()::text AS snapshot,
         NOT pg_catalog.pg_is_in_recovery() AS exact,
         (SELECT pg_catalog.md5(coalesce(pg_catalog.string_agg(l.oid || ' ' || l.line::text, ' ' ORDER BY l.what, l.oid), ''))
          FROM (SELECT * FROM table_lines UNION ALL SELECT * FROM type_lines) l) AS fingerprint"
    );
    let began = Instant::now();
    let before = before(client).await?;
    let types: &[u32] = &[];
    let row = client.query_typed(&query, &parameters(&tables, &types, &publication)).await?;
    let row = row.first().ok_or_else(|| Error::Protocol("a fingerprint without a row".to_owned()))?;
    Ok((row.try_get("fingerprint")?, LookedAt::of(row, before)?, began.elapsed()))
}

fn parameters<'a>(
    tables: &'a &[u32],
    types: &'a &[u32],
    publication: &'a &str,
) -> [(&'a (dyn tokio_postgres::types::ToSql + Sync), Type); 3] {
    [(tables, Type::OID_ARRAY), (publication, Type::TEXT), (types, Type::OID_ARRAY)]
}

/// Reads the end of the WAL before a look. Disables JIT compilation, which takes longer than such a
/// statement.
async fn before(client: &Client) -> Result<u64, Error> {
    let query = format!("{WAL}, pg_catalog.set_config('jit', 'off', false)");
    let rows = client.query_typed(&query, &[]).await?;
    let text: Option<String> = rows.first().map(|row| row.try_get("wal")).transpose()?;
    Ok(text.as_deref().map(lsn).unwrap_or_default())
}

fn xid(row: &Row, name: &str) -> Result<Option<u32>, Error> {
    Ok(row.try_get::<_, Option<String>>(name)?.and_then(|text| text.parse().ok()))
}

fn read<'a, T: Deserialize<'a>>(line: &'a str) -> Result<T, Error> {
    serde_json::from_str(line).map_err(|error| Error::Protocol(format!("a line of the catalogue: {error}")))
}

/// One line for each table and type. The type is `json` instead of `jsonb`, because the order of members is
/// then that of the statement, and equal content gives equal texts. Column lists are read as JSON, because
/// PostgreSQL 14 has none. Arrays are recognised by `array_subscript_handler`, as in `get_element_type()` of
/// the server; point and name have a `typelem` too.
const LINES: &str = "
    WITH RECURSIVE tables AS (
        SELECT c.oid, c.relname, n.nspname, c.relreplident, c.relkind, c.relacl, c.reloptions, c.relhastriggers
        FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE c.oid = ANY ($1) AND c.relkind IN ('r', 'p')),
    line (leaf, oid) AS (
        SELECT oid, oid FROM tables UNION
        SELECT l.leaf, i.inhparent FROM line l
        JOIN pg_catalog.pg_class c ON c.oid = l.oid AND c.relispartition
        JOIN pg_catalog.pg_inherits i ON i.inhrelid = l.oid),
    below (top, oid) AS (
        SELECT oid, oid FROM tables WHERE relkind = 'p' AND relreplident = 'f' UNION
        SELECT b.top, i.inhrelid FROM below b JOIN pg_catalog.pg_inherits i ON i.inhparent = b.oid),
    leaves AS (
        SELECT b.top, c.oid, c.xmin, c.relreplident FROM below b
        JOIN pg_catalog.pg_class c ON c.oid = b.oid AND c.relkind = 'r'),
    entries AS (
        SELECT r.prrelid, r.xmin, pg_catalog.to_jsonb(r) -> 'prattrs' AS list
        FROM pg_catalog.pg_publication p JOIN pg_catalog.pg_publication_rel r ON r.prpubid = p.oid
        WHERE p.pubname::text = $2),
    options (generated) AS (
        SELECT EXISTS (SELECT FROM pg_catalog.pg_publication p
                       WHERE p.pubname::text = $2 AND pg_catalog.to_jsonb(p) ->> 'pubgencols' = 's')),
    lists (leaf, lists) AS (
        SELECT l.leaf, pg_catalog.array_agg(e.list) FROM line l
        JOIN entries e ON e.prrelid = l.oid AND pg_catalog.jsonb_typeof(e.list) = 'array' GROUP BY l.leaf),
    entered (leaf, stamps) AS (
        SELECT l.leaf, pg_catalog.string_agg(e.xmin::text, ',' ORDER BY e.prrelid)
        FROM line l JOIN entries e ON e.prrelid = l.oid GROUP BY l.leaf),
    up (oid, ancestor) AS (
        SELECT t.oid, i.inhparent FROM tables t JOIN pg_catalog.pg_inherits i ON i.inhrelid = t.oid UNION
        SELECT u.oid, i.inhparent FROM up u JOIN pg_catalog.pg_inherits i ON i.inhrelid = u.ancestor),
    inherited AS (
        SELECT u.oid, a.attname,
               pg_catalog.json_agg(pg_catalog.json_build_array(c.oid::int8, a.attnum, n.nspname, c.relname) ORDER BY c.oid) AS list
        FROM up u JOIN pg_catalog.pg_class c ON c.oid = u.ancestor
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        JOIN pg_catalog.pg_attribute a ON a.attrelid = u.ancestor AND a.attnum > 0 AND NOT a.attisdropped
        GROUP BY u.oid, a.attname),
    heirs (top, oid) AS (
        SELECT t.oid, i.inhrelid FROM tables t JOIN pg_catalog.pg_inherits i ON i.inhparent = t.oid UNION
        SELECT h.top, i.inhrelid FROM heirs h JOIN pg_catalog.pg_inherits i ON i.inhparent = h.oid),
    heirs_of AS (SELECT h.top, pg_catalog.json_agg(h.oid::int8 ORDER BY h.oid) AS list FROM heirs h GROUP BY h.top),
    computed AS (
        SELECT g.attrelid, g.attnum, pg_catalog.json_agg(DISTINCT d.refobjsubid) AS list
        FROM tables t JOIN pg_catalog.pg_attribute g ON g.attrelid = t.oid AND g.attgenerated <> ''
        LEFT JOIN pg_catalog.pg_attrdef f ON f.adrelid = g.attrelid AND f.adnum = g.attnum
        JOIN pg_catalog.pg_depend d ON d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid = t.oid
             AND d.refobjsubid > 0 AND d.refobjsubid <> g.attnum
             AND (d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = t.oid AND d.objsubid = g.attnum
                  OR d.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass AND d.objid = f.oid)
        GROUP BY g.attrelid, g.attnum),
    columns AS (
        SELECT a.attrelid, a.attnum, a.xmin, a.atttypid, a.attname,
               pg_catalog.json_build_object(
                   'number', a.attnum, 'name', a.attname, 'type', a.atttypid::int8, 'modifier', a.atttypmod,
                   'not_null', a.attnotnull, 'generated', a.attgenerated = 'v' OR a.attgenerated = 's' AND l.lists IS NULL AND NOT o.generated,
                   'inherits', coalesce(CASE WHEN a.attinhcount > 0 THEN h.list END, '[]'),
                   'computed', coalesce(g.list, '[]'),
                   'listed', coalesce((SELECT pg_catalog.bool_and(x.list @> pg_catalog.to_jsonb(a.attnum::int))
                                       FROM pg_catalog.unnest(l.lists) x (list)), true)) AS line
        FROM tables t JOIN pg_catalog.pg_attribute a ON a.attrelid = t.oid
        LEFT JOIN lists l ON l.leaf = t.oid
        CROSS JOIN options o
        LEFT JOIN inherited h ON h.oid = t.oid AND h.attname = a.attname
        LEFT JOIN computed g ON g.attrelid = t.oid AND g.attnum = a.attnum
        WHERE a.attnum > 0 AND NOT a.attisdropped),
    keys AS (
        SELECT i.indrelid, i.indexrelid, i.xmin,
               pg_catalog.json_agg(c.attname ORDER BY k.nth) AS names,
               pg_catalog.array_agg(c.xmin) AS stamps
        FROM tables t JOIN pg_catalog.pg_index i ON i.indrelid = t.oid AND i.indisprimary
        CROSS JOIN LATERAL pg_catalog.generate_series(1, i.indnkeyatts::int) AS k(nth)
        JOIN columns c ON c.attrelid = i.indrelid AND c.attnum = i.indkey[k.nth - 1]
        GROUP BY i.indrelid, i.indexrelid, i.xmin),
    columns_of AS (
        SELECT c.attrelid, pg_catalog.json_agg(c.line ORDER BY c.attnum) AS list FROM columns c GROUP BY c.attrelid),
    leaves_of AS (
        SELECT l.top, pg_catalog.json_agg(l.oid::int8 ORDER BY l.oid) FILTER (WHERE l.relreplident <> 'f') AS lesser,
               pg_catalog.json_agg(pg_catalog.json_build_array(l.oid::int8, l.xmin::text::int8) ORDER BY l.oid)
                   FILTER (WHERE l.relreplident = 'f') AS whole
        FROM leaves l GROUP BY l.top),
    table_lines AS (
        SELECT 'table' AS what, t.oid,
               pg_catalog.json_build_object(
                   'schema', t.nspname, 'table', t.relname, 'identity', t.relreplident,
                   'columns', coalesce(c.list, '[]'), 'key', coalesce(k.names, '[]'),
                   'key_index', coalesce(k.indexrelid::int8, 0),
                   'lesser', coalesce(l.lesser, '[]'), 'whole', coalesce(l.whole, '[]'),
                   -- Not read: a new child or partition makes another fingerprint.
                   'heirs', coalesce(h.list, '[]')) AS line,
               (SELECT x.xmin::text FROM (
                    SELECT a.xmin FROM pg_catalog.pg_attribute a WHERE a.attrelid = t.oid AND a.attnum > 0
                    UNION ALL SELECT k.xmin WHERE k.indrelid IS NOT NULL) x
                WHERE pg_catalog.age(x.xmin) >= 0 ORDER BY pg_catalog.age(x.xmin) LIMIT 1) AS newest,
               (SELECT x.xmin::text FROM (
                    SELECT pg_catalog.unnest(k.stamps) AS xmin UNION ALL SELECT k.xmin WHERE k.indrelid IS NOT NULL) x
                WHERE pg_catalog.age(x.xmin) >= 0 ORDER BY pg_catalog.age(x.xmin) LIMIT 1) AS key_newest,
               (SELECT a.xmin::text FROM pg_catalog.pg_attribute a WHERE a.attrelid = t.oid AND a.attnum = -1) AS created,
               pg_catalog.concat_ws('|',
                   pg_catalog.pg_stat_get_last_analyze_time(t.oid), pg_catalog.pg_stat_get_last_autoanalyze_time(t.oid),
                   pg_catalog.pg_stat_get_last_vacuum_time(t.oid), pg_catalog.pg_stat_get_last_autovacuum_time(t.oid),
                   t.relacl::text, t.reloptions::text, t.relhastriggers,
                   (SELECT pg_catalog.sum(i.indexrelid::int8) FROM pg_catalog.pg_index i
                    WHERE i.indrelid = t.oid AND NOT i.indisprimary),
                   (SELECT pg_catalog.string_agg(p.xmin::text, ',') FROM pg_catalog.pg_publication p
                    WHERE p.pubname::text = $2), e.stamps) AS noise
        FROM tables t
        LEFT JOIN columns_of c ON c.attrelid = t.oid
        LEFT JOIN keys k ON k.indrelid = t.oid
        LEFT JOIN leaves_of l ON l.top = t.oid
        LEFT JOIN heirs_of h ON h.top = t.oid
        LEFT JOIN entered e ON e.leaf = t.oid),
    types (oid) AS (
        SELECT DISTINCT c.atttypid FROM columns c WHERE c.atttypid >= 10000 UNION
        SELECT w.oid FROM pg_catalog.unnest($3) w (oid) WHERE w.oid >= 10000 UNION
        SELECT p.part FROM types JOIN pg_catalog.pg_type t ON t.oid = types.oid
        CROSS JOIN LATERAL (
            SELECT CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.typelem END WHERE t.typtype IN ('d', 'b')
            UNION ALL
            SELECT a.atttypid FROM pg_catalog.pg_attribute a
            WHERE t.typtype = 'c' AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped) p (part)
        WHERE p.part >= 10000),
    type_lines AS (
        SELECT 'type' AS what, t.oid,
               pg_catalog.json_build_object(
                   'shape', CASE WHEN t.typtype = 'd' THEN 'domain'
                        WHEN t.typtype = 'c' THEN 'composite'
                        WHEN t.typtype = 'e' THEN 'enum'
                        WHEN t.typtype = 'b' AND t.typelem <> 0
                             AND t.typlen = -1 THEN 'array'
                        WHEN t.typname = 'hstore' AND t.typtype = 'b' AND EXISTS (
                            SELECT FROM pg_catalog.pg_depend d
                            JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid AND e.extname = 'hstore'
                            WHERE d.classid = 'pg_catalog.pg_type'::pg_catalog.regclass AND d.objid = t.oid
                                  AND d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass
                                  AND d.deptype = 'e') THEN 'hstore'
                        ELSE 'other' END,
                   'part', (CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.typelem END)::int8,
                   'modifier', t.typtypmod,
                   'delimiter', pg_catalog.ascii(coalesce(e.typdelim, ',')::text),
                   'plain', t.typdelim = ',' AND t.typarray = 0,
                   'name', pg_catalog.format_type(t.oid, NULL),
                   'fields', coalesce((
                        SELECT pg_catalog.json_agg(pg_catalog.json_build_object(
                            'number', a.attnum, 'name', a.attname, 'type', a.atttypid::int8, 'dropped', a.attisdropped,
                            'since', a.xmin::text::int8) ORDER BY a.attnum)
                        FROM pg_catalog.pg_attribute a
                        WHERE t.typtype = 'c' AND a.attrelid = t.typrelid AND a.attnum > 0), '[]'),
                   'labels', coalesce((
                        SELECT pg_catalog.json_agg(v.enumlabel ORDER BY v.enumsortorder)
                        FROM pg_catalog.pg_enum v WHERE v.enumtypid = t.oid), '[]'),
                   'since', (SELECT v.xmin::text::int8 FROM pg_catalog.pg_enum v
                             WHERE v.enumtypid = t.oid AND pg_catalog.age(v.xmin) >= 0
                             ORDER BY pg_catalog.age(v.xmin) LIMIT 1)) AS line,
               NULL::text AS newest, NULL::text AS key_newest, NULL::text AS created, NULL::text AS noise
        FROM types JOIN pg_catalog.pg_type t ON t.oid = types.oid
        LEFT JOIN pg_catalog.pg_type e ON e.oid = t.typelem)";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transaction_ids_are_compared_across_wraparound() {
        let at = LookedAt { xmin: (3 << 32) - 5, xmax: (3 << 32) + 5, exact: true, ..LookedAt::default() };
        assert_eq!(at.sees(u32::MAX - 10), Some(true));
        assert_eq!(at.sees(2), Some(true));
        assert_eq!(at.sees(5), Some(false));
        let running = LookedAt { running: vec![(3 << 32) + 2], ..at.clone() };
        assert_eq!(running.sees(2), Some(false));
        assert_eq!(LookedAt { exact: false, ..at }.sees(2), None);
    }
}
