//! What was locked, at hand while events are made: a table may change under a running daemon, and what its events would be then
//! is judged as at a start.

use std::sync::Arc;

use crate::change::{Described, Relation};
use crate::rules::{Origin, OutboxOrigin, Rule, Rules};
use crate::translate::{Guard, Settings};

use super::check::{What, check};
use super::lock::Lock;
use super::model::Model;

/// Judges descriptions of tables by these contracts.
pub(super) fn guard(source: String, settings: &Settings, lock: Lock) -> Guard {
    let settings = settings.clone();
    Guard::new(move |relation| judge(&source, &settings, &lock, relation))
}

fn judge(source: &str, settings: &Settings, lock: &Lock, relation: &Relation) -> Result<(), String> {
    // Its rows are older than a column: rules read NULL, and the locked form is that of newer ones.
    if !relation.absent.is_empty() {
        return Ok(());
    }
    let comments = vec![None; relation.columns.len()];
    let table = Described { relation: relation.clone(), comment: None, comments };
    let own = Settings { rules: Arc::new(of_table(&settings.rules, relation)), ..settings.clone() };
    // Rules that do not fit the table any more are told by those who compile them.
    let Ok(model) = Model::new(source, None, &own, std::slice::from_ref(&table)) else { return Ok(()) };
    let mut broken = Vec::new();
    for finding in check(&model, lock, "") {
        match finding.what {
            // What others make too cannot be judged by this table alone.
            What::Broken { .. } | What::Added(_)
                if elsewhere(&settings.rules, &finding.event_type, relation) => {}
            What::Broken { differences, .. } => {
                broken.push(format!("{}: {}", finding.event_type, differences.join("; ")));
            }
            What::Added(fields) => tracing::warn!(
                event_type = finding.event_type,
                fields = fields.join(", "),
                "an event has new fields that are not locked: run `forebay events lock` before the next start, which they would stop"
            ),
            What::NotLocked | What::Gone { .. } | What::Sunset(_) => {}
        }
    }
    if broken.is_empty() {
        return Ok(());
    }
    Err(format!(
        "not what was locked: {}. `forebay events check --database` says the rules to write",
        broken.join(". ")
    ))
}

fn reads(rules: &Rules, rule: &Rule, relation: &Relation) -> bool {
    rules.roots_of(rule).any(|(_, root)| is_of(root, relation))
}

fn is_of(root: &Rule, relation: &Relation) -> bool {
    matches!(&root.origin, Origin::Table { from, .. } if from.schema == relation.schema && from.table == relation.table)
}

/// The rules that a table has a part in.
fn of_table(rules: &Rules, relation: &Relation) -> Rules {
    let mut own = rules.clone();
    let mut kept = rules.events.iter().map(|rule| reads(rules, rule, relation));
    own.events.retain(|_| kept.next().unwrap_or_default());
    own.outboxes.retain(|outbox| {
        matches!(&outbox.origin, OutboxOrigin::Table { table, .. } if table.schema == relation.schema && table.table == relation.table)
    });
    own
}

/// Whether another table has a part in an event.
fn elsewhere(rules: &Rules, event_type: &str, relation: &Relation) -> bool {
    let makes = rules.events.iter().filter(|rule| rule.event_type.as_str() == event_type);
    makes.flat_map(|rule| rules.roots_of(rule)).any(|(_, root)| !is_of(root, relation))
}
