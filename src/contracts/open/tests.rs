//! The open form of locked and of given schemas.

use serde_json::json;

use super::*;

#[test]
fn schema_allows_added_fields_and_references_are_relocated() {
    let given = json!({
        "$id": "x", "type": "object", "additionalProperties": false, "title": "It happened", "maxProperties": 3,
        "properties": {
            "$ref": {"$ref": "#/definitions/a", "title": "Of another"},
            "list": {"items": {"additionalProperties": false, "default": {"$ref": "#"}}},
            "chosen": {"oneOf": [{"additionalProperties": false}, {"$ref": "#"}], "not": {"type": "null"}}
        },
        "definitions": {"a": {"type": "object", "additionalProperties": false, "properties": {"b": {"title": "Beta"}}}}
    });
    let mut moved = schema(given.as_object().unwrap(), "ShopOrderV1", None);
    move_to(&mut moved, "#/components/schemas/x");
    assert_eq!(
        moved,
        json!({
            "type": "object", "title": "ShopOrderV1", "description": "It happened",
            "properties": {
                "$ref": {"$ref": "#/components/schemas/x/definitions/a", "description": "Of another"},
                "list": {"items": {"default": {"$ref": "#"}}},
                "chosen": {"anyOf": [true, {"$ref": "#/components/schemas/x"}]}
            },
            "definitions": {"a": {"type": "object", "title": "ShopOrderV1A",
                "properties": {"b": {"description": "Beta", "anyOf": [true]}}}}
        })
    );
}

#[test]
fn locked_schema_becomes_simple_keywords() {
    let locked = json!({
        "$schema": "http://json-schema.org/draft-07/schema#", "$id": "urn:x", "title": "A plate has passed.",
        "type": "object", "additionalProperties": false, "x-event": "lab.plate_completed.v2", "x-version": "2.1",
        "x-key": ["plate_id"], "examples": [{"plate_id": 42}], "required": ["plate_id"],
        "properties": {
            "plate_id": {"type": "integer", "format": "int16", "x-type": "smallint", "description": "number"},
            "volume": {"type": ["number", "string", "null"], "pattern": "^NaN$", "x-format": "decimal"},
            "details": {"x-type": "jsonb", "description": "what the device wrote"},
            "state": {"type": ["string", "null"], "x-known-values": ["a", "b"]},
            "place": {"type": ["object", "null"], "additionalProperties": false, "required": ["no"],
                      "properties": {"no": {"type": ["string", "null"]}}},
            "tags": {"type": "array", "items": {}}
        }
    });
    assert_eq!(
        document(&locked, Some("https://s.example/1.json")),
        json!({
            "$schema": "http://json-schema.org/draft-07/schema#", "$id": "https://s.example/1.json",
            "$comment": "Contract 2.1 of lab.plate_completed.v2, open for readers: fields may be added.",
            "title": "LabPlateCompletedV2", "description": "A plate has passed.", "type": "object",
            "examples": [{"plate_id": 42}], "required": ["plate_id"],
            "properties": {
                "plate_id": {"type": "integer", "minimum": -32768, "maximum": 32767, "description": "number"},
                "volume": {"anyOf": [{"type": "number"}, {"type": "string", "pattern": "^NaN$"}, {"type": "null"}]},
                "details": {"anyOf": [true], "description": "what the device wrote"},
                "state": {"type": ["string", "null"], "description": "Known values: a, b."},
                "place": {"anyOf": [
                    {"type": "object", "title": "LabPlateCompletedV2Place", "required": ["no"],
                     "properties": {"no": {"type": ["string", "null"]}}},
                    {"type": "null"}
                ]},
                "tags": {"type": "array", "items": true}
            }
        })
    );
}

#[test]
fn class_names_hold_in_every_language() {
    for (event_type, expected) in [
        ("lab.plate_completed.v2", "LabPlateCompletedV2"),
        ("lab.\"a b\".inserted.v1", "LabABInsertedV1"),
        ("7days.x.v1", "Event7daysXV1"),
        ("lab.Plä.v1", "LabPlU228V1"),
    ] {
        assert_eq!(class_name(event_type), expected);
    }
}
