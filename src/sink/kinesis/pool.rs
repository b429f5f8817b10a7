//! Keeps HTTP/1.1 connections open for the next request.
//!
//! The request that uses a connection also drives it. A connection has no task of its own, so a request costs
//! one wake-up, and dropping the request's future closes the connection. An idle connection is checked before
//! use. If no byte of a request was written, another connection sends it. Otherwise it is never sent again
//! here, because an attempt that nobody counts could arrive after newer records.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{Connection, SendRequest, handshake};
use hyper::http::response;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::time::Instant;

use super::address::ServiceAddress;
use super::bounded::RESPONSE_MAX;
use super::connect::{ByteStream, chain};

/// Most idle connections: as many as there can be requests in flight.
const IDLE_MAX: usize = 16;
/// Longest idle time. NAT gateways drop an idle connection after some minutes, and servers close it earlier.
const IDLE_FOR: Duration = Duration::from_mins(1);

/// A request with its whole body.
pub(super) type PutRequest = Request<Full<Bytes>>;

/// A response with its whole body.
pub(super) type PutResponse = (response::Parts, Bytes);

/// Why there is no response.
#[derive(Debug)]
pub(super) enum ExchangeError {
    /// The connection was closed before any byte was written.
    Unsent,
    /// The connection failed afterwards. It is unknown whether the request was processed.
    Broken(String),
}

type Wire = TokioIo<Box<dyn ByteStream>>;

/// A connection in use.
pub(super) struct HttpConnection {
    sender: SendRequest<Full<Bytes>>,
    /// `None` once it is closed.
    connection: Option<Connection<Wire, Full<Bytes>>>,
    address: Arc<ServiceAddress>,
}

impl HttpConnection {
    /// # Errors
    /// The HTTP handshake fails.
    pub(super) async fn new(
        stream: Box<dyn ByteStream>,
        address: Arc<ServiceAddress>,
    ) -> hyper::Result<Self> {
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        Ok(Self { sender, connection: Some(connection), address })
    }

    /// Sends a request and reads the whole response.
    ///
    /// # Errors
    /// See [`ExchangeError`].
    pub(super) async fn exchange(&mut self, request: PutRequest) -> Result<PutResponse, ExchangeError> {
        self.drive(async {}).await;
        let sent = self.sender.try_send_request(request);
        let response: Response<Incoming> =
            self.drive(sent).await.map_err(|mut error| match error.take_message() {
                Some(_) => ExchangeError::Unsent,
                None => ExchangeError::Broken(chain(error.error())),
            })?;
        let (parts, body) = response.into_parts();
        let body = self.drive(Limited::new(body, RESPONSE_MAX).collect()).await;
        let body = body.map_err(|error| ExchangeError::Broken(chain(&*error)))?.to_bytes();
        Ok((parts, body))
    }

    /// Polls the connection together with a future that waits for it.
    async fn drive<F: Future>(&mut self, future: F) -> F::Output {
        let mut future = std::pin::pin!(future);
        poll_fn(|cx| {
            if let Some(connection) = &mut self.connection
                && Pin::new(connection).poll(cx).is_ready()
            {
                // The sender returns the error.
                self.connection = None;
            }
            future.as_mut().poll(cx)
        })
        .await
    }

    /// Whether another request can be sent.
    async fn is_ready(&mut self) -> bool {
        self.drive(async {}).await;
        self.connection.is_some() && self.sender.is_ready()
    }
}

struct IdleConnection {
    connection: HttpConnection,
    since: Instant,
}

/// The idle connections.
#[derive(Default)]
pub(super) struct Pool(Mutex<Vec<IdleConnection>>);

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Pool").field(&self.idle().len()).finish()
    }
}

impl Pool {
    fn idle(&self) -> MutexGuard<'_, Vec<IdleConnection>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes connections that have been idle for too long.
    pub(super) fn prune(&self, now: Instant) {
        self.idle().retain(|idle| now.duration_since(idle.since) < IDLE_FOR);
    }

    /// A connection to this address that still seems open. The last used one is returned, so that surplus
    /// ones reach their idle limit.
    pub(super) async fn take(&self, address: &ServiceAddress) -> Option<HttpConnection> {
        self.prune(Instant::now());
        loop {
            let IdleConnection { mut connection, .. } = self.idle().pop()?;
            if *connection.address == *address && connection.is_ready().await {
                return Some(connection);
            }
        }
    }

    /// Keeps a connection after a complete response, if it can be used again.
    pub(super) async fn give(&self, mut connection: HttpConnection) {
        if connection.is_ready().await {
            let mut idle = self.idle();
            if idle.len() < IDLE_MAX {
                idle.push(IdleConnection { connection, since: Instant::now() });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

    use super::*;

    fn request() -> PutRequest {
        Request::post("/").header("host", "h").body(Full::new(Bytes::from_static(b"body"))).unwrap()
    }

    fn address() -> Arc<ServiceAddress> {
        Arc::new(ServiceAddress::parse("http://h:4566").unwrap())
    }

    async fn connection() -> (HttpConnection, DuplexStream) {
        let (ours, theirs) = duplex(8 << 20);
        (HttpConnection::new(Box::new(ours), address()).await.unwrap(), theirs)
    }

    /// Reads one request, and writes this response.
    async fn answer(server: &mut DuplexStream, response: &str) -> usize {
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\nbody") {
            request.push(server.read_u8().await.unwrap());
        }
        server.write_all(response.as_bytes()).await.unwrap();
        request.len()
    }

    const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";

    #[tokio::test]
    async fn connection_is_kept_until_its_server_closes_it() {
        let (pool, address) = (Pool::default(), address());
        let (mut used, mut server) = connection().await;
        for _ in 0..3 {
            let (exchanged, _) = tokio::join!(used.exchange(request()), answer(&mut server, OK));
            assert_eq!(exchanged.unwrap().1, "{}");
            pool.give(used).await;
            used = pool.take(&address).await.expect("it is kept");
        }
        let other = ServiceAddress::parse("http://h:4567").unwrap();
        pool.give(used).await;
        assert!(pool.take(&other).await.is_none(), "another address");
        assert!(pool.take(&address).await.is_none(), "it was given up for that");

        let (mut used, mut server) = connection().await;
        let last = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}";
        let (exchanged, _) = tokio::join!(used.exchange(request()), answer(&mut server, last));
        assert!(exchanged.is_ok());
        pool.give(used).await;
        assert!(pool.take(&address).await.is_none(), "the server closes it");

        let (used, server) = connection().await;
        pool.give(used).await;
        drop(server);
        assert!(pool.take(&address).await.is_none(), "it was closed while it was idle");
    }

    #[tokio::test(start_paused = true)]
    async fn idle_connection_is_closed_after_a_minute() {
        let (pool, address) = (Pool::default(), address());
        let (used, mut server) = connection().await;
        pool.give(used).await;
        tokio::time::advance(IDLE_FOR).await;
        pool.prune(Instant::now());
        assert!(pool.take(&address).await.is_none());
        assert_eq!(server.read(&mut [0; 1]).await.unwrap(), 0, "closed");
    }

    /// A request may only be sent on another connection if no byte of it was written.
    #[tokio::test]
    async fn broken_exchange_is_unsent_or_unanswered() {
        let (mut closed, server) = connection().await;
        drop(server);
        assert!(matches!(closed.exchange(request()).await, Err(ExchangeError::Unsent)));
        let endless = format!("HTTP/1.1 200 OK\r\n\r\n{}", " ".repeat(RESPONSE_MAX + 1));
        for response in [
            "",
            "HTTP/1.1 200",
            "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n",
            "SSH-2.0-OpenSSH_9.2\r\n",
            &endless,
        ] {
            let (mut used, mut server) = connection().await;
            let served = async {
                answer(&mut server, response).await;
                drop(server);
            };
            let (exchanged, ()) = tokio::join!(used.exchange(request()), served);
            assert!(matches!(exchanged, Err(ExchangeError::Broken(_))), "{:?}", response.get(..60));
        }
    }
}
