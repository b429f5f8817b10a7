//! Builds and changes jsonb documents in their canonical text form.
//!
//! Work is limited: a document is scanned for each key that is looked for.

use crate::types::Base;

use super::document::{self, count, each, first, is_string};
use super::fault::{CELL, Computed, Fault, TOO_MUCH};
use super::number::Numeric;
use super::text::LENGTH_MAX;
use super::tree::Datum;
use super::{array, value};

const DELETE_SCALAR: Fault = Fault(&("22023", "cannot delete from scalar"));
const DELETE_ELEMENT: Fault = Fault(&("22023", "cannot delete from object using integer index"));
const DELETE_PATH: Fault = Fault(&("22023", "cannot delete path in scalar"));
const PATH_NULL: Fault = Fault(&("22004", "a path element is null"));
const PATH_INTEGER: Fault = Fault(&("22P02", "a path element is not an integer"));
const LENGTH_SCALAR: Fault = Fault(&("22023", "cannot get array length of a scalar"));
const LENGTH_OBJECT: Fault = Fault(&("22023", "cannot get array length of a non-array"));

/// Limit of the bytes that one `@>` scans: one or two seconds of work.
const SCANNED_MAX: usize = 40 * LENGTH_MAX;

/// The cost of a comparison, in bytes, in addition to the bytes compared.
const COMPARED: usize = 64;

/// The parts of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Object,
    Array,
    Scalar,
}

fn form(document: &str) -> Form {
    match first(document) {
        Some(b'{') => Form::Object,
        Some(b'[') => Form::Array,
        _ => Form::Scalar,
    }
}

/// `jsonb_typeof`
pub(super) fn type_of(document: &str) -> &'static str {
    match first(document) {
        Some(b'{') => "object",
        Some(b'[') => "array",
        Some(b'"') => "string",
        Some(b't' | b'f') => "boolean",
        Some(b'n') => "null",
        _ => "number",
    }
}

/// `jsonb_array_length`
pub(super) fn length(document: &str) -> Computed<i64> {
    match form(document) {
        Form::Array => count(document).ok_or(CELL),
        Form::Object => Err(LENGTH_OBJECT),
        Form::Scalar => Err(LENGTH_SCALAR),
    }
}

/// The members or elements as they are written.
fn parts(document: &str) -> Vec<(Option<&str>, &str)> {
    let mut parts = Vec::new();
    let walked = each(document, |key, value| {
        parts.push((key, value));
        true
    });
    // The document is valid. In an invalid one, the parts read so far count.
    let _: Option<()> = walked;
    parts
}

/// Writes members (with keys) or elements.
fn written<'d>(form: Form, parts: impl Iterator<Item = (Option<&'d str>, &'d str)>) -> String {
    let (open, close) = if form == Form::Object { ('{', '}') } else { ('[', ']') };
    let mut out = String::from(open);
    for (nth, (key, value)) in parts.enumerate() {
        out.push_str(if nth > 0 { ", " } else { "" });
        if let Some(key) = key {
            out.push_str(key);
            out.push_str(": ");
        }
        out.push_str(value);
    }
    out.push(close);
    out
}

/// An object of these keys and values. Of equal keys the last one counts.
pub(super) fn object(members: &[(&str, &str)]) -> Computed<String> {
    let length: usize = members.iter().map(|(key, value)| key.len() + value.len()).sum();
    if length > LENGTH_MAX {
        return Err(TOO_MUCH);
    }
    let quoted: Vec<_> = members
        .iter()
        .map(|(key, value)| {
            let mut quoted = String::new();
            document::write_string(&mut quoted, key);
            (quoted, *value)
        })
        .collect();
    let members = quoted.iter().map(|(key, value)| (Some(key.as_str()), *value));
    document::canonical(&written(Form::Object, members))
}

/// An array of these values.
pub(super) fn array(elements: &[&str]) -> Computed<String> {
    let length: usize = elements.iter().map(|element| element.len() + 2).sum();
    if length > LENGTH_MAX {
        return Err(TOO_MUCH);
    }
    Ok(written(Form::Array, elements.iter().map(|element| (None, *element))))
}

/// `a || b`: objects are merged; everything else is joined as arrays.
pub(super) fn joined(a: &str, b: &str) -> Computed<String> {
    if a.len() + b.len() > LENGTH_MAX {
        return Err(TOO_MUCH);
    }
    if form(a) == Form::Object && form(b) == Form::Object {
        return document::canonical(&written(Form::Object, parts(a).into_iter().chain(parts(b))));
    }
    let elements = |document| match form(document) {
        Form::Array => parts(document),
        Form::Object | Form::Scalar => vec![(None, document)],
    };
    Ok(written(Form::Array, elements(a).into_iter().chain(elements(b))))
}

/// `a - text`: without these keys, or without these strings as elements.
pub(super) fn without_keys(document: &str, keys: &[Option<String>]) -> Computed<String> {
    let form = form(document);
    if form == Form::Scalar {
        return Err(DELETE_SCALAR);
    }
    if document.len().saturating_mul(keys.len()) > SCANNED_MAX {
        return Err(TOO_MUCH);
    }
    let is_kept = |(key, value): &(Option<&str>, &str)| {
        let text = key.unwrap_or(value);
        !text.starts_with('"') || !keys.iter().flatten().any(|wanted| is_string(text, wanted))
    };
    Ok(written(form, parts(document).into_iter().filter(is_kept)))
}

/// `a - integer`: without this element; negative counts from the end.
pub(super) fn without_element(document: &str, nth: i64) -> Computed<String> {
    match form(document) {
        Form::Scalar => return Err(DELETE_SCALAR),
        Form::Object => return Err(DELETE_ELEMENT),
        Form::Array => {}
    }
    let parts = parts(document);
    let at = place(nth, parts.len());
    let kept = parts.into_iter().enumerate().filter(|(nth, _)| Some(*nth) != at).map(|(_, part)| part);
    Ok(written(Form::Array, kept))
}

/// The position of an index that may count from the end.
fn place(nth: i64, length: usize) -> Option<usize> {
    let length = i64::try_from(length).ok()?;
    usize::try_from(if nth < 0 { nth + length } else { nth }).ok()
}

/// `a #- path`
pub(super) fn without_path(document: &str, path: &[Option<String>]) -> Computed<String> {
    if form(document) == Form::Scalar {
        return Err(DELETE_PATH);
    }
    if path.is_empty() || count(document) == Some(0) {
        return Ok(document.to_owned());
    }
    // Each step scans everything below it.
    if document.len().saturating_mul(path.len()) > SCANNED_MAX {
        return Err(TOO_MUCH);
    }
    let (from, to) = removed(document, path)?.unwrap_or((0, 0));
    let (before, after) = (document.get(..from).ok_or(CELL)?, document.get(to..).ok_or(CELL)?);
    Ok([before, after].concat())
}

/// The bytes to remove for a path: the member or element, and the comma beside it.
fn removed(document: &str, path: &[Option<String>]) -> Computed<Option<(usize, usize)>> {
    let mut value = document;
    let mut steps = path.iter().peekable();
    while let Some(step) = steps.next() {
        let step = step.as_deref().ok_or(PATH_NULL)?;
        let parts = parts(value);
        let at = match form(value) {
            Form::Scalar => return Ok(None),
            Form::Object => parts.iter().position(|(key, _)| key.is_some_and(|key| is_string(key, step))),
            Form::Array => {
                let trimmed = step.trim_start_matches(super::text::is_space);
                let index = trimmed.parse::<i32>().map_err(|_| PATH_INTEGER)?;
                place(index.into(), parts.len())
            }
        };
        let Some((nth, (key, found))) = at.and_then(|at| Some((at, *parts.get(at)?))) else {
            return Ok(None);
        };
        value = found;
        if steps.peek().is_some() {
            continue;
        }
        let offset = |part: &str| part.as_ptr().addr().saturating_sub(document.as_ptr().addr());
        let end = |part: &str| offset(part) + part.len();
        let start = offset(key.unwrap_or(found));
        return Ok(Some(
            match (nth.checked_sub(1).and_then(|before| parts.get(before)), parts.get(nth + 1)) {
                (Some((_, before)), _) => (end(before), end(found)),
                (None, Some((key, after))) => (start, offset(key.unwrap_or(after))),
                (None, None) => (start, end(found)),
            },
        ));
    }
    Ok(None)
}

/// `a @> b`
pub(super) fn contains(a: &str, b: &str) -> Computed<bool> {
    // A scalar stands for an array of one element, which no array is contained in.
    let (one, other) = (form(a), form(b));
    match (one, other) {
        (Form::Scalar, Form::Scalar) => Ok(document::equal(a, b)),
        (Form::Array, Form::Scalar) => {
            Ok(parts(a).iter().any(|(_, value)| form(value) == Form::Scalar && document::equal(value, b)))
        }
        _ if one != other => Ok(false),
        _ => deep(a, b, &mut 0),
    }
}

/// Whether a container contains another of the same form. The depth of a canonical document is limited.
fn deep(a: &str, b: &str, scanned: &mut usize) -> Computed<bool> {
    let (parts_of_a, parts_of_b) = (parts(a), parts(b));
    *scanned += a.len() + b.len();
    for (key, wanted) in parts_of_b {
        let mut found = false;
        for (other, value) in &parts_of_a {
            *scanned += key.map_or(value.len().min(wanted.len()), str::len) + COMPARED;
            if *scanned > SCANNED_MAX {
                return Err(TOO_MUCH);
            }
            if key != *other {
                continue;
            }
            let forms = (form(value), form(wanted));
            found = match forms {
                (Form::Scalar, Form::Scalar) => document::equal(value, wanted),
                (one, other) if one == other => deep(value, wanted, scanned)?,
                _ => false,
            };
            if found {
                break;
            }
        }
        if !found {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether `to_jsonb()` of a type is known.
pub(super) fn is_known(base: &Base) -> bool {
    match base {
        Base::Array(element) => is_known(element),
        Base::Other(_) => false,
        _ => true,
    }
}

/// `to_jsonb()` of a value that is not NULL.
pub(super) fn of_value(base: &Base, value: &Datum<'_>) -> Computed<String> {
    let mut text = String::new();
    value::write(&mut text, base, value);
    let quoted = |text: &str| {
        let mut out = String::new();
        document::write_string(&mut out, text);
        out
    };
    let is_number =
        |text: &str| text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e'));
    Ok(match base {
        Base::Bool => (if text == "t" { "true" } else { "false" }).to_owned(),
        Base::Int2 | Base::Int4 | Base::Int8 | Base::Jsonb => text,
        Base::Numeric | Base::Float4 | Base::Float8 if is_number(&text) => Numeric::parse(&text)?.to_string(),
        Base::Json => document::canonical(&text)?,
        Base::Timestamp => quoted(&text.replacen(' ', "T", 1)),
        Base::TimestampTz => {
            let (moment, era) = text.split_once("+00").unwrap_or((&text, ""));
            let zone = if moment.len() < text.len() { "+00:00" } else { "" };
            quoted(&format!("{}{zone}{era}", moment.replacen(' ', "T", 1)))
        }
        Base::Array(element) => {
            let form = array::Form { open: "[", close: "]", separator: ", ", bounds: false };
            array::rewritten(&text, &form, |out, item| {
                match item {
                    None => out.push_str("null"),
                    Some(item) => {
                        out.push_str(&of_value(element, &value::of_text(element, item.as_bytes())?)?);
                    }
                }
                Ok(())
            })?
        }
        _ => quoted(&text),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values are those of PostgreSQL 14 to 18.
    #[test]
    fn path_is_removed_with_its_comma() {
        for (document, path, expected) in [
            (r#"{"a": {"b": 1, "c": 2}}"#, &["a", "b"][..], Ok(r#"{"a": {"c": 2}}"#)),
            (r#"{"a": {"b": 1, "c": 2}}"#, &["a", "c"], Ok(r#"{"a": {"b": 1}}"#)),
            (r#"{"a": [1, 2]}"#, &["a", "-1"], Ok(r#"{"a": [1]}"#)),
            (r#"{"a": [1, 2]}"#, &["a", "9"], Ok(r#"{"a": [1, 2]}"#)),
            (r#"{"a": [1, 2]}"#, &["a", "x"], Err("22P02")),
            (r#"{"a": 1}"#, &["a", "b"], Ok(r#"{"a": 1}"#)),
            (r#"{"a": 1}"#, &["a"], Ok("{}")),
            ("[]", &["x"], Ok("[]")),
            ("1", &["a"], Err("22023")),
        ] {
            let path: Vec<_> = path.iter().map(|step| Some((*step).to_owned())).collect();
            let actual = without_path(document, &path).map_err(Fault::sqlstate);
            assert_eq!(actual.as_deref(), expected.as_ref().copied(), "{document} {path:?}");
        }
        assert_eq!(without_path("[1]", &[None]), Err(PATH_NULL));
    }

    #[test]
    fn containment_ignores_order_and_repetition() {
        for (a, b, expected) in [
            ("[1, 2]", "1", true),
            ("1", "[1]", false),
            (r#"{"a": 1}"#, "1", false),
            (r#"[{"a": 1, "b": 2}]"#, r#"[{"a": 1}]"#, true),
            (r#"{"a": [1, [2, 3]]}"#, r#"{"a": [[3]]}"#, true),
            (r#"{"a": [1]}"#, r#"{"a": 1}"#, false),
            (r#"{"a": 1.0}"#, r#"{"a": 1}"#, true),
            ("[1]", "[1, 1]", true),
            ("[[1], 2]", "[1]", false),
        ] {
            assert_eq!(contains(a, b), Ok(expected), "{a} @> {b}");
        }
        let many = format!("[{}]", vec!["1"; 40_000].join(", "));
        let other = format!("[{}]", vec!["2"; 40_000].join(", "));
        let crossed = format!("[{}, 2]", vec!["1"; 40_000].join(", "));
        assert_eq!(contains(&many, &other), Ok(false));
        assert_eq!(contains(&crossed, &other), Err(TOO_MUCH));
    }
}
