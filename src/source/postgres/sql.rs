//! An SQL connection with the same socket, TLS and settings as the replication connection.

use std::future::Future;
use std::io;
use std::pin::Pin;

use tokio_postgres::config::SslMode;
use tokio_postgres::{CancelToken, Client, Config, NoTls};

use super::conninfo::Settings;
use super::error::{Error, ServerError, log_notice};
use super::login;
use super::parameters::Purpose;
use super::sql_stream::SqlStream;

/// Drives a [`Client`]: no response arrives unless this future is polled. It ends when the client is dropped.
pub type Driver = Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>;

/// Most bytes of one result. Results that grow with the number of tables are read in [`pages`](super::pages).
const ANSWER_SIZE_MAX: u64 = 32 << 20;
/// Most bytes of one result with table rows.
pub(super) const ROWS_SIZE_MAX: u64 = 512 << 20;

/// Connects and logs in.
///
/// # Errors
/// The same as those of the replication connection.
pub async fn connect(settings: &Settings) -> Result<(Client, Driver), Error> {
    connect_for(settings, ANSWER_SIZE_MAX).await
}

/// Like [`connect`], with results of at most `answer_max` bytes.
pub(super) async fn connect_for(settings: &Settings, answer_max: u64) -> Result<(Client, Driver), Error> {
    let mut logged_in = login::log_in(settings, Purpose::Sql).await?;
    let follow_up = logged_in.follow_up.take();
    let stream = SqlStream::new(logged_in, answer_max).map_err(|error| Error::Protocol(error.to_string()))?;
    // The log-in is complete, and TLS is inside the stream if it is used. The client only repeats the log-in
    // with a simulated server.
    let mut config = Config::new();
    config.user(&settings.user).ssl_mode(SslMode::Disable);
    let (client, mut connection) = config.connect_raw(stream, NoTls).await?;
    let mut driver: Driver = Box::pin(async move {
        loop {
            match std::future::poll_fn(|cx| connection.poll_message(cx)).await {
                None => return Ok(()),
                Some(Ok(tokio_postgres::AsyncMessage::Notice(notice))) => {
                    log_notice(&ServerError::from(&notice));
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error.into()),
            }
        }
    });
    if let Some(statement) = follow_up {
        tokio::select! {
            biased;
            done = client.batch_execute(&statement) => done?,
            ended = &mut driver => return Err(ended.err().unwrap_or_else(closed)),
        }
    }
    Ok((client, driver))
}

/// Cancels the running statement of a session, over a connection of its own.
///
/// # Errors
/// The server cannot be reached.
pub(super) async fn cancel(settings: &Settings, token: &CancelToken) -> Result<(), Error> {
    let socket = login::open_socket(settings).await?;
    Ok(token.cancel_query_raw(socket, NoTls).await?)
}

/// The error of a session that the server has ended without an error message.
pub(super) fn closed() -> Error {
    let cause = io::Error::new(io::ErrorKind::ConnectionAborted, "the server closed it");
    Error::Network { target: "the SQL connection".to_owned(), cause }
}
