//! Selectors of tables and columns that match nothing. A typing error must not publish a column that should
//! never be.

use super::{descendants, unsent};
use crate::config::{Automatic, Pii, TableName, Tables, selector};
use crate::diagnosis::Diagnosis;
use crate::failure::{Explain, Failure};
use crate::source::postgres::catalog;
use crate::source::postgres::publication::PublicationFacts;
use crate::source::postgres::session::Session;

/// The selectors of `[tables]` and `[pii]`.
#[derive(Clone, Debug, Default)]
pub struct Selectors {
    tables: Tables,
    pii: Pii,
    automatic: Automatic,
    /// Selectors that were logged already.
    reported: Vec<Unmatched>,
}

/// A selector that matches nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unmatched {
    /// Its configuration key.
    pub key: &'static str,
    /// The selector as configured.
    pub selector: String,
    /// What does not exist, and a similar name if there is one.
    pub message: String,
}

/// Some selectors match nothing at a start.
#[derive(Debug, thiserror::Error)]
#[error("selectors of the configuration match nothing:{}", list(.0))]
pub struct NothingMatches(pub Vec<Unmatched>);

fn list(unmatched: &[Unmatched]) -> String {
    unmatched.iter().fold(String::new(), |text, one| text + "\n  " + &one.message)
}

impl Explain for NothingMatches {
    fn hint(&self) -> Option<String> {
        let first = self.0.first().map_or("", |one| one.selector.as_str());
        Some(format!(
            "Correct them. Where one may match nothing, for a table that is still to come or for rows from before a column was \
             renamed or dropped, mark it with a question mark: \"?{first}\"."
        ))
    }
}

impl Selectors {
    /// The selectors of a configuration.
    pub fn new(tables: &Tables, pii: &Pii, automatic: Automatic) -> Self {
        Self { tables: tables.clone(), pii: pii.clone(), automatic, reported: Vec::new() }
    }

    /// Selected tables whose automatic events have no key, because the publication does not send all key
    /// columns.
    pub fn without_key(&self, publication: &PublicationFacts) -> Vec<Diagnosis> {
        unsent::keys(publication, &self.tables, self.automatic)
    }

    /// Logs each selector that matches nothing any more.
    ///
    /// # Errors
    /// A published table descends from a selected one and is not selected, so its rows would be published
    /// ([`Failure::Stop`]); or the connection broke.
    pub async fn report(&mut self, session: &mut Session, published: &[&TableName]) -> Result<(), Failure> {
        let unmatched = self.unmatched(session, published).await?;
        for one in unmatched.iter().filter(|one| !self.reported.contains(*one)) {
            tracing::warn!(
                event = "selector_matches_nothing",
                key = one.key,
                selector = one.selector,
                "{}",
                one.message
            );
        }
        self.reported = unmatched;
        descendants::check(session, &self.tables, published).await
    }

    /// The selectors that match nothing. `tables.include` must match a published table, the others anything
    /// in the database.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn unmatched(
        &self,
        session: &mut Session,
        published: &[&TableName],
    ) -> Result<Vec<Unmatched>, Failure> {
        let mut found = Vec::new();
        for (key, list) in [
            ("tables.include", &self.tables.include),
            ("tables.exclude", &self.tables.exclude),
            ("tables.drop", &self.tables.drop),
            ("pii.columns", &self.pii.columns),
        ] {
            for text in list.iter().filter(|text| !selector::is_optional(text)) {
                let is_there = if key == "tables.include" {
                    published.iter().any(|table| selector::matches(text, &[&table.schema, &table.table]))
                } else {
                    let names = selector::names(text);
                    let names: Vec<_> = names.iter().map(Option::as_deref).collect();
                    session.look(async |client| catalog::exists(client, &names).await).await?
                };
                if !is_there {
                    found.push(explain(session, key, text, published).await?);
                }
            }
        }
        Ok(found)
    }
}

async fn explain(
    session: &mut Session,
    key: &'static str,
    text: &str,
    published: &[&TableName],
) -> Result<Unmatched, Failure> {
    let parts = selector::names(text).len();
    let (thing, near) = if key == "tables.include" {
        let tables = published.iter().map(|table| vec![table.schema.as_str(), table.table.as_str()]);
        ("published table", selector::nearest(text, tables))
    } else {
        let candidates = session.look(async |client| catalog::candidates(client, parts).await).await?;
        let candidates = candidates.iter().map(|names| names.iter().map(String::as_str).collect());
        (if parts == 2 { "table" } else { "column" }, selector::nearest(text, candidates))
    };
    let hint = near.map_or_else(String::new, |near| format!("; did you mean {near:?}?"));
    Ok(Unmatched {
        key,
        selector: text.to_owned(),
        message: format!("{key}: {text:?} matches no {thing}{hint}"),
    })
}
