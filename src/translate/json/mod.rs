//! Values as JSON: the text form of a PostgreSQL value becomes the bytes that `to_jsonb()` would print for it.
//!
//! Two exceptions: timestamptz is in UTC and ends in `Z`, bytea is base64. The text forms are those of these session
//! settings, which the connection forces: `client_encoding` UTF8, `DateStyle` ISO, `IntervalStyle` postgres, `TimeZone`
//! UTC, `extra_float_digits` 3, `bytea_output` hex, `lc_monetary` C. Where another setting would silently change the
//! meaning of a value, its text is refused.
//!
//! Invariants: what is written is one valid JSON value in UTF-8 without a line break, whatever the input; an error
//! leaves the buffer as it was and never quotes the value; no scalar allocates; recursion and growth are bounded.

mod document;
mod nested;
mod scalar;
mod string;

pub use string::{write_string, write_string_bytes};

use crate::types::Kind;

/// Arrays, composites and vectors inside each other. Quoting doubles with each level, so real values stay below ten.
const MAX_NESTING: usize = 32;

/// Bytes that one value may take, as text and as JSON (which is checked from element to element). A stream's largest
/// record is 10 MiB; this leaves room for hex and white space, and stops composites that multiply their field names.
pub const MAX_LENGTH: usize = 24 << 20;

/// Why a value has no JSON form. Never contains the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// The database's encoding is not UTF-8, or the bytes are damaged.
    #[error("the value is not valid UTF-8")]
    NotUtf8,
    /// The text is not what Postgres prints for this kind of type under our session settings.
    #[error("the value is not the text form of a {0}")]
    Malformed(&'static str),
    /// The row was written under another definition of its composite type.
    #[error("the composite value has {found} fields, its type has {expected}")]
    FieldCount {
        /// Attributes of the type, as the catalogue tells.
        expected: usize,
        /// Fields of the value; counting stops at the first one too many.
        found: usize,
    },
    /// Deeper than any reader would follow.
    #[error("the value is nested deeper than {0} levels")]
    TooDeep(usize),
    /// Longer than [`MAX_LENGTH`].
    #[error("the value is longer than {MAX_LENGTH} bytes")]
    TooLong,
}

/// Appends the JSON form of a value that is not NULL, given in Postgres's text form. On error `out` is as it was.
#[inline]
pub fn write_value(out: &mut Vec<u8>, kind: &Kind, text: &[u8]) -> Result<(), ValueError> {
    match kind {
        // Nearly all values: nothing is written on error, and no escape makes more than six bytes of one.
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

/// Where a value goes, and the length of `out` that it must not exceed.
struct Writer<'a> {
    out: &'a mut Vec<u8>,
    limit: usize,
}

impl Writer<'_> {
    /// Appends one value; `depth` counts the arrays and composites around it.
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
