//! A replication connection: the few commands of a walsender, and the two-way copy stream.
//!
//! `tokio-postgres` has no replication mode. `postgres-protocol` provides messages, md5 and SCRAM.

use std::io;
use std::time::Duration;

use bytes::{Buf as _, BufMut as _, BytesMut};
use fallible_iterator::FallibleIterator as _;
use postgres_protocol::escape::{escape_identifier, escape_literal};
use postgres_protocol::message::backend::Message;
use postgres_protocol::message::frontend;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use crate::source::postgres::lsn::Lsn;

use super::conninfo::Settings;
use super::error::{self, Error, ServerError, log_notice, timed_out};
use super::frames::{Frame, Frames};
use super::login::{self, LoggedIn};
use super::parameters::Purpose;
use super::socket::Socket;

/// Time limit of a command. A walsender responds at once, except that it waits a few seconds for the previous
/// user of a slot to end.
const ANSWER_TIMEOUT: Duration = Duration::from_mins(1);
/// Largest result in bytes. The longest result is a history file, with one line for each timeline.
const ANSWER_SIZE_MAX: usize = 4 << 20;
/// Time limit for a temporary slot, whose creation waits for running transactions.
const SLOT_TIMEOUT: Duration = Duration::from_secs(50);
/// Time limit for the end of a session.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// Time limit for reading the server's last error after a failed write. Everything the server sent has
/// arrived by then.
const LAST_WORDS_TIMEOUT: Duration = Duration::from_secs(1);
/// Microseconds from the Unix epoch to PostgreSQL's epoch, 2000-01-01.
pub(super) const POSTGRES_EPOCH: i64 = 946_684_800_000_000;

/// Rows of a simple query, as text.
pub type Rows = Vec<Vec<Option<String>>>;

/// The result of `IDENTIFY_SYSTEM`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SystemIdentity {
    /// `system_identifier` of the cluster.
    pub system_id: String,
    /// Timeline of its write-ahead log.
    pub timeline: u32,
    /// Flushed position; on a standby, the replayed position.
    pub wal_end: Lsn,
    /// The database of this connection.
    pub database: String,
}

/// A connection in replication mode.
#[derive(Debug)]
pub struct Connection {
    socket: Socket,
    frames: Frames,
    /// Bytes to send. If a send is cancelled, the next one sends the rest.
    outgoing: BytesMut,
    unflushed: bool,
    /// The error of a failed write. Nothing is delivered after it.
    broken: Option<io::Error>,
    target: String,
}

impl Connection {
    /// Connects and logs in according to `sslmode`. `row_max` is the largest message in bytes that is
    /// buffered whole.
    ///
    /// # Errors
    /// The time exceeds `connect_timeout`, TLS fails, or the server rejects the log-in.
    pub async fn connect(settings: &Settings, row_max: usize) -> Result<Self, Error> {
        let LoggedIn { socket, mut frames, follow_up, .. } =
            login::log_in(settings, Purpose::Replication).await?;
        frames.end_log_in(row_max);
        let (outgoing, target) = (BytesMut::new(), settings.target());
        let mut connection = Self { socket, frames, outgoing, unflushed: false, broken: None, target };
        if let Some(statement) = follow_up {
            connection.query(&statement).await?;
        }
        Ok(connection)
    }

    /// The identity of the server and the end of its WAL.
    ///
    /// # Errors
    /// The connection broke, or the result is malformed.
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
        read().ok_or_else(|| Error::Protocol("the result of IDENTIFY_SYSTEM is malformed".to_owned()))
    }

    /// The history file of a timeline, with the end of each earlier one. Timeline 1 has no file.
    ///
    /// # Errors
    /// The connection broke, or the server has no such file.
    pub async fn timeline_history(&mut self, timeline: u32) -> Result<String, Error> {
        let rows = self.query(&format!("TIMELINE_HISTORY {timeline}")).await?;
        let content = rows.into_iter().next().and_then(|row| row.into_iter().nth(1).flatten());
        content.ok_or_else(|| Error::Protocol("the result of TIMELINE_HISTORY is malformed".to_owned()))
    }

    /// The value of a setting in this session.
    ///
    /// # Errors
    /// The connection broke, or there is no such setting.
    pub async fn show(&mut self, name: &str) -> Result<String, Error> {
        let rows = self.query(&format!("SHOW {}", escape_identifier(name))).await?;
        let value = rows.into_iter().next().and_then(|row| row.into_iter().next().flatten());
        value.ok_or_else(|| Error::Protocol("the result of SHOW is malformed".to_owned()))
    }

    /// Runs one command of the replication grammar.
    ///
    /// # Errors
    /// The connection broke, the response took longer than a minute, or the server reports an error.
    pub async fn query(&mut self, command: &str) -> Result<Rows, Error> {
        let answer = async {
            frontend::query(command, &mut self.outgoing)
                .map_err(|error| Error::Protocol(error.to_string()))?;
            self.send().await?;
            let (mut rows, mut size) = (Rows::new(), 0);
            let mut refused = None;
            loop {
                match self.message_or_error().await? {
                    Err(error) => refused = Some(error),
                    Ok(Message::DataRow(body)) => {
                        size += body.buffer().len();
                        if size > ANSWER_SIZE_MAX {
                            return Err(Error::Protocol(format!("a result of {size} bytes or more")));
                        }
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
            Err(_) => Err(timed_out(&self.target, "waiting for a response")),
        }
    }

    /// Creates a pgoutput slot that the server drops with this connection. Waits until all running
    /// transactions have ended.
    ///
    /// # Errors
    /// No slot is free, a transaction does not end within a minute, or the connection broke.
    pub async fn create_temporary_slot(&mut self, slot: &str) -> Result<(), Error> {
        let slot = escape_identifier(slot);
        // The server's time limit is shorter than ours, because a walsender that waits for a transaction does
        // not notice that its client is gone.
        self.query(&format!("SET lock_timeout = '{}ms'", SLOT_TIMEOUT.as_millis())).await?;
        self.query(&format!("CREATE_REPLICATION_SLOT {slot} TEMPORARY LOGICAL pgoutput NOEXPORT_SNAPSHOT"))
            .await?;
        self.query("SET lock_timeout = 0").await.map(drop)
    }

    /// Exports a snapshot of the database at an exact position. It has every transaction that committed
    /// before the position, and no other. Another session can use it as long as this connection is open and
    /// idle. Creates a [temporary slot](Self::create_temporary_slot).
    ///
    /// # Errors
    /// The same as those of [`create_temporary_slot`](Self::create_temporary_slot).
    pub async fn export_snapshot(&mut self, slot: &str) -> Result<(Lsn, String), Error> {
        self.query(&format!("SET lock_timeout = '{}ms'", SLOT_TIMEOUT.as_millis())).await?;
        let slot = escape_identifier(slot);
        let create = format!("CREATE_REPLICATION_SLOT {slot} TEMPORARY LOGICAL pgoutput EXPORT_SNAPSHOT");
        let rows = self.query(&create).await?;
        let mut row = rows.into_iter().next().unwrap_or_default().into_iter().skip(1);
        let made = (|| Some((row.next()??.parse().ok()?, row.next()??)))();
        made.ok_or_else(|| Error::Protocol("the result of CREATE_REPLICATION_SLOT is malformed".to_owned()))
    }

    /// Begins to stream the slot's changes of a publication: protocol version 1, text format, with logical
    /// messages.
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
                            "{:?} after START_REPLICATION",
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

    /// Ends the copy stream and the session. Messages that the server still sends are discarded.
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

    /// Ends a session that does not stream, and waits until the server has released its resources, such as
    /// one of `max_wal_senders`.
    pub async fn close(mut self) {
        frontend::terminate(&mut self.outgoing);
        let ended = async {
            self.send().await?;
            while self.fill().await.is_ok() {}
            Ok::<_, Error>(())
        };
        // The end of the session shows as a connection error, which is expected here.
        drop(timeout(CLOSE_TIMEOUT, ended).await);
    }

    /// Queues a status that confirms a position. [`Lsn::ZERO`] confirms nothing. With `reply`, it requests a
    /// reply.
    pub fn queue_status(&mut self, confirmed: Lsn, reply: bool) {
        let now = crate::time::now_micros().saturating_sub(POSTGRES_EPOCH);
        self.outgoing.put_u8(b'd');
        self.outgoing.put_u32(4 + 1 + 4 * 8 + 1);
        self.outgoing.put_u8(b'r');
        for position in ["written", "flushed", "applied"].map(|_| confirmed.get()) {
            self.outgoing.put_u64(position);
        }
        self.outgoing.put_i64(now);
        self.outgoing.put_u8(reply.into());
    }

    /// Sends the queued bytes. Cancel-safe: the next call sends the rest.
    ///
    /// # Errors
    /// The connection broke, or the server reported an error and closed it.
    pub async fn send(&mut self) -> Result<(), Error> {
        if self.broken.is_none() {
            self.broken = self.write().await.err();
        }
        if self.broken.is_some() { Err(self.last_words().await) } else { Ok(()) }
    }

    async fn write(&mut self) -> io::Result<()> {
        self.unflushed |= self.outgoing.has_remaining();
        while self.outgoing.has_remaining() {
            self.socket.write_buf(&mut self.outgoing).await?;
        }
        if self.unflushed {
            self.socket.flush().await?;
            self.unflushed = false;
        }
        Ok(())
    }

    /// The error that the server sent before it closed the connection, or else the failed write. Skips
    /// everything before that error: undelivered changes are not confirmed, so the server sends them again.
    async fn last_words(&mut self) -> Error {
        let read = async {
            loop {
                match self.frames.next_frame() {
                    Ok(Some(frame)) if frame.tag == b'E' => return self.server_error(&frame).ok(),
                    Ok(Some(_)) => continue,
                    Ok(None) => {}
                    Err(_) => return None,
                }
                match self.socket.read_buf(self.frames.space()).await {
                    Ok(0) | Err(_) => return None,
                    Ok(_) => self.frames.received(),
                }
            }
        };
        if let Ok(Some(error)) = timeout(LAST_WORDS_TIMEOUT, read).await {
            return error.into();
        }
        let cause = self.broken.as_ref().map_or_else(
            || io::ErrorKind::BrokenPipe.into(),
            |cause| io::Error::new(cause.kind(), cause.to_string()),
        );
        self.lost(cause)
    }

    /// Reads more bytes. Cancel-safe.
    ///
    /// # Errors
    /// The connection broke, or the server closed it.
    pub async fn fill(&mut self) -> Result<(), Error> {
        if self.broken.is_some() {
            return Err(self.last_words().await);
        }
        match self.socket.read_buf(self.frames.space()).await {
            Ok(0) => Err(self.lost(io::Error::new(io::ErrorKind::UnexpectedEof, "closed by the server"))),
            Ok(_) => {
                self.frames.received();
                Ok(())
            }
            Err(cause) => Err(self.lost(cause)),
        }
    }

    /// The next message; `None` until it has arrived whole.
    ///
    /// # Errors
    /// The framing is broken.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, Error> {
        if self.broken.is_some() {
            return Ok(None);
        }
        self.frames.next_frame().map_err(|error| Error::Protocol(error.to_string()))
    }

    /// Whether [`next_frame`](Self::next_frame) would return a message or an error.
    pub fn is_ready(&mut self) -> bool {
        self.broken.is_none() && self.frames.is_ready()
    }

    /// Whether a write failed. The bytes of the last returned message may have been overwritten.
    pub const fn is_broken(&self) -> bool {
        self.broken.is_some()
    }

    /// Bytes of the last returned message.
    pub fn bytes(&self, range: std::ops::Range<usize>) -> &[u8] {
        self.frames.bytes(range)
    }

    /// Host and port, or the socket's path.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// The error or notice in the last returned message, without text that may quote row values.
    ///
    /// # Errors
    /// It is truncated.
    pub fn server_error(&self, frame: &Frame) -> Result<ServerError, Error> {
        match self.parse(frame)? {
            Message::ErrorResponse(body) => ServerError::read(body.fields()),
            Message::NoticeResponse(body) => ServerError::read(body.fields()),
            _ => Ok(ServerError::default()),
        }
        .map(ServerError::of_stream)
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
        error::parse(self.frames.bytes(0..frame.body.end), &self.target)
    }

    fn garbled(&self, error: &io::Error) -> Error {
        error::garbled(error, &self.target)
    }

    fn lost(&self, cause: io::Error) -> Error {
        Error::Network { target: self.target.clone(), cause }
    }
}
