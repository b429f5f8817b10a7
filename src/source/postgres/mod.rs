//! PostgreSQL's logical replication as a [`Source`](crate::source::Source).
//!
//! ```text
//!  socket ▶ frames ▶ connection ▶ pgoutput ▶ transaction ▶ Delivery
//!                        ▲ status        catalog, slot, publication: over sql
//! ```

pub mod admit;
pub mod auth;
pub mod catalog;
pub mod connection;
pub mod conninfo;
pub mod create;
mod delivery;
pub mod encoding;
pub mod endpoint;
pub mod error;
pub mod frames;
pub mod history;
pub mod inspect;
mod login;
pub mod lsn;
pub mod monitor;
mod name;
mod negotiate;
mod pages;
pub mod parameters;
pub mod passfile;
pub mod pgoutput;
pub mod polling;
pub mod publication;
pub mod redecode;
pub mod require_auth;
pub mod session;
pub mod setup;
pub mod silence;
pub mod slot;
pub mod socket;
pub mod sql;
mod sql_stream;
pub mod status;
mod stream;
pub mod tables;
pub mod tls;
pub mod transaction;
pub mod transcode;
mod url;
pub mod waits;

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::change::Delivery;
use crate::failure::Failure;
use crate::position::Transaction;
use crate::source::postgres::lsn::Lsn;

use connection::{Connection, SystemIdentity};
use conninfo::Settings;
use error::{Error, broken, cut_short, ended};
use frames::Frame;
use history::History;
use negotiate::{sender_timeout, transcoder};
use pgoutput::Announced;
use session::Session;
use silence::Silence;
use status::Heartbeat;
use stream::WAL_HEADER;
pub use stream::{MAX_ROW_SIZE, Stream};
use tables::{
    Announcements, CatalogAnswer, Forgetting, Inquiry, Look, RowMoment, Suits, Survey, TableHistory,
};
use transaction::{Assembler, Received, Step};
use transcode::{Place, Transcoder};

/// How long [`Source::close`](crate::source::Source::close) waits for the server to read the last status.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// Size of a keepalive in bytes: kind, end of WAL, time, reply flag.
const KEEPALIVE_SIZE: usize = 18;

/// One connection that streams a slot.
pub struct PostgresSource {
    connection: Connection,
    /// Converts messages to UTF-8, if the server sends another encoding.
    transcoder: Option<Transcoder>,
    publication: String,
    system: SystemIdentity,
    /// Queries the catalogue.
    inquiry: Inquiry,
    announcements: Announcements,
    assembler: Assembler,
    forgetting: Forgetting,
    heartbeat: Heartbeat,
    silence: Silence,
    /// A catalogue query that must finish before the next delivery is taken.
    pending: Option<Pending>,
    /// A TRUNCATE with tables that are not delivered yet: its LSN, and its place in the buffer.
    truncating: Option<(Lsn, Place)>,
    confirmed: Lsn,
    /// The highest LSN that this connection may confirm: everything before it was delivered.
    delivered: Lsn,
    /// The last announced table, until another message follows.
    introduced: Option<String>,
    /// Whether the server failed because of the content of a change.
    unsendable: bool,
    /// Whether the server skips our publication. Then nothing may be confirmed any more.
    skipped: bool,
    /// Checks that this is the history that the checkpoint knows. Until that is proven, nothing may be
    /// confirmed.
    history: History,
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

/// The catalogue query that must finish before the next message is handled.
#[derive(Debug)]
enum Pending {
    /// The definition of an announced table, and the LSN of the announcement.
    Announced(Announced, Lsn),
    /// The types of a row: its step, LSN, size and place in the buffer, and whether the types were read for
    /// it already.
    Row { step: Step, lsn: Lsn, size: u64, at: Place, looked: bool },
}

impl PostgresSource {
    /// Connects, and begins to stream.
    ///
    /// # Errors
    /// Those of [`Error`]; its severity is that of the [`Failure`].
    pub async fn start(settings: &Settings, stream: &Stream) -> Result<Self, Failure> {
        let connection = stream.connect(settings).await?;
        Self::start_on(connection, settings, stream).await
    }

    /// Begins to stream on an open connection.
    ///
    /// # Errors
    /// The same as those of [`start`](Self::start).
    pub async fn start_on(
        mut connection: Connection,
        settings: &Settings,
        stream: &Stream,
    ) -> Result<Self, Failure> {
        let system = connection.identify_system().await?;
        let transcoder = transcoder(&mut connection, stream.max_row_size).await?;
        if stream.temporary {
            connection.create_temporary_slot(&stream.slot).await?;
        }
        let sender_timeout = sender_timeout(&mut connection).await?;
        let silence_max = silence::limit(stream);
        connection.start_replication(&stream.slot, &stream.publication, stream.from).await?;
        Ok(Self {
            connection,
            transcoder,
            publication: stream.publication.clone(),
            system,
            inquiry: Inquiry::new(settings, &stream.publication),
            announcements: Announcements::default(),
            assembler: Assembler::default(),
            forgetting: Forgetting::new(stream.relations_max),
            heartbeat: Heartbeat::new(Some(sender_timeout), silence_max, Instant::now()),
            silence: Silence::new(settings, stream),
            pending: None,
            truncating: None,
            confirmed: Lsn::ZERO,
            delivered: Lsn::ZERO,
            introduced: None,
            unsendable: false,
            skipped: false,
            history: History::default(),
        })
    }

    /// Lets nothing be confirmed before exactly this transaction was delivered. Call it before anything is
    /// taken.
    pub const fn expect(&mut self, transaction: Option<Transaction>) {
        self.history = History::new(transaction);
    }

    /// Uses the stored definitions of tables, and the session with the survey that read them.
    pub fn describe_by(&mut self, tables: TableHistory, surveyed: Option<(Session, Survey)>) {
        self.announcements = Announcements::new(tables);
        if let Some((session, survey)) = surveyed {
            self.inquiry.continue_with(session, survey);
        }
    }

    /// Identity of the server, read on this very connection. It cannot be that of another server behind the
    /// same name.
    pub const fn system(&self) -> &SystemIdentity {
        &self.system
    }

    /// Whether the stream has ended because the server failed to send a change, and will fail again.
    pub const fn has_unsendable_change(&self) -> bool {
        self.unsendable
    }

    /// The transaction that is being received, or in which the stream has ended.
    pub const fn transaction(&self) -> Option<Transaction> {
        self.assembler.transaction()
    }

    /// Number of announced tables that are described.
    pub fn described_tables(&self) -> usize {
        self.assembler.described()
    }

    /// The highest LSN that this connection may confirm.
    pub const fn delivered(&self) -> Lsn {
        self.delivered
    }

    /// Like [`Source::confirm`](crate::source::Source::confirm), for an LSN that the caller has proven to be
    /// settled.
    async fn confirm_lsn(&mut self, settled: Lsn) -> Result<(), Error> {
        if !self.skipped {
            self.confirmed = self.confirmed.max(settled.min(self.delivered));
        }
        // Confirmations must not delay the keepalive request.
        self.send_status(self.heartbeat.must_request_reply()).await
    }

    /// Sends a status now; with `ask`, it requests a reply.
    async fn send_status(&mut self, ask: bool) -> Result<(), Error> {
        self.connection.queue_status(self.confirmed, ask);
        self.heartbeat.note_sent(Instant::now(), ask);
        self.connection.send().await
    }

    async fn send_status_if_due(&mut self) -> Result<(), Error> {
        let now = Instant::now();
        if !self.heartbeat.is_due(now) {
            return self.connection.send().await;
        }
        self.send_status(self.heartbeat.must_request_reply()).await
    }

    /// Runs the pending catalogue query. Cancel-safe: the next call continues the same query, so that a slow
    /// catalogue delays the stream but does not block it forever.
    async fn look_up(&mut self) -> Result<(), Error> {
        while let Some(table) = self.must_look() {
            if !self.inquiry.is_asking() {
                sleep_until(self.inquiry.look_due(matches!(self.pending, Some(Pending::Row { .. })))).await;
                let types = self.types_to_look_at(table);
                self.inquiry.ask_about(table, types);
            }
            let is_look = self.inquiry.is_asking_about_table();
            match self.inquiry.answer().await {
                Ok(CatalogAnswer::Table(look)) => self.looked(look),
                Err(error) if is_look => self.look_failed(table, &error),
                surveyed => self.surveyed(surveyed),
            }
        }
        Ok(())
    }

    /// The table whose definition must be read; `None` if no query is needed.
    fn must_look(&self) -> Option<u32> {
        match &self.pending {
            Some(Pending::Announced(announced, _)) => Some(announced.oid),
            Some(Pending::Row { step: Step::Row(_, _, table), looked: false, .. }) => Some(*table),
            _ => None,
        }
    }

    /// The types that must be read with the definition of a table.
    fn types_to_look_at(&self, table: u32) -> Vec<u32> {
        match &self.pending {
            Some(Pending::Announced(announced, _)) => {
                announced.columns.iter().map(|column| column.type_oid).collect()
            }
            _ => self.announcements.types(table),
        }
    }

    fn looked(&mut self, look: Look) {
        match self.pending.take() {
            Some(Pending::Announced(announced, lsn)) => {
                let xid = self.assembler.transaction().map(|transaction| transaction.xid);
                let moment = RowMoment { xid: xid.unwrap_or_default(), wal: lsn.get() };
                self.assembler.learn(self.announcements.announce(announced, look, moment));
            }
            Some(Pending::Row { step, lsn, size, at, .. }) => {
                self.announcements.look(look);
                self.pending = Some(Pending::Row { step, lsn, size, at, looked: true });
            }
            None => {}
        }
    }

    /// Handles a failed read of a table's definition. It never ends the stream. A stored definition is used
    /// if there is one. Without one, a rejected query leaves unknown what the announcement does not contain,
    /// and a query that may succeed later is repeated.
    fn look_failed(&mut self, table: u32, error: &Error) {
        let is_remembered = match &self.pending {
            Some(Pending::Announced(announced, _)) => self.announcements.tables().remembers(announced),
            _ => true,
        };
        let is_refused = matches!(error, Error::Server(error) if !error.passes_by_itself());
        if self.inquiry.is_new_failure() {
            tracing::warn!(
                event = "catalogue_unreadable", %error, table_oid = table, remembered = is_remembered,
                "table definition cannot be read; continuing with the stored one"
            );
        }
        if is_remembered || is_refused {
            self.looked(Look::default());
        }
    }

    fn surveyed(&mut self, answer: Result<CatalogAnswer, Error>) {
        match answer {
            Ok(CatalogAnswer::Survey(surveyed)) => {
                let survey = self.announcements.survey(surveyed);
                self.inquiry.surveyed(survey);
            }
            Ok(CatalogAnswer::Dropped(dropped)) => self.forgetting.found(dropped, self.assembler.described()),
            Ok(CatalogAnswer::Table(_)) => {}
            Err(error) => {
                tracing::debug!(event = "catalogue_survey_failed", %error, "tables cannot be looked at");
            }
        }
    }

    /// Whether a row can be read with the types of its time. `false`: they must be read from the catalogue
    /// first.
    fn suits(&mut self, step: &Step, lsn: Lsn, (size, at): (u64, &Place), looked: bool) -> bool {
        let Step::Row(place, _, table) = step else { return true };
        if self.announcements.is_plain(*table) {
            return true;
        }
        let received = Received { lsn, bytes: at.message(&self.connection, self.transcoder.as_ref()), size };
        let Some(Delivery::Change(change)) = self.assembler.view(step, received) else { return true };
        let moment = RowMoment { xid: place.transaction.xid, wal: lsn.get() };
        match self.announcements.suits(&change, moment, looked) {
            Suits::Yes => true,
            Suits::Look => false,
            Suits::Other(relation) => {
                self.assembler.learn(relation);
                true
            }
        }
    }

    /// The next step to deliver, and where its message is.
    fn advance(&mut self) -> Result<Option<(Found, Place)>, Error> {
        if self.connection.is_broken() {
            return Ok(None);
        }
        if let Some((lsn, place)) = self.truncating.take()
            && let Some(step) = self.assembler.next_truncated().map_err(broken)?
        {
            self.truncating = Some((lsn, place.clone()));
            let size = self.message(&place).len() as u64;
            return Ok(Some((Found::Step(step, lsn, size), place)));
        }
        match self.pending.take() {
            Some(Pending::Row { step, lsn, size, at, looked: true }) => {
                self.suits(&step, lsn, (size, &at), true);
                return Ok(Some((Found::Step(step, lsn, size), at)));
            }
            pending => self.pending = pending,
        }
        while self.pending.is_none() {
            let Some(frame) = self.connection.next_frame()? else { return Ok(None) };
            let found = match frame.tag {
                b'd' => self.copy_data(&frame)?,
                b'N' => {
                    self.notice(&frame)?;
                    None
                }
                b'S' => None,
                b'E' => return Err(self.failed(&frame)),
                b'c' | b'C' => return Err(ended(self.connection.target())),
                tag => return Err(Error::Protocol(format!("{:?} in the stream", char::from(tag)))),
            };
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    fn failed(&mut self, frame: &Frame) -> Error {
        match self.connection.server_error(frame) {
            Ok(error) if error.is_about_content() => {
                self.unsendable = true;
                let (table, transaction) = (self.introduced.take(), self.assembler.transaction());
                Error::Unsendable { table, transaction, cause: Box::new(error) }
            }
            Ok(error) => error.into(),
            Err(error) => error,
        }
    }

    fn message(&self, place: &Place) -> &[u8] {
        place.message(&self.connection, self.transcoder.as_ref())
    }

    fn copy_data(&mut self, frame: &Frame) -> Result<Option<(Found, Place)>, Error> {
        let body = self.connection.bytes(frame.body.clone());
        let lsn_at = |at: usize| -> Result<Lsn, Error> {
            let bytes = body.get(at..).and_then(|rest| rest.first_chunk::<8>());
            bytes.map(|bytes| Lsn::new(u64::from_be_bytes(*bytes))).ok_or_else(|| cut_short(body))
        };
        match body.first() {
            Some(b'k') if body.len() == KEEPALIVE_SIZE => {
                let wal_end = lsn_at(1)?;
                if body.last() == Some(&1) {
                    self.heartbeat.send_now();
                }
                if !self.assembler.in_transaction() {
                    self.delivered = self.delivered.max(wal_end);
                }
                Ok(Some((Found::Progress(wal_end), Place::Received(0..0))))
            }
            Some(b'w') if body.len() >= WAL_HEADER => {
                let lsn = lsn_at(1)?;
                let range = frame.body.start + WAL_HEADER..frame.body.end;
                let (mut place, mut size) = (Place::Received(range.clone()), frame.size - WAL_HEADER as u64);
                if let Some(transcoder) = self.transcoder.as_mut().filter(|_| !frame.is_truncated()) {
                    (place, size) = transcoder.take_over(self.connection.bytes(range.clone()), range);
                }
                let received =
                    Received { lsn, bytes: place.message(&self.connection, self.transcoder.as_ref()), size };
                let step = self.assembler.assemble(received).map_err(broken)?;
                self.introduced = None;
                match &step {
                    Step::Nothing => return Ok(None),
                    Step::LookUp(announced) => {
                        self.introduced = Some(announced.name());
                        self.pending = Some(Pending::Announced(announced.clone(), lsn));
                        return Ok(None);
                    }
                    Step::Commit(end) => {
                        self.delivered = self.delivered.max(*end);
                        let gone = self.forgetting.committed(end.get());
                        if !gone.is_empty() {
                            self.assembler.forget(&gone);
                            self.announcements.forget(&gone);
                        }
                    }
                    Step::Truncate { .. } => self.truncating = Some((lsn, place.clone())),
                    Step::Row(..) if !self.suits(&step, lsn, (size, &place), false) => {
                        self.pending = Some(Pending::Row { step, lsn, size, at: place, looked: false });
                        return Ok(None);
                    }
                    Step::Begin(_) | Step::Row(..) | Step::Unreadable(_) | Step::Message(_) => {}
                }
                Ok(Some((Found::Step(step, lsn, size), place)))
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
        error::log_notice(&notice);
        Ok(())
    }
}

/// Result of [`PostgresSource::advance`].
enum Found {
    /// A message: its class, its LSN, and its whole size in bytes.
    Step(Step, Lsn, u64),
    /// A keepalive, with the end of the server's WAL.
    Progress(Lsn),
}
