//! PostgreSQL's logical replication as a [`Source`].
//!
//! ```text
//!  socket ▶ frames ▶ connection ▶ pgoutput ▶ transaction ▶ Delivery
//!                        ▲ status        catalog, slot, publication: over sql
//! ```

pub mod again;
pub mod auth;
pub mod catalog;
pub mod connection;
pub mod conninfo;
pub mod endpoint;
pub mod error;
pub mod frames;
pub mod passfile;
pub mod pgoutput;
pub mod publication;
pub mod slot;
pub mod socket;
pub mod sql;
pub mod status;
pub mod tls;
pub mod transaction;

use std::ops::Range;
use std::pin::Pin;
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout};

use crate::buffer::Settled;
use crate::change::Delivery;
use crate::change::ReplicaIdentity;
use crate::failure::Failure;
use crate::position::Lsn;
use crate::source::Source;

use connection::{Connection, SystemIdentity};
use conninfo::Settings;
use error::Error;
use frames::Frame;
use pgoutput::Announced;
use sql::Session;
use status::Heartbeat;
use transaction::{Assembler, Received, Step};

/// 16 MiB: above the 10 MiB of the largest record that Kinesis takes, whose row in Postgres's text form can be larger
/// than its event; and no more than a quarter of what Forebay may use of memory.
pub const MAX_ROW_SIZE: usize = 16 << 20;

/// How long [`Source::close`] waits for the server to read our last word.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// Kind, start, end, time: what stands before a pgoutput message.
const WAL_HEADER: usize = 25;
/// Kind, end, time, reply: all of a keepalive.
const KEEPALIVE_SIZE: usize = 18;

/// What is streamed, from where.
#[derive(Clone, Debug)]
pub struct Stream {
    /// Replication slot; must exist.
    pub slot: String,
    /// Publication; must exist since before the slot.
    pub publication: String,
    /// Where to begin; what the slot has confirmed, if that is further. [`Lsn::ZERO`]: there.
    pub from: Lsn,
    /// Largest row message in bytes, [`MAX_ROW_SIZE`] by default; of a larger one only the beginning is kept.
    pub max_row_size: usize,
    /// How long the server may send nothing, although asked, before the connection is given up.
    pub silence_max: Duration,
    /// Makes the slot for this connection alone: the server drops it with the connection.
    pub temporary: bool,
}

impl Stream {
    /// A stream of this slot and publication from where the slot stands, with the default limits.
    pub fn new(slot: impl Into<String>, publication: impl Into<String>) -> Self {
        Self {
            slot: slot.into(),
            publication: publication.into(),
            from: Lsn::ZERO,
            max_row_size: MAX_ROW_SIZE,
            silence_max: status::SILENCE_MAX,
            temporary: false,
        }
    }
}

/// One connection to a slot.
pub struct PostgresSource {
    connection: Connection,
    settings: Settings,
    publication: String,
    system: SystemIdentity,
    /// For the catalogue; opened when first needed, and again if it broke.
    session: Option<Session>,
    assembler: Assembler,
    heartbeat: Heartbeat,
    /// A table that was announced and is not looked up yet; nothing is taken before.
    announced: Option<Announced>,
    /// The look-up of that table, as far as it has come; it has the session meanwhile.
    looking_up: Option<LookUp>,
    /// A TRUNCATE whose other tables are not given yet: its place in the buffer.
    truncating: Option<(Lsn, Range<usize>)>,
    confirmed: Lsn,
    /// The highest LSN that this connection may confirm: it has delivered everything before.
    delivered: Lsn,
    /// The server leaves out our publication: nothing may be confirmed any more.
    skipped: bool,
}

impl std::fmt::Debug for PostgresSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresSource")
            .field("connection", &self.connection)
            .field("confirmed", &self.confirmed)
            .field("delivered", &self.delivered)
            .finish_non_exhaustive()
    }
}

/// What the catalogue says of a table, and the session that it was asked on.
type LookUp = Pin<Box<dyn Future<Output = Result<(Session, catalog::Known), Error>>>>;

/// Asks the catalogue for what there is to know of an announced table and of its types, on a session that may be open already.
async fn ask(
    settings: Settings,
    mut kept: Option<Session>,
    announced: Announced,
    publication: String,
) -> Result<(Session, catalog::Known), Error> {
    let (table, full) = (announced.oid, announced.identity == ReplicaIdentity::Full);
    let types: Vec<u32> = announced.columns.iter().map(|column| column.type_oid).collect();
    let names: Vec<String> = announced.columns.into_iter().map(|column| column.name).collect();
    loop {
        let kept_open = kept.take().filter(Session::is_open);
        let again = kept_open.is_some();
        let mut session = match kept_open {
            Some(session) => session,
            None => Session::open(&settings).await?,
        };
        let answer = session
            .run(async |client| -> Result<_, Error> {
                let mut known = catalog::known(client, table, &types).await?;
                known.absent = catalog::absent(client, table, &names, &publication).await?;
                known.partitions_tell_less =
                    full && !catalog::partitions_not_full(client, table).await?.is_empty();
                Ok(known)
            })
            .await;
        match answer {
            Ok(known) => return Ok((session, known)),
            // A kept connection may have been closed while it idled; a fresh one tells the truth.
            Err(_) if again => {}
            Err(error) => return Err(error),
        }
    }
}

impl PostgresSource {
    /// Connects, and begins to stream.
    ///
    /// # Errors
    /// As [`Error`] says; its severity is that of the [`Failure`].
    pub async fn start(settings: &Settings, stream: &Stream) -> Result<Self, Failure> {
        let mut connection = Connection::connect(settings, stream.max_row_size + WAL_HEADER).await?;
        let system = connection.identify_system().await?;
        if connection.show("server_encoding").await? == "SQL_ASCII" {
            // Such a database holds any bytes. Told to send UTF-8, the server would end the stream before the first value
            // that is none, at every attempt; sent as it is, such a value is a dead letter.
            connection.query("SET client_encoding = 'SQL_ASCII'").await?;
        }
        if stream.temporary {
            connection.create_temporary_slot(&stream.slot).await?;
        }
        let sender_timeout = status::parse_duration(&connection.show("wal_sender_timeout").await?);
        connection.start_replication(&stream.slot, &stream.publication, stream.from).await?;
        Ok(Self {
            connection,
            settings: settings.clone(),
            publication: stream.publication.clone(),
            system,
            session: None,
            assembler: Assembler::default(),
            heartbeat: Heartbeat::new(sender_timeout, stream.silence_max, Instant::now()),
            announced: None,
            looking_up: None,
            truncating: None,
            confirmed: Lsn::ZERO,
            delivered: Lsn::ZERO,
            skipped: false,
        })
    }

    /// Who the server is: looked at on this very connection, so that it cannot be another one behind the same name.
    pub const fn system(&self) -> &SystemIdentity {
        &self.system
    }

    /// The highest LSN that this connection may confirm.
    pub const fn delivered(&self) -> Lsn {
        self.delivered
    }

    /// What [`Source::confirm`] does, for an LSN of which the caller has the proof.
    async fn confirm_lsn(&mut self, settled: Lsn) -> Result<(), Error> {
        if !self.skipped {
            self.confirmed = self.confirmed.max(settled.min(self.delivered));
        }
        // Confirms must not put off the question whether anybody is still there.
        self.say(self.heartbeat.must_ask()).await
    }

    /// Sends a status now.
    async fn say(&mut self, ask: bool) -> Result<(), Error> {
        self.connection.queue_status(self.confirmed, ask);
        self.heartbeat.said(Instant::now(), ask);
        self.connection.send().await
    }

    async fn say_if_due(&mut self) -> Result<(), Error> {
        let now = Instant::now();
        if !self.heartbeat.is_due(now) {
            return self.connection.send().await;
        }
        self.say(self.heartbeat.must_ask()).await
    }

    /// Looks up the announced table. Cancel-safe: the next call goes on, so that a slow catalogue is slow and not hopeless.
    async fn look_up(&mut self) -> Result<(), Error> {
        while let Some(announced) = &self.announced {
            let looking = self.looking_up.get_or_insert_with(|| {
                let publication = self.publication.clone();
                Box::pin(ask(self.settings.clone(), self.session.take(), announced.clone(), publication))
            });
            let looked_up = looking.await;
            self.looking_up = None;
            let (session, known) = looked_up?;
            self.session = Some(session);
            if let Some(announced) = self.announced.take() {
                self.assembler.learn(announced, &known);
            }
        }
        Ok(())
    }

    /// The next step that is delivered, and where its message is.
    fn advance(&mut self) -> Result<Option<(Found, Range<usize>)>, Error> {
        if let Some((lsn, range)) = self.truncating.take()
            && let Some(step) = self.assembler.next_truncated().map_err(broken)?
        {
            self.truncating = Some((lsn, range.clone()));
            return Ok(Some((Found::Step(step, lsn, range.len() as u64), range)));
        }
        while self.announced.is_none() {
            let Some(frame) = self.connection.next_frame()? else { return Ok(None) };
            let found = match frame.tag {
                b'd' => self.copy_data(&frame)?,
                b'N' => {
                    self.notice(&frame)?;
                    None
                }
                b'S' => None,
                b'E' => return Err(self.connection.server_error(&frame)?.into()),
                b'c' | b'C' => return Err(ended(self.connection.target())),
                tag => return Err(Error::Protocol(format!("{:?} in the stream", char::from(tag)))),
            };
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    fn copy_data(&mut self, frame: &Frame) -> Result<Option<(Found, Range<usize>)>, Error> {
        let body = self.connection.bytes(frame.body.clone());
        let lsn_at = |at: usize| -> Result<Lsn, Error> {
            let bytes = body.get(at..).and_then(|rest| rest.first_chunk::<8>());
            bytes.map(|bytes| Lsn::new(u64::from_be_bytes(*bytes))).ok_or_else(|| cut_short(body))
        };
        match body.first() {
            Some(b'k') if body.len() == KEEPALIVE_SIZE => {
                let wal_end = lsn_at(1)?;
                if body.last() == Some(&1) {
                    self.heartbeat.answer_now();
                }
                if !self.assembler.in_transaction() {
                    self.delivered = self.delivered.max(wal_end);
                }
                Ok(Some((Found::Progress(wal_end), 0..0)))
            }
            Some(b'w') if body.len() >= WAL_HEADER => {
                let lsn = lsn_at(1)?;
                let range = frame.body.start + WAL_HEADER..frame.body.end;
                let size = frame.size - WAL_HEADER as u64;
                let received = Received { lsn, bytes: self.connection.bytes(range.clone()), size };
                let step = self.assembler.assemble(received).map_err(broken)?;
                match &step {
                    Step::Nothing => return Ok(None),
                    Step::LookUp(announced) => {
                        self.announced = Some(announced.clone());
                        return Ok(None);
                    }
                    Step::Commit(end) => self.delivered = self.delivered.max(*end),
                    Step::Truncate { .. } => self.truncating = Some((lsn, range.clone())),
                    Step::Begin(_) | Step::Row(..) | Step::Unreadable(_) | Step::Message(_) => {}
                }
                Ok(Some((Found::Step(step, lsn, size), range)))
            }
            _ => Err(cut_short(body)),
        }
    }

    fn notice(&mut self, frame: &Frame) -> Result<(), Error> {
        let notice = self.connection.server_error(frame)?;
        if notice.says_publication_skipped() {
            self.skipped = true;
            return Err(Error::PublicationSkipped {
                publication: self.publication.clone(),
                notice: Box::new(notice),
            });
        }
        connection::log_notice(&notice);
        Ok(())
    }
}

/// What [`PostgresSource::advance`] found.
enum Found {
    /// A message: what it is, its LSN, its whole size.
    Step(Step, Lsn, u64),
    /// A keepalive.
    Progress(Lsn),
}

impl Source for PostgresSource {
    async fn receive(&mut self) -> Result<(), Failure> {
        loop {
            self.say_if_due().await?;
            if self.announced.is_some() {
                // The server must not hang up on us because the catalogue takes its time.
                let due = self.heartbeat.due();
                tokio::select! {
                    biased;
                    looked_up = self.look_up() => looked_up?,
                    () = sleep_until(due) => continue,
                }
            }
            if self.truncating.is_some() || self.connection.is_ready() {
                return Ok(());
            }
            tokio::select! {
                biased;
                filled = self.connection.fill() => {
                    filled?;
                    self.heartbeat.heard();
                }
                () = sleep_until(self.heartbeat.due()) => {
                    if let Some(after) = self.heartbeat.silence(Instant::now()) {
                        return Err(Error::Silent { target: self.connection.target().to_owned(), after }.into());
                    }
                }
            }
        }
    }

    fn take(&mut self) -> Result<Option<Delivery<'_>>, Failure> {
        let Some((found, range)) = self.advance()? else { return Ok(None) };
        Ok(match found {
            Found::Progress(wal_end) => Some(Delivery::Progress { wal_end }),
            Found::Step(step, lsn, size) => {
                let received = Received { lsn, bytes: self.connection.bytes(range), size };
                self.assembler.view(&step, received)
            }
        })
    }

    async fn confirm(&mut self, settled: Settled) -> Result<(), Failure> {
        Ok(self.confirm_lsn(settled.lsn()).await?)
    }

    /// Waits until a status is due and sends it; to be called again for the next one. Cancel-safe.
    async fn keep_alive(&mut self) -> Result<(), Failure> {
        self.connection.send().await?;
        sleep_until(self.heartbeat.due()).await;
        self.say(false).await?;
        // What the server has sent meanwhile is unread: its silence is ours.
        self.heartbeat.heard();
        Ok(())
    }

    async fn close(&mut self) -> Result<(), Failure> {
        let ending = async {
            self.say(false).await?;
            self.connection.finish().await
        };
        match timeout(CLOSE_TIMEOUT, ending).await {
            Ok(ended) => Ok(ended?),
            // The last status is on its way; that the server did not answer harms nobody.
            Err(_) => Ok(()),
        }
    }
}

fn broken(error: impl std::fmt::Display) -> Error {
    Error::Protocol(error.to_string())
}

fn cut_short(body: &[u8]) -> Error {
    Error::Protocol(format!("a stream message of {} bytes that is neither data nor a keepalive", body.len()))
}

fn ended(target: &str) -> Error {
    let cause = std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "the server ended the stream");
    Error::Network { target: target.to_owned(), cause }
}
