//! Schemas of composite values: an attribute may be added, as a field may.

use serde_json::{Map, Value};

/// Which side may have attributes that the other does not have.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Excess {
    /// The schema of the values. They have attributes that were added later, which consumers ignore.
    Present,
    /// The locked schema. The values lack attributes that were added later, and have no others, because the
    /// schema is closed.
    Locked,
}

/// Whether values of the schema `now` are valid for consumers of `was`. Neither schema has annotations.
pub(super) fn fits(was: &Value, now: &Value, excess: Excess) -> bool {
    let (Some(was), Some(now)) = (was.as_object(), now.as_object()) else { return was == now };
    let same = |keyword: &str| was.get(keyword) == now.get(keyword);
    let plain = was.keys().chain(now.keys()).all(|keyword| match keyword.as_str() {
        "properties" | "required" | "items" => true,
        keyword => same(keyword),
    });
    let items = match (was.get("items"), now.get("items")) {
        (Some(was), Some(now)) => fits(was, now, excess),
        (was, now) => was == now,
    };
    let attributes = match (attributes(was), attributes(now)) {
        (Some(before), Some(after)) => {
            let (fewer, more) = if excess == Excess::Present { (before, after) } else { (after, before) };
            let known = fewer.keys().all(|name| {
                before.get(name).zip(after.get(name)).is_some_and(|(was, now)| fits(was, now, excess))
            });
            let given = |name: &String| after.contains_key(name);
            let demanded = if excess == Excess::Present {
                required(was).iter().all(|name| required(now).contains(name))
            } else {
                required(was).iter().all(given)
            };
            known && demanded && more.len() >= fewer.len()
        }
        _ => same("properties") && same("required"),
    };
    plain && items && attributes
}

/// Paths of the attributes that only the present schema has.
pub(super) fn added(at: &str, was: &Value, now: &Value, found: &mut Vec<String>) {
    let (Some(was), Some(now)) = (was.as_object(), now.as_object()) else { return };
    if let (Some(was), Some(now)) = (was.get("items"), now.get("items")) {
        added(at, was, now, found);
    }
    if let (Some(before), Some(after)) = (attributes(was), attributes(now)) {
        for (name, now) in after {
            let path = format!("{at}.{name}");
            match before.get(name) {
                Some(was) => added(&path, was, now, found),
                None => found.push(path),
            }
        }
    }
}

/// Removes attributes from `required` that values of earlier versions lack.
pub(super) fn keep_absent(next: &mut Map<String, Value>, was: &Map<String, Value>) {
    if let (Some(Value::Object(next)), Some(Value::Object(was))) = (next.get_mut("items"), was.get("items")) {
        keep_absent(next, was);
    }
    if attributes(next).is_none() || attributes(was).is_none() {
        return;
    }
    let always = required(was);
    if let Some(Value::Array(required)) = next.get_mut("required") {
        required.retain(|name| name.as_str().is_some_and(|name| always.iter().any(|one| one == name)));
    }
    if let Some(Value::Object(next)) = next.get_mut("properties") {
        for (name, schema) in next {
            let earlier = attributes(was).and_then(|was| was.get(name)).and_then(Value::as_object);
            if let (Value::Object(schema), Some(earlier)) = (schema, earlier) {
                keep_absent(schema, earlier);
            }
        }
    }
}

fn attributes(schema: &Map<String, Value>) -> Option<&Map<String, Value>> {
    schema.get("properties")?.as_object()
}

fn required(schema: &Map<String, Value>) -> Vec<String> {
    let list = schema.get("required").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    list.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect()
}
