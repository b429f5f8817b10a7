//! Reports the transactions that a statement of ours waits for.

use std::convert::Infallible;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Row};

use super::conninfo::Settings;
use super::error::Error;
use super::session::Session;

/// Time until the first report. The time doubles for each further one.
const FIRST_REPORT: Duration = Duration::from_secs(5);
const REPORT_PAUSE_MAX: Duration = Duration::from_mins(2);

/// Most blocking transactions that are shown. The log has all of them.
const SHOWN_MAX: usize = 3;

/// Most characters of a statement that are logged.
const QUERY_MAX: usize = 120;

/// A statement that waits for other transactions.
#[derive(Clone, Copy)]
pub struct PatientStatement<'a> {
    /// Its purpose, such as `creating the replication slot`.
    purpose: &'a str,
    /// Receives each report.
    report_wait: &'a dyn Fn(String),
}

impl std::fmt::Debug for PatientStatement<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PatientStatement").field("purpose", &self.purpose).finish_non_exhaustive()
    }
}

impl<'a> PatientStatement<'a> {
    /// `purpose` is for the log. `report_wait` receives each report in addition to the log.
    pub const fn new(purpose: &'a str, report_wait: &'a dyn Fn(String)) -> Self {
        Self { purpose, report_wait }
    }

    /// Like [`Session::run`], without a time limit: creating a slot waits for every running transaction.
    /// Reports the transactions that it waits for.
    ///
    /// # Errors
    /// Those of `work`, or the connection broke.
    pub async fn run<T, E: Into<Error>>(
        &self,
        session: &mut Session,
        work: impl AsyncFnOnce(&Client) -> Result<T, E>,
    ) -> Result<T, Error> {
        session.run_without_limit(work, async |settings, pid| report(settings, pid, *self).await).await
    }
}

/// Reports what the backend `pid` waits for, as long as this future is polled.
async fn report(
    settings: &Settings,
    pid: i32,
    PatientStatement { purpose, report_wait }: PatientStatement<'_>,
) -> Infallible {
    let began = Instant::now();
    let mut pause = FIRST_REPORT;
    let mut kept: Option<Session> = None;
    loop {
        sleep(pause).await;
        pause = (pause * 2).min(REPORT_PAUSE_MAX);
        let waited = began.elapsed().as_secs();
        match look(settings, &mut kept, pid).await {
            Ok(blockers) if blockers.is_empty() => {
                report_wait(format!("{purpose} is taking long; no blocking transaction is visible"));
                tracing::warn!(
                    event = "waiting_on_server",
                    waited_seconds = waited,
                    pid,
                    hint = "On a standby, run SELECT pg_log_standby_snapshot() on the primary.",
                    "{purpose} is taking long; no blocking transaction is visible"
                );
            }
            Ok(blockers) => {
                let shown =
                    blockers.iter().take(SHOWN_MAX).map(String::as_str).collect::<Vec<_>>().join("; ");
                let more = match blockers.len().saturating_sub(SHOWN_MAX) {
                    0 => String::new(),
                    more => format!("; and {more} more"),
                };
                report_wait(format!("{purpose} waits for a transaction to end: {shown}{more}"));
                for blocker in blockers {
                    tracing::warn!(
                        event = "waiting_for_transaction",
                        waited_seconds = waited,
                        blocker,
                        "{purpose} waits for a transaction to end"
                    );
                }
            }
            Err(error) => {
                kept = None;
                report_wait(format!("{purpose} is taking long; what it waits for cannot be read"));
                tracing::warn!(
                    event = "waiting_on_server",
                    waited_seconds = waited,
                    pid,
                    %error,
                    "{purpose} is taking long; what it waits for cannot be read"
                );
            }
        }
    }
}

async fn look(settings: &Settings, kept: &mut Option<Session>, pid: i32) -> Result<Vec<String>, Error> {
    let session = match kept {
        Some(open) if open.is_open() => open,
        other => other.insert(Session::open(settings).await?),
    };
    session.run(async |client| blockers(client, pid).await).await
}

/// The transactions that a backend waits for, as text: sessions, and prepared transactions, which have no
/// session.
async fn blockers(client: &Client, pid: i32) -> Result<Vec<String>, tokio_postgres::Error> {
    const SESSIONS: &str = "
        SELECT 'pid ' || a.pid AS who, a.usename::text AS role, a.datname::text AS database, a.state AS state,
               extract(epoch FROM pg_catalog.clock_timestamp() - a.xact_start)::int8 AS age, a.query AS query
        FROM pg_catalog.pg_stat_activity a WHERE a.pid = ANY (pg_catalog.pg_blocking_pids($1))";
    // A prepared transaction holds its locks without a pid, including one on its own transaction id.
    const PREPARED: &str = "
        SELECT pg_catalog.format('prepared transaction %L', p.gid) AS who, p.owner::text AS role,
               p.database::text AS database, 'prepared'::text AS state,
               extract(epoch FROM pg_catalog.clock_timestamp() - p.prepared)::int8 AS age, NULL::text AS query
        FROM pg_catalog.pg_prepared_xacts p
        WHERE p.transaction IN (
            SELECT w.transactionid FROM pg_catalog.pg_locks w
            WHERE w.pid = $1 AND NOT w.granted AND w.locktype = 'transactionid'
            UNION
            SELECT t.transactionid FROM pg_catalog.pg_locks w
            JOIN pg_catalog.pg_locks h ON h.locktype = 'relation' AND h.granted AND h.pid IS NULL
                AND h.database = w.database AND h.relation = w.relation
            JOIN pg_catalog.pg_locks t ON t.virtualtransaction = h.virtualtransaction AND t.locktype = 'transactionid'
            WHERE w.pid = $1 AND NOT w.granted AND w.locktype = 'relation')";
    let mut found = Vec::new();
    for query in [SESSIONS, PREPARED] {
        for row in client.query_typed(query, &[(&pid, Type::INT4)]).await? {
            found.push(described(&row)?);
        }
    }
    Ok(found)
}

fn described(row: &Row) -> Result<String, tokio_postgres::Error> {
    let mut parts: Vec<String> = vec![row.try_get("who")?];
    for (name, value) in [
        ("role", row.try_get::<_, Option<String>>("role")?),
        ("database", row.try_get("database")?),
        ("state", row.try_get("state")?),
        ("age", row.try_get::<_, Option<i64>>("age")?.map(|seconds| format!("{seconds} s"))),
        ("query", visible(row.try_get("query")?).map(|query| without_values(query).to_owned())),
    ] {
        if let Some(value) = value {
            parts.push(format!("{name} {value}"));
        }
    }
    Ok(parts.join(", "))
}

/// The text of a statement in `pg_stat_activity`, if the role may see it (`pg_read_all_stats`).
fn visible(query: Option<&str>) -> Option<&str> {
    query.filter(|query| !query.is_empty() && *query != "<insufficient privilege>")
}

/// The beginning of a statement, up to its first literal or comment: the log must not contain row values.
fn without_values(query: &str) -> &str {
    let query = query.trim_start();
    let (mut quoted, mut before) = (false, ' ');
    for (at, character) in query.char_indices() {
        let in_word = before.is_alphanumeric() || before == '_';
        let ends = match character {
            '"' => {
                quoted = !quoted;
                false
            }
            _ if quoted => false,
            '\'' | '$' => true,
            '0'..='9' => !in_word,
            '-' | '*' => before == '-' || before == '/',
            _ => false,
        };
        if ends || at >= QUERY_MAX {
            return query.get(..at).unwrap_or_default().trim_end();
        }
        before = character;
    }
    query
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logged_statement_holds_no_values() {
        for (query, logged) in [
            ("update lab.t1 set name = 'Ann' where id = 7", "update lab.t1 set name ="),
            ("  insert into \"T 'x' 5\" values (5)", "insert into \"T 'x' 5\" values ("),
            ("select $$Ann$$", "select"),
            ("commit -- for Ann", "commit -"),
            ("select /* Ann */ 1", "select /"),
            ("vacuum full", "vacuum full"),
        ] {
            assert_eq!(without_values(query), logged);
        }
        assert_eq!(without_values(&"ä".repeat(200)).len(), QUERY_MAX);
    }
}
