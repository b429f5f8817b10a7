//! Reads one page: a part of a window, in one transaction.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::{Client, SimpleQueryRow};

use super::cursor::CursorKind;
use super::flushed::FlushedHorizon;
use super::low::PollClock;
use super::progress::{PollProgress, PollWindow, TableProgress};
use super::query::{self, Bounds};
use super::rows;
use super::server::{PollRefusal, PolledServer, ServerAdmission};
use super::table::PolledTable;
use crate::config::TableName;
use crate::failure::{Explain, Failure};
use crate::identity::PollingIdentity;
use crate::source::postgres::error::{Error, ServerError};
use crate::source::postgres::transcode::Transcoder;
use crate::time;

/// Most rows of a page.
const ROWS_MAX: usize = 2_000;
/// From this many bytes of values on, a page ends.
const BYTES_MAX: usize = 1 << 20;
/// Rows of a table's first fetch. It is small because a row can have megabytes.
const FETCH_FIRST: usize = 8;
/// After this time, a page reads no further rows: its transaction delays ALTER TABLE, and the replay of a
/// standby.
const LOOKS_FOR: Duration = Duration::from_secs(2);

/// The input of a page.
#[derive(Clone, Debug)]
pub struct PageRequest {
    /// The tables, sorted by name.
    pub tables: Arc<[PolledTable]>,
    /// The known source.
    pub identity: PollingIdentity,
    /// The progress so far.
    pub progress: PollProgress,
    /// Up to where a window may end.
    pub flushed: FlushedHorizon,
}

impl PageRequest {
    /// The tables that the page may read: those that its window has not read completely.
    fn left(&self) -> impl Iterator<Item = &TableName> {
        let first = self.progress.window.as_ref().map_or("", |window| window.table.as_str());
        self.tables.iter().map(|table| &table.name).filter(move |name| *name.to_string() >= *first)
    }
}

/// A row.
#[derive(Debug)]
pub struct PolledRow {
    /// Index of its table.
    pub table: usize,
    /// The row as a pgoutput message.
    pub raw: Vec<u8>,
    /// The transaction that wrote it.
    pub version: u64,
    /// Its index in the window.
    pub index: u32,
}

/// The result of a page.
#[derive(Debug)]
pub struct PageRead {
    /// State of the server.
    pub server: PolledServer,
    /// The clocks when the page began.
    pub clock: PollClock,
    /// The clocks when the page ended. No value that it read was drawn later.
    pub ended: PollClock,
    /// The progress including these rows.
    pub progress: PollProgress,
    /// The first transaction id after the window of these rows.
    pub until: u64,
    /// The rows.
    pub rows: Vec<PolledRow>,
    /// Highest value of each cursor.
    pub highest: BTreeMap<String, String>,
    /// Tables with another file than before: they were rewritten or truncated.
    pub rewritten: Vec<String>,
    /// Tables whose sequence was set back below the bound.
    pub set_back: Vec<String>,
    /// Whether the server is a standby that has not replayed everything that was read before.
    pub is_behind: bool,
}

/// A table that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{table} cannot be polled: {cause}")]
pub struct TableUnreadable {
    /// "table" and its name; or "a table", if the cause contains the name.
    table: String,
    cause: Box<ServerError>,
}

impl Explain for TableUnreadable {
    fn code(&self) -> Option<&'static str> {
        Some("polled_table_unreadable")
    }

    fn detail(&self) -> Option<String> {
        Some("Polling of all tables waits for it, so that nothing is lost.".to_owned())
    }

    fn hint(&self) -> Option<String> {
        self.cause.hint().or_else(|| {
            Some("Create the table or grant SELECT again. Otherwise stop Forebay and remove the table from source.tables.".to_owned())
        })
    }
}

/// Reads a page.
///
/// # Errors
/// The connection failed, a table cannot be read or has changed, or the server has another history.
pub async fn read(client: &Client, request: &PageRequest) -> Result<PageRead, Failure> {
    let begin = query::begin(request.left());
    let began = client.simple_query(&format!("{begin}; {}", query::SERVER)).await;
    let began = rows::results(began.map_err(|error| unreadable("a table", error))?);
    let server = began.last().and_then(|rows| rows.first()).and_then(PolledServer::read);
    let server = server.ok_or_else(|| Failure::retry("the server describes itself in another form"))?;
    let clock = PollClock { ours: time::now(), primary: server.primary };
    let is_behind = match server.admit(&request.identity, &request.progress)? {
        ServerAdmission::Continues => false,
        ServerAdmission::Behind => true,
        ServerAdmission::Follows => {
            let timeline = server.timeline;
            return Err(Failure::retry(format!("the server was promoted to timeline {timeline}")));
        }
    };
    let mut reading = PageReader {
        client,
        request,
        bytes: 0,
        transcoder: request.tables.first().and_then(PolledTable::transcoder),
        page: PageRead {
            clock,
            ended: clock,
            progress: request.progress.clone(),
            until: 0,
            rows: Vec::new(),
            highest: BTreeMap::new(),
            rewritten: Vec::new(),
            set_back: Vec::new(),
            is_behind,
            server,
        },
    };
    if !is_behind {
        reading.window().await?;
    }
    client.batch_execute("COMMIT").await.map_err(retry)?;
    reading.page.ended = clock.after(time::now(), reading.page.server.in_recovery);
    Ok(reading.page)
}

/// The state of the server, in a transaction of its own.
///
/// # Errors
/// The connection failed.
pub async fn look(client: &Client) -> Result<PolledServer, Error> {
    let begin = query::begin(std::iter::empty());
    let began = rows::results(client.simple_query(&format!("{begin}; {}; COMMIT", query::SERVER)).await?);
    let server = began.iter().rev().nth(1).and_then(|rows| rows.first()).and_then(PolledServer::read);
    server.ok_or_else(|| Error::Protocol("it describes itself in another form".to_owned()))
}

struct PageReader<'a> {
    client: &'a Client,
    request: &'a PageRequest,
    page: PageRead,
    bytes: usize,
    /// Converts rows to UTF-8, if the database has another encoding.
    transcoder: Option<Transcoder>,
}

impl PageReader<'_> {
    /// Reads the rest of the window, or until the page is full.
    async fn window(&mut self) -> Result<(), Failure> {
        let tables = &self.request.tables;
        let Some(first) = tables.first() else { return Ok(()) };
        let (until, now) = ({ self.request.flushed }.observe(&self.page.server), self.page.server.now);
        let (progress, server) = (&mut self.page.progress, &self.page.server);
        let opens = progress.open(until, now, &first.name.to_string());
        progress.server = Some(server.mark(progress.server, opens));
        let Some(window) = &mut self.page.progress.window else { return Ok(()) };
        window.pages = window.pages.saturating_add(1);
        self.page.until = window.until;
        let bounds =
            Bounds { horizon: self.page.progress.horizon, visible_end: self.page.server.visible_end };
        for (at, table) in tables.iter().enumerate() {
            let name = table.name.to_string();
            let Some(window) = &mut self.page.progress.window else { break };
            if name < window.table {
                continue;
            }
            if name > window.table {
                window.table.clone_from(&name);
                window.after.clear();
            }
            // With another cursor, the table is read again in this window. The repeated events have the same
            // ids.
            if window.by != table.cursor_column() {
                table.cursor_column().clone_into(&mut window.by);
                window.after.clear();
            }
            if !self.table(at, table, &name, bounds).await? {
                return Ok(());
            }
        }
        self.page.progress.close();
        self.page
            .progress
            .tables
            .retain(|name, _| tables.iter().any(|table| table.name.to_string() == *name));
        Ok(())
    }

    /// Reads the rest of a table. Returns whether its end was reached.
    async fn table(
        &mut self,
        at: usize,
        table: &PolledTable,
        name: &str,
        bounds: Bounds,
    ) -> Result<bool, Failure> {
        loop {
            let Some(looks_further) = self.look_through(at, table, (name, bounds)).await? else {
                return Ok(false);
            };
            if !looks_further {
                return Ok(true);
            }
            if time::now().saturating_duration_since(self.page.clock.ours) >= LOOKS_FOR {
                return Ok(false);
            }
        }
    }

    /// Reads the rows of one cursor. Returns whether there may be more rows after it; `None` if the page was
    /// full before its end.
    async fn look_through(
        &mut self,
        at: usize,
        table: &PolledTable,
        (name, bounds): (&str, Bounds),
    ) -> Result<Option<bool>, Failure> {
        let mut count = FETCH_FIRST;
        let mut batch = self.open(table, name, bounds).await?;
        let places = table.order_places();
        let mut looks_further = false;
        loop {
            let fetched = batch.len();
            for row in batch {
                if !self.row(at, table, &places, &row)? {
                    return Ok(None);
                }
                looks_further |= row.get(2) == Some("t");
            }
            if fetched < count {
                self.statement(name, &query::close()).await?;
                return Ok(Some(looks_further));
            }
            if self.page.rows.len() >= ROWS_MAX || self.bytes >= BYTES_MAX {
                return Ok(None);
            }
            let average = self.bytes / self.page.rows.len().max(1) + 1;
            let left = ROWS_MAX.saturating_sub(self.page.rows.len()).max(1);
            count = (BYTES_MAX / average).clamp(1, left).min(count * 2);
            let more = rows::results(self.statement(name, &query::more(count)).await?);
            batch = more.into_iter().next().unwrap_or_default();
        }
    }

    /// Opens the cursor, checks the table and returns the first rows.
    async fn open(
        &mut self,
        table: &PolledTable,
        name: &str,
        bounds: Bounds,
    ) -> Result<Vec<SimpleQueryRow>, Failure> {
        loop {
            let Some(window) = self.page.progress.window.clone() else { return Ok(Vec::new()) };
            let known = self.page.progress.tables.get(name).cloned();
            let sql = query::open(table, (&window, bounds), known.as_ref(), FETCH_FIRST);
            let mut results = rows::results(self.statement(name, &sql).await?).into_iter();
            // The first result belongs to DECLARE.
            let check = results.nth(1).unwrap_or_default();
            let node = is_unchanged(table, name, check.first())?;
            if known.as_ref().is_some_and(|known| known.node != node) {
                self.page.rewritten.push(name.to_owned());
            }
            let sequence = results.next().unwrap_or_default();
            let sequence = sequence.first();
            let was_set_back = sequence.is_none_or(|row| row.get(1) != Some("t"))
                || (table.cursor.kind == CursorKind::UpdatedAt && self.clock_went_back(known.as_ref()));
            if was_set_back {
                self.page.set_back.push(name.to_owned());
            }
            // If the table was truncated, or the sequence was set back, the bound may be above new rows.
            let by = table.cursor_column();
            let is_known = known.as_ref().is_some_and(|known| known.node == node && known.by == by);
            if !is_known || was_set_back {
                let fresh = TableProgress { node, by: by.to_owned(), low: None };
                self.page.progress.tables.insert(name.to_owned(), fresh);
                if known.is_some_and(|known| known.low.is_some()) {
                    self.statement(name, &query::close()).await?;
                    continue;
                }
            }
            let highest = sequence.and_then(|row| row.get(0)).map(str::to_owned);
            self.page.highest.extend(highest.map(|highest| (name.to_owned(), highest)));
            return Ok(results.next().unwrap_or_default());
        }
    }

    /// Whether the primary's clock is below a bound that came from it.
    fn clock_went_back(&self, known: Option<&TableProgress>) -> bool {
        let low = known.and_then(|known| known.low.as_deref()?.parse::<i64>().ok());
        matches!((low, self.page.server.primary), (Some(low), Some(now)) if now < low)
    }

    /// Adds a row. Returns whether the page had space for it.
    fn row(
        &mut self,
        at: usize,
        table: &PolledTable,
        places: &[usize],
        row: &SimpleQueryRow,
    ) -> Result<bool, Failure> {
        let malformed = || Failure::retry("the server sent a row in another form");
        let xmin: u32 = row.get(0).and_then(|xmin| xmin.parse().ok()).ok_or_else(malformed)?;
        let values: Vec<Option<&str>> = (query::EXTRA..row.len()).map(|column| row.get(column)).collect();
        let Some(PollWindow { rows, after, .. }) = &mut self.page.progress.window else { return Ok(true) };
        let value = |place: &usize| rows::key_value(table, values.get(*place).copied().flatten()?);
        let key = places.iter().map(value).collect::<Option<Vec<String>>>().ok_or_else(malformed)?;
        if row.get(1) != Some("t") {
            // The row belongs to another window. The cursor has moved past it.
            *after = key;
            return Ok(true);
        }
        let is_update = table.cursor.kind == CursorKind::UpdatedAt;
        let raw = rows::captured(table, is_update, &values, &mut self.transcoder).ok_or_else(malformed)?;
        // A page must not be larger than what the log accepts at once.
        if !self.page.rows.is_empty() && self.bytes + raw.len() > BYTES_MAX {
            return Ok(false);
        }
        *after = key;
        let index = *rows;
        *rows = rows.checked_add(1).ok_or(PollRefusal::WindowTooLarge)?;
        self.bytes += raw.len();
        let version = query::whole_id(xmin, self.page.server.next_id);
        self.page.rows.push(PolledRow { table: at, raw, version, index });
        Ok(true)
    }

    async fn statement(
        &self,
        table: &str,
        sql: &str,
    ) -> Result<Vec<tokio_postgres::SimpleQueryMessage>, Failure> {
        self.client.simple_query(sql).await.map_err(|error| unreadable(&format!("table {table}"), error))
    }
}

/// Checks that a table has the known definition. Returns its file node.
fn is_unchanged(table: &PolledTable, name: &str, check: Option<&SimpleQueryRow>) -> Result<u32, Failure> {
    let value = |at: usize| check.and_then(|row| row.get(at));
    let node = value(0).and_then(|node| node.parse().ok());
    let (Some(node), Some(fingerprint)) = (node, value(2)) else {
        return Err(Failure::retry(format!("table {name} was replaced while it was read")));
    };
    if value(0) != value(1) {
        return Err(Failure::retry(format!("table {name} was rewritten or truncated while it was read")));
    }
    if fingerprint != table.fingerprint {
        return Err(Failure::retry(format!("the definition of table {name} has changed; reading it again")));
    }
    Ok(node)
}

fn unreadable(table: &str, error: tokio_postgres::Error) -> Failure {
    match Error::from(error) {
        Error::Server(cause) => Failure::retry(TableUnreadable { table: table.to_owned(), cause }),
        error => retry(error),
    }
}

/// Errors of a poll are retried: they may pass, or occur again when the source is opened again.
fn retry(error: impl Into<Error>) -> Failure {
    Failure::retry(error.into())
}
