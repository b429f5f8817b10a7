//! Opens a connection to the service: TCP, a tunnel through a proxy if the environment configures one, and
//! TLS.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper::Uri;
use hyper::header::HeaderValue;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tower_service::Service as _;

use super::address::ServiceAddress;
use super::network::Network;

/// Time limit of a connection attempt, with DNS, proxy and TLS.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Most bytes of a proxy's response to `CONNECT`.
const TUNNEL_ANSWER_MAX: usize = 8 << 10;

/// A connection, with or without TLS.
pub(super) trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for T {}

/// Opens connections.
#[derive(Debug)]
pub(super) struct Dialer {
    tcp: HttpConnector,
    proxy: Option<Matcher>,
    /// TLS settings. An error is reported only once an endpoint needs TLS.
    tls: Result<Arc<ClientConfig>, String>,
}

/// Why no connection could be opened. Nothing was sent.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    /// DNS or TCP failed.
    #[error("cannot connect to {to}: {why}")]
    Tcp {
        /// Host and port.
        to: String,
        /// The operating system's error.
        why: String,
    },
    /// The TLS handshake failed, or the certificate is not trusted.
    #[error("TLS with {to} failed: {why}")]
    Tls {
        /// Host name.
        to: String,
        /// The error of rustls.
        why: String,
    },
    /// The proxy did not open a tunnel.
    #[error("the proxy {proxy} opens no tunnel to {to}: {why}")]
    Tunnel {
        /// Host and port of the proxy.
        proxy: String,
        /// Host and port to connect to through the proxy.
        to: String,
        /// The proxy's response, or the error.
        why: String,
    },
    /// The time limit was reached.
    #[error("no connection to {to} within {} s", CONNECT_TIMEOUT.as_secs())]
    Timeout {
        /// Host and port.
        to: String,
    },
}

impl Dialer {
    pub(super) fn new(network: Network) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        Self { tcp, tls: network.tls(), proxy: network.proxy }
    }

    /// Opens a connection within [`CONNECT_TIMEOUT`].
    ///
    /// # Errors
    /// See [`ConnectError`].
    pub(super) async fn connect(
        &self,
        address: &ServiceAddress,
    ) -> Result<Box<dyn ByteStream>, ConnectError> {
        let connected = timeout(CONNECT_TIMEOUT, self.open(address)).await;
        connected.unwrap_or_else(|_| Err(ConnectError::Timeout { to: place(&address.origin) }))
    }

    async fn open(&self, address: &ServiceAddress) -> Result<Box<dyn ByteStream>, ConnectError> {
        let to = &address.origin;
        let stream = match self.proxy.as_ref().and_then(|proxies| proxies.intercept(to)) {
            Some(proxy) => self.tunnel(&proxy, to).await?,
            None => self.tcp(to).await?,
        };
        if address.is_https() { self.tls(stream, to).await } else { Ok(stream) }
    }

    async fn tcp(&self, to: &Uri) -> Result<Box<dyn ByteStream>, ConnectError> {
        let mut connector = self.tcp.clone();
        // The connector resolves the name, and tries IPv6 and IPv4 in parallel.
        match connector.call(to.clone()).await {
            Ok(stream) => Ok(Box::new(stream.into_inner())),
            Err(error) => Err(ConnectError::Tcp { to: place(to), why: chain(&error) }),
        }
    }

    async fn tls(&self, stream: Box<dyn ByteStream>, to: &Uri) -> Result<Box<dyn ByteStream>, ConnectError> {
        let wrong = |why: String| ConnectError::Tls { to: place(to), why };
        let host = to.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(host.to_owned()).map_err(|error| wrong(error.to_string()))?;
        let config = self.tls.clone().map_err(wrong)?;
        let connected = TlsConnector::from(config).connect(name, stream).await;
        Ok(Box::new(connected.map_err(|error| wrong(error.to_string()))?))
    }

    async fn tunnel(&self, proxy: &Intercept, to: &Uri) -> Result<Box<dyn ByteStream>, ConnectError> {
        let mut stream = self.tcp(proxy.uri()).await?;
        if proxy.uri().scheme_str() == Some("https") {
            stream = self.tls(stream, proxy.uri()).await?;
        }
        match open_tunnel(&mut stream, to, proxy.basic_auth()).await {
            Ok(()) => Ok(stream),
            Err(why) => {
                Err(ConnectError::Tunnel { proxy: place(proxy.uri()), to: place(to), why: why.to_string() })
            }
        }
    }
}

/// Requests a tunnel from a proxy, and reads its response exactly up to the end of the headers.
async fn open_tunnel<S: ByteStream>(
    stream: &mut S,
    to: &Uri,
    authorization: Option<&HeaderValue>,
) -> io::Result<()> {
    let to = place(to);
    let mut request = format!("CONNECT {to} HTTP/1.1\r\nhost: {to}\r\n").into_bytes();
    if let Some(authorization) = authorization {
        request.extend_from_slice(b"proxy-authorization: ");
        request.extend_from_slice(authorization.as_bytes());
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"\r\n");
    stream.write_all(&request).await?;
    stream.flush().await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= TUNNEL_ANSWER_MAX {
            return Err(io::Error::other("its response is too long"));
        }
        head.push(stream.read_u8().await?);
    }
    let status = head.strip_prefix(b"HTTP/1.").and_then(|rest| rest.get(2..5));
    match status {
        Some([b'2', ..]) => Ok(()),
        Some(status) => {
            Err(io::Error::other(format!("HTTP {}", String::from_utf8_lossy(status).escape_default())))
        }
        None => Err(io::Error::other("its response is not HTTP")),
    }
}

/// Host and port of a URI.
fn place(uri: &Uri) -> String {
    let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 });
    format!("{}:{port}", uri.host().unwrap_or_default())
}

/// The messages of an error and its causes, without repetition.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn proxy_answer_decides_about_the_tunnel() {
        let to: Uri = "https://kinesis.eu-central-1.amazonaws.com".parse().unwrap();
        let endless = format!("HTTP/1.1 200 OK\r\nx: {}", "a".repeat(TUNNEL_ANSWER_MAX));
        for (answer, expected) in [
            ("HTTP/1.1 200 Connection established\r\n\r\n", Ok(())),
            ("HTTP/1.0 200 OK\r\nvia: x\r\n\r\n", Ok(())),
            ("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", Err("HTTP 407")),
            ("HTTP/1.1 403 Forbidden\r\ncontent-type: text/html\r\n\r\n<html>", Err("HTTP 403")),
            ("SSH-2.0-OpenSSH_9.2\r\n\r\n", Err("its response is not HTTP")),
            ("HTTP/1.1 200 OK\r\n", Err("unexpected end of file")),
            (&endless, Err("its response is too long")),
        ] {
            let (mut ours, mut theirs) = tokio::io::duplex(16 << 10);
            theirs.write_all(answer.as_bytes()).await.unwrap();
            theirs.shutdown().await.unwrap();
            let secret = HeaderValue::from_static("Basic dTpw");
            let opened = open_tunnel(&mut ours, &to, Some(&secret)).await.map_err(|error| error.to_string());
            assert_eq!(
                opened.as_ref().map_err(String::as_str),
                expected.as_ref().map_err(|text| &**text).map(|()| &()),
                "{answer}"
            );
            drop(ours);
            let mut request = String::new();
            theirs.read_to_string(&mut request).await.unwrap();
            assert!(
                request.starts_with("CONNECT kinesis.eu-central-1.amazonaws.com:443 HTTP/1.1\r\n"),
                "{request}"
            );
            assert!(request.ends_with("proxy-authorization: Basic dTpw\r\n\r\n"), "{request}");
        }
    }
}
