//! The type of a column: how its values become JSON ([`Kind`]), and what expressions may do with them ([`SqlType`]).
//!
//! PostgreSQL's `to_jsonb()` sorts all types into a few kinds; [`Kind`] names them. Which kind a type is comes from the
//! catalogue (`source::postgres::catalog`), how a kind is written from `translate::json`.

mod sql;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use sql::{Base, Enumeration, Named, SqlType};

/// How the text form of a value becomes JSON. Its serde form is kept in dead letters and in `events.lock/`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// `t` or `f` becomes `true` or `false`.
    Bool,
    /// int2, int4, int8, numeric: digits are kept as they are; NaN and infinities become strings.
    Number,
    /// float4, float8: an exponent is written out, as jsonb's numeric does.
    Float,
    /// date: ISO 8601, `infinity` and ` BC` as Postgres prints them.
    Date,
    /// timestamp without time zone: ISO 8601 with `T`, no zone invented.
    Timestamp,
    /// timestamp with time zone: ISO 8601 with `T`, in UTC with `Z` (an exception to `to_jsonb()`).
    #[serde(rename = "timestamptz")]
    TimestampTz,
    /// bytea: base64 (an exception to `to_jsonb()`).
    Bytea,
    /// json, jsonb: embedded as it is, without the white space between tokens.
    Json,
    /// hstore, the extension's type: an object of strings, by the cast to json that it brings.
    Hstore,
    /// Everything else, and every type we do not know: a string of the text form.
    Text,
    /// An array; its text form uses this delimiter (`,`, for box `;`).
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
        /// Names and kinds of the attributes in order, dropped ones left out.
        fields: Arc<[(String, Kind)]>,
    },
}
