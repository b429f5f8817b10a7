//! The state of polling that outlives its connections: the progress, the lower bounds, and the page whose
//! rows are being delivered.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::cursor::CursorKind;
use super::flushed::FlushedHorizon;
use super::low::LowBound;
use super::page::{PageRead, PolledRow};
use super::progress::PollProgress;
use super::server::{PollRefusal, PolledServer};
use super::table::{PolledTable, Subject};
use crate::failure::Failure;
use crate::position::{CommitSeq, ResumePoint, Transaction};
use crate::time;

/// Age of the horizon from which it is logged.
const HORIZON_OLD: Duration = Duration::from_mins(1);
const LOG_AGAIN: Duration = Duration::from_mins(10);

/// The page that is being delivered.
#[derive(Debug)]
pub(super) struct RowPage {
    pub(super) transaction: Transaction,
    pub(super) rows: Vec<PolledRow>,
    pub(super) tables: Arc<[PolledTable]>,
    /// Whether its rows belong to the first window of `start = "beginning"`.
    is_backfill: bool,
    /// Where polling resumes after it.
    resume: ResumePoint,
}

/// The next delivery.
#[derive(Debug)]
pub(super) enum PollStep {
    Nothing,
    Begin(Transaction),
    Backfill,
    Row(Arc<RowPage>, usize),
    Commit(ResumePoint),
}

/// The state of polling in one process. A page stays here until its last row was appended, so that a failed
/// connection neither loses a row nor reads it twice.
#[derive(Debug, Default)]
pub struct PollState {
    pub(super) progress: PollProgress,
    pub(super) page: Option<Arc<RowPage>>,
    /// Whether the page's origin was delivered on this connection.
    origin_known: bool,
    /// Index of the next row in the page.
    next: usize,
    /// The lower bound of each table, and the definition of the table for which it was proven.
    lows: HashMap<String, (String, LowBound)>,
    pub(super) flushed: FlushedHorizon,
    horizon: Option<(u64, Instant)>,
    logged_old: Option<Instant>,
    logged_behind: Option<Instant>,
}

/// The state, shared by all connections.
#[derive(Clone, Debug)]
pub struct SharedPollState(Arc<Mutex<PollState>>);

impl SharedPollState {
    /// Continues from this progress.
    pub fn new(progress: PollProgress) -> Self {
        Self(Arc::new(Mutex::new(PollState { progress, ..PollState::default() })))
    }

    /// The progress so far.
    pub fn progress(&self) -> PollProgress {
        self.lock().progress.clone()
    }

    /// Whether a table was in no window yet.
    pub fn is_new(&self, table: &str) -> bool {
        let state = self.lock();
        state.progress.horizon.is_some() && !state.progress.tables.contains_key(table)
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, PollState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PollState {
    /// Notes the state of the server. Returns since when its horizon has not moved; now, if no transaction is
    /// running.
    pub(super) fn observe(&mut self, server: &PolledServer) -> Instant {
        self.flushed.observe(server);
        let now = time::now();
        let oldest = server.oldest_running;
        let runs = server.next_id > oldest;
        let since = match self.horizon {
            Some((horizon, since)) if horizon == oldest && runs => since,
            _ => now,
        };
        self.horizon = Some((oldest, since));
        let age = now.saturating_duration_since(since);
        if age >= HORIZON_OLD && is_due(&mut self.logged_old, now) {
            tracing::warn!(
                event = "horizon_old",
                transaction = oldest,
                age_s = age.as_secs(),
                hint = "Find it on the primary: SELECT * FROM pg_stat_activity ORDER BY backend_xid::text::bigint; and SELECT * FROM \
                        pg_prepared_xacts;",
                "a transaction has been running for long; rows written since it began are not published before it ends"
            );
        }
        if oldest < self.progress.needs() && is_due(&mut self.logged_behind, now) {
            tracing::warn!(
                event = "standby_behind",
                needs = self.progress.needs(),
                oldest_running = oldest,
                "the standby has not replayed what was read before; waiting for it"
            );
        }
        since
    }

    /// Takes the rows of a page. Returns whether a table was read without a lower bound, which may be slow.
    ///
    /// # Errors
    /// The resume point is too large.
    pub(super) fn receive(&mut self, read: PageRead, subject: &Subject) -> Result<bool, Failure> {
        let PageRead {
            server, clock, ended, mut progress, until, rows, highest, rewritten, set_back, ..
        } = read;
        for table in &rewritten {
            tracing::warn!(
                event = "table_rewritten",
                table,
                "the table was rewritten or truncated: rows that were published may be published again, with other ids"
            );
        }
        for table in &set_back {
            tracing::warn!(
                event = "cursor_set_back",
                table,
                "the sequence or the clock of the cursor was set back below rows that were read: the whole table is searched for \
                 new rows"
            );
        }
        let grace = subject.polling.grace;
        let mut reads_all = false;
        for table in subject.tables.iter() {
            let name = table.name.to_string();
            let (definition, low) = self.lows.entry(name.clone()).or_default();
            // The sequence may have had a cache for some time.
            let is_altered = *definition != table.fingerprint;
            definition.clone_from(&table.fingerprint);
            if is_altered || rewritten.contains(&name) || set_back.contains(&name) {
                *low = LowBound::default();
            }
            // The first window of "beginning" finds old rows by the wrapped ids of their transactions, so
            // they may be above a bound.
            if progress.horizon.is_none() {
                *low = LowBound::default();
                reads_all |= table.cursor.kind != CursorKind::Xid8;
                continue;
            }
            let value = match table.cursor.kind {
                CursorKind::Serial => highest.get(&name).cloned(),
                CursorKind::UpdatedAt => clock.primary.map(|micros| micros.to_string()),
                CursorKind::Xid8 => continue,
            };
            if let Some(value) = value.filter(|_| low.wants_value(clock.ours, grace)) {
                low.saw(ended, server.in_recovery && table.cursor.kind == CursorKind::Serial, value);
            }
            low.polled(clock, server.next_id, grace);
            let Some(kept) = progress.tables.get_mut(&name) else { continue };
            if progress.window.is_none()
                && let Some(horizon) = progress.horizon
                && let Some(proven) = low.proven(horizon)
            {
                kept.low = Some(proven);
            }
            reads_all |= kept.low.is_none();
        }
        let table = progress.window.as_ref().map(|window| window.table.clone()).unwrap_or_default();
        let resume = progress.resume_point().ok_or(PollRefusal::KeyTooLong { table })?;
        let (time, is_backfill) = (progress.time, self.progress.horizon.is_none());
        self.progress = progress;
        if !rows.is_empty() {
            let transaction = Transaction { commit: CommitSeq::new(until), xid: 0, time };
            self.page = Some(Arc::new(RowPage {
                transaction,
                rows,
                tables: Arc::clone(&subject.tables),
                is_backfill,
                resume,
            }));
            self.next = 0;
        }
        Ok(reads_all)
    }

    /// The next delivery. A row counts as delivered only with the next call, because it was appended by then.
    pub(super) fn step(&mut self, begun: &mut bool, handed: &mut bool) -> PollStep {
        let Some(page) = &self.page else { return PollStep::Nothing };
        if !*begun {
            (*begun, self.origin_known) = (true, !page.is_backfill);
            return PollStep::Begin(page.transaction);
        }
        if !std::mem::replace(&mut self.origin_known, true) {
            return PollStep::Backfill;
        }
        if std::mem::take(handed) {
            self.next += 1;
        }
        if self.next < page.rows.len() {
            *handed = true;
            return PollStep::Row(Arc::clone(page), self.next);
        }
        let resume = page.resume.clone();
        (self.page, *begun) = (None, false);
        PollStep::Commit(resume)
    }
}

fn is_due(logged: &mut Option<Instant>, now: Instant) -> bool {
    let is_due = logged.is_none_or(|last| now.saturating_duration_since(last) >= LOG_AGAIN);
    if is_due {
        *logged = Some(now);
    }
    is_due
}
