//! Rules meet the database, before anything is received: tables, columns and types as they are today, and what the server itself
//! says of every expression.

use tokio_postgres::error::{ErrorPosition, SqlState};

use crate::config::TableName;
use crate::failure::Failure;
use crate::rules::{Origin, Rule, RuleError, RuleErrors, Rules, SourceText};
use crate::source::postgres::catalog;
use crate::source::postgres::publication::{PublicationFacts, quoted};
use crate::source::postgres::sql::Session;
use crate::translate::Translator;
use crate::translate::sql::{Described as Text, describable};

/// Checks all rules against the database, and against what its publication sends, if there is one.
///
/// # Errors
/// Everything that is wrong with them ([`Failure::Stop`]), or the connection.
pub async fn check(
    session: &mut Session,
    translator: &Translator,
    publication: Option<&PublicationFacts>,
) -> Result<(), Failure> {
    let rules = translator.rules();
    let mut errors = Vec::new();
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
        if let Some(publication) = publication {
            match publication.tables.iter().find(|table| table.name == *name) {
                Some(table) => described.publish(table.columns.as_deref()),
                None => errors.extend(about(rules, name, &not_published(name))),
            }
        }
        match translator.check(&described.relation) {
            Ok(()) => errors.extend(ask(session, rules, name).await?),
            Err(wrong) => errors.extend(wrong.0),
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(Failure::stop(RuleErrors(errors))) }
}

fn not_published(name: &TableName) -> String {
    format!(
        "{name} is not in the publication, so its changes do not come; run\n    ALTER PUBLICATION … ADD TABLE {};",
        quoted(name)
    )
}

/// An error of the first rule that reads a table.
fn about(rules: &Rules, name: &TableName, message: &str) -> Option<RuleError> {
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
        let texts = [&rule.when, &rule.key, &rule.subject, &rule.time, &rule.data];
        for text in texts.into_iter().flatten() {
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
