//! DuckDB, over a copy of the archive, or over S3 with its extension `httpfs`.
//!
//! Its JSON functions read numbers as doubles. For fields in which a double may not hold all digits, the
//! numbers of the line are first put into quotes, by a regular expression that distinguishes strings from
//! numbers.

use super::columns::ColumnType;
use super::place::ArchivePlace;
use super::sql::{Dialect, literal};

#[derive(Debug)]
pub(super) struct Duckdb;

/// Each match is the strings and other characters before a number, and then the number. The last match ends
/// at the end of the line and leaves two quotes behind it.
const NUMBERS: &str = r#"((?:"(?:[^"\\]|\\.)*"|[^"0-9-])*)(-?[0-9][0-9.eE+-]*|$)"#;

impl Dialect for Duckdb {
    const NAME: &'static str = "DuckDB";

    fn lines(&self, place: ArchivePlace<'_>) -> String {
        format!(
            "CREATE OR REPLACE VIEW \"forebay_lines\" AS\nSELECT json AS line, day\nFROM read_ndjson_objects({}, \
             hive_partitioning = true, hive_types = {{'day': DATE}}, maximum_object_size = 20000000);\n\n\
             -- The line with its numbers as texts: JSON functions read numbers as doubles, and would lose digits.\n\
             CREATE OR REPLACE MACRO forebay_digits(line) AS\n  regexp_replace(line, {}, {}, 'g')[:-3]::JSON;\n",
            literal(&format!("{}/events/*/*", place.location)),
            literal(NUMBERS),
            literal(r#"\1"\2""#),
        )
    }

    fn name(&self, name: &str) -> String {
        format!("\"{}\"", name.replace('"', "\"\""))
    }

    fn attribute(&self, name: &str) -> String {
        format!("line->>'$.{name}'")
    }

    fn whole(&self) -> &'static str {
        "line"
    }

    fn field(&self, field: &str, digits: bool) -> String {
        let line = if digits { "forebay_digits(line)" } else { "line" };
        format!("({line}->>{})", path(field))
    }

    fn json(&self, field: &str) -> String {
        format!("nullif(line->{}, 'null'::JSON)", path(field))
    }

    fn convert(&self, text: &str, to: ColumnType) -> Option<String> {
        let name = match to {
            ColumnType::Boolean => "BOOLEAN",
            ColumnType::SmallInt => "SMALLINT",
            ColumnType::Integer => "INTEGER",
            ColumnType::BigInt => "BIGINT",
            ColumnType::Decimal(precision, scale) => {
                return Some(format!("try_cast({text} AS DECIMAL({precision},{scale}))"));
            }
            ColumnType::Double => "DOUBLE",
            ColumnType::Date => "DATE",
            ColumnType::Timestamp => "TIMESTAMP",
            ColumnType::TimestampTz => "TIMESTAMPTZ",
            ColumnType::Time => "TIME",
            ColumnType::Bytes => return Some(format!("try(from_base64({text}))")),
            ColumnType::Text | ColumnType::Json => return None,
        };
        Some(format!("try_cast({text} AS {name})"))
    }

    fn list(&self, texts: &[String]) -> String {
        format!("nullif(concat_ws(',', {}), '')", texts.join(", "))
    }

    fn newest(&self, value: &str, by: &str) -> String {
        format!("arg_max_null({value}, {by})")
    }

    fn contains(&self, text: &str, part: &str) -> String {
        format!("contains({text}, {part})")
    }
}

/// The path of a field of `data`.
fn path(field: &str) -> String {
    literal(&format!("$.data.\"{}\"", field.replace('\\', "\\\\").replace('"', "\\\"")))
}
