//! Rules meet the database, before anything is received: tables, columns and types as they are today, and what the server itself
//! says of every expression.

mod personal;

use std::time::{SystemTime, UNIX_EPOCH};

use tokio_postgres::error::{ErrorPosition, SqlState};

use crate::change::Described;
use crate::config::{Automatic, Config, TableName};
use crate::contracts;
use crate::contracts::check::Finding;
use crate::contracts::lock::Lock;
use crate::contracts::model::Model;
use crate::failure::Failure;
use crate::pipeline::database;
use crate::rules::{Id, Origin, Rule, RuleError, RuleErrors, Rules, SourceText};
use crate::source::postgres::catalog;
use crate::source::postgres::publication::{self, PublicationFacts, quoted};
use crate::source::postgres::sql::Session;
use crate::translate::Translator;
use crate::translate::sql::{Described as Text, describable};
use crate::translate::time::write_rfc3339;

/// What is published, or will be once the publication is made.
#[derive(Debug)]
pub struct Published<'a> {
    /// The publication.
    pub name: &'a str,
    /// What the catalogue says of it; `None`: it is still to be made.
    pub facts: Option<&'a PublicationFacts>,
    /// Its tables, if it is still to be made.
    pub planned: &'a [TableName],
}

impl Published<'_> {
    fn tables(&self) -> Vec<&TableName> {
        match self.facts {
            Some(facts) => facts.tables.iter().map(|table| &table.name).collect(),
            None => self.planned.iter().collect(),
        }
    }
}

/// Checks all rules against the database, and what is published against what was locked.
///
/// # Errors
/// Everything that is wrong with them ([`Failure::Stop`]), or the connection.
pub async fn check(
    session: &mut Session,
    translator: &Translator,
    published: &Published<'_>,
) -> Result<(), Failure> {
    let mut tables = rules(session, translator, published).await?;
    let settings = translator.settings();
    let mut names = published.tables();
    names.retain(|name| settings.pii.concerns(&name.schema, &name.table));
    more(session, &mut tables, names, published).await?;
    personal::check(translator, &tables).map_err(Failure::stop)?;
    let Some(directory) = &settings.lock else { return Ok(()) };
    let Some(lock) = Lock::read(directory).map_err(Failure::stop)? else { return Ok(()) };
    let names = contracts::of_automatic(&lock, published.tables().into_iter()).collect();
    more(session, &mut tables, names, published).await?;
    let model = Model::new(translator.source(), None, settings, &tables).map_err(Failure::stop)?;
    let (warnings, errors): (Vec<_>, Vec<_>) =
        contracts::check::check(&model, &lock, &today()).into_iter().partition(Finding::is_warning);
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    if errors.is_empty() { Ok(()) } else { Err(Failure::stop(NotLocked(errors))) }
}

/// What is published is not what was locked.
#[derive(Debug, thiserror::Error)]
#[error("what would be published is not what was locked; `forebay events check` says the same:{}", list(.0))]
struct NotLocked(Vec<Finding>);

fn list(findings: &[Finding]) -> String {
    findings.iter().fold(String::new(), |text, finding| format!("{text}\n{finding}"))
}

/// Today's date in UTC.
pub fn today() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut text = Vec::new();
    write_rfc3339(&mut text, i64::try_from(now.as_micros()).unwrap_or(i64::MAX));
    text.truncate("2026-11-21".len());
    String::from_utf8_lossy(&text).into_owned()
}

/// Describes tables that are not described yet; those that do not exist are left out.
async fn more(
    session: &mut Session,
    tables: &mut Vec<Described>,
    names: Vec<&TableName>,
    published: &Published<'_>,
) -> Result<(), Failure> {
    for name in names {
        let known = |t: &Described| t.relation.schema == name.schema && t.relation.table == name.table;
        if tables.iter().any(known) {
            continue;
        }
        if let Some(mut found) = session.run(async |client| catalog::describe(client, name).await).await? {
            let facts = published.facts.and_then(|facts| facts.tables.iter().find(|t| t.name == *name));
            found.publish(facts.and_then(|table| table.columns.as_deref()));
            tables.push(found);
        }
    }
    Ok(())
}

/// Everything that is published from, as the database has it today: what contracts are made of. The rules are checked on the way.
///
/// # Errors
/// The rules are wrong, or the database cannot be asked.
pub async fn tables(config: &Config, translator: &Translator) -> Result<Vec<Described>, Failure> {
    let settings = database::settings(config).map_err(Failure::stop)?;
    let mut session = Session::open(&settings).await?;
    let name = &config.source.publication;
    let publication = session.run(async |client| publication::publication_facts(client, name).await).await?;
    let planned = match (&publication, &config.source.tables) {
        (Some(_), _) => Vec::new(),
        (None, Some(tables)) => tables.clone(),
        (None, None) => session.run(publication::candidate_tables).await?,
    };
    let published = Published { name, facts: publication.as_ref(), planned: &planned };
    let mut tables = rules(&mut session, translator, &published).await?;
    let automatic = translator.settings().automatic != Automatic::Off;
    let mut names = published.tables();
    names.retain(|name| automatic && config.tables.wants(&name.schema, &name.table));
    more(&mut session, &mut tables, names, &published).await?;
    personal::check(translator, &tables).map_err(Failure::stop)?;
    Ok(tables)
}

/// Checks the rules, and describes the tables that they read.
async fn rules(
    session: &mut Session,
    translator: &Translator,
    published: &Published<'_>,
) -> Result<Vec<Described>, Failure> {
    let rules = translator.rules();
    let (mut errors, mut tables) = (Vec::new(), Vec::new());
    for name in rules.tables() {
        let described = session.run(async |client| catalog::describe(client, name).await).await?;
        let Some(mut described) = described else {
            errors.extend(about(
                rules,
                name,
                &format!("there is no table {name}, or this role may not see it"),
            ));
            continue;
        };
        match published.facts.map(|facts| facts.tables.iter().find(|table| table.name == *name)) {
            Some(Some(table)) => described.publish(table.columns.as_deref()),
            Some(None) => errors.extend(about(rules, name, &not_published(name, published.name))),
            None if published.planned.contains(name) => {}
            None => errors.extend(about(rules, name, &not_planned(name))),
        }
        match translator.check(&described.relation) {
            Ok(()) => errors.extend(ask(session, rules, name).await?),
            Err(wrong) => {
                let partitions = partitions(session, rules, (name, &described, &wrong)).await?;
                errors.extend(wrong.0.into_iter().chain(partitions));
            }
        }
        tables.push(described);
    }
    if errors.is_empty() { Ok(tables) } else { Err(Failure::stop(RuleErrors(errors))) }
}

/// The partitions of a table that must be altered as well, where rules need the old row.
async fn partitions(
    session: &mut Session,
    rules: &Rules,
    (name, described, wrong): (&TableName, &Described, &RuleErrors),
) -> Result<Option<RuleError>, Failure> {
    let table = described.relation.oid;
    if !wrong.0.iter().any(|error| error.message.contains("REPLICA IDENTITY FULL")) {
        return Ok(None);
    }
    let lesser = session.run(async |client| catalog::partitions_not_full(client, table).await).await?;
    if lesser.is_empty() {
        return Ok(None);
    }
    let alter = |partition: &String| format!("    ALTER TABLE {partition} REPLICA IDENTITY FULL;");
    let statements: Vec<String> = lesser.iter().map(alter).collect();
    let message =
        format!("partitions do not take the replica identity from {name}; run\n{}", statements.join("\n"));
    Ok(about(rules, name, &message))
}

fn not_published(name: &TableName, publication: &str) -> String {
    let publication = publication.replace('"', "\"\"");
    format!(
        "{name} is not in the publication, so its changes do not come; run\n    ALTER PUBLICATION \"{publication}\" ADD TABLE {};\n\
         or, where only its partitions are,\n    ALTER PUBLICATION \"{publication}\" SET (publish_via_partition_root = true);",
        quoted(name)
    )
}

fn not_planned(name: &TableName) -> String {
    format!(
        "{name} will not be in the publication: add it to source.tables, or give it a primary key where that is not written"
    )
}

/// An error of the first rule that reads a table, or of the outbox that it is.
fn about(rules: &Rules, name: &TableName, message: &str) -> Option<RuleError> {
    if let Some(outbox) = rules.outbox_of(&name.schema, &name.table) {
        let (place, event) = (Some(outbox.place.clone()), Some(outbox.name()));
        return Some(RuleError { place, event, message: message.to_owned() });
    }
    let reads = |rule: &&Rule| matches!(&rule.origin, Origin::Table { from, .. } if from == name);
    rules.events.iter().find(reads).map(|rule| RuleError {
        place: Some(rule.place.clone()),
        event: Some(rule.event_type.to_string()),
        message: message.to_owned(),
    })
}

/// Lets the server describe every expression over this table, and returns what it does not understand.
async fn ask(session: &mut Session, rules: &Rules, name: &TableName) -> Result<Vec<RuleError>, Failure> {
    let mut errors = Vec::new();
    for rule in &rules.events {
        if !matches!(&rule.origin, Origin::Table { from, .. } if from == name) {
            continue;
        }
        let id = if let Id::Given(text) = &rule.id { Some(text) } else { None };
        let texts = [&rule.when, &rule.key, &rule.subject, &rule.time, &rule.data].map(Option::as_ref);
        for text in texts.into_iter().chain([id]).flatten() {
            let query = query(name, &describable(&text.text));
            let asked = session
                .run(async |client| Ok::<_, tokio_postgres::Error>(client.prepare(&query.sql).await))
                .await?;
            let Err(error) = asked else { continue };
            match error.as_db_error() {
                // Who may not use the schema cannot ask; our own check stands.
                Some(said) if *said.code() == SqlState::INSUFFICIENT_PRIVILEGE => return Ok(errors),
                Some(said) => errors.push(refused(rule, text, &query, said)),
                None => return Err(crate::source::postgres::error::Error::from(error).into()),
            }
        }
    }
    Ok(errors)
}

/// A statement around a text, and how many characters stand before it.
struct Query {
    sql: String,
    before: usize,
    /// Whether the text stands in it as it is in the rule.
    verbatim: bool,
}

/// Bare names are found in the inner level, which has the new row alone; `old` and `op` in the outer one.
fn query(name: &TableName, text: &Text) -> Query {
    let table = quoted(name);
    let before = format!("SELECT FROM (SELECT ''::text AS op) o, {table} AS old, LATERAL (SELECT ");
    let sql = format!("{before}{}\n FROM {table} AS new) f", text.text);
    Query { sql, before: before.chars().count(), verbatim: text.verbatim }
}

fn refused(
    rule: &Rule,
    text: &SourceText,
    query: &Query,
    said: &tokio_postgres::error::DbError,
) -> RuleError {
    let offset = match said.position() {
        Some(ErrorPosition::Original(at)) if query.verbatim => {
            let characters = usize::try_from(*at).unwrap_or(0).saturating_sub(1 + query.before);
            text.text.char_indices().nth(characters).map_or(0, |(offset, _)| offset)
        }
        _ => 0,
    };
    let hint = said.hint().map(|hint| format!(" ({hint})")).unwrap_or_default();
    RuleError {
        place: Some(text.place_of(offset)),
        event: Some(rule.event_type.to_string()),
        message: format!("the database says: {}{hint}", said.message()),
    }
}
