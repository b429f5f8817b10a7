//! The allowed content of a schema: every keyword, format and pattern must mean the same to Forebay and to
//! the validators of consumers. A typing error would be a constraint that nobody checks.

use serde_json::{Map, Value};

use super::walk::inside;
use crate::rules::error::Wrong;

/// The keywords of draft-07, and `deprecated`, an annotation of later drafts.
const KEYWORDS: [&str; 47] = [
    "$comment",
    "$id",
    "$ref",
    "$schema",
    "additionalItems",
    "additionalProperties",
    "allOf",
    "anyOf",
    "const",
    "contains",
    "contentEncoding",
    "contentMediaType",
    "default",
    "definitions",
    "dependencies",
    "deprecated",
    "description",
    "else",
    "enum",
    "examples",
    "exclusiveMaximum",
    "exclusiveMinimum",
    "format",
    "if",
    "items",
    "maxItems",
    "maxLength",
    "maxProperties",
    "maximum",
    "minItems",
    "minLength",
    "minProperties",
    "minimum",
    "multipleOf",
    "not",
    "oneOf",
    "pattern",
    "patternProperties",
    "properties",
    "propertyNames",
    "readOnly",
    "required",
    "then",
    "title",
    "type",
    "uniqueItems",
    "writeOnly",
];

/// The formats of draft-07 and `uuid`, which are checked, and formats of numbers, which code generators know.
const FORMATS: [&str; 25] = [
    "date",
    "date-time",
    "email",
    "hostname",
    "idn-email",
    "idn-hostname",
    "ipv4",
    "ipv6",
    "iri",
    "iri-reference",
    "json-pointer",
    "regex",
    "relative-json-pointer",
    "time",
    "uri",
    "uri-reference",
    "uri-template",
    "uuid",
    "int8",
    "int16",
    "int32",
    "int64",
    "float",
    "double",
    "byte",
];

/// Parts of patterns that only some regex engines support, and what to write instead.
const DIALECTS: [(&str, &str); 12] = [
    ("(?i", "List both cases, such as [aA]."),
    ("(?s", "Write [\\s\\S] for any character."),
    ("(?m", "Match one line."),
    ("(?x", "Leave blanks out."),
    ("(?u", "Leave the flag out."),
    ("(?P<", "Write ( without a name."),
    ("\\A", "Write ^."),
    ("\\z", "Write $."),
    ("\\Z", "Write $."),
    ("[[:", "Write the characters, such as [a-z]."),
    ("\\p", "Write the characters, such as [a-z]."),
    ("\\P", "Write the characters, such as [^a-z]."),
];

/// Checks a schema and everything in it.
///
/// # Errors
/// The first part that validators interpret differently.
pub(super) fn check(schema: &Map<String, Value>) -> Result<(), Wrong> {
    for (keyword, value) in schema {
        if !KEYWORDS.contains(&keyword.as_str()) && !keyword.starts_with("x-") {
            return Err(unknown("keyword", keyword, &KEYWORDS, "Begin an annotation of your own with x-."));
        }
        match (keyword.as_str(), value) {
            ("format", Value::String(format)) if !FORMATS.contains(&format.as_str()) => {
                return Err(unknown("format", format, &FORMATS, "Write a pattern, or x-format for people."));
            }
            ("pattern", Value::String(pattern)) => portable(pattern)?,
            ("patternProperties", Value::Object(members)) => {
                members.keys().try_for_each(|pattern| portable(pattern))?;
            }
            _ => {}
        }
    }
    inside(schema).into_iter().filter_map(Value::as_object).try_for_each(check)
}

fn unknown(what: &str, name: &str, known: &[&str], otherwise: &str) -> Wrong {
    let near = known.iter().map(|one| (strsim::damerau_levenshtein(name, one), one)).min();
    match near.filter(|(distance, _)| *distance <= 2) {
        Some((_, near)) => (format!("unknown {what} {name:?}"), format!("did you mean {near:?}?")).into(),
        None => (format!("unknown {what} {name:?}, which validators ignore"), otherwise).into(),
    }
}

/// Checks that JavaScript, Python, Java and Go interpret a pattern in the same way, as far as they usually
/// differ.
fn portable(pattern: &str) -> Result<(), Wrong> {
    // An escaped backslash begins no escape.
    let plain = pattern.replace("\\\\", "  ");
    let found = DIALECTS.iter().find(|(part, _)| plain.contains(part));
    found.map_or(Ok(()), |(part, instead)| {
        let message = format!("the pattern {pattern:?} contains {part}, which not every validator supports");
        Err((message, *instead).into())
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Without an error in the schema, `Ok`; otherwise its hint.
    fn checked(schema: &Value) -> Result<(), String> {
        check(schema.as_object().unwrap()).map_err(|wrong| wrong.hint.unwrap())
    }

    #[test]
    fn every_keyword_of_the_draft_is_known() {
        let words: Map<String, Value> =
            KEYWORDS.iter().map(|word| ((*word).to_owned(), json!(true))).collect();
        assert_eq!(check(&words), Ok(()));
        assert!(KEYWORDS.is_sorted(), "{KEYWORDS:?}");
        // Names of fields and values are not keywords.
        let schema = json!({"properties": {"requried": {"x-own": 1}}, "const": {"a": 1}, "required": ["b"]});
        assert_eq!(checked(&schema), Ok(()));
    }

    #[test]
    fn typo_unknown_format_and_dialect_are_refused() {
        for (schema, expected) in [
            (json!({"requried": ["a"]}), "did you mean \"required\"?"),
            (json!({"properties": {"a": {"maxlength": 3}}}), "did you mean \"maxLength\"?"),
            (json!({"items": {"nullable": true}}), "Begin an annotation of your own with x-."),
            (json!({"format": "uiid"}), "did you mean \"uuid\"?"),
            (json!({"format": "phone-number"}), "Write a pattern"),
            (json!({"pattern": "(?i)^a$"}), "List both cases"),
            (json!({"pattern": "^\\p{L}+$"}), "Write the characters"),
            (json!({"patternProperties": {"\\Ax": {}}}), "Write ^"),
        ] {
            let why = checked(&schema).unwrap_err();
            assert!(why.contains(expected), "{schema}: {why}");
        }
        assert_eq!(checked(&json!({"pattern": "^\\\\p[a-z]{2}(?:x|y)\\d+$", "format": "uuid"})), Ok(()));
    }
}
