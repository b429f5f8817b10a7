//! Describes tables and their comments from the current catalogue, in the form of a relation message.

use std::collections::HashMap;

use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error, Row};

use crate::change::{Column, Described, Relation, ReplicaIdentity, UnsentColumn};
use crate::config::TableName;
use crate::source::postgres::name::{CatalogText, raw_name};
use crate::source::postgres::publication::{PublicationFacts, escape_identifier};

/// The columns of a table that a publication sends.
#[derive(Clone, Copy, Debug, Default)]
pub struct SentColumns<'a> {
    /// Name of the publication; empty if it will be created.
    publication: &'a str,
    /// Its column list for the table; `None`: all columns.
    list: Option<&'a [String]>,
    /// Whether it sends stored generated columns of tables without a column list.
    generated: bool,
    /// Whether there is no publication, because the table is polled: every column is read.
    all: bool,
}

impl<'a> SentColumns<'a> {
    /// For a table in a publication; `None`: the publication will be created.
    pub fn of(publication: Option<&'a PublicationFacts>, name: &TableName) -> Self {
        let Some(facts) = publication else { return Self::default() };
        let table = facts.tables.iter().find(|table| table.name == *name);
        Self {
            publication: &facts.name,
            list: table.and_then(|table| table.columns.as_deref()),
            generated: facts.sends_generated(),
            all: false,
        }
    }

    /// For a polled table: all columns.
    pub const fn all() -> Self {
        Self { publication: "", list: None, generated: true, all: true }
    }

    /// Why a column is not sent, and a hint; `None` if it is sent. The same decision as in
    /// `logicalrep_should_publish_column()` of the server.
    fn unsent(&self, column: &Attribute, version: i32) -> Option<(&'static str, String)> {
        if self.all {
            return None;
        }
        let is_listed = self.list.map(|list| list.contains(&column.name));
        let (is_stored, is_virtual) = (column.generated == "s", column.generated == "v");
        if is_virtual {
            return Some((
                "it is a virtual generated column, which PostgreSQL does not publish",
                "Make it STORED, or write its expression here.".to_owned(),
            ));
        }
        match is_listed {
            Some(true) => None,
            None if !is_stored || self.generated => None,
            _ if is_stored && version < GENERATED_SINCE => Some((
                "it is generated, and PostgreSQL before 18 does not publish such columns",
                "Write its expression here, or make it an ordinary column that a trigger fills.".to_owned(),
            )),
            Some(false) => Some((
                "the column list of the publication leaves it out",
                "Add it there: ALTER PUBLICATION … SET TABLE …".to_owned(),
            )),
            None if self.publication.is_empty() => Some((
                "it is generated, and the publication that Forebay creates does not send it",
                "Create the publication yourself, WITH (publish_via_partition_root = true, \
                 publish_generated_columns = stored)."
                    .to_owned(),
            )),
            None => Some((
                "it is generated, and the publication does not send it",
                format!(
                    "Run\n    ALTER PUBLICATION {} SET (publish_generated_columns = stored);",
                    escape_identifier(self.publication)
                ),
            )),
        }
    }
}

/// The first version whose publications can send generated columns.
const GENERATED_SINCE: i32 = 180_000;

/// Describes a table with the columns that the publication sends; `None` if it does not exist.
///
/// # Errors
/// The connection broke.
pub async fn describe(
    client: &Client,
    name: &TableName,
    sent: SentColumns<'_>,
) -> Result<Option<Described>, Error> {
    const TABLE: &str = concat!(
        "
        SELECT pg_catalog.current_setting('server_version_num')::int4 AS version, c.relreplident::text AS identity, ",
        raw_name!("pg_catalog.obj_description(c.oid, 'pg_class')"),
        " AS comment
        FROM pg_catalog.pg_class c WHERE c.oid = $1"
    );
    let Some(oid) = table_oid(client, name).await? else { return Ok(None) };
    let rows = client.query_typed(TABLE, &[(&oid, Type::OID)]).await?;
    let Some(table) = rows.first() else { return Ok(None) };
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
    let version = table.try_get("version")?;
    let (mut columns, mut comments, mut unsent) = (Vec::new(), Vec::new(), Vec::new());
    let mut numbers = Vec::new();
    for attribute in found {
        let (reason, comment) = (sent.unsent(&attribute, version), attribute.comment.clone());
        let number = attribute.number;
        let column = attribute.column(&known.kinds, &known.data_types, identity);
        if let Some((reason, hint)) = reason {
            unsent.push(UnsentColumn { column, reason, hint });
        } else {
            comments.push(comment);
            numbers.push(number);
            columns.push(column);
        }
    }
    let place = |key: &String| columns.iter().position(|column| column.name == *key);
    let primary_key = known.primary_key.iter().map(place).collect::<Option<Vec<usize>>>().unwrap_or_default();
    let mut relation = Relation {
        oid,
        schema: name.schema.clone(),
        table: name.table.clone(),
        identity,
        columns,
        primary_key,
        absent: Vec::new(),
        unknown: None,
    };
    if identity == ReplicaIdentity::Full && !partitions_not_full(client, oid).await?.is_empty() {
        relation = relation.by_primary_key();
    }
    let comment: Option<CatalogText> = table.try_get("comment")?;
    let comment = comment.map(|CatalogText(text)| text);
    let types = super::parts::parts(client, relation.columns.iter().map(|c| &c.data_type.base)).await?;
    Ok(Some(Described { relation, comment, comments, types, numbers, unsent }))
}

/// The OID of the table with this name. An escaped name (it has bytes without a character) is searched for
/// among all tables.
async fn table_oid(client: &Client, name: &TableName) -> Result<Option<u32>, Error> {
    const TABLES: &str = "
        FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'p')";
    let query = format!("SELECT c.oid {TABLES} AND n.nspname = $1 AND c.relname = $2");
    let parameters: &[(&(dyn tokio_postgres::types::ToSql + Sync), Type)] =
        &[(&name.schema, Type::TEXT), (&name.table, Type::TEXT)];
    let rows = client.query_typed(&query, parameters).await?;
    if let Some(found) = rows.first() {
        return Ok(Some(found.try_get(0)?));
    }
    if !name.schema.contains('\\') && !name.table.contains('\\') {
        return Ok(None);
    }
    let (schema, table) = (raw_name!("n.nspname"), raw_name!("c.relname"));
    let query = format!("SELECT c.oid, {schema}, {table} {TABLES}");
    for row in client.query_typed(&query, &[]).await? {
        let (CatalogText(schema), CatalogText(table)) = (row.try_get(1)?, row.try_get(2)?);
        if (&schema, &table) == (&name.schema, &name.table) {
            return Ok(Some(row.try_get(0)?));
        }
    }
    Ok(None)
}

/// Partitions of a table, quoted, that are not `REPLICA IDENTITY FULL`. Partitions do not inherit that from
/// their table. Takes no lock, unlike `pg_partition_tree`, which locks every partition.
///
/// # Errors
/// The connection broke.
pub async fn partitions_not_full(client: &Client, table: u32) -> Result<Vec<String>, Error> {
    const QUERY: &str = concat!(
        "
        WITH RECURSIVE tree (oid) AS (
            SELECT inhrelid FROM pg_catalog.pg_inherits
            WHERE inhparent = (SELECT oid FROM pg_catalog.pg_class WHERE oid = $1 AND relkind = 'p')
            UNION
            SELECT i.inhrelid FROM tree t JOIN pg_catalog.pg_inherits i ON i.inhparent = t.oid)
        SELECT ",
        raw_name!("pg_catalog.format('%I.%I', n.nspname, c.relname)"),
        "
        FROM tree t
        JOIN pg_catalog.pg_class c ON c.oid = t.oid
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind = 'r' AND c.relreplident <> 'f'
        ORDER BY 1"
    );
    let rows = client.query_typed(QUERY, &[(&table, Type::OID)]).await?;
    rows.iter().map(|row| Ok(row.try_get::<_, CatalogText>(0)?.0)).collect()
}

/// INCLUDE columns of an index do not belong to a replica identity, and a deferrable primary key is no
/// replica identity.
const COLUMNS: &str = concat!(
    "
    SELECT ",
    raw_name!("a.attname"),
    " AS name, a.attnum AS number, a.attgenerated::text AS generated, a.atttypid AS type, a.atttypmod AS modifier, a.attnotnull AS not_null,
           ",
    raw_name!("pg_catalog.col_description(a.attrelid, a.attnum)"),
    " AS comment,
           coalesce(a.attnum = ANY ((p.indkey::int2[])[0:p.indnkeyatts - 1]), false) AS in_key,
           coalesce(a.attnum = ANY ((r.indkey::int2[])[0:r.indnkeyatts - 1]), false) AS in_index
    FROM pg_catalog.pg_attribute a
    LEFT JOIN pg_catalog.pg_index p ON p.indrelid = a.attrelid AND p.indisprimary AND p.indimmediate
    LEFT JOIN pg_catalog.pg_index r ON r.indrelid = a.attrelid AND r.indisreplident
    WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped
    ORDER BY a.attnum"
);

struct Attribute {
    name: String,
    number: i16,
    /// `attgenerated`: empty, `s` (stored) or `v` (virtual).
    generated: String,
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
            name: row.try_get::<_, CatalogText>("name")?.0,
            number: row.try_get("number")?,
            generated: row.try_get("generated")?,
            type_oid: row.try_get("type")?,
            modifier: row.try_get("modifier")?,
            not_null: row.try_get("not_null")?,
            comment: row.try_get::<_, Option<CatalogText>>("comment")?.map(|CatalogText(text)| text),
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
            origin: None,
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
