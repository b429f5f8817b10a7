//! The type of a column: how its values are written as JSON ([`Kind`]), and which operations expressions have
//! on them ([`SqlType`]).
//!
//! PostgreSQL's `to_jsonb()` divides all types into a few kinds, which [`Kind`] names. The catalogue
//! (`source::postgres::catalog`) determines the kind of a type; `json` writes the values.

mod sql;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use sql::{Base, Enumeration, Named, SqlType, TypePart, TypeParts};

/// How the text form of a value is written as JSON. Stored in dead letters and in `events.lock/` in its serde
/// form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// `t` or `f` is written as `true` or `false`.
    Bool,
    /// int2, int4, int8, numeric: digits are unchanged; NaN and infinities are strings.
    Number,
    /// float4, float8: written without an exponent, like jsonb's numeric.
    Float,
    /// date: ISO 8601; `infinity` and ` BC` as PostgreSQL writes them.
    Date,
    /// timestamp without time zone: ISO 8601 with `T` and without a zone.
    Timestamp,
    /// timestamp with time zone: ISO 8601 with `T`, in UTC with `Z` (an exception to `to_jsonb()`).
    #[serde(rename = "timestamptz")]
    TimestampTz,
    /// bytea: base64 (an exception to `to_jsonb()`).
    Bytea,
    /// json, jsonb: embedded unchanged, without whitespace between tokens.
    Json,
    /// hstore: an object of strings, as the extension's cast to json.
    Hstore,
    /// All other and unknown types: a string of the text form.
    Text,
    /// An array, written with this delimiter (`,`, or `;` for box).
    Array {
        /// Kind of the elements.
        element: Arc<Kind>,
        /// The type's `typdelim`.
        delimiter: u8,
    },
    /// int2vector, oidvector: blank-separated elements, a JSON array.
    Vector {
        /// Kind of the elements.
        element: Arc<Kind>,
    },
    /// A composite type: a JSON object.
    Composite {
        /// Names and kinds of the attributes in order, without dropped ones.
        fields: Arc<[(String, Kind)]>,
    },
}
