//! json and jsonb: finding a part without building a tree, and bringing a text into jsonb's own form.

use std::borrow::Cow;
use std::cmp::Ordering;

use super::fault::{Computed, JSON_SYNTAX};
use super::number::Numeric;

/// Arrays and objects inside each other, as `translate::json` has it.
const DEPTH_MAX: usize = 1000;

/// One step of a path.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step<'a> {
    Key(&'a str),
    /// From the end if negative.
    Element(i64),
    /// Of a path of texts: a key, or the number of an element.
    Either(&'a str),
}

/// Walks over a document. What is no JSON ends it early.
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

    /// A string, quotes included.
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

    /// Any value, without the white space around it. Not recursive.
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

    /// Between two members or elements: whether there is another one.
    fn next(&mut self, close: u8) -> Option<bool> {
        if self.peek()? == close {
            self.at += 1;
            return Some(false);
        }
        self.take(b',')?;
        Some(true)
    }
}

/// The members of an object, the elements of an array; keys are quoted. Stops when `visit` says `false`.
fn each<'a>(document: &'a str, mut visit: impl FnMut(Option<&'a str>, &'a str) -> bool) -> Option<()> {
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

fn first(document: &str) -> Option<u8> {
    Scanner::new(document).peek()
}

/// One step into a document; the last of equal keys counts.
pub(super) fn step<'a>(document: &'a str, step: Step<'_>) -> Option<&'a str> {
    let index = |text: &str| text.parse::<i64>().ok();
    match (first(document)?, step) {
        (b'{', Step::Key(wanted) | Step::Either(wanted)) => member(document, wanted),
        (b'[', Step::Element(nth)) => element(document, nth),
        (b'[', Step::Either(text)) => {
            element(document, index(text.trim_start_matches(super::text::is_space))?)
        }
        _ => None,
    }
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
    let nth = if nth < 0 {
        let mut count = 0;
        each(document, |_, _| {
            count += 1;
            true
        })?;
        count + nth
    } else {
        nth
    };
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

/// Whether a quoted string says `wanted`.
fn is_string(quoted: &str, wanted: &str) -> bool {
    let inner = quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default();
    if inner.contains('\\') { unquoted(quoted).is_ok_and(|text| text == wanted) } else { inner == wanted }
}

/// `?`: a key of the object, a string of the array, or the string itself.
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

/// As `->>` gives it: a string without quotes, anything else as it stands; NULL for null.
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
    // Postgres has no NUL in texts, so that serde_json's answer would be no answer of the server.
    let text: String = serde_json::from_str(quoted).map_err(|_| JSON_SYNTAX)?;
    if text.contains('\0') { Err(NUL) } else { Ok(Cow::Owned(text)) }
}

const NUL: super::fault::Fault = super::fault::Fault(&("22P05", "unsupported Unicode escape sequence"));

/// Checks a document of type json.
pub(super) fn check(text: &str) -> Computed<()> {
    let mut sink = Vec::new();
    crate::translate::json::write_value(&mut sink, &crate::types::Kind::Json, text.as_bytes())
        .map_err(|_| JSON_SYNTAX)
}

/// As jsonb prints it: keys sorted by length and bytes, the last of equal ones, numbers as numeric.
pub(super) fn canonical(text: &str) -> Computed<String> {
    check(text)?;
    let mut out = String::new();
    write_canonical(&mut out, text, &mut Work::default())?;
    Ok(out)
}

/// What writing a document has cost so far, and where in it we are.
#[derive(Default)]
struct Work {
    depth: usize,
    /// Bytes looked at: each as often as it has documents around it.
    seen: usize,
}

/// Bytes that are looked at, at most: a second or two. Forty documents of the largest size inside each other.
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
            // Stable, so that of equal keys the last one stays last.
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
    // `1e131071` is eight bytes that become many.
    if out.len() > super::text::LENGTH_MAX { Err(super::fault::TOO_MUCH) } else { Ok(()) }
}

fn write_string(out: &mut String, text: &str) {
    let mut quoted = Vec::with_capacity(text.len() + 2);
    crate::translate::json::write_string(&mut quoted, text);
    out.push_str(std::str::from_utf8(&quoted).unwrap_or_default());
}

/// Whether two jsonb documents, in their own form, are equal: numbers by value.
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
    fn parts_are_found_without_a_tree() {
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

    #[test]
    fn jsonb_has_a_form_of_its_own() {
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
    fn a_small_document_of_enormous_numbers_is_refused_before_it_fills_the_memory() {
        let grown = canonical("[1e131071]").unwrap().len();
        assert_eq!(grown, 131_074);
        let mut out = " ".repeat(super::super::text::LENGTH_MAX - grown);
        assert_eq!(write_canonical(&mut out, "[1e131071]", &mut Work::default()), Ok(()));
        let twice = write_canonical(&mut out, "[1e131071,1e131071]", &mut Work::default());
        assert_eq!(twice, Err(super::super::fault::TOO_MUCH));
        assert!(out.len() < super::super::text::LENGTH_MAX + 2 * grown);
    }

    #[test]
    fn a_document_within_documents_is_refused_before_it_takes_too_long() {
        let work = || Work { depth: 0, seen: SEEN_MAX - 9 };
        // Six bytes, four, two.
        assert_eq!(
            write_canonical(&mut String::new(), "[[[]]]", &mut work()),
            Err(super::super::fault::TOO_MUCH)
        );
        assert_eq!(write_canonical(&mut String::new(), "[[]]", &mut work()), Ok(()));
    }
}
