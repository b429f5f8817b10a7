//! Snowflake: an external table over a stage. Its VARIANT holds numbers of up to 38 digits exactly.
//!
//! Names are in capitals and quotes, so that queries need no quotes.

use super::columns::ColumnType;
use super::place::ArchivePlace;
use super::sql::{Dialect, literal};

#[derive(Debug)]
pub(super) struct Snowflake;

impl Dialect for Snowflake {
    const NAME: &'static str = "Snowflake";

    fn lines(&self, place: ArchivePlace<'_>) -> String {
        format!(
            "-- Needs a stage over the bucket, which needs a storage integration of your account:\n\
             --   CREATE STAGE forebay_archive URL = {} STORAGE_INTEGRATION = …;\n\
             CREATE OR REPLACE EXTERNAL TABLE \"FOREBAY_LINES\" (\n  \
             \"DAY\" DATE AS (TO_DATE(SPLIT_PART(SPLIT_PART(METADATA$FILENAME, 'day=', 2), '/', 1)))\n)\n\
             PARTITION BY (\"DAY\")\nLOCATION = @forebay_archive/events/\nFILE_FORMAT = (TYPE = JSON);\n",
            literal(&format!("{}/", place.location)),
        )
    }

    fn name(&self, name: &str) -> String {
        format!("\"{}\"", name.to_uppercase().replace('"', "\"\""))
    }

    fn attribute(&self, name: &str) -> String {
        format!("value['{name}']::VARCHAR")
    }

    fn whole(&self) -> &'static str {
        "value"
    }

    fn field(&self, field: &str, _: bool) -> String {
        format!("{}::VARCHAR", item(field))
    }

    fn json(&self, field: &str) -> String {
        let item = item(field);
        format!("IFF(IS_NULL_VALUE({item}), NULL, {item})")
    }

    fn convert(&self, text: &str, to: ColumnType) -> Option<String> {
        Some(match to {
            ColumnType::Boolean => format!("TRY_CAST({text} AS BOOLEAN)"),
            ColumnType::SmallInt | ColumnType::Integer | ColumnType::BigInt => {
                format!("TRY_CAST({text} AS BIGINT)")
            }
            ColumnType::Decimal(precision, scale) => {
                format!("TRY_CAST({text} AS NUMBER({precision},{scale}))")
            }
            ColumnType::Double => format!("TRY_CAST({text} AS DOUBLE)"),
            ColumnType::Date => format!("TRY_CAST({text} AS DATE)"),
            ColumnType::Timestamp => format!("TRY_CAST({text} AS TIMESTAMP_NTZ)"),
            ColumnType::TimestampTz => format!("TRY_CAST({text} AS TIMESTAMP_TZ)"),
            ColumnType::Time => format!("TRY_CAST({text} AS TIME)"),
            ColumnType::Bytes => format!("TRY_BASE64_DECODE_BINARY({text})"),
            ColumnType::Text | ColumnType::Json => return None,
        })
    }

    fn list(&self, texts: &[String]) -> String {
        format!("NULLIF(ARRAY_TO_STRING(ARRAY_CONSTRUCT_COMPACT({}), ','), '')", texts.join(", "))
    }

    fn newest(&self, value: &str, by: &str) -> String {
        format!("MAX_BY({value}, {by})")
    }

    fn contains(&self, text: &str, part: &str) -> String {
        format!("CONTAINS({text}, {part})")
    }
}

/// A field of `data`. A backslash begins an escape in Snowflake's literals.
fn item(field: &str) -> String {
    format!("\"LINE\"['data'][{}]", literal(&field.replace('\\', "\\\\")))
}
