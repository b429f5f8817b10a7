//! Compares an outbox's schema with the locked one: a payload that is valid now must be valid for consumers
//! of the locked version, except for fields that they ignore.
//!
//! Types, fields, labels and bounds are compared one by one. Other keywords (`oneOf`, `if`, …) are not
//! analysed: adding one is allowed, because it narrows what is valid; any other change in them is a
//! difference.

mod bounds;
mod inline;

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::rules::{inside, inside_mut};

use super::compare::Comparison;

use self::bounds::{is_bound, loosened};
use self::inline::inlined;

type Schema = Map<String, Value>;

/// Annotations, which do not constrain values. `x-…` keywords are annotations as well.
const REMARKS: [&str; 9] =
    ["$schema", "$id", "$comment", "title", "description", "examples", "default", "readOnly", "writeOnly"];

/// Constraints that may be added but not changed.
const FORMS: [&str; 6] =
    ["format", "pattern", "multipleOf", "uniqueItems", "contentEncoding", "contentMediaType"];

/// Constraints that may be added, because an additional one only narrows what is valid. `patternProperties`
/// is not among them, because it takes properties away from `additionalProperties`.
const NARROWING: [&str; 11] = [
    "if",
    "then",
    "else",
    "allOf",
    "anyOf",
    "oneOf",
    "not",
    "dependencies",
    "propertyNames",
    "contains",
    "additionalItems",
];

/// Keywords that are compared one by one.
const KNOWN: [&str; 8] =
    ["type", "enum", "const", "properties", "required", "additionalProperties", "items", "definitions"];

/// Compares the outbox's schema with the locked one.
pub(super) fn compare(locked: &Value, given: &Schema) -> Comparison {
    let given = Value::Object(given.clone());
    let compared = as_written(locked, &given);
    if compared.differences.is_empty() {
        return compared;
    }
    // A definition may have another name, or be written in place of its reference.
    let inlined = inlined(locked).zip(inlined(&given)).map(|(was, now)| as_written(&was, &now));
    inlined.filter(|inlined| inlined.differences.is_empty()).unwrap_or(compared)
}

fn as_written(locked: &Value, given: &Value) -> Comparison {
    let mut judge = Judge::default();
    let either =
        |has: fn(&Schema) -> bool| [locked, given].iter().any(|one| one.as_object().is_some_and(has));
    if bare(locked) != bare(given) && either(has_choice) && either(refers_to_itself) {
        judge.cannot_tell("", "a schema that refers to itself, with oneOf, not or if");
    } else {
        judge.schema("", locked, given);
    }
    Comparison { differences: judge.differences, added: judge.added, ..Comparison::default() }
}

/// The next minor version: the locked schema with the additions. Old events are valid for it too.
pub(in crate::contracts) fn next(locked: &Value, given: &Value) -> Value {
    let next = merged(locked, given);
    let is_whole = |next: &Value| {
        let compared = as_written(next, given);
        compared.differences.is_empty() && compared.added.is_empty()
    };
    if is_whole(&next) {
        return next;
    }
    // Additions in a definition that one side has in place of its reference.
    let inlined = inlined(locked).zip(inlined(given)).map(|(was, now)| merged(&was, &now));
    inlined.unwrap_or(next)
}

fn merged(locked: &Value, given: &Value) -> Value {
    let (Some(was), Some(now)) = (locked.as_object(), given.as_object()) else { return given.clone() };
    if bare(locked) == bare(given) {
        return given.clone();
    }
    let mut next: Schema = was.iter().filter(|(key, _)| !is_remark(key)).map(own).collect();
    next.extend(now.iter().filter(|(key, _)| is_remark(key)).map(own));
    for keyword in ["properties", "definitions"] {
        let (was, now) = (members(was, keyword), members(now, keyword));
        let merged = now.iter().map(|(name, now)| {
            let schema = was.get(name).map_or_else(|| now.clone(), |was| merged(was, now));
            (name.clone(), schema)
        });
        let merged: Schema = was.clone().into_iter().chain(merged).collect();
        if !merged.is_empty() {
            next.insert(keyword.to_owned(), merged.into());
        }
    }
    if let (Some(was @ Value::Object(_)), Some(now @ Value::Object(_))) = (was.get("items"), now.get("items"))
    {
        next.insert("items".to_owned(), merged(was, now));
    }
    let anything = Value::Object(Schema::new());
    match (was.get("additionalProperties"), now.get("additionalProperties").unwrap_or(&anything)) {
        (Some(was @ Value::Object(_)), now @ Value::Object(_)) => {
            next.insert("additionalProperties".to_owned(), merged(was, now));
        }
        (Some(was @ Value::Object(_)), Value::Bool(true)) => {
            next.insert("additionalProperties".to_owned(), merged(was, &anything));
        }
        _ => {}
    }
    if was.get("additionalProperties") == Some(&Value::Bool(false)) {
        match now.get("additionalProperties") {
            Some(now) => next.insert("additionalProperties".to_owned(), now.clone()),
            None => next.remove("additionalProperties"),
        };
    }
    next.into()
}

fn own((key, value): (&String, &Value)) -> (String, Value) {
    (key.clone(), value.clone())
}

fn is_remark(keyword: &str) -> bool {
    REMARKS.contains(&keyword) || keyword.starts_with("x-")
}

/// A schema without annotations.
fn bare(schema: &Value) -> Value {
    let Some(members) = schema.as_object() else { return schema.clone() };
    let mut kept: Schema = members.iter().filter(|(key, _)| !is_remark(key)).map(own).collect();
    for part in inside_mut(&mut kept) {
        *part = bare(part);
    }
    kept.into()
}

fn members<'a>(schema: &'a Schema, keyword: &str) -> &'a Schema {
    static NONE: std::sync::LazyLock<Schema> = std::sync::LazyLock::new(Schema::new);
    schema.get(keyword).and_then(Value::as_object).unwrap_or(&NONE)
}

#[derive(Default)]
struct Judge {
    differences: Vec<String>,
    added: Vec<String>,
}

impl Judge {
    fn schema(&mut self, at: &str, was: &Value, now: &Value) {
        if bare(was) == bare(now) || *was == Value::Bool(true) {
            return;
        }
        let (Some(was), Some(now)) = (was.as_object(), now.as_object()) else {
            return self.cannot_tell(at, "a schema that is true or false");
        };
        if was.contains_key("$ref") || now.contains_key("$ref") {
            // Draft-07 ignores other keywords beside `$ref`, except for definitions.
            if was.get("$ref") != now.get("$ref") {
                self.cannot_tell(at, "$ref");
            }
            return self.definitions(at, was, now);
        }
        self.values(at, was, now);
        self.bounds(at, was, now);
        self.fields(at, was, now);
        self.elements(at, was, now);
        self.definitions(at, was, now);
        let keywords: BTreeSet<&String> = was.keys().chain(now.keys()).collect();
        for keyword in keywords {
            let compared = is_bound(keyword)
                || [&KNOWN[..], &FORMS].iter().any(|known| known.contains(&keyword.as_str()))
                || (!was.contains_key(keyword) && NARROWING.contains(&keyword.as_str()));
            let same = || bare_part(was, keyword) == bare_part(now, keyword);
            if !compared && !is_remark(keyword) && !same() {
                self.cannot_tell(at, keyword);
            }
        }
    }

    fn differs(&mut self, at: &str, what: impl std::fmt::Display) {
        let subject = if at.is_empty() { "the payload".to_owned() } else { format!("field {at}") };
        self.differences.push(format!("{subject} {what}"));
    }

    fn cannot_tell(&mut self, at: &str, keyword: &str) {
        let what = "which cannot be checked for compatibility; publish a new major version";
        self.differs(at, format_args!("changed in {keyword}, {what}"));
    }

    fn values(&mut self, at: &str, was: &Schema, now: &Schema) {
        let (types_were, types_are) = (types(was), types(now));
        if let Some(were) = &types_were {
            let fits = |one: &&str| were.contains(one) || (*one == "integer" && were.contains("number"));
            let all = types_are.as_ref().is_some_and(|are| are.iter().all(fits));
            if !all {
                self.differs(
                    at,
                    format_args!(
                        "changed from {} to {}",
                        shown(types_were.as_ref()),
                        shown(types_are.as_ref())
                    ),
                );
                return;
            }
        }
        match (choices(was), choices(now)) {
            (Some(were), Some(are)) => {
                let more: Vec<String> =
                    are.iter().filter(|one| !were.contains(one)).map(ToString::to_string).collect();
                if !more.is_empty() {
                    self.differs(at, format_args!("can now have the values {}", more.join(", ")));
                }
            }
            (Some(_), None) => self.differs(at, "is no longer limited to listed values"),
            (None, _) => {}
        }
    }

    fn bounds(&mut self, at: &str, was: &Schema, now: &Schema) {
        let shown = |value: Option<&Value>| value.map_or_else(|| "none".to_owned(), ToString::to_string);
        for (keyword, bound) in loosened(was, now) {
            self.differs(at, format_args!("changed {keyword} from {bound} to {}", shown(now.get(keyword))));
        }
        for keyword in FORMS {
            if let Some(form) = was.get(keyword)
                && now.get(keyword) != Some(form)
            {
                self.differs(
                    at,
                    format_args!("changed {keyword} from {form} to {}", shown(now.get(keyword))),
                );
            }
        }
    }

    fn fields(&mut self, at: &str, was: &Schema, now: &Schema) {
        let path = |name: &str| if at.is_empty() { name.to_owned() } else { format!("{at}.{name}") };
        let (were, are) = (members(was, "properties"), members(now, "properties"));
        for (name, was) in were {
            match are.get(name) {
                Some(now) => self.schema(&path(name), was, now),
                None => self.differs(&path(name), "is gone"),
            }
        }
        let new: Vec<String> =
            are.keys().filter(|name| !were.contains_key(*name)).map(|name| path(name)).collect();
        let required = |schema: &Schema| -> Vec<String> {
            let list = schema.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
            list.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect()
        };
        let always = required(now);
        for name in required(was).into_iter().filter(|name| !always.contains(name)) {
            if are.contains_key(&name) || !were.contains_key(&name) {
                self.differs(&path(&name), "can now be absent");
            }
        }
        match (was.get("additionalProperties"), now.get("additionalProperties")) {
            (None | Some(Value::Bool(true)), _) | (Some(Value::Bool(false)), Some(Value::Bool(false))) => {}
            (Some(Value::Bool(false)), _) => self.added.push(path("(unnamed fields)")),
            (Some(of), now) => {
                if !new.is_empty() {
                    self.cannot_tell(at, "additionalProperties");
                }
                match now {
                    Some(Value::Bool(false)) => {}
                    Some(now @ Value::Object(_)) => self.schema(&path("*"), of, now),
                    _ => self.schema(&path("*"), of, &Value::Object(Schema::new())),
                }
            }
        }
        self.added.extend(new);
    }

    fn elements(&mut self, at: &str, was: &Schema, now: &Schema) {
        let path = format!("{at}[]");
        match (was.get("items"), now.get("items")) {
            (None, _) => {}
            (
                Some(was @ (Value::Object(_) | Value::Bool(_))),
                Some(now @ (Value::Object(_) | Value::Bool(_))),
            ) => {
                self.schema(&path, was, now);
            }
            _ if bare_part(was, "items") == bare_part(now, "items") => {}
            (Some(_), _) => self.cannot_tell(at, "items"),
        }
    }

    /// Compares definitions. Where they are used under `oneOf`, `not` or `if`, changes cannot be analysed.
    fn definitions(&mut self, at: &str, was: &Schema, now: &Schema) {
        let (were, are) = (members(was, "definitions"), members(now, "definitions"));
        if were.is_empty() || bare_part(was, "definitions") == bare_part(now, "definitions") {
            return;
        }
        if has_choice(was) || has_choice(now) {
            return self.cannot_tell(at, "definitions, with oneOf, not or if");
        }
        for (name, was) in were {
            match are.get(name) {
                Some(now) => self.schema(&format!("definitions/{name}"), was, now),
                None => self.differs(&format!("definitions/{name}"), "is gone"),
            }
        }
    }
}

/// A keyword without annotations.
fn bare_part(schema: &Schema, keyword: &str) -> Option<Value> {
    let value = schema.get(keyword)?;
    Some(bare(&Value::Object(Schema::from_iter([(keyword.to_owned(), value.clone())]))))
}

fn has_choice(schema: &Schema) -> bool {
    ["oneOf", "not", "if"].iter().any(|keyword| schema.contains_key(*keyword))
        || inside(schema).into_iter().filter_map(Value::as_object).any(has_choice)
}

fn refers_to_itself(schema: &Schema) -> bool {
    schema.get("$ref").is_some_and(|to| to == "#")
        || inside(schema).into_iter().filter_map(Value::as_object).any(refers_to_itself)
}

/// The allowed types; `None`: all.
fn types(schema: &Schema) -> Option<BTreeSet<&str>> {
    match schema.get("type") {
        Some(Value::String(one)) => Some(BTreeSet::from([one.as_str()])),
        Some(Value::Array(several)) => Some(several.iter().filter_map(Value::as_str).collect()),
        _ => choices(schema).map(|choices| choices.into_iter().map(type_of).collect()),
    }
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn shown(types: Option<&BTreeSet<&str>>) -> String {
    types.map_or_else(
        || "any JSON value".to_owned(),
        |types| types.iter().copied().collect::<Vec<_>>().join(" or "),
    )
}

/// The listed values; `None`: not limited to a list.
fn choices(schema: &Schema) -> Option<Vec<&Value>> {
    if let Some(only) = schema.get("const") {
        return Some(vec![only]);
    }
    schema.get("enum").and_then(Value::as_array).map(|list| list.iter().collect())
}

#[cfg(test)]
mod random;
#[cfg(test)]
mod tests;
