//! JSON values: converts the text form of a PostgreSQL value to the bytes that `to_jsonb()` would print.
//!
//! Two exceptions: timestamptz is in UTC and ends in `Z`, bytea is base64. The connection forces the session
//! settings that determine the text forms: `client_encoding` UTF8, `DateStyle` ISO, `IntervalStyle` postgres,
//! `TimeZone` UTC, `extra_float_digits` 3, `bytea_output` hex; money as the database's `lc_monetary` prints
//! it. A text that another setting has produced is rejected if it would change the meaning.
//!
//! Invariants:
//! - the output is one valid JSON value in UTF-8 without a line break, for any input
//! - an error leaves the buffer unchanged and never quotes the value
//! - no scalar allocates; recursion and growth are bounded

mod document;
mod nested;
mod scalar;
mod string;

pub use string::{write_string, write_string_bytes};

use crate::types::Kind;

/// Largest nesting depth of arrays, composites and vectors. Quoting doubles with each level, so real values
/// stay below ten.
const MAX_NESTING: usize = 32;

/// Largest size of one value in bytes, as text and as JSON (checked after each element). The largest record
/// of a stream is 10 MiB. The rest is for hex and whitespace, and bounds composites that repeat their field
/// names.
pub const MAX_LENGTH: usize = 24 << 20;

/// Why a value cannot be written as JSON. Never contains the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// Bytes without a character, or in a `SQL_ASCII` database bytes that are not UTF-8.
    #[error("the value has bytes without a character in the database's encoding")]
    NotUtf8,
    /// The text does not match the type under the session settings.
    #[error("the value is not a valid {0}")]
    Malformed(&'static str),
    /// The row was written under another definition of the composite type.
    #[error("the composite value has {found} fields, but its type has {expected}")]
    FieldCount {
        /// Number of attributes in the catalogue.
        expected: usize,
        /// Number of fields in the value. Counting stops at the first excess field.
        found: usize,
    },
    /// The value exceeds the nesting limit.
    #[error("the value exceeds {0} levels of nesting")]
    TooDeep(usize),
    /// The value exceeds [`MAX_LENGTH`].
    #[error("the value exceeds {MAX_LENGTH} bytes")]
    TooLong,
}

/// Appends the JSON form of a value in PostgreSQL's text form. The value must not be NULL. On error `out` is
/// unchanged.
#[inline]
pub fn write_value(out: &mut Vec<u8>, kind: &Kind, text: &[u8]) -> Result<(), ValueError> {
    match kind {
        // The most frequent case. Nothing is written on error, and a byte needs at most six bytes when
        // escaped.
        Kind::Text if text.len() < MAX_LENGTH / 8 => write_string_bytes(out, text),
        Kind::Number if text.len() < MAX_LENGTH => scalar::number(out, text),
        Kind::TimestampTz if text.len() < MAX_LENGTH / 8 => scalar::timestamptz(out, text),
        _ => write_bounded(out, kind, text),
    }
}

fn write_bounded(out: &mut Vec<u8>, kind: &Kind, text: &[u8]) -> Result<(), ValueError> {
    let start = out.len();
    let written = if text.len() > MAX_LENGTH {
        Err(ValueError::TooLong)
    } else {
        let limit = start.saturating_add(MAX_LENGTH);
        Writer { out, limit }.value(kind, text, 0)
    };
    if written.is_err() {
        out.truncate(start);
    }
    written
}

/// The output and the length that it must not exceed.
struct Writer<'a> {
    out: &'a mut Vec<u8>,
    limit: usize,
}

impl Writer<'_> {
    /// Appends one value; `depth` counts the enclosing arrays and composites.
    fn value(&mut self, kind: &Kind, text: &[u8], depth: usize) -> Result<(), ValueError> {
        match kind {
            Kind::Text => write_string_bytes(self.out, text)?,
            Kind::Number => scalar::number(self.out, text)?,
            Kind::Bool => scalar::boolean(self.out, text)?,
            Kind::TimestampTz => scalar::timestamptz(self.out, text)?,
            Kind::Timestamp => scalar::timestamp(self.out, text)?,
            Kind::Date => scalar::date(self.out, text)?,
            Kind::Float => scalar::float(self.out, text)?,
            Kind::Bytea => scalar::bytea(self.out, text)?,
            Kind::Json => document::write(self.out, text)?,
            Kind::Hstore => self.hstore(text)?,
            Kind::Array { .. } | Kind::Vector { .. } | Kind::Composite { .. } => {
                if depth >= MAX_NESTING {
                    return Err(ValueError::TooDeep(MAX_NESTING));
                }
                match kind {
                    Kind::Array { element, delimiter } => self.array(element, *delimiter, text, depth + 1)?,
                    Kind::Vector { element } => self.vector(element, text, depth + 1)?,
                    Kind::Composite { fields } => self.composite(fields, text, depth + 1)?,
                    _ => {}
                }
            }
        }
        if self.out.len() > self.limit { Err(ValueError::TooLong) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests;
