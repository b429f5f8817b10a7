//! Writes rules as TOML, to be pasted.

use std::fmt::Write as _;

use serde_json::Value;

use crate::contracts::check::properties;
use crate::contracts::lock::Locked;
use crate::contracts::meaning::MeaningTerm;
use crate::rules::{IdRule, Origin, Rule, SourceText, TypeName};

/// A rule under another event type.
pub(super) fn written(rule: &Rule, name: &TypeName) -> String {
    let mut text = head(rule, name);
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

/// The rule that was locked, from its meaning. `None`: an older version locked it.
pub(super) fn restored(rule: &Rule, locked: &Locked) -> Option<String> {
    let meaning = locked.meaning.as_ref()?;
    let [source] = &meaning.sources[..] else { return None };
    let mut text = head(rule, &rule.event_type);
    add(&mut text, format_args!("from       = {}", quoted(&source.from)));
    add(&mut text, format_args!("on         = {}", quoted(&source.on_words())));
    let mut sql = |key: &str, terms: &[MeaningTerm], between: &str| {
        let mut texts: Vec<&str> = terms.iter().map(|term| term.sql.as_str()).collect();
        texts.dedup();
        if !texts.is_empty() {
            add(&mut text, format_args!("{key:<10} = {}", block(&texts.join(between))));
        }
    };
    // The conditions of the event, and of the event that it is made from.
    sql("when", &source.when, " and ");
    sql("key", &source.key, ", ");
    sql("subject", source.subject.as_slice(), ", ");
    sql("time", source.time.as_slice(), ", ");
    match source.id.as_str() {
        "key" => add(&mut text, format_args!("id         = \"key\"")),
        "given" => sql("id", &source.id_of, ", "),
        _ => {}
    }
    let description = |name: &str| properties(locked.newest()).get(name)?.get("description")?.as_str();
    let item = |(name, term): (&String, &MeaningTerm)| {
        let id = identifier(name);
        let item = if term.sql == id { id } else { format!("{} as {id}", term.sql) };
        (item, description(name))
    };
    let list = items(&source.data.iter().map(item).collect::<Vec<_>>());
    add(&mut text, format_args!("data       = \"\"\"\n{list}\"\"\""));
    Some(text)
}

/// The old version, made from the new one with this list.
pub(super) fn derived(rule: &Rule, next: &TypeName, list: &str) -> String {
    let mut text = head(rule, &rule.event_type);
    add(&mut text, format_args!("from_event = \"{next}\"\ndata       = \"\"\"\n{list}\"\"\""));
    text
}

/// The description, owner and consumers of a rule.
fn head(rule: &Rule, name: &TypeName) -> String {
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
    text
}

/// The items of a select list, one a line, with comments.
pub(super) fn items(items: &[(String, Option<&str>)]) -> String {
    let mut text = String::new();
    for (nth, (item, comment)) in items.iter().enumerate() {
        let comma = if nth + 1 < items.len() { "," } else { "" };
        let comment = comment
            .map(|comment| format!("  -- {}", comment.split_whitespace().collect::<Vec<_>>().join(" ")));
        add(&mut text, format_args!("  {item}{comma}{}", comment.unwrap_or_default()));
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
pub(super) fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// A name in SQL.
pub(super) fn identifier(name: &str) -> String {
    let plain = name.starts_with(|first: char| first.is_ascii_lowercase() || first == '_')
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    if plain { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

pub(super) fn add(text: &mut String, line: std::fmt::Arguments<'_>) {
    let written = writeln!(text, "{line}");
    debug_assert!(written.is_ok(), "writing to a String cannot fail");
}
