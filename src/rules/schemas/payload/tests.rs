//! The text is validated like its tree.

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn node(text: &str) -> PayloadNode<'_> {
    PayloadNode::At(text)
}

/// The tree of the text.
fn tree(node: PayloadNode<'_>) -> Value {
    match node.json_type() {
        JsonType::Object => {
            let members = node.as_object().unwrap().members();
            members
                .map(|(name, value)| (name.into_owned(), tree(value)))
                .collect::<serde_json::Map<_, _>>()
                .into()
        }
        JsonType::Array => node.as_array().unwrap().elements().map(tree).collect::<Vec<_>>().into(),
        JsonType::String => node.as_string().unwrap().into_owned().into(),
        JsonType::Boolean => node.as_boolean().unwrap().into(),
        JsonType::Null => Value::Null,
        _ => node.as_number().unwrap().into(),
    }
}

fn documents() -> impl Strategy<Value = Value> {
    let text = || prop::sample::select(vec!["", "a", "\"", "\\", "é\n", "}", "],\"", "\\u00e9", "b"]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        prop::sample::select(vec![0_i64, 1, -1, 7, i64::MAX, i64::MIN]).prop_map(Value::from),
        prop::sample::select(vec![0.0, 1.0, -0.0, 1.5, 1e300, 7.0]).prop_map(Value::from),
        text().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((text().prop_map(str::to_owned), inner), 0..4)
                .prop_map(|members| members.into_iter().collect::<serde_json::Map<_, _>>().into()),
        ]
    })
}

proptest! {
    #[test]
    fn text_is_read_and_compared_as_its_tree(document in documents(), other in documents()) {
        let text = document.to_string();
        prop_assert_eq!(tree(node(&text)), document.clone());
        prop_assert!(node(&text).equals_value(&document));
        prop_assert_eq!(node(&text).equals_value(&other), cmp::equal(&document, &other));
        let both = json!([document, other]).to_string();
        let unique = node(&both).as_array().unwrap().is_unique();
        prop_assert_eq!(unique, !cmp::equal(&document, &other));
    }

    #[test]
    fn any_text_is_read_without_panic(text in "[\\[\\]{}\",:\\\\ae1ué-]{0,40}") {
        is_shallow(&text);
        tree(node(&text));
        node(&text).equals_value(&json!([{"a": [1]}]));
    }
}

proptest! {
    // Compiling the schemas takes most of the time.
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Every keyword of draft-07 that examines values, with the text and with the tree.
    #[test]
    fn validator_judges_text_as_tree(document in documents(), constant in documents()) {
        let text = document.to_string();
        for schema in [
            json!({"const": constant}),
            json!({"enum": [constant, 1, "a"]}),
            json!({"uniqueItems": true, "items": {"uniqueItems": true}}),
            json!({"type": ["integer", "object", "string"], "maximum": 5, "maxLength": 2, "minProperties": 1}),
            json!({"properties": {"a": {"type": "number"}, "b": {"$ref": "#"}}, "required": ["a"], "maxProperties": 2}),
            json!({"propertyNames": {"pattern": "^[ab]$"}, "additionalProperties": {"type": "null"}}),
            json!({"contains": {"const": 1}, "maxItems": 2, "minItems": 1}),
            json!({"anyOf": [{"items": {"$ref": "#"}}, {"type": "string"}], "dependencies": {"a": ["b"]}}),
            json!({"if": {"type": "array"}, "then": {"items": [{"type": "null"}], "additionalItems": false}, "else": {"not": {"const": 1}}}),
        ] {
            let options = || jsonschema::Draft::Draft7;
            let plain = jsonschema::options().with_draft(options()).build(&schema).unwrap();
            let ours = jsonschema::options_for::<PayloadText>().with_draft(options()).build(&schema).unwrap();
            prop_assert_eq!(ours.is_valid(node(&text)), plain.is_valid(&document), "{} {}", schema, text);
            let place = |error: jsonschema::ValidationError<'_>| error.schema_path().to_string();
            prop_assert_eq!(
                ours.validate(node(&text)).map_err(place),
                plain.validate(&document).map_err(place),
                "{} {}", schema, text
            );
        }
    }
}

#[test]
fn representation_fulfils_the_validators_contract() {
    let text = jsonschema::json::conformance::document().to_string();
    jsonschema::json::conformance::assert_conformance::<PayloadText>(&node(&text));
}

#[test]
fn depth_is_that_of_the_deepest_place() {
    let nested = |levels: usize| format!("{}\"[[\"{}", "[".repeat(levels), "]".repeat(levels));
    assert!(is_shallow(&nested(DEPTH_MAX)) && !is_shallow(&nested(DEPTH_MAX + 1)));
    assert!(is_shallow(&"[],".repeat(1_000)));
}

#[test]
fn number_beyond_double_is_the_largest() {
    for (text, largest) in [("1e400", f64::MAX), ("-1e400", f64::MIN)] {
        assert_eq!(node(text).as_number().unwrap().as_f64(), Some(largest));
    }
    assert_eq!(node("1e-400").as_number().unwrap().as_f64(), Some(0.0));
}

/// In several rounds.
#[test]
fn large_array_is_judged_unique_in_parts() {
    let numbers = (0..AT_ONCE * 2).map(|n| n.to_string()).collect::<Vec<_>>().join(",");
    for (text, unique) in [(format!("[{numbers}]"), true), (format!("[{numbers},7.0]"), false)] {
        assert_eq!(node(&text).as_array().unwrap().is_unique(), unique);
    }
}
