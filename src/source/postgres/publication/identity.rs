//! Replica identities of published tables: identities that make the application's own UPDATE and DELETE fail,
//! and keys that are not sent.

use tokio_postgres::{Client, Row};

use crate::config::TableName;
use crate::diagnosis::Diagnosis;
use crate::source::postgres::catalog::selected;
use crate::source::postgres::error::Error;
use crate::source::postgres::name::table_name;
use crate::source::postgres::pages;

use super::{PublishedTable, SCHEMA, TABLE, escape_identifier, members, quoted, version};

/// The effective identity. With an index that was dropped, or a primary key that does not exist or is
/// deferrable, there is none.
const USABLE: &str = "CASE c.relreplident
    WHEN 'f' THEN true
    WHEN 'd' THEN EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary AND i.indisvalid AND i.indimmediate)
    WHEN 'i' THEN EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisreplident AND i.indisvalid)
    ELSE false END";

/// Columns `a` of the index that identifies a row of `c`. If the identity is not an index, those of the
/// primary key.
pub(super) const KEY: &str = "pg_catalog.pg_index i
    JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1])
    WHERE i.indrelid = c.oid AND CASE c.relreplident WHEN 'i' THEN i.indisreplident ELSE i.indisprimary END";

/// From this version on, the server rejects UPDATE and DELETE if the identity has generated columns that are
/// not sent, with `REPLICA IDENTITY FULL` too.
const GENERATED_SINCE: i32 = 180_000;

/// SQL for the reason why a publication without generated columns cannot contain the table `c`; NULL if it
/// can.
pub(super) fn unfit(version: i32) -> String {
    let full = if version < GENERATED_SINCE { "false" } else { "c.relreplident = 'f'" };
    format!(
        "CASE WHEN NOT {USABLE} THEN 'none'
              WHEN EXISTS (SELECT FROM {KEY} AND a.attgenerated <> '') THEN 'key'
              WHEN {full} AND EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attgenerated <> '')
                  THEN 'generated' END"
    )
}

fn no_identity(table: &TableName) -> Diagnosis {
    let quoted = quoted(table);
    let fact = "no replica identity, so every UPDATE and DELETE on it fails while it is published";
    Diagnosis::warning(format!("table {quoted}"), fact)
        .with_hint("Add a primary key, or let the whole old row identify it:")
        .with_command(format!("ALTER TABLE {quoted} REPLICA IDENTITY FULL;"))
}

/// `REPLICA IDENTITY FULL` with generated columns that are not sent.
fn generated_not_sent(table: &TableName, publication: Option<&str>, has_virtual: bool) -> Diagnosis {
    let quoted = quoted(table);
    let fact = "REPLICA IDENTITY FULL, but generated columns that the publication does not send, so every UPDATE and DELETE on \
                it fails while it is published";
    let found = Diagnosis::warning(format!("table {quoted}"), fact);
    match publication {
        Some(name) if !has_virtual => {
            let command = format!(
                "ALTER PUBLICATION {} SET (publish_generated_columns = stored);",
                escape_identifier(name)
            );
            found.with_hint("Let the publication send them:").with_command(command)
        }
        _ => found
            .with_hint("Let the primary key identify it:")
            .with_command(format!("ALTER TABLE {quoted} REPLICA IDENTITY DEFAULT;")),
    }
}

/// A diagnosis if the key of a published table has generated columns that are not sent.
pub fn unsent_key(table: &PublishedTable, version: i32) -> Option<Diagnosis> {
    (!table.unsent_key.is_empty()).then(|| key_not_sent(&table.name, &table.unsent_key.join(", "), version))
}

fn key_not_sent(table: &TableName, columns: &str, version: i32) -> Diagnosis {
    let quoted = quoted(table);
    let is_sendable = version >= GENERATED_SINCE;
    let because =
        if is_sendable { "the publication does not send" } else { "PostgreSQL before 18 does not publish" };
    let fact = format!(
        "its key has the generated column {columns}, which {because}: its events would have no key, and no order"
    );
    let first = if is_sendable { "Set publish_generated_columns = stored, or identify" } else { "Identify" };
    let hint = format!(
        "{first} its rows by a unique index without generated columns (ALTER TABLE {quoted} REPLICA IDENTITY USING INDEX …), make the \
         column an ordinary one (ALTER COLUMN … DROP EXPRESSION), or leave the table out of the publication."
    );
    Diagnosis::warning(format!("table {quoted}"), fact).with_hint(hint)
}

/// Tables of the publication `name` whose own UPDATE or DELETE fails; empty if the publication does not
/// exist. Leaf partitions are checked too, because the rows are in them.
///
/// # Errors
/// The connection broke.
pub async fn broken_by(client: &Client, name: &str) -> Result<Vec<Diagnosis>, Error> {
    let version = version(client).await?;
    let full = if version < GENERATED_SINCE { "false" } else { "c.relreplident = 'f'" };
    // Compared by name, because a partition may have its columns in another order. Column lists are read as
    // JSON, because PostgreSQL 14 has none.
    let query = format!(
        "{}, lists (leaf, names) AS (
             SELECT t.oid, array_agg(a.attname)
             FROM p JOIN tree t ON p.pubviaroot OR t.top = t.oid
             JOIN pg_catalog.pg_publication_rel r ON r.prpubid = p.oid AND r.prrelid = t.top
             JOIN pg_catalog.pg_attribute a ON a.attrelid = t.top AND a.attnum > 0
                 AND jsonb_typeof(to_jsonb(r) -> 'prattrs') = 'array'
                 AND to_jsonb(r) -> 'prattrs' @> to_jsonb(a.attnum::int)
             GROUP BY t.oid),
         judged AS (
             SELECT c.oid, c.relnamespace, c.relname,
                    CASE WHEN NOT {USABLE} THEN 'none'
                         WHEN l.names IS NOT NULL
                              AND (c.relreplident = 'f' OR EXISTS (SELECT FROM {KEY} AND a.attname <> ALL (l.names))) THEN 'list'
                         WHEN {full} AND EXISTS (SELECT FROM {NOT_SENT} AND a.attgenerated = 'v') THEN 'virtual'
                         WHEN {full} AND EXISTS (SELECT FROM {NOT_SENT}) THEN 'stored' END AS why
             FROM p CROSS JOIN members m
             JOIN pg_catalog.pg_class c ON c.oid = m.oid AND c.relkind = 'r'
             LEFT JOIN lists l ON l.leaf = c.oid
             WHERE p.pubupdate OR p.pubdelete)
         SELECT {SCHEMA}, {TABLE}, c.why
         FROM judged c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
         WHERE c.why IS NOT NULL ORDER BY 1, 2",
        members(version)
    );
    let mut broken = Vec::new();
    let take = |row: &Row| {
        let table = table_name(row, 0)?;
        broken.push(match row.try_get(2)? {
            "list" => list_lacks_identity(&table),
            why @ ("stored" | "virtual") => generated_not_sent(&table, Some(name), why == "virtual"),
            _ => no_identity(&table),
        });
        Ok(())
    };
    pages::each(client, &query, name, take).await?;
    Ok(broken)
}

/// Generated columns `a` of `c` that the publication `p` does not send.
const NOT_SENT: &str = "pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attgenerated <> ''
    AND NOT (a.attgenerated = 's' AND coalesce(to_jsonb(p) ->> 'pubgencols', 'n') = 's')";

fn list_lacks_identity(table: &TableName) -> Diagnosis {
    let quoted = quoted(table);
    let fact = "a column list in the publication that lacks columns of its replica identity, so every UPDATE and DELETE on it fails";
    Diagnosis::warning(format!("table {quoted}"), fact).with_hint(
        "Add them to the column list, or publish all of its columns (ALTER PUBLICATION … SET TABLE …). REPLICA IDENTITY FULL \
         needs all of them.",
    )
}

/// Checks which of the configured tables cannot be published: they do not exist, their UPDATEs would fail, or
/// their events would have no key.
///
/// # Errors
/// The connection broke.
pub async fn unfit_tables(client: &Client, tables: &[TableName]) -> Result<Vec<Diagnosis>, Error> {
    let version = version(client).await?;
    let query = format!(
        "WITH RECURSIVE tree (oid) AS (
             SELECT r.oid FROM pg_catalog.pg_class r JOIN pg_catalog.pg_namespace n ON n.oid = r.relnamespace
             WHERE n.nspname = $1::text::name AND r.relname = $2::text::name AND r.relkind IN ('r', 'p')
             UNION
             SELECT i.inhrelid FROM tree t
             JOIN pg_catalog.pg_class c ON c.oid = t.oid AND c.relkind = 'p'
             JOIN pg_catalog.pg_inherits i ON i.inhparent = t.oid)
         SELECT max({}) FILTER (WHERE c.relkind = 'r'),
                (SELECT string_agg(DISTINCT a.attname::text, ', ') FROM tree t JOIN pg_catalog.pg_class c ON c.oid = t.oid
                 CROSS JOIN LATERAL (SELECT a.attname FROM {KEY} AND a.attgenerated <> '') a)
         FROM tree JOIN pg_catalog.pg_class c ON c.oid = tree.oid HAVING count(*) > 0",
        unfit(version)
    );
    let mut found = Vec::new();
    for name in tables {
        let Some(row) = client.query_opt(&query, &[&name.schema, &name.table]).await? else {
            let near = selected::nearest_table(client, name).await?;
            let near = near.map_or_else(String::new, |near| format!(" Did you mean {near}?"));
            found.push(
                Diagnosis::blocker("source.tables", format!("there is no table {name}"))
                    .with_hint(format!("Correct source.tables, or create the table.{near}")),
            );
            continue;
        };
        let columns: Option<String> = row.try_get(1)?;
        match row.try_get::<_, Option<&str>>(0)? {
            None => {}
            Some("key") => found.push(key_not_sent(name, &columns.unwrap_or_default(), version)),
            Some("generated") => found.push(generated_not_sent(name, None, true)),
            Some(_) => found.push(no_identity(name)),
        }
    }
    Ok(found)
}

/// The tables that Forebay publishes by default: every permanent table with a usable identity in user
/// schemas. Of a partitioned table, the root; no table of an extension.
///
/// # Errors
/// The connection broke.
pub async fn candidate_tables(client: &Client) -> Result<Vec<TableName>, Error> {
    let query = format!(
        "SELECT {SCHEMA}, {TABLE}
         FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
         WHERE c.relkind IN ('r', 'p') AND c.relpersistence = 'p' AND NOT c.relispartition
           AND n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\\_%' AND {} IS NULL
           AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_class'::regclass
                           AND d.objid = c.oid AND d.deptype = 'e')
         ORDER BY 1, 2",
        unfit(version(client).await?)
    );
    let rows = client.query(&query, &[]).await?;
    rows.iter().map(|row| table_name(row, 0)).collect()
}
