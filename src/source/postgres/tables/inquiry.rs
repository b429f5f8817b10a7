//! Queries the catalogue while the stream runs: one table when its definition is needed, and all of them
//! every second.

use std::pin::Pin;
use std::time::Duration;

use tokio::time::Instant;

use super::dropped::{self, DroppedTables};
use super::look::Look;
use super::{Survey, Surveyed, look_at};
use crate::source::postgres::conninfo::Settings;
use crate::source::postgres::error::Error;
use crate::source::postgres::session::Session;

/// Pause between two surveys.
const SURVEY_EVERY: Duration = Duration::from_secs(1);
/// A survey may take at most 1/50 of the time.
const SURVEY_SHARE: u32 = 50;
/// Shortest time between two reads for rows, so that several rows share one read.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Pause after a failed read.
const RETRY_EVERY: Duration = Duration::from_secs(1);
/// A failure is logged again after this many failed reads.
const LOG_AGAIN: u32 = 60;

/// A catalogue query.
#[derive(Clone, Debug)]
enum Question {
    /// The definition of a table, and the types of its rows.
    Table(u32, Vec<u32>),
    Survey(Survey),
    Dropped(Vec<u32>),
}

/// The result of a query.
#[derive(Debug)]
pub enum CatalogAnswer {
    /// The definition of a table.
    Table(Look),
    /// Whether any definition has changed.
    Survey(Surveyed),
    /// The tables that were dropped.
    Dropped(DroppedTables),
}

type Asking = Pin<Box<dyn Future<Output = Result<(Session, CatalogAnswer), Error>>>>;

/// The catalogue queries of a connection: one at a time, on one SQL session.
pub struct Inquiry {
    settings: Settings,
    publication: String,
    /// The session. It is opened when first needed, and again if it broke.
    session: Option<Session>,
    /// The running query, which owns the session in the meantime.
    pending: Option<Asking>,
    /// The last survey; `None` while one is running.
    survey: Option<Survey>,
    survey_due: Instant,
    looked: Option<Instant>,
    /// Whether the query is about one table.
    about_table: bool,
    /// Number of failed reads since the last successful one, and when the next may begin.
    failed: u32,
    retry_due: Instant,
}

impl std::fmt::Debug for Inquiry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inquiry").field("pending", &self.pending.is_some()).finish_non_exhaustive()
    }
}

impl Inquiry {
    /// Starts without a session.
    pub fn new(settings: &Settings, publication: &str) -> Self {
        Self {
            settings: settings.clone(),
            publication: publication.to_owned(),
            session: None,
            pending: None,
            survey: Some(Survey::default()),
            survey_due: Instant::now() + SURVEY_EVERY,
            looked: None,
            about_table: false,
            failed: 0,
            retry_due: Instant::now(),
        }
    }

    /// Takes over an open session, and the survey that was read on it.
    pub fn continue_with(&mut self, session: Session, survey: Survey) {
        self.session = Some(session);
        self.survey = Some(survey);
    }

    /// Whether a query is running.
    pub const fn is_asking(&self) -> bool {
        self.pending.is_some()
    }

    /// When the next survey is due.
    pub const fn survey_due(&self) -> Instant {
        self.survey_due
    }

    /// Whether a query for one table is running.
    pub const fn is_asking_about_table(&self) -> bool {
        self.pending.is_some() && self.about_table
    }

    /// Whether the last failure should be logged: the first one, and then about one a minute.
    pub const fn is_new_failure(&self) -> bool {
        self.failed % LOG_AGAIN == 1
    }

    /// When the next read may begin. `for_row`: the table has a definition already.
    pub fn look_due(&self, for_row: bool) -> Instant {
        let looked = self.looked.filter(|_| for_row).map_or_else(Instant::now, |looked| looked + LOOK_EVERY);
        if self.failed > 0 { looked.max(self.retry_due) } else { looked }
    }

    /// Begins to read a table and the types of its rows. Only one query may run at a time.
    pub fn ask_about(&mut self, table: u32, types: Vec<u32>) {
        self.looked = Some(Instant::now());
        self.ask(Question::Table(table, types));
    }

    /// Begins a survey if one is due. `prepare` adds the tables that have become known. If `dropped` returns
    /// tables, it first checks which of them were dropped.
    pub fn survey_if_due(
        &mut self,
        prepare: impl FnOnce(Survey) -> Survey,
        dropped: impl FnOnce() -> Option<Vec<u32>>,
    ) {
        if self.is_asking() || Instant::now() < self.survey_due {
            return;
        }
        if let Some(tables) = dropped() {
            self.ask(Question::Dropped(tables));
            return;
        }
        let survey = prepare(self.survey.take().unwrap_or_default());
        self.ask(Question::Survey(survey));
    }

    fn ask(&mut self, question: Question) {
        self.about_table = matches!(question, Question::Table(..));
        let (settings, publication) = (self.settings.clone(), self.publication.clone());
        self.pending = Some(Box::pin(answer(settings, self.session.take(), question, publication)));
    }

    /// Waits for the result. Cancel-safe: the next call waits for the same query. Never returns if no query
    /// is running.
    ///
    /// # Errors
    /// The query failed.
    pub async fn answer(&mut self) -> Result<CatalogAnswer, Error> {
        let Some(pending) = &mut self.pending else { return std::future::pending().await };
        let response = pending.await;
        self.pending = None;
        if self.about_table {
            self.failed = if response.is_ok() { 0 } else { self.failed.saturating_add(1) };
            self.retry_due = Instant::now() + RETRY_EVERY;
        }
        let wait = match &response {
            Ok((_, CatalogAnswer::Survey(surveyed))) => SURVEY_EVERY.max(surveyed.took * SURVEY_SHARE),
            // Reads of single tables do not delay the survey of all tables.
            Ok((_, CatalogAnswer::Table(_))) => Duration::ZERO,
            Ok((_, CatalogAnswer::Dropped(_))) | Err(_) => SURVEY_EVERY,
        };
        self.survey_due = self.survey_due.max(Instant::now() + wait);
        let (session, answer) = response?;
        self.session = Some(session);
        Ok(answer)
    }

    /// Sets the next survey.
    pub fn surveyed(&mut self, survey: Survey) {
        self.survey = Some(survey);
    }
}

async fn answer(
    settings: Settings,
    mut kept: Option<Session>,
    question: Question,
    publication: String,
) -> Result<(Session, CatalogAnswer), Error> {
    loop {
        let kept_open = kept.take().filter(Session::is_open);
        let again = kept_open.is_some();
        let mut session = match kept_open {
            Some(session) => session,
            None => Session::open(&settings).await?,
        };
        let question = question.clone();
        let answer = session
            .run(async |client| -> Result<_, Error> {
                Ok(match question {
                    Question::Table(table, types) => {
                        CatalogAnswer::Table(look_at(client, table, &types, &publication).await?)
                    }
                    Question::Dropped(tables) => {
                        CatalogAnswer::Dropped(dropped::look(client, &tables).await?)
                    }
                    Question::Survey(survey) => {
                        CatalogAnswer::Survey(survey.look(client, &publication).await?)
                    }
                })
            })
            .await;
        match answer {
            Ok(answer) => return Ok((session, answer)),
            // An idle connection may have been closed, so the query is repeated over a new one.
            Err(_) if again => {}
            Err(error) => return Err(error),
        }
    }
}
