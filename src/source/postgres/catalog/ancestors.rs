//! Tables that other tables inherit from, by INHERITS or as partitions.

use tokio_postgres::Client;

use crate::config::TableName;
use crate::source::postgres::error::Error;
use crate::source::postgres::name::{raw_name, table_name};
use crate::source::postgres::pages;

/// Passes each pair of a table and one of its ancestors to `each`, at any distance.
///
/// # Errors
/// The connection broke.
pub async fn ancestors(client: &Client, mut each: impl FnMut(TableName, TableName)) -> Result<(), Error> {
    const QUERY: &str = concat!(
        "
        WITH RECURSIVE up (oid, ancestor) AS (
            SELECT inhrelid, inhparent FROM pg_catalog.pg_inherits
            UNION
            SELECT u.oid, i.inhparent FROM up u JOIN pg_catalog.pg_inherits i ON i.inhrelid = u.ancestor)
        SELECT ",
        raw_name!("n.nspname"),
        ", ",
        raw_name!("c.relname"),
        ", ",
        raw_name!("an.nspname"),
        ", ",
        raw_name!("a.relname"),
        "
        FROM up u
        JOIN pg_catalog.pg_class c ON c.oid = u.oid AND c.relkind IN ('r', 'p')
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        JOIN pg_catalog.pg_class a ON a.oid = u.ancestor
        JOIN pg_catalog.pg_namespace an ON an.oid = a.relnamespace"
    );
    pages::each(client, QUERY, "", |row| {
        each(table_name(row, 0)?, table_name(row, 2)?);
        Ok(())
    })
    .await
}
