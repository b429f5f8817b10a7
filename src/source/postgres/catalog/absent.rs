//! Columns that a table has today and that an announcement of it lacks: rows written before ADD COLUMN arrive after it.

use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error};

use super::{data_types, kinds, modified};
use crate::change::Column;
use crate::types::Kind;

/// The table's columns beside those `announced`, as far as the publication sends them: what a column list leaves out is
/// missing for another reason than age, and is not NULL.
pub async fn absent(
    client: &Client,
    table: u32,
    announced: &[String],
    publication: &str,
) -> Result<Vec<Column>, Error> {
    // Column lists came with Postgres 15: as JSON, a catalogue without them is asked by the same words.
    const QUERY: &str = "
        SELECT a.attname::text AS name, a.atttypid AS type, a.atttypmod AS modifier
        FROM pg_catalog.pg_attribute a
        WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
          AND a.attname::text <> ALL ($2)
          AND NOT EXISTS (
              SELECT FROM pg_catalog.pg_publication p
              JOIN pg_catalog.pg_publication_rel r ON r.prpubid = p.oid
              WHERE p.pubname::text = $3
                AND (r.prrelid = $1 OR r.prrelid IN (SELECT relid FROM pg_catalog.pg_partition_ancestors($1)))
                AND pg_catalog.jsonb_typeof(pg_catalog.to_jsonb(r) -> 'prattrs') = 'array'
                AND NOT (pg_catalog.to_jsonb(r) -> 'prattrs' @> pg_catalog.to_jsonb(a.attnum::int)))
        ORDER BY a.attnum";
    let rows = client
        .query_typed(
            QUERY,
            &[(&table, Type::OID), (&announced, Type::TEXT_ARRAY), (&publication, Type::TEXT)],
        )
        .await?;
    let mut found: Vec<(String, u32, i32)> = Vec::with_capacity(rows.len());
    for row in &rows {
        found.push((row.try_get("name")?, row.try_get("type")?, row.try_get("modifier")?));
    }
    if found.is_empty() {
        return Ok(Vec::new());
    }
    let types: Vec<u32> = found.iter().map(|(_, type_oid, _)| *type_oid).collect();
    let (kinds, data_types) = (kinds(client, &types).await?, data_types(client, &types).await?);
    let column = |(name, type_oid, modifier)| Column {
        name,
        kind: kinds.get(&type_oid).cloned().unwrap_or(Kind::Text),
        data_type: modified(&data_types, type_oid, modifier),
        not_null: false,
        in_identity: false,
    };
    Ok(found.into_iter().map(column).collect())
}
