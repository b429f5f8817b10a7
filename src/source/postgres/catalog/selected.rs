//! Checks whether a selector matches a table or column of the database.

use tokio_postgres::{Client, Error};

use crate::config::{TableName, selector};
use crate::source::postgres::name::{CatalogText, raw_name};

/// Tables. The parameters `$1` and `$2` are schema and name, if given.
const TABLES: &str = "FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind IN ('r', 'p') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
       AND ($1::text IS NULL OR n.nspname = $1::text) AND ($2::text IS NULL OR c.relname = $2::text)";
/// Columns of the table `c`.
const COLUMNS: &str =
    "FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped";

/// Whether there is a table with these two names, or a column with these three. `None` matches every name.
///
/// # Errors
/// The connection broke.
pub async fn exists(client: &Client, names: &[Option<&str>]) -> Result<bool, Error> {
    let part = |at: usize| names.get(at).copied().flatten();
    let row = if names.len() == 2 {
        let query = format!("SELECT EXISTS (SELECT {TABLES})");
        client.query_one(&query, &[&part(0), &part(1)]).await?
    } else {
        let columns = format!("SELECT {COLUMNS} AND ($3::text IS NULL OR a.attname = $3::text)");
        let query = format!("SELECT EXISTS (SELECT {TABLES} AND EXISTS ({columns}))");
        client.query_one(&query, &[&part(0), &part(1), &part(2)]).await?
    };
    row.try_get(0)
}

/// Names that may have been intended: tables (two names each) or columns (three names).
///
/// # Errors
/// The connection broke.
pub async fn candidates(client: &Client, parts: usize) -> Result<Vec<Vec<String>>, Error> {
    /// Most names that are read. A hint about a typing error is not worth more.
    const MOST: usize = 20_000;
    let (schema, table, column) = (raw_name!("n.nspname"), raw_name!("c.relname"), raw_name!("a.attname"));
    let query = if parts == 2 {
        format!("SELECT {schema}, {table} {TABLES} ORDER BY 1, 2 LIMIT {MOST}")
    } else {
        let columns = format!("CROSS JOIN LATERAL (SELECT a.attname {COLUMNS}) a");
        let tables = TABLES.replacen("WHERE", &format!("{columns} WHERE"), 1);
        format!("SELECT {schema}, {table}, {column} {tables} LIMIT {MOST}")
    };
    let rows = client.query(&query, &[&None::<&str>, &None::<&str>]).await?;
    rows.iter().map(|row| (0..parts).map(|at| Ok(row.try_get::<_, CatalogText>(at)?.0)).collect()).collect()
}

/// The name of a table that is similar to one that does not exist, in selector syntax.
///
/// # Errors
/// The connection broke.
pub async fn nearest_table(client: &Client, missing: &TableName) -> Result<Option<String>, Error> {
    let candidates = candidates(client, 2).await?;
    let candidates = candidates.iter().map(|names| names.iter().map(String::as_str).collect());
    Ok(selector::nearest(&missing.to_string(), candidates))
}
