//! The advice for a difference: rules to paste, so that both versions are published.

use std::fmt::Write as _;

use serde_json::Value;

use crate::contracts::lock::Locked;
use crate::contracts::model::{EventModel, Model};
use crate::rules::{IdRule, Origin, Rule, SourceText, TypeName};

use super::compare::{self, Fate, properties};

pub(super) fn advice(model: &Model, event: &EventModel, locked: &Locked, today: &str) -> String {
    let rule = event.rule.and_then(|nth| model.rules.events.get(nth));
    if let Some(payload) = &event.payload {
        return of_payload(event, &payload.file);
    }
    match rule {
        None => of_automatic(event, locked),
        Some(Rule { origin: Origin::Event(parent), .. }) => {
            let list = select(event, locked.newest());
            format!(
                "It is made from {parent}: add the locked fields there, or here in its data:\n\ndata = \
                 \"\"\"\n{list}\"\"\"\n"
            )
        }
        Some(rule) => of_rule(model, (event, rule), locked, today),
    }
}

fn of_rule(model: &Model, (event, rule): (&EventModel, &Rule), locked: &Locked, today: &str) -> String {
    let taken = model.events.iter().filter(|other| other.stem == event.stem).map(|other| other.major);
    let next = rule.event_type.with_major(taken.max().unwrap_or(event.major) + 1);
    let new = written(rule, &next);
    let old = &event.event_type;
    if event.origins.len() > 1 {
        return format!(
            "Consumers of {old} rely on the locked contract. Restore its rules, and publish the new form \
             as {next}.\n"
        );
    }
    if compare::orders_differ(event, locked.newest()) {
        return format!(
            "Consumers of {old} rely on its order. Restore its rule, and publish the new form in \
             addition:\n\n{new}"
        );
    }
    let list = select(event, locked.newest());
    let mut text = format!(
        "Consumers of {old} rely on the locked contract. Publish both until they have moved: replace the \
         rule with\n\n\
         {new}\n[[event]]\ntype       = \"{old}\"\n"
    );
    if let Some(about) = &rule.about {
        add(&mut text, format_args!("about      = {}", quoted(about)));
    }
    if let Some(owner) = &rule.owner {
        add(&mut text, format_args!("owner      = {}", quoted(owner)));
    }
    add(&mut text, format_args!("from_event = \"{next}\"\ndata       = \"\"\"\n{list}\"\"\""));
    add(&mut text, format_args!("deprecated = {{ since = \"{today}\", use = \"{next}\" }}"));
    text
}

fn of_payload(event: &EventModel, file: &str) -> String {
    let (old, next) = (&event.event_type, format!("{}.v{}", event.stem, event.major + 1));
    let new_file = file.replace(old.as_str(), &next);
    format!(
        "Consumers of {old} rely on the locked contract. Restore {file}, and add a schema for the new \
         form, {new_file}. The application publishes both {old} and {next} until they have moved.\n"
    )
}

fn of_automatic(event: &EventModel, locked: &Locked) -> String {
    let list = select(event, locked.newest());
    let (table, on) =
        event.origins.first().map_or(("", ""), |origin| (origin.table.as_str(), origin.on.as_str()));
    let name = TypeName::parse(&event.event_type)
        .map_or_else(|_| "a.name_of_the_business.v1".to_owned(), |name| name.to_string());
    format!(
        "The table of a locked automatic event has changed. This rule keeps the locked form (if \
         events.automatic = \"also\", choose another type):\n\n\
         [[event]]\ntype = \"{name}\"\nfrom = {}\non   = \"{on}\"\ndata = \"\"\"\n{list}\"\"\"\n",
        quoted(table)
    )
}

/// A select list that produces the locked fields from the current ones.
fn select(event: &EventModel, locked: &Value) -> String {
    let mut items: Vec<(String, Option<String>)> = Vec::new();
    let mut lost = String::new();
    for (name, was) in properties(locked) {
        let sql = was.get("x-type").and_then(Value::as_str).unwrap_or("text");
        let (id, said) = (identifier(name), |what: &str| Some(what.to_owned()));
        match compare::fate(event, locked, name) {
            Fate::Kept => items.push((id, None)),
            Fate::Gone(Some(now)) => items.push((format!("{} as {id}", identifier(&now)), said("renamed?"))),
            Fate::Retyped => items.push((format!("({id})::{sql} as {id}"), said("as locked"))),
            Fate::Weaker => {
                items.push((id.clone(), Some(format!("was always present: coalesce({id}, …) as {id}"))));
            }
            Fate::Gone(None) => {
                add(&mut lost, format_args!("  -- {id} ({sql}) is gone: … as {id}"));
            }
        }
    }
    let mut text = lost;
    let count = items.len();
    for (nth, (item, comment)) in items.into_iter().enumerate() {
        let comma = if nth + 1 < count { "," } else { "" };
        let comment = comment.map(|comment| format!("  -- {comment}")).unwrap_or_default();
        add(&mut text, format_args!("  {item}{comma}{comment}"));
    }
    text
}

/// A rule under another event type.
fn written(rule: &Rule, name: &TypeName) -> String {
    let mut text = format!("[[event]]\ntype       = \"{name}\"\n");
    for (key, value) in [("about", &rule.about), ("owner", &rule.owner)] {
        if let Some(value) = value {
            add(&mut text, format_args!("{key:<10} = {}", quoted(value)));
        }
    }
    if !rule.consumers.is_empty() {
        let consumers: Vec<String> = rule.consumers.iter().map(|consumer| quoted(consumer)).collect();
        add(&mut text, format_args!("consumers  = [{}]", consumers.join(", ")));
    }
    if let Origin::Table { from, on } = &rule.origin {
        let on: Vec<String> = on.iter().map(crate::contracts::model::words).collect();
        add(&mut text, format_args!("from       = {}", quoted(&from.to_string())));
        add(&mut text, format_args!("on         = {}", quoted(&on.join(", "))));
    }
    let mut sql = |key: &str, value: Option<&SourceText>| {
        if let Some(value) = value {
            add(&mut text, format_args!("{key:<10} = {}", block(&value.text)));
        }
    };
    sql("when", rule.when.as_ref());
    sql("key", rule.key.as_ref());
    sql("subject", rule.subject.as_ref());
    sql("time", rule.time.as_ref());
    match &rule.id {
        IdRule::Change => {}
        IdRule::Key => add(&mut text, format_args!("id         = \"key\"")),
        IdRule::Given(id) => add(&mut text, format_args!("id         = {}", block(&id.text))),
    }
    if let Some(data) = &rule.data {
        add(&mut text, format_args!("data       = {}", block(&data.text)));
    }
    text
}

/// SQL as a TOML string, without escapes if possible.
fn block(sql: &str) -> String {
    if !sql.contains('\n') {
        return quoted(sql);
    }
    let body = format!("\n{}\n", sql.trim_start_matches(['\r', '\n']).trim_end());
    if !body.contains('\\') && !body.contains("\"\"\"") {
        return format!("\"\"\"{body}\"\"\"");
    }
    if body.contains("'''") { quoted(sql) } else { format!("'''{body}'''") }
}

/// A TOML basic string, which has the form of a JSON string.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// A name in SQL.
fn identifier(name: &str) -> String {
    let plain = name.starts_with(|first: char| first.is_ascii_lowercase() || first == '_')
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    if plain { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

fn add(text: &mut String, line: std::fmt::Arguments<'_>) {
    let written = writeln!(text, "{line}");
    debug_assert!(written.is_ok(), "writing to a String cannot fail");
}
