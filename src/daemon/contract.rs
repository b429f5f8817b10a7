//! Checks the rules against the database before anything is received: tables, columns and types as they are
//! now, and each expression as the server itself describes it.

mod descendants;
mod personal;
mod polled;
mod selectors;
mod unsent;

use tokio_postgres::error::{ErrorPosition, SqlState};
use tokio_postgres::types::Type;

use crate::change::Described;
use crate::config::{Automatic, Config, DEFAULT_LOCK, Pii, TableName};
use crate::contracts;
use crate::contracts::check::ContractFinding;
use crate::contracts::lock::Lock;
use crate::contracts::model::Model;
use crate::expression::{Described as Text, describable};
use crate::failure::{Explain, Failure};
use crate::rules::{IdRule, Origin, Rule, RuleError, RuleErrors, Rules, SourceText, Wrong};
use crate::source::postgres::catalog::{self, SentColumns};
use crate::source::postgres::error::Error;
use crate::source::postgres::inspect;
use crate::source::postgres::polling::table::PolledTable;
use crate::source::postgres::publication::{self, PublicationFacts, quoted};
use crate::source::postgres::session::Session;
use crate::source::postgres::tables::{Survey, TableHistory};
use crate::time::today;
use crate::translate::Translator;

pub use self::selectors::{NothingMatches, Selectors};

/// The published tables, or those that will be published once the publication is created.
#[derive(Debug)]
pub struct Published<'a> {
    /// The publication.
    pub name: &'a str,
    /// The publication in the catalogue; `None`: it does not exist yet.
    pub facts: Option<&'a PublicationFacts>,
    /// The tables of a publication that will be created, or the polled tables.
    pub planned: &'a [TableName],
    /// The tables that are polled, without a publication.
    pub polled: Option<&'a [PolledTable]>,
    /// Stored definitions of the tables. This copy is not written to disk.
    pub history: TableHistory,
}

impl Published<'_> {
    /// Reads the definitions of the published tables, so that it is known which columns hold personal data
    /// under another name.
    async fn survey(&self, session: &mut Session, pii: &Pii) {
        if pii.columns.is_empty() {
            return;
        }
        let surveyed =
            session.run(async |client| Survey::begin(client, &self.history, self.name).await).await;
        match surveyed {
            Ok(surveyed) => drop(surveyed.note(&self.history)),
            // The definitions are read again before the stream begins.
            Err(error) => {
                tracing::debug!(event = "catalogue_unreadable", %error, "tables cannot be looked at");
            }
        }
    }

    /// Whether columns of a table hold personal data that came from other columns.
    fn has_personal(&self, name: &TableName) -> bool {
        let mut tables = self.facts.iter().flat_map(|facts| &facts.tables);
        tables.any(|table| table.name == *name && self.history.has_personal(table.oid))
    }

    /// Describes a table in the form in which its rows are sent; `None` if it does not exist.
    async fn describe(&self, session: &mut Session, name: &TableName) -> Result<Option<Described>, Failure> {
        let sent = if self.polled.is_some() { SentColumns::all() } else { SentColumns::of(self.facts, name) };
        let found = session.look(async |client| catalog::describe(client, name, sent).await).await?;
        Ok(found.map(|mut found| {
            if self.polled.is_some() {
                // A poll does not see the old row of a change.
                found.relation = found.relation.by_primary_key();
            }
            self.history.tag(&mut found.relation);
            found
        }))
    }

    fn tables(&self) -> Vec<&TableName> {
        match self.facts {
            Some(facts) => facts.tables.iter().map(|table| &table.name).collect(),
            None => self.planned.iter().collect(),
        }
    }
}

/// Checks all rules against the database, and the published events against the locked contracts.
///
/// # Errors
/// All errors of the rules ([`Failure::Stop`]), or the connection failed.
pub async fn check(
    session: &mut Session,
    translator: &Translator,
    published: &Published<'_>,
) -> Result<(), Failure> {
    let settings = translator.settings();
    published.survey(session, &settings.pii).await;
    let mut tables = rules(session, translator, published).await?;
    let mut names = published.tables();
    let selectors = Selectors::new(&settings.tables, &settings.pii, settings.automatic);
    let without_key: Vec<_> =
        published.facts.iter().flat_map(|publication| selectors.without_key(publication)).collect();
    if !without_key.is_empty() {
        return Err(inspect::unfit(without_key));
    }
    names.retain(|name| settings.pii.concerns(&name.schema, &name.table) || published.has_personal(name));
    more(session, &mut tables, names, published).await?;
    personal::check(translator, &tables).map_err(Failure::stop)?;
    let unmatched = selectors.unmatched(session, &published.tables()).await?;
    if !unmatched.is_empty() {
        return Err(Failure::stop(NothingMatches(unmatched)));
    }
    descendants::check(session, &settings.tables, &published.tables()).await?;
    let Some(directory) = &settings.lock else { return Ok(()) };
    let Some(lock) = Lock::read(directory).map_err(Failure::stop)? else {
        if directory.file_name().is_some_and(|name| name != DEFAULT_LOCK) {
            tracing::warn!(
                event = "contracts_missing",
                directory = %directory.display(),
                hint = "Correct events.lock, or run `forebay events lock`.",
                "directory of events.lock does not exist; events are published without contracts"
            );
        }
        return Ok(());
    };
    let names = contracts::of_automatic(&lock, published.tables().into_iter()).collect();
    more(session, &mut tables, names, published).await?;
    let model = Model::new(translator.source(), None, settings, &tables).map_err(Failure::stop)?;
    let (warnings, errors): (Vec<_>, Vec<_>) =
        contracts::check::check(&model, &lock, &today()).into_iter().partition(ContractFinding::is_warning);
    for warning in warnings {
        tracing::warn!(event = "contract_warning", "{warning}");
    }
    if errors.is_empty() { Ok(()) } else { Err(Failure::stop(NotLocked(errors))) }
}

/// The error for contracts that differ.
#[derive(Debug, thiserror::Error)]
#[error("event schemas differ from events.lock")]
struct NotLocked(Vec<ContractFinding>);

impl Explain for NotLocked {
    fn code(&self) -> Option<&'static str> {
        Some("contracts_differ")
    }

    fn detail(&self) -> Option<String> {
        let findings: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        Some(findings.join("\n"))
    }

    fn hint(&self) -> Option<String> {
        Some("Run `forebay events check`, and change the rules or lock a new version.".to_owned())
    }
}

/// Reads the definitions of more tables. Tables that do not exist are left out.
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
        tables.extend(published.describe(session, name).await?);
    }
    Ok(())
}

/// The current definitions of all tables from which events are published, for contracts. Checks the rules
/// too.
///
/// # Errors
/// The rules have errors, or the database cannot be read.
pub async fn tables(config: &Config, translator: &Translator) -> Result<Vec<Described>, Failure> {
    let settings = inspect::settings(config).map_err(Failure::stop)?;
    let mut session = Session::open(&settings).await?;
    if let Some(polled) = crate::daemon::polled::tables(config, &settings, &mut session).await? {
        let names: Vec<TableName> = polled.iter().map(|table| table.name.clone()).collect();
        let history = TableHistory::empty(&config.pii);
        let published = Published { name: "", facts: None, planned: &names, polled: Some(&polled), history };
        return of_published(&mut session, config, translator, &published).await;
    }
    let name = &config.source.publication;
    let publication = session.look(async |client| publication::publication_facts(client, name).await).await?;
    let planned = match (&publication, &config.source.tables) {
        (Some(_), _) => Vec::new(),
        (None, Some(tables)) => tables.clone(),
        (None, None) => session.look(publication::identity::candidate_tables).await?,
    };
    let history = TableHistory::empty(&config.pii);
    let published = Published { name, facts: publication.as_ref(), planned: &planned, polled: None, history };
    of_published(&mut session, config, translator, &published).await
}

async fn of_published(
    session: &mut Session,
    config: &Config,
    translator: &Translator,
    published: &Published<'_>,
) -> Result<Vec<Described>, Failure> {
    published.survey(session, &config.pii).await;
    let mut tables = rules(session, translator, published).await?;
    let automatic = translator.settings().automatic != Automatic::Off;
    let mut names = published.tables();
    names.retain(|name| automatic && config.tables.wants(&name.schema, &name.table));
    more(session, &mut tables, names, published).await?;
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
        let Some(described) = published.describe(session, name).await? else {
            let near = session.look(async |client| catalog::nearest_table(client, name).await).await?;
            let message = format!("there is no table {name}, or this role may not see it");
            let wrong = match near {
                Some(near) => (message, format!("did you mean {near}?")).into(),
                None => message.into(),
            };
            errors.extend(about(rules, name, wrong));
            continue;
        };
        match published.facts.map(|facts| facts.tables.iter().find(|table| table.name == *name)) {
            Some(Some(_)) => {}
            Some(None) => errors.extend(about(rules, name, not_published(name, published.name))),
            None if published.planned.contains(name) => {}
            None if published.polled.is_some() => errors.extend(about(rules, name, polled::missing(name))),
            None => errors.extend(about(rules, name, not_planned(name))),
        }
        match translator.check(&described.relation) {
            Ok(()) => errors.extend(check_expressions(session, rules, name).await?),
            Err(wrong) => {
                let wrong = unsent::explain(translator, &described, wrong);
                let partitions = partitions(session, rules, name, &described, &wrong).await?;
                errors.extend(wrong.0.into_iter().chain(partitions));
            }
        }
        tables.push(described);
    }
    if let Some(polled) = published.polled {
        errors.extend(polled::unseen(rules, polled));
    }
    if errors.is_empty() { Ok(tables) } else { Err(Failure::stop(RuleErrors(errors))) }
}

/// Partitions that must be altered together with their table, if rules need the old row.
async fn partitions(
    session: &mut Session,
    rules: &Rules,
    name: &TableName,
    described: &Described,
    wrong: &RuleErrors,
) -> Result<Option<RuleError>, Failure> {
    let table = described.relation.oid;
    if !wrong
        .0
        .iter()
        .any(|error| error.hint.as_ref().is_some_and(|hint| hint.contains("REPLICA IDENTITY FULL")))
    {
        return Ok(None);
    }
    let lesser = session.look(async |client| catalog::partitions_not_full(client, table).await).await?;
    if lesser.is_empty() {
        return Ok(None);
    }
    let alter = |partition: &String| format!("    ALTER TABLE {partition} REPLICA IDENTITY FULL;");
    let statements: Vec<String> = lesser.iter().map(alter).collect();
    let message = format!("partitions do not take the replica identity from {name}");
    let hint = format!("run\n{}", statements.join("\n"));
    Ok(about(rules, name, (message, hint).into()))
}

fn not_published(name: &TableName, publication: &str) -> Wrong {
    let publication = publication.replace('"', "\"\"");
    let message = format!("{name} is not in the publication, so its changes do not come");
    let hint = format!(
        "run\n    ALTER PUBLICATION \"{publication}\" ADD TABLE {};\nor, where only its partitions are,\n    \
         ALTER PUBLICATION \"{publication}\" SET (publish_via_partition_root = true);",
        quoted(name)
    );
    (message, hint).into()
}

fn not_planned(name: &TableName) -> Wrong {
    let hint = "add it to source.tables, or give it a primary key where that is not written";
    (format!("{name} will not be in the publication"), hint).into()
}

/// The error at the first rule that reads a table, or at its outbox.
fn about(rules: &Rules, name: &TableName, wrong: Wrong) -> Option<RuleError> {
    if let Some(outbox) = rules.outbox_of(&name.schema, &name.table) {
        return Some(RuleError::new(Some(outbox.place.clone()), Some(outbox.name()), wrong));
    }
    let reads = |rule: &&Rule| matches!(&rule.origin, Origin::Table { from, .. } if from == name);
    let rule = rules.events.iter().find(reads)?;
    Some(RuleError::new(Some(rule.place.clone()), Some(rule.event_type.to_string()), wrong))
}

/// Lets the server check every expression over this table, and returns its errors.
async fn check_expressions(
    session: &mut Session,
    rules: &Rules,
    name: &TableName,
) -> Result<Vec<RuleError>, Failure> {
    let mut errors = Vec::new();
    for rule in &rules.events {
        if !matches!(&rule.origin, Origin::Table { from, .. } if from == name) {
            continue;
        }
        let id = if let IdRule::Given(text) = &rule.id { Some(text) } else { None };
        let texts = [&rule.when, &rule.key, &rule.subject, &rule.time, &rule.data].map(Option::as_ref);
        for text in texts.into_iter().chain([id]).flatten() {
            let query = query(name, &describable(&text.text));
            let prepared = session
                .look(async |client| Ok::<_, tokio_postgres::Error>(client.prepare(&query.sql).await))
                .await?;
            let Err(error) = prepared else { continue };
            match error.as_db_error() {
                // Without the permission to use the schema, only Forebay's own check applies.
                Some(db_error) if *db_error.code() == SqlState::INSUFFICIENT_PRIVILEGE => return Ok(errors),
                Some(db_error) if is_busy(db_error.code()) => {
                    tracing::warn!(
                        event = "rule_check_skipped",
                        table = %name,
                        rule = %rule.event_type,
                        reason = db_error.message(),
                        "table is locked; its expressions were checked by Forebay, not by the server"
                    );
                    return Ok(errors);
                }
                Some(db_error) => {
                    let mut error = refused(rule, text, &query, db_error);
                    if *db_error.code() == SqlState::UNDEFINED_OBJECT && error.hint.is_none() {
                        error.hint = type_elsewhere(session, db_error.message()).await?;
                    }
                    errors.push(error);
                }
                None => return Err(Failure::retry(Error::from(error))),
            }
        }
    }
    Ok(errors)
}

/// The name of a type in another schema, if the message is about a missing type: only `pg_catalog` is
/// searched.
async fn type_elsewhere(session: &mut Session, message: &str) -> Result<Option<String>, Failure> {
    const TYPE: &str = "
        SELECT pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(t.typname)
        FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
        WHERE t.typname = $1 AND n.nspname OPERATOR(pg_catalog.!~) '^(pg_|information_schema$)'
        ORDER BY 1 LIMIT 1";
    let Some(name) = message.split('"').nth(1) else { return Ok(None) };
    let found = session
        .look(async |client| {
            client.query_typed(TYPE, &[(&name, Type::TEXT)]).await.map(|rows| rows.into_iter().next())
        })
        .await?;
    let name = found.and_then(|row| row.try_get::<_, String>(0).ok());
    Ok(name.map(|name| format!("did you mean {name}?")))
}

/// Whether the error means that another session has locked the table.
fn is_busy(code: &SqlState) -> bool {
    [SqlState::LOCK_NOT_AVAILABLE, SqlState::QUERY_CANCELED].contains(code)
}

/// A statement that contains an expression, and the number of characters before the expression.
struct Query {
    sql: String,
    before: usize,
    /// Whether it contains the text of the rule unchanged.
    verbatim: bool,
}

/// Bare names refer to the inner level, which has only the new row; `old` and `op` belong to the outer level.
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
    db_error: &tokio_postgres::error::DbError,
) -> RuleError {
    let offset = match db_error.position() {
        Some(ErrorPosition::Original(at)) if query.verbatim => {
            let characters = usize::try_from(*at).unwrap_or(0).saturating_sub(1 + query.before);
            text.text.char_indices().nth(characters).map_or(0, |(offset, _)| offset)
        }
        _ => 0,
    };
    let message = format!("the database says: {}", db_error.message());
    let wrong = Wrong { message, hint: db_error.hint().map(str::to_owned) };
    RuleError::new(Some(text.place_of(offset)), Some(rule.event_type.to_string()), wrong)
}
