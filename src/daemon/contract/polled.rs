//! Rejects rules that need what a poll cannot see.

use crate::config::TableName;
use crate::rules::{Origin, Rule, RuleError, Rules, Trigger, Wrong};
use crate::source::postgres::polling::cursor::CursorKind;
use crate::source::postgres::polling::table::PolledTable;

const BOTH: &str = "Write on = \"insert, update\".";

pub(super) fn missing(name: &TableName) -> Wrong {
    (format!("{name} is not polled"), "Add it to source.tables.").into()
}

/// Errors of all rules and outboxes that need changes which a poll never sees.
pub(super) fn unseen(rules: &Rules, polled: &[PolledTable]) -> Vec<RuleError> {
    let mut errors: Vec<RuleError> =
        rules.events.iter().filter_map(|rule| Some(error(rule, reason(rule, polled)?))).collect();
    for outbox in rules.outboxes.iter().filter(|outbox| outbox.reads_messages()) {
        let wrong = ("polling does not see logical messages", "Write the events to a table instead.");
        errors.push(RuleError::new(Some(outbox.place.clone()), Some(outbox.name()), wrong));
    }
    errors
}

fn reason(rule: &Rule, polled: &[PolledTable]) -> Option<Wrong> {
    let Origin::Table { from, on } = &rule.origin else { return None };
    let table = polled.iter().find(|table| table.name == *from)?;
    for trigger in on {
        match trigger {
            Trigger::Delete => {
                let hint = format!("Remove delete from on, and let {from} mark deleted rows instead.");
                return Some(("polling does not see deletes", hint).into());
            }
            Trigger::Update { of } if !of.is_empty() => {
                let message = "polling does not see the row before an update, nor which columns differ";
                return Some((message, BOTH).into());
            }
            Trigger::Insert | Trigger::Update { .. } => {}
        }
    }
    let updates = table.cursor.kind == CursorKind::UpdatedAt;
    let comes = on.iter().any(|trigger| matches!(trigger, Trigger::Update { .. }) == updates);
    (!comes).then(|| {
        let (what, kind) = (if updates { "updates" } else { "inserts" }, table.cursor.kind.name());
        (format!("polling sees all rows of {from} as {what}, because of its {kind} cursor"), BOTH).into()
    })
}

fn error(rule: &Rule, wrong: Wrong) -> RuleError {
    RuleError::new(Some(rule.place.clone()), Some(rule.event_type.to_string()), wrong)
}
