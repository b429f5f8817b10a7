//! Arrays, vectors, composites and hstore: text forms that contain other values.
//!
//! A quoted item without escapes is passed on as a slice. Other items are unescaped into a scratch buffer
//! shared by the whole value.

use crate::types::Kind;

use super::{ValueError, Writer, write_string, write_string_bytes};

/// PostgreSQL's limit of dimensions (`MAXDIM`).
const MAX_DIMENSIONS: usize = 6;

const ARRAY: ValueError = ValueError::Malformed("array");
const COMPOSITE: ValueError = ValueError::Malformed("composite type");
const HSTORE: ValueError = ValueError::Malformed("hstore");

impl Writer<'_> {
    /// Writes an array such as `{1,NULL,"a b"}`, `{{1},{2}}` or `[2:3]={1,2}`. JSON has no array bounds, so
    /// they are left out.
    pub(super) fn array(
        &mut self,
        element: &Kind,
        delimiter: u8,
        text: &[u8],
        depth: usize,
    ) -> Result<(), ValueError> {
        let mut form = ArrayForm { element, delimiter, depth, scratch: Vec::new() };
        match self.dimension(&mut form, without_bounds(text)?, 1)? {
            [] => Ok(()),
            _ => Err(ARRAY),
        }
    }

    /// Writes one pair of braces with its content. Returns the rest of the text.
    fn dimension<'a>(
        &mut self,
        form: &mut ArrayForm<'_>,
        text: &'a [u8],
        level: usize,
    ) -> Result<&'a [u8], ValueError> {
        if level > MAX_DIMENSIONS {
            return Err(ValueError::TooDeep(MAX_DIMENSIONS));
        }
        let mut rest = text.strip_prefix(b"{").ok_or(ARRAY)?;
        self.out.push(b'[');
        if let Some(after) = rest.strip_prefix(b"}") {
            self.out.push(b']');
            return Ok(after);
        }
        loop {
            rest = match rest.first() {
                Some(b'{') => self.dimension(form, rest, level + 1)?,
                _ => self.element(form, rest)?,
            };
            match rest.split_first().ok_or(ARRAY)? {
                (b'}', after) => {
                    self.out.push(b']');
                    return Ok(after);
                }
                (&byte, after) if byte == form.delimiter => rest = after,
                _ => return Err(ARRAY),
            }
            self.out.push(b',');
        }
    }

    /// Writes one element. Returns the rest of the text.
    fn element<'a>(&mut self, form: &mut ArrayForm<'_>, text: &'a [u8]) -> Result<&'a [u8], ValueError> {
        if let Some(inside) = text.strip_prefix(b"\"") {
            let item = Quoted::read(inside, false).ok_or(ARRAY)?;
            self.value(form.element, item.plain(&mut form.scratch), form.depth)?;
            return Ok(item.rest);
        }
        let ends = |byte: &u8| *byte == form.delimiter || matches!(byte, b'{' | b'}' | b'"' | b'\\');
        let length = text.iter().position(ends).ok_or(ARRAY)?;
        match text.split_at(length) {
            ([], _) => Err(ARRAY),
            (b"NULL", rest) => {
                self.out.extend_from_slice(b"null");
                Ok(rest)
            }
            (item, rest) => {
                self.value(form.element, item, form.depth)?;
                Ok(rest)
            }
        }
    }

    /// Writes a vector such as `1 2 3`.
    pub(super) fn vector(&mut self, element: &Kind, text: &[u8], depth: usize) -> Result<(), ValueError> {
        self.out.push(b'[');
        if !text.is_empty() {
            for (index, item) in text.split(|&byte| byte == b' ').enumerate() {
                if item.is_empty() {
                    return Err(ValueError::Malformed("vector"));
                }
                if index > 0 {
                    self.out.push(b',');
                }
                self.value(element, item, depth)?;
            }
        }
        self.out.push(b']');
        Ok(())
    }

    /// Writes a composite such as `(1,,"a ""b""")` as an object. An empty unquoted field is NULL.
    pub(super) fn composite(
        &mut self,
        fields: &[(String, Kind)],
        text: &[u8],
        depth: usize,
    ) -> Result<(), ValueError> {
        let mut rest = text.strip_prefix(b"(").ok_or(COMPOSITE)?;
        let mut scratch = Vec::new();
        self.out.push(b'{');
        for (index, (name, kind)) in fields.iter().enumerate() {
            if index > 0 {
                rest = rest.strip_prefix(b",").ok_or(match rest {
                    b")" => ValueError::FieldCount { expected: fields.len(), found: index },
                    _ => COMPOSITE,
                })?;
                self.out.push(b',');
            }
            write_string(self.out, name);
            self.out.push(b':');
            rest = self.field(kind, rest, &mut scratch, depth)?;
        }
        self.out.push(b'}');
        match rest {
            b")" => Ok(()),
            [b',', ..] => Err(ValueError::FieldCount { expected: fields.len(), found: fields.len() + 1 }),
            _ => Err(COMPOSITE),
        }
    }

    /// Writes the value of one field. Returns the rest of the text.
    fn field<'a>(
        &mut self,
        kind: &Kind,
        text: &'a [u8],
        scratch: &mut Vec<u8>,
        depth: usize,
    ) -> Result<&'a [u8], ValueError> {
        if let Some(inside) = text.strip_prefix(b"\"") {
            let item = Quoted::read(inside, true).ok_or(COMPOSITE)?;
            self.value(kind, item.plain(scratch), depth)?;
            return Ok(item.rest);
        }
        let ends = |byte: &u8| matches!(byte, b',' | b'(' | b')' | b'"' | b'\\');
        let length = text.iter().position(ends).ok_or(COMPOSITE)?;
        let (item, rest) = text.split_at(length);
        if item.is_empty() {
            self.out.extend_from_slice(b"null");
        } else {
            self.value(kind, item, depth)?;
        }
        Ok(rest)
    }

    /// Writes an hstore such as `"a"=>"1", "b"=>NULL` as an object of strings, like the extension's cast to
    /// json.
    pub(super) fn hstore(&mut self, text: &[u8]) -> Result<(), ValueError> {
        let mut rest = text;
        let mut scratch = Vec::new();
        self.out.push(b'{');
        while !rest.is_empty() {
            rest = self.hstore_string(rest, &mut scratch)?;
            self.out.push(b':');
            rest = rest.strip_prefix(b"=>").ok_or(HSTORE)?;
            rest = if let Some(after) = rest.strip_prefix(b"NULL") {
                self.out.extend_from_slice(b"null");
                after
            } else {
                self.hstore_string(rest, &mut scratch)?
            };
            if !rest.is_empty() {
                // A pair must follow. The empty key is written as `""`.
                rest = rest.strip_prefix(b", ").filter(|pair| !pair.is_empty()).ok_or(HSTORE)?;
                self.out.push(b',');
            }
        }
        self.out.push(b'}');
        Ok(())
    }

    fn hstore_string<'a>(&mut self, text: &'a [u8], scratch: &mut Vec<u8>) -> Result<&'a [u8], ValueError> {
        let inside = text.strip_prefix(b"\"").ok_or(HSTORE)?;
        let item = Quoted::read(inside, false).ok_or(HSTORE)?;
        write_string_bytes(self.out, item.plain(scratch))?;
        Ok(item.rest)
    }
}

/// The properties that all elements of an array share.
struct ArrayForm<'k> {
    element: &'k Kind,
    delimiter: u8,
    depth: usize,
    scratch: Vec<u8>,
}

/// Skips array bounds such as `[2:3][-1:0]=`.
fn without_bounds(text: &[u8]) -> Result<&[u8], ValueError> {
    if text.first() != Some(&b'[') {
        return Ok(text);
    }
    let end = text.iter().position(|&byte| byte == b'=').ok_or(ARRAY)?;
    let (bounds, array) = text.split_at(end);
    let is_bound = |byte: &u8| byte.is_ascii_digit() || matches!(byte, b'[' | b']' | b':' | b'-' | b'+');
    if bounds.iter().all(is_bound) { array.strip_prefix(b"=").ok_or(ARRAY) } else { Err(ARRAY) }
}

/// A quoted item.
struct Quoted<'a> {
    inside: &'a [u8],
    has_escapes: bool,
    rest: &'a [u8],
}

impl<'a> Quoted<'a> {
    /// Reads up to the closing quote, starting after the opening one. A backslash escapes the next byte; with
    /// `doubling` a quote escapes a quote.
    fn read(text: &'a [u8], doubling: bool) -> Option<Self> {
        let mut length = 0;
        let mut has_escapes = false;
        loop {
            let rest = text.get(length..)?;
            let clean = rest.iter().position(|byte| matches!(byte, b'"' | b'\\'))?;
            length += clean;
            match rest.get(clean..)? {
                [b'\\', _, ..] => {}
                [b'"', b'"', ..] if doubling => {}
                [b'"', rest @ ..] => return Some(Self { inside: text.get(..length)?, has_escapes, rest }),
                _ => return None,
            }
            has_escapes = true;
            length += 2;
        }
    }

    /// The unescaped item. Every backslash or quote in it starts an escaped pair.
    fn plain<'s>(&self, scratch: &'s mut Vec<u8>) -> &'s [u8]
    where
        'a: 's,
    {
        if !self.has_escapes {
            return self.inside;
        }
        scratch.clear();
        let mut rest = self.inside;
        while let Some(at) = rest.iter().position(|byte| matches!(byte, b'"' | b'\\')) {
            let (clean, pair) = rest.split_at(at);
            scratch.extend_from_slice(clean);
            scratch.extend(pair.get(1));
            rest = pair.get(2..).unwrap_or_default();
        }
        scratch.extend_from_slice(rest);
        scratch
    }
}
