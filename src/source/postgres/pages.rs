//! Reads catalogue results page by page. The result for a million tables need not fit into one message, or
//! into memory twice.

use postgres_protocol::escape::escape_literal;
use tokio_postgres::{Client, Row};

use super::error::Error;

/// Rows in memory at a time.
const PAGE_ROWS: usize = 5_000;

/// Passes each row of a query to `take`. Parameter 1 of the query is `name`, inserted as a literal because a
/// cursor takes no parameters.
///
/// # Errors
/// Those of the query and of `take`, or the connection broke. Afterwards the session is in no transaction.
pub(super) async fn each(
    client: &Client,
    query: &str,
    name: &str,
    take: impl FnMut(&Row) -> Result<(), Error>,
) -> Result<(), Error> {
    let done = pages(client, &query.replace("$1", &escape_literal(name)), take).await;
    let ended = client.batch_execute("ROLLBACK").await;
    done?;
    Ok(ended?)
}

async fn pages(
    client: &Client,
    query: &str,
    mut take: impl FnMut(&Row) -> Result<(), Error>,
) -> Result<(), Error> {
    client.batch_execute(&format!("BEGIN READ ONLY; DECLARE page NO SCROLL CURSOR FOR {query}")).await?;
    let fetch = format!("FETCH {PAGE_ROWS} FROM page");
    loop {
        let rows = client.query(&fetch, &[]).await?;
        for row in &rows {
            take(row)?;
        }
        if rows.len() < PAGE_ROWS {
            return Ok(());
        }
    }
}
