//! Counts the events and errors of a preview, by rule and by outbox.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::config::TableName;
use crate::contracts::trial::On;
use crate::rules::{Origin, Outbox, Rules, Trigger, TypeName};

/// Counts of a preview.
pub(crate) struct Tally {
    rules: Vec<Counted>,
    outboxes: Vec<OutboxCounts>,
}

/// Counts of an outbox.
struct OutboxCounts {
    name: String,
    tried: u64,
    made: usize,
    failures: BTreeMap<String, u64>,
}

struct Counted {
    event_type: String,
    table: TableName,
    on: Vec<On>,
    tried: u64,
    made: u64,
    failures: BTreeMap<String, u64>,
}

impl Tally {
    pub(super) fn of(rules: &Rules, only: Option<&str>) -> Self {
        let mut counted: Vec<Counted> = Vec::new();
        for rule in &rules.events {
            let event_type = rule.event_type.as_str();
            if only.is_some_and(|only| only != event_type) {
                continue;
            }
            for (_, root) in rules.roots_of(rule) {
                let Origin::Table { from, on } = &root.origin else { continue };
                let on = on.iter().map(|trigger| match trigger {
                    Trigger::Insert => On::Insert,
                    Trigger::Update { .. } => On::Update,
                    Trigger::Delete => On::Delete,
                });
                counted.push(Counted {
                    event_type: event_type.to_owned(),
                    table: from.clone(),
                    on: on.collect(),
                    tried: 0,
                    made: 0,
                    failures: BTreeMap::new(),
                });
            }
        }
        let brought = |outbox: &Outbox| OutboxCounts {
            name: outbox.name(),
            tried: 0,
            made: 0,
            failures: BTreeMap::new(),
        };
        let can_make = |outbox: &&Outbox| only.is_none_or(|only| can_make(outbox, only));
        Self { rules: counted, outboxes: rules.outboxes.iter().filter(can_make).map(brought).collect() }
    }

    /// Whether a rule on this table makes events of this type.
    pub(super) fn may_make(&self, event_type: &str, table: &TableName) -> bool {
        self.rules.iter().any(|rule| rule.event_type == event_type && rule.table == *table)
    }

    /// Counts the result of an outbox row or message.
    pub(super) fn of_application(&mut self, outbox: &str, made: usize, reason: Option<&str>) {
        let Some(brought) = self.outboxes.iter_mut().find(|brought| brought.name == outbox) else { return };
        brought.tried += 1;
        brought.made += made;
        if let Some(reason) = reason {
            *brought.failures.entry(reason.to_owned()).or_default() += 1;
        }
    }

    /// The final report: one text per rule and outbox.
    pub(super) fn report(&self, what: &str) -> Vec<String> {
        let rules = self.rules.iter().map(|rule| {
            let unwanted = rule.tried.saturating_sub(rule.made + rule.failures.values().sum::<u64>());
            let head = format!(
                "{}: {} {what} of {}, {} events, {unwanted} filtered out",
                rule.event_type, rule.tried, rule.table, rule.made
            );
            with_failures(head, &rule.failures)
        });
        let outboxes = self.outboxes.iter().map(|brought| {
            let head = format!("{}: {} inserted, {} events", brought.name, brought.tried, brought.made);
            with_failures(head, &brought.failures)
        });
        rules.chain(outboxes).collect()
    }

    /// The operations of a table that rules read.
    pub(super) fn operations(&self, table: &TableName) -> Vec<On> {
        let all = [On::Insert, On::Update, On::Delete];
        let about = |on: &On| self.rules.iter().any(|rule| rule.table == *table && rule.on.contains(on));
        all.into_iter().filter(about).collect()
    }

    pub(super) fn tried(&mut self, table: &TableName, on: On) {
        let about = |rule: &&mut Counted| rule.table == *table && rule.on.contains(&on);
        self.rules.iter_mut().filter(about).for_each(|rule| rule.tried += 1);
    }

    fn of_type(&mut self, table: &TableName, event_type: &str) -> Option<&mut Counted> {
        self.rules.iter_mut().find(|rule| rule.table == *table && rule.event_type == event_type)
    }

    /// Counts an event. Returns whether a rule made it.
    pub(super) fn made(&mut self, table: &TableName, event_type: &str) -> bool {
        let Some(rule) = self.of_type(table, event_type) else { return false };
        rule.made += 1;
        true
    }

    pub(super) fn failed(&mut self, table: &TableName, event_type: &str, reason: &str) {
        if let Some(rule) = self.of_type(table, event_type) {
            *rule.failures.entry(reason.to_owned()).or_default() += 1;
        }
    }
}

fn with_failures(mut text: String, failures: &BTreeMap<String, u64>) -> String {
    for (reason, count) in failures {
        let written = write!(text, "\n    failed at {count}: {reason}");
        debug_assert!(written.is_ok(), "writing to a String cannot fail");
    }
    text
}

/// Whether an outbox may make events of a type.
pub(super) fn can_make(outbox: &Outbox, event_type: &str) -> bool {
    TypeName::parse(event_type).is_ok_and(|name| outbox.template.may_make(&name))
}
