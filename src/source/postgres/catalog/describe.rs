//! Tables as today's catalogue describes them, in the words of a relation message, with what their comments say.

use std::collections::HashMap;

use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error, Row};

use crate::change::{Column, Described, Relation, ReplicaIdentity};
use crate::config::TableName;

/// Describes a table; `None` if there is none of that name. Its columns are those that logical replication can send: all but
/// generated ones.
///
/// # Errors
/// The connection broke.
pub async fn describe(client: &Client, name: &TableName) -> Result<Option<Described>, Error> {
    const TABLE: &str = "
        SELECT c.oid, c.relreplident::text AS identity, pg_catalog.obj_description(c.oid, 'pg_class') AS comment
        FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind IN ('r', 'p')";
    let parameters: &[(&(dyn tokio_postgres::types::ToSql + Sync), Type)] =
        &[(&name.schema, Type::TEXT), (&name.table, Type::TEXT)];
    let rows = client.query_typed(TABLE, parameters).await?;
    let Some(table) = rows.first() else { return Ok(None) };
    let oid: u32 = table.try_get("oid")?;
    let identity = match table.try_get::<_, &str>("identity")? {
        "f" => ReplicaIdentity::Full,
        "i" => ReplicaIdentity::Index,
        "n" => ReplicaIdentity::Nothing,
        _ => ReplicaIdentity::Default,
    };
    let rows = client.query_typed(COLUMNS, &[(&oid, Type::OID)]).await?;
    let found = rows.iter().map(Attribute::of).collect::<Result<Vec<_>, _>>()?;
    let types: Vec<u32> = found.iter().map(|attribute| attribute.type_oid).collect();
    let known = super::known(client, oid, &types).await?;
    let place = |key: &String| found.iter().position(|attribute| attribute.name == *key);
    let primary_key = known.primary_key.iter().map(place).collect::<Option<Vec<usize>>>().unwrap_or_default();
    let (mut columns, mut comments) = (Vec::new(), Vec::new());
    for attribute in found {
        comments.push(attribute.comment.clone());
        columns.push(attribute.column(&known.kinds, &known.data_types, identity));
    }
    let mut relation = Relation {
        oid,
        schema: name.schema.clone(),
        table: name.table.clone(),
        identity,
        columns,
        primary_key,
        absent: Vec::new(),
    };
    if identity == ReplicaIdentity::Full && !partitions_not_full(client, oid).await?.is_empty() {
        relation = relation.by_primary_key();
    }
    Ok(Some(Described { relation, comment: table.try_get("comment")?, comments }))
}

/// Partitions of a table, quoted, that are not `REPLICA IDENTITY FULL`: they do not take that from their table.
///
/// # Errors
/// The connection broke.
pub async fn partitions_not_full(client: &Client, table: u32) -> Result<Vec<String>, Error> {
    const QUERY: &str = "
        SELECT pg_catalog.format('%I.%I', n.nspname, c.relname)
        FROM pg_catalog.pg_partition_tree($1::oid::regclass) t
        JOIN pg_catalog.pg_class c ON c.oid = t.relid
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE t.isleaf AND c.oid <> $1 AND c.relreplident <> 'f'
        ORDER BY 1";
    let rows = client.query_typed(QUERY, &[(&table, Type::OID)]).await?;
    rows.iter().map(|row| row.try_get(0)).collect()
}

/// What an index merely includes is no part of a replica identity, and a deferrable primary key is none at all.
const COLUMNS: &str = "
    SELECT a.attname::text AS name, a.atttypid AS type, a.atttypmod AS modifier, a.attnotnull AS not_null,
           pg_catalog.col_description(a.attrelid, a.attnum) AS comment,
           coalesce(a.attnum = ANY ((p.indkey::int2[])[0:p.indnkeyatts - 1]), false) AS in_key,
           coalesce(a.attnum = ANY ((r.indkey::int2[])[0:r.indnkeyatts - 1]), false) AS in_index
    FROM pg_catalog.pg_attribute a
    LEFT JOIN pg_catalog.pg_index p ON p.indrelid = a.attrelid AND p.indisprimary AND p.indimmediate
    LEFT JOIN pg_catalog.pg_index r ON r.indrelid = a.attrelid AND r.indisreplident
    WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
    ORDER BY a.attnum";

struct Attribute {
    name: String,
    type_oid: u32,
    modifier: i32,
    not_null: bool,
    comment: Option<String>,
    in_key: bool,
    in_index: bool,
}

impl Attribute {
    fn of(row: &Row) -> Result<Self, Error> {
        Ok(Self {
            name: row.try_get("name")?,
            type_oid: row.try_get("type")?,
            modifier: row.try_get("modifier")?,
            not_null: row.try_get("not_null")?,
            comment: row.try_get("comment")?,
            in_key: row.try_get("in_key")?,
            in_index: row.try_get("in_index")?,
        })
    }

    fn column(
        self,
        kinds: &HashMap<u32, crate::types::Kind>,
        data_types: &HashMap<u32, crate::types::SqlType>,
        identity: ReplicaIdentity,
    ) -> Column {
        let data_type = super::modified(data_types, self.type_oid, self.modifier);
        Column {
            kind: kinds.get(&self.type_oid).cloned().unwrap_or(crate::types::Kind::Text),
            data_type,
            not_null: self.not_null,
            in_identity: match identity {
                ReplicaIdentity::Full => true,
                ReplicaIdentity::Default => self.in_key,
                ReplicaIdentity::Index => self.in_index,
                ReplicaIdentity::Nothing => false,
            },
            name: self.name,
        }
    }
}
