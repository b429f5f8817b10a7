//! Pairs of schemas: what may become of one inside a major version, and what may not.

use serde_json::json;

use super::*;

fn judged(was: &Value, now: &Value) -> (Vec<String>, Vec<String>) {
    let compared = compare(was, now.as_object().unwrap());
    (compared.differences, compared.added)
}

#[test]
fn what_readers_of_the_old_schema_know_is_no_difference() {
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
        (json!({"additionalProperties": false}), json!({}), &["(fields without a name)"]),
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
    ] {
        let (differences, found) = judged(&was, &now);
        assert!(differences.is_empty() && found == added, "{was} {now}: {differences:?} {found:?}");
        // What is locked next takes old and new, and finds nothing more.
        let next = next(&was, &now);
        assert_eq!(judged(&next, &now), (vec![], vec![]), "{was} {now} {next}");
        let readers = judged(&was, &next).0;
        assert!(readers.is_empty(), "{was} {next}: {readers:?}");
    }
}

#[test]
fn everything_else_is_told_with_its_place() {
    for (was, now, expected) in [
        (json!({"properties": {"a": {}}}), json!({}), "field a is gone"),
        (json!({"type": "integer"}), json!({"type": "number"}), "the payload was integer, and is number"),
        (json!({"type": "integer"}), json!({}), "the payload was integer, and is any JSON value"),
        (json!({"type": "string"}), json!({"type": ["string", "null"]}), "was string, and is null or string"),
        (json!({"type": "string"}), json!({"const": 7}), "was string, and is integer"),
        (
            json!({"properties": {"a": {}}, "required": ["a"]}),
            json!({"properties": {"a": {}}}),
            "field a was always there, and can be missing",
        ),
        (json!({"enum": ["a"]}), json!({"enum": ["a", "b"]}), "can have values that it could not: \"b\""),
        (json!({"type": "string", "enum": ["a"]}), json!({"type": "string"}), "had named values only"),
        (json!({"minimum": 1}), json!({"minimum": 0}), "had minimum 1, and has it 0"),
        (json!({"maxItems": 1}), json!({}), "had maxItems 1, and has it not any more"),
        (json!({"format": "uuid"}), json!({"format": "date"}), "had format \"uuid\", and has it \"date\""),
        (
            json!({"properties": {"l": {"items": {"properties": {"a": {"type": "string"}}}}}}),
            json!({"properties": {"l": {"items": {"properties": {"a": {"type": "null"}}}}}}),
            "field l[].a was string, and is null",
        ),
        (json!({"items": {}}), json!({"items": [{}]}), "has changed in items"),
        (
            json!({"oneOf": [{"type": "string"}]}),
            json!({"oneOf": [{"type": "null"}]}),
            "has changed in oneOf",
        ),
        // A field that is called like a remark is a field.
        (
            json!({"not": {"properties": {"title": {"const": 1}}}}),
            json!({"not": {"properties": {}}}),
            "has changed in not",
        ),
        (json!({}), json!({"if": {}}), "has changed in if"),
        (json!({"patternProperties": {"a": {}}}), json!({}), "has changed in patternProperties"),
        (json!({"unheard": 1}), json!({"unheard": 2}), "has changed in unheard"),
        (json!({"properties": {"a": false}}), json!({"properties": {"a": {}}}), "field a has changed"),
        (
            json!({"additionalProperties": {"type": "string"}}),
            json!({"additionalProperties": {"type": "string"}, "properties": {"a": {"type": "null"}}}),
            "has changed in additionalProperties",
        ),
        (
            json!({"additionalProperties": {"type": "string"}}),
            json!({}),
            "field * was string, and is any JSON value",
        ),
        (
            json!({"properties": {"a": {"$ref": "#/definitions/o"}}, "definitions": {"o": {"type": "string"}}}),
            json!({"properties": {"a": {"$ref": "#/definitions/o"}}, "definitions": {"o": {"type": "null"}}}),
            "field definitions/o was string",
        ),
        (
            json!({"oneOf": [{"$ref": "#/definitions/o"}], "definitions": {"o": {}}}),
            json!({"oneOf": [{"$ref": "#/definitions/o"}], "definitions": {"o": {"type": "null"}}}),
            "has changed in definitions, with oneOf",
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
fn the_next_minor_takes_what_was_published_before() {
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
