//! The bytes' way to the server: a Unix socket, TCP, or TLS over TCP.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use postgres_protocol::message::frontend;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::conninfo::{Host, Settings, SslMode};
use super::endpoint;
use super::error::Error;
use super::tls::{self, TlsError};

/// A dead machine or path is noticed after `KEEPALIVE_IDLE + KEEPALIVE_RETRIES * KEEPALIVE_INTERVAL`: one minute, as
/// long as the server by default waits for us.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_RETRIES: u32 = 3;
/// Data that nobody acknowledges is given up after the same minute (keepalives are not sent while data is under way).
const USER_TIMEOUT: Duration = Duration::from_mins(1);

/// A connection to the server, encrypted or not.
#[derive(Debug)]
pub enum Socket {
    /// Unencrypted TCP.
    Tcp(TcpStream),
    /// A Unix socket.
    Unix(UnixStream),
    /// TLS over TCP.
    Tls(Box<TlsStream<TcpStream>>),
}

/// One way to try, in the order that `sslmode` gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// Without TLS.
    Plain,
    /// With TLS if the server offers it.
    TlsIfOffered,
    /// With TLS.
    Tls,
}

/// What `sslmode` tries one after the other; the second only if the server (not the network) refuses the first.
pub fn attempts(settings: &Settings) -> &'static [Attempt] {
    match (&settings.host, settings.ssl_mode) {
        (Host::Socket(_), _) | (_, SslMode::Disable) => &[Attempt::Plain],
        (_, SslMode::Allow) => &[Attempt::Plain, Attempt::Tls],
        (_, SslMode::Prefer) => &[Attempt::TlsIfOffered, Attempt::Plain],
        (_, SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull) => &[Attempt::Tls],
    }
}

impl Socket {
    /// Connects, and agrees on TLS if `attempt` wants it. Has no time limit of its own.
    ///
    /// # Errors
    /// Nobody answers, or TLS cannot be agreed on.
    pub async fn connect(settings: &Settings, attempt: Attempt) -> Result<Self, Error> {
        let network = |cause| Error::Network { target: settings.target(), cause };
        let host = match &settings.host {
            Host::Socket(_) => {
                let path = settings.socket_path().unwrap_or_default();
                return UnixStream::connect(path).await.map(Self::Unix).map_err(network);
            }
            Host::Tcp(host) => host,
        };
        let mut tcp = TcpStream::connect((host.as_str(), settings.port)).await.map_err(network)?;
        tune(&tcp).map_err(network)?;
        if attempt == Attempt::Plain {
            return Ok(Self::Tcp(tcp));
        }
        let mut request = BytesMut::new();
        frontend::ssl_request(&mut request);
        tcp.write_all(&request).await.map_err(network)?;
        // One byte and no more: what follows it in the same packet would be from somebody in between.
        let offered = tcp.read_u8().await.map_err(network)? == b'S';
        let failed = |cause| Error::Tls { target: settings.target(), cause: Box::new(cause) };
        match (offered, attempt) {
            (false, Attempt::Tls) => return Err(failed(TlsError::NotOffered)),
            (false, _) => return Ok(Self::Tcp(tcp)),
            (true, _) => {}
        }
        let config = tls::client_config(settings).map_err(failed)?;
        let name = tls::server_name(host).map_err(failed)?;
        let stream = TlsConnector::from(config)
            .connect(name, tcp)
            .await
            .map_err(|cause| failed(TlsError::Handshake { cause }))?;
        Ok(Self::Tls(Box::new(stream)))
    }

    /// Whether nobody on the way can read along: TLS, a Unix socket, or this very machine.
    pub fn is_private(&self) -> bool {
        match self {
            Self::Unix(_) | Self::Tls(_) => true,
            Self::Tcp(tcp) => tcp.peer_addr().is_ok_and(|peer| peer.ip().is_loopback()),
        }
    }

    /// What SCRAM can bind the log-in to; `None` without TLS, or if the certificate has no such hash.
    pub fn server_end_point(&self) -> Option<Vec<u8>> {
        match self {
            Self::Tcp(_) | Self::Unix(_) => None,
            Self::Tls(stream) => endpoint::hash(stream.get_ref().1.peer_certificates()?.first()?),
        }
    }

    /// Whether it is encrypted.
    pub fn is_tls(&self) -> bool {
        matches!(self, Self::Tls(_))
    }
}

fn tune(tcp: &TcpStream) -> io::Result<()> {
    tcp.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_RETRIES);
    let socket = SockRef::from(tcp);
    socket.set_tcp_keepalive(&keepalive)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
    Ok(())
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
