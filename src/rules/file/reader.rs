//! Reads the keys of one `[[event]]`. Each error has its position.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use toml_edit::{Table, Value};

use crate::config::TableName;
use crate::rules::error::{FilePosition, RuleError, SourceFile, SourceText, Wrong};
use crate::rules::on::{self, Trigger};
use crate::rules::rule::{Deprecated, IdRule, Origin, Rule};
use crate::rules::type_name::TypeName;

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

pub(super) struct RuleReader<'a> {
    pub(super) file: &'a Arc<SourceFile>,
    pub(super) table: &'a Table,
    pub(super) event: Option<String>,
    pub(super) errors: &'a mut Vec<RuleError>,
}

impl RuleReader<'_> {
    pub(super) fn place(&self, offset: usize) -> FilePosition {
        FilePosition { file: Arc::clone(self.file), offset }
    }

    pub(super) fn wrong_at(&mut self, place: FilePosition, wrong: impl Into<Wrong>) {
        self.errors.push(RuleError::new(Some(place), self.event.clone(), wrong));
    }

    pub(super) fn wrong(&mut self, key: &str, wrong: impl Into<Wrong>) {
        let offset = self.key_offset(key);
        self.wrong_at(self.place(offset), wrong);
    }

    fn key_offset(&self, key: &str) -> usize {
        let span = self.table.key(key).and_then(toml_edit::Key::span);
        span.or_else(|| self.table.span()).map_or(0, |span| span.start)
    }

    pub(super) fn rule(&mut self) -> Option<Rule> {
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
                        (
                            format!("an event with from_event takes the {key} of its source event"),
                            "remove it",
                        ),
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
                || format!("valid keys are {}", known.join(", ")),
                |near| format!("did you mean {near:?}?"),
            );
            self.wrong(&key, (format!("unknown key {key:?}"), hint));
        }
    }

    fn event_type(&mut self, text: Option<SourceText>) -> Option<TypeName> {
        let Some(text) = text else {
            if !self.table.contains_key("type") {
                self.wrong("type", ("missing type", "add for example type = \"lab.plate_completed.v1\""));
            }
            return None;
        };
        TypeName::parse(&text.text).map_err(|message| self.wrong_at(text.place, message)).ok()
    }

    fn origin(&mut self) -> Option<Origin> {
        match (self.text("from"), self.text("from_event")) {
            (Some(_), Some(other)) => {
                self.wrong_at(other.place, ("from and from_event exclude each other", "remove one of them"));
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
                        ("an event with from_event is made whenever its source event is", "remove `on`"),
                    );
                }
                let name =
                    TypeName::parse(&parent.text).map_err(|message| self.wrong_at(parent.place, message));
                name.ok().map(Origin::Event)
            }
            (None, None) => {
                if !self.table.contains_key("from") && !self.table.contains_key("from_event") {
                    self.wrong(
                        "type",
                        ("missing source", "add from = \"schema.table\" or from_event = \"…\""),
                    );
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

    fn id(&mut self) -> IdRule {
        match self.text("id") {
            None => IdRule::Change,
            Some(text) if text.text == "change" => IdRule::Change,
            Some(text) if text.text == "key" => IdRule::Key,
            Some(text) => IdRule::Given(text),
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
                        format!("{key} = {text:?} is not a date such as \"2026-11-01\""),
                    );
                }
                ("since" | "sunset" | "use", Some(text)) => {
                    known.insert(key.to_owned(), text);
                }
                ("since" | "sunset" | "use", None) => {
                    self.wrong("deprecated", format!("{key} must be a string"));
                }
                _ => self.wrong(
                    "deprecated",
                    (format!("unknown key {key:?}"), "valid keys are since, sunset, use"),
                ),
            }
        }
        let Some(since) = known.remove("since") else {
            if !table.contains_key("since") {
                self.wrong("deprecated", ("missing date", "add since = \"2026-11-01\""));
            }
            return None;
        };
        let sunset = known.remove("sunset");
        if sunset.as_ref().is_some_and(|sunset| *sunset < since) {
            self.wrong("deprecated", "sunset is before since");
        }
        Some(Deprecated { since, sunset, instead: known.remove("use") })
    }

    pub(super) fn text(&mut self, key: &str) -> Option<SourceText> {
        let item = self.table.get(key)?;
        let span =
            item.span().unwrap_or_else(|| Range { start: self.key_offset(key), end: self.key_offset(key) });
        match item.as_value() {
            Some(Value::String(text)) if text.value().trim().is_empty() => {
                let hint = match key {
                    "type" => "write for example \"lab.plate_completed.v1\"",
                    "from" => "write schema.table, such as \"public.orders\"",
                    _ => "remove it",
                };
                self.wrong(key, (format!("{key} is empty"), hint));
                None
            }
            Some(Value::String(text)) => {
                Some(SourceText::new(text.value().clone(), self.file, span.start, span.end))
            }
            _ => {
                self.wrong(key, format!("{key} must be a string in quotes, not {}", item.type_name()));
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
            self.wrong(key, format!("{key} must be an array of strings"));
            Vec::new()
        })
    }
}

/// Whether a text is a date `YYYY-MM-DD`. Such texts sort like their dates.
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
