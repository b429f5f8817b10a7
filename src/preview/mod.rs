//! What rows of a real database would make: reads the newest ones, or looks at the next changes through a slot of its own that
//! goes with its connection. The slot, the buffer and the stream of the daemon are not touched.

mod live;
mod newest;
mod tally;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::change::{Change, Message, Relation};
use crate::config::{Config, TableName};
use crate::contracts::trial::{HMAC_KEY, On};
use crate::event::Records;
use crate::failure::Failure;
use crate::pipeline::{contract, database};
use crate::rules::{Origin, Outbox, OutboxOrigin, Rule, Rules, Trigger, TypeName};
use crate::source::postgres::catalog;
use crate::source::postgres::error::Error;
use crate::source::postgres::publication;
use crate::source::postgres::sql::Session;
use crate::translate::sql::HmacKey;
use crate::translate::{CONTEXT_PREFIX, Outcome, Settings, TransactionContext, TranslateError, Translator};

use self::tally::Tally;

/// What is to be shown.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Only events of this type.
    pub event_type: Option<String>,
    /// Of which changes.
    pub changes: Changes,
}

/// Of which changes events are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changes {
    /// The newest rows of each table.
    Last(u32),
    /// So many changes that are committed from now on, or as many as come in this time; zero: however long it takes.
    Live(u32, Duration),
}

/// Who is shown it.
pub trait Audience {
    /// An event: its line.
    ///
    /// # Errors
    /// Nobody listens any more.
    fn event(&mut self, line: &[u8]) -> io::Result<()>;
    /// What there is to say about it.
    fn note(&mut self, text: &str);
}

/// Shows what is wanted.
///
/// # Errors
/// Rules that the daemon would refuse, a database that cannot be asked: with what to do.
pub async fn run(config: &Config, wanted: &Wanted, audience: &mut impl Audience) -> Result<(), Failure> {
    let connection = database::settings(config).map_err(Failure::stop)?;
    let mut session = Session::open(&connection).await?;
    let name = &config.source.publication;
    let publication = session.run(async |client| publication::publication_facts(client, name).await).await?;
    let mut settings = settings(config, audience)?;
    let source = config.source_urn();
    let strict = Translator::new(&source, 0, settings.clone());
    let planned = match (&publication, &config.source.tables) {
        (Some(_), _) => Vec::new(),
        (None, Some(tables)) => tables.clone(),
        (None, None) => session.run(publication::candidate_tables).await?,
    };
    let published = contract::Published { name, facts: publication.as_ref(), planned: &planned };
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
        Changes::Last(count) => newest::show(&mut session, &connection, (&tables, count), &mut show).await?,
        Changes::Live(count, time) => {
            drop(session);
            if publication.is_none() {
                return Err(Failure::stop(no_publication(name)));
            }
            live::show(config, &connection, (&tables, count, time), &mut show).await?;
        }
    }
    show.report();
    Ok(())
}

fn no_publication(name: &str) -> String {
    format!(
        "live changes come through the publication {name:?}, and there is none. `forebay run` makes it at its first start; or run\n    \
         CREATE PUBLICATION {name} FOR TABLE …;\nwithout it, --last shows the newest rows"
    )
}

fn only_live(prefix: &str) -> String {
    format!(
        "such events come in logical messages ({prefix}), which no table holds: look at the next ones with --live"
    )
}

/// What the daemon would be told, but for the key of `hmac()`, which may not be at hand.
fn settings(config: &Config, audience: &mut impl Audience) -> Result<Settings, Failure> {
    let mut settings = Settings::load(config).map_err(Failure::stop)?;
    // What is tried may well be something else than what was locked.
    settings.lock = None;
    if settings.hmac_key.is_none() {
        settings.hmac_key = HmacKey::new(HMAC_KEY.as_bytes());
        let texts = |rule: &Rule| {
            let data = rule.data.as_ref().map(|text| text.text.contains("hmac("));
            let key = rule.key.as_ref().map(|text| text.text.contains("hmac("));
            data.unwrap_or_default() || key.unwrap_or_default()
        };
        if settings.rules.events.iter().any(texts) {
            audience
                .note("hmac() has no key here (FOREBAY_PII__HMAC_KEY): it uses one that is only for trying");
        }
    }
    Ok(settings)
}

/// The rules, as if every update had changed the columns of `update of`: a row that is looked at has not changed.
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

/// A table that is looked at.
pub(super) struct Looked {
    pub(super) relation: Arc<Relation>,
    /// Which of its rows the publication sends.
    pub(super) row_filter: Option<String>,
}

/// The tables that are looked at: those of the rules, and those of the publication (or that it would have) whose changes
/// have automatic events.
async fn tables(
    session: &mut Session,
    published: &contract::Published<'_>,
    show: &mut Show<'_, impl Audience>,
) -> Result<Vec<Looked>, Failure> {
    let publication = published.facts;
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
        let described =
            session.run(async |client| Ok::<_, Error>(catalog::describe(client, &name).await?)).await?;
        let Some(mut described) = described else { continue };
        let published =
            publication.and_then(|publication| publication.tables.iter().find(|table| table.name == name));
        described.publish(published.and_then(|table| table.columns.as_deref()));
        let relation = Arc::new(described.relation);
        if show.translator.wants(&relation) {
            let row_filter = published.and_then(|table| table.row_filter.clone());
            looked.push(Looked { relation, row_filter });
        }
    }
    Ok(looked)
}

/// Whether an application may put events of a type into this outbox.
fn may_bring(outbox: &Outbox, event_type: &str) -> bool {
    TypeName::parse(event_type).is_ok_and(|name| outbox.template.may_make(&name))
}

/// What is shown, and what is counted beside it.
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

    /// Whether events of the type that is asked for can come from this table.
    fn may_make(&self, name: &TableName) -> bool {
        let Some(wanted) = &self.wanted.event_type else { return true };
        if let Some(outbox) = self.translator.rules().outbox_of(&name.schema, &name.table) {
            return may_bring(outbox, wanted);
        }
        let automatic = ["inserted", "updated", "deleted", "truncated"]
            .into_iter()
            .any(|what| *wanted == format!("{name}.{what}.v1"));
        automatic || self.tally.may_make(wanted, name)
    }

    /// The prefix of messages that may make what is asked for.
    fn messages_that_may_make(&self) -> Option<&str> {
        let outboxes = self.translator.rules().outboxes.iter();
        let may =
            |outbox: &&Outbox| self.wanted.event_type.as_ref().is_none_or(|wanted| may_bring(outbox, wanted));
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
            Some(wanted) if known.is_empty() => format!("nothing makes {wanted}; there are no rules"),
            Some(wanted) => format!("nothing makes {wanted}; the rules make {}", known.join(", ")),
            None => "no table is published, and no rule reads one: there is nothing to show".to_owned(),
        }
    }

    /// Shows the events of a change; of rules alone, if the change is one of several that are made of one row.
    ///
    /// # Errors
    /// Nobody listens any more.
    pub(super) fn change(&mut self, change: &Change<'_>, on: On, rules_only: bool) -> io::Result<()> {
        let mut outcome = Outcome::default();
        self.records.clear();
        let (schema, table) = (&change.relation.schema, &change.relation.table);
        let name = TableName { schema: schema.clone(), table: table.clone() };
        let made = self.translator.translate(change, &mut self.records, &mut outcome);
        if self.is_outbox(change.relation) {
            return self.show_made(&name.to_string(), made);
        }
        if let Err(error) = made {
            self.records.clear();
            self.audience.note(&format!("a change of {name} cannot be translated: {error}"));
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
            self.tally.failed(&name, &failed.event_type, &failed.reason);
        }
        lines.iter().try_for_each(|line| self.audience.event(line))
    }

    /// Shows the event of a message, if an outbox has its prefix; or takes what it says of its transaction. Whether it is to be counted.
    ///
    /// # Errors
    /// Nobody listens any more.
    pub(super) fn message(&mut self, message: &Message<'_>) -> io::Result<bool> {
        if message.prefix == CONTEXT_PREFIX.as_bytes() {
            let (context, wrong) = TransactionContext::read(message.content);
            if !wrong.is_empty() {
                self.audience
                    .note(&format!("forebay:context is ignored where it is wrong: {}", wrong.join("; ")));
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

    /// Shows the event that an application has made.
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
        let reason = made.err().map(|error| error.to_string());
        self.tally.of_application(outbox, self.records.len(), reason.as_deref());
        lines.iter().try_for_each(|line| self.audience.event(line))
    }

    /// Says of each rule and outbox what became of the changes that it is about.
    fn report(&mut self) {
        let what = if matches!(self.wanted.changes, Changes::Last(_)) { "rows" } else { "changes" };
        for text in self.tally.report(what) {
            self.audience.note(&text);
        }
    }
}
