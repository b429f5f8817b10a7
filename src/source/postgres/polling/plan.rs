//! The tables that are polled: their definitions, and the cursor of each.

use std::sync::Arc;

use tokio_postgres::Client;
use tokio_postgres::types::Type;

use super::cursor::{self, PARTITIONED, TableFacts};
use super::query;
use super::table::{PolledTable, StoredEncoding};
use crate::change::Relation;
use crate::config::{Polling, TableName};
use crate::diagnosis::Diagnosis;
use crate::source::postgres::catalog::{self, SentColumns};
use crate::source::postgres::encoding::Encoding;
use crate::source::postgres::error::Error;
use crate::source::postgres::publication::quoted;
use crate::types::Kind;

/// Describes the tables in one snapshot, sorted by name. `tag` marks columns with personal data. The second
/// list has the tables that cannot be polled, with the reasons.
///
/// # Errors
/// The connection broke.
pub async fn describe(
    client: &Client,
    names: &[TableName],
    (polling, tag): (&Polling, &dyn Fn(&mut Relation)),
) -> Result<(Vec<PolledTable>, Vec<Diagnosis>), Error> {
    client.batch_execute(&query::begin(std::iter::empty())).await?;
    let stored: String = client
        .query_typed("SELECT pg_catalog.getdatabaseencoding()::text", &[])
        .await?
        .first()
        .map(|row| row.try_get(0))
        .transpose()?
        .unwrap_or_default();
    // The check of the server rejects an encoding without a conversion.
    let encoding = Encoding::named(&stored)
        .filter(|encoding| !matches!(encoding, Encoding::Utf8))
        .map(|encoding| Arc::new(StoredEncoding { name: stored, encoding }));
    let (mut tables, mut found) = (Vec::new(), Vec::new());
    let mut names: Vec<&TableName> = names.iter().collect();
    names.sort_by_key(ToString::to_string);
    names.dedup();
    for name in names {
        match describe_one(client, name, (polling, tag)).await? {
            Ok(table) => tables.push(PolledTable { encoding: encoding.clone(), ..table }),
            Err(diagnosis) => found.push(diagnosis),
        }
    }
    client.batch_execute("COMMIT").await?;
    Ok((tables, found))
}

async fn describe_one(
    client: &Client,
    name: &TableName,
    (polling, tag): (&Polling, &dyn Fn(&mut Relation)),
) -> Result<Result<PolledTable, Diagnosis>, Error> {
    let parameters: &[(&(dyn tokio_postgres::types::ToSql + Sync), Type)] =
        &[(&name.schema, Type::TEXT), (&name.table, Type::TEXT)];
    let rows = client.query_typed(FACTS, parameters).await?;
    let facts: Option<TableFacts> = match rows.first() {
        Some(row) => Some(
            serde_json::from_str(row.try_get(0)?)
                .map_err(|error| Error::Protocol(format!("facts about {name}: {error}")))?,
        ),
        None => None,
    };
    let cursor = match cursor::choose(name, facts.as_ref(), polling.cursors.get(name)) {
        Ok(cursor) => cursor,
        Err(diagnosis) => return Ok(Err(diagnosis)),
    };
    let Some(described) = catalog::describe(client, name, SentColumns::all()).await? else {
        return Ok(Err(Diagnosis::blocker(format!("table {name}"), "it does not exist")));
    };
    let mut relation = described.relation.by_primary_key();
    tag(&mut relation);
    let relation = Arc::new(relation);
    let has_composites = relation.columns.iter().any(|column| is_composite(&column.kind));
    let check = client
        .simple_query(&query::check_of(&quoted(name), has_composites, cursor.sequence.as_deref()))
        .await?;
    let fingerprint = super::rows::results(check)
        .into_iter()
        .next()
        .and_then(|result| result.first().and_then(|row| row.get(2).map(str::to_owned)));
    let fingerprint =
        fingerprint.ok_or_else(|| Error::Protocol(format!("the definition of {name} cannot be read")))?;
    let is_partitioned = facts.is_some_and(|facts| facts.kind == PARTITIONED);
    Ok(Ok(PolledTable {
        name: name.clone(),
        relation,
        cursor,
        fingerprint,
        has_composites,
        is_partitioned,
        encoding: None,
    }))
}

fn is_composite(kind: &Kind) -> bool {
    match kind {
        Kind::Composite { .. } => true,
        Kind::Array { element, .. } => is_composite(element),
        _ => false,
    }
}

/// The facts about a table, as one JSON document.
const FACTS: &str = "
    SELECT pg_catalog.json_build_object(
        'role', current_user, 'kind', c.relkind, 'persistence', c.relpersistence,
        'access', (SELECT m.amname FROM pg_catalog.pg_am m WHERE m.oid = c.relam),
        'children', EXISTS (SELECT FROM pg_catalog.pg_inherits i WHERE i.inhparent = c.oid),
        'foreign_leaf', (
            SELECT min(l.oid::pg_catalog.regclass::text) FROM pg_catalog.pg_partition_tree(c.oid) t
            JOIN pg_catalog.pg_class l ON l.oid = t.relid
            LEFT JOIN pg_catalog.pg_am m ON m.oid = l.relam
            WHERE t.isleaf AND (l.relkind <> 'r' OR l.relpersistence <> 'p' OR m.amname IS DISTINCT FROM 'heap')
              AND l.relkind <> 'p'),
        'may_select', pg_catalog.has_schema_privilege(n.oid, 'USAGE') AND pg_catalog.has_table_privilege(c.oid, 'SELECT'),
        'row_security', pg_catalog.row_security_active(c.oid),
        'columns', (
            SELECT coalesce(pg_catalog.json_agg(pg_catalog.json_build_object(
                'name', a.attname, 'type', pg_catalog.format_type(a.atttypid, NULL), 'not_null', a.attnotnull,
                'default', pg_catalog.pg_get_expr(d.adbin, d.adrelid),
                'sequence', (
                    SELECT pg_catalog.json_build_object('name', s.oid::pg_catalog.regclass::text,
                        'readable', pg_catalog.has_sequence_privilege(s.oid, 'SELECT'), 'cache', q.seqcache,
                        'increment', q.seqincrement, 'cycle', q.seqcycle)
                    FROM pg_catalog.pg_sequence q JOIN pg_catalog.pg_class s ON s.oid = q.seqrelid
                    WHERE EXISTS (
                        SELECT FROM pg_catalog.pg_depend p
                        WHERE p.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND p.objid = s.oid
                          AND p.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND p.refobjid = c.oid
                          AND p.refobjsubid = a.attnum AND p.deptype IN ('a', 'i'))
                       OR EXISTS (
                        SELECT FROM pg_catalog.pg_depend p
                        WHERE p.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass AND p.objid = d.oid
                          AND p.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND p.refobjid = s.oid)
                    ORDER BY s.oid LIMIT 1)) ORDER BY a.attnum), '[]')
            FROM pg_catalog.pg_attribute a
            LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
            WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
        'indexes', (
            SELECT coalesce(pg_catalog.json_agg(pg_catalog.json_build_object(
                'primary', i.indisprimary, 'unique', i.indisunique AND i.indimmediate,
                'columns', (
                    SELECT pg_catalog.json_agg(a.attname ORDER BY k.nth)
                    FROM pg_catalog.unnest(i.indkey::int2[]) WITH ORDINALITY AS k (attnum, nth)
                    JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
                    WHERE k.nth <= i.indnkeyatts))), '[]')
            FROM pg_catalog.pg_index i
            JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
            JOIN pg_catalog.pg_am m ON m.oid = x.relam
            WHERE i.indrelid = c.oid AND i.indisvalid AND i.indisready AND i.indpred IS NULL AND i.indexprs IS NULL
              AND m.amname = 'btree'))::text
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = $1 AND c.relname = $2";
