//! json and jsonb: embedded unchanged, without whitespace between tokens.
//!
//! Numbers, strings and the order of keys stay as written. So do duplicate keys, which the json type allows.
//! The json type allows lone surrogates (`\ud800`) too, which are no characters: PostgreSQL itself refuses to
//! read them (`->>`, `to_jsonb()`), and one such line stops `DuckDB` at its whole file. They are replaced by
//! `\ufffd`. The whole grammar of RFC 8259 is checked, so no value can break its line.

use super::ValueError;

/// Largest nesting depth. Parsers fail by default at 1000 levels (Jackson) or 1000 stack frames (Python).
/// Around the document are the envelope, `data`, and up to [`super::MAX_NESTING`] arrays and composites; the
/// rest is for the frames of the consumer's own functions. PostgreSQL fails only when its stack is exhausted.
const MAX_DEPTH: usize = 900;

const REPLACEMENT: &[u8] = br"\ufffd";

const MALFORMED: ValueError = ValueError::Malformed("JSON document");

/// Appends the document.
pub(super) fn write(out: &mut Vec<u8>, text: &[u8]) -> Result<(), ValueError> {
    if std::str::from_utf8(text).is_err() {
        return Err(ValueError::NotUtf8);
    }
    out.reserve(text.len());
    let mut document = Document { rest: text, out, open: Open::default() };
    document.value()?;
    while let Some(next) = document.token() {
        let in_object = document.open.innermost_is_object().ok_or(MALFORMED)?;
        document.punctuation();
        match (next, in_object) {
            (b',', true) => {
                document.key()?;
                document.value()?;
            }
            (b',', false) => document.value()?,
            (b'}', true) | (b']', false) => document.open.pop(),
            _ => return Err(MALFORMED),
        }
    }
    if document.open.innermost_is_object().is_some() { Err(MALFORMED) } else { Ok(()) }
}

/// The open containers, one bit each: depth costs no stack and no allocation.
#[derive(Default)]
struct Open {
    depth: usize,
    objects: [u64; MAX_DEPTH.div_ceil(64)],
}

impl Open {
    fn push(&mut self, object: bool) -> Result<(), ValueError> {
        if self.depth == MAX_DEPTH {
            return Err(ValueError::TooDeep(MAX_DEPTH));
        }
        if let Some(word) = self.objects.get_mut(self.depth / 64) {
            let bit = 1 << (self.depth % 64);
            *word = if object { *word | bit } else { *word & !bit };
        }
        self.depth += 1;
        Ok(())
    }

    fn pop(&mut self) {
        self.depth = self.depth.saturating_sub(1);
    }

    /// Whether the innermost container is an object; `None` outside of all containers.
    fn innermost_is_object(&self) -> Option<bool> {
        let level = self.depth.checked_sub(1)?;
        self.objects.get(level / 64).map(|word| word >> (level % 64) & 1 == 1)
    }
}

/// The unread input and the output.
struct Document<'a> {
    rest: &'a [u8],
    out: &'a mut Vec<u8>,
    open: Open,
}

impl Document<'_> {
    /// The first byte of the next token; `None` at the end.
    fn token(&mut self) -> Option<u8> {
        while let [b' ' | b'\t' | b'\n' | b'\r', rest @ ..] = self.rest {
            self.rest = rest;
        }
        self.rest.first().copied()
    }

    /// Copies one byte.
    fn punctuation(&mut self) {
        self.copy(1);
    }

    fn copy(&mut self, length: usize) {
        let (token, rest) = self.rest.split_at(length.min(self.rest.len()));
        self.out.extend_from_slice(token);
        self.rest = rest;
    }

    /// Copies a scalar or an empty container, or enters a container up to its first scalar.
    fn value(&mut self) -> Result<(), ValueError> {
        loop {
            let first = self.token().ok_or(MALFORMED)?;
            match first {
                b'{' | b'[' => {
                    let object = first == b'{';
                    self.open.push(object)?;
                    self.punctuation();
                    if self.token() == Some(if object { b'}' } else { b']' }) {
                        self.punctuation();
                        self.open.pop();
                        return Ok(());
                    }
                    if object {
                        self.key()?;
                    }
                }
                b'"' => return self.string(),
                b't' => return self.word(b"true"),
                b'f' => return self.word(b"false"),
                b'n' => return self.word(b"null"),
                _ => return self.number(),
            }
        }
    }

    /// A key and its colon.
    fn key(&mut self) -> Result<(), ValueError> {
        if self.token() != Some(b'"') {
            return Err(MALFORMED);
        }
        self.string()?;
        if self.token() != Some(b':') {
            return Err(MALFORMED);
        }
        self.punctuation();
        Ok(())
    }

    fn string(&mut self) -> Result<(), ValueError> {
        let mut length = 1;
        loop {
            let rest = self.rest.get(length..).ok_or(MALFORMED)?;
            let special = |byte: &u8| *byte < 0x20 || *byte == b'"' || *byte == b'\\';
            let clean = rest.iter().position(special).ok_or(MALFORMED)?;
            length += clean;
            let special = rest.get(clean..).unwrap_or_default();
            length += match special {
                [b'"', ..] => {
                    self.copy(length + 1);
                    return Ok(());
                }
                [b'\\', b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', ..] => 2,
                [b'\\', b'u', ..] => match (code_unit(special), special.get(6..).and_then(code_unit)) {
                    (None, _) => return Err(MALFORMED),
                    (Some(0xD800..=0xDBFF), Some(0xDC00..=0xDFFF)) => 12,
                    (Some(0xD800..=0xDFFF), _) => {
                        self.copy(length);
                        self.out.extend_from_slice(REPLACEMENT);
                        self.rest = self.rest.get(REPLACEMENT.len()..).unwrap_or_default();
                        length = 0;
                        continue;
                    }
                    (Some(_), _) => 6,
                },
                _ => return Err(MALFORMED),
            };
        }
    }

    fn word(&mut self, word: &[u8]) -> Result<(), ValueError> {
        if !self.rest.starts_with(word) {
            return Err(MALFORMED);
        }
        self.copy(word.len());
        Ok(())
    }

    fn number(&mut self) -> Result<(), ValueError> {
        let digits_from =
            |start: usize| self.rest.iter().skip(start).take_while(|byte| byte.is_ascii_digit()).count();
        let mut length = usize::from(self.rest.first() == Some(&b'-'));
        let whole = digits_from(length);
        if whole == 0 || (whole > 1 && self.rest.get(length) == Some(&b'0')) {
            return Err(MALFORMED);
        }
        length += whole;
        if self.rest.get(length) == Some(&b'.') {
            let places = digits_from(length + 1);
            if places == 0 {
                return Err(MALFORMED);
            }
            length += 1 + places;
        }
        if let Some(b'e' | b'E') = self.rest.get(length) {
            length += 1;
            length += usize::from(matches!(self.rest.get(length), Some(b'+' | b'-')));
            let places = digits_from(length);
            if places == 0 {
                return Err(MALFORMED);
            }
            length += places;
        }
        self.copy(length);
        Ok(())
    }
}

/// The UTF-16 code unit of a `\uXXXX` escape at the start.
fn code_unit(text: &[u8]) -> Option<u32> {
    let [b'\\', b'u', digits @ ..] = text else { return None };
    let digits = digits.first_chunk::<4>()?;
    digits.iter().try_fold(0, |unit, &digit| Some(unit * 16 + char::from(digit).to_digit(16)?))
}
