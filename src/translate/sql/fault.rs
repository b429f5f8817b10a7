//! Why a value could not be computed, before it is known where in the text.

/// `SQLSTATE` and Postgres' words, without the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) sqlstate: &'static str,
    pub(super) message: &'static str,
}

/// A value, or why there is none.
pub(super) type Computed<T> = Result<T, Fault>;

const fn fault(sqlstate: &'static str, message: &'static str) -> Fault {
    Fault { sqlstate, message }
}

pub(super) const DIVISION_BY_ZERO: Fault = fault("22012", "division by zero");
pub(super) const SMALLINT_RANGE: Fault = fault("22003", "smallint out of range");
pub(super) const INTEGER_RANGE: Fault = fault("22003", "integer out of range");
pub(super) const BIGINT_RANGE: Fault = fault("22003", "bigint out of range");
pub(super) const NUMERIC_FORMAT: Fault = fault("22003", "value overflows numeric format");
pub(super) const NUMERIC_FIELD: Fault = fault("22003", "numeric field overflow");
pub(super) const FLOAT_OVERFLOW: Fault = fault("22003", "value out of range: overflow");
pub(super) const FLOAT_UNDERFLOW: Fault = fault("22003", "value out of range: underflow");
pub(super) const FLOAT_RANGE: Fault = fault("22003", "the value is out of range for its floating-point type");
pub(super) const NOT_FINITE: Fault = fault("0A000", "cannot convert NaN or infinity to an integer");
pub(super) const TIMESTAMP_RANGE: Fault = fault("22008", "timestamp out of range");
pub(super) const DATE_RANGE: Fault = fault("22008", "date out of range");
pub(super) const INTERVAL_RANGE: Fault = fault("22008", "interval out of range");
pub(super) const INFINITE_DIFFERENCE: Fault = fault("22008", "cannot subtract infinite timestamps");
pub(super) const INFINITE_DATES: Fault = fault("22008", "cannot subtract infinite dates");
pub(super) const FIELD_RANGE: Fault = fault("22008", "date/time field value out of range");
pub(super) const DATETIME_SYNTAX: Fault = fault("22007", "the text is not a date or time in ISO 8601");
pub(super) const TEXT_SYNTAX: Fault = fault("22P02", "invalid input syntax for the type");
pub(super) const ENUM_LABEL: Fault = fault("22P02", "invalid input value for the enum");
pub(super) const JSON_SYNTAX: Fault = fault("22P02", "invalid input syntax for type json");
pub(super) const JSON_CAST: Fault = fault("22023", "cannot cast this jsonb value to the type");
pub(super) const NEGATIVE_LENGTH: Fault = fault("22011", "negative substring length not allowed");
pub(super) const FIELD_POSITION: Fault = fault("22023", "field position must not be zero");
pub(super) const PATTERN_END: Fault = fault("22025", "LIKE pattern must not end with escape character");
pub(super) const BAD_ENCODING: Fault = fault("22023", "the text is not in this encoding");
pub(super) const TOO_MUCH: Fault = fault("54000", "the expression would take too much work or memory");
pub(super) const CELL: Fault = fault("XX000", "the column's value is not the text form of its type");
pub(super) const NO_KEY: Fault = fault("55000", "hmac() has no key");
