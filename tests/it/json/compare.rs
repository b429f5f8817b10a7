//! JSON with exact numbers, and equality of values.

use std::collections::BTreeMap;

use base64::Engine as _;
use forebay::types::Kind;

/// A JSON value whose numbers keep their text.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Json {
    Word(String),
    Number(String),
    String(String),
    Array(Vec<Self>),
    Object(BTreeMap<String, Self>),
}

/// Whether `ours` differs from the server's `expected`: the same value, timestamptz with `Z`, bytea in base64.
/// Numbers must have the same digits, except inside json, where the server's jsonb normalises them.
pub(super) fn differs(kind: &Kind, ours: &Json, expected: &Json) -> bool {
    match (kind, ours, expected) {
        (Kind::TimestampTz, Json::String(ours), Json::String(expected)) => {
            *ours != expected.replace("+00:00", "Z")
        }
        (Kind::Bytea, Json::String(ours), Json::String(expected)) => *ours != base64_of_hex(expected),
        (Kind::Json, ..) => !same_document(ours, expected),
        (
            Kind::Array { element, .. } | Kind::Vector { element },
            Json::Array(ours),
            Json::Array(expected),
        ) => {
            let item_differs = |(ours, expected)| {
                // Another dimension, or another array as an element: JSON cannot distinguish them.
                differs(element, ours, expected) && differs(kind, ours, expected)
            };
            ours.len() != expected.len() || ours.iter().zip(expected).any(item_differs)
        }
        (Kind::Composite { fields }, Json::Object(ours), Json::Object(expected)) => {
            let names = |object: &BTreeMap<String, Json>| object.keys().cloned().collect::<Vec<_>>();
            names(ours) != names(expected)
                || fields.len() != ours.len()
                || fields.iter().any(|(name, kind)| differs(kind, &ours[name], &expected[name]))
        }
        _ => ours != expected,
    }
}

fn base64_of_hex(hex: &str) -> String {
    let digits = hex.strip_prefix("\\x").unwrap().as_bytes();
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    let raw: Vec<u8> = digits.chunks(2).map(pair).collect();
    base64::engine::general_purpose::STANDARD.encode(raw)
}

fn same_document(ours: &Json, expected: &Json) -> bool {
    match (ours, expected) {
        (Json::Number(ours), Json::Number(expected)) => decimal(ours) == decimal(expected),
        (Json::Array(ours), Json::Array(expected)) => {
            ours.len() == expected.len() && ours.iter().zip(expected).all(|(a, b)| same_document(a, b))
        }
        (Json::Object(ours), Json::Object(expected)) => {
            ours.len() == expected.len()
                && ours
                    .iter()
                    .zip(expected)
                    .all(|((key, a), (expected_key, b))| key == expected_key && same_document(a, b))
        }
        _ => ours == expected,
    }
}

/// Sign, digits without zeros at either end, and the power of ten of the last digit.
fn decimal(number: &str) -> (bool, String, i64) {
    let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let mut exponent: i64 = exponent.parse().unwrap();
    exponent -= i64::try_from(fraction.len()).unwrap();
    let digits = format!("{}{fraction}", whole.trim_start_matches('-'));
    let digits = digits.trim_start_matches('0');
    let significant = digits.trim_end_matches('0');
    if significant.is_empty() {
        return (false, String::new(), 0);
    }
    exponent += i64::try_from(digits.len() - significant.len()).unwrap();
    (number.starts_with('-'), significant.to_owned(), exponent)
}

impl Json {
    /// Parses a valid JSON document.
    pub(super) fn parse(text: &str) -> Self {
        let mut rest = text;
        let value = Self::read(&mut rest);
        assert_eq!(rest.trim_start(), "", "{text}");
        value
    }

    fn read(rest: &mut &str) -> Self {
        *rest = rest.trim_start();
        match rest.as_bytes()[0] {
            b'"' => Self::String(string(rest)),
            b'[' => {
                let mut items = Vec::new();
                while !closes(rest, ']') {
                    items.push(Self::read(rest));
                }
                Self::Array(items)
            }
            b'{' => {
                let mut members = BTreeMap::new();
                while !closes(rest, '}') {
                    *rest = rest.trim_start();
                    let key = string(rest);
                    *rest = rest.trim_start().strip_prefix(':').unwrap();
                    assert!(members.insert(key, Self::read(rest)).is_none(), "a key comes twice");
                }
                Self::Object(members)
            }
            first => {
                let end = rest.find([',', ']', '}', ' ', '\n', '\t', '\r']).unwrap_or(rest.len());
                let (token, after) = rest.split_at(end);
                *rest = after;
                let number = first == b'-' || first.is_ascii_digit();
                if number { Self::Number(token.to_owned()) } else { Self::Word(token.to_owned()) }
            }
        }
    }
}

/// Skips the opening bracket or the comma, or consumes the closing bracket.
fn closes(rest: &mut &str, bracket: char) -> bool {
    let (opens, after) = rest.trim_start().split_at(1);
    if let Some(after) = rest.trim_start().strip_prefix(bracket) {
        *rest = after;
        return true;
    }
    assert!(matches!(opens, "[" | "{" | ","), "{rest}");
    *rest = after;
    if let Some(after) = rest.trim_start().strip_prefix(bracket) {
        *rest = after;
        return true;
    }
    false
}

/// Parses a string; `serde_json` resolves its escapes.
fn string(rest: &mut &str) -> String {
    let mut strings = serde_json::Deserializer::from_str(rest).into_iter::<String>();
    let text = strings.next().unwrap().unwrap();
    *rest = rest.split_at(strings.byte_offset()).1;
    text
}

#[test]
fn decimals_compare_exactly() {
    for (a, b, same) in [
        ("1e2", "100", true),
        ("-1.50e-3", "-0.0015", true),
        ("0.0", "-0", true),
        ("1e400", "1e401", false),
        ("9007199254740993", "9007199254740992", false),
        ("-1", "1", false),
    ] {
        assert_eq!(decimal(a) == decimal(b), same, "{a} {b}");
    }
}
