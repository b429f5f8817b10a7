//! Evaluation errors before their position is known.

/// `SQLSTATE` and PostgreSQL's message, without the value. One pointer, so that a `Result` is not larger than
/// its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fault(pub(super) &'static (&'static str, &'static str));

impl Fault {
    pub(super) const fn sqlstate(self) -> &'static str {
        self.0.0
    }

    pub(super) const fn message(self) -> &'static str {
        self.0.1
    }
}

/// A value or a fault.
pub(super) type Computed<T> = Result<T, Fault>;

pub(super) const DIVISION_BY_ZERO: Fault = Fault(&("22012", "division by zero"));
pub(super) const SMALLINT_RANGE: Fault = Fault(&("22003", "smallint out of range"));
pub(super) const INTEGER_RANGE: Fault = Fault(&("22003", "integer out of range"));
pub(super) const BIGINT_RANGE: Fault = Fault(&("22003", "bigint out of range"));
pub(super) const NUMERIC_FORMAT: Fault = Fault(&("22003", "value overflows numeric format"));
pub(super) const NUMERIC_FIELD: Fault = Fault(&("22003", "numeric field overflow"));
pub(super) const FLOAT_OVERFLOW: Fault = Fault(&("22003", "value out of range: overflow"));
pub(super) const FLOAT_UNDERFLOW: Fault = Fault(&("22003", "value out of range: underflow"));
pub(super) const FLOAT_RANGE: Fault =
    Fault(&("22003", "the value is out of range for its floating-point type"));
pub(super) const NOT_FINITE: Fault = Fault(&("0A000", "cannot convert NaN or infinity to an integer"));
pub(super) const TIMESTAMP_RANGE: Fault = Fault(&("22008", "timestamp out of range"));
pub(super) const DATE_RANGE: Fault = Fault(&("22008", "date out of range"));
pub(super) const INTERVAL_RANGE: Fault = Fault(&("22008", "interval out of range"));
pub(super) const INFINITE_DIFFERENCE: Fault = Fault(&("22008", "cannot subtract infinite timestamps"));
pub(super) const INFINITE_DATES: Fault = Fault(&("22008", "cannot subtract infinite dates"));
pub(super) const FIELD_RANGE: Fault = Fault(&("22008", "date/time field value out of range"));
pub(super) const DATETIME_SYNTAX: Fault = Fault(&("22007", "the text is not an ISO 8601 date or time"));
pub(super) const TEXT_SYNTAX: Fault = Fault(&("22P02", "invalid input syntax for the type"));
pub(super) const ENUM_LABEL: Fault = Fault(&("22P02", "invalid input value for the enum"));
pub(super) const JSON_SYNTAX: Fault = Fault(&("22P02", "invalid input syntax for type json"));
pub(super) const JSON_CAST: Fault = Fault(&("22023", "cannot cast this jsonb value to the type"));
pub(super) const NEGATIVE_LENGTH: Fault = Fault(&("22011", "negative substring length not allowed"));
pub(super) const FIELD_POSITION: Fault = Fault(&("22023", "field position must not be zero"));
pub(super) const PATTERN_END: Fault = Fault(&("22025", "LIKE pattern must not end with escape character"));
pub(super) const BAD_ENCODING: Fault = Fault(&("22023", "the text is not valid in this encoding"));
pub(super) const TOO_MUCH: Fault = Fault(&("54000", "the expression exceeds the limit of work or memory"));
pub(super) const CELL: Fault = Fault(&("XX000", "the column's value is not valid for its type"));
pub(super) const NOT_TEXT: Fault =
    Fault(&("22021", "the column's value has bytes without a character in the database's encoding"));
pub(super) const NO_KEY: Fault = Fault(&("55000", "hmac() has no key"));
