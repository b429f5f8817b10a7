//! A rule file: TOML with places, every error collected.

use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml_edit::{ImDocument, Item, Table, Value};

use super::error::{Place, RuleError, RuleErrors, SourceFile, SourceText};
use super::{
    Deprecated, Id, Origin, Outbox, OutboxOrigin, RULES_MAX, Rule, Rules, Schema, Schemas, Trigger, TypeName,
    on,
};
use crate::config::TableName;

/// Largest rule file, in bytes.
const FILE_MAX: u64 = 1 << 20;

const KEYS: [&str; 14] = [
    "type",
    "about",
    "owner",
    "consumers",
    "from",
    "on",
    "from_event",
    "when",
    "key",
    "subject",
    "time",
    "data",
    "id",
    "deprecated",
];

pub(super) fn load(pattern: &str, base: &Path) -> Result<Rules, RuleErrors> {
    let mut rules = Rules::default();
    let mut errors = Vec::new();
    match files(pattern, base) {
        Ok(paths) => {
            for path in paths {
                match read(&path, base) {
                    Ok(file) => parse(&Arc::new(file), &mut rules, &mut errors),
                    Err(message) => errors.push(RuleError { place: None, event: None, message }),
                }
            }
        }
        Err(message) => errors.push(RuleError { place: None, event: None, message }),
    }
    across(&rules, &mut errors);
    across_outboxes(&rules, &mut errors);
    schemas(&mut rules, base, &mut errors);
    across_schemas(&rules, &mut errors);
    if errors.is_empty() { Ok(rules) } else { Err(RuleErrors(errors)) }
}

/// The files of a pattern, by name. A pattern that names none is an error: rules that are silently missing would let rows
/// out as automatic events.
fn files(pattern: &str, base: &Path) -> Result<Vec<PathBuf>, String> {
    let full = base.join(pattern);
    let text = full.to_str().ok_or_else(|| format!("events: {} is not UTF-8", full.display()))?;
    let found = glob::glob(text).map_err(|error| format!("events: {pattern:?} is no pattern: {error}"))?;
    let mut paths = found
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| format!("events: cannot look into {}: {}", error.path().display(), error.error()))?;
    paths.sort();
    if paths.is_empty() {
        return Err(format!("events: {pattern:?} names no file below {}", base.display()));
    }
    Ok(paths)
}

fn read(path: &Path, base: &Path) -> Result<SourceFile, String> {
    let failed = |error: std::io::Error| format!("cannot read {}: {error}", path.display());
    let size = std::fs::metadata(path).map_err(failed)?.len();
    if size > FILE_MAX {
        return Err(format!("{} has {size} bytes; a rule file has at most {FILE_MAX}", path.display()));
    }
    let text = std::fs::read_to_string(path).map_err(failed)?;
    Ok(SourceFile { path: path.strip_prefix(base).unwrap_or(path).to_owned(), text })
}

/// Adds the rules of one file.
pub(super) fn parse(file: &Arc<SourceFile>, rules: &mut Rules, errors: &mut Vec<RuleError>) {
    let place = |offset| Place { file: Arc::clone(file), offset };
    let document = match ImDocument::parse(file.text.as_str()) {
        Ok(document) => document,
        Err(error) => {
            let offset = error.span().map_or(0, |span| span.start);
            let message = error.message().to_owned();
            errors.push(RuleError { place: Some(place(offset)), event: None, message });
            return;
        }
    };
    for (key, item) in document.as_table() {
        if key != "event" {
            let offset =
                document.as_table().key(key).and_then(toml_edit::Key::span).map_or(0, |span| span.start);
            let message = format!("unknown key {key:?}; a rule file holds [[event]] tables");
            errors.push(RuleError { place: Some(place(offset)), event: None, message });
        } else if let Item::ArrayOfTables(tables) = item {
            for table in tables {
                let mut reader = Reader { file, table, event: None, errors };
                if reader.is_outbox() {
                    rules.outboxes.extend(reader.outbox());
                } else if let Some(rule) = reader.rule() {
                    rules.events.push(rule);
                }
            }
        } else {
            let offset = item.span().map_or(0, |span| span.start);
            let message = "write [[event]], in double brackets".to_owned();
            errors.push(RuleError { place: Some(place(offset)), event: None, message });
        }
    }
}

/// What is wrong with rules that are right by themselves.
fn across(rules: &Rules, errors: &mut Vec<RuleError>) {
    let mut wrong = |rule: &Rule, message| {
        let event = Some(rule.event_type.to_string());
        errors.push(RuleError { place: Some(rule.place.clone()), event, message });
    };
    // Several rules may make one event, from two tables or under two conditions.
    let mut by_type: HashMap<&TypeName, Vec<&Rule>> = HashMap::new();
    for (nth, rule) in rules.events.iter().enumerate() {
        if nth == RULES_MAX {
            wrong(rule, format!("there are more than {RULES_MAX} rules"));
        }
        by_type.entry(&rule.event_type).or_default().push(rule);
    }
    for rule in &rules.events {
        let Origin::Event(parent) = &rule.origin else { continue };
        let Some(parents) = by_type.get(parent) else {
            wrong(rule, format!("from_event names {parent}, which no rule makes"));
            continue;
        };
        if parents.iter().any(|parent| matches!(parent.origin, Origin::Event(_))) {
            wrong(
                rule,
                format!(
                    "from_event names {parent}, which is itself made from an event; name the one that reads the table"
                ),
            );
        }
    }
}

/// What is wrong with outboxes that are right by themselves: nothing may be told twice, under two names.
fn across_outboxes(rules: &Rules, errors: &mut Vec<RuleError>) {
    let mut wrong = |outbox: &Outbox, message| {
        errors.push(RuleError { place: Some(outbox.place.clone()), event: Some(outbox.name()), message });
    };
    for (nth, outbox) in rules.outboxes.iter().enumerate() {
        let others = rules.outboxes.iter().take(nth);
        match &outbox.origin {
            OutboxOrigin::Table { table, .. } => {
                let is_it = |other: &Outbox| matches!(&other.origin, OutboxOrigin::Table { table: of, .. } if of == table);
                if others.into_iter().any(is_it) {
                    wrong(outbox, "is an outbox twice".to_owned());
                }
                let reads =
                    |rule: &&Rule| matches!(&rule.origin, Origin::Table { from, .. } if from == table);
                if let Some(rule) = rules.events.iter().find(reads) {
                    wrong(
                        outbox,
                        format!(
                            "is an outbox, and {} reads it too: its rows are events already",
                            rule.event_type
                        ),
                    );
                }
            }
            OutboxOrigin::Messages(prefix) => {
                let overlaps = |other: &Outbox| matches!(&other.origin, OutboxOrigin::Messages(of) if of.starts_with(prefix) || prefix.starts_with(of));
                if others.into_iter().any(overlaps) {
                    wrong(
                        outbox,
                        "begins like another prefix: it would not be clear whose a message is".to_owned(),
                    );
                }
            }
        }
    }
}

/// Reads the schemas of the outboxes, relative to `base`.
fn schemas(rules: &mut Rules, base: &Path, errors: &mut Vec<RuleError>) {
    for outbox in &mut rules.outboxes {
        let Some((folder, place)) = &outbox.schemas_in else { continue };
        match Schemas::load(&base.join(folder)) {
            Ok(schemas) => outbox.schemas = Arc::new(schemas),
            Err(wrong) => errors.extend(wrong.into_iter().map(|message| RuleError {
                place: Some(place.clone()),
                event: Some(outbox.name()),
                message,
            })),
        }
    }
}

/// One type, one contract: what has a schema is made by no rule, and two outboxes that make one type give one schema.
fn across_schemas(rules: &Rules, errors: &mut Vec<RuleError>) {
    let mut given: HashMap<&str, (&Outbox, &Schema)> = HashMap::new();
    for outbox in &rules.outboxes {
        for schema in outbox.schemas.iter() {
            let event_type = schema.event_type.as_str();
            let mut wrong = |message: String| {
                let place = outbox.schemas_in.as_ref().map(|(_, place)| place.clone());
                errors.push(RuleError { place, event: Some(outbox.name()), message });
            };
            if rules.events.iter().any(|rule| rule.event_type == schema.event_type) {
                wrong(format!(
                    "{event_type} has a schema here, and a rule makes it too: take the schema away, or name one of them otherwise"
                ));
            }
            match given.get(event_type) {
                Some((first, known)) if known.text != schema.text => {
                    wrong(format!("{event_type} has another schema here than {} gives it", first.name()));
                }
                _ => {
                    given.insert(event_type, (outbox, schema));
                }
            }
        }
    }
}

pub(super) struct Reader<'a> {
    file: &'a Arc<SourceFile>,
    pub(super) table: &'a Table,
    pub(super) event: Option<String>,
    pub(super) errors: &'a mut Vec<RuleError>,
}

impl Reader<'_> {
    pub(super) fn place(&self, offset: usize) -> Place {
        Place { file: Arc::clone(self.file), offset }
    }

    pub(super) fn wrong_at(&mut self, place: Place, message: impl Into<String>) {
        let (event, message) = (self.event.clone(), message.into());
        self.errors.push(RuleError { place: Some(place), event, message });
    }

    pub(super) fn wrong(&mut self, key: &str, message: impl Into<String>) {
        let offset = self.key_offset(key);
        self.wrong_at(self.place(offset), message);
    }

    fn key_offset(&self, key: &str) -> usize {
        let span = self.table.key(key).and_then(toml_edit::Key::span);
        span.or_else(|| self.table.span()).map_or(0, |span| span.start)
    }

    fn rule(&mut self) -> Option<Rule> {
        let before = self.errors.len();
        let start = self.table.span().map_or(0, |span| span.start);
        let type_text = self.text("type");
        let place = type_text.as_ref().map_or_else(|| self.place(start), |text| text.place.clone());
        self.event = type_text.as_ref().map(|text| text.text.clone());
        self.unknown_keys(&KEYS);
        let event_type = self.event_type(type_text);
        let origin = self.origin();
        let rule = Rule {
            about: self.text("about").map(|text| text.text),
            owner: self.text("owner").map(|text| text.text),
            consumers: self.texts("consumers"),
            id: self.id(),
            when: self.text("when"),
            key: self.text("key"),
            subject: self.text("subject"),
            time: self.text("time"),
            data: self.text("data"),
            deprecated: self.deprecated(),
            event_type: event_type?,
            origin: origin?,
            place,
        };
        if matches!(rule.origin, Origin::Event(_)) {
            for key in ["key", "subject", "time", "id"] {
                if self.table.contains_key(key) {
                    self.wrong(
                        key,
                        format!("an event made by from_event has the {key} of the other; leave it out"),
                    );
                }
            }
        }
        (self.errors.len() == before).then_some(rule)
    }

    pub(super) fn unknown_keys(&mut self, known: &[&str]) {
        let unknown: Vec<String> = self
            .table
            .iter()
            .map(|(key, _)| key.to_owned())
            .filter(|key| !known.contains(&key.as_str()))
            .collect();
        for key in unknown {
            let distance = |known: &&&str| strsim::damerau_levenshtein(known, &key);
            let near = known.iter().min_by_key(distance).filter(|known| distance(known) <= 2);
            let hint = near.map_or_else(
                || format!("known are {}", known.join(", ")),
                |near| format!("did you mean {near:?}?"),
            );
            self.wrong(&key, format!("unknown key {key:?}; {hint}"));
        }
    }

    fn event_type(&mut self, text: Option<SourceText>) -> Option<TypeName> {
        let Some(text) = text else {
            if !self.table.contains_key("type") {
                self.wrong("type", "an event needs a type, such as type = \"lab.plate_completed.v1\"");
            }
            return None;
        };
        TypeName::parse(&text.text).map_err(|message| self.wrong_at(text.place, message)).ok()
    }

    fn origin(&mut self) -> Option<Origin> {
        match (self.text("from"), self.text("from_event")) {
            (Some(_), Some(other)) => {
                self.wrong_at(other.place, "an event is made from a table or from another event, not both");
                None
            }
            (Some(from), None) => {
                let on = self.on();
                let table =
                    TableName::parse(&from.text).map_err(|message| self.wrong_at(from.place, message)).ok();
                Some(Origin::Table { from: table?, on: on? })
            }
            (None, Some(parent)) => {
                if self.table.contains_key("on") {
                    self.wrong(
                        "on",
                        "an event made by from_event comes whenever the other does; leave `on` out",
                    );
                }
                let name =
                    TypeName::parse(&parent.text).map_err(|message| self.wrong_at(parent.place, message));
                name.ok().map(Origin::Event)
            }
            (None, None) => {
                if !self.table.contains_key("from") && !self.table.contains_key("from_event") {
                    self.wrong("type", "says nothing of where it comes from; add from = \"schema.table\" or from_event = \"…\"");
                }
                None
            }
        }
    }

    fn on(&mut self) -> Option<Vec<Trigger>> {
        let Some(text) = self.text("on") else {
            return (!self.table.contains_key("on")).then(|| vec![Trigger::Insert]);
        };
        on::parse(&text.text).map_err(|(at, message)| self.wrong_at(text.place_of(at), message)).ok()
    }

    fn id(&mut self) -> Id {
        match self.text("id") {
            None => Id::Change,
            Some(text) if text.text == "change" => Id::Change,
            Some(text) if text.text == "key" => Id::Key,
            Some(text) => Id::Given(text),
        }
    }

    fn deprecated(&mut self) -> Option<Deprecated> {
        let item = self.table.get("deprecated")?;
        let Some(table) = item.as_table_like() else {
            self.wrong(
                "deprecated",
                "write deprecated = { since = \"2026-11-01\", sunset = \"2027-05-01\", use = \"…\" }",
            );
            return None;
        };
        let mut known = HashMap::new();
        for (key, item) in table.iter() {
            let text =
                item.as_str().map(str::to_owned).or_else(|| item.as_datetime().map(ToString::to_string));
            match (key, text) {
                ("since" | "sunset", Some(text)) if !is_date(&text) => {
                    self.wrong(
                        "deprecated",
                        format!("{key} = {text:?} is not a day, such as \"2026-11-01\""),
                    );
                }
                ("since" | "sunset" | "use", Some(text)) => {
                    known.insert(key.to_owned(), text);
                }
                ("since" | "sunset" | "use", None) => {
                    self.wrong("deprecated", format!("{key} must be a text"));
                }
                _ => self.wrong("deprecated", format!("unknown key {key:?}; known are since, sunset, use")),
            }
        }
        let Some(since) = known.remove("since") else {
            if !table.contains_key("since") {
                self.wrong("deprecated", "since when? Add since = \"2026-11-01\"");
            }
            return None;
        };
        let sunset = known.remove("sunset");
        if sunset.as_ref().is_some_and(|sunset| *sunset < since) {
            self.wrong("deprecated", "the sunset lies before the day since when it is deprecated");
        }
        Some(Deprecated { since, sunset, instead: known.remove("use") })
    }

    pub(super) fn text(&mut self, key: &str) -> Option<SourceText> {
        let item = self.table.get(key)?;
        let span =
            item.span().unwrap_or_else(|| Range { start: self.key_offset(key), end: self.key_offset(key) });
        match item.as_value() {
            Some(Value::String(text)) if text.value().trim().is_empty() => {
                self.wrong(key, format!("{key} is empty; leave it out"));
                None
            }
            Some(Value::String(text)) => {
                Some(SourceText::new(text.value().clone(), self.file, span.start, span.end))
            }
            _ => {
                self.wrong(key, format!("{key} must be a text in quotes, not {}", item.type_name()));
                None
            }
        }
    }

    pub(super) fn texts(&mut self, key: &str) -> Vec<String> {
        let Some(item) = self.table.get(key) else { return Vec::new() };
        let list = item
            .as_array()
            .map(|array| array.iter().map(|value| value.as_str().map(str::to_owned)).collect());
        list.flatten().unwrap_or_else(|| {
            self.wrong(key, format!("{key} must be a list of texts"));
            Vec::new()
        })
    }
}

/// `YYYY-MM-DD`; such texts compare as their days do.
fn is_date(text: &str) -> bool {
    let shape = text.bytes().map(|b| if b.is_ascii_digit() { b'0' } else { b }).eq(*b"0000-00-00");
    let part = |range: Range<usize>| text.get(range).and_then(|part| part.parse::<u16>().ok()).unwrap_or(0);
    let (year, month, day) = (part(0..4), part(5..7), part(8..10));
    let days = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 0,
    };
    shape && year > 0 && (1..=days).contains(&day)
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
