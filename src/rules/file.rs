//! Parses a rule file: TOML, in which every error has a position and all errors are collected.

mod outboxes;
mod reader;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml_edit::{ImDocument, Item};

use crate::small_file;

use self::reader::RuleReader;
use super::error::{FilePosition, RuleError, RuleErrors, SourceFile, Wrong};
use super::outbox::{Outbox, OutboxOrigin};
use super::rule::{Origin, RULES_MAX, Rule, Rules};
use super::schemas::{Schema, Schemas};
use super::type_name::TypeName;

/// Largest rule file, in bytes.
const FILE_MAX: u64 = 1 << 20;

impl Rules {
    /// Loads the files that match a pattern such as `events/*.toml`, relative to `base`.
    ///
    /// # Errors
    /// All errors in all files.
    pub fn load(pattern: &str, base: &Path) -> Result<Self, RuleErrors> {
        load(pattern, base)
    }

    /// These rules with the file number `nth` replaced by a text.
    ///
    /// # Errors
    /// All errors in the text, and conflicts with the other rules.
    pub fn replaced(&self, nth: usize, text: &str) -> Result<Self, RuleErrors> {
        let mut errors = Vec::new();
        let mut pasted = Self::default();
        let path = PathBuf::from("pasted.toml");
        parse(&Arc::new(SourceFile { path, text: text.to_owned() }), &mut pasted, &mut errors);
        let mut rules = self.clone();
        if nth < rules.events.len() {
            rules.events.splice(nth..=nth, pasted.events);
        } else {
            rules.events.extend(pasted.events);
        }
        across(&rules, &mut errors);
        if errors.is_empty() { Ok(rules) } else { Err(RuleErrors(errors)) }
    }
}

fn load(pattern: &str, base: &Path) -> Result<Rules, RuleErrors> {
    let mut rules = Rules::default();
    let mut errors = Vec::new();
    match files(pattern, base) {
        Ok(paths) => {
            for path in paths {
                match read(&path, base) {
                    Ok(file) => parse(&Arc::new(file), &mut rules, &mut errors),
                    Err(message) => errors.push(RuleError::new(None, None, message)),
                }
            }
        }
        Err(message) => errors.push(RuleError::new(None, None, message)),
    }
    across(&rules, &mut errors);
    across_outboxes(&rules, &mut errors);
    schemas(&mut rules, base, &mut errors);
    across_schemas(&rules, &mut errors);
    if errors.is_empty() { Ok(rules) } else { Err(RuleErrors(errors)) }
}

/// The files that match a pattern, sorted by name. A pattern without a match is an error, because without its
/// rules a table would be published as automatic events.
fn files(pattern: &str, base: &Path) -> Result<Vec<PathBuf>, String> {
    let full = base.join(pattern);
    let text = full.to_str().ok_or_else(|| format!("events: {} is not UTF-8", full.display()))?;
    let found = glob::glob(text).map_err(|error| {
        format!(
            "events: {pattern:?} is not a valid pattern: \
        {error}"
        )
    })?;
    let mut paths = found.collect::<Result<Vec<_>, _>>().map_err(|error| {
        format!("events: cannot read directory {}: {}", error.path().display(), error.error())
    })?;
    paths.sort();
    if paths.is_empty() {
        return Err(format!("events: {pattern:?} matches no file below {}", base.display()));
    }
    Ok(paths)
}

fn read(path: &Path, base: &Path) -> Result<SourceFile, String> {
    let failed = |error: std::io::Error| format!("cannot read {}: {error}", path.display());
    let text = small_file::read_text(path, FILE_MAX).map_err(failed)?;
    Ok(SourceFile { path: path.strip_prefix(base).unwrap_or(path).to_owned(), text })
}

/// Parses one file and adds its rules.
pub(super) fn parse(file: &Arc<SourceFile>, rules: &mut Rules, errors: &mut Vec<RuleError>) {
    let place = |offset| FilePosition { file: Arc::clone(file), offset };
    let document = match ImDocument::parse(file.text.as_str()) {
        Ok(document) => document,
        Err(error) => {
            let offset = error.span().map_or(0, |span| span.start);
            errors.push(RuleError::new(Some(place(offset)), None, error.message()));
            return;
        }
    };
    for (key, item) in document.as_table() {
        if key != "event" {
            let offset =
                document.as_table().key(key).and_then(toml_edit::Key::span).map_or(0, |span| span.start);
            let wrong = (format!("unknown key {key:?}"), "a rule file consists of [[event]] tables");
            errors.push(RuleError::new(Some(place(offset)), None, wrong));
        } else if let Item::ArrayOfTables(tables) = item {
            for table in tables {
                let mut reader = RuleReader { file, table, event: None, errors };
                if reader.is_outbox() {
                    rules.outboxes.extend(reader.outbox());
                } else if let Some(rule) = reader.rule() {
                    rules.events.push(rule);
                }
            }
        } else {
            let offset = item.span().map_or(0, |span| span.start);
            errors.push(RuleError::new(Some(place(offset)), None, "expected [[event]], in double brackets"));
        }
    }
}

/// Finds conflicts between rules that are valid on their own.
fn across(rules: &Rules, errors: &mut Vec<RuleError>) {
    let mut wrong = |rule: &Rule, wrong: Wrong| {
        let event = Some(rule.event_type.to_string());
        errors.push(RuleError::new(Some(rule.place.clone()), event, wrong));
    };
    // Several rules may create one event type, from two tables or under two conditions.
    let mut by_type: HashMap<&TypeName, Vec<&Rule>> = HashMap::new();
    for (nth, rule) in rules.events.iter().enumerate() {
        if nth == RULES_MAX {
            wrong(rule, format!("there are more than {RULES_MAX} rules").into());
        }
        by_type.entry(&rule.event_type).or_default().push(rule);
    }
    for rule in &rules.events {
        let Origin::Event(parent) = &rule.origin else { continue };
        let Some(parents) = by_type.get(parent) else {
            wrong(rule, format!("no rule makes the event {parent} that from_event names").into());
            continue;
        };
        if parents.iter().any(|parent| matches!(parent.origin, Origin::Event(_))) {
            let message = format!("from_event names {parent}, which has a from_event itself");
            wrong(rule, (message, "name the event that reads the table").into());
        }
    }
}

/// Finds conflicts between outboxes that are valid on their own: no row or message may be published twice.
fn across_outboxes(rules: &Rules, errors: &mut Vec<RuleError>) {
    let mut wrong = |outbox: &Outbox, wrong: Wrong| {
        errors.push(RuleError::new(Some(outbox.place.clone()), Some(outbox.name()), wrong));
    };
    for (nth, outbox) in rules.outboxes.iter().enumerate() {
        let others = rules.outboxes.iter().take(nth);
        match &outbox.origin {
            OutboxOrigin::Table { table, .. } => {
                let is_it = |other: &Outbox| matches!(&other.origin, OutboxOrigin::Table { table: of, .. } if of == table);
                if others.into_iter().any(is_it) {
                    wrong(outbox, "duplicate outbox".into());
                }
                let reads =
                    |rule: &&Rule| matches!(&rule.origin, Origin::Table { from, .. } if from == table);
                if let Some(rule) = rules.events.iter().find(reads) {
                    let event_type = &rule.event_type;
                    let message =
                        format!("the rule {event_type} reads the same table, whose rows are events already");
                    wrong(outbox, (message, "remove one of them").into());
                }
            }
            OutboxOrigin::Messages(prefix) => {
                let overlaps = |other: &Outbox| matches!(&other.origin, OutboxOrigin::Messages(of) if of.starts_with(prefix) || prefix.starts_with(of));
                if others.into_iter().any(overlaps) {
                    let hint = "choose prefixes of which none begins with another";
                    wrong(outbox, ("overlaps the prefix of another outbox", hint).into());
                }
            }
        }
    }
}

/// Loads the schemas of the outboxes; paths are relative to `base`.
fn schemas(rules: &mut Rules, base: &Path, errors: &mut Vec<RuleError>) {
    for outbox in &mut rules.outboxes {
        let Some((folder, place)) = &outbox.schemas_in else { continue };
        match Schemas::load(&base.join(folder)) {
            Ok(schemas) => outbox.schemas = Arc::new(schemas),
            Err(wrong) => errors.extend(
                wrong
                    .into_iter()
                    .map(|wrong| RuleError::new(Some(place.clone()), Some(outbox.name()), wrong)),
            ),
        }
    }
}

/// Checks that a type has one contract: no rule creates a type that has a schema, and outboxes that share a
/// type share its schema.
fn across_schemas(rules: &Rules, errors: &mut Vec<RuleError>) {
    let mut given: HashMap<&str, (&Outbox, &Schema)> = HashMap::new();
    for outbox in &rules.outboxes {
        for schema in outbox.schemas.iter() {
            let event_type = schema.event_type.as_str();
            let mut wrong = |wrong: Wrong| {
                let place = outbox.schemas_in.as_ref().map(|(_, place)| place.clone());
                errors.push(RuleError::new(place, Some(outbox.name()), wrong));
            };
            if rules.events.iter().any(|rule| rule.event_type == schema.event_type) {
                let message = format!("{event_type} has a schema here, but a rule makes it too");
                wrong((message, "remove the schema or rename one of them").into());
            }
            match given.get(event_type) {
                Some((first, known)) if known.text != schema.text => {
                    wrong(format!("{event_type} has a different schema in {}", first.name()).into());
                }
                _ => {
                    given.insert(event_type, (outbox, schema));
                }
            }
        }
    }
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
