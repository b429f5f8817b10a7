//! Types and primary keys, from the catalogue.

use std::collections::HashMap;

use tokio_postgres::{Client, Error};

use crate::types::Kind;

/// How the values of these types become JSON.
pub async fn kinds(client: &Client, oids: &[u32]) -> Result<HashMap<u32, Kind>, Error> {
    let rows = client.query("SELECT oid FROM pg_catalog.pg_type WHERE oid = ANY($1)", &[&oids]).await?;
    Ok(rows.iter().map(|row| (row.get(0), Kind::Text)).collect())
}

/// Names of the primary key's columns, in its order.
pub async fn primary_key(client: &Client, oid: u32) -> Result<Vec<String>, Error> {
    let rows = client
        .query(
            "SELECT a.attname::text FROM pg_catalog.pg_index i
             CROSS JOIN LATERAL unnest(i.indkey) WITH ORDINALITY k(attnum, nth)
             JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
             WHERE i.indrelid = $1 AND i.indisprimary AND k.nth <= i.indnkeyatts ORDER BY k.nth",
            &[&oid],
        )
        .await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}
