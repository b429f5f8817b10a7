//! The hint for a difference: rules to paste, so that both versions are published. The text is tried first:
//! with it, the locked contract must hold. If no text satisfies the contract, the hint lists what a person
//! must complete.

mod written;

use serde_json::Value;

use crate::contracts::lock::Locked;
use crate::contracts::model::{EventModel, Model};
use crate::rules::{Origin, Rule, TypeName};

use super::compare::{self, Fate, properties};
use written::{add, identifier, quoted, restored, written};

pub(super) fn advice(model: &Model, event: &EventModel, locked: &Locked, today: &str) -> String {
    let rule = event.rule.and_then(|nth| Some((nth, model.rules.events.get(nth)?)));
    if let Some(payload) = &event.payload {
        return of_payload(event, &payload.file);
    }
    if model.with_full_identity().is_ok_and(|full| holds(&full, locked)) {
        return of_identity(event);
    }
    match rule {
        None => of_automatic(model, event, locked),
        Some((_, Rule { origin: Origin::Event(parent), .. })) => {
            let SelectList { list, left } = select(event, locked, true);
            format!(
                "It is made from {parent}: add the locked fields there, or here in its data:\n\ndata = \
                 \"\"\"\n{list}\"\"\"\n{}",
                completed(&left)
            )
        }
        Some((nth, rule)) => of_rule(model, event, (nth, rule), locked, today),
    }
}

/// Whether nothing differs from the contract.
fn holds(model: &Model, locked: &Locked) -> bool {
    let Some(event) = model.event(&locked.event_type) else { return false };
    let compared = super::compared(event, locked);
    compared.differences.is_empty() && compared.changed.is_empty() && compared.added.is_empty()
}

fn of_identity(event: &EventModel) -> String {
    let mut text = "The replica identity no longer provides what was locked. Run\n".to_owned();
    for table in event.origins.iter().map(|origin| &origin.table).filter(|table| !table.is_empty()) {
        add(&mut text, format_args!("    ALTER TABLE {table} REPLICA IDENTITY FULL;"));
    }
    text
}

fn of_rule(
    model: &Model,
    event: &EventModel,
    (nth, rule): (usize, &Rule),
    locked: &Locked,
    today: &str,
) -> String {
    let taken = model.events.iter().filter(|other| other.stem == event.stem).map(|other| other.major);
    let next = rule.event_type.with_major(taken.max().unwrap_or(event.major) + 1);
    let old = &event.event_type;
    if event.origins.len() > 1 {
        return format!(
            "Consumers of {old} rely on the locked contract. Restore its rules, and publish the new form \
             as {next}.\n"
        );
    }
    let new = written(rule, &next);
    let deprecated = format!("deprecated = {{ since = \"{today}\", use = \"{next}\" }}\n");
    let try_both = |old: &str| {
        let both = format!("{new}\n{old}{deprecated}");
        model.with_rule(nth, &both).is_ok_and(|model| holds(&model, locked)).then_some(both)
    };
    let head = format!(
        "Consumers of {old} rely on the locked contract. Publish both until they have moved: replace the \
         rule with\n\n"
    );
    if let Some(both) = restored(rule, locked).and_then(|old| try_both(&old)) {
        return head + &both;
    }
    let SelectList { list, left } = select(event, locked, true);
    let derived = written::derived(rule, &next, &list);
    if let Some(both) = Some(&derived).filter(|_| left.is_empty()).and_then(|old| try_both(old)) {
        return head + &both;
    }
    if !compare_orders(event, locked).is_empty() {
        return format!(
            "Consumers of {old} rely on its order. Restore its rule, and publish the new form in \
             addition:\n\n{new}"
        );
    }
    let SelectList { list, left } = select(event, locked, false);
    let derived = written::derived(rule, &next, &list);
    format!("{head}{new}\n{derived}{deprecated}{}", completed(&left))
}

/// The differences in key, subject, time and id.
fn compare_orders(event: &EventModel, locked: &Locked) -> Vec<String> {
    let of_meaning =
        |difference: &String| difference.starts_with("its ") || difference.starts_with("the type of its ");
    super::compared(event, locked).differences.into_iter().filter(of_meaning).collect()
}

/// What a person must add to a text.
fn completed(left: &[String]) -> String {
    if left.is_empty() {
        return String::new();
    }
    let mut text = "\nComplete it first, where it says `…`:\n".to_owned();
    for line in left {
        add(&mut text, format_args!("  - {line}"));
    }
    text.push_str(
        "A value of another origin is another meaning: then run `forebay events lock --accept \"why\"`.\n",
    );
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

fn of_automatic(model: &Model, event: &EventModel, locked: &Locked) -> String {
    let (table, on) =
        event.origins.first().map_or(("", ""), |origin| (origin.table.as_str(), origin.on.as_str()));
    let name = TypeName::parse(&event.event_type)
        .map_or_else(|_| "a.name_of_the_business.v1".to_owned(), |name| name.to_string());
    let rule = |list: &str| {
        let table = quoted(table);
        format!(
            "[[event]]\ntype = \"{name}\"\nfrom = {table}\non   = \"{on}\"\ndata = \"\"\"\n{list}\"\"\"\n"
        )
    };
    let head = "The table of a locked automatic event has changed. This rule keeps the locked form";
    let SelectList { list, left } = select(event, locked, true);
    let cast = rule(&list);
    let last = model.rules.events.len();
    let fits = |model: Model| {
        let event = model.event(&locked.event_type).map(|event| super::compared(event, locked));
        event.is_some_and(|compared| compared.differences.is_empty())
    };
    if left.is_empty() && model.with_rule(last, &cast).is_ok_and(fits) {
        return format!("{head}:\n\n{cast}");
    }
    let SelectList { list, left } = select(event, locked, false);
    format!(
        "{head} (if events.automatic = \"also\", choose another type):\n\n{}{}",
        rule(&list),
        completed(&left)
    )
}

/// A select list.
struct SelectList {
    /// Its text.
    list: String,
    /// What a person must complete.
    left: Vec<String>,
}

/// A select list that produces the locked fields from the current ones. A comment would be published as the
/// meaning of its field, so there are only those that were locked. `casts`: whether a cast may restore a
/// type.
fn select(event: &EventModel, locked: &Locked, casts: bool) -> SelectList {
    let retyped = super::compared(event, locked).retyped;
    let locked = locked.newest();
    let mut items: Vec<(String, Option<&str>)> = Vec::new();
    let mut left = Vec::new();
    for (name, was) in properties(locked) {
        let sql = was.get("x-type").and_then(Value::as_str).unwrap_or("text");
        let meaning = was.get("description").and_then(Value::as_str);
        let id = identifier(name);
        let fate = match compare::fate(event, locked, name) {
            Fate::Kept if retyped.contains(name) => Fate::Retyped,
            fate => fate,
        };
        match fate {
            Fate::Kept => items.push((id, None)),
            Fate::Gone(Some(now)) => items.push((format!("{} as {id}", identifier(&now)), meaning)),
            Fate::Retyped if casts => items.push((format!("({id})::{sql} as {id}"), None)),
            Fate::Retyped => {
                left.push(format!("{id} was of type {sql}: what has that value now?"));
                items.push((format!("… as {id}"), meaning));
            }
            Fate::Weaker => {
                left.push(format!("{id} was always there: which value has it when it is missing or null?"));
                items.push((format!("coalesce({id}, …) as {id}"), None));
            }
            Fate::Gone(None) => {
                left.push(format!("{id} ({sql}) is gone: what has its value now?"));
                items.push((format!("… as {id}"), meaning));
            }
        }
    }
    SelectList { list: written::items(&items), left }
}
