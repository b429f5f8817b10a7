//! An SQL session: a client with its driver. No statement leaves a backend on the server.
//!
//! The server cancels a statement before the client does (`statement_timeout` and `lock_timeout` of
//! [`parameters`](super::parameters)). If the server does not respond at all, the statement is cancelled and
//! the session closed before the caller can open another. Statements that must wait for other transactions
//! have no limit; the transactions that block them are logged (`waits`).

use std::convert::Infallible;
use std::io;
use std::time::Duration;

use tokio::time::timeout;
use tokio_postgres::Client;

use crate::failure::Failure;

use super::conninfo::Settings;
use super::error::Error;
use super::sql::{self, Driver, ROWS_SIZE_MAX, closed, connect, connect_for};

/// Longer than `statement_timeout`, so that it expires only if the server hangs.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Time limit of a cancel request, including its connection.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(2);

/// Makes the server check every 2 s that the client of a statement without a limit is still connected.
const NOTICE_CLIENT: &str = "SET client_connection_check_interval = '2s'";

/// Resets the settings of a statement without a limit.
const DEFAULT_LIMITS: &str =
    "RESET statement_timeout; RESET lock_timeout; RESET client_connection_check_interval";

/// A client that polls its connection itself, without a task of its own.
pub struct Session {
    client: Client,
    driver: Option<Driver>,
    settings: Settings,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("open", &self.driver.is_some()).finish_non_exhaustive()
    }
}

impl Session {
    /// Connects and logs in.
    ///
    /// # Errors
    /// The same as those of [`connect`].
    pub async fn open(settings: &Settings) -> Result<Self, Error> {
        let (client, driver) = connect(settings).await?;
        Ok(Self { client, driver: Some(driver), settings: settings.clone() })
    }

    /// Like [`open`](Self::open), with the size limit for results that contain table rows.
    ///
    /// # Errors
    /// The same as those of [`connect`].
    pub async fn open_for_rows(settings: &Settings) -> Result<Self, Error> {
        let (client, driver) = connect_for(settings, ROWS_SIZE_MAX).await?;
        Ok(Self { client, driver: Some(driver), settings: settings.clone() })
    }

    /// Whether the connection is open, as far as the client knows.
    pub fn is_open(&self) -> bool {
        self.driver.is_some() && !self.client.is_closed()
    }

    /// Runs `work` on the client for at most 30 s. After that the statement is cancelled and the session
    /// closed.
    ///
    /// # Errors
    /// Those of `work`, or the connection broke.
    pub async fn run<T, E: Into<Error>>(
        &mut self,
        work: impl AsyncFnOnce(&Client) -> Result<T, E>,
    ) -> Result<T, Error> {
        self.run_within(ANSWER_TIMEOUT, work).await
    }

    /// Like [`run`](Self::run), for at most `limit`.
    ///
    /// # Errors
    /// Those of `work`, or the connection broke.
    pub async fn run_within<T, E: Into<Error>>(
        &mut self,
        limit: Duration,
        work: impl AsyncFnOnce(&Client) -> Result<T, E>,
    ) -> Result<T, Error> {
        if let Ok(result) = timeout(limit, self.drive(work)).await {
            return result;
        }
        self.give_up().await;
        let reason = format!("no response within {} s", limit.as_secs());
        Err(Error::Network {
            target: "the SQL connection".to_owned(),
            cause: io::Error::new(io::ErrorKind::TimedOut, reason),
        })
    }

    /// Like [`run`](Self::run), for a read of the catalogue. Its failure never stops the process: the server
    /// may allow later what it rejects now, and the stream does not need the result.
    ///
    /// # Errors
    /// The same as those of [`run`](Self::run), always as a failure to retry.
    pub async fn look<T, E: Into<Error>>(
        &mut self,
        work: impl AsyncFnOnce(&Client) -> Result<T, E>,
    ) -> Result<T, Failure> {
        self.run(work).await.map_err(Failure::retry)
    }

    /// Like [`run`](Self::run), without a time limit. `meanwhile` is polled together with the work. It
    /// receives the connection settings and the pid of the session's backend.
    ///
    /// # Errors
    /// Those of `work`, or the connection broke.
    pub(super) async fn run_without_limit<T, E: Into<Error>>(
        &mut self,
        work: impl AsyncFnOnce(&Client) -> Result<T, E>,
        meanwhile: impl AsyncFnOnce(&Settings, i32) -> Infallible,
    ) -> Result<T, Error> {
        const WITHOUT_LIMIT: &str = "SELECT pg_catalog.pg_backend_pid(),
            pg_catalog.set_config('statement_timeout', '0', false), pg_catalog.set_config('lock_timeout', '0', false)";
        let pid: i32 =
            self.run(async |client| client.query_one(WITHOUT_LIMIT, &[]).await?.try_get(0)).await?;
        // Makes the server detect a lost client. Not every platform supports it. Without it, the next start
        // waits for the backend that this process has left.
        let noticed = self.run(async |client| client.batch_execute(NOTICE_CLIENT).await).await;
        if let Err(error) = noticed {
            tracing::debug!(event = "client_check_unavailable", %error, "server does not check for lost clients");
        }
        let settings = self.settings.clone();
        let done = tokio::select! {
            biased;
            done = self.drive(work) => done?,
            never = meanwhile(&settings, pid) => match never {},
        };
        self.run(async |client| client.batch_execute(DEFAULT_LIMITS).await).await?;
        Ok(done)
    }

    async fn drive<T, E: Into<Error>>(
        &mut self,
        work: impl AsyncFnOnce(&Client) -> Result<T, E>,
    ) -> Result<T, Error> {
        let Self { client, driver, .. } = self;
        let driven = async {
            match driver {
                Some(driving) => {
                    let ended = driving.await;
                    *driver = None;
                    ended.err().unwrap_or_else(closed)
                }
                None => closed(),
            }
        };
        tokio::select! {
            biased;
            result = work(client) => result.map_err(Into::into),
            error = driven => Err(error),
        }
    }

    /// Cancels the running statement, if the server can be reached, and closes the connection.
    async fn give_up(&mut self) {
        let cancelled =
            timeout(CANCEL_TIMEOUT, sql::cancel(&self.settings, &self.client.cancel_token())).await;
        if !matches!(cancelled, Ok(Ok(()))) {
            tracing::debug!(event = "cancel_failed", "statement could not be cancelled after its timeout");
        }
        // The driver owns the connection. Dropping it closes the socket, and the server ends the session.
        self.driver = None;
    }
}
