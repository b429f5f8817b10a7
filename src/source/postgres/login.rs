//! Opens a connection and logs in, for replication and for SQL.

use std::future::Future;
use std::io;
use std::sync::Once;

use bytes::BytesMut;
use postgres_protocol::message::backend::Message;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use super::auth::{self, LogIn, Progress};
use super::conninfo::Settings;
use super::error::{self, Error, ServerError};
use super::frames::Frames;
use super::parameters;
use super::parameters::Purpose;
use super::require_auth::Method;
use super::socket::{self, Attempt, Socket};

/// Most bytes that the server may send during the log-in. PostgreSQL sends less than 2 KiB.
const TOTAL_MAX: u64 = 256 * 1024;

/// Tags of a server's first message: authentication request, error, protocol negotiation.
const FIRST_TAGS: [u8; 3] = *b"REv";
/// Bytes that are shown of the response of another kind of server.
const SHOWN: usize = 8;

/// A connection on which the server accepts commands.
#[derive(Debug)]
pub(super) struct LoggedIn {
    /// The connection.
    pub(super) socket: Socket,
    /// The receive buffer, which may have bytes after the log-in.
    pub(super) frames: Frames,
    /// The complete messages after `AuthenticationOk`, up to and including `ReadyForQuery`.
    pub(super) greeting: BytesMut,
    /// A statement to run before any other: see [`parameters`].
    pub(super) follow_up: Option<String>,
}

/// Connects and logs in according to `sslmode`, within `connect_timeout`.
///
/// # Errors
/// The connection times out, TLS fails, or the server rejects the log-in.
pub(super) async fn log_in(settings: &Settings, purpose: Purpose) -> Result<LoggedIn, Error> {
    let log_in = async || {
        each_attempt(settings, async |attempt| {
            let mut logged_in = LoggedIn {
                socket: Socket::connect(settings, attempt).await?,
                frames: Frames::for_log_in(),
                greeting: BytesMut::new(),
                follow_up: None,
            };
            logged_in.run(settings, purpose).await?;
            Ok(logged_in)
        })
        .await
    };
    match log_in().await {
        Err(error) if parameters::was_wrong_hint(&error) => log_in().await,
        done => done,
    }
}

/// Connects without a log-in, for a cancel request.
///
/// # Errors
/// The connection times out, or TLS fails.
pub(super) async fn open_socket(settings: &Settings) -> Result<Socket, Error> {
    each_attempt(settings, async |attempt| Socket::connect(settings, attempt).await).await
}

impl LoggedIn {
    async fn run(&mut self, settings: &Settings, purpose: Purpose) -> Result<(), Error> {
        let network = |cause| Error::Network { target: settings.target(), cause };
        let mut log_in = LogIn::new(settings, self.socket.channel(settings))?;
        let mut outgoing = BytesMut::new();
        let mut total = 0;
        auth::startup(settings, purpose, &mut outgoing)?;
        loop {
            if !outgoing.is_empty() {
                self.socket.write_all_buf(&mut outgoing).await.map_err(network)?;
                self.socket.flush().await.map_err(network)?;
            }
            if total == 0 && self.frames.tag().is_some_and(|tag| !FIRST_TAGS.contains(&tag)) {
                return Err(self.stranger(settings));
            }
            let Some(frame) = self.frames.next_frame().map_err(|error| Error::Protocol(error.to_string()))?
            else {
                let read = self.socket.read_buf(self.frames.space()).await.map_err(network)?;
                if read == 0 {
                    let closed = io::Error::new(io::ErrorKind::UnexpectedEof, "closed by the server");
                    return Err(network(closed));
                }
                continue;
            };
            total += frame.size;
            if total > TOTAL_MAX {
                return Err(Error::Protocol(format!("more than {TOTAL_MAX} bytes during log-in")));
            }
            let bytes = self.frames.bytes(0..frame.body.end);
            let message = error::parse(bytes, &settings.target())?;
            let progress = log_in.take(&message, &mut outgoing)?;
            if let Message::NoticeResponse(body) = &message {
                let notice = ServerError::read(body.fields())
                    .map_err(|error| error::garbled(&error, &settings.target()))?;
                error::log_notice(&notice);
            }
            if let Message::ParameterStatus(body) = &message
                && body.name().is_ok_and(|name| name == "server_version")
            {
                self.follow_up =
                    body.value().ok().and_then(|version| parameters::after_log_in(version, purpose));
            }
            if matches!(
                message,
                Message::ParameterStatus(_) | Message::BackendKeyData(_) | Message::ReadyForQuery(_)
            ) {
                self.greeting.extend_from_slice(bytes);
            }
            if progress == Progress::Ready {
                if !log_in.is_verified() {
                    warn_once(&log_in, settings);
                }
                return Ok(());
            }
        }
    }
}

/// Logs the warning once per process, because connections are opened often.
fn warn_once(log_in: &LogIn<'_>, settings: &Settings) {
    static SAID: Once = Once::new();
    let method = match log_in.method() {
        Some(Method::Scram) => "scram-sha-256",
        Some(Method::Password) => "password",
        Some(Method::Md5) => "md5",
        Some(Method::None) | None => "none",
    };
    SAID.call_once(|| {
        tracing::warn!(
            event = "unverified_connection",
            target = settings.target(),
            method,
            hint = "Use sslmode=verify-full, with sslrootcert=… for a private authority.",
            "server identity not verified: an impostor on the network could take its place"
        );
    });
}

impl LoggedIn {
    fn stranger(&mut self, settings: &Settings) -> Error {
        let answer = self.frames.space();
        let seen = answer.get(..SHOWN).unwrap_or(answer).escape_ascii().to_string();
        Error::NotPostgres { target: settings.target(), seen }
    }
}

/// Runs `connect` for each TLS mode that `sslmode` allows until one succeeds, within `connect_timeout`.
async fn each_attempt<T, F>(settings: &Settings, connect: impl Fn(Attempt) -> F) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    let all = async {
        let mut attempts = socket::attempts(settings).iter().peekable();
        loop {
            let Some(&attempt) = attempts.next() else {
                return Err(Error::Protocol("no way to connect".to_owned()));
            };
            match connect(attempt).await {
                Err(error) if attempts.peek().is_some() && is_worth_another_way(&error) => {
                    tracing::info!(event = "connection_retried", %error, "connection failed; trying the other TLS mode that sslmode allows");
                }
                outcome => return outcome,
            }
        }
    };
    let limit = settings.connect_timeout;
    timeout(limit, all).await.map_err(|_| error::timed_out(&settings.target(), "connecting"))?
}

/// Whether the other TLS mode may succeed: `pg_hba.conf` can require or forbid TLS, and TLS may fail where
/// plain TCP works. A wrong password fails in both.
fn is_worth_another_way(error: &Error) -> bool {
    match error {
        Error::Tls { .. } => true,
        Error::Server(error) => error.code == "28000",
        _ => false,
    }
}
