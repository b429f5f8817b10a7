//! Events of urn:forebay:lab. Made by `forebay events codegen`: do not edit.
//!
//! Needs serde with `derive`, and serde_json with `raw_value`.

use serde::Deserialize;
use serde_json::value::RawValue;

/// A number with all its digits, or `NaN`, `Infinity`, `-Infinity`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(from = "Box<RawValue>")]
pub struct Numeric(pub String);

impl From<Box<RawValue>> for Numeric {
    fn from(value: Box<RawValue>) -> Self {
        Self(value.get().trim_matches('"').to_owned())
    }
}

/// The envelope with its data. Choose the type of `data` by `event_type`, and ignore types that you do not know.
#[derive(Clone, Debug, Deserialize)]
pub struct Event<Data> {
    pub specversion: String,
    pub id: String,
    pub source: String,
    #[serde(rename = "type")] pub event_type: String,
    pub dataschema: Option<String>,
    pub deprecated: Option<bool>,
    pub deprecationfrom: Option<String>,
    pub deprecationsunset: Option<String>,
    pub subject: String,
    pub time: String,
    pub recordedtime: String,
    pub partitionkey: String,
    pub sequence: String,
    pub unavailable: Option<String>,
    pub correlationid: Option<String>,
    pub traceparent: Option<String>,
    pub user: Option<String>,
    pub origin: Option<String>,
    pub data: Data,
}

/// A row was deleted: lab.odd.
#[derive(Clone, Debug, Deserialize)]
pub struct LabOddDeletedV1 {
    /// id
    #[serde(rename = "id")]
    pub id: i64,
}

impl LabOddDeletedV1 {
    pub const TYPE: &'static str = "lab.odd.deleted.v1";
}

/// A row was inserted: lab.odd.
#[derive(Clone, Debug, Deserialize)]
pub struct LabOddInsertedV1 {
    /// id
    #[serde(rename = "id")]
    pub id: i64,
    /// type
    #[serde(rename = "type")]
    pub type_: Option<String>,
    /// Größe
    #[serde(rename = "Größe")]
    pub gr_e: Option<String>,
    /// we"ird\
    #[serde(rename = "we\"ird\\")]
    pub we_ird: Option<String>,
    /// microlitres */ "left" \u0041
    #[serde(rename = "amount")]
    pub amount: Option<Numeric>,
    /// ratio
    #[serde(rename = "ratio")]
    pub ratio: Option<Numeric>,
    /// flag
    #[serde(rename = "flag")]
    pub flag: bool,
    /// doc
    #[serde(rename = "doc")]
    pub doc: Option<serde_json::Value>,
    /// list
    #[serde(rename = "list")]
    pub list: Option<serde_json::Value>,
    /// small
    #[serde(rename = "small")]
    pub small: Option<i32>,
    /// toString
    #[serde(rename = "toString")]
    pub to_string_: Option<String>,
    /// at
    #[serde(rename = "at")]
    pub at: Option<String>,
}

impl LabOddInsertedV1 {
    pub const TYPE: &'static str = "lab.odd.inserted.v1";
}

/// All rows were removed by TRUNCATE: lab.odd.
#[derive(Clone, Debug, Deserialize)]
pub struct LabOddTruncatedV1 {
    /// whether TRUNCATE said CASCADE
    #[serde(rename = "cascade")]
    pub cascade: bool,
    /// whether TRUNCATE said RESTART IDENTITY
    #[serde(rename = "restart_identity")]
    pub restart_identity: bool,
}

impl LabOddTruncatedV1 {
    pub const TYPE: &'static str = "lab.odd.truncated.v1";
}

/// A row was updated: lab.odd.
#[derive(Clone, Debug, Deserialize)]
pub struct LabOddUpdatedV1 {
    /// id
    #[serde(rename = "id")]
    pub id: i64,
    /// type
    #[serde(rename = "type")]
    pub type_: Option<String>,
    /// Größe
    #[serde(rename = "Größe")]
    pub gr_e: Option<String>,
    /// we"ird\
    #[serde(rename = "we\"ird\\")]
    pub we_ird: Option<String>,
    /// microlitres */ "left" \u0041
    #[serde(rename = "amount")]
    pub amount: Option<Numeric>,
    /// ratio
    #[serde(rename = "ratio")]
    pub ratio: Option<Numeric>,
    /// flag
    #[serde(rename = "flag")]
    pub flag: bool,
    /// doc
    #[serde(rename = "doc")]
    pub doc: Option<serde_json::Value>,
    /// list
    #[serde(rename = "list")]
    pub list: Option<serde_json::Value>,
    /// small
    #[serde(rename = "small")]
    pub small: Option<i32>,
    /// toString
    #[serde(rename = "toString")]
    pub to_string_: Option<String>,
    /// at
    #[serde(rename = "at")]
    pub at: Option<String>,
}

impl LabOddUpdatedV1 {
    pub const TYPE: &'static str = "lab.odd.updated.v1";
}
