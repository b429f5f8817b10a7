//! Our own thin replication connection: log-in, the few commands of a walsender, and the two-way copy stream.
//!
//! `tokio-postgres` has no replication mode; `postgres-protocol` gives the hard parts (messages, md5, SCRAM).

use std::future::Future;
use std::io;
use std::time::{Duration, SystemTime};

use bytes::{Buf as _, BufMut as _, BytesMut};
use fallible_iterator::FallibleIterator as _;
use postgres_protocol::escape::{escape_identifier, escape_literal};
use postgres_protocol::message::backend::Message;
use postgres_protocol::message::frontend;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use crate::position::Lsn;

use super::auth::{self, LogIn};
use super::conninfo::Settings;
use super::error::{Error, ServerError};
use super::frames::{Frame, Frames};
use super::socket::{self, Attempt, Socket};

/// A walsender answers its commands at once; it waits only for a slot's last user to go, a few seconds.
const ANSWER_TIMEOUT: Duration = Duration::from_mins(1);
/// Microseconds from the Unix epoch to 2000-01-01, Postgres's own.
pub(super) const POSTGRES_EPOCH: i64 = 946_684_800_000_000;

/// Rows of a simple query, as text.
pub type Rows = Vec<Vec<Option<String>>>;

/// What `IDENTIFY_SYSTEM` answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SystemIdentity {
    /// `system_identifier` of the cluster.
    pub system_id: String,
    /// Timeline of its write-ahead log.
    pub timeline: u32,
    /// What it has flushed; on a standby: replayed.
    pub wal_end: Lsn,
    /// The database of this connection.
    pub database: String,
}

/// A connection in replication mode.
#[derive(Debug)]
pub struct Connection {
    socket: Socket,
    frames: Frames,
    /// Written in order; what an await left behind is sent by the next.
    outgoing: BytesMut,
    unflushed: bool,
    target: String,
}

impl Connection {
    /// Connects and logs in, as `sslmode` says. `row_max`: largest message that is held whole, in bytes.
    ///
    /// # Errors
    /// Nobody answers in `connect_timeout`, TLS cannot be agreed on, or the server does not let us in.
    pub async fn connect(settings: &Settings, row_max: usize) -> Result<Self, Error> {
        each_attempt(settings, async |attempt| Self::log_in(settings, attempt, row_max).await).await
    }

    async fn log_in(settings: &Settings, attempt: Attempt, row_max: usize) -> Result<Self, Error> {
        let socket = Socket::connect(settings, attempt).await?;
        let mut log_in = LogIn::new(settings, &socket)?;
        let mut connection = Self {
            socket,
            frames: Frames::new(row_max),
            outgoing: BytesMut::new(),
            unflushed: false,
            target: settings.target(),
        };
        auth::startup(settings, &mut connection.outgoing)?;
        loop {
            connection.send().await?;
            let message = connection.message().await?;
            if log_in.answer(&message, &mut connection.outgoing)? {
                break;
            }
        }
        while !matches!(connection.message().await?, Message::ReadyForQuery(_)) {}
        Ok(connection)
    }

    /// Who the server is, and how far its log goes.
    ///
    /// # Errors
    /// The connection broke, or the answer is none.
    pub async fn identify_system(&mut self) -> Result<SystemIdentity, Error> {
        let rows = self.query("IDENTIFY_SYSTEM").await?;
        let read = || {
            let mut row = rows.into_iter().next()?.into_iter();
            Some(SystemIdentity {
                system_id: row.next()??,
                timeline: row.next()??.parse().ok()?,
                wal_end: row.next()??.parse().ok()?,
                database: row.next()??,
            })
        };
        read().ok_or_else(|| Error::Protocol("an answer to IDENTIFY_SYSTEM that is none".to_owned()))
    }

    /// The history file of a timeline: where each earlier one was left. Timeline 1 has none.
    ///
    /// # Errors
    /// The connection broke, or the server has no such file.
    pub async fn timeline_history(&mut self, timeline: u32) -> Result<String, Error> {
        let rows = self.query(&format!("TIMELINE_HISTORY {timeline}")).await?;
        let content = rows.into_iter().next().and_then(|row| row.into_iter().nth(1).flatten());
        content.ok_or_else(|| Error::Protocol("an answer to TIMELINE_HISTORY that is none".to_owned()))
    }

    /// The value of a setting in this session.
    ///
    /// # Errors
    /// The connection broke, or there is no such setting.
    pub async fn show(&mut self, name: &str) -> Result<String, Error> {
        let rows = self.query(&format!("SHOW {}", escape_identifier(name))).await?;
        let value = rows.into_iter().next().and_then(|row| row.into_iter().next().flatten());
        value.ok_or_else(|| Error::Protocol("an answer to SHOW that is none".to_owned()))
    }

    /// Runs one command of the replication grammar.
    ///
    /// # Errors
    /// The connection broke, no answer came in a minute, or the server refuses.
    pub async fn query(&mut self, command: &str) -> Result<Rows, Error> {
        let answer = async {
            frontend::query(command, &mut self.outgoing)
                .map_err(|error| Error::Protocol(error.to_string()))?;
            self.send().await?;
            let mut rows = Rows::new();
            let mut refused = None;
            loop {
                match self.message_or_error().await? {
                    Err(error) => refused = Some(error),
                    Ok(Message::DataRow(body)) => {
                        let ranges = body.ranges().map(|range| {
                            Ok(range.map(|range| {
                                let bytes = body.buffer().get(range).unwrap_or_default();
                                String::from_utf8_lossy(bytes).into_owned()
                            }))
                        });
                        rows.push(ranges.collect().map_err(|error| self.garbled(&error))?);
                    }
                    Ok(Message::ReadyForQuery(_)) => {
                        return refused.map_or(Ok(rows), |error| Err(error.into()));
                    }
                    Ok(_) => {}
                }
            }
        };
        match timeout(ANSWER_TIMEOUT, answer).await {
            Ok(answer) => answer,
            Err(_) => Err(timed_out(&self.target, "waiting for an answer")),
        }
    }

    /// Makes a pgoutput slot that the server drops with this connection. Waits until the transactions that are running end.
    ///
    /// # Errors
    /// There is no room for a slot, they do not end in a minute, or the connection broke.
    pub async fn create_temporary_slot(&mut self, slot: &str) -> Result<(), Error> {
        let slot = escape_identifier(slot);
        self.query(&format!("CREATE_REPLICATION_SLOT {slot} TEMPORARY LOGICAL pgoutput NOEXPORT_SNAPSHOT"))
            .await
            .map(drop)
    }

    /// Begins to stream the slot's changes of a publication: protocol 1, text, with logical messages.
    ///
    /// # Errors
    /// The slot is missing, lost or in use, or the connection broke.
    pub async fn start_replication(&mut self, slot: &str, publication: &str, from: Lsn) -> Result<(), Error> {
        let command = format!(
            "START_REPLICATION SLOT {} LOGICAL {from} (proto_version '1', publication_names {}, messages 'true')",
            escape_identifier(slot),
            escape_literal(&escape_identifier(publication)).trim_start()
        );
        frontend::query(&command, &mut self.outgoing).map_err(|error| Error::Protocol(error.to_string()))?;
        let target = self.target.clone();
        let answer = async {
            self.send().await?;
            loop {
                let frame = self.frame().await?;
                match frame.tag {
                    b'W' => return Ok(()),
                    b'E' => return Err(self.server_error(&frame)?.into()),
                    b'N' => log_notice(&self.server_error(&frame)?),
                    b'S' => {}
                    tag => {
                        return Err(Error::Protocol(format!(
                            "{:?} in answer to START_REPLICATION",
                            char::from(tag)
                        )));
                    }
                }
            }
        };
        timeout(ANSWER_TIMEOUT, answer)
            .await
            .map_err(|_| timed_out(&target, "waiting for START_REPLICATION"))?
    }

    /// Ends the copy stream and the session in order. What the server still sends is thrown away.
    ///
    /// # Errors
    /// The connection broke before the server had read everything.
    pub async fn finish(&mut self) -> Result<(), Error> {
        frontend::copy_done(&mut self.outgoing);
        self.send().await?;
        while matches!(self.frame().await?.tag, b'c' | b'd' | b'N' | b'S') {}
        frontend::terminate(&mut self.outgoing);
        self.send().await
    }

    /// Tells the server what it may forget; [`Lsn::ZERO`] tells it nothing. `reply`: asks for a sign of life.
    pub fn queue_status(&mut self, confirmed: Lsn, reply: bool) {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let now = i64::try_from(now.as_micros()).unwrap_or(i64::MAX).saturating_sub(POSTGRES_EPOCH);
        self.outgoing.put_u8(b'd');
        self.outgoing.put_u32(4 + 1 + 4 * 8 + 1);
        self.outgoing.put_u8(b'r');
        for position in ["written", "flushed", "applied"].map(|_| confirmed.get()) {
            self.outgoing.put_u64(position);
        }
        self.outgoing.put_i64(now);
        self.outgoing.put_u8(reply.into());
    }

    /// Sends what is queued. Cancel-safe: the rest is sent by the next call.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn send(&mut self) -> Result<(), Error> {
        self.unflushed |= self.outgoing.has_remaining();
        while self.outgoing.has_remaining() {
            if let Err(cause) = self.socket.write_buf(&mut self.outgoing).await {
                return Err(self.lost(cause));
            }
        }
        if self.unflushed {
            if let Err(cause) = self.socket.flush().await {
                return Err(self.lost(cause));
            }
            self.unflushed = false;
        }
        Ok(())
    }

    /// Waits for more bytes. Cancel-safe.
    ///
    /// # Errors
    /// The connection broke, or the server closed it.
    pub async fn fill(&mut self) -> Result<(), Error> {
        match self.socket.read_buf(self.frames.space()).await {
            Ok(0) => Err(self.lost(io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed it"))),
            Ok(_) => {
                self.frames.received();
                Ok(())
            }
            Err(cause) => Err(self.lost(cause)),
        }
    }

    /// The next message that has arrived whole.
    ///
    /// # Errors
    /// The framing is broken.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, Error> {
        self.frames.next_frame().map_err(|error| Error::Protocol(error.to_string()))
    }

    /// Whether [`next_frame`](Self::next_frame) has something to give, or an error to report.
    pub fn is_ready(&mut self) -> bool {
        self.frames.is_ready()
    }

    /// Bytes of the message given last.
    pub fn bytes(&self, range: std::ops::Range<usize>) -> &[u8] {
        self.frames.bytes(range)
    }

    /// Host and port, or the socket's path.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// The error or notice in a message given last.
    ///
    /// # Errors
    /// It is cut short.
    pub fn server_error(&self, frame: &Frame) -> Result<ServerError, Error> {
        match self.parse(frame)? {
            Message::ErrorResponse(body) => ServerError::read(body.fields()),
            Message::NoticeResponse(body) => ServerError::read(body.fields()),
            _ => Ok(ServerError::default()),
        }
        .map_err(|error| self.garbled(&error))
    }

    async fn frame(&mut self) -> Result<Frame, Error> {
        loop {
            if let Some(frame) = self.next_frame()? {
                return Ok(frame);
            }
            self.fill().await?;
        }
    }

    /// The next message; an error of the server ends the wait.
    async fn message(&mut self) -> Result<Message, Error> {
        Ok(self.message_or_error().await??)
    }

    async fn message_or_error(&mut self) -> Result<Result<Message, ServerError>, Error> {
        loop {
            let frame = self.frame().await?;
            match frame.tag {
                b'E' => return Ok(Err(self.server_error(&frame)?)),
                b'N' => log_notice(&self.server_error(&frame)?),
                b'S' => {}
                _ => return Ok(Ok(self.parse(&frame)?)),
            }
        }
    }

    fn parse(&self, frame: &Frame) -> Result<Message, Error> {
        let mut message = BytesMut::from(self.frames.bytes(0..frame.body.end));
        let parsed = Message::parse(&mut message).map_err(|error| self.garbled(&error))?;
        parsed.ok_or_else(|| Error::Protocol("a message that is cut short".to_owned()))
    }

    fn garbled(&self, error: &io::Error) -> Error {
        Error::Protocol(format!("{error} (from {})", self.target))
    }

    fn lost(&self, cause: io::Error) -> Error {
        Error::Network { target: self.target.clone(), cause }
    }
}

/// Runs `connect` for each way that `sslmode` allows, until the server lets us in. All of it within `connect_timeout`.
pub(super) async fn each_attempt<T, F>(
    settings: &Settings,
    connect: impl Fn(Attempt) -> F,
) -> Result<T, Error>
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
                    tracing::info!(%error, "trying the other way that sslmode allows");
                }
                outcome => return outcome,
            }
        }
    };
    let limit = settings.connect_timeout;
    timeout(limit, all).await.map_err(|_| timed_out(&settings.target(), "connecting"))?
}

/// `pg_hba.conf` can demand or forbid TLS, and TLS may fail where plain works. A wrong password stays wrong.
fn is_worth_another_way(error: &Error) -> bool {
    match error {
        Error::Tls { .. } => true,
        Error::Server(error) => error.code == "28000",
        _ => false,
    }
}

fn timed_out(target: &str, what: &str) -> Error {
    let cause = io::Error::new(io::ErrorKind::TimedOut, format!("took too long {what}"));
    Error::Network { target: target.to_owned(), cause }
}

/// Notices carry names, not rows; details could carry more and are left out.
pub(super) fn log_notice(notice: &ServerError) {
    let ServerError { severity, code, message, .. } = notice;
    if severity == "WARNING" {
        tracing::warn!(code, "PostgreSQL says {message}");
    } else {
        tracing::info!(code, "PostgreSQL says {message}");
    }
}
