//! The column type of a field, derived from its JSON Schema.

use serde_json::Value;

use crate::contracts::shape;

/// A column's type. Each engine has its own name for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::contracts) enum ColumnType {
    Boolean,
    SmallInt,
    Integer,
    BigInt,
    /// Precision (at most [`DIGITS`]) and scale.
    Decimal(u8, u8),
    Double,
    Date,
    /// Without a time zone.
    Timestamp,
    /// In UTC.
    TimestampTz,
    Time,
    /// Text in base64.
    Bytes,
    Text,
    /// Objects, arrays, and values of several types.
    Json,
}

/// The most digits of a decimal that all engines have.
pub(super) const DIGITS: u8 = 38;

/// Digits after the decimal point if the contract has no scale.
const SCALE: u8 = 9;

impl ColumnType {
    /// The type for the values of a schema, which this crate or an application wrote.
    pub(super) fn of(schema: &Value) -> Self {
        let says = |member: &str| schema.get(member).and_then(Value::as_str);
        match says("x-format").or_else(|| says("format")) {
            Some("decimal") => return decimal(says("x-type").unwrap_or_default()),
            Some("double") => return Self::Double,
            Some("date") => return Self::Date,
            Some("local-date-time") => return Self::Timestamp,
            Some("date-time") => return Self::TimestampTz,
            Some("time") => return Self::Time,
            Some("int16") => return Self::SmallInt,
            Some("int32") => return Self::Integer,
            _ => {}
        }
        let types = schema.as_object().map(shape::types).unwrap_or_default();
        match types.into_iter().filter(|one| *one != "null").collect::<Vec<_>>()[..] {
            ["boolean"] => Self::Boolean,
            ["integer"] => Self::BigInt,
            ["number"] => Self::Decimal(DIGITS, SCALE),
            ["string"] if says("contentEncoding") == Some("base64") => Self::Bytes,
            ["string"] => Self::Text,
            _ => Self::Json,
        }
    }

    /// Whether a double may not hold all digits.
    pub(super) const fn needs_digits(self) -> bool {
        matches!(self, Self::Decimal(precision, _) if precision > 15)
    }
}

/// The type for `numeric(12,3)`, or for `numeric` without a modifier.
fn decimal(sql_type: &str) -> ColumnType {
    let parts = sql_type.strip_prefix("numeric(").and_then(|rest| rest.strip_suffix(')')?.split_once(','));
    let numbers = parts
        .and_then(|(precision, scale)| Some((precision.parse::<i32>().ok()?, scale.parse::<i32>().ok()?)));
    let Some((precision, scale)) = numbers else { return ColumnType::Decimal(DIGITS, SCALE) };
    // PostgreSQL's scale can be negative, or more than the precision.
    let whole = (precision - scale).max(0);
    let scale = scale.clamp(0, i32::from(DIGITS));
    let precision = (whole + scale).clamp(1, i32::from(DIGITS));
    ColumnType::Decimal(
        u8::try_from(precision).unwrap_or(DIGITS),
        u8::try_from(scale.min(precision)).unwrap_or(SCALE),
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn schema_gives_column_type() {
        let decimal =
            |sql: &str| json!({"type": ["number", "string", "null"], "x-format": "decimal", "x-type": sql});
        for (schema, expected) in [
            (json!({"type": ["boolean", "null"]}), ColumnType::Boolean),
            (json!({"type": "integer", "format": "int16"}), ColumnType::SmallInt),
            (json!({"type": "integer", "format": "int64"}), ColumnType::BigInt),
            (json!({"type": "integer", "minimum": 1}), ColumnType::BigInt),
            (decimal("numeric(12,3)"), ColumnType::Decimal(12, 3)),
            (decimal("numeric(3,-2)"), ColumnType::Decimal(5, 0)),
            (decimal("numeric(2,4)"), ColumnType::Decimal(4, 4)),
            (decimal("numeric(1000,2)"), ColumnType::Decimal(38, 2)),
            (decimal("numeric"), ColumnType::Decimal(38, 9)),
            (decimal("numeric or bigint"), ColumnType::Decimal(38, 9)),
            (json!({"type": "number", "minimum": 0}), ColumnType::Decimal(38, 9)),
            (json!({"type": ["number", "string"], "x-format": "double"}), ColumnType::Double),
            (json!({"type": "string", "x-format": "date-time"}), ColumnType::TimestampTz),
            (json!({"type": "string", "format": "date-time"}), ColumnType::TimestampTz),
            (json!({"type": "string", "contentEncoding": "base64"}), ColumnType::Bytes),
            (json!({"type": "string", "x-known-values": ["a"]}), ColumnType::Text),
            (json!({"type": "string", "format": "uuid"}), ColumnType::Text),
            (json!({"type": "array", "items": {}}), ColumnType::Json),
            (json!({"type": ["string", "integer"]}), ColumnType::Json),
            (json!({"anyOf": [{"type": "string"}, {"type": "null"}]}), ColumnType::Json),
            (json!({}), ColumnType::Json),
            (json!(true), ColumnType::Json),
        ] {
            assert_eq!(ColumnType::of(&schema), expected, "{schema}");
        }
    }
}
