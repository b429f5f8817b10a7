//! Pairs of schemas: which changes are allowed inside a major version.

use serde_json::json;

use super::*;

fn judged(was: &Value, now: &Value) -> (Vec<String>, Vec<String>) {
    let compared = compare(was, now.as_object().unwrap());
    (compared.differences, compared.added)
}

#[test]
fn compatible_schema_change_is_no_difference() {
    for (was, now, added) in [
        (
            json!({"type": "object", "title": "a", "$id": "x"}),
            json!({"type": "object", "title": "b", "x-own": 1}),
            &[][..],
        ),
        (json!({"properties": {}}), json!({"properties": {"a": {"type": "string"}}}), &["a"]),
        (json!({"properties": {"title": {}}}), json!({"properties": {"title": {}, "x-a": {}}}), &["x-a"]),
        (
            json!({"properties": {"lines": {"items": {"properties": {"sku": {}}}}}}),
            json!({"properties": {"lines": {"items": {"properties": {"sku": {}, "nr": {}}, "required": ["nr"]}}}}),
            &["lines[].nr"],
        ),
        (json!({"type": ["integer", "null"]}), json!({"type": "integer"}), &[]),
        (json!({"type": "number"}), json!({"type": "integer", "minimum": 3}), &[]),
        (json!({"type": "string"}), json!({"enum": ["a"]}), &[]),
        (json!({"enum": ["a", "b"]}), json!({"const": "b"}), &[]),
        (
            json!({"minimum": 1, "maximum": 9, "maxLength": 4}),
            json!({"minimum": 2, "maximum": 9, "maxLength": 3}),
            &[],
        ),
        (
            json!({"additionalProperties": false}),
            json!({"additionalProperties": false, "properties": {"a": {}}}),
            &["a"],
        ),
        (json!({"additionalProperties": false}), json!({}), &["(unnamed fields)"]),
        (
            json!({"additionalProperties": {"type": "number"}}),
            json!({"additionalProperties": {"type": "integer"}}),
            &[],
        ),
        (
            json!({"$ref": "#/definitions/o", "definitions": {"o": {"properties": {}}}}),
            json!({"$ref": "#/definitions/o", "definitions": {"o": {"properties": {"a": {"title": "A"}}}}}),
            &["definitions/o.a"],
        ),
        (json!({"oneOf": [{"title": "a"}]}), json!({"oneOf": [{"title": "b"}]}), &[]),
        (json!({}), json!({"if": {"required": ["a"]}, "then": {"required": ["b"]}}), &[]),
        (json!({"type": "integer", "maximum": 5}), json!({"type": "integer", "exclusiveMaximum": 6}), &[]),
        (json!({"type": "number"}), json!({"type": "integer", "exclusiveMinimum": 6}), &[]),
        (json!({"type": "number", "minimum": 5}), json!({"type": "number", "exclusiveMinimum": 5}), &[]),
        (
            json!({"properties": {"a": {"type": "object", "properties": {"x": {"type": "integer"}}}}}),
            json!({"properties": {"a": {"$ref": "#/definitions/A"}},
                   "definitions": {"A": {"type": "object", "properties": {"x": {"type": "integer"}, "y": {}}}}}),
            &["a.y"],
        ),
        (
            json!({"properties": {"a": {"$ref": "#/definitions/A"}}, "definitions": {"A": {"type": "string"}}}),
            json!({"properties": {"a": {"$ref": "#/definitions/B"}}, "definitions": {"B": {"type": "string"}}}),
            &[],
        ),
    ] {
        let (differences, found) = judged(&was, &now);
        assert!(differences.is_empty() && found == added, "{was} {now}: {differences:?} {found:?}");
        // The next locked version accepts old and new payloads, and the check then finds nothing.
        let next = next(&was, &now);
        assert_eq!(judged(&next, &now), (vec![], vec![]), "{was} {now} {next}");
        let readers = judged(&was, &next).0;
        assert!(readers.is_empty(), "{was} {next}: {readers:?}");
    }
}

#[test]
fn incompatible_schema_change_is_reported_with_its_place() {
    for (was, now, expected) in [
        (json!({"properties": {"a": {}}}), json!({}), "field a is gone"),
        (json!({"type": "integer"}), json!({"type": "number"}), "the payload changed from integer to number"),
        (json!({"type": "integer"}), json!({}), "the payload changed from integer to any JSON value"),
        (
            json!({"type": "string"}),
            json!({"type": ["string", "null"]}),
            "changed from string to null or string",
        ),
        (json!({"type": "string"}), json!({"const": 7}), "changed from string to integer"),
        (
            json!({"properties": {"a": {}}, "required": ["a"]}),
            json!({"properties": {"a": {}}}),
            "field a can now be absent",
        ),
        (json!({"enum": ["a"]}), json!({"enum": ["a", "b"]}), "can now have the values \"b\""),
        (json!({"type": "string", "enum": ["a"]}), json!({"type": "string"}), "is no longer limited"),
        (json!({"minimum": 1}), json!({"minimum": 0}), "changed minimum from 1 to 0"),
        (json!({"maxItems": 1}), json!({}), "changed maxItems from 1 to none"),
        (json!({"format": "uuid"}), json!({"format": "date"}), "changed format from \"uuid\" to \"date\""),
        (
            json!({"properties": {"l": {"items": {"properties": {"a": {"type": "string"}}}}}}),
            json!({"properties": {"l": {"items": {"properties": {"a": {"type": "null"}}}}}}),
            "field l[].a changed from string to null",
        ),
        (json!({"items": {}}), json!({"items": [{}]}), "changed in items"),
        (json!({"oneOf": [{"type": "string"}]}), json!({"oneOf": [{"type": "null"}]}), "changed in oneOf"),
        // A field named like an annotation is a field.
        (
            json!({"not": {"properties": {"title": {"const": 1}}}}),
            json!({"not": {"properties": {}}}),
            "changed in not",
        ),
        (json!({"if": {}}), json!({"if": {"type": "null"}}), "changed in if"),
        (json!({"if": {}}), json!({}), "changed in if"),
        (json!({"patternProperties": {"a": {}}}), json!({}), "changed in patternProperties"),
        (json!({"unheard": 1}), json!({"unheard": 2}), "changed in unheard"),
        (json!({"properties": {"a": false}}), json!({"properties": {"a": {}}}), "field a changed in"),
        (
            json!({"additionalProperties": {"type": "string"}}),
            json!({"additionalProperties": {"type": "string"}, "properties": {"a": {"type": "null"}}}),
            "changed in additionalProperties",
        ),
        (
            json!({"additionalProperties": {"type": "string"}}),
            json!({}),
            "field * changed from string to any JSON value",
        ),
        (
            json!({"properties": {"a": {"$ref": "#/definitions/o"}}, "definitions": {"o": {"type": "string"}}}),
            json!({"properties": {"a": {"$ref": "#/definitions/o"}}, "definitions": {"o": {"type": "null"}}}),
            "field definitions/o changed from string",
        ),
        (
            json!({"oneOf": [{"$ref": "#/definitions/o"}], "definitions": {"o": {}}}),
            json!({"oneOf": [{"$ref": "#/definitions/o"}], "definitions": {"o": {"type": "null"}}}),
            "changed in definitions, with oneOf",
        ),
        (
            json!({"not": {"items": {"$ref": "#"}}, "minimum": 1}),
            json!({"not": {"items": {"$ref": "#"}}, "minimum": 2}),
            "refers to itself",
        ),
    ] {
        let (differences, _) = judged(&was, &now);
        assert!(differences.iter().any(|one| one.contains(expected)), "{was} {now}: {differences:?}");
    }
}

#[test]
fn loosened_bound_or_freed_property_is_reported() {
    for (was, now, expected) in [
        (
            json!({"type": "number", "maximum": 5}),
            json!({"type": "number", "exclusiveMaximum": 6}),
            "changed maximum",
        ),
        (
            json!({"type": "integer", "maximum": 5}),
            json!({"type": "integer", "exclusiveMaximum": 7}),
            "changed maximum",
        ),
        (json!({"exclusiveMaximum": 5}), json!({"maximum": 5}), "changed exclusiveMaximum from 5 to none"),
        (json!({}), json!({"patternProperties": {"a": {}}}), "changed in patternProperties"),
    ] {
        let (differences, _) = judged(&was, &now);
        assert!(differences.iter().any(|one| one.contains(expected)), "{was} {now}: {differences:?}");
    }
}

#[test]
fn next_minor_accepts_earlier_payloads() {
    let was = json!({
        "type": "object", "title": "old", "properties": {"a": {"type": ["string", "null"]}}, "required": ["a"],
        "additionalProperties": false
    });
    let now = json!({
        "type": "object", "title": "new", "properties": {"a": {"type": "string", "description": "A"}, "b": {"type": "null"}},
        "required": ["a", "b"], "additionalProperties": false
    });
    assert_eq!(
        next(&was, &now),
        json!({
            "type": "object", "title": "new",
            "properties": {"a": {"type": ["string", "null"], "description": "A"}, "b": {"type": "null"}},
            "required": ["a"], "additionalProperties": false
        })
    );
}
