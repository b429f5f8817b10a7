//! Athena, engine version 3 (Trino). Its JSON functions give the digits of a number as they are written.
//!
//! A line is one column of text: a JSON control character is always escaped, so the delimiter `\001` is in no
//! line. Hive's tables know neither a time of day nor a time zone, and its timestamps have milliseconds: a
//! timestamp is in UTC, a time is text, JSON is text.

use super::columns::ColumnType;
use super::place::ArchivePlace;
use super::sql::{Dialect, literal};

#[derive(Debug)]
pub(super) struct Athena;

/// The properties of the table of lines. Athena computes the partitions (partition projection), so none has
/// to be added.
pub(super) fn properties(place: ArchivePlace<'_>) -> [(&'static str, String); 5] {
    [
        ("projection.enabled", "true".to_owned()),
        ("projection.day.type", "date".to_owned()),
        ("projection.day.format", "yyyy-MM-dd".to_owned()),
        ("projection.day.range", format!("{},NOW", place.since)),
        ("storage.location.template", format!("{}/events/day=${{day}}/", place.location)),
    ]
}

impl Dialect for Athena {
    const NAME: &'static str = "Athena";

    fn lines(&self, place: ArchivePlace<'_>) -> String {
        let properties: Vec<String> = properties(place)
            .iter()
            .map(|(name, value)| format!("  {} = {}", literal(name), literal(value)))
            .collect();
        format!(
            "CREATE EXTERNAL TABLE IF NOT EXISTS `forebay_lines` (`line` string)\nPARTITIONED BY (`day` string)\n\
             ROW FORMAT DELIMITED FIELDS TERMINATED BY '\\001'\nLOCATION {}\nTBLPROPERTIES (\n{}\n);\n",
            literal(&format!("{}/events/", place.location)),
            properties.join(",\n"),
        )
    }

    fn name(&self, name: &str) -> String {
        format!("\"{}\"", name.replace('"', "\"\""))
    }

    fn attribute(&self, name: &str) -> String {
        format!("json_extract_scalar(\"line\", '$.{name}')")
    }

    fn whole(&self) -> &'static str {
        "\"line\""
    }

    fn field(&self, field: &str, _: bool) -> String {
        format!("json_extract_scalar(\"line\", {})", path(field))
    }

    fn json(&self, field: &str) -> String {
        format!("nullif(json_format(json_extract(\"line\", {})), 'null')", path(field))
    }

    fn convert(&self, text: &str, to: ColumnType) -> Option<String> {
        match to {
            ColumnType::Timestamp | ColumnType::TimestampTz => {
                Some(format!("TRY_CAST(replace(replace({text}, 'T', ' '), 'Z', '') AS TIMESTAMP)"))
            }
            ColumnType::Bytes => Some(format!("TRY(from_base64({text}))")),
            ColumnType::Text | ColumnType::Json | ColumnType::Time => None,
            _ => Some(format!("TRY_CAST({text} AS {})", presto(to).to_uppercase())),
        }
    }

    fn list(&self, texts: &[String]) -> String {
        format!("nullif(concat_ws(',', {}), '')", texts.join(", "))
    }

    fn newest(&self, value: &str, by: &str) -> String {
        format!("max_by({value}, {by})")
    }

    fn contains(&self, text: &str, part: &str) -> String {
        format!("strpos({text}, {part}) > 0")
    }
}

/// The path of a field of `data`.
fn path(field: &str) -> String {
    literal(&format!("$[\"data\"][\"{}\"]", field.replace('\\', "\\\\").replace('"', "\\\"")))
}

/// Trino's name of a column type, as the definition of a view has it.
pub(super) fn presto(column_type: ColumnType) -> String {
    match column_type {
        ColumnType::Boolean => "boolean",
        ColumnType::SmallInt => "smallint",
        ColumnType::Integer => "integer",
        ColumnType::BigInt => "bigint",
        ColumnType::Decimal(precision, scale) => return format!("decimal({precision},{scale})"),
        ColumnType::Double => "double",
        ColumnType::Date => "date",
        ColumnType::Timestamp | ColumnType::TimestampTz => "timestamp",
        ColumnType::Bytes => "varbinary",
        ColumnType::Time | ColumnType::Text | ColumnType::Json => "varchar",
    }
    .to_owned()
}

/// Hive's name of a column type, as the Glue catalogue has it.
pub(super) fn hive(column_type: ColumnType) -> String {
    match column_type {
        ColumnType::Integer => "int".to_owned(),
        ColumnType::Bytes => "binary".to_owned(),
        ColumnType::Time | ColumnType::Text | ColumnType::Json => "string".to_owned(),
        other => presto(other),
    }
}
