//! An ordinary SQL connection over the same socket, TLS and settings as the replication connection.

use std::future::{Future, Ready, ready};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::timeout;
use tokio_postgres::config::{ChannelBinding as SqlBinding, SslMode as SqlMode, SslNegotiation};
use tokio_postgres::tls::{ChannelBinding as Bound, TlsConnect, TlsStream};
use tokio_postgres::{Client, Config};

use super::auth;
use super::connection::{each_attempt, log_notice};
use super::conninfo::{ChannelBinding, Settings};
use super::error::{Error, ServerError};
use super::socket::{Attempt, Socket};

/// A look into the catalogue takes milliseconds; one that takes longer waits for a lock that may never end.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// What drives a [`Client`]; nothing is answered unless it is polled. Ends when the client is dropped.
pub type Driver = Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>;

/// Connects and logs in.
///
/// # Errors
/// As the replication connection.
pub async fn connect(settings: &Settings) -> Result<(Client, Driver), Error> {
    each_attempt(settings, async |attempt| log_in(settings, attempt).await).await
}

async fn log_in(settings: &Settings, attempt: Attempt) -> Result<(Client, Driver), Error> {
    let socket = Socket::connect(settings, attempt).await?;
    let mut config = Config::new();
    config
        .user(&settings.user)
        .dbname(&settings.database)
        .application_name(&settings.application_name)
        .options(auth::session_options(settings))
        // TLS is already there or will not be: "direct" makes the client ask for the stream at once.
        .ssl_mode(if socket.is_tls() { SqlMode::Require } else { SqlMode::Disable })
        .ssl_negotiation(SslNegotiation::Direct)
        .channel_binding(match settings.channel_binding {
            ChannelBinding::Disable => SqlBinding::Disable,
            ChannelBinding::Prefer => SqlBinding::Prefer,
            ChannelBinding::Require => SqlBinding::Require,
        });
    let private = socket.is_private();
    if let Some(password) = &settings.password {
        config.password(password.reveal());
    }
    // The client would send it in clear text over any connection that asks for it.
    let guarded = settings.password.as_ref().filter(|_| !private).map(|password| password.reveal().to_vec());
    let socket = Guarded { socket, guarded };
    let connected = config.connect_raw(socket, Agreed).await;
    let (client, mut connection) = connected.map_err(|error| {
        let cause = std::error::Error::source(&error).and_then(|cause| cause.downcast_ref::<io::Error>());
        match cause {
            Some(cause) if cause.kind() == io::ErrorKind::PermissionDenied => {
                Error::Authentication(auth::CLEAR_TEXT.to_owned())
            }
            _ => refused(settings, error),
        }
    })?;
    let driver = async move {
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
    };
    Ok((client, Box::pin(driver)))
}

/// What the client says when it cannot log in: it gives its kind only as a text.
fn refused(settings: &Settings, error: tokio_postgres::Error) -> Error {
    let kind = error.to_string();
    let reason = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
    match kind.as_str() {
        "invalid configuration" if reason == "password missing" => auth::no_password(settings),
        "invalid configuration" | "authentication error" => Error::Authentication(reason),
        _ => error.into(),
    }
}

/// A client together with its driver, for whoever has no task to spare.
pub struct Session {
    client: Client,
    driver: Option<Driver>,
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
    /// As [`connect`].
    pub async fn open(settings: &Settings) -> Result<Self, Error> {
        let (client, driver) = connect(settings).await?;
        Ok(Self { client, driver: Some(driver) })
    }

    /// Whether it still works, as far as is known.
    pub fn is_open(&self) -> bool {
        self.driver.is_some() && !self.client.is_closed()
    }

    /// Runs `work` on the client, at most half a minute. Cancel-safe as far as `work` is.
    ///
    /// # Errors
    /// Those of `work`, or the connection broke.
    pub async fn run<T, E: Into<Error>>(
        &mut self,
        work: impl AsyncFnOnce(&Client) -> Result<T, E>,
    ) -> Result<T, Error> {
        match timeout(ANSWER_TIMEOUT, self.run_patiently(work)).await {
            Ok(result) => result,
            Err(_) => Err(Error::Network {
                target: "the SQL connection".to_owned(),
                cause: io::Error::new(io::ErrorKind::TimedOut, "no answer in half a minute"),
            }),
        }
    }

    /// As [`run`](Self::run), for as long as it takes: making a slot waits for every running transaction.
    ///
    /// # Errors
    /// Those of `work`, or the connection broke.
    pub async fn run_patiently<T, E: Into<Error>>(
        &mut self,
        work: impl AsyncFnOnce(&Client) -> Result<T, E>,
    ) -> Result<T, Error> {
        let Self { client, driver } = self;
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
}

fn closed() -> Error {
    let cause = io::Error::new(io::ErrorKind::ConnectionAborted, "it was closed");
    Error::Network { target: "the SQL connection".to_owned(), cause }
}

/// A socket, and the password that must not go over it in clear text.
pub(super) struct Guarded {
    socket: Socket,
    guarded: Option<Vec<u8>>,
}

/// Whether these bytes, as the client gives them to the socket, are a message that shows the password.
fn reveals(bytes: &[u8], password: &[u8]) -> bool {
    // Tag, length, the text and its zero byte.
    let shown = bytes.strip_prefix(b"p").and_then(|rest| rest.get(4..));
    shown.and_then(|rest| rest.strip_prefix(password)).is_some_and(|rest| rest.first() == Some(&0))
}

/// Hands the stream on as it is: TLS was agreed on before.
struct Agreed;

/// A socket of which the client knows that it may be TLS.
pub(super) struct AgreedStream(Guarded);

impl TlsConnect<Guarded> for Agreed {
    type Stream = AgreedStream;
    type Error = io::Error;
    type Future = Ready<io::Result<AgreedStream>>;

    fn connect(self, stream: Guarded) -> Self::Future {
        ready(Ok(AgreedStream(stream)))
    }
}

impl TlsStream for AgreedStream {
    fn channel_binding(&self) -> Bound {
        self.0.socket.server_end_point().map_or_else(Bound::none, Bound::tls_server_end_point)
    }
}

impl AsyncRead for Guarded {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_read(cx, buf)
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.guarded.as_ref().is_some_and(|password| reveals(buf, password)) {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::PermissionDenied, auth::CLEAR_TEXT)));
        }
        Pin::new(&mut this.socket).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(cx)
    }
}

impl AsyncRead for AgreedStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_read(cx, buf)
    }
}

impl AsyncWrite for AgreedStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().0).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use postgres_protocol::authentication::md5_hash;
    use postgres_protocol::message::frontend;

    use super::*;

    #[test]
    fn only_a_message_that_shows_the_password_is_held_back() {
        let message = |secret: &[u8]| {
            let mut out = BytesMut::new();
            frontend::password_message(secret, &mut out).unwrap();
            out
        };
        assert!(reveals(&message(b"secret"), b"secret"));
        let hash = md5_hash(b"u", b"secret", [1, 2, 3, 4]);
        for other in [&message(hash.as_bytes())[..], &message(b"secrets"), b"", b"p", b"Q\0\0\0\x0bsecret\0"]
        {
            assert!(!reveals(other, b"secret"), "{other:?}");
        }
    }
}
