//! Finds fields of one object whose names differ only by case. `DuckDB`, Spark and Athena ignore case: they
//! treat them as one column, or cannot read the table. Names that are already locked are part of the contract
//! and are not reported again.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use crate::rules::inside;

/// The names that only the new schema has in two spellings within one object, as `"Name" and "name"`.
pub(super) fn of_schema(schema: &Value, locked: Option<&Value>) -> Vec<String> {
    let mut found = BTreeSet::new();
    find(schema, &mut found);
    let mut known = BTreeSet::new();
    if let Some(locked) = locked {
        find(locked, &mut known);
    }
    found.difference(&known).cloned().collect()
}

/// The parser limits the depth of a schema, and so the recursion.
fn find(schema: &Value, found: &mut BTreeSet<String>) {
    let Some(members) = schema.as_object() else { return };
    found.extend(members.get("properties").and_then(Value::as_object).into_iter().flat_map(of_object));
    for part in inside(members) {
        find(part, found);
    }
}

fn of_object(properties: &Map<String, Value>) -> Vec<String> {
    let mut spellings: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for name in properties.keys() {
        spellings.entry(name.to_lowercase()).or_default().push(name);
    }
    let twins = spellings.into_values().filter(|names| names.len() > 1);
    twins
        .map(|names| names.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(" and "))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn spellings_of_one_object_are_found_at_any_depth() {
        let inner = json!({"type": "object", "properties": {"Straße": {}, "STRASSE": {}, "Ä": {}, "ä": {}}});
        let schema = json!({
            "properties": {"a": {"items": inner}, "b": {"properties": {"A": {}}}, "x": {"const": {"X": 1, "x": 1}}},
            "definitions": {"A": {}, "a": {"properties": {"no": {}, "No": {}, "NO": {}}}}
        });
        assert_eq!(of_schema(&schema, None), ["\"NO\" and \"No\" and \"no\"", "\"Ä\" and \"ä\""]);
        assert_eq!(of_schema(&schema, Some(&schema)), [""; 0]);
    }
}
