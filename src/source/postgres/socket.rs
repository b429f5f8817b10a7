//! The transport to the server: a Unix socket, TCP, or TLS over TCP.

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

use super::auth::Channel;
use super::conninfo::{Host, RootCert, Settings, SslMode};
use super::endpoint;
use super::error::Error;
use super::tls::{self, TlsError};

/// A dead host or network path is detected after `KEEPALIVE_IDLE + KEEPALIVE_RETRIES * KEEPALIVE_INTERVAL`:
/// one minute, the default of `wal_sender_timeout`.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_RETRIES: u32 = 3;
/// Unacknowledged data fails after the same minute. (TCP sends no keepalives while data is in flight.)
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

/// A TLS mode to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// Without TLS.
    Plain,
    /// With TLS if the server offers it.
    TlsIfOffered,
    /// With TLS.
    Tls,
}

/// The TLS modes to try for `sslmode`, in order. The second is tried only if the server (not the network)
/// rejects the first.
pub fn attempts(settings: &Settings) -> &'static [Attempt] {
    match (&settings.host, settings.ssl_mode) {
        (Host::Socket(_), _) | (_, SslMode::Disable) => &[Attempt::Plain],
        (_, SslMode::Allow) => &[Attempt::Plain, Attempt::Tls],
        (_, SslMode::Prefer) => &[Attempt::TlsIfOffered, Attempt::Plain],
        (_, SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull) => &[Attempt::Tls],
    }
}

impl Socket {
    /// Connects, and establishes TLS according to `attempt`. Has no time limit of its own.
    ///
    /// # Errors
    /// The connection fails, or TLS fails.
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
        // Reads exactly one byte: more bytes in the same packet would come from an attacker in the middle.
        let offered = match tcp.read_u8().await.map_err(network)? {
            b'S' => true,
            b'N' => false,
            // PostgreSQL is out of memory or processes. The text is not authenticated before TLS and is not
            // shown.
            b'E' => return Err(network(io::Error::other("the server cannot accept another connection"))),
            other => {
                let seen = char::from(other).to_string();
                return Err(Error::NotPostgres { target: settings.target(), seen });
            }
        };
        let failed = |cause| Error::Tls { target: settings.target(), cause: Box::new(cause) };
        match (offered, attempt) {
            (false, Attempt::Tls) => return Err(failed(TlsError::NotOffered)),
            (false, _) => return Ok(Self::Tcp(tcp)),
            (true, _) => {}
        }
        let config = tls::client_config(settings).map_err(failed)?;
        let name = tls::server_name(host).map_err(failed)?;
        let stream = TlsConnector::from(config).connect(name, tcp).await.map_err(|cause| {
            let own_authority = matches!(settings.root_cert, Some(RootCert::File(_)));
            failed(TlsError::Handshake { cause, own_authority })
        })?;
        Ok(Self::Tls(Box::new(stream)))
    }

    /// The properties that the log-in needs.
    pub fn channel(&self, settings: &Settings) -> Channel {
        match self {
            Self::Unix(_) => Channel { tls: false, verified: true, end_point: None },
            Self::Tcp(tcp) => Channel { tls: false, verified: is_loopback(tcp), end_point: None },
            Self::Tls(stream) => {
                let (tcp, session) = stream.get_ref();
                let certificate = session.peer_certificates().and_then(<[_]>::first);
                Channel {
                    tls: true,
                    verified: tls::is_verified(settings) || is_loopback(tcp),
                    end_point: certificate.and_then(|certificate| endpoint::hash(certificate)),
                }
            }
        }
    }
}

/// Whether the peer is on this machine.
fn is_loopback(tcp: &TcpStream) -> bool {
    tcp.peer_addr().is_ok_and(|peer| peer.ip().to_canonical().is_loopback())
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
