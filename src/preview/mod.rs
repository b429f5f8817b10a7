//! Previews the events that rows of a real database would make: of the newest rows, or of the next changes,
//! which are received through a temporary replication slot. The slot, the buffer and the stream of the daemon
//! are not touched.

mod live;
mod newest;
mod tally;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::change::{Change, Message, Relation};
use crate::config::{Config, TableName};
use crate::contracts::trial::{HMAC_KEY, On};
use crate::daemon::{contract, polled};
use crate::event::Records;
use crate::expression::HmacKey;
use crate::failure::{Failure, Problem};
use crate::rules::{Origin, Outbox, OutboxOrigin, Rule, Rules, Trigger};
use crate::source::postgres::catalog::{self, SentColumns};
use crate::source::postgres::error::Error;
use crate::source::postgres::inspect;
use crate::source::postgres::publication;
use crate::source::postgres::session::Session;
use crate::source::postgres::tables::TableHistory;
use crate::translate::{
    CONTEXT_PREFIX, RuleOutcome, TransactionContext, TranslateError, TranslateSettings, Translator,
};

use self::tally::Tally;

/// The request of a preview.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Only events of this type.
    pub event_type: Option<String>,
    /// The changes to preview.
    pub changes: Changes,
}

/// The changes to preview.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changes {
    /// The newest rows of each table.
    Last(u32),
    /// The next changes, at most this many and for at most this time; zero: no time limit.
    Live(u32, Duration),
}

/// The output of a preview.
pub trait Audience {
    /// Prints the line of an event.
    ///
    /// # Errors
    /// The output is closed.
    fn event(&mut self, line: &[u8]) -> io::Result<()>;
    /// Prints a note.
    fn note(&mut self, text: &str);
}

/// Runs a preview.
///
/// # Errors
/// Rules that the daemon would refuse, or a database that is not available.
pub async fn run(config: &Config, wanted: &Wanted, audience: &mut impl Audience) -> Result<(), Failure> {
    let connection = inspect::settings(config).map_err(Failure::stop)?;
    let mut session = Session::open_for_rows(&connection).await?;
    let polled = polled::tables(config, &connection, &mut session).await?;
    if polled.is_some() && matches!(wanted.changes, Changes::Live(..)) {
        let problem = Problem::new("a polled source has no stream of changes to look at");
        return Err(Failure::stop(problem.with_hint("Preview existing rows instead.")));
    }
    let name = &config.source.publication;
    let publication = session.run(async |client| publication::publication_facts(client, name).await).await?;
    let mut settings = settings(config, audience)?;
    let source = config.source_urn();
    let strict = Translator::new(&source, 0, settings.clone());
    let planned = match (&publication, &config.source.tables) {
        (Some(_), _) if polled.is_none() => Vec::new(),
        (_, Some(tables)) => tables.clone(),
        (_, None) => session.run(publication::identity::candidate_tables).await?,
    };
    let history = TableHistory::empty(&config.pii);
    let published = contract::Published {
        name,
        facts: publication.as_ref().filter(|_| polled.is_none()),
        planned: &planned,
        polled: polled.as_deref(),
        history: history.clone(),
    };
    contract::check(&mut session, &strict, &published).await?;
    if matches!(wanted.changes, Changes::Last(_)) {
        settings.rules = Arc::new(any_update(&settings.rules));
    }
    let translator = Translator::new(&source, 0, settings);
    let mut show = Show {
        wanted,
        tally: Tally::of(translator.rules(), wanted.event_type.as_deref()),
        translator,
        records: Records::default(),
        audience,
    };
    let tables = tables(&mut session, &published, &mut show).await?;
    match wanted.changes {
        Changes::Last(count) => newest::show(&mut session, &connection, &tables, count, &mut show).await?,
        Changes::Live(count, time) => {
            drop(session);
            if publication.is_none() {
                return Err(Failure::stop(no_publication(name)));
            }
            live::show(config, &connection, (&tables, count, time), (&history, &mut show)).await?;
        }
    }
    show.report();
    Ok(())
}

fn no_publication(name: &str) -> Problem {
    Problem::new(format!("publication {name:?} does not exist, and live changes need it")).with_hint(format!(
        "Start `forebay run`, which creates it, or run\n    CREATE PUBLICATION {name} FOR TABLE …;\nWithout it, use --last to \
         show the newest rows."
    ))
}

fn only_live(prefix: &str) -> Problem {
    Problem::new(format!("these events are logical messages ({prefix}), which no table stores"))
        .with_hint("Use --live to show the next ones.")
}

/// The daemon's settings. Without a key for `hmac()`, a test key is used.
fn settings(config: &Config, audience: &mut impl Audience) -> Result<TranslateSettings, Failure> {
    let mut settings = TranslateSettings::load(config).map_err(Failure::stop)?;
    // New rules may differ from the locked contracts.
    settings.lock = None;
    if settings.hmac_key.is_none() {
        settings.hmac_key = HmacKey::new(HMAC_KEY.as_bytes());
        let texts = |rule: &Rule| {
            let data = rule.data.as_ref().map(|text| text.text.contains("hmac("));
            let key = rule.key.as_ref().map(|text| text.text.contains("hmac("));
            data.unwrap_or_default() || key.unwrap_or_default()
        };
        if settings.rules.events.iter().any(texts) {
            audience.note("FOREBAY_PII__HMAC_KEY is not set: hmac() uses a test key");
        }
    }
    Ok(settings)
}

/// The rules with every `update of` replaced by `update`: a stored row has no changed columns.
fn any_update(rules: &Rules) -> Rules {
    let mut rules = rules.clone();
    for rule in &mut rules.events {
        if let Origin::Table { on, .. } = &mut rule.origin {
            for trigger in on {
                if let Trigger::Update { of } = trigger {
                    of.clear();
                }
            }
        }
    }
    rules
}

/// A table of the preview.
pub(super) struct PreviewedTable {
    pub(super) relation: Arc<Relation>,
    /// The publication's row filter.
    pub(super) row_filter: Option<String>,
}

/// The tables to preview: those that rules read, and those of the (existing or planned) publication that have
/// automatic events.
async fn tables(
    session: &mut Session,
    published: &contract::Published<'_>,
    show: &mut Show<'_, impl Audience>,
) -> Result<Vec<PreviewedTable>, Failure> {
    let (publication, published_name) = (published.facts, published.name);
    let mut names: Vec<TableName> = show.translator.rules().tables().into_iter().cloned().collect();
    let more = match publication {
        Some(publication) => publication.tables.iter().map(|table| table.name.clone()).collect(),
        None => published.planned.to_vec(),
    };
    for name in more {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names.retain(|name| show.may_make(name));
    if names.is_empty() {
        match (show.messages_that_may_make(), show.wanted.changes) {
            (Some(_), Changes::Live(..)) => {}
            (Some(prefix), Changes::Last(_)) => return Err(Failure::stop(only_live(prefix))),
            (None, _) => return Err(Failure::stop(show.nothing_makes())),
        }
    }
    let mut looked = Vec::new();
    for name in names {
        let sent = SentColumns::of(publication, &name);
        let described =
            session.run(async |client| Ok::<_, Error>(catalog::describe(client, &name, sent).await?)).await?;
        let Some(mut described) = described else { continue };
        published.history.tag(&mut described.relation);
        let published =
            publication.and_then(|publication| publication.tables.iter().find(|table| table.name == name));
        let relation = Arc::new(described.relation);
        if show.translator.wants(&relation) {
            let row_filter = match published.filter(|table| table.filter.is_some()) {
                Some(table) => {
                    session
                        .run(async |client| {
                            publication::row_filter(client, published_name, &table.name).await
                        })
                        .await?
                }
                None => None,
            };
            looked.push(PreviewedTable { relation, row_filter });
        }
    }
    Ok(looked)
}

/// The state of a preview.
pub(super) struct Show<'a, A> {
    pub(super) wanted: &'a Wanted,
    pub(super) translator: Translator,
    pub(super) tally: Tally,
    records: Records,
    pub(super) audience: &'a mut A,
}

impl<A: Audience> Show<'_, A> {
    fn is_wanted(&self, event_type: &str) -> bool {
        self.wanted.event_type.as_ref().is_none_or(|wanted| wanted == event_type)
    }

    pub(super) fn is_outbox(&self, relation: &Relation) -> bool {
        self.translator.rules().outbox_of(&relation.schema, &relation.table).is_some()
    }

    /// Whether this table can make events of the requested type.
    fn may_make(&self, name: &TableName) -> bool {
        let Some(wanted) = &self.wanted.event_type else { return true };
        if let Some(outbox) = self.translator.rules().outbox_of(&name.schema, &name.table) {
            return tally::can_make(outbox, wanted);
        }
        let automatic = ["inserted", "updated", "deleted", "truncated"]
            .into_iter()
            .any(|what| *wanted == format!("{name}.{what}.v1"));
        automatic || self.tally.may_make(wanted, name)
    }

    /// The prefix of messages that can make the requested events.
    fn messages_that_may_make(&self) -> Option<&str> {
        let outboxes = self.translator.rules().outboxes.iter();
        let may = |outbox: &&Outbox| {
            self.wanted.event_type.as_ref().is_none_or(|wanted| tally::can_make(outbox, wanted))
        };
        outboxes.filter(may).find_map(|outbox| match &outbox.origin {
            OutboxOrigin::Messages(prefix) => Some(prefix.as_str()),
            OutboxOrigin::Table { .. } => None,
        })
    }

    fn nothing_makes(&self) -> String {
        let rules = self.translator.rules();
        let given = rules.outboxes.iter().flat_map(|outbox| outbox.schemas.iter());
        let mut known: Vec<_> = rules.events.iter().map(|rule| rule.event_type.as_str()).collect();
        known.extend(given.map(|schema| schema.event_type.as_str()));
        match &self.wanted.event_type {
            Some(wanted) if known.is_empty() => format!(
                "no rule or table makes {wanted}; no rules are \
                configured"
            ),
            Some(wanted) => format!("no rule or table makes {wanted}; the rules make {}", known.join(", ")),
            None => "nothing to show: no table is published, and no rule reads one".to_owned(),
        }
    }

    /// Shows the events of a change. `rules_only`: without automatic events, because the row is shown several
    /// times.
    ///
    /// # Errors
    /// The output is closed.
    pub(super) fn change(&mut self, change: &Change<'_>, on: On, rules_only: bool) -> io::Result<()> {
        let mut outcome = RuleOutcome::default();
        self.records.clear();
        let (schema, table) = (&change.relation.schema, &change.relation.table);
        let name = TableName { schema: schema.clone(), table: table.clone() };
        let made = self.translator.translate(change, &mut self.records, &mut outcome);
        if self.is_outbox(change.relation) {
            return self.show_made(&name.to_string(), made);
        }
        if let Err(error) = made {
            self.records.clear();
            self.audience.note(&format!("a change of {name} cannot be translated: {}", Problem::of(&error)));
        }
        let mut lines = Vec::new();
        self.tally.tried(&name, on);
        for record in self.records.iter() {
            let is_rule = self.tally.made(&name, record.event_type);
            if self.is_wanted(record.event_type) && (is_rule || !rules_only) {
                lines.push(record.line.to_vec());
            }
        }
        for failed in &outcome.failed {
            self.tally.failed(&name, &failed.event_type, &failed.reason.to_string());
        }
        lines.iter().try_for_each(|line| self.audience.event(line))
    }

    /// Shows the event of a message, or applies a transaction context. Returns whether the message counts as
    /// a change.
    ///
    /// # Errors
    /// The output is closed.
    pub(super) fn message(&mut self, message: &Message<'_>) -> io::Result<bool> {
        if message.prefix == CONTEXT_PREFIX.as_bytes() {
            let (context, wrong) = TransactionContext::read(message.content);
            if !wrong.is_empty() {
                self.audience.note(&format!("invalid forebay:context ignored: {}", wrong.join("; ")));
            }
            self.translator.set_context(context);
            return Ok(false);
        }
        let Some(owner) = self.translator.owner_of_message(message) else { return Ok(false) };
        self.records.clear();
        let made = self.translator.message(message, &mut self.records);
        self.show_made(&owner, made)?;
        Ok(true)
    }

    /// Prints the event that an outbox row or message makes.
    fn show_made(&mut self, outbox: &str, made: Result<(), TranslateError>) -> io::Result<()> {
        if made.is_err() {
            self.records.clear();
        }
        let lines: Vec<Vec<u8>> = self
            .records
            .iter()
            .filter(|record| self.is_wanted(record.event_type))
            .map(|record| record.line.to_vec())
            .collect();
        let reason = made.err().map(|error| Problem::of(&error).to_string());
        self.tally.of_application(outbox, self.records.len(), reason.as_deref());
        lines.iter().try_for_each(|line| self.audience.event(line))
    }

    /// Prints the report.
    fn report(&mut self) {
        let what = if matches!(self.wanted.changes, Changes::Last(_)) { "rows" } else { "changes" };
        for text in self.tally.report(what) {
            self.audience.note(&text);
        }
    }
}
