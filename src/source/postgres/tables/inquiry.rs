//! Queries the catalogue while the stream runs: one table when its definition is needed, and all of them every second.

use std::pin::Pin;
use std::time::Duration;

use tokio::time::Instant;

use super::dropped::{self, DroppedTables};
use super::look::Look;
use super::{Survey, Surveyed, look_at};
use crate::source::postgres::conninfo::Settings;
use crate::source::postgres::error::Error;
use crate::source::postgres::session::Session;

/// Between two surveys.
const SURVEY_EVERY: Duration = Duration::from_secs(1);
/// A survey may take this part of the time, at most.
const SURVEY_SHARE: u32 = 50;
/// Shortest time between two looks for rows, so that several rows share one.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Pause after a failed look.
const RETRY_EVERY: Duration = Duration::from_secs(1);
/// Number of failed looks after which it is logged again.
const LOG_AGAIN: u32 = 60;

/// A query.
#[derive(Clone, Debug)]
enum Question {
    /// A table, and the types of its rows.
    Table(u32, Vec<u32>),
    Survey(Survey),
    Dropped(Vec<u32>),
}

/// The result of a query.
#[derive(Debug)]
pub enum CatalogAnswer {
    /// A table.
    Table(Look),
    /// Whether anything changed.
    Survey(Surveyed),
    /// Which tables are gone.
    Dropped(DroppedTables),
}

type Asking = Pin<Box<dyn Future<Output = Result<(Session, CatalogAnswer), Error>>>>;

/// One question at a time, on one session.
pub struct Inquiry {
    settings: Settings,
    publication: String,
    /// Opened when first needed, and again if it broke.
    session: Option<Session>,
    /// The query that is running. It owns the session meanwhile.
    asking: Option<Asking>,
    /// The last survey; `None` while one is being made.
    survey: Option<Survey>,
    survey_due: Instant,
    looked: Option<Instant>,
    /// Whether the question is about a table.
    about_table: bool,
    /// Looks at tables that have failed since the last one that succeeded, and when the next may begin.
    failed: u32,
    retry_due: Instant,
}

impl std::fmt::Debug for Inquiry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inquiry").field("asking", &self.asking.is_some()).finish_non_exhaustive()
    }
}

impl Inquiry {
    /// Without a session yet.
    pub fn new(settings: &Settings, publication: &str) -> Self {
        Self {
            settings: settings.clone(),
            publication: publication.to_owned(),
            session: None,
            asking: None,
            survey: Some(Survey::default()),
            survey_due: Instant::now() + SURVEY_EVERY,
            looked: None,
            about_table: false,
            failed: 0,
            retry_due: Instant::now(),
        }
    }

    /// Takes over an open session and the survey that was made on it.
    pub fn go_on(&mut self, session: Session, survey: Survey) {
        self.session = Some(session);
        self.survey = Some(survey);
    }

    /// Whether a query is running.
    pub const fn is_asking(&self) -> bool {
        self.asking.is_some()
    }

    /// When the next survey is due.
    pub const fn survey_due(&self) -> Instant {
        self.survey_due
    }

    /// Whether a query for one table is running.
    pub const fn is_asking_about_table(&self) -> bool {
        self.asking.is_some() && self.about_table
    }

    /// Whether the last failure should be logged: the first one, and then about one a minute.
    pub const fn is_new_failure(&self) -> bool {
        self.failed % LOG_AGAIN == 1
    }

    /// When the next look may begin. `for_row`: for a table that has a definition already.
    pub fn look_due(&self, for_row: bool) -> Instant {
        let looked = self.looked.filter(|_| for_row).map_or_else(Instant::now, |looked| looked + LOOK_EVERY);
        if self.failed > 0 { looked.max(self.retry_due) } else { looked }
    }

    /// Asks about a table and the types of its rows. Only one question may be asked at a time.
    pub fn ask_about(&mut self, table: u32, types: Vec<u32>) {
        self.looked = Some(Instant::now());
        self.ask(Question::Table(table, types));
    }

    /// Asks about all tables, if that is due; `prepare` adds those that became known. First, which of the tables that `dropped`
    /// gives are gone.
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
        self.asking = Some(Box::pin(answer(settings, self.session.take(), question, publication)));
    }

    /// The result. Cancel-safe: the next call waits for the same query. Never returns if none is running.
    ///
    /// # Errors
    /// The query failed.
    pub async fn answer(&mut self) -> Result<CatalogAnswer, Error> {
        let Some(asking) = &mut self.asking else { return std::future::pending().await };
        let response = asking.await;
        self.asking = None;
        if self.about_table {
            self.failed = if response.is_ok() { 0 } else { self.failed.saturating_add(1) };
            self.retry_due = Instant::now() + RETRY_EVERY;
        }
        let wait = match &response {
            Ok((_, CatalogAnswer::Survey(surveyed))) => SURVEY_EVERY.max(surveyed.took * SURVEY_SHARE),
            // However many tables are looked at, all of them are surveyed in time.
            Ok((_, CatalogAnswer::Table(_))) => Duration::ZERO,
            Ok((_, CatalogAnswer::Dropped(_))) | Err(_) => SURVEY_EVERY,
        };
        self.survey_due = self.survey_due.max(Instant::now() + wait);
        let (session, answer) = response?;
        self.session = Some(session);
        Ok(answer)
    }

    /// The next survey.
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
