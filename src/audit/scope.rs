//! Which events of a table can be compared with its rows, and which properties. Does no I/O.

use crate::change::Relation;
use crate::rules::{Origin, Rule, Trigger};
use crate::translate::Translator;

use super::entry::EntryKind;

/// A group of events that are compared with the rows of the table by their subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AuditScope {
    /// `lab.plates.*`, or the type of a rule's events.
    pub(super) events: String,
    /// The table's name, for automatic events.
    table: Option<String>,
    /// Whether the newest event has the values of the row.
    pub(super) values: bool,
    /// Whether deletes of rows have an event in this scope.
    pub(super) deletes: bool,
}

impl AuditScope {
    /// A description of the comparison, for the report.
    pub(super) const fn compared(&self) -> &'static str {
        match (self.values, self.deletes) {
            (true, true) => "the values of every row, and that there are no others",
            (true, false) => "the values of every row that makes an event",
            (false, _) => "that every row has had an event",
        }
    }

    /// What an event of this type shows about its row. `None`: the event is not in this scope.
    pub(super) fn kind(&self, event_type: &str) -> Option<EntryKind> {
        let Some(table) = &self.table else {
            return (event_type == self.events).then_some(EntryKind::Present);
        };
        match event_type.strip_prefix(table.as_str())?.strip_prefix('.')? {
            "inserted.v1" | "updated.v1" => Some(EntryKind::Present),
            "deleted.v1" => Some(EntryKind::Deleted),
            _ => None,
        }
    }

    /// Whether the event shows that the table was truncated.
    pub(super) fn is_truncation(&self, event_type: &str) -> bool {
        let table = self.table.as_deref().and_then(|table| event_type.strip_prefix(table));
        table == Some(".truncated.v1")
    }
}

/// The scopes of a table, and the reasons why its other events cannot be compared.
pub(super) fn scopes(translator: &Translator, relation: &Relation) -> (Vec<AuditScope>, Vec<String>) {
    let (mut scopes, mut notes) = (Vec::new(), Vec::new());
    let name = relation.name();
    let automatic = translator.automatic_operations(relation);
    if relation.key().is_empty() {
        notes.push(format!("{name} has no key: its events cannot be followed row by row"));
    } else if automatic.insert && automatic.update {
        let events = format!("{name}.*");
        scopes.push(AuditScope { events, table: Some(name), values: true, deletes: automatic.delete });
        if !automatic.delete {
            notes.push(
                "rules replace the automatic event of a DELETE: keys without a row are not judged".to_owned(),
            );
        }
    } else {
        let why = "automatic events are not compared: rules, or events.automatic, leave out those of INSERT or UPDATE";
        notes.push(why.to_owned());
    }
    let rules = translator.rules();
    for rule in &rules.events {
        let reads = |(_, root): (usize, &Rule)| {
            let Origin::Table { from, .. } = &root.origin else { return false };
            from.schema == relation.schema && from.table == relation.table
        };
        let mut roots = rules.roots_of(rule).filter(|root| reads(*root));
        let Some((_, root)) = roots.next() else { continue };
        let is_only_one = rules.roots_of(rule).count() == 1;
        match of_rule(rule, root) {
            _ if !is_only_one => {
                notes.push(format!("{}: not compared: several rules make it", rule.event_type));
            }
            Ok(scope) => scopes.push(scope),
            Err(why) => notes.push(format!("{}: not compared: {why}", rule.event_type)),
        }
    }
    (scopes, notes)
}

/// The scope of a rule's events. `root`: the rule that reads the table.
fn of_rule(rule: &Rule, root: &Rule) -> Result<AuditScope, &'static str> {
    let Origin::Table { on, .. } = &root.origin else { return Err("no rule reads the table for it") };
    let texts =
        [&rule.when, &rule.key, &rule.subject, &rule.data, &root.when, &root.key, &root.subject, &root.data];
    let mut texts = texts.into_iter().flatten().map(|text| text.text.to_ascii_lowercase());
    if texts.any(|text| ["old.", "changed("].iter().any(|word| text.contains(word))) {
        return Err("its rule reads the row before the change");
    }
    if !on.contains(&Trigger::Insert) {
        return Err("its rule does not read inserts");
    }
    let every_update = on.iter().any(|trigger| matches!(trigger, Trigger::Update { of } if of.is_empty()));
    let has_condition = rule.when.is_some() || root.when.is_some();
    if has_condition && !every_update {
        return Err("its rule has a condition, and does not read every update");
    }
    Ok(AuditScope { events: rule.event_type.to_string(), table: None, values: every_update, deletes: false })
}
