//! json and jsonb: extracts parts without building a tree, and converts text into jsonb's canonical form.

use std::borrow::Cow;
use std::cmp::Ordering;

use super::fault::{Computed, JSON_SYNTAX};
use super::number::Numeric;

/// Largest nesting depth of documents in expressions. The limit of module `json`, which writes them, is
/// somewhat lower.
const DEPTH_MAX: usize = 1000;

/// One step of a path.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step<'a> {
    Key(&'a str),
    /// An array index; negative counts from the end.
    Element(i64),
    /// A step of a text path: an object key or an array index.
    Either(&'a str),
}

/// Scans a document. Invalid JSON ends the scan early.
struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    const fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    fn blank(&mut self) {
        while matches!(self.text.as_bytes().get(self.at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn peek(&mut self) -> Option<u8> {
        self.blank();
        self.text.as_bytes().get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.at += 1)
    }

    /// A string, including its quotes.
    fn string(&mut self) -> Option<&'a str> {
        let start = self.at;
        self.take(b'"')?;
        let start = if start == self.at - 1 { start } else { self.at - 1 };
        loop {
            match self.text.as_bytes().get(self.at)? {
                b'"' => break,
                b'\\' => self.at += 2,
                _ => self.at += 1,
            }
        }
        self.at += 1;
        self.text.get(start..self.at)
    }

    /// Any value, without surrounding whitespace. Not recursive.
    fn value(&mut self) -> Option<&'a str> {
        self.blank();
        let start = self.at;
        let mut depth = 0_usize;
        loop {
            match self.peek()? {
                b'"' => {
                    self.string()?;
                }
                b'{' | b'[' => {
                    depth += 1;
                    self.at += 1;
                    continue;
                }
                b'}' | b']' => {
                    depth = depth.checked_sub(1)?;
                    self.at += 1;
                }
                b',' | b':' if depth > 0 => {
                    self.at += 1;
                    continue;
                }
                b',' | b':' => return None,
                _ => self.word(),
            }
            if depth == 0 {
                return self.text.get(start..self.at);
            }
        }
    }

    fn word(&mut self) {
        let is_end = |byte: &u8| matches!(byte, b',' | b':' | b'}' | b']' | b' ' | b'\t' | b'\n' | b'\r');
        while self.text.as_bytes().get(self.at).is_some_and(|byte| !is_end(byte)) {
            self.at += 1;
        }
    }

    /// After a member or element: whether another one follows.
    fn next(&mut self, close: u8) -> Option<bool> {
        if self.peek()? == close {
            self.at += 1;
            return Some(false);
        }
        self.take(b',')?;
        Some(true)
    }
}

/// Visits the members of an object or the elements of an array, until `visit` returns false. Keys are quoted.
pub(super) fn each<'a>(
    document: &'a str,
    mut visit: impl FnMut(Option<&'a str>, &'a str) -> bool,
) -> Option<()> {
    let mut scanner = Scanner::new(document);
    let (is_object, close) = match scanner.peek()? {
        b'{' => (true, b'}'),
        b'[' => (false, b']'),
        _ => return Some(()),
    };
    scanner.at += 1;
    if scanner.peek()? == close {
        return Some(());
    }
    loop {
        let key = if is_object { Some(scanner.string()?) } else { None };
        if is_object {
            scanner.take(b':')?;
        }
        let value = scanner.value()?;
        if !visit(key, value) || !scanner.next(close)? {
            return Some(());
        }
    }
}

pub(super) fn first(document: &str) -> Option<u8> {
    Scanner::new(document).peek()
}

/// Takes one step into a document. Of equal keys the last one counts.
pub(super) fn step<'a>(document: &'a str, step: Step<'_>) -> Option<&'a str> {
    let index = |text: &str| text.parse::<i64>().ok();
    match (first(document)?, step) {
        (b'{', Step::Key(wanted) | Step::Either(wanted)) => member(document, wanted),
        (b'[', Step::Element(nth)) => element(document, nth),
        (b'[', Step::Either(text)) => element(document, index(text.trim_matches(super::text::is_space))?),
        _ => None,
    }
}

/// Follows a path in a document of type json, as the server does while it reads: each of several equal keys
/// is followed, and the last one that leads to a value counts.
///
/// The server counts a negative index from the end of the first array of that depth that is long enough,
/// wherever it is, and keeps the result for the arrays that follow.
pub(super) fn path_of_json<'a>(document: &'a str, path: &[&str]) -> Option<&'a str> {
    let index = |step: &&str| {
        let found = step.trim_matches(super::text::is_space).parse::<i32>().ok();
        found.filter(|index| *index != i32::MIN).map(i64::from)
    };
    let mut steps: Vec<_> = path.iter().map(|step| (*step, index(step))).collect();
    let mut found = None;
    if steps.is_empty() {
        return Some(document.trim_matches([' ', '\t', '\n', '\r']));
    }
    follow(document, &mut steps, 0, true, &mut found);
    found
}

/// Follows the steps from `depth` on. A value that is not on the path is visited only because it may resolve
/// a negative index.
fn follow<'a>(
    document: &'a str,
    steps: &mut [(&str, Option<i64>)],
    depth: usize,
    on_path: bool,
    found: &mut Option<&'a str>,
) {
    if first(document) == Some(b'[')
        && let Some((_, Some(index))) =
            steps.get_mut(depth).filter(|(_, index)| index.is_some_and(|at| at < 0))
    {
        let length = count(document).unwrap_or_default();
        *index += if -*index <= length { length } else { 0 };
    }
    let Some((key, index)) = steps.get(depth).copied() else { return };
    let is_last = depth + 1 == steps.len();
    let mut nth = 0;
    let walked = each(document, |name, value| {
        let on_path = on_path && name.map_or(Some(nth) == index, |name| is_string(name, key));
        nth += 1;
        let below = steps.get(depth + 1..).unwrap_or_default();
        if on_path && is_last {
            *found = Some(value);
        } else if on_path || below.iter().any(|(_, index)| index.is_some_and(|at| at < 0)) {
            follow(value, steps, depth + 1, on_path, found);
        }
        true
    });
    // The document is valid. In an invalid one, the elements found so far count.
    let _: Option<()> = walked;
}

/// Number of members or elements.
pub(super) fn count(document: &str) -> Option<i64> {
    let mut count = 0;
    each(document, |_, _| {
        count += 1;
        true
    })?;
    Some(count)
}

fn member<'a>(document: &'a str, wanted: &str) -> Option<&'a str> {
    let mut found = None;
    each(document, |key, value| {
        if key.is_some_and(|key| is_string(key, wanted)) {
            found = Some(value);
        }
        true
    })?;
    found
}

fn element(document: &str, nth: i64) -> Option<&str> {
    let nth = if nth < 0 { count(document)? + nth } else { nth };
    let (mut at, mut found) = (0, None);
    each(document, |_, value| {
        if at == nth {
            found = Some(value);
        }
        at += 1;
        found.is_none()
    })?;
    found
}

/// Whether a quoted string equals `wanted`.
pub(super) fn is_string(quoted: &str, wanted: &str) -> bool {
    let inner = quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default();
    if inner.contains('\\') { unquoted(quoted).is_ok_and(|text| text == wanted) } else { inner == wanted }
}

/// Operator `?`: a key of the object, a string in the array, or the string itself.
pub(super) fn has(document: &str, wanted: &str) -> bool {
    if first(document) == Some(b'"') {
        return is_string(document.trim(), wanted);
    }
    let mut found = false;
    let walked = each(document, |key, value| {
        found = is_string(key.unwrap_or(value), wanted) && key.unwrap_or(value).starts_with('"');
        !found
    });
    walked.is_some() && found
}

/// Operator `->>`: a string without quotes, other values unchanged, NULL for null.
pub(super) fn as_text(value: &str) -> Computed<Option<Cow<'_, str>>> {
    match value.as_bytes().first() {
        Some(b'"') => unquoted(value).map(Some),
        Some(b'n') => Ok(None),
        _ => Ok(Some(Cow::Borrowed(value))),
    }
}

/// A string without its quotes and escapes.
fn unquoted(quoted: &str) -> Computed<Cow<'_, str>> {
    let inner = quoted.get(1..quoted.len().saturating_sub(1)).ok_or(JSON_SYNTAX)?;
    if !inner.contains('\\') {
        return Ok(Cow::Borrowed(inner));
    }
    // PostgreSQL has no NUL character in text, so a string with one is an error, as on the server.
    let text: String = serde_json::from_str(quoted).map_err(|_| JSON_SYNTAX)?;
    if text.contains('\0') { Err(NUL) } else { Ok(Cow::Owned(text)) }
}

const NUL: super::fault::Fault = super::fault::Fault(&("22P05", "unsupported Unicode escape sequence"));

/// Validates a document of type json.
pub(super) fn check(text: &str) -> Computed<()> {
    let mut sink = Vec::new();
    crate::json::write_value(&mut sink, &crate::types::Kind::Json, text.as_bytes()).map_err(|_| JSON_SYNTAX)
}

/// The text form of jsonb: keys sorted by length and bytes, the last of equal keys, numbers as numeric.
pub(super) fn canonical(text: &str) -> Computed<String> {
    check(text)?;
    let mut out = String::new();
    write_canonical(&mut out, text, &mut Work::default())?;
    Ok(out)
}

/// The work spent on a document and the current depth.
#[derive(Default)]
struct Work {
    depth: usize,
    /// Bytes visited. A byte counts once for each enclosing document.
    seen: usize,
}

/// Limit of bytes visited: one or two seconds of work, or forty nested documents of the largest size.
const SEEN_MAX: usize = 40 * super::text::LENGTH_MAX;

fn write_canonical(out: &mut String, value: &str, work: &mut Work) -> Computed<()> {
    work.seen += value.len();
    if work.depth > DEPTH_MAX || work.seen > SEEN_MAX {
        return Err(super::fault::TOO_MUCH);
    }
    work.depth += 1;
    let value = value.trim_matches([' ', '\t', '\n', '\r']);
    match value.as_bytes().first() {
        Some(b'{') => {
            let mut members = Vec::new();
            let mut fault = None;
            each(value, |key, value| match unquoted(key.unwrap_or_default()) {
                Ok(key) => {
                    members.push((key, value));
                    true
                }
                Err(found) => {
                    fault = Some(found);
                    false
                }
            })
            .ok_or(JSON_SYNTAX)?;
            fault.map_or(Ok(()), Err)?;
            // A stable sort keeps the last of equal keys last.
            members.sort_by(|(a, _), (b, _)| a.len().cmp(&b.len()).then_with(|| a.cmp(b)));
            let is_last =
                |at: usize| members.get(at).map(|(key, _)| key) != members.get(at + 1).map(|(key, _)| key);
            let mut separator = "{";
            for (_, (key, value)) in members.iter().enumerate().filter(|(at, _)| is_last(*at)) {
                out.push_str(separator);
                write_string(out, key);
                out.push_str(": ");
                write_canonical(out, value, work)?;
                separator = ", ";
            }
            out.push_str(if members.is_empty() { "{}" } else { "}" });
        }
        Some(b'[') => {
            let mut elements = Vec::new();
            each(value, |_, value| {
                elements.push(value);
                true
            })
            .ok_or(JSON_SYNTAX)?;
            let mut separator = "[";
            for value in &elements {
                out.push_str(separator);
                write_canonical(out, value, work)?;
                separator = ", ";
            }
            out.push_str(if elements.is_empty() { "[]" } else { "]" });
        }
        Some(b'"') => write_string(out, &unquoted(value)?),
        Some(b't' | b'f' | b'n') => out.push_str(value),
        _ => Numeric::parse(value)?.write(out),
    }
    work.depth -= 1;
    // Limit the output: eight bytes such as `1e131071` expand to many.
    if out.len() > super::text::LENGTH_MAX { Err(super::fault::TOO_MUCH) } else { Ok(()) }
}

pub(super) fn write_string(out: &mut String, text: &str) {
    let mut quoted = Vec::with_capacity(text.len() + 2);
    crate::json::write_string(&mut quoted, text);
    out.push_str(std::str::from_utf8(&quoted).unwrap_or_default());
}

/// Whether two canonical jsonb documents are equal; numbers are compared by value.
pub(super) fn equal(a: &str, b: &str) -> bool {
    if a == b {
        return true;
    }
    let (mut left, mut right) = (Scanner::new(a), Scanner::new(b));
    loop {
        match (left.peek(), right.peek()) {
            (None, None) => return true,
            (Some(b'"'), Some(b'"')) => {
                if left.string() != right.string() {
                    return false;
                }
            }
            (Some(b'-' | b'0'..=b'9'), Some(b'-' | b'0'..=b'9')) => {
                let (from, other) = (left.at, right.at);
                left.word();
                right.word();
                let number = |text: &str, from, to| Numeric::parse(text.get(from..to).unwrap_or_default());
                match (number(a, from, left.at), number(b, other, right.at)) {
                    (Ok(a), Ok(b)) if a.compare(&b) == Ordering::Equal => {}
                    _ => return false,
                }
            }
            (Some(a), Some(b)) if a == b => {
                left.at += 1;
                right.at += 1;
            }
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_path_is_found_without_parsing_tree() {
        let document =
            r#" {"a": [1, {"b" : "x\ny"}, null], "c\"d": true, "a2": "]", "a": [10 , {"b":"z"}, null] } "#;
        let at = |path: &[Step<'_>]| path.iter().try_fold(document, |document, &taken| step(document, taken));
        assert_eq!(at(&[Step::Key("a"), Step::Element(0)]), Some("10"));
        assert_eq!(at(&[Step::Key("a"), Step::Element(-1)]), Some("null"));
        assert_eq!(at(&[Step::Either("a"), Step::Either("1"), Step::Either("b")]), Some("\"z\""));
        assert_eq!(at(&[Step::Key("c\"d")]), Some("true"));
        assert_eq!(at(&[Step::Key("a2")]), Some("\"]\""));
        assert_eq!(at(&[Step::Key("x")]), None);
        assert_eq!(as_text("\"a\\nb\""), Ok(Some(Cow::Owned("a\nb".to_owned()))));
        assert!(
            has(document, "a2") && !has(document, "10") && has("[\"x\", \"y\"]", "y") && has("\"x\"", "x")
        );
    }

    /// The values are those of PostgreSQL 14 to 18.
    #[test]
    fn path_of_json_follows_every_equal_key() {
        for (document, path, expected) in [
            (r#"{"a":{"x":1},"a":5}"#, &["a", "x"][..], Some("1")),
            (r#"{"a":{"x":1},"a":{"y":2}}"#, &["a", "x"], Some("1")),
            (r#"{"a":{"x":1,"x":2},"a":{"y":2}}"#, &["a", "x"], Some("2")),
            (r#"{"a":[1,2],"a":[3]}"#, &["a", "1"], Some("2")),
            (r#"{"a":[1,2],"a":[3]}"#, &["a", "-1"], Some("2")),
            ("[[1,2],[3]]", &["1", "-1"], None),
            ("[[1],[2,3]]", &["1", "-1"], Some("2")),
            (r#"{"b":[1,2],"a":[3]}"#, &["a", "-1"], None),
            (r#"{"a":[3]}"#, &["a", " +0 "], Some("3")),
            (r#"{"a":[3]}"#, &["a", "-99999999999"], None),
            (" 5 ", &[], Some("5")),
            ("5", &["0"], None),
        ] {
            assert_eq!(path_of_json(document, path), expected, "{document} {path:?}");
        }
    }

    #[test]
    fn jsonb_is_normalised() {
        for (text, expected) in [
            (r#"{"bb":1,"a":2,"a":1e2}"#, r#"{"a": 100, "bb": 1}"#),
            ("[ ]", "[]"),
            ("[1.50, -0, \"\\u00e9\\/\"]", "[1.50, 0, \"é/\"]"),
        ] {
            assert_eq!(canonical(text).unwrap(), expected);
        }
        assert!(
            equal("[1.0, {\"a\": 2}]", "[1, {\"a\": 2.00}]")
                && !equal("[1]", "[1, 2]")
                && !equal("[1]", "[\"1\"]")
        );
        assert_eq!(canonical("{a}"), Err(JSON_SYNTAX));
        assert_eq!(canonical("\"\\u0000\""), Err(NUL));
    }

    #[test]
    fn enormous_json_numbers_are_refused_before_allocation() {
        let grown = canonical("[1e131071]").unwrap().len();
        assert_eq!(grown, 131_074);
        let mut out = " ".repeat(super::super::text::LENGTH_MAX - grown);
        assert_eq!(write_canonical(&mut out, "[1e131071]", &mut Work::default()), Ok(()));
        let twice = write_canonical(&mut out, "[1e131071,1e131071]", &mut Work::default());
        assert_eq!(twice, Err(super::super::fault::TOO_MUCH));
        assert!(out.len() < super::super::text::LENGTH_MAX + 2 * grown);
    }

    #[test]
    fn deeply_nested_document_is_refused_early() {
        let work = || Work { depth: 0, seen: SEEN_MAX - 9 };
        // Characters of six, four and two bytes.
        assert_eq!(
            write_canonical(&mut String::new(), "[[[]]]", &mut work()),
            Err(super::super::fault::TOO_MUCH)
        );
        assert_eq!(write_canonical(&mut String::new(), "[[]]", &mut work()), Ok(()));
    }
}
