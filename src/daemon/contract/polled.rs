//! Rules that ask for what a poll does not see.

use crate::config::TableName;
use crate::rules::{Origin, Rule, RuleError, Rules, Trigger, Wrong};
use crate::source::postgres::polling::cursor::CursorKind;
use crate::source::postgres::polling::table::PolledTable;

pub(super) fn missing(name: &TableName) -> Wrong {
    (format!("{name} is not polled"), "Add it to source.tables.").into()
}

/// Errors of all rules and outboxes that would never get what they name.
pub(super) fn unseen(rules: &Rules, polled: &[PolledTable]) -> Vec<RuleError> {
    let mut errors: Vec<RuleError> =
        rules.events.iter().filter_map(|rule| Some(error(rule, &reason(rule, polled)?))).collect();
    for outbox in rules.outboxes.iter().filter(|outbox| outbox.reads_messages()) {
        let message = "polling does not see logical messages; write events to a table instead".to_owned();
        errors.push(RuleError::new(Some(outbox.place.clone()), Some(outbox.name()), message));
    }
    errors
}

fn reason(rule: &Rule, polled: &[PolledTable]) -> Option<String> {
    let Origin::Table { from, on } = &rule.origin else { return None };
    let table = polled.iter().find(|table| table.name == *from)?;
    for trigger in on {
        match trigger {
            Trigger::Delete => {
                return Some(format!(
                    "polling does not see deletes; remove delete from on, and let {from} mark deleted rows instead"
                ));
            }
            Trigger::Update { of } if !of.is_empty() => {
                return Some(
                    "polling does not see the row before an update, so it cannot tell which columns differ; write on = \
                     \"insert, update\""
                        .to_owned(),
                );
            }
            Trigger::Insert | Trigger::Update { .. } => {}
        }
    }
    let updates = table.cursor.kind == CursorKind::UpdatedAt;
    let comes = on.iter().any(|trigger| matches!(trigger, Trigger::Update { .. }) == updates);
    (!comes).then(|| {
        let (what, kind) = (if updates { "updates" } else { "inserts" }, table.cursor.kind.name());
        format!("polling sees all rows of {from} as {what}, because of its {kind} cursor; write on = \"insert, update\"")
    })
}

fn error(rule: &Rule, message: &str) -> RuleError {
    RuleError::new(Some(rule.place.clone()), Some(rule.event_type.to_string()), message)
}
