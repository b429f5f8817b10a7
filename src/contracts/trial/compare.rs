//! Compares the expected and actual events of a case, line by line.

use serde_json::Value as Json;

use crate::event::Records;
use crate::translate::Failed;

use super::fixture::{Expected, ExpectedEvent};

/// The differences between expected and actual; empty if there are none.
pub(super) fn differences(expected: &Expected, records: &Records, failed: &[Failed]) -> Vec<String> {
    let mut out = Vec::new();
    failures(expected, failed, &mut out);
    let Some(events) = &expected.events else { return out };
    let came: Vec<Json> = match records.iter().map(|record| serde_json::from_slice(record.line)).collect() {
        Ok(came) => came,
        Err(error) => {
            out.push(format!("the event is not valid JSON: {error}"));
            return out;
        }
    };
    let wanted: Vec<&str> = events.iter().map(|event| event.event_type.as_str()).collect();
    let types: Vec<&str> = came.iter().map(|event| text(event, "type")).collect();
    if wanted != types {
        out.push(format!("expected {}", list(&wanted)));
        out.push(format!("came     {}", list(&types)));
        out.extend(came.iter().map(|event| {
            let data = event.get("data").unwrap_or(&Json::Null);
            format!("  {}: {data}", text(event, "type"))
        }));
        return out;
    }
    for (nth, (event, came)) in events.iter().zip(&came).enumerate() {
        let mut lines = Vec::new();
        compare_event(event, came, &mut lines);
        if !lines.is_empty() {
            out.push(format!("event {} of {}, {}:", nth + 1, types.len(), event.event_type));
            out.extend(lines.into_iter().map(|line| format!("  {line}")));
        }
    }
    out
}

fn failures(expected: &Expected, failed: &[Failed], out: &mut Vec<String>) {
    let described = |failed: &Failed| format!("{} failed: {}", failed.event_type, failed.reason);
    match &expected.fails {
        None => out.extend(failed.iter().map(described)),
        Some(part) if failed.iter().any(|failed| described(failed).contains(part.as_str())) => {}
        Some(part) if failed.is_empty() => {
            out.push(format!("expected a failure with {part:?}, but no event failed"));
        }
        Some(part) => {
            out.push(format!("expected a failure with {part:?}"));
            out.extend(failed.iter().map(|failed| format!("came     {}", described(failed))));
        }
    }
}

fn list(types: &[&str]) -> String {
    if types.is_empty() { "no event".to_owned() } else { types.join(", ") }
}

fn text<'a>(event: &'a Json, name: &str) -> &'a str {
    event.get(name).and_then(Json::as_str).unwrap_or_default()
}

fn compare_event(expected: &ExpectedEvent, came: &Json, out: &mut Vec<String>) {
    let attributes = [
        ("key", &expected.key, "partitionkey"),
        ("subject", &expected.subject, "subject"),
        ("time", &expected.time, "time"),
    ];
    for (name, wanted, attribute) in attributes {
        let found = text(came, attribute);
        if let Some(wanted) = wanted
            && wanted != found
        {
            out.push(format!("{name}: expected {wanted:?}, came {found:?}"));
        }
    }
    let wanted = expected.unavailable.join(",");
    let found = text(came, "unavailable");
    if wanted != found && !(expected.contains && wanted.is_empty()) {
        out.push(format!("unavailable: expected {wanted:?}, came {found:?}"));
    }
    if let Some(data) = &expected.data {
        compare("data", data, came.get("data").unwrap_or(&Json::Null), expected.contains, out);
    }
}

/// Adds the differences below `path`.
fn compare(path: &str, expected: &Json, came: &Json, contains: bool, out: &mut Vec<String>) {
    match (expected, came) {
        (Json::Object(expected), Json::Object(came)) => {
            for (name, wanted) in expected {
                match came.get(name) {
                    Some(found) => compare(&format!("{path}.{name}"), wanted, found, contains, out),
                    None => out.push(format!("{path}.{name}: expected {wanted}, got nothing")),
                }
            }
            let more = came.iter().filter(|(name, _)| !contains && !expected.contains_key(*name));
            out.extend(more.map(|(name, found)| format!("{path}.{name}: unexpected {found}")));
        }
        (Json::Array(wanted), Json::Array(found)) if wanted.len() == found.len() => {
            for (nth, (wanted, found)) in wanted.iter().zip(found).enumerate() {
                compare(&format!("{path}[{nth}]"), wanted, found, contains, out);
            }
        }
        (wanted, found) if same(wanted, found) => {}
        (wanted, found) => out.push(format!("{path}: expected {wanted}, came {found}")),
    }
}

/// Whether two values are equal: 12.5 equals 12.500.
fn same(one: &Json, other: &Json) -> bool {
    match (one, other) {
        (Json::Number(one), Json::Number(other)) if !(one.is_f64() || other.is_f64()) => one == other,
        (Json::Number(one), Json::Number(other)) => one
            .as_f64()
            .zip(other.as_f64())
            .is_some_and(|(one, other)| one.partial_cmp(&other) == Some(std::cmp::Ordering::Equal)),
        _ => one == other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn difference_names_its_place() {
        for (expected, came, contains, lines) in [
            (json!({"a": 1}), json!({"a": 1}), false, &[][..]),
            (json!({"a": 12.5}), json!({"a": 12.500}), false, &[]),
            (json!({"a": 1}), json!({"a": 1.0}), false, &[]),
            (json!({"a": 1}), json!({"a": "1"}), false, &["d.a: expected 1, came \"1\""]),
            (
                json!({"a": 9_007_199_254_740_993_i64}),
                json!({"a": 9_007_199_254_740_992_i64}),
                false,
                &["d.a: expected 9007199254740993, came 9007199254740992"],
            ),
            (json!({"a": 1}), json!({"b": 2}), false, &["d.a: expected 1, got nothing", "d.b: unexpected 2"]),
            (json!({"a": null}), json!({}), true, &["d.a: expected null, got nothing"]),
            (json!({"a": {"b": 1}}), json!({"a": {"b": 1, "c": 2}, "x": 3}), true, &[]),
            (json!({"a": {"b": 1}}), json!({"a": {"b": 1, "c": 2}}), false, &["d.a.c: unexpected 2"]),
            (json!({"a": [1, 2]}), json!({"a": [1, 3]}), true, &["d.a[1]: expected 2, came 3"]),
            (json!({"a": [1]}), json!({"a": [1, 3]}), true, &["d.a: expected [1], came [1,3]"]),
        ] {
            let mut out = Vec::new();
            compare("d", &expected, &came, contains, &mut out);
            assert_eq!(out, lines, "{expected} {came}");
        }
    }
}
