//! Commands of a replication connection before it streams.

use std::time::Duration;

use super::connection::Connection;
use super::encoding::Encoding;
use super::error::Error;
use super::transcode::Transcoder;
use super::{parameters, status};

/// Returns the time without a status after which the server ends the stream. Sets it first if the role's or
/// the server's own value cannot be used.
pub(super) async fn sender_timeout(connection: &mut Connection) -> Result<Duration, Error> {
    let found = status::parse_duration(&connection.show("wal_sender_timeout").await?);
    match found {
        Some(timeout) if timeout >= parameters::SENDER_TIMEOUT_MIN => Ok(timeout),
        _ => {
            let timeout = parameters::SENDER_TIMEOUT;
            connection.query(&format!("SET wal_sender_timeout = '{}ms'", timeout.as_millis())).await?;
            Ok(timeout)
        }
    }
}

/// Requests text in the server's own encoding. Otherwise the server would end the stream at a text that it
/// cannot convert, at every attempt. `None` if the encoding is UTF-8, or one that only the server can
/// convert.
pub(super) async fn transcoder(
    connection: &mut Connection,
    max_row_size: usize,
) -> Result<Option<Transcoder>, Error> {
    let name = connection.show("server_encoding").await?;
    match Encoding::named(&name) {
        None | Some(Encoding::Utf8) => Ok(None),
        Some(encoding) => {
            connection.query(&format!("SET client_encoding = '{name}'")).await?;
            Ok(Some(Transcoder::new(encoding, max_row_size)))
        }
    }
}
