//! Polling: finds new rows by queries, on a primary or a standby, with no permission but SELECT.
//!
//! An increasing column alone does not show which rows are new: transactions do not commit in the order in
//! which they draw values, and a value is drawn before the transaction has an id. So a poll reads a *window*:
//! the rows that were written by transactions with ids between two horizons. Before each horizon, every
//! transaction had ended. Each row version is in exactly one window, however late it is committed. The cursor
//! only makes that fast. An `xid8` column is the id itself. A `serial` or `updated_at` column has a lower
//! bound, below which all rows are read (`low`).
//!
//! A second read of the same window finds other rows, because an updated row moves to a later window. So the
//! position of a row is assigned once: the resume point belongs to exactly the last durable frame, and only
//! durable rows are published (`buffer::ledger`).
//!
//! ```text
//!  plan (tables, cursor) ▶ page (query, server: one transaction) ▶ rows ▶ Delivery
//!                             ▲ progress (windows, resume point), low
//! ```

pub mod cursor;
pub mod flushed;
pub mod low;
pub mod page;
pub mod plan;
pub mod progress;
pub mod query;
pub mod rows;
pub mod server;
mod state;
pub mod table;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::buffer::Settled;
use crate::change::{Change, ChangePlace, Delivery};
use crate::failure::Failure;
use crate::position::{CommitSeq, ResumePoint};
use crate::source::Source;
use crate::time;

use self::flushed::FlushedHorizon;
use self::page::{PageRead, PageRequest};
use self::state::PollStep;
pub use self::state::{PollState, SharedPollState};
use self::table::Subject;
use super::pgoutput::Cells;
use super::redecode;
use super::session::Session;

/// Time limit of a page's transaction. The server ends its statements after 5 min.
const PAGE_WITHIN: Duration = Duration::from_mins(10);
/// Polls that read whole tables may take at most 1/4 of the time.
const BUSY_SHARE: u32 = 4;

type PageFuture = Pin<Box<dyn Future<Output = (Session, Result<PageRead, Failure>)>>>;

/// Receives, after each poll, since when the horizon has not moved.
pub type ReportHorizon = Arc<dyn Fn(std::time::Instant) + Send + Sync>;

/// One connection that polls.
pub struct PollingSource {
    subject: Subject,
    state: SharedPollState,
    report: ReportHorizon,
    /// `None` while a page is read.
    session: Option<Session>,
    pending: Option<PageFuture>,
    due: Instant,
    began: Instant,
    /// Time spent on the pages of this window.
    took: Duration,
    last_received: std::time::Instant,
    /// A position up to which everything is delivered. It is reported once, between two pages.
    reached: Option<ResumePoint>,
    /// Whether the page was begun on this connection, and whether its next row was returned.
    begun: bool,
    handed: bool,
    row: Option<Arc<state::RowPage>>,
    cells: Cells,
}

impl std::fmt::Debug for PollingSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PollingSource").field("pending", &self.pending.is_some()).finish_non_exhaustive()
    }
}

impl PollingSource {
    /// Polls on this session, continuing from `state`.
    pub fn new(session: Session, subject: Subject, state: SharedPollState, report: ReportHorizon) -> Self {
        let now = Instant::now();
        // A crash of the server ends its connections. What was written before it and not flushed may be lost.
        state.lock().flushed = FlushedHorizon::default();
        Self {
            subject,
            state,
            report,
            session: Some(session),
            pending: None,
            due: now,
            began: now,
            took: Duration::ZERO,
            last_received: time::now(),
            reached: None,
            begun: false,
            handed: false,
            row: None,
            cells: Cells::default(),
        }
    }

    /// Begins to read a page, unless one is being read.
    fn ask(&mut self) {
        let Some(mut session) = self.session.take() else { return };
        let (progress, flushed) = {
            let state = self.state.lock();
            (state.progress.clone(), state.flushed)
        };
        let (tables, identity) = (Arc::clone(&self.subject.tables), self.subject.identity.clone());
        let request = PageRequest { tables, identity, progress, flushed };
        self.began = Instant::now();
        self.pending = Some(Box::pin(async move {
            let work = async |client: &tokio_postgres::Client| {
                Ok::<_, super::error::Error>(page::read(client, &request).await)
            };
            let read = session.run_within(PAGE_WITHIN, work).await;
            let read = read.unwrap_or_else(|error| Err(Failure::retry(error)));
            (session, read)
        }));
    }

    fn finish(&mut self, session: Session, read: Result<PageRead, Failure>) -> Result<(), Failure> {
        self.session = Some(session);
        let read = read?;
        self.last_received = time::now();
        let mut state = self.state.lock();
        (self.report)(state.observe(&read.server));
        if read.is_behind {
            self.due = self.began + self.subject.polling.interval;
            return Ok(());
        }
        let is_whole = read.progress.window.is_none();
        let reads_all = state.receive(read, &self.subject)?;
        if state.page.is_none() {
            self.reached = state.progress.resume_point();
        }
        self.took += self.began.elapsed();
        let pause = self.subject.polling.interval;
        self.due = match (is_whole, reads_all) {
            (false, _) => Instant::now(),
            (true, false) => self.began + pause,
            (true, true) => Instant::now() + pause.max(self.took * BUSY_SHARE),
        };
        if is_whole {
            self.took = Duration::ZERO;
        }
        Ok(())
    }
}

impl Source for PollingSource {
    async fn receive(&mut self) -> Result<(), Failure> {
        loop {
            if self.reached.is_some() || self.state.lock().page.is_some() {
                return Ok(());
            }
            if self.pending.is_none() {
                sleep_until(self.due).await;
                self.ask();
            }
            let Some(pending) = &mut self.pending else {
                return Err(Failure::retry("the session of the polls was lost"));
            };
            let (session, read) = pending.await;
            self.pending = None;
            self.finish(session, read)?;
        }
    }

    fn take(&mut self) -> Result<Option<Delivery<'_>>, Failure> {
        let step = self.state.lock().step(&mut self.begun, &mut self.handed);
        match step {
            PollStep::Nothing => Ok(self.reached.take().map(|resume| Delivery::Progress { resume })),
            PollStep::Backfill => Ok(Some(Delivery::Backfill)),
            PollStep::Begin(transaction) => Ok(Some(Delivery::Begin(transaction))),
            PollStep::Commit(resume) => Ok(Some(Delivery::Commit { resume: Some(resume) })),
            PollStep::Row(page, at) => {
                let page = self.row.insert(page);
                let (Some(row), transaction) = (page.rows.get(at), page.transaction) else { return Ok(None) };
                let Some(table) = page.tables.get(row.table) else { return Ok(None) };
                let record = CommitSeq::new(row.version);
                let place = ChangePlace { transaction, index: row.index, record, nth: 0 };
                let columns = table.relation.columns.len();
                let operation =
                    redecode::decode(&row.raw, columns, &mut self.cells).map_err(Failure::retry)?;
                Ok(Some(Delivery::Change(Change {
                    place,
                    relation: &table.relation,
                    operation,
                    raw: &row.raw,
                })))
            }
        }
    }

    fn last_received(&self) -> std::time::Instant {
        // Between two polls no response is expected.
        if self.pending.is_some() { self.last_received } else { time::now() }
    }

    async fn confirm(&mut self, _: &Settled) -> Result<(), Failure> {
        // The resume point is in our checkpoint. The server does not depend on it.
        Ok(())
    }

    async fn keep_alive(&mut self) -> Result<(), Failure> {
        std::future::pending().await
    }

    async fn close(&mut self) -> Result<(), Failure> {
        Ok(())
    }
}
